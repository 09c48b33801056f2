"""What holds for every detector that learns in batches.

Each is found by looking for ``partial_fit``: one that gets it is tested here from then on.
"""

import pickle
import tracemalloc
from numbers import Number

import numpy as np
import pytest
from _estimators import detectors
from hypothesis import Phase, given, settings
from hypothesis import strategies as st
from sklearn import config_context
from sklearn.base import BaseEstimator, clone
from sklearn.exceptions import NotFittedError
from sklearn.model_selection import KFold

from skood import Activations, _threshold_sample
from skood._sklearn import Interval, StrOptions
from skood.activations import Column, LinearHead, PackedBits
from skood.detectors import (
    GaussianActivationDetector,
    HammingNAPDetector,
    KNNDetector,
    MahalanobisDetector,
    NNGuideDetector,
    SHEDetector,
)
from skood.detectors._base_incremental import BaseIncrementalDetector, forget_batches
from skood.ensemble import AnyAlarmDetector, LayerEnsembleDetector

INCREMENTAL = {type(d).__name__: d for d in detectors() if hasattr(d, "partial_fit")}
every_detector = pytest.mark.parametrize("name", INCREMENTAL)
N = 96

# Those whose summary holds counts, bits, extremes or stored samples, or nothing: no sum is rounded.
EXACT = {
    "ActivationIntervalDetector",
    "ActivationNormDetector",
    "AnyAlarmDetector",
    "EnergyDetector",
    "EntropyDetector",
    "GENDetector",
    "GradNormDetector",
    "GramDetector",
    "HammingNAPDetector",
    "KNNDetector",
    "LayerEnsembleDetector",
    "MCDropoutDetector",
    "MaxLogitDetector",
    "MaxSoftmaxDetector",
    "NNGuideDetector",
    "NeuronCountDetector",
}
# Those that weigh layers by how samples that were learnt from score in them.
SEVERAL_THRESHOLDS = {"AnyAlarmDetector"}
OF_LAYERS = ["GaussianActivationDetector", "HammingNAPDetector", "KNNDetector"]
WEIGH_LAYERS = {"GramDetector", "LayerEnsembleDetector", "MahalanobisDetector"}


def samples(n_samples=N, seed=0, dtype=np.float64, texts=False):
    """Three classes in a pooled layer and one that the head reads, with some mistakes."""
    rng = np.random.default_rng(seed)
    label = np.arange(n_samples) % 3
    rows = np.random.default_rng(7).normal(size=(3, 12))[label]
    rows = np.maximum(rows + 0.5 * rng.normal(size=(n_samples, 12)), 0).astype(dtype)
    head = LinearHead(np.random.default_rng(8).normal(size=(3, 5)), input_layer="b")
    wrong = rng.random(n_samples) < 0.15
    logits = 0.3 * rng.normal(size=(n_samples, 3)) + 4 * np.eye(3)[(label + wrong) % 3]
    classes = ["x", "y", "z"] if texts else None
    layers = {"a": Column(rows[:, :7], layer="conv", pooling="avg"), "b": rows[:, 7:]}
    return Activations(layers, logits=logits.astype(dtype), head=head, classes=classes), label


def with_marks(label, texts=False):
    """Every seventh row is out-of-distribution."""
    marked = np.where(np.arange(len(label)) % 7 == 0, -1, label)
    if not texts:
        return marked
    return np.array([-1 if c == -1 else "xyz"[c] for c in marked], dtype=object)


A, LABEL = samples()
Y = with_marks(LABEL)
NEW, _ = samples(40, seed=1)


def unfitted(name, **params):
    """A detector that 96 rows are enough for."""
    detector, given = clone(INCREMENTAL[name]), {"n_neighbors": 5, **params}
    names = detector.get_params()
    for parameter, value in given.items():
        in_it = [p for p in names if p.endswith(f"__{parameter}")]
        detector.set_params(**dict.fromkeys([parameter] if parameter in names else in_it, value))
    return detector


def stream(detector, X, y, batches):
    for rows in batches:
        detector.partial_fit(X[rows], None if y is None else y[rows])
    return detector


def tree_of_merges(name, X, y, parts, rng):
    """Detectors of consecutive parts, neighbours merged in any order."""
    fitted = [stream(unfitted(name), X, y, [rows]) for rows in parts]
    while len(fitted) > 1:
        at = rng.integers(len(fitted) - 1)
        fitted[at].merge(fitted.pop(at + 1))
    return fitted[0]


