"""What batches teach of moments, extremes and labels, and the detectors that learn from these."""

import pickle
import warnings

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from sklearn.base import clone
from sklearn.covariance import LedoitWolf
from sklearn.exceptions import NotFittedError
from sklearn.pipeline import make_pipeline

from skood import Activations, ClusterDistanceDetector, NeuronCountDetector
from skood.activations import Column
from skood.detectors import (
    ActivationIntervalDetector,
    ActivationNormDetector,
    GramDetector,
    MahalanobisDetector,
    NACDetector,
    SHEDetector,
    _tied_gaussian,
    _tied_moments,
)
from skood.detectors._extremes import Extremes
from skood.detectors._labels_seen import LabelsSeen
from skood.detectors._tied_moments import TiedRows
from skood.ensemble import AnyAlarmDetector, LayerEnsembleDetector
from skood.preprocessing import LayerSelector


def stream(detector, X, y, batches):
    for rows in batches:
        detector.partial_fit(X[rows], None if y is None else y[rows])
    return detector


# Moments

rows_of_classes = st.tuples(st.integers(1, 12), st.integers(1, 4), st.integers(0, 999)).map(
    lambda args: (
        np.random.default_rng(args[2]).integers(0, 3, size=args[:2]).astype(float),
        np.random.default_rng(args[2] + 1).integers(0, 3, size=args[0]),
    )
)


def moments(rows, classes, rounding=0.0):
    labels, codes = np.unique(classes, return_inverse=True)
    return TiedRows.of("fc", rows, codes, labels, rounding)


def assert_moments(found, rows, classes):
    """By the formulas, class by class."""
    labels = np.unique(classes)
    np.testing.assert_array_equal(found.labels, labels)
    members = [rows[classes == label] for label in labels]
    np.testing.assert_array_equal(found.counts, [len(m) for m in members])
    np.testing.assert_allclose(found.means, [m.mean(axis=0) for m in members], atol=1e-12)
    residuals = [m - m.mean(axis=0) for m in members]
    scatter = sum(r.T @ r for r in residuals)
    np.testing.assert_allclose(found.scatter, scatter, atol=1e-9)


@given(rows_of_classes, st.integers(0, 12), st.sampled_from([0.0, 0.1, 1e6]))
def test_moments_of_parts_are_those_of_the_whole(data, cut, offset):
    rows, classes = data[0] + offset, data[1]
    parts = [(rows[:cut], classes[:cut]), (rows[cut:], classes[cut:])]
    first, second = (moments(*part) for part in parts)
    for whole in (
        first.merge(second),
        second.merge(first),
        first.summed().merge(second.summed()),
    ):
        assert_moments(whole.summed(), rows, classes)
    # Where no row differs from its class mean, there is no rounding either.
    varies = [np.ptp(rows[classes == c], axis=0) > 0 for c in np.unique(classes)]
    np.testing.assert_array_equal(first.merge(second).varying, np.any(varies, axis=0))


@given(rows_of_classes, st.integers(1, 12))
def test_rows_that_are_taken_away_leave_the_moments_of_the_others(data, cut):
    rows, classes = data
    if cut >= len(rows):
        return
    left = moments(rows, classes).summed().without(moments(rows[:cut], classes[:cut]).summed())
    assert_moments(left, rows[cut:], classes[cut:])
    varies = [np.ptp(rows[cut:][classes[cut:] == c], axis=0) > 0 for c in set(classes[cut:])]
    np.testing.assert_array_equal(left.varying, np.any(varies, axis=0))


@given(rows_of_classes)
def test_pooled_moments_are_those_of_one_class(data):
    rows, classes = data
    label = np.array(["all"])
    for pooled in (
        moments(rows, classes).summed().pooled(label),
        moments(rows, classes).pooled(label).summed(),
    ):
        assert_moments(pooled, rows, np.full(len(rows), "all"))
        np.testing.assert_array_equal(pooled.varying, np.ptp(rows, axis=0) > 0)


def test_differences_of_means_up_to_rounding_are_none():
    one, other = np.full((3, 2), 0.1), np.full((2, 2), [0.1, 0.1 * (1 + 1e-8)])
    classes = np.zeros(5, dtype=int)
    merged = moments(one, classes[:3], 1e-7).merge(moments(other, classes[:2], 1e-7))
    assert not merged.scatter.any()
    assert moments(one, classes[:3]).merge(moments(other, classes[:2])).varying.tolist() == [
        False,
        True,
    ]


