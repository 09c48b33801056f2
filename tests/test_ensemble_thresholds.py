"""Thresholds of ensembles over layers of every kind: what is asked for is what is rejected."""

import numpy as np
import pytest
from sklearn.base import BaseEstimator, OutlierMixin
from sklearn.pipeline import make_pipeline

from skood import Activations, HammingNAPDetector, PercentileBinarizer
from skood.detectors import KNNDetector, MahalanobisDetector, SHEDetector
from skood.ensemble import LayerEnsembleDetector
from skood.ensemble._calibrations import Calibration, RankCalibration

N_FIT, N_NEW, TARGET, SEEDS = 600, 1000, 0.05, range(4)
STANDARD_ERROR = np.sqrt(TARGET * (1 - TARGET) * (1 / N_FIT + 1 / N_NEW) / len(SEEDS))


def layers_of(kind, label, noise, rng, far):
    """What the layers of a small network do: two that see everything, and what ``kind`` adds."""
    prototypes = np.random.default_rng(7).normal(size=(5, 30))
    inputs = prototypes[label] + noise * rng.normal(size=(len(label), 30))
    if far:
        inputs = 2 * rng.normal(size=inputs.shape)
    weights = np.random.default_rng(8)
    layers = {f"layer {i}": np.maximum(inputs @ weights.normal(size=(30, 24)), 0) for i in "ab"}
    n = len(label)
    more = {
        "plain": {},
        "dead": {f"dead {i}": np.zeros((n, 8)) for i in range(4)},
        "constant": {f"constant {i}": np.tile(np.arange(8.0), (n, 1)) for i in range(4)},
        "one unit": {f"unit {i}": np.maximum(inputs[:, [i]], 0) for i in range(4)},
        "sure of the class": {f"sure {i}": np.eye(5)[label] for i in range(4)},
    }
    return {**layers, **more[kind]}


def activations(kind, classes, n, rng, *, far=False):
    shares = {"balanced": np.ones(5), "unbalanced": [40, 5, 3, 1, 1], "one class": [1, 0, 0, 0, 0]}
    share = np.asarray(shares[classes], dtype=float)
    label = rng.choice(5, n, p=share / share.sum())
    layers = layers_of(kind, label, 0.4, rng, far)
    return Activations(layers, predictions=label, classes=np.arange(5))


def ensemble(combine, member):
    nap = [
        make_pipeline(PercentileBinarizer(percentile=p), HammingNAPDetector(break_ties=ties))
        for p, ties in ((30, True), (60, False))
    ]
    members = {
        "NAP": nap[0],
        "NAP, percentiles": LayerEnsembleDetector(nap, combine="mean"),
        "KNN": KNNDetector(n_neighbors=3, normalize=False),
    }
    return LayerEnsembleDetector(members[member], combine=combine, false_alarm_rate=TARGET)


KINDS = ["plain", "dead", "constant", "one unit", "sure of the class"]
MEMBERS_AND_RULES = [
    *(("NAP", combine) for combine in ("fisher", "mean", "weighted", "vote")),
    ("NAP, percentiles", "mean"),
    ("KNN", "mean"),
]


@pytest.mark.parametrize("classes", ["balanced", "unbalanced", "one class"])
@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize(("member", "combine"), MEMBERS_AND_RULES)
@pytest.mark.filterwarnings("ignore:.*constant")
def test_new_rows_are_rejected_at_the_target_and_far_ones_are_found(member, combine, kind, classes):
    rejected, found = [], []
    for seed in SEEDS:
        rng = np.random.default_rng(seed)
        fit, new = (activations(kind, classes, n, rng) for n in (N_FIT, N_NEW))
        strange, far = (activations(kind, classes, 200, rng, far=True) for _ in range(2))
        y = np.r_[fit.predictions, np.full(200, -1)] if combine == "weighted" else None
        X = Activations.concatenate([fit, strange]) if combine == "weighted" else fit
        detector = ensemble(combine, member).fit(X, y)
        rejected.append((detector.predict(new) == -1).mean())
        found.append((detector.predict(far) == -1).mean())
    assert np.mean(rejected) == pytest.approx(TARGET, abs=2 * STANDARD_ERROR)
    if (combine, kind) != ("vote", "one unit"):  # where most members see one input of thirty
        assert np.mean(found) > 0.9