def assert_alike(found, expected, rtol, path=""):
    """The same values in all attributes, whatever holds them."""
    mine, theirs = plain(found), plain(expected)
    if isinstance(theirs, dict):
        assert list(mine) == list(theirs), path
        for key in theirs:
            assert_alike(mine[key], theirs[key], rtol, f"{path}.{key}")
    elif isinstance(theirs, np.ndarray) and theirs.dtype.kind == "f" and rtol:
        np.testing.assert_allclose(mine, theirs, rtol=rtol, atol=rtol, err_msg=path)
    else:
        np.testing.assert_array_equal(mine, theirs, err_msg=path)


def plain(value):
    """A dict of what an object or a list holds, or an array."""
    if isinstance(value, PackedBits):
        return value.words
    if isinstance(value, BaseEstimator):
        return dict(sorted(public(value).items()))
    if isinstance(value, list | tuple):
        return dict(enumerate(value))
    if hasattr(value, "__dict__"):
        return dict(sorted(vars(value).items()))
    return value if isinstance(value, dict) else np.asarray(value)


def public(detector):
    names = [*vars(detector), "learnt_rows_", "training_rows_"]  # made when they are asked for
    public_names = [name for name in names if name.endswith("_") and name[0] != "_"]
    return {name: getattr(detector, name) for name in public_names if hasattr(detector, name)}


def assert_learnt_alike(found, expected, rtol, path=""):
    mine, theirs = public(found), public(expected)
    assert set(mine) == set(theirs)
    for attribute in theirs:
        assert_alike(mine[attribute], theirs[attribute], rtol, f"{path}.{attribute}")


def assert_same(name, found, expected, X=NEW, rtol=None):
    """What was learnt, the scores and the threshold; to the last bit where nothing is rounded."""
    rtol = (0 if name in EXACT else 1e-7) if rtol is None else rtol
    assert_learnt_alike(found, expected, rtol)
    assert_alike(found.score_samples(X), expected.score_samples(X), rtol)
    np.testing.assert_array_equal(found.predict(X), expected.predict(X))


def test_all_of_them_are_found():
    assert {"EnergyDetector", "GramDetector", "LayerEnsembleDetector", *OF_LAYERS} <= set(
        INCREMENTAL
    )
    for detector in INCREMENTAL.values():
        assert hasattr(detector, "merge")
    without = {type(d).__name__ for d in detectors()} - set(INCREMENTAL)
    assert "GroupProgressionDetector" in without


# One fit, in any pieces

some_splits = st.lists(st.integers(0, N), max_size=5).map(sorted)


@every_detector
@settings(max_examples=2, phases=[Phase.explicit, Phase.generate])
@given(cuts=some_splits, seed=st.integers(0, 99))
def test_any_batches_and_any_tree_of_merges_are_one_fit(name, cuts, seed):
    expected = unfitted(name).fit(A, Y)
    parts = [rows for rows in np.split(np.arange(N), cuts) if len(rows)]
    # The first batch needs something to learn from.
    if (Y[parts[0]] == -1).all() or len(parts[0]) < 8:
        parts = [np.arange(len(parts[0]) + 8), *(rows[rows >= len(parts[0]) + 8] for rows in parts)]
        parts = [rows for rows in parts if len(rows)]
    assert_same(name, stream(unfitted(name), A, Y, parts), expected)
    large = np.array_split(np.arange(N), 2 + seed % 3)
    rng = np.random.default_rng(seed)
    assert_same(name, tree_of_merges(name, A, Y, large, rng), expected)


@every_detector
def test_the_order_of_rows_does_not_matter(name):
    expected = unfitted(name).fit(A, Y)
    order = np.random.default_rng(1).permutation(N)
    for batches in (np.array_split(order, 4), np.split(order[::-1], [40, 41, 42])):
        found = stream(unfitted(name), A, Y, batches)
        np.testing.assert_allclose(found.score_samples(NEW), expected.score_samples(NEW), rtol=1e-7)
        assert found.offset_ == pytest.approx(expected.offset_, rel=1e-7)
        np.testing.assert_allclose(
            np.sort(found.training_scores_), np.sort(expected.training_scores_), rtol=1e-7
        )
        rows = np.concatenate(batches)
        assert set(rows[found.learnt_rows_]) == set(expected.learnt_rows_)