def test_moments_are_not_changed_by_a_merge():
    rng = np.random.default_rng(0)
    parts = [moments(rng.normal(size=(9, 3)), np.arange(9) % k).summed() for k in (2, 3)]
    before = pickle.dumps(parts)
    parts[0].merge(parts[1])
    parts[1].without(parts[1])
    assert pickle.dumps(parts) == before


# Extremes


@given(rows_of_classes, st.integers(0, 12))
def test_extremes_of_parts_are_those_of_the_whole(data, cut):
    rows, classes = data
    labels = np.unique(classes)

    def extremes(rows, classes):
        labels, codes = np.unique(classes, return_inverse=True)
        return Extremes.of([(codes, rows)], labels, rows.shape[1:])

    found = extremes(rows[:cut], classes[:cut]).merge(extremes(rows[cut:], classes[cut:]))
    np.testing.assert_array_equal(found.labels, labels)
    ends = found.ends_of(np.searchsorted(labels, classes), np.ones(len(rows), dtype=bool))
    lower, upper = ends(slice(None))
    for row, label in enumerate(classes):
        members = rows[classes == label]
        np.testing.assert_array_equal(found.lower[labels == label][0], members.min(axis=0))
        np.testing.assert_array_equal(found.upper[labels == label][0], members.max(axis=0))
        others = rows[(classes == label) & (np.arange(len(rows)) != row)]
        # A sample that sets no end is inside of the ranges of the others, which are as wide.
        low, high = others.min(axis=0, initial=np.inf), others.max(axis=0, initial=-np.inf)
        np.testing.assert_array_equal(rows[row] < lower[row], rows[row] < low)
        np.testing.assert_array_equal(rows[row] > upper[row], rows[row] > high)
        is_end = (rows[row] == members.min(axis=0)) & (rows[row] < low)
        np.testing.assert_array_equal(lower[row][is_end], low[is_end])
    pooled = found.pooled(np.array([7]))
    np.testing.assert_array_equal(pooled.smallest[:, 0], np.sort(padded(rows), axis=0)[:2])
    assert pooled.counts.tolist() == [len(rows)]


def padded(rows):
    """The same, and a row that no value is as large as."""
    return np.concatenate([rows, np.full((1, rows.shape[1]), np.inf)])


# Labels that may be marks


def test_one_label_is_a_mark_and_two_are_classes():
    ones, twos, none = (LabelsSeen.of(y, 3) for y in (np.ones(3, dtype=int), np.full(3, 2), None))
    nothing = LabelsSeen.of(None, 0)
    assert not ones.merge(ones).tell_classes
    assert ones.merge(twos).tell_classes
    assert ones.merge(nothing).merge(twos).tell_classes
    assert not none.merge(ones).tell_classes
    for parts in ([none, ones, twos], [twos, none, ones], [ones, twos, none]):
        with pytest.raises(ValueError, match=r"y came with some batches .*\[1, 2\]"):
            parts[0].merge(parts[1]).merge(parts[2])
    with pytest.raises(ValueError, match="Class labels must be of one kind"):
        ones.merge(LabelsSeen.of(np.array(["cat"]), 1))


@pytest.fixture(scope="module")
def data():
    rng = np.random.default_rng(0)
    y = np.arange(150) % 3
    layers = {
        "a": np.maximum(rng.normal(size=(150, 6)) + rng.normal(size=(3, 6))[y], 0),
        "b": rng.normal(size=(150, 9)) + rng.normal(size=(3, 9))[y],
    }
    predictions = np.where(rng.random(150) < 0.9, y, (y + 1) % 3)
    return Activations(layers, predictions=predictions), y


def by_class(y):
    """Batches of one class each, and one row of each first."""
    return [np.flatnonzero(y == label) for label in np.unique(y)]


@pytest.mark.parametrize(
    "detector",
    [
        MahalanobisDetector(),
        MahalanobisDetector(normalize=True, shrinkage=0.1),
        ActivationNormDetector(),
        GramDetector(powers=[1, 3]),
    ],
    ids=lambda detector: type(detector).__name__,
)
@pytest.mark.parametrize("with_predictions", [True, False])
def test_batches_of_one_class_each_are_classes(data, detector, with_predictions):
    A, y = data
    A = A if with_predictions else Activations(dict(A.items()))
    if isinstance(detector, GramDetector) and not with_predictions:
        pytest.skip("has nothing to look classes up under")
    batches = by_class(y)
    order = np.concatenate(batches)
    expected = type(detector)(**detector.get_params()).fit(A[order], y[order])
    found = stream(type(detector)(**detector.get_params()), A, y, batches)
    np.testing.assert_allclose(found.score_samples(A), expected.score_samples(A), rtol=1e-8)
    np.testing.assert_allclose(found.training_scores_, expected.training_scores_, rtol=1e-8)
    parts = [type(detector)(**detector.get_params()).fit(A[rows], y[rows]) for rows in batches]
    merged = parts[0].merge(parts[1].merge(parts[2]))
    np.testing.assert_allclose(merged.score_samples(A), expected.score_samples(A), rtol=1e-8)


