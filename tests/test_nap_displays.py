"""Displays of activation-pattern monitors: accuracies of settings, and Hamming distances."""

import sys

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from numpy.testing import assert_allclose, assert_array_equal
from sklearn.pipeline import make_pipeline

from skood import Activations, HammingNAPDetector, PercentileBinarizer, PoolingReducer
from skood.detectors import KNNDetector
from skood.ensemble import AutoNAPDetector
from skood.inspection import HammingDistanceDisplay, SettingAccuracyDisplay
from skood.preprocessing import LayerSelector

matplotlib = pytest.importorskip("matplotlib")
matplotlib.use("Agg")
import matplotlib.pyplot as plt  # noqa: E402

PERCENTILES = (20, 50, 80)


@pytest.fixture(autouse=True)
def _close_figures():
    yield
    plt.close("all")


def make_samples(n_inside, n_outside, seed):
    """Samples of three classes and others, with a layer of maps and a flat one."""
    rng = np.random.default_rng(seed)
    labels = rng.integers(0, 3, n_inside)
    centers = np.random.default_rng(0).normal(size=(3, 12))
    flat = np.concatenate(
        [centers[labels] + 0.6 * rng.normal(size=(n_inside, 12)), rng.normal(size=(n_outside, 12))]
    )
    maps = flat[:, :6, None, None] + rng.normal(size=(n_inside + n_outside, 6, 2, 2))
    predictions = np.concatenate([labels, rng.integers(0, 3, n_outside)])
    A = Activations({"conv": np.maximum(maps, 0), "fc": flat}, predictions=predictions)
    return A, np.concatenate([labels, np.full(n_outside, -1)])


@pytest.fixture(scope="module")
def fitted():
    A, y = make_samples(150, 60, seed=1)
    split = np.where(np.arange(210) < 90, -1, 0)
    detector = AutoNAPDetector(percentiles=PERCENTILES, n_layers=1, keep_settings=True)
    return detector.fit(A, y, sample_split=split), A[:90], y[:90]


@pytest.fixture(scope="module")
def test_data():
    return make_samples(80, 70, seed=2)


# Accuracies of settings


def test_every_setting_is_scored_as_a_monitor_of_its_own(fitted, test_data):
    detector, stored, labels = fitted
    X, y = test_data
    found = detector.score_settings(X, y)
    columns = (detector.results_[name] for name in ("layer", "pooling", "percentile", "tau"))
    assert len(found) == 2 * 2 * len(PERCENTILES)
    for accuracy, layer, pooling, percentile, tau in zip(found, *columns, strict=True):
        monitor = make_pipeline(
            LayerSelector(layers=[str(layer)]),
            PoolingReducer(pooling=str(pooling)),
            PercentileBinarizer(percentile=percentile),
            HammingNAPDetector(tau=tau, group_by="label", break_ties=False),
        ).fit(stored, labels)
        assert accuracy == np.mean((monitor.predict(X) == 1) == (y != -1))


def test_distances_are_those_that_decide(fitted, test_data):
    detector, _, _ = fitted
    X, _ = test_data
    distances = detector.distances(X)
    assert distances.shape == (150, 1)
    assert distances.dtype.kind == "i"
    assert_array_equal(distances[:, 0] <= detector.taus_[0], detector.predict(X) == 1)


def test_settings_are_scored_where_their_patterns_are_kept_and_on_both_kinds(fitted, test_data):
    detector, _, _ = fitted
    X, y = test_data
    forgetful = AutoNAPDetector(random_state=0).fit(X, y)
    with pytest.raises(ValueError, match="keep_settings=True"):
        forgetful.score_settings(X, y)
    with pytest.raises(ValueError, match="OOD samples, but 80 of 80 are in-distribution"):
        detector.score_settings(X[:80], y[:80])
    with pytest.raises(ValueError, match="OOD samples, but 0 of 70"):
        detector.score_settings(X[80:], y[80:])


def test_keeping_settings_changes_no_score(fitted, test_data):
    detector, _, _ = fitted
    A, y = make_samples(150, 60, seed=1)
    split = np.where(np.arange(210) < 90, -1, 0)
    other = AutoNAPDetector(percentiles=PERCENTILES, n_layers=1).fit(A, y, sample_split=split)
    X, _ = test_data
    assert_array_equal(other.score_samples(X), detector.score_samples(X))


def test_a_point_for_each_setting_and_a_ring_for_the_chosen_ones(fitted, test_data):
    detector, _, _ = fitted
    X, y = test_data
    display = SettingAccuracyDisplay.from_estimator(detector, X, y)
    results = detector.results_
    # Poolings make no difference to a flat layer: its settings are there once.
    once = (results["layer"] == "conv") | (results["pooling"] == "avg")
    points = np.concatenate([drawn.get_offsets() for drawn in display.points_.values()])
    expected = np.column_stack([results["accuracy"], detector.score_settings(X, y)])[once]
    assert_allclose(points, expected)
    assert list(display.points_) == ["conv", "fc"]
    (ring,) = display.chosen_.get_offsets()
    assert ring[0] == detector.accuracies_[0]
    assert_allclose(display.pearson_, np.corrcoef(expected.T)[0, 1])
    title = display.ax_.get_legend().get_title().get_text()
    assert title == f"Pearson {display.pearson_:.2f}, Spearman {display.spearman_:.2f}"