@every_detector
def test_classes_may_come_one_after_the_other(name):
    by_class = np.argsort(Y, kind="stable")[np.sum(Y == -1) :]
    batches = np.array_split(by_class, 6)
    expected = unfitted(name).fit(A[by_class], Y[by_class])
    assert_same(name, stream(unfitted(name), A, Y, batches), expected)


@every_detector
def test_single_rows_add_up(name):
    some = slice(0, 30)
    expected = unfitted(name).fit(A[some], Y[some])
    batches = [slice(0, 25), *(slice(row, row + 1) for row in range(25, 30))]
    assert_same(name, stream(unfitted(name), A, Y, batches), expected)


@every_detector
def test_fit_learns_in_as_few_rows_at_a_time_as_memory_allows(name, hold_at_most):
    expected = unfitted(name).fit(A, Y)
    scores = expected.score_samples(NEW)
    hold_at_most(20 * 15)
    found = unfitted(name).fit(A, Y)
    assert_alike(found.score_samples(NEW), scores, 0 if name in EXACT else 1e-7)
    assert_learnt_alike(found, expected, 0 if name in EXACT else 1e-7)


@every_detector
def test_arrays_are_learnt_in_batches(name):
    rows = np.asarray(A)
    marks = np.where(Y == -1, -1, 1)
    expected = unfitted(name).fit(rows, marks)
    batches = np.array_split(np.arange(N), 3)
    assert_same(name, stream(unfitted(name), rows, marks, batches), expected, rows[:40])
    merged = tree_of_merges(name, rows, marks, batches, np.random.default_rng(0))
    assert_same(name, merged, expected, rows[:40])


@every_detector
@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_texts_are_classes_in_either_precision(name, dtype):
    X, label = samples(dtype=dtype, texts=True)
    y = with_marks(label, texts=True)
    new, _ = samples(40, seed=1, dtype=dtype, texts=True)
    expected = unfitted(name).fit(X, y)
    found = stream(unfitted(name), X, y, np.array_split(np.arange(N), 3))
    rtol = None if dtype == np.float64 or name in EXACT else 1e-4
    assert_same(name, found, expected, new, rtol)


@pytest.mark.parametrize(
    "name", [name for name, d in INCREMENTAL.items() if "group_by" in d.get_params(deep=False)]
)
@pytest.mark.parametrize("group_by", ["prediction", "label", "correct"])
def test_batches_count_for_the_classes_that_fit_finds(name, group_by):
    expected = unfitted(name, group_by=group_by).fit(A, Y)
    found = unfitted(name, group_by=group_by)
    assert_same(name, stream(found, A, Y, np.array_split(np.arange(N), 3)), expected)


@every_detector
def test_labels_may_be_left_out(name):
    try:
        expected = unfitted(name).fit(A)
    except ValueError as error:
        pytest.skip(str(error))
    assert_same(name, stream(unfitted(name), A, None, np.array_split(np.arange(N), 3)), expected)


# Batches that teach little


@pytest.mark.parametrize("name", [n for n, d in INCREMENTAL.items() if not d._learns_from_ood])
def test_a_batch_of_ood_rows_alone_teaches_nothing(name):
    detector = unfitted(name).fit(A, Y)
    scores, offset = detector.score_samples(NEW), detector.offset_
    detector.partial_fit(A[:5], np.full(5, -1))
    np.testing.assert_array_equal(detector.score_samples(NEW), scores)
    assert detector.offset_ == offset
    assert detector.n_samples_seen_ == N + 5


@every_detector
def test_ood_rows_may_come_alone(name):
    order = np.argsort(Y == -1, kind="stable")
    n_inside = int(np.sum(Y != -1))
    expected = unfitted(name).fit(A[order], Y[order])
    batches = [
        order[:40],
        order[40:n_inside],
        order[n_inside : n_inside + 5],
        order[n_inside + 5 :],
    ]
    assert_same(name, stream(unfitted(name), A, Y, batches), expected)


@every_detector
def test_the_first_batch_needs_a_row_to_learn_from(name):
    detector = unfitted(name)
    with pytest.raises(ValueError, match="none is left"):
        detector.partial_fit(A[:5], np.full(5, -1))
    assert public(detector) == {}