def test_labels_of_some_batches_alone_are_refused(data):
    A, y = data
    detector = MahalanobisDetector().partial_fit(A[:50])
    before = detector.score_samples(A)
    with pytest.raises(ValueError, match="Give them with every batch, or with none"):
        detector.partial_fit(A[50:], y[50:])
    np.testing.assert_array_equal(detector.score_samples(A), before)
    # One label for all is no class.
    expected = MahalanobisDetector().fit(A[:80])
    found = MahalanobisDetector().partial_fit(A[:50]).partial_fit(A[50:80], np.ones(30))
    np.testing.assert_allclose(found.score_samples(A), expected.score_samples(A))


# Mahalanobis


def test_constant_units_stay_without_weight_in_batches():
    rng = np.random.default_rng(0)
    X = np.hstack([rng.normal(size=(60, 3)), np.full((60, 1), 0.1), rng.normal(size=(60, 1)) * 0])
    y = np.arange(60) % 2
    X[:, 4] = y / 3  # varies between classes only
    detector = stream(MahalanobisDetector(), X, y, np.array_split(np.arange(60), 7))
    assert not detector.precision_["X"][3:].any()
    np.testing.assert_allclose(
        detector.precision_["X"], MahalanobisDetector().fit(X, y).precision_["X"], atol=1e-12
    )


@pytest.mark.parametrize("dtype", [np.float16, np.float32, np.float64])
def test_rows_in_proportion_are_blind_in_batches_too(dtype):
    factors = np.random.default_rng(0).uniform(1, 9, size=(60, 1))
    X = (factors * [[0.1, 0.7, 0.3]]).astype(dtype)
    with pytest.warns(UserWarning, match="does not vary within classes"):
        detector = stream(
            MahalanobisDetector(normalize=True), X, None, np.array_split(np.arange(60), 9)
        )
    assert not detector.precision_["X"].any()
    np.testing.assert_array_equal(detector.training_scores_, 0)


@pytest.mark.parametrize("relative", [False, True])
@pytest.mark.parametrize("params", [{}, {"normalize": True, "shrinkage": 0.1}], ids=str)
def test_rows_marked_ood_weigh_the_layers_of_streams(data, relative, params):
    A, y = data
    y = np.where(np.arange(150) % 6 == 0, -1, y)
    expected = MahalanobisDetector(relative=relative, **params).fit(A, y)
    found = MahalanobisDetector(relative=relative, **params)
    stream(found, A, y, [slice(0, 30), slice(30, 35), slice(35, 150)])
    assert not np.allclose(expected.layer_weights_, 1)
    np.testing.assert_allclose(found.layer_weights_, expected.layer_weights_, rtol=1e-6)
    assert found.class_accuracy_ == pytest.approx(expected.class_accuracy_)
    assert found.offset_ == pytest.approx(expected.offset_)


def test_a_stream_of_relative_distances_may_begin_with_one_class(data):
    A, y = data
    rows = A["a"]
    detector = MahalanobisDetector(relative=True).partial_fit(rows[y == 0], y[y == 0])
    with pytest.raises(NotFittedError, match="needs samples of several classes"):
        detector.score_samples(rows)
    for label in (1, 2):
        detector.partial_fit(rows[y == label], y[y == label])
    expected = MahalanobisDetector(relative=True).fit(rows[y >= 0], y[y >= 0])
    np.testing.assert_allclose(detector.score_samples(rows), expected.score_samples(rows))
    assert detector.offset_ == pytest.approx(expected.offset_)


def test_covariance_estimators_need_all_rows(data):
    detector = MahalanobisDetector(covariance=LedoitWolf())
    for method in ("partial_fit", "merge"):
        assert not hasattr(detector, method)
        with pytest.raises(AttributeError) as caught:
            getattr(detector, method)
        assert "LedoitWolf() is fitted on all rows" in str(caught.value.__cause__)


