"""Rows that are held out set the threshold, in the same way in all detectors and ensembles."""

import inspect
import pickle

import numpy as np
import pytest
from _estimators import construct, detectors
from sklearn.base import clone
from sklearn.ensemble import IsolationForest
from sklearn.model_selection import KFold, LeavePOut, PredefinedSplit, ShuffleSplit
from sklearn.neural_network import MLPClassifier
from sklearn.svm import OneClassSVM

from skood import (
    Activations,
    ClusterDistanceDetector,
    GroupProgressionDetector,
    HammingNAPDetector,
    make_monitor,
)
from skood._held_out import split_held_out
from skood.activations import LinearHead
from skood.detectors import (
    EnergyDetector,
    KNNDetector,
    MahalanobisDetector,
    MaxSoftmaxDetector,
    MCDropoutDetector,
    NNGuideDetector,
)
from skood.ensemble import (
    AdaptiveEnsembleDetector,
    AnyAlarmDetector,
    AutoNAPDetector,
    LayerEnsembleDetector,
)
from skood.model_selection import DetectorSearchCV

HEAD = LinearHead(2 * np.eye(3, 8), input_layer="relu")
ONE_CLASS = {
    type(d).__name__: d
    for d in detectors()
    if "false_alarm_rate" in d.get_params(deep=False) and not isinstance(d, MCDropoutDetector)
}
IN_BATCHES = [name for name, detector in ONE_CLASS.items() if hasattr(detector, "partial_fit")]


def samples(n_samples, seed):
    rng = np.random.default_rng(seed)
    label = rng.integers(0, 3, n_samples)
    hidden = np.maximum(3 * np.eye(3, 8)[label] + 0.7 * rng.normal(size=(n_samples, 8)), 0)
    logits = hidden @ HEAD.weight.T
    return Activations({"relu": hidden}, logits=logits, head=HEAD), label


A, LABEL = samples(300, 0)
NEW, NEW_LABEL = samples(500, 1)
MARKED = np.where(np.arange(300) % 10 == 0, -1, LABEL)


def quantile(scores, rate):
    """The k-th smallest, with the largest k of which k / (n + 1) is not above the rate."""
    ranks = np.arange(1, len(scores) + 1)
    return np.sort(scores)[ranks[ranks / (len(scores) + 1) <= rate][-1] - 1]


def test_every_detector_with_a_threshold_takes_them():
    with_it = {type(d).__name__ for d in detectors() if "validation" in d.get_params(deep=False)}
    assert with_it == {type(d).__name__ for d in detectors()}
    for detector in detectors():
        default = inspect.signature(type(detector)).parameters["validation"].default
        assert default == (0.2 if isinstance(detector, AutoNAPDetector) else None)
        assert "validation : float in (0, 1) or splitter, default=" in type(detector).__doc__


@pytest.mark.parametrize("name", ONE_CLASS)
def test_the_threshold_is_the_exact_quantile_of_rows_that_are_not_learnt_from(name):
    detector = clone(ONE_CLASS[name]).set_params(validation=0.3, false_alarm_rate=0.1)
    detector.fit(A, MARKED)
    held_out, learnt = detector.training_rows_, detector.learnt_rows_
    assert len(held_out) == 81
    np.testing.assert_array_equal(np.union1d(held_out, learnt), np.flatnonzero(MARKED != -1))
    assert np.intersect1d(held_out, learnt).size == 0
    scores = detector.score_samples(A[held_out])
    np.testing.assert_allclose(detector.training_scores_, scores, rtol=1e-6)
    if not isinstance(detector, ClusterDistanceDetector):
        assert detector.offset_ == pytest.approx(quantile(scores, 0.1), rel=1e-6)
    others = np.setdiff1d(np.arange(300), held_out)  # with those marked -1, if they teach anything
    alone = clone(ONE_CLASS[name]).fit(A[others], MARKED[others])
    np.testing.assert_allclose(detector.score_samples(NEW), alone.score_samples(NEW), rtol=1e-6)
    rejected = (detector.predict(NEW) == -1).mean()
    # Scores of many equal values reject less.
    assert rejected < 0.1 + 4 * np.sqrt(0.1 * 0.9 * (1 / 81 + 1 / 500))