OUTSIDE_FIRST = np.argsort(Y == -1, kind="stable")
WRONG_FIRST = np.argsort((A.predictions == LABEL) | (Y == -1), kind="stable")
CLASS_FIRST = np.argsort(np.where(Y == -1, 9, A.predictions), kind="stable")


@pytest.mark.parametrize(
    ("detector", "order", "n_first"),
    [
        (KNNDetector(n_neighbors=5), OUTSIDE_FIRST, 1),
        (NNGuideDetector(n_neighbors=5), OUTSIDE_FIRST, 1),
        (SHEDetector(), WRONG_FIRST, 2),
        (GaussianActivationDetector(group_by="correct"), WRONG_FIRST, 1),
        (HammingNAPDetector(group_by="correct"), WRONG_FIRST, 1),
        (MahalanobisDetector(relative=True, group_by="prediction"), CLASS_FIRST, 20),
        (LayerEnsembleDetector(KNNDetector(n_neighbors=5)), OUTSIDE_FIRST, 1),
        (LayerEnsembleDetector(KNNDetector(n_neighbors=5), combine="weighted"), OUTSIDE_FIRST, 40),
        (AnyAlarmDetector([("knn", KNNDetector(n_neighbors=5))]), OUTSIDE_FIRST, 1),
    ],
)
def test_what_is_too_little_for_scores_is_kept_until_more_comes(detector, order, n_first):
    name = type(detector).__name__
    first, others = order[:n_first], order[n_first:]
    with pytest.raises(ValueError, match=r"needs|none of the"):
        clone(detector).fit(A[first], Y[first])
    expected = clone(detector).fit(A[order], Y[order])
    found = clone(detector).partial_fit(A[first], Y[first])
    for call in (found.score_samples, found.predict):
        with pytest.raises(
            NotFittedError, match=rf"seen, {n_first}, are too few\. .*partial_fit or merge"
        ):
            call(NEW)
    before = dict(vars(found))
    with pytest.raises(ValueError, match="but y has"):
        found.partial_fit(A, Y[1:])
    assert vars(found) == before
    begun, copy = pickle.loads(pickle.dumps(found)), pickle.loads(pickle.dumps(found))
    assert_same(name, found.partial_fit(A[others], Y[others]), expected)
    rest = clone(detector).partial_fit(A[others], Y[others])
    assert_same(name, begun.merge(rest), expected)
    # As a leaf of a tree of merges, on the right, too.
    merged = rest.merge(copy)
    np.testing.assert_allclose(merged.score_samples(NEW), expected.score_samples(NEW), rtol=1e-7)
    assert_same(name, copy.fit(A[order], Y[order]), expected)


def test_a_detector_that_turns_out_to_know_too_little_is_not_fitted_any_more():
    wrong = WRONG_FIRST[:2]
    assert len(set(LABEL[wrong])) == 2
    detector = SHEDetector().partial_fit(A[wrong[:1]], Y[wrong[:1]])
    detector.predict(NEW)  # one label for all is no class
    detector.partial_fit(A[wrong[1:]], Y[wrong[1:]])
    with pytest.raises(NotFittedError, match="none of the 2 predictions equals its label"):
        detector.predict(NEW)


# Rows that are held out


@pytest.mark.parametrize(
    ("name", "validation"),
    [
        *((name, 0.25) for name in sorted(set(INCREMENTAL) - SEVERAL_THRESHOLDS)),
        *((name, KFold(4, shuffle=True, random_state=0)) for name in OF_LAYERS),
    ],
)
def test_rows_that_are_held_out_set_the_threshold(name, validation):
    detector = unfitted(name, validation=validation, false_alarm_rate=0.2)
    batches = np.array_split(np.arange(N), 3)
    stream(detector, A, Y, batches)
    learnt, setting = detector.learnt_rows_, detector.training_rows_
    assert set(learnt).isdisjoint(setting)
    np.testing.assert_array_equal(np.union1d(learnt, setting), np.flatnonzero(Y != -1))
    learnable = np.union1d(learnt, np.flatnonzero(Y == -1))
    alone = unfitted(name, false_alarm_rate=0.2).fit(A[learnable], Y[learnable])
    expected = alone.score_samples(A[setting])
    np.testing.assert_allclose(detector.training_scores_, expected, rtol=1e-7)
    np.testing.assert_allclose(detector.score_samples(NEW), alone.score_samples(NEW), rtol=1e-7)
    first, *others = (
        unfitted(name, validation=validation, false_alarm_rate=0.2).partial_fit(A[rows], Y[rows])
        for rows in batches
    )
    for other in others:
        first.merge(other)
    scores = first.score_samples(A[first.training_rows_])
    np.testing.assert_allclose(first.training_scores_, scores, rtol=1e-7)
    rank = int(np.floor(0.2 * (len(scores) + 1)))
    assert first.offset_ == pytest.approx(np.sort(scores)[rank - 1], rel=1e-7)