class Plain(OutlierMixin, BaseEstimator):
    """A detector whose scores are a column of its input, and told as left out."""

    def __init__(self, column=0):
        self.column = column

    def fit(self, X, y=None):
        self.training_scores_ = np.asarray(X)[:, self.column]
        return self

    def score_samples(self, X):
        return np.asarray(X)[:, self.column]


def of_columns(*columns):
    return Activations({"scores": np.column_stack(columns)})


def plain_ensemble(n_members, combine="mean", **params):
    return LayerEnsembleDetector([Plain(i) for i in range(n_members)], combine=combine, **params)


@pytest.mark.parametrize("combine", ["fisher", "mean", "vote"])
@pytest.mark.parametrize("level", [0.0, 1.0, -3e7])
def test_a_member_whose_scores_differ_by_rounding_has_no_say(combine, level):
    rng = np.random.default_rng(0)
    good, rounding = rng.normal(size=(2, 400))
    constant = level + 1e-8 * abs(level) * rounding
    fitted = plain_ensemble(2, combine).fit(of_columns(good, constant))
    alone = plain_ensemble(1, combine).fit(of_columns(good, constant))
    new = of_columns(rng.normal(size=50), level + rng.normal(size=50))
    np.testing.assert_array_equal(fitted.informative_, [True, False])
    np.testing.assert_array_equal(fitted.score_samples(new), alone.score_samples(new))
    assert fitted.offset_ == alone.offset_


def test_a_member_that_tells_only_the_predicted_class_has_no_say():
    rng = np.random.default_rng(0)
    label = rng.integers(0, 3, 300)
    scores = np.column_stack([rng.normal(size=300), np.array([0.98, 0.985, 0.99])[label]])
    fitted = plain_ensemble(2).fit(Activations({"scores": scores}, predictions=label))
    np.testing.assert_array_equal(fitted.informative_, [True, False])


@pytest.mark.parametrize("wild", [1e3, 1e15, -1e15])
def test_no_member_decides_a_mean_alone(wild):
    rng = np.random.default_rng(0)
    fitted = plain_ensemble(20).fit(of_columns(*rng.normal(size=(20, 500))))
    usual, far = np.zeros((1, 20)), np.full((1, 20), -5.0)
    usual[0, 0] = far[0, 0] = wild
    assert fitted.predict(Activations({"scores": far})) == -1
    z = Calibration(fitted.calibration_scores_).standardize(usual)
    assert np.abs(z[0, 0]) < 65  # of 1e15 standard deviations


def test_far_samples_keep_their_order():
    rng = np.random.default_rng(0)
    calibration = rng.normal(size=(100, 1))
    scores = -np.logspace(-3, 12, 50)[:, None]
    z = Calibration(calibration).standardize(scores)
    assert (np.diff(z[:, 0]) < 0).all()
    near = np.abs((scores - calibration.mean()) / calibration.std()) < 30
    expected = (scores - calibration.mean()) / calibration.std()
    np.testing.assert_allclose(z[near], expected[near])


def test_members_that_cannot_tell_samples_apart_are_kept_last():
    rng = np.random.default_rng(0)
    good, constant = rng.normal(size=300), np.zeros(300)
    outside = of_columns(rng.normal(-2, 1, size=100), np.full(100, -1.0))
    X = Activations.concatenate([of_columns(good, constant), outside])
    y = np.r_[np.zeros(300), np.full(100, -1)]
    for combine in ("fisher", "weighted"):
        fitted = plain_ensemble(2, combine, n_layers=1).fit(X, y)
        assert fitted.layers_ == ["member 0"]
        assert fitted.informative_.all()


@pytest.mark.parametrize("combine", ["fisher", "mean", "vote"])
def test_where_no_member_tells_training_samples_apart_all_are_heard(combine):
    rounding = 1e-9 * np.random.default_rng(0).normal(size=(2, 50))
    blind = plain_ensemble(2, combine).fit(of_columns(*(1.0 + rounding)))
    assert not blind.informative_.any()
    usual, far = (of_columns(*(level + rounding)) for level in (1.0, 0.0))
    assert (blind.predict(usual) == 1).all()
    assert (blind.predict(far) == -1).all()