def test_weights_come_from_rows_that_are_learnt_from_where_others_are_held_out(data):
    A, y = data
    y = np.where(np.arange(150) % 6 == 0, -1, y)
    for covariance in (None, LedoitWolf()):
        detector = MahalanobisDetector(covariance=covariance, validation=0.3).fit(A, y)
        rows = np.union1d(detector.learnt_rows_, np.flatnonzero(y == -1))
        alone = MahalanobisDetector(covariance=covariance).fit(A[rows], y[rows])
        np.testing.assert_allclose(detector.layer_weights_, alone.layer_weights_, rtol=1e-6)
        assert detector.class_accuracy_ == pytest.approx(alone.class_accuracy_)


# Leading axes


@pytest.fixture
def wide(monkeypatch):
    """Many units, as 30 are held to be."""
    monkeypatch.setattr(_tied_gaussian, "_WIDEST_MATRIX", 8)
    rng = np.random.default_rng(0)
    y = np.arange(400) % 3
    rows = rng.normal(size=(400, 30)) * np.geomspace(3, 0.05, 30) + rng.normal(size=(3, 30))[y]
    return rows, y


WIDE = {"n_components": 6, "shrinkage": 0.1}


@pytest.mark.parametrize("relative", [False, True])
def test_leading_axes_of_streams_are_those_of_all_rows(wide, relative):
    rows, y = wide
    exact = MahalanobisDetector(relative=relative, **WIDE).fit(rows, y)
    found = MahalanobisDetector(relative=relative, **WIDE)
    stream(found, rows, y, np.array_split(np.arange(400), 5))
    np.testing.assert_allclose(found.precision_["X"], exact.precision_["X"], rtol=1e-3, atol=1e-3)
    np.testing.assert_allclose(found.score_samples(rows), exact.score_samples(rows), rtol=1e-3)
    # By the same parts of all rows.
    np.testing.assert_allclose(found.training_scores_, exact.training_scores_, rtol=1e-2)
    assert found.class_accuracy_["X"] == pytest.approx(exact.class_accuracy_["X"], abs=0.01)


def test_some_rows_of_a_stream_are_left_out_by_parts(wide, monkeypatch):
    rows, y = wide
    monkeypatch.setattr("skood._threshold_sample.CAPACITY", 0)
    monkeypatch.setattr("skood._threshold_sample.MIN_ROWS", 60)
    found = MahalanobisDetector(**WIDE)
    stream(found, rows, y, np.array_split(np.arange(400), 5))
    assert len(found.training_scores_) == 60
    # Left out of a fit on the others, one by one.
    row = found.training_rows_[0]
    others = np.delete(np.arange(400), row)
    alone = MahalanobisDetector(**WIDE).fit(rows[others], y[others]).score_samples(rows[[row]])
    assert found.training_scores_[0] == pytest.approx(alone[0], rel=0.05)


@pytest.mark.parametrize("relative", [False, True])
@pytest.mark.parametrize("n_rows", [60, 90, 250])
def test_how_many_rows_memory_holds_changes_neither_axes_nor_threshold(
    wide, hold_at_most, n_rows, relative
):
    rows, y = wide
    expected = MahalanobisDetector(relative=relative, **WIDE).fit(rows, y)
    streamed = MahalanobisDetector(relative=relative, **WIDE).partial_fit(rows, y)
    scores = expected.score_samples(rows)
    hold_at_most(n_rows * 30)
    found = MahalanobisDetector(relative=relative, **WIDE).fit(rows, y)
    np.testing.assert_allclose(found.score_samples(rows), scores, rtol=1e-3)
    # The same fifth of the rows is left out with each.
    np.testing.assert_allclose(found.training_scores_, expected.training_scores_, rtol=1e-3)
    assert found.class_accuracy_ == expected.class_accuracy_
    batches = MahalanobisDetector(relative=relative, **WIDE).partial_fit(rows, y)
    np.testing.assert_allclose(batches.training_scores_, streamed.training_scores_, rtol=1e-3)


@pytest.mark.parametrize("relative", [False, True])
@pytest.mark.parametrize("n_rows", [20, 130])
def test_blocks_elsewhere_are_left_out_by_the_same_fifths(wide, n_rows, relative):
    da = pytest.importorskip("dask.array")
    rows, y = wide
    expected = MahalanobisDetector(relative=relative, **WIDE).fit(rows, y)
    found = MahalanobisDetector(relative=relative, **WIDE)
    found.fit(da.from_array(rows, chunks=(n_rows, 30)), y)
    np.testing.assert_allclose(found.training_scores_, expected.training_scores_, rtol=1e-3)
    assert found.class_accuracy_ == expected.class_accuracy_


