"""The displays of detectors: what they draw, on which axes, and what they refuse."""

import sys

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from numpy.testing import assert_allclose, assert_array_equal
from sklearn.base import BaseEstimator
from sklearn.neighbors import KernelDensity
from sklearn.pipeline import make_pipeline

from skood import (
    Activations,
    ClusterDistanceDetector,
    GroupProgressionDetector,
    PercentileBinarizer,
)
from skood.calibration import prediction_confidence
from skood.detectors import EnergyDetector, MaxSoftmaxDetector
from skood.inspection import ClusterDistanceDisplay, OODRocCurveDisplay, ProgressionDisplay
from skood.metrics import fpr_at_tpr_score, ood_roc_auc_score

matplotlib = pytest.importorskip("matplotlib")
matplotlib.use("Agg")
import matplotlib.pyplot as plt  # noqa: E402


@pytest.fixture(autouse=True)
def _close_figures():
    yield
    plt.close("all")


def make_activations(n_samples, seed=0):
    rng = np.random.default_rng(seed)
    layers = {"relu1": rng.normal(size=(n_samples, 12)), "relu2": rng.normal(size=(n_samples, 6))}
    return Activations(layers, logits=3 * rng.normal(size=(n_samples, 3)))


def draw(display, ax=None):
    """One of each kind of display, of two sets or two detectors."""
    if display is ProgressionDisplay:
        values = [[1.0, 2.0], [3.0, 4.0]]
        return display.from_predictions(values, ["a", "b"], ["one", "other"], ax=ax)
    if display is ClusterDistanceDisplay:
        return display.from_predictions([1.0, 2.0], [0.5, 0.9], ["one", "other"], ax=ax)
    return display.from_predictions([0, -1], {"one": [1, 0], "other": [0, 1]}, ax=ax)


DISPLAYS = pytest.mark.parametrize(
    "display", [ClusterDistanceDisplay, OODRocCurveDisplay, ProgressionDisplay]
)


@DISPLAYS
def test_given_axes_are_drawn_on(display):
    figure, (left, right) = plt.subplots(1, 2)
    drawn = draw(display, ax=right)
    assert drawn.ax_ is right
    assert drawn.figure_ is figure
    assert not left.has_data()
    assert right.has_data()
    assert plt.get_fignums() == [figure.number]


@DISPLAYS
def test_without_axes_a_figure_is_made_and_drawing_again_makes_another(display):
    drawn = draw(display)
    first = drawn.figure_
    assert drawn.plot() is drawn
    assert drawn.figure_ is not first
    assert len(plt.get_fignums()) == 2


@DISPLAYS
def test_what_is_drawn_can_be_rendered_without_a_warning(display):
    draw(display).figure_.canvas.draw()


@DISPLAYS
def test_the_legend_names_the_sets_in_order(display):
    texts = [text.get_text() for text in draw(display).ax_.get_legend().get_texts()]
    assert texts[0].startswith("one")
    assert texts[1].startswith("other")


@DISPLAYS
def test_a_missing_matplotlib_is_named_with_the_extra_that_brings_it(display, monkeypatch):
    monkeypatch.setitem(sys.modules, "matplotlib.pyplot", None)
    with pytest.raises(ImportError, match=rf"{display.__name__} needs matplotlib.* extra 'plot'"):
        draw(display)


@pytest.mark.parametrize("display", [ClusterDistanceDisplay, ProgressionDisplay])
@pytest.mark.parametrize("groups", [["a"], ["a", "b", "c"]], ids=["few", "many"])
def test_groups_of_another_length_are_refused(display, groups):
    values = {
        ClusterDistanceDisplay: ([1.0, 2.0], [0.5, 0.9]),
        ProgressionDisplay: ([[1.0], [2.0]], ["a"]),
    }[display]
    with pytest.raises(ValueError, match=f"2 samples, but groups has {len(groups)}"):
        display.from_predictions(*values, groups)


# Progression


VALUES = np.array([[2.0, 4.0], [8.0, 0.0], [4.0, 2.0], [6.0, 3.0]])
SETS = ["z", "a", "z", "a"]