@pytest.mark.parametrize("name", ["EnergyDetector", "HammingNAPDetector", "MahalanobisDetector"])
def test_a_splitter_gives_the_test_part_of_its_first_split(name):
    splitter = ShuffleSplit(2, test_size=40, random_state=3)
    detector = clone(ONE_CLASS[name]).set_params(validation=splitter).fit(A, MARKED)
    inside = np.flatnonzero(MARKED != -1)
    learnt, held_out = next(splitter.split(inside))
    np.testing.assert_array_equal(detector.training_rows_, np.sort(inside[held_out]))
    np.testing.assert_array_equal(detector.learnt_rows_, np.sort(inside[learnt]))


def test_a_share_holds_its_part_of_each_class_and_is_always_the_same():
    label = np.repeat([0, 1, 2], [30, 60, 210])
    first = EnergyDetector(validation=0.2).fit(A, label)
    np.testing.assert_array_equal(np.bincount(label[first.training_rows_]), [6, 12, 42])
    again = pickle.loads(pickle.dumps(clone(first).fit(A, label)))
    np.testing.assert_array_equal(first.training_rows_, again.training_rows_)
    # A class of one row cannot be in both parts.
    rare = np.where(np.arange(300) == 5, 7, label)
    assert len(EnergyDetector(validation=0.2).fit(A, rare).training_rows_) == 60


def test_random_states_draw_the_share():
    draws = [
        GroupProgressionDetector(n_neighbors=20, validation=0.2, random_state=seed).fit(A)
        for seed in (0, 0, 1)
    ]
    rows = [draw.training_rows_.tolist() for draw in draws]
    assert rows[0] == rows[1] != rows[2]


def test_without_any_the_threshold_is_that_of_all_training_rows():
    detector = EnergyDetector().fit(A, MARKED)
    np.testing.assert_array_equal(detector.learnt_rows_, detector.training_rows_)
    assert len(detector.training_rows_) == 270
    assert detector.offset_ == np.percentile(detector.training_scores_, 5)


def test_samples_found_are_named_by_their_rows_in_fit():
    for detector in (KNNDetector(n_neighbors=3), NNGuideDetector(n_neighbors=3)):
        detector.set_params(validation=0.5).fit(A)
        _, rows = detector.kneighbors(A[detector.learnt_rows_], 1)
        assert np.isin(rows, detector.learnt_rows_).all()
        if isinstance(detector, KNNDetector):
            np.testing.assert_array_equal(rows[:, 0], detector.learnt_rows_)
    detector = HammingNAPDetector(validation=0.5).fit(A)
    distances, rows = detector.kneighbors(A, 5)
    bits = A["relu"] > 0
    for sample in range(0, 300, 17):
        found = rows[sample][rows[sample] >= 0]
        expected = (bits[sample] != bits[found]).sum(axis=1)
        np.testing.assert_array_equal(distances[sample][rows[sample] >= 0], expected)
        assert np.isin(found, detector.learnt_rows_).all()
    clusters = ClusterDistanceDetector(n_clusters=3, validation=0.5, random_state=0).fit(A)
    assert np.isin(clusters.center_samples_, clusters.learnt_rows_).all()
    groups = GroupProgressionDetector(n_neighbors=5, validation=0.5).fit(A)
    assert np.isin(groups.kneighbors(A, 3)[1], groups.learnt_rows_).all()


@pytest.mark.parametrize("name", IN_BATCHES)
def test_batches_hold_out_their_share_of_all(name):
    detector = clone(ONE_CLASS[name]).set_params(validation=0.25, false_alarm_rate=0.1)
    for batch in (slice(0, 41), slice(41, 42), slice(42, 43), slice(43, 300)):
        detector.partial_fit(A[batch], MARKED[batch])
    assert len(detector.training_rows_) == 68  # a quarter of 270, rounded up
    learnt, held_out = detector.learnt_rows_, detector.training_rows_
    np.testing.assert_array_equal(np.union1d(learnt, held_out), np.flatnonzero(MARKED != -1))
    alone = clone(ONE_CLASS[name]).fit(A[learnt], MARKED[learnt])
    expected = alone.score_samples(A[held_out])
    np.testing.assert_allclose(detector.training_scores_, expected, rtol=1e-6)
    assert detector.offset_ == pytest.approx(quantile(expected, 0.1), rel=1e-6)
    outside = np.full(20, -1)
    before = detector.training_scores_
    np.testing.assert_array_equal(detector.partial_fit(A[:20], outside).training_scores_, before)