def test_scores_that_are_not_finite_are_refused_with_the_name_of_the_layer():
    rng = np.random.default_rng(0)

    class Broken(Plain):
        def fit(self, X, y=None):
            super().fit(X)
            self.training_scores_ = np.where(self.training_scores_ > 1, np.nan, 0.0)
            return self

    A = Activations({"a": rng.normal(size=(100, 2)), "b": np.zeros((100, 2))})
    with pytest.raises(
        ValueError, match=r"members \['a'\] give samples scores that are not finite"
    ):
        LayerEnsembleDetector(Broken()).fit(A)


@pytest.mark.parametrize("combine", ["fisher", "mean", "vote"])
@pytest.mark.parametrize(
    "member",
    [
        make_pipeline(PercentileBinarizer(percentile=50), HammingNAPDetector(group_by="correct")),
        SHEDetector(),
    ],
    ids=["NAP", "SHE"],
)
def test_a_class_that_is_never_predicted_right_is_rejected(member, combine):
    rng = np.random.default_rng(0)
    fit, new = (activations("plain", "balanced", n, rng) for n in (N_FIT, N_NEW))
    y = np.where(fit.predictions == 3, 4, fit.predictions)
    detector = LayerEnsembleDetector(member, combine=combine).fit(fit, y)
    of_class = new.predictions == 3
    assert (detector.predict(new[of_class]) == -1).all()
    assert (detector.predict(new[~of_class]) == -1).mean() < 0.1
    highest = detector.score_samples(new[of_class]).max()
    assert highest < detector.score_samples(fit[fit.predictions != 3]).min()


@pytest.mark.parametrize("combine", ["fisher", "mean", "vote"])
@pytest.mark.parametrize("n_units", [1, 2, 3, 4])
@pytest.mark.parametrize("break_ties", [True, False])
def test_patterns_that_are_equally_common_do_not_switch_the_others_off(
    break_ties, n_units, combine
):
    """Shares of patterns differ by chance alone, and a row left out lacks one of its own."""
    rejected, found = [], []
    for seed in SEEDS:
        rng = np.random.default_rng(seed)

        def samples(n, far, rng=rng):
            patterns = {
                f"balanced {i}": np.eye(2**n_units)[rng.permutation(n) % 2**n_units]
                for i in range(8)
            }
            inputs = rng.normal(size=(n, 24)) + np.linspace(-1, 1, 24) * (-3 if far else 1)
            return Activations({**patterns, "good": np.maximum(inputs, 0)})

        member = HammingNAPDetector(break_ties=break_ties)
        fitted = LayerEnsembleDetector(member, combine=combine).fit(samples(101, False))
        assert fitted.informative_[-1]
        assert not fitted.informative_[:-1].any()
        rejected.append((fitted.predict(samples(2000, False)) == -1).mean())
        found.append((fitted.predict(samples(300, True)) == -1).mean())
    standard_error = np.sqrt(0.05 * 0.95 * (1 / 101 + 1 / 2000) / len(SEEDS))
    assert np.mean(rejected) == pytest.approx(0.05, abs=2 * standard_error)
    assert np.mean(found) > 0.95


@pytest.mark.parametrize("combine", ["fisher", "mean", "vote"])
def test_many_members_reject_no_more_than_asked(combine):
    """A training sample is not counted in its own p-value."""
    rejected = []
    for seed in range(5):
        rng = np.random.default_rng(seed)
        A, new = (
            Activations({f"{i}": rng.normal(size=(n, 4)) for i in range(30)}) for n in (100, 1500)
        )
        fitted = LayerEnsembleDetector(MahalanobisDetector(), combine=combine).fit(A)
        rejected.append((fitted.predict(new) == -1).mean())
    standard_error = np.sqrt(0.05 * 0.95 * (1 / 100 + 1 / 1500) / 5)
    assert np.mean(rejected) == pytest.approx(0.05, abs=2.5 * standard_error)