def test_a_line_is_the_mean_of_its_set():
    display = ProgressionDisplay.from_predictions(VALUES, ["l1", "l2"], SETS)
    assert list(display.lines_) == ["z", "a"]
    assert_array_equal(display.lines_["z"].get_ydata(), [3, 3])
    assert_array_equal(display.lines_["a"].get_ydata(), [7, 1.5])


def test_bars_reach_from_percentile_to_percentile_beside_their_points():
    display = ProgressionDisplay(values=VALUES, layers=["l1", "l2"], groups=SETS)
    display.plot(percentiles=(0, 50))
    x, y = display.bars_["a"].get_data()
    assert_array_equal(y, [6, 7, np.nan, 0, 1.5, np.nan])
    assert_array_equal(x[::3], display.lines_["a"].get_xdata())


def test_bars_can_be_left_out():
    display = ProgressionDisplay(values=VALUES, layers=["l1", "l2"]).plot(percentiles=None)
    assert display.bars_ == {}
    assert len(display.ax_.lines) == 1


@pytest.mark.parametrize(
    ("options", "drawn", "unit"),
    [
        ({}, [5, 2.25], "(bits)"),
        ({"widths": [10, 4]}, [50, 56.25], "(% of the layer's bits)"),
        ({"feature": "matching"}, [500, 225], "(%)"),
    ],
    ids=["bits", "widths", "matching"],
)
def test_values_are_drawn_in_the_unit_that_the_axis_tells(options, drawn, unit):
    display = ProgressionDisplay.from_predictions(VALUES, ["l1", "l2"], **options)
    assert_array_equal(display.lines_["all samples"].get_ydata(), drawn)
    assert display.ax_.get_ylabel().endswith(unit)
    assert [label.get_text() for label in display.ax_.get_xticklabels()] == ["l1", "l2"]


@pytest.mark.parametrize("feature", ["distance", "matching"])
def test_the_progression_of_a_detector_is_drawn_in_percent(feature):
    X = make_activations(40)
    detector = GroupProgressionDetector(n_neighbors=5).fit(X)
    display = ProgressionDisplay.from_estimator(detector, X, feature=feature)
    whole = [12, 6] if feature == "distance" else 1
    expected = 100 * getattr(detector.progression(X), feature).mean(axis=0) / whole
    assert_allclose(display.lines_["all samples"].get_ydata(), expected)
    assert list(display.layers) == ["relu1", "relu2"]


def test_the_progression_through_the_one_layer_of_an_array_is_drawn():
    X = np.random.default_rng(0).normal(size=(30, 8))
    detector = GroupProgressionDetector(n_neighbors=5).fit(X)
    display = ProgressionDisplay.from_estimator(detector, X)
    expected = 100 * detector.progression(X).distance.mean() / 8
    assert_allclose(display.lines_["all samples"].get_ydata(), [expected])


def test_a_pipeline_draws_what_its_last_step_is_given():
    X = make_activations(40)
    binarizer = PercentileBinarizer(percentile=50, rule="rank")
    pipeline = make_pipeline(binarizer, GroupProgressionDetector(n_neighbors=5)).fit(X)
    display = ProgressionDisplay.from_estimator(pipeline, X)
    assert_array_equal(display.values, pipeline[-1].progression(binarizer.transform(X)).distance)
    alone = make_pipeline(GroupProgressionDetector(n_neighbors=5)).fit(X)
    display = ProgressionDisplay.from_estimator(alone, X)
    assert_array_equal(display.values, alone[-1].progression(X).distance)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"feature": "distances"}, "feature must be one of .* got 'distances'"),
        ({"layers": ["l1"]}, "values has 2 layers, but layers names 1"),
        ({"widths": [10]}, r"2 layers, but widths has shape \(1,\)"),
        ({"widths": [10, 4], "feature": "matching"}, "widths scale distances"),
        ({"values": [1.0, 2.0]}, "Expected 2D array"),
        ({"values": [[np.nan, 1.0]]}, "values contains NaN"),
    ],
    ids=["feature", "layers", "widths", "scaled matching", "1-D", "NaN"],
)
def test_a_progression_that_does_not_fit_together_is_refused(arguments, message):
    with pytest.raises(ValueError, match=message):
        ProgressionDisplay.from_predictions(
            **{"values": VALUES, "layers": ["l1", "l2"]} | arguments
        )