@pytest.mark.parametrize(
    "ensemble",
    [
        LayerEnsembleDetector(MahalanobisDetector(**WIDE), combine="mean"),
        AnyAlarmDetector([("wide", MahalanobisDetector(**WIDE)), ("norm", SHEDetector())]),
        LayerEnsembleDetector([make_pipeline(LayerSelector(), MahalanobisDetector(**WIDE))]),
        AnyAlarmDetector([("all", LayerEnsembleDetector(MahalanobisDetector(**WIDE)))]),
    ],
    ids=["layers", "any", "pipelines", "nested"],
)
def test_wide_members_leave_out_the_same_fifths_in_any_batches(wide, hold_at_most, ensemble):
    rows, y = wide
    A = Activations({"wide": rows, "other": rows[:, ::-1] + 1}, predictions=y)
    parts = np.array_split(np.arange(400), 5)
    expected = stream(clone(ensemble), A, y, parts)
    hold_at_most(90 * 60)
    found = stream(clone(ensemble), A, y, parts)
    np.testing.assert_allclose(found.training_scores_, expected.training_scores_, rtol=1e-9)
    engines = pytest.importorskip("skood.engines")
    blocks = engines.DaskActivations.from_activations(A, 70)
    found = clone(ensemble).fit(blocks, y)
    np.testing.assert_allclose(found.training_scores_, expected.training_scores_, rtol=1e-9)


def test_how_many_rows_memory_holds_changes_no_weights_beside_rows_held_out(wide, hold_at_most):
    rows, y = wide
    A = Activations({"wide": rows, "other": rows[:, ::-1] + 1}, predictions=y)
    marked = np.where(np.arange(400) % 7 == 0, -1, y)
    expected = MahalanobisDetector(validation=0.2, **WIDE).fit(A, marked)
    hold_at_most(90 * 30)
    found = MahalanobisDetector(validation=0.2, **WIDE).fit(A, marked)
    np.testing.assert_allclose(found.layer_weights_, expected.layer_weights_, rtol=1e-2)
    assert found.offset_ == pytest.approx(expected.offset_, rel=1e-2)


def test_wide_layers_are_streamed_from_the_first_batch_on(wide):
    rows, y = wide
    detector = MahalanobisDetector(**WIDE).fit(rows, y)
    with pytest.raises(ValueError, match="begin with partial_fit"):
        detector.partial_fit(rows, y)
    with pytest.raises(ValueError, match="begin with partial_fit"):
        MahalanobisDetector(**WIDE).partial_fit(rows, y).merge(detector)


def test_layers_of_very_many_units_are_refused_with_advice(wide, monkeypatch):
    rows, y = wide
    monkeypatch.setattr(_tied_moments, "_WIDEST_SCATTER", 20)
    A = Activations({"fc": rows}, predictions=y)
    detector = MahalanobisDetector(**WIDE).partial_fit(A[:200])
    with pytest.raises(ValueError, match=r"Layer 'fc' has 30 units, .* may be 20.*PoolingReducer"):
        detector.partial_fit(A[200:])
    # A part of no rows adds nothing.
    labels = np.unique(y)
    nothing = TiedRows.of("fc", rows[:0], y[:0], labels[:0])
    everything = TiedRows.of("fc", rows, y, labels)
    assert nothing.merge(everything) is everything.merge(nothing) is everything
    # All at once is as well as ever.
    MahalanobisDetector(**WIDE).fit(A)
    # Where all axes are kept, the matrix is needed anyway.
    stream(MahalanobisDetector(), A, None, [slice(0, 200), slice(200, 400)])


# Norms, coverage, counts


def test_norms_of_batches_of_either_precision_are_told_from_rounding():
    rng = np.random.default_rng(0)
    rows = rng.normal(size=(60, 7))
    unit = rows / np.linalg.norm(rows, axis=1, keepdims=True)
    layers = {"unit": unit.astype("f4").astype("f8"), "free": rows}
    single = Activations({"unit": unit[:30].astype("f4"), "free": rows[:30]})
    detector = ActivationNormDetector().partial_fit(single)
    detector.partial_fit(Activations(layers)[30:])
    assert list(detector.mean_norms_) == ["free"]