@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf])
@pytest.mark.parametrize("combine", ["fisher", "mean", "vote"])
def test_new_scores_that_are_not_finite_are_refused(combine, value):
    class Failing(Plain):
        def score_samples(self, X):
            return np.where(np.asarray(X)[:, 0] > 50, value, super().score_samples(X))

    rng = np.random.default_rng(0)
    fitted = LayerEnsembleDetector([Failing(0), Plain(1)], combine=combine)
    fitted.fit(of_columns(*rng.normal(size=(2, 100))))
    with pytest.raises(
        ValueError, match=r"members \['member 0'\] give samples scores that are not"
    ):
        fitted.score_samples(of_columns([1.0, 99.0], [0.0, 0.0]))


def test_scores_whose_squares_leave_the_range_are_standardised():
    rng = np.random.default_rng(0)
    calibration = rng.normal(size=(100, 2))
    scores = rng.normal(size=(7, 2))
    factor = np.array([1e200, 1e-200])
    expected = Calibration(calibration).standardize(scores)
    np.testing.assert_allclose(
        Calibration(calibration * factor).standardize(scores * factor), expected
    )


@pytest.mark.parametrize("combine", ["fisher", "mean", "vote"])
def test_one_member_that_knows_the_classes_is_enough_to_reject_one(combine):
    rng = np.random.default_rng(0)
    fit, new = (activations("plain", "balanced", n, rng) for n in (N_FIT, N_NEW))
    members = [SHEDetector(), KNNDetector(n_neighbors=3), MahalanobisDetector()]
    y = np.where(fit.predictions == 3, 4, fit.predictions)
    detector = LayerEnsembleDetector(members, combine=combine).fit(fit, y)
    assert (detector.predict(new[new.predictions == 3]) == -1).all()


def test_a_refit_without_marked_rows_forgets_what_they_told():
    rng = np.random.default_rng(0)
    X = of_columns(*rng.normal(size=(2, 60)))
    detector = plain_ensemble(2).fit(X, np.r_[np.zeros(40), np.full(20, -1)])
    assert hasattr(detector, "aurocs_")
    assert hasattr(detector, "weights_")
    detector.fit(X)
    assert not hasattr(detector, "aurocs_")
    assert not hasattr(detector, "weights_")


@pytest.mark.parametrize("width", [1, 2, 4])
@pytest.mark.parametrize("break_ties", [True, False])
def test_a_member_without_a_say_does_not_veto(break_ties, width):
    rng = np.random.default_rng(0)
    layers = {"a": rng.normal(size=(500, 10)), "b": rng.normal(size=(500, 10))}
    one_class = np.zeros(500, dtype=int)
    same, turned = (
        Activations({**layers, "dead": np.full((500, width), v)}, predictions=one_class)
        for v in (1.0, -1.0)
    )
    fitted = LayerEnsembleDetector(HammingNAPDetector(break_ties=break_ties), combine="mean")
    fitted.fit(same)
    np.testing.assert_array_equal(fitted.score_samples(turned), fitted.score_samples(same))


@pytest.mark.parametrize("combine", ["fisher", "mean", "vote"])
def test_wide_layers_in_which_few_rows_differ_from_the_most_common_pattern(combine):
    rejected = []
    for seed in SEEDS:
        rng = np.random.default_rng(seed)

        def samples(n, rng=rng):
            layers = {}
            for name in "abc":
                bits = np.ones((n, 512), dtype=bool)
                flipped = np.flatnonzero(rng.random(n) < 0.08)
                bits[flipped, rng.integers(0, 512, len(flipped))] = False
                layers[name] = bits
            return Activations(layers)

        fitted = LayerEnsembleDetector(HammingNAPDetector(), combine=combine).fit(samples(400))
        rejected.append((fitted.predict(samples(2000)) == -1).mean())
    standard_error = np.sqrt(0.05 * 0.95 * (1 / 400 + 1 / 2000) / len(SEEDS))
    assert np.mean(rejected) < 0.05 + 2 * standard_error


def test_what_float32_rounds_changes_no_rank():
    rng = np.random.default_rng(0)
    scores = rng.normal(size=(500, 3)) * [1, 1e3, 1e-3]
    calibration = RankCalibration(scores)
    rounded = scores * (1 + rng.uniform(-2e-7, 2e-7, scores.shape))
    np.testing.assert_array_equal(calibration.p_values(rounded), calibration.p_values(scores))
    ranks = np.argsort(np.argsort(scores, axis=0), axis=0)
    np.testing.assert_array_equal(calibration.p_values(scores), (ranks + 2) / 501)