def test_an_unknown_feature_is_refused_before_anything_is_computed():
    with pytest.raises(ValueError, match="feature must be one of"):
        ProgressionDisplay.from_estimator(None, None, feature="both")


@pytest.mark.parametrize("display", [ClusterDistanceDisplay, ProgressionDisplay])
def test_a_detector_of_another_kind_is_refused(display):
    X = make_activations(10)
    with pytest.raises(TypeError, match=r"Expected a detector.*got MaxSoftmaxDetector\(\)"):
        display.from_estimator(MaxSoftmaxDetector().fit(X), X)


# Cluster distance


def test_samples_are_counted_in_their_category():
    display = ClusterDistanceDisplay.from_predictions(
        np.ones(6), [0.0, 0.5, 0.51, 0.75, 1.0, 1.0], ["a", "a", "a", "b", "a", "b"], n_categories=4
    )
    assert_array_equal(display.counts_["a"], [1, 1, 1, 1])
    assert_array_equal(display.counts_["b"], [0, 0, 1, 1])
    numbers = [text.get_text() for text in display.ax_.texts]
    assert numbers == ["1"] * 6


def test_a_box_holds_the_quartiles_of_its_samples_and_empty_categories_are_gaps():
    display = ClusterDistanceDisplay.from_predictions([1.0, 2.0, 3.0, 4.0, 5.0], [0.95] * 5)
    boxes = display.boxes_["all samples"]
    assert list(boxes) == [9]
    corners = boxes[9].get_path().vertices
    assert corners[:, 1].min() == 2
    assert corners[:, 1].max() == 4
    assert 90 < corners[:, 0].min() < corners[:, 0].max() < 100


def test_boxes_of_several_sets_stand_beside_each_other_in_their_category():
    confidence, groups = np.full(30, 0.35), np.repeat(["a", "b", "c"], 10)
    boxes = ClusterDistanceDisplay.from_predictions(np.arange(30.0), confidence, groups).boxes_
    edges = [boxes[name][3].get_path().vertices[:, 0] for name in ("a", "b", "c")]
    ends = [end for x in edges for end in (x.min(), x.max())]
    assert ends == sorted(ends)
    assert ends[0] > 30
    assert ends[-1] < 40


def test_boxes_of_few_samples_are_faint():
    confidence = np.repeat([0.75, 0.95], [9, 10])
    boxes = ClusterDistanceDisplay.from_predictions(np.arange(19.0), confidence).boxes_
    few, enough = boxes["all samples"][7], boxes["all samples"][9]
    assert few.get_alpha() < 1
    assert enough.get_alpha() is None


def test_cluster_distances_of_a_detector_are_drawn_by_confidence():
    X = make_activations(60)
    pipeline = make_pipeline(
        PercentileBinarizer(percentile=50), ClusterDistanceDetector(n_clusters=3, random_state=0)
    ).fit(X)
    display = ClusterDistanceDisplay.from_estimator(pipeline, X)
    patterns = pipeline[:-1].transform(X)
    assert_array_equal(display.cluster_distance, pipeline[-1].cluster_distance(patterns))
    assert_array_equal(display.confidence, prediction_confidence(X))
    assert display.counts_["all samples"].sum() == 60


class KnownDistances(BaseEstimator):
    """Has a cluster distance of 1 for every sample."""

    def cluster_distance(self, X):
        return np.ones(len(X))


def test_labels_divide_samples_into_right_wrong_and_out_of_distribution():
    X = make_activations(5)
    y = X.predictions.copy()
    y[[1, 2]] = (y[[1, 2]] + 1) % 3
    y[4] = -1
    display = ClusterDistanceDisplay.from_estimator(KnownDistances(), X, y)
    found = {name: counts.sum() for name, counts in display.counts_.items()}
    assert found == {"correct": 2, "misclassified": 2, "out-of-distribution": 1}