@pytest.fixture(scope="module")
def with_gradients():
    rng = np.random.default_rng(0)
    layer = np.maximum(rng.normal(size=(120, 5)), 0)
    gradient = Column(rng.normal(size=(120, 5)), layer="relu", kind="gradient")
    return Activations({"relu": layer}).assign({"relu:gradient": gradient})


@pytest.mark.parametrize("params", [{"min_count": 5}, {"min_fraction": 0.1}], ids=str)
def test_coverage_of_gradients_adds_up(with_gradients, params):
    A = with_gradients
    expected = NACDetector(gradients=True, **params).fit(A)
    found = NACDetector(gradients=True, **params)
    stream(found, A, None, [slice(0, 50), slice(50, 51), slice(51, 120)])
    np.testing.assert_array_equal(found.counts_["relu"], expected.counts_["relu"])
    np.testing.assert_array_equal(found.training_scores_, expected.training_scores_)
    np.testing.assert_array_equal(found.score_samples(A), expected.score_samples(A))


@pytest.mark.parametrize("gradients", ["auto", False])
def test_coverage_without_gradients_needs_all_samples(with_gradients, gradients):
    detector = NACDetector(gradients=gradients)
    assert not hasattr(detector, "partial_fit")
    with pytest.raises(AttributeError) as caught:
        _ = detector.merge
    assert "With gradients=True it learns in batches" in str(caught.value.__cause__)
    # As when fitted, which says nothing of the parameter.
    assert not hasattr(detector.fit(with_gradients), "partial_fit")


@pytest.mark.parametrize("intervals", ["quantile", "levels"])
def test_intervals_that_need_all_values_lack_the_methods(intervals):
    detector = ActivationIntervalDetector(intervals=intervals)
    assert not hasattr(detector, "partial_fit")
    with pytest.raises(AttributeError) as caught:
        _ = detector.merge
    assert f"intervals={intervals!r}" in str(caught.value.__cause__)


def test_ranges_of_batches_are_those_of_all_bit_by_bit(data):
    A, y = data
    batches = np.array_split(np.random.default_rng(0).permutation(150), 4)
    for detector in (GramDetector(), ActivationIntervalDetector()):
        expected = type(detector)().fit(A, y)
        found = stream(detector, A, y, batches)
        scores = "layer_scores" if hasattr(found, "layer_scores") else "score_samples"
        np.testing.assert_array_equal(getattr(found, scores)(A), getattr(expected, scores)(A))
        names = ("lower_bounds_", "upper_bounds_", "lower_", "upper_")
        for name in [name for name in names if hasattr(expected, name)]:
            mine, theirs = (getattr(part, name) for part in (found, expected))
            layers = theirs if isinstance(theirs, dict) else {None: theirs}
            for layer, ends in layers.items():
                own = mine[layer] if isinstance(mine, dict) else mine
                np.testing.assert_array_equal(own, ends)


@pytest.mark.parametrize(
    "params",
    [
        {"two_sided": True},
        {"statistic": "coefficient"},
        {"statistic": "mean_activation_count"},
        {
            "statistic": "mean_activation_count",
            "two_sided": True,
            "activation_counts": {"a": [1, 2, 3, 4, 5, 6], "b": np.arange(9)},
        },
    ],
    ids=str,
)
def test_medians_of_batches_are_those_of_all(data, params):
    A, _ = data
    expected = NeuronCountDetector(**params).fit(A)
    found = stream(NeuronCountDetector(**params), A, None, np.array_split(np.arange(150), 4))
    assert found.median_ == expected.median_
    assert found.largest_count_ == expected.largest_count_
    np.testing.assert_array_equal(found.score_samples(A), expected.score_samples(A))


def test_medians_that_change_with_all_counts_need_all_samples(data):
    A, _ = data
    detector = NeuronCountDetector(statistic="coefficient", two_sided=True)
    assert not hasattr(detector, "partial_fit")
    one_sided = NeuronCountDetector(statistic="coefficient").fit(A)
    assert detector.fit(A).median_ == one_sided.median_
    np.testing.assert_array_equal(
        detector.score_samples(A), -np.abs(-one_sided.score_samples(A) - detector.median_)
    )


def test_clusters_need_all_samples():
    assert not hasattr(ClusterDistanceDetector(), "partial_fit")


def test_few_rows_warn_as_fit_does():
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        MahalanobisDetector().partial_fit([[1.0, 2.0]]).partial_fit([[2.0, 1.0], [1.0, 1.0]])
    assert len(caught) == 1