# A sample of all rows sets the threshold


@pytest.mark.parametrize(
    "name", sorted(set(INCREMENTAL) - SEVERAL_THRESHOLDS - {"AdaptiveEnsembleDetector"})
)
def test_no_order_changes_the_rows_that_set_the_threshold(name, monkeypatch):
    monkeypatch.setattr(_threshold_sample, "CAPACITY", 0)
    monkeypatch.setattr(_threshold_sample, "MIN_ROWS", 30)
    everything = unfitted(name).fit(A, Y)
    rng = np.random.default_rng(0)
    found = []
    for n_parts, order in ((2, np.arange(N)), (5, rng.permutation(N))):
        detector = stream(unfitted(name), A, Y, np.array_split(order, n_parts))
        found.append((order, detector))
        merged = tree_of_merges(name, A, Y, np.array_split(order, 3), rng)
        found.append((order, merged))
    first = found[0][1]
    assert len(first.training_scores_) == len(first.training_rows_) == 30
    for order, detector in found:
        assert detector.offset_ == pytest.approx(first.offset_, rel=1e-7)
        np.testing.assert_array_equal(np.sort(order[detector.training_rows_]), first.training_rows_)
        np.testing.assert_allclose(
            np.sort(detector.training_scores_), np.sort(first.training_scores_), rtol=1e-7
        )
    # The threshold of fit comes from all rows, also where few are kept.
    assert len(everything.training_rows_) == np.sum(Y != -1)
    if np.allclose(everything.score_samples(NEW), first.score_samples(NEW), rtol=1e-7):
        of_few = np.isin(everything.training_rows_, first.training_rows_)
        np.testing.assert_allclose(
            everything.training_scores_[of_few], first.training_scores_, rtol=1e-7
        )
    else:  # The samples that are kept weigh the layers, too.
        assert name in WEIGH_LAYERS


# Life of a detector


@every_detector
def test_a_pickle_goes_on_learning_and_a_clone_begins_anew(name):
    expected = unfitted(name).fit(A, Y)
    half = unfitted(name).partial_fit(A[:50], Y[:50])
    learnt = half.score_samples(NEW)
    copy = pickle.loads(pickle.dumps(half)).partial_fit(A[50:], Y[50:])
    assert_same(name, copy, expected)
    np.testing.assert_array_equal(half.score_samples(NEW), learnt)
    assert_same(name, clone(copy).partial_fit(A, Y), expected)
    assert_same(name, copy.fit(A, Y), expected)


@every_detector
def test_what_was_given_may_change_afterwards(name):
    layers = {layer: values.copy() for layer, values in A.items()}
    logits = A.logits.copy()
    X = Activations(layers, logits=logits, head=A.head)
    detector = unfitted(name).fit(X[:50], Y[:50])
    for array in (*layers.values(), logits):
        array[:50] = 9
    assert_same(name, detector.partial_fit(X[50:], Y[50:]), unfitted(name).fit(A, Y))


@every_detector
def test_fit_keeps_no_samples_that_memory_does_not_allow(name, monkeypatch):
    expected = unfitted(name).fit(A, Y)
    monkeypatch.setattr("skood._memory.memory_left", lambda: 0.0)
    detector = unfitted(name).fit(A, Y)
    assert_same(name, detector, expected)
    with pytest.raises(ValueError, match=r"begin with partial_fit"):
        detector.partial_fit(A, Y)
    assert_same(name, detector, expected)