def test_given_groups_go_before_labels():
    X = make_activations(3)
    display = ClusterDistanceDisplay.from_estimator(
        KnownDistances(), X, X.predictions, groups=["a", "b", "b"]
    )
    assert list(display.counts_) == ["a", "b"]


@pytest.mark.parametrize(
    ("X", "y", "message"),
    [
        (Activations({"a": np.ones((3, 2))}), None, "needs logits"),
        (make_activations(3), [0, 1], "X has 3 samples, but y has 2"),
        (make_activations(3), [0, 7, -1], r"among the classes of the network.*got \[7\]"),
    ],
    ids=["no logits", "length", "label"],
)
def test_activations_without_what_is_asked_for_are_refused(X, y, message):
    with pytest.raises(ValueError, match=message):
        ClusterDistanceDisplay.from_estimator(KnownDistances(), X, y)


def test_an_array_is_not_taken_for_logits():
    with pytest.raises(TypeError, match="needs Activations with logits, got ndarray"):
        ClusterDistanceDisplay.from_estimator(KnownDistances(), np.ones((3, 2)))


@pytest.mark.parametrize(
    ("distances", "confidence", "message"),
    [
        ([1.0, 2.0], [0.5], r"inconsistent numbers of samples: \[2, 1\]"),
        ([1.0, np.nan], [0.5, 0.5], "cluster_distance contains NaN"),
        ([1.0, 2.0], [0.5, 1.5], "between 0 and 1"),
    ],
    ids=["length", "NaN", "confidence"],
)
def test_distances_and_confidences_that_do_not_fit_are_refused(distances, confidence, message):
    with pytest.raises(ValueError, match=message):
        ClusterDistanceDisplay.from_predictions(distances, confidence)


# ROC curves


Y = [0, 1, 2, 3, -1, -1]
SCORES = [0.9, 0.8, 0.7, 0.2, 0.5, 0.1]


@pytest.mark.parametrize(
    ("positive", "points", "flagged"),
    [
        # From the lowest score up: OOD, in, OOD, in, in, in.
        ("ood", [(0, 0), (0, 0.5), (0.25, 0.5), (0.25, 1), (1, 1)], "OOD samples flagged"),
        # From the highest score down: in, in, in, OOD, in, OOD.
        ("id", [(0, 0), (0, 0.75), (0.5, 0.75), (0.5, 1), (1, 1)], "in-distribution samples acc"),
    ],
)
def test_a_curve_has_the_rates_of_the_positive_kind(positive, points, flagged):
    display = OODRocCurveDisplay.from_predictions(Y, SCORES, positive=positive)
    drawn = display.lines_["detector"].get_xydata()
    assert set(points) <= set(map(tuple, drawn.tolist()))
    assert flagged in display.ax_.get_ylabel()


def test_the_legend_tells_the_area_under_each_curve():
    display = OODRocCurveDisplay.from_predictions(Y, {"good": SCORES, "bad": [0] * 6})
    labels = [line.get_label() for line in display.lines_.values()]
    assert labels == ["good (AUROC 0.88)", "bad (AUROC 0.50)"]


def test_equal_scores_are_one_step_of_the_curve():
    display = OODRocCurveDisplay.from_predictions([0, 0, -1, -1], [2, 1, 1, 0])
    x, y = display.lines_["detector"].get_data()
    assert_array_equal(x, [0, 0, 0.5, 1])
    assert_array_equal(y, [0, 0.5, 1, 1])


@given(
    scores=st.lists(st.integers(-3, 3) | st.floats(-1e9, 1e9), min_size=2, max_size=30),
    seed=st.integers(0, 99),
    positive=st.sampled_from(["ood", "id"]),
)
def test_the_area_under_the_drawn_curve_is_the_metric(scores, seed, positive):
    y = np.random.default_rng(seed).permutation(np.resize([0, -1], len(scores)))
    _, ax = plt.subplots()
    display = OODRocCurveDisplay.from_predictions(y, scores, positive=positive, ax=ax)
    x, curve = display.lines_["detector"].get_data()
    plt.close("all")
    assert np.trapezoid(curve, x) == pytest.approx(ood_roc_auc_score(y, scores))