@pytest.mark.parametrize(
    ("color_by", "sets"),
    [("pooling", ["max", "avg"]), ("percentile", ["20", "50", "80"]), ("layer", ["conv", "fc"])],
)
def test_colours_tell_a_part_of_the_setting(fitted, test_data, color_by, sets):
    detector, _, _ = fitted
    display = SettingAccuracyDisplay.from_estimator(detector, *test_data, color_by=color_by)
    assert list(display.points_) == sets


def test_correlations_by_hand():
    display = SettingAccuracyDisplay.from_predictions([0.1, 0.2, 0.4], [0.3, 0.2, 0.9])
    # Deviations from the means: (-4, -1, 5) / 30 and (-5, -8, 13) / 30.
    assert_allclose(display.pearson_, 93 / np.sqrt(42 * 258))
    # Ranks 1, 2, 3 and 2, 1, 3.
    assert_allclose(display.spearman_, 0.5)
    assert display.chosen_ is None


@pytest.mark.parametrize("accuracies", [([0.5, 0.5], [0.1, 0.9]), ([0.5], [0.1])], ids=repr)
def test_without_variation_there_is_no_correlation(accuracies):
    display = SettingAccuracyDisplay.from_predictions(*accuracies)
    assert np.isnan([display.pearson_, display.spearman_]).all()


def test_more_sets_than_colours_get_shades_of_their_own():
    values = np.linspace(0.5, 1, 9)
    display = SettingAccuracyDisplay.from_predictions(values, values, list("abcdefghi"))
    colors = {tuple(drawn.get_facecolor()[0]) for drawn in display.points_.values()}
    assert len(colors) == 9


def test_settings_that_cannot_be_drawn_are_refused(fitted, test_data):
    with pytest.raises(TypeError, match="Expected an AutoNAPDetector"):
        SettingAccuracyDisplay.from_estimator(KNNDetector(), *test_data)
    with pytest.raises(ValueError, match="color_by must be one of"):
        SettingAccuracyDisplay.from_estimator(fitted[0], *test_data, color_by="tau")
    with pytest.raises(ValueError, match="inconsistent numbers"):
        SettingAccuracyDisplay.from_predictions([0.5, 0.6], [0.5])
    with pytest.raises(ValueError, match="groups has 1"):
        SettingAccuracyDisplay.from_predictions([0.5, 0.6], [0.5, 0.4], ["a"])


# Hamming distances


def heights(display):
    """For each set, the distances drawn and the percentage of each."""
    found = {}
    for name, patch in display.histograms_.items():
        values, edges, _ = patch.get_data()
        assert_array_equal(np.diff(edges), 1)
        found[name] = {
            int(center): value for center, value in zip(edges[:-1] + 0.5, values, strict=True)
        }
    return found


@given(
    st.lists(st.tuples(st.integers(0, 9), st.sampled_from("abc")), min_size=1, max_size=30),
    st.integers(0, 9),
)
def test_bars_are_centred_on_whole_distances_and_count_them(samples, threshold):
    distances, groups = zip(*samples, strict=True)
    display = HammingDistanceDisplay.from_distances(distances, groups=groups, threshold=threshold)
    drawn = heights(display)
    for name in set(groups):
        of_set = [d for d, group in samples if group == name]
        for distance in range(min(distances), max(distances) + 1):
            share = 100 * of_set.count(distance) / len(of_set)
            assert_allclose(drawn[name][distance], share)
        assert display.alarm_rates_[name] == np.mean([d > threshold for d in of_set])
    plt.close("all")


def test_the_line_is_between_what_is_accepted_and_what_is_not():
    display = HammingDistanceDisplay.from_distances([0, 3, 4], threshold=3)
    assert_array_equal(display.threshold_line_.get_xdata(), 3.5)
    assert HammingDistanceDisplay.from_distances([0, 3]).threshold_line_ is None
    assert HammingDistanceDisplay.from_distances([0, 3]).alarm_rates_ == {}


@pytest.fixture(scope="module")
def patterns():
    rng = np.random.default_rng(0)
    train = Activations({"a": rng.random((80, 9)) - 0.5}, predictions=rng.integers(0, 2, 80))
    test = Activations({"a": rng.random((50, 9)) - 0.5}, predictions=rng.integers(0, 2, 50))
    return train, test


def nearest(train, test):
    """Distance to the nearest training pattern of the predicted class, one pair at a time."""
    return [
        min(
            int(((stored > 0) != (pattern > 0)).sum())
            for stored, label in zip(train["a"], train.predictions, strict=True)
            if label == asked
        )
        for pattern, asked in zip(test["a"], test.predictions, strict=True)
    ]