@pytest.mark.parametrize("name", IN_BATCHES)
def test_merged_detectors_keep_the_rows_of_both(name):
    def fitted(part):
        detector = clone(ONE_CLASS[name]).set_params(validation=KFold(4), false_alarm_rate=0.1)
        return detector.fit(A[part], LABEL[part])

    first, second = fitted(slice(0, 140)), fitted(slice(140, 300))
    rows = np.concatenate([first.training_rows_, 140 + second.training_rows_])
    first.merge(second)
    np.testing.assert_array_equal(first.training_rows_, rows)
    scores = first.score_samples(A[rows])
    np.testing.assert_allclose(first.training_scores_, scores, rtol=1e-6)
    assert first.offset_ == pytest.approx(quantile(scores, 0.1), rel=1e-6)


def test_votes_reject_at_most_the_share():
    members = [KNNDetector(), MahalanobisDetector(), EnergyDetector()]
    detector = LayerEnsembleDetector(
        members, combine="vote", validation=0.3, false_alarm_rate=0.1
    ).fit(A)
    rejected = detector.predict(A[detector.training_rows_]) == -1
    assert 0 < rejected.sum() <= 8  # of 90: below the 9th of them
    assert (detector.predict(NEW) == -1).mean() < 0.2


def test_of_errors_only_right_predictions_set_the_threshold():
    wrong = np.flatnonzero(A.predictions != LABEL)
    label = LABEL.copy()
    label[:60] = (label[:60] + 1) % 3  # which more predictions are wrong for
    detector = AdaptiveEnsembleDetector(target="misclassified", validation=0.4).fit(A, label)
    rows = detector.training_rows_
    assert (A.predictions[rows] == label[rows]).all()
    assert len(rows) + len(detector.learnt_rows_) < 300 - len(wrong)
    without = AdaptiveEnsembleDetector(target="misclassified", validation=0.4).fit(A)
    assert len(without.training_rows_) == 120
    of_inputs = AdaptiveEnsembleDetector(validation=0.4).fit(A, label)
    assert len(of_inputs.training_rows_) == 120
    with pytest.raises(ValueError, match="labels among the classes of the network"):
        AdaptiveEnsembleDetector(target="misclassified", validation=0.4).fit(A, LABEL + 7)
    with pytest.raises(ValueError, match="none of the 120 predictions equals its label"):
        AdaptiveEnsembleDetector(target="misclassified", validation=0.4).fit(
            A, (A.predictions + 1) % 3
        )


def test_each_of_several_detectors_has_its_own_rate():
    members = [
        ("far", KNNDetector(false_alarm_rate=0.1)),
        ("unsure", MaxSoftmaxDetector(false_alarm_rate=0.02)),
        ("forest", IsolationForest(contamination=0.05, random_state=0)),
    ]
    detector = AnyAlarmDetector(members, validation=0.5).fit(A, MARKED)
    scores = detector.score_each(A[detector.training_rows_])
    expected = {
        "far": quantile(scores["far"], 0.1),
        "unsure": quantile(scores["unsure"], 0.02),
        "forest": quantile(scores["forest"], 0.05),
    }
    assert detector.offsets_ == pytest.approx(expected)
    rejected = detector.predict(NEW) == -1
    each = detector.predict_each(NEW)
    np.testing.assert_array_equal(rejected, np.any([v == -1 for v in each.values()], axis=0))
    alone = KNNDetector().fit(A[detector.learnt_rows_])
    np.testing.assert_allclose(detector.score_each(NEW)["far"], alone.score_samples(NEW))


def test_of_both_targets_each_has_the_rows_that_it_is_to_accept():
    label = np.where(np.arange(300) < 60, (A.predictions + 1) % 3, A.predictions)
    members = [
        ("ood", AdaptiveEnsembleDetector(false_alarm_rate=0.1)),
        ("errors", AdaptiveEnsembleDetector(target="misclassified", false_alarm_rate=0.1)),
    ]
    detector = AnyAlarmDetector(members, validation=0.4).fit(A, label)
    rows = detector.training_rows_
    scores = detector.score_each(A[rows])
    is_right = A.predictions[rows] == label[rows]
    assert not is_right.all()
    assert detector.offsets_["ood"] == quantile(scores["ood"], 0.1)
    assert detector.offsets_["errors"] == quantile(scores["errors"][is_right], 0.1)


@pytest.mark.parametrize(
    "member",
    [
        HammingNAPDetector(tau=1),
        AutoNAPDetector(),
        IsolationForest(),
        OneClassSVM(),
    ],
)
def test_a_detector_without_a_rate_cannot_be_given_its_own(member):
    detector = AnyAlarmDetector([("it", member)], validation=0.5)
    with pytest.raises(ValueError, match=r"'it', .* has no such number"):
        detector.fit(A, LABEL)


