"""The reliability diagram."""

import sys

import numpy as np
import pytest

from skood import Activations
from skood.calibration import (
    ReliabilityDisplay,
    calibration_bins,
    expected_calibration_error,
    prediction_confidence,
)

matplotlib = pytest.importorskip("matplotlib")
matplotlib.use("Agg")
from matplotlib import pyplot  # noqa: E402

# Bins of a quarter: nothing in the first, too little confidence in the second, none right and
# too much confidence in the third and fourth.
CORRECT = [True, True, False, False, True, False]
CONFIDENCE = [0.3, 0.4, 0.6, 0.7, 0.9, 1.0]


@pytest.fixture(autouse=True)
def _close_figures():
    yield
    pyplot.close("all")


@pytest.fixture
def display():
    return ReliabilityDisplay.from_predictions(CORRECT, CONFIDENCE, n_bins=4)


def test_bars_are_the_accuracies_of_the_bins_that_are_not_empty(display):
    assert [bar.get_x() for bar in display.bars_] == [0.25, 0.5, 0.75]
    assert [bar.get_width() for bar in display.bars_] == [0.25] * 3
    assert [bar.get_height() for bar in display.bars_] == [1, 0, 0.5]


def test_gaps_reach_from_the_accuracy_to_the_mean_confidence(display):
    bottoms = [bar.get_y() for bar in display.gaps_]
    tops = [bar.get_y() + bar.get_height() for bar in display.gaps_]
    np.testing.assert_allclose(bottoms, [1, 0, 0.5])
    np.testing.assert_allclose(tops, [0.35, 0.65, 0.95])


def test_the_legend_tells_the_calibration_error(display):
    error = expected_calibration_error(CORRECT, CONFIDENCE, n_bins=4)
    texts = [text.get_text() for text in display.ax_.get_legend().get_texts()]
    assert texts[0] == f"accuracy (ECE {error:.3f})"
    display.plot(name="before")
    assert display.bars_.get_label() == f"before (ECE {error:.3f})"


def test_the_upper_axis_tells_the_shares_of_the_samples():
    confidence = np.r_[np.full(1, 0.6), np.full(499, 0.9)]
    display = ReliabilityDisplay.from_predictions(np.ones(500), confidence, n_bins=4)
    (upper,) = display.ax_.child_axes
    display.figure_.canvas.draw()
    assert [tick.get_text() for tick in upper.get_xticklabels()] == ["0", "0", "<1", "100"]
    np.testing.assert_allclose(upper.get_xticks(), [0.125, 0.375, 0.625, 0.875])
    assert "%" in upper.get_xlabel()


def test_both_axes_reach_from_0_to_1_and_are_named(display):
    assert display.ax_.get_xlim() == display.ax_.get_ylim() == (0, 1)
    assert display.ax_.get_xlabel() == "confidence"
    assert display.ax_.get_ylabel() == "accuracy"
    np.testing.assert_array_equal(display.line_.get_xydata(), [[0, 0], [1, 1]])


def test_given_axes_and_keywords_are_used():
    figure, ax = pyplot.subplots()
    display = ReliabilityDisplay.from_predictions(
        CORRECT, CONFIDENCE, ax=ax, name="net", color="#009e73"
    )
    assert display.ax_ is ax
    assert display.figure_ is figure
    assert pyplot.get_fignums() == [figure.number]
    assert matplotlib.colors.to_hex(display.bars_[0].get_facecolor()) == "#009e73"
    assert display.bars_.get_label().startswith("net (ECE")


def test_a_display_can_be_made_of_bins():
    bins = calibration_bins(CORRECT, CONFIDENCE, n_bins=4)
    display = ReliabilityDisplay(bins=bins, name="net").plot()
    assert [bar.get_height() for bar in display.bars_] == [1, 0, 0.5]
    assert display.bars_.get_label().startswith("net")


def test_activations_are_drawn_without_their_out_of_distribution_rows():
    rng = np.random.default_rng(0)
    logits = 3 * rng.normal(size=(60, 3))
    y = np.where(np.arange(60) % 4, rng.integers(0, 3, 60), -1)
    names = np.array(["a", "b", "c"])
    A = Activations({"fc": logits}, logits=logits, classes=names)
    labels = np.where(y == -1, np.array(-1, dtype=object), names.astype(object)[y])
    display = ReliabilityDisplay.from_activations(A, labels, n_bins=5)
    rows = y != -1
    expected = calibration_bins(
        logits.argmax(axis=1)[rows] == y[rows], prediction_confidence(logits[rows]), n_bins=5
    )
    for found, wanted in zip(display.bins, expected, strict=True):
        np.testing.assert_array_equal(found, wanted)


def test_activations_that_cannot_be_drawn_are_refused():
    A = Activations({"fc": np.ones((2, 3))}, logits=np.ones((2, 3)))
    draw = ReliabilityDisplay.from_activations
    with pytest.raises(ValueError, match="needs logits"):
        draw(Activations({"fc": np.ones((2, 3))}), [0, 1])
    with pytest.raises(ValueError, match=r"among the classes of the network.*got \[7\]"):
        draw(A, [0, 7])
    with pytest.raises(ValueError, match="2 samples, but y has 3"):
        draw(A, [0, 1, 2])
    with pytest.raises(ValueError, match=r"0 sample\(s\)"):
        draw(A, [-1, -1])
    assert pyplot.get_fignums() == []


def test_without_matplotlib_the_message_tells_what_to_install(monkeypatch):
    monkeypatch.setitem(sys.modules, "matplotlib.pyplot", None)
    with pytest.raises(
        ImportError,
        match=r"ReliabilityDisplay needs matplotlib.*'pip install matplotlib'.* extra 'plot'",
    ):
        ReliabilityDisplay.from_predictions(CORRECT, CONFIDENCE)