def kept_samples(value):
    """All samples for a threshold that an object and its parts hold."""
    if isinstance(value, _threshold_sample.ThresholdSample):
        return [value]
    if isinstance(value, dict):
        parts = value.values()
    elif isinstance(value, list | tuple):
        parts = value
    else:
        parts = getattr(value, "__dict__", {}).values()
    return [sample for part in parts for sample in kept_samples(part)]


@pytest.mark.parametrize("name", ["AnyAlarmDetector", "LayerEnsembleDetector"])
@pytest.mark.parametrize("validation", [None, 0.5])
def test_ensembles_keep_no_samples_where_memory_allows_those_of_a_member_alone(
    name, validation, monkeypatch
):
    inside = A[Y != -1]
    n_learnt = len(inside) if validation is None else len(inside) // 2
    n_bytes = n_learnt * _threshold_sample.bytes_of_row(inside)
    monkeypatch.setattr("skood._memory.memory_left", lambda: 8.0 * n_bytes - 1)
    detector = unfitted(name, validation=validation).fit(A, Y)
    assert not kept_samples(detector)
    with pytest.raises(ValueError, match=r"begin with partial_fit"):
        detector.partial_fit(A, Y)
    monkeypatch.setattr("skood._memory.memory_left", lambda: 32.0 * n_bytes)
    assert kept_samples(unfitted(name, validation=validation).fit(A, Y))


@every_detector
def test_what_only_batches_need_can_be_dropped(name):
    detector, other = (unfitted(name).fit(A, Y) for _ in range(2))
    scores = detector.score_samples(NEW)
    forget_batches(detector)
    np.testing.assert_array_equal(detector.score_samples(NEW), scores)
    for call in (
        lambda: detector.partial_fit(A, Y),
        lambda: detector.merge(other),
        lambda: other.merge(detector),
    ):
        with pytest.raises(ValueError, match=r"fitted inside of another|with partial_fit"):
            call()
    assert_same(name, detector.fit(A, Y), other)


def other_value(detector, name):
    """Another value that a parameter may have; None where none is found."""
    value = getattr(detector, name)
    constraints = type(detector)._parameter_constraints[name]
    options = [o for c in constraints if isinstance(c, StrOptions) for o in c.options]
    numbers = [c for c in constraints if isinstance(c, Interval)]
    if isinstance(value, bool):
        return not value
    if isinstance(value, list):
        return None
    if others := sorted(set(options) - {value}):
        return others[0]
    candidates = [value / 2, value + 1] if isinstance(value, Number) else [0.5, 2]
    possible = (c for c in candidates for i in numbers if i.is_satisfied_by(c) and c != value)
    return next(possible, None)


def parameters(name):
    names = INCREMENTAL[name].get_params(deep=False)
    return {p: v for p in names if (v := other_value(unfitted(name), p)) is not None}


@pytest.mark.parametrize(
    ("name", "parameter", "value"),
    [(name, *changed) for name in INCREMENTAL for changed in parameters(name).items()],
)
def test_parameters_change_between_batches_only_where_nothing_learnt_depends_on_them(
    name, parameter, value
):
    detector = unfitted(name).partial_fit(A[:50], Y[:50])
    before = dict(vars(detector))
    detector.set_params(**{parameter: value})
    if not hasattr(detector, "partial_fit"):
        assert "all" in detector._why_not_in_batches()
    elif parameter not in detector._params_after_learning:
        with pytest.raises(ValueError, match=f"{parameter}=.* was set after this {name} was"):
            detector.partial_fit(A[50:], Y[50:])
        assert vars(detector) == {**before, parameter: value}
    else:
        expected = unfitted(name, **{parameter: value}).fit(A, Y)
        assert_same(name, detector.partial_fit(A[50:], Y[50:]), expected)
    if hasattr(detector, "merge"):
        with pytest.raises(ValueError, match=f"same parameters.*{parameter}"):
            detector.merge(unfitted(name).fit(A, Y))


@every_detector
def test_a_batch_that_is_refused_changes_nothing(name):
    detector = unfitted(name).fit(A, Y)
    before, scores = dict(vars(detector)), detector.score_samples(NEW)
    broken = {layer: values.copy() for layer, values in A.items()}
    logits = A.logits.copy()
    for array in (*broken.values(), logits):
        array[77, 0] = np.nan
    for X, y, message in (
        (Activations(broken, logits=logits, head=A.head), Y, "NaN.* row 77"),
        (Activations({"other": np.ones((N, 2))}), Y, "layer|logits|head"),
        (np.asarray(A), Y, "Activations"),
        (A, Y[1:], f"{N} samples, but y has {N - 1}"),
        (A[:0], Y[:0], "0 samples"),
    ):
        with pytest.raises(ValueError, match=message):
            detector.partial_fit(X, y)
        assert vars(detector) == before
    np.testing.assert_array_equal(detector.score_samples(NEW), scores)


