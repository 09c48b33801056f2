"""Rows that are held out set the threshold, in the same way in all detectors and ensembles."""

import inspect
import pickle

import numpy as np
import pytest
from _estimators import construct, detectors
from sklearn.base import clone
from sklearn.ensemble import IsolationForest
from sklearn.exceptions import NotFittedError
from sklearn.model_selection import (
    GroupKFold,
    KFold,
    LeaveOneGroupOut,
    LeavePOut,
    PredefinedSplit,
    ShuffleSplit,
    StratifiedGroupKFold,
)
from sklearn.neural_network import MLPClassifier
from sklearn.svm import OneClassSVM

from skood import (
    Activations,
    ClusterDistanceDetector,
    GroupProgressionDetector,
    HammingNAPDetector,
    make_monitor,
)
from skood._held_out import held_out_of_batch, split_held_out
from skood.activations import LinearHead
from skood.calibration import ConformalDetector
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
    assert len(detector.training_rows_) in (67, 68)  # a quarter of 270
    learnt, held_out = detector.learnt_rows_, detector.training_rows_
    np.testing.assert_array_equal(np.union1d(learnt, held_out), np.flatnonzero(MARKED != -1))
    alone = clone(ONE_CLASS[name]).fit(A[learnt], MARKED[learnt])
    expected = alone.score_samples(A[held_out])
    np.testing.assert_allclose(detector.training_scores_, expected, rtol=1e-6)
    assert detector.offset_ == pytest.approx(quantile(expected, 0.1), rel=1e-6)
    outside = np.full(20, -1)
    before = detector.training_scores_
    np.testing.assert_array_equal(detector.partial_fit(A[:20], outside).training_scores_, before)


def batches_with_a_wide_place(n_batches, seed):
    """Batches of ten rows, one of each class in turn, of which class 7 is four times as wide."""
    rng = np.random.default_rng(seed)
    return rng.normal(size=(n_batches, 10, 3)) * np.where(np.arange(10) == 7, 4, 1)[:, None]


@pytest.mark.parametrize("n_rows", [1, 10, 7])
@pytest.mark.filterwarnings("ignore:.*calibration row")
@pytest.mark.parametrize("y", [None, "class", "kind"])
def test_every_place_of_a_batch_is_held_out_as_often(n_rows, y):
    rows = batches_with_a_wide_place(100, 0).reshape(-1, 3)
    label = np.tile(np.arange(10), 100)
    labels = {None: None, "class": label, "kind": (label > 7).astype(int)}[y]
    detector = KNNDetector(normalize=False, n_neighbors=1, validation=0.2)
    for part in np.split(np.arange(1000), [10, *range(10 + n_rows, 1000, n_rows)]):
        detector.partial_fit(rows[part], None if labels is None else labels[part])
    held_out = detector.training_rows_
    assert len(held_out) == 200
    counts = np.bincount(held_out % 10, minlength=10)
    # Each place is held out 20 times of 100 on average, with standard deviation 4.
    assert counts.min() >= 8
    assert counts.max() <= 32
    new = batches_with_a_wide_place(300, 1).reshape(-1, 3)
    rate = (detector.predict(new) == -1).mean()
    assert rate <= 0.05 + 3 * np.sqrt(0.05 * 0.95 / 200)