@pytest.mark.parametrize("positive", ["ood", "id"])
def test_a_curve_reaches_the_marked_rate_where_the_metric_says(positive):
    rng = np.random.default_rng(0)
    y = np.where(rng.random(200) < 0.5, 0, -1)
    scores = y + rng.normal(size=200)
    display = OODRocCurveDisplay.from_predictions(y, scores, positive=positive, mark_tpr=0.95)
    assert set(display.tpr_line_.get_ydata()) == {0.95}
    x, curve = display.lines_["detector"].get_data()
    expected = fpr_at_tpr_score(y, scores, tpr=0.95, positive=positive)
    assert x[np.argmax(curve >= 0.95)] == expected


def test_no_rate_is_marked_by_default():
    assert OODRocCurveDisplay.from_predictions(Y, SCORES).tpr_line_ is None


def test_detectors_and_pipelines_are_drawn_as_their_scores_are():
    X = make_activations(30)
    y = np.where(np.arange(30) < 20, 0, -1)
    detectors = {
        "softmax": MaxSoftmaxDetector().fit(X),
        "energy": make_pipeline(EnergyDetector()).fit(X),
    }
    drawn = OODRocCurveDisplay.from_estimator(detectors, X, y)
    scores = {name: detector.score_samples(X) for name, detector in detectors.items()}
    expected = OODRocCurveDisplay.from_predictions(y, scores)
    assert list(drawn.lines_) == ["softmax", "energy"]
    for name, line in drawn.lines_.items():
        assert_array_equal(line.get_xydata(), expected.lines_[name].get_xydata())


@pytest.mark.parametrize("wrap", [False, True], ids=["detector", "pipeline"])
def test_one_detector_is_named_by_its_class(wrap):
    X = make_activations(30)
    detector = MaxSoftmaxDetector().fit(X)
    given = make_pipeline(detector) if wrap else detector
    display = OODRocCurveDisplay.from_estimator(given, X, np.arange(30) % 2 - 1)
    assert list(display.lines_) == ["MaxSoftmaxDetector"]


def test_an_estimator_without_decision_function_is_drawn_by_score_samples():
    X = np.array([[0.0], [0.1], [0.2], [5.0]])
    display = OODRocCurveDisplay.from_estimator(KernelDensity().fit(X[:3]), X, [0, 0, 0, -1])
    assert display.roc_auc == {"KernelDensity": 1.0}


@pytest.mark.parametrize(
    ("y_true", "y_score", "options", "message"),
    [
        ([0, 1], [0.1, 0.2], {}, "2 in-distribution and 0 OOD rows"),
        ([-1, -1], [0.1, 0.2], {}, "0 in-distribution and 2 OOD rows"),
        (Y, SCORES[:5], {}, "one label for each of the 5 scores"),
        (Y, {"a": SCORES, "b": SCORES[:5]}, {}, "one label for each of the 5 scores"),
        (Y, [np.inf, *SCORES[1:]], {}, "infinity"),
        (Y, SCORES, {"positive": "in"}, r"positive must be one of \('ood', 'id'\), got 'in'"),
    ],
    ids=["no OOD", "no ID", "length", "one length", "infinite", "positive"],
)
def test_scores_without_a_curve_are_refused(y_true, y_score, options, message):
    with pytest.raises(ValueError, match=message):
        OODRocCurveDisplay.from_predictions(y_true, y_score, **options)


@pytest.mark.parametrize("display", [OODRocCurveDisplay, ProgressionDisplay])
def test_the_style_of_lines_can_be_given(display):
    values = (Y, SCORES) if display is OODRocCurveDisplay else (VALUES, ["l1", "l2"])
    drawn = display.from_predictions(*values, color="red")
    assert [line.get_color() for line in drawn.lines_.values()] == ["red"]


def test_the_style_of_boxes_can_be_given():
    display = ClusterDistanceDisplay.from_predictions([1.0, 2.0], [1, 1], widths=3)
    corners = display.boxes_["all samples"][9].get_path().vertices
    assert np.ptp(corners[:, 0]) == pytest.approx(3)