@every_detector
def test_a_refused_merge_changes_nothing(name):
    detector = unfitted(name).fit(A, Y)
    before = dict(vars(detector))
    texts, label = samples(texts=True)
    for other, error, message in (
        (unfitted(name, false_alarm_rate=0.2).fit(A, Y), ValueError, "same parameters"),
        (unfitted(name), NotFittedError, "not fitted yet"),
        (A, TypeError, f"Only another {name}"),
        (unfitted(name).fit(texts, with_marks(label, texts=True)), ValueError, "classes"),
    ):
        with pytest.raises(error, match=message):
            detector.merge(other)
        assert vars(detector) == before
    with pytest.raises(NotFittedError):
        unfitted(name).merge(detector)


@every_detector
def test_arrays_and_tables_are_merged_with_their_like_only(name):
    pd = pytest.importorskip("pandas")
    rows = np.asarray(A)
    table = pd.DataFrame(rows, columns=list("abcdefghijkl"))
    detector = unfitted(name).fit(rows)
    for other, message in (
        (unfitted(name).fit(rows[:, 1:]), "same layers"),
        (unfitted(name).fit(table), "same feature names"),
        (unfitted(name).fit(A, Y), "same layers"),
    ):
        with pytest.raises(ValueError, match=message):
            detector.merge(other)
        with pytest.raises(ValueError, match=message):
            other.merge(detector)
    renamed = unfitted(name).fit(table.rename(columns={"a": "z"}))
    with pytest.raises(ValueError, match="same feature names"):
        unfitted(name).fit(table).merge(renamed)


@pytest.mark.parametrize("name", OF_LAYERS)
def test_only_one_of_both_knows_predictions(name):
    bare = Activations(dict(A.items()))
    with pytest.raises(ValueError, match="same use of predictions"):
        unfitted(name).fit(A).merge(unfitted(name).fit(bare))


def of_network(classes):
    """Activations of a network with three classes; of another one for other classes."""
    return Activations(dict(A.items()), logits=A.logits, classes=classes, head=A.head)


NETWORKS = {
    "texts": (["a", "b", "c"], ["d", "e", "f"]),
    "numbers": ([0, 1, 2], [10, 11, 12]),
    "one class more": ([0, 1, 2], [0, 1, 3]),
    "another order": (["a", "b", "c"], ["b", "a", "c"]),
    "texts and numbers": (["a", "b", "c"], [0, 1, 2]),
}


@every_detector
@pytest.mark.parametrize(("mine", "theirs"), NETWORKS.values(), ids=list(NETWORKS))
def test_detectors_of_other_networks_are_not_merged(name, mine, theirs):
    def labels(classes):
        return np.asarray(classes)[LABEL]

    detector = unfitted(name).fit(of_network(mine), labels(mine))
    before = dict(vars(detector))
    message = f"comes from a network.*classes {theirs}, but .*{mine}".replace("[", r"\[")
    with pytest.raises(ValueError, match=f"The other {name} {message}"):
        detector.merge(unfitted(name).fit(of_network(theirs), labels(theirs)))
    # Batches of such a network are refused in the same words.
    with pytest.raises(ValueError, match=f"X {message}"):
        detector.partial_fit(of_network(theirs), labels(theirs))
    assert vars(detector) == before


READ_THE_HEAD = [name for name, d in INCREMENTAL.items() if "head_ : " in type(d).__doc__]


@pytest.mark.parametrize("name", READ_THE_HEAD)
def test_what_comes_from_a_network_with_another_head_is_refused(name):
    detector = unfitted(name).fit(A, Y)
    before = dict(vars(detector))
    others = A.assign(head=LinearHead(A.head.weight + 1, input_layer="b"))
    with pytest.raises(ValueError, match=f"The other {name} .* another head.* than this {name}"):
        detector.merge(unfitted(name).fit(others, Y))
    with pytest.raises(ValueError, match=f"X .* another head.* than this {name}"):
        detector.partial_fit(others, Y)
    assert vars(detector) == before
    # A batch without a head is read by the one that is known.
    detector.partial_fit(A.assign(head=None), Y)