def test_too_few_rows_reject_nothing_and_say_so():
    detector = EnergyDetector(validation=0.05)
    with pytest.warns(UserWarning, match="15 calibration row.* cannot give a false alarm rate"):
        detector.fit(A)
    assert detector.offset_ == -np.inf
    assert (detector.predict(NEW) == 1).all()
    marks = np.where(NEW_LABEL == 0, -1, 1)
    expected = EnergyDetector().fit(A).score(NEW, marks)
    assert detector.score(NEW, marks) == expected
    several = AnyAlarmDetector([("energy", EnergyDetector())], validation=0.05)
    with pytest.warns(UserWarning, match="nothing is rejected"):
        several.fit(A)
    assert several.offsets_ == {"energy": -np.inf}
    assert (several.predict(NEW) == 1).all()
    assert np.isfinite(several.score_samples(NEW)).all()


def test_classes_that_only_rows_held_out_have_are_rejected_where_the_rate_allows_it():
    labels = np.repeat([0, 1, 2], [97, 2, 1])
    part = Activations({"relu": np.random.default_rng(0).normal(size=(100, 4))}, predictions=labels)
    fold = np.where(np.isin(np.arange(100), [*range(50), 97, 98, 99]), 0, -1)
    detector = HammingNAPDetector(validation=PredefinedSplit(fold), false_alarm_rate=0.1).fit(part)
    strange = part[[97, 99]]
    np.testing.assert_array_equal(detector.predict(strange), [-1, -1])
    # Three of 53 rows are of such classes: at a rate of 5 % not all may be rejected.
    detector.set_params(false_alarm_rate=0.05).fit(part)
    np.testing.assert_array_equal(detector.predict(strange), [1, 1])


@pytest.mark.parametrize(
    ("validation", "message"),
    [
        (0.0, "The 'validation' parameter"),
        (1.0, "The 'validation' parameter"),
        (0.999, "leaves none to learn from: at least 2 are needed"),
        (PredefinedSplit([-1] * 290 + [0] * 10), "other rows than the 270 in-distribution ones"),
        (PredefinedSplit([0] * 270), "got 0 and 270 rows"),
        ("cv", "The 'validation' parameter"),
        (5, "The 'validation' parameter"),
    ],
)
def test_what_holds_out_nothing_or_everything_is_refused(validation, message):
    detector = EnergyDetector(validation=validation)
    with pytest.raises(ValueError, match=message):
        detector.fit(A, MARKED)
    assert not hasattr(detector, "offset_")


def test_overlapping_parts_are_refused():
    class Same(LeavePOut):
        def split(self, X, y=None, groups=None):
            yield np.arange(10), np.arange(5, 15)

    with pytest.raises(ValueError, match="with 5 in common"):
        KNNDetector(validation=Same(1)).fit(A)


def test_members_of_an_ensemble_may_hold_out_rows_too():
    detector = LayerEnsembleDetector(KNNDetector(n_neighbors=5, validation=0.2)).fit(A)
    assert len(detector.training_scores_) == 300
    assert len(detector.estimators_[0].training_rows_) == 60


def test_arrays_will_do():
    X = np.random.default_rng(0).normal(size=(200, 4))
    detector = MahalanobisDetector(validation=0.5, false_alarm_rate=0.2).fit(X)
    scores = detector.score_samples(X[detector.training_rows_])
    assert detector.offset_ == quantile(scores, 0.2)
    assert len(construct(AnyAlarmDetector, validation=0.5).fit(X).training_rows_) == 100


def test_passes_of_the_network_will_do():
    logits = np.random.default_rng(0).normal(size=(200, 3))
    detector = MCDropoutDetector(validation=0.5).fit(logits)
    assert len(detector.training_rows_) == 100


def searched(**params):
    detectors = [("energy", EnergyDetector()), ("distance", KNNDetector(normalize=False))]
    y = np.r_[LABEL, np.full(100, -1)]
    far = np.random.default_rng(5).normal(size=(100, 8)) * 3
    outside = Activations({"relu": far}, logits=far @ HEAD.weight.T, head=HEAD)
    X = Activations.concatenate([A, outside])
    return DetectorSearchCV(detectors, **params).fit(X, y), X, y