@pytest.mark.parametrize("params", [{"tau": 1}, {}, {"break_ties": False}], ids=str)
@pytest.mark.parametrize("in_pipeline", [False, True])
def test_distances_alarms_and_threshold_are_those_of_the_detector(patterns, params, in_pipeline):
    train, test = patterns
    detector = HammingNAPDetector(**params)
    detector = make_pipeline(LayerSelector(), detector) if in_pipeline else detector
    detector.fit(train)
    y = np.repeat([1, -1], [30, 20])
    display = HammingDistanceDisplay.from_estimator(detector, test, y)
    distances = nearest(train, test)
    assert_array_equal(display.distances, distances)
    flagged = detector.predict(test) == -1
    assert display.alarm_rates_ == {
        "in-distribution": flagged[:30].mean(),
        "out-of-distribution": flagged[30:].mean(),
    }
    line = display.threshold_line_.get_xdata()[0]
    for distance, is_flagged in zip(distances, flagged, strict=True):
        assert is_flagged or distance - 0.5 <= line
        assert not is_flagged or distance + 0.5 >= line
    if "tau" in params:
        assert line == 1.5
    legend = [text.get_text() for text in display.ax_.get_legend().get_texts()]
    assert legend[0] == f"in-distribution (30): {flagged[:30].mean():.1%} flagged"


def test_one_layer_of_the_auto_configuration_is_picked(fitted, test_data):
    X, y = test_data
    A, labels = make_samples(150, 60, seed=1)
    both = AutoNAPDetector(random_state=0).fit(A, labels)
    for number, layer in enumerate(["conv", "fc"]):
        for given_as in (layer, number, number - 2):
            display = HammingDistanceDisplay.from_estimator(both, X, y, layer=given_as)
            assert_array_equal(display.distances, both.distances(X)[:, number])
            assert display.threshold == both.taus_[number]
    assert HammingDistanceDisplay.from_estimator(fitted[0], X).threshold == fitted[0].taus_[0]
    for layer in (None, "relu", 2):
        with pytest.raises(ValueError, match=r"layer must be one of \['conv', 'fc'\]"):
            HammingDistanceDisplay.from_estimator(both, X, layer=layer)


def test_sets_known_to_be_in_distribution_are_filled():
    display = HammingDistanceDisplay.from_distances(
        [0, 1, 5, 7], [2, 3, -1, -1], groups=["digits", "digits", "noise", "letters"]
    )
    assert [name for name, patch in display.histograms_.items() if patch.get_fill()] == ["digits"]
    with pytest.raises(ValueError, match=r"sets \['a'\] hold samples of both kinds"):
        HammingDistanceDisplay.from_distances([0, 1], [1, -1], groups=["a", "a"])


@pytest.mark.parametrize("distances", [[0.5, 1.0], [-1, 2], ["a"], [], [np.nan], [np.inf]])
def test_what_is_no_hamming_distance_is_refused(distances):
    with pytest.raises(ValueError, match="whole numbers"):
        HammingDistanceDisplay.from_distances(distances)


def test_distances_that_cannot_be_drawn_are_refused(patterns):
    train, test = patterns
    with pytest.raises(TypeError, match="Expected a HammingNAPDetector or an AutoNAPDetector"):
        HammingDistanceDisplay.from_estimator(KNNDetector().fit(train), test)
    with pytest.raises(ValueError, match="layer picks one of an AutoNAPDetector"):
        HammingDistanceDisplay.from_estimator(HammingNAPDetector().fit(train), test, layer="a")
    with pytest.raises(ValueError, match="y has 3"):
        HammingDistanceDisplay.from_distances([0, 1], [1, 1, 1])


# Both


def draw_accuracies(ax=None):
    return SettingAccuracyDisplay.from_predictions([0.5, 0.6], [0.6, 0.7], ["one", "other"], ax=ax)


def draw_distances(ax=None):
    return HammingDistanceDisplay.from_distances([0, 2], groups=["one", "other"], ax=ax)


@pytest.mark.parametrize("draw", [draw_accuracies, draw_distances])
def test_given_axes_are_drawn_on_and_rendered(draw):
    figure, (left, right) = plt.subplots(1, 2)
    drawn = draw(right)
    assert (drawn.ax_, drawn.figure_) == (right, figure)
    assert not left.has_data()
    figure.canvas.draw()
    assert drawn.plot() is drawn
    assert drawn.figure_ is not figure
    texts = [text.get_text() for text in drawn.ax_.get_legend().get_texts()]
    assert [text[:3] for text in texts[:2]] == ["one", "oth"]


@pytest.mark.parametrize("draw", [draw_accuracies, draw_distances])
def test_without_matplotlib_it_is_said_what_needs_it(draw, monkeypatch):
    monkeypatch.setitem(sys.modules, "matplotlib.pyplot", None)
    with pytest.raises(ImportError, match="Display"):
        draw()


def test_the_line_is_left_of_the_first_distance_that_is_flagged():
    for threshold, place in ((7.983, 7.5), (7.0, 7.5), (0.0, 0.5)):
        drawn = HammingDistanceDisplay.from_distances(
            [0, 1, 2, 8, 8, 9], [0, 0, 0, 0, -1, -1], threshold=threshold
        )
        assert drawn.threshold_line_.get_xdata()[0] == place
        plt.close(drawn.figure_)