@pytest.mark.parametrize("name", OF_LAYERS)
@pytest.mark.parametrize("way", ["merge", "partial_fit"])
def test_classes_of_a_later_batch_are_known_from_then_on(name, way):
    named = of_network(["a", "b", "c"])
    bare = Activations(dict(named.items()), predictions=named.predictions)
    detector = unfitted(name).fit(bare)
    if way == "merge":
        detector.merge(unfitted(name).fit(named))
    else:
        detector.partial_fit(named)
    with pytest.raises(ValueError, match=r"classes \['a', 'b', 'd'\], but .*\['a', 'b', 'c'\]"):
        detector.merge(unfitted(name).fit(of_network(["a", "b", "d"])))
    with pytest.raises(ValueError, match=r"classes \['a', 'b', 'd'\], but .*\['a', 'b', 'c'\]"):
        detector.score_samples(of_network(["a", "b", "d"]))


# Memory


class Whole(BaseIncrementalDetector):
    """Learns the mean, or refuses batches."""

    needs_all = ""
    n_learnt = 0

    def _learn(self, X, y):
        self.n_learnt += 1
        return Total(np.asarray(X).sum(), len(X))

    def _finish(self, summary):
        self.mean_ = summary.total / summary.count

    def _score_samples(self, X):
        return -np.abs(np.asarray(X).mean(axis=1) - self.mean_)

    def _why_not_in_batches(self):
        return self.needs_all


class Total:
    def __init__(self, total, count):
        self.total, self.count = total, count

    def merge(self, other):
        return Total(self.total + other.total, self.count + other.count)


def test_what_needs_all_samples_lacks_the_methods_and_learns_from_one_batch(hold_at_most):
    hold_at_most(12)
    assert Whole().fit(A).n_learnt == N
    detector = Whole()
    detector.needs_all = "medians of all are needed."
    assert detector.fit(A).n_learnt == 1
    for method in ("partial_fit", "merge"):
        assert not hasattr(detector, method)
        with pytest.raises(AttributeError) as caught:
            getattr(detector, method)
        assert "Whole learns from all samples at once: medians of all" in str(
            caught.value.__cause__
        )


@pytest.fixture(scope="module")
def on_disk(tmp_path_factory):
    """6 MB of activations in two files, with logits of three classes."""
    n_samples, folder = 6000, tmp_path_factory.mktemp("rows")
    rng = np.random.default_rng(0)
    label = np.arange(n_samples) % 3
    layers = {}
    for name in ("a", "b"):
        path = folder / f"{name}.npy"
        centers = rng.normal(size=(3, 64))
        np.save(path, np.maximum(centers[label] + rng.normal(size=(n_samples, 64)), 0))
        layers[name] = np.load(path, mmap_mode="r")
    head = LinearHead(rng.normal(size=(3, 64)), input_layer="b")
    logits = rng.normal(size=(n_samples, 3)) + 4 * np.eye(3)[label]
    X = Activations(layers, logits=logits, head=head)
    return X[rng.permutation(n_samples)], label


@every_detector
@pytest.mark.parametrize("method", ["fit", "partial_fit"])
def test_learning_and_scores_hold_few_rows_of_what_is_on_disk(name, method, on_disk, monkeypatch):
    X, _ = on_disk
    y = X.predictions
    monkeypatch.setattr(_threshold_sample, "CAPACITY", 2**18)
    monkeypatch.setattr(_threshold_sample, "MIN_ROWS", 100)
    detector = unfitted(name, max_samples=300, n_neighbors=50)
    with config_context(working_memory=0.25):
        # Libraries that are imported at the first use count for nothing.
        clone(detector).fit(X[:300], y[:300]).score_samples(X[:5])
        tracemalloc.start()
        scores = getattr(detector, method)(X, y).score_samples(X)
        peak = tracemalloc.get_traced_memory()[1]
        tracemalloc.stop()
    assert peak < 4.5e6, f"{peak / 1e6:.1f} MB"
    np.testing.assert_allclose(scores[:50], detector.score_samples(X[:50]), rtol=1e-7)