@pytest.mark.parametrize("share", [0.07, 0.3, 0.35, 0.8])
@pytest.mark.parametrize("sizes", [[1], [7], [1, 3, 0], [100], [13, 1, 2]])
def test_batches_of_any_size_keep_the_share(share, sizes):
    n_rows, n_held_out, rows = 20, int(np.ceil(20 * share)), []
    for size in sizes * (4000 // sum(sizes)):
        n_before = n_rows, n_held_out
        learnt, held_out = held_out_of_batch(size, None, share, (0, n_rows), n_before)
        np.testing.assert_array_equal(np.sort(np.r_[learnt, held_out]), np.arange(size))
        rows.append(n_rows + held_out)
        n_rows, n_held_out = n_rows + size, n_held_out + len(held_out)
        assert abs(n_held_out - share * n_rows) < 1 + 1 / min(share, 1 - share)
    for period in (3, 7, 10, 20):
        counts = np.bincount(np.concatenate(rows) % period, minlength=period)
        shares = counts / (4000 / period)
        assert np.abs(shares - share).max() < 4 * np.sqrt(share * (1 - share) * period / 4000)


@pytest.mark.filterwarnings("ignore:.*calibration row")
def test_batches_are_drawn_again_in_the_same_way():
    def stream():
        detector = KNNDetector(n_neighbors=1, validation=0.3)
        for start in range(0, 300, 20):
            detector.partial_fit(A[start : start + 20])
        return detector

    first, second = stream(), stream()
    np.testing.assert_array_equal(first.training_rows_, second.training_rows_)
    places = [tuple(first.training_rows_[k : k + 6] % 20) for k in range(0, 90, 6)]
    assert len(set(places)) > 10


@pytest.mark.filterwarnings("ignore:.*calibration row")
def test_the_first_batch_may_be_a_single_row():
    detector = KNNDetector(n_neighbors=1, validation=0.2)
    with pytest.raises(ValueError, match="leaves none to learn from"):
        detector.fit(A[:1])
    detector.partial_fit(A[:1])
    with pytest.raises(NotFittedError, match=r"seen, 1, are too few\. Of 1 in-distribution"):
        detector.predict(NEW)
    for part in (slice(1, 4), slice(4, 5), slice(5, 300)):
        detector.partial_fit(A[part])
    assert len(detector.training_rows_) == 60


@pytest.mark.parametrize("name", IN_BATCHES)
@pytest.mark.parametrize(("first", "then"), [(None, 0.3), (0.3, None), (0.3, 0.4)])
def test_batches_are_held_out_as_the_first_one_was(name, first, then):
    detector = clone(ONE_CLASS[name]).set_params(validation=first).fit(A[:150])
    expected, other = detector.score_samples(NEW), clone(detector).fit(A[150:])
    detector.set_params(validation=then)
    with pytest.raises(ValueError, match=f"{then} was set after .* validation={first}"):
        detector.partial_fit(A[150:])
    other.set_params(validation=then)
    with pytest.raises(ValueError, match=f"{then} was set after .* validation={first}"):
        detector.merge(other)
    with pytest.raises(ValueError, match=f"{then} was set after .* validation={first}"):
        clone(detector).fit(A).merge(other)
    detector.set_params(validation=first)
    np.testing.assert_array_equal(detector.score_samples(NEW), expected)
    detector.partial_fit(A[150:])
    assert detector.n_samples_seen_ == 300
    # A new fit may change it.
    assert detector.set_params(validation=then).fit(A).partial_fit(A[:10]).n_samples_seen_ == 310


def test_a_batch_that_a_splitter_cannot_split_is_refused_with_words():
    detector = KNNDetector(validation=KFold(3), n_neighbors=1).fit(A[:60])
    with pytest.raises(ValueError, match=r"KFold.* cannot split 2 in-distribution .* larger ones"):
        detector.partial_fit(A[:2])
    assert detector.n_samples_seen_ == 60


@pytest.mark.parametrize("splitter", [GroupKFold(4), LeaveOneGroupOut(), StratifiedGroupKFold(3)])
def test_splitters_by_groups_are_refused_with_what_to_do(splitter):
    for detector in (KNNDetector(), AnyAlarmDetector([("energy", EnergyDetector())])):
        detector.set_params(validation=splitter)
        with pytest.raises(ValueError, match=r"PredefinedSplit.*cv=GroupKFold\(\)\)\.fit\(X, gro"):
            detector.fit(A, LABEL)
    # What it says to do holds out whole groups.
    groups = np.arange(300) // 30
    by_name = KNNDetector(validation=PredefinedSplit(np.where(groups < 3, 0, -1))).fit(A)
    np.testing.assert_array_equal(by_name.training_rows_, np.arange(90))
    calibrated = ConformalDetector(KNNDetector(), cv=GroupKFold()).fit(A, groups=groups)
    assert calibrated.n_calibration_samples_ == 300


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


def part_held_out_with_a_new_class(n_new):
    """Rows of classes 0 and 1, and as many of class 2 that are held out; a split and new rows."""
    rng = np.random.default_rng(0)
    label = rng.choice(2, 600)
    label[200 : 200 + n_new] = label[400 : 400 + n_new] = 2
    layers = {name: rng.normal(size=(600, 4)) + label[:, None] for name in ("a", "b", "c")}
    part = Activations(layers, predictions=label)
    return part[:400], PredefinedSplit(np.repeat([-1, 0], 200)), part[400:]


def test_votes_reject_new_classes_where_the_rate_allows_it():
    # At 5 % nine of 200 rows that are held out may be rejected: below the tenth of them.
    for n_new, n_rejected in ((40, 0), (10, 0), (9, 9), (3, 3)):
        part, split, new = part_held_out_with_a_new_class(n_new)
        detector = LayerEnsembleDetector(HammingNAPDetector(), combine="vote", validation=split)
        rejected = detector.fit(part).predict(part[200:]) == -1
        assert rejected.sum() <= 9
        assert rejected[:n_new].sum() == n_rejected
        assert (detector.decision_function(part[200:]) < 0).sum() == rejected.sum()
        if n_rejected == 0:
            assert detector.offset_ == detector.unknown_class_score_
            assert (detector.predict(new) == 1).all()
            # They are the least in-distribution all the same.
            scores = detector.score_samples(new)
            assert scores[:n_new].max() < scores[n_new:].min()


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


@pytest.mark.parametrize("beside_default", [True, False])
def test_a_search_gives_its_rate_to_detectors_without_one(beside_default):
    rng = np.random.default_rng(0)
    X = np.concatenate([rng.normal(size=(400, 3)), rng.normal(5, 1, size=(50, 3))])
    y = np.repeat([1, -1], [400, 50])
    without = [("svm", OneClassSVM()), ("forest", IsolationForest(random_state=0))]
    search = DetectorSearchCV(without, false_alarm_rate=0.2, beside_default=beside_default)
    with pytest.raises(ValueError, match=r"have none to set.*or set validation"):
        search.fit(X, y)
    search.set_params(validation=0.25).fit(X, y)
    calibrated = search.best_estimator_
    assert calibrated.false_alarm_rate == 0.2
    # Of 100 rows that are held out 19 are below the 20th.
    held_out = np.sort(split_held_out(400, y[:400], 0.25, 0)[1])
    assert (search.predict(X[held_out]) == -1).sum() == 19
    rate = (search.predict(rng.normal(size=(1000, 3))) == -1).mean()
    assert abs(rate - 0.2) < 4 * np.sqrt(0.2 * 0.8 * (1 / 100 + 1 / 1000))


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