@pytest.mark.parametrize("beside_default", [True, False])
def test_a_search_is_calibrated_by_rows_that_neither_choose_nor_teach(beside_default):
    search, X, y = searched(validation=0.4, false_alarm_rate=0.1, beside_default=beside_default)
    calibrated = search.best_estimator_
    assert calibrated.n_calibration_samples_ == 120
    assert (search.predict(NEW) == -1).mean() < 0.1 + 4 * np.sqrt(0.09 * (1 / 120 + 1 / 500))
    np.testing.assert_array_equal(search.predict(X), calibrated.predict(X))
    _, held_out = split_held_out(300, LABEL, 0.4, 0)
    held_out = np.sort(held_out)
    rest = np.setdiff1d(np.arange(400), held_out)
    alone = searched()[0].set_params(beside_default=beside_default, false_alarm_rate=0.1)
    alone.fit(X[rest], y[rest])
    assert search.best_name_ == alone.best_name_
    scores = alone.score_samples(NEW)
    np.testing.assert_allclose(search.score_samples(NEW), scores, rtol=1e-9)
    offset = quantile(alone.score_samples(X[held_out]), 0.1)
    np.testing.assert_allclose(search.decision_function(NEW), scores - offset, rtol=1e-6)


def test_a_search_takes_the_rate_of_its_choice():
    search, *_ = searched(validation=0.4)
    assert search.best_estimator_.false_alarm_rate == 0.05
    without = [("svm", OneClassSVM()), ("forest", IsolationForest(random_state=0))]
    detector = DetectorSearchCV(without, validation=0.4, min_gain=1, beside_default=False)
    X = np.random.default_rng(0).normal(size=(100, 3))
    with pytest.raises(ValueError, match=r"'svm', .* has none: set false_alarm_rate"):
        detector.fit(X, np.repeat([1, -1], 50))


@pytest.mark.parametrize("target", ["ood", "misclassified", "both"])
@pytest.mark.parametrize("search", [False, True])
def test_monitors_pass_it_on(target, search):
    net = MLPClassifier((8,), solver="lbfgs").fit(np.eye(4, 8), [0, 1, 2, 2])
    if search and target == "misclassified":
        return
    assert make_monitor(net, target=target, search=search)["detect"].validation is None
    monitor = make_monitor(net, target=target, search=search, validation=0.3)
    assert monitor["detect"].validation == 0.3


@pytest.mark.parametrize("combine", ["mean", "fisher", "informed", "vote"])
def test_rows_of_classes_that_nothing_was_learnt_of_count_as_false_alarms(combine):
    rng = np.random.default_rng(0)
    predicted = np.append(rng.choice(2, 200), rng.choice(3, 200, p=(0.4, 0.4, 0.2)))
    layers = {name: rng.normal(size=(400, 4)) + predicted[:, np.newaxis] for name in "ab"}
    X = Activations(layers, predictions=predicted)
    detector = LayerEnsembleDetector(
        MahalanobisDetector(), combine=combine, validation=PredefinedSplit(np.repeat([-1, 0], 200))
    )
    rejected = detector.fit(X).predict(X[200:]) == -1
    assert rejected.mean() <= 0.05
    # Too few to reject anything, these neither.
    few = PredefinedSplit(np.repeat([-1, 0], [390, 10]))
    with pytest.warns(UserWarning, match="nothing is rejected"):
        detector.set_params(validation=few).fit(X)
    assert (detector.predict(Activations(layers, predictions=np.full(400, 2))) == 1).all()


@pytest.mark.parametrize("size", [1, 2, 10])
def test_batches_in_an_order_hold_out_all_of_it(size):
    # Ten kinds of rows in turn, of which one is wide.
    def stream(n_samples):
        kind = np.arange(n_samples) % 10
        return rng.normal(size=(n_samples, 3)) * np.where(kind == 7, 4.0, 1.0)[:, np.newaxis]

    rng = np.random.default_rng(0)
    X = stream(600)
    detector = KNNDetector(normalize=False, n_neighbors=1, validation=0.2)
    detector.partial_fit(X[:100])
    for start in range(100, 600, size):
        detector.partial_fit(X[start : start + size])
    held_out = np.bincount(detector.training_rows_ % 10, minlength=10)
    assert held_out.min() >= 4  # of 12 that are expected, four standard deviations lower
    assert abs(held_out.sum() - 120) < 40
    assert (detector.predict(stream(4000)) == -1).mean() < 0.1


def test_validation_that_is_set_between_batches_is_refused():
    detector = KNNDetector(n_neighbors=2).fit(A[:60])
    with pytest.raises(ValueError, match=r"validation=0.3 was set after this KNNDetector"):
        detector.set_params(validation=0.3).partial_fit(A[60:])
    detector.fit(A[:100]).set_params(validation=None)
    with pytest.raises(ValueError, match=r"validation=None was set after"):
        detector.partial_fit(A[60:])
