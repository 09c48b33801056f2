"""What displays draw stands out from their axes, whether these are bright or dark."""

import numpy as np
import pytest
from _od_tables import make_table

import skood.inspection
from skood.calibration import ReliabilityDisplay, calibration_bins
from skood.inspection import (
    ActivationMapDisplay,
    ClusterDistanceDisplay,
    HammingDistanceDisplay,
    MeanActivationDisplay,
    MeanPerformanceDisplay,
    NeuronMeasureDisplay,
    OODRocCurveDisplay,
    PatternDisplay,
    ProgressionDisplay,
    ReconstructionDisplay,
    ReconstructionErrorDisplay,
    RiskCoverageDisplay,
    SettingAccuracyDisplay,
    SharedNeuronDisplay,
    TransferDisplay,
    ValidationTestDisplay,
)
from skood.monitoring import DriftDisplay

matplotlib = pytest.importorskip("matplotlib")
matplotlib.use("Agg")
import matplotlib.pyplot as plt  # noqa: E402
from matplotlib.colors import to_rgba  # noqa: E402

RNG = np.random.default_rng(0)
NAMES = list("abcdefgh")  # more than there are colours
SETS = np.repeat(NAMES, 10)
VALUES = RNG.random(80)
IMAGES = RNG.random((3, 3, 4, 5))

MAKE = {
    ActivationMapDisplay: lambda: ActivationMapDisplay(
        maps=RNG.random((2, 3, 3)), channels=[0, 1], layer="conv", image=np.eye(3)
    ),
    ClusterDistanceDisplay: lambda: ClusterDistanceDisplay(
        cluster_distance=VALUES, confidence=RNG.random(80), groups=SETS
    ),
    DriftDisplay: lambda: DriftDisplay(
        history={
            "row": np.arange(1, 81),
            "p_value": VALUES,
            "is_alarm": VALUES < 0.1,
            "martingale": 1 + VALUES,
            "alarm_rate": VALUES,
            "rate_lower_bound": VALUES / 2,
        },
        rate_limit=0.2,
        martingale_limit=200,
        alarm_time=60,
    ),
    HammingDistanceDisplay: lambda: HammingDistanceDisplay(
        distances=np.arange(80) // 3, groups=SETS, threshold=20
    ),
    MeanActivationDisplay: lambda: MeanActivationDisplay(
        means={name: RNG.random(6) for name in NAMES}, layer="fc"
    ),
    MeanPerformanceDisplay: lambda: MeanPerformanceDisplay(
        detectors=["x", "y"],
        means={name: [0.7, 0.8] for name in NAMES},
        errors={name: [0.1, 0.05] for name in NAMES},
    ),
    NeuronMeasureDisplay: lambda: NeuronMeasureDisplay(
        height={"fc": RNG.random(5)}, reference=0.5, reference_label="network"
    ),
    OODRocCurveDisplay: lambda: OODRocCurveDisplay(
        fpr=dict.fromkeys(NAMES, np.array([0, 0.2, 1])),
        tpr=dict.fromkeys(NAMES, np.array([0, 0.9, 1])),
        roc_auc=dict.fromkeys(NAMES, 0.9),
    ),
    PatternDisplay: lambda: PatternDisplay(
        patterns=RNG.random((2, 12)) > 0.5,
        groups=["stored", "new"],
        neurons={"fc": np.arange(12)},
        mark_differences=True,
    ),
    ProgressionDisplay: lambda: ProgressionDisplay(
        values=RNG.random((80, 3)), layers=["l1", "l2", "l3"], groups=SETS
    ),
    ReconstructionDisplay: lambda: ReconstructionDisplay(
        images=IMAGES, drawn=1 - IMAGES, errors=[1, 2, 3], y=["b", "a", "b"]
    ),
    ReconstructionErrorDisplay: lambda: ReconstructionErrorDisplay(
        errors=VALUES, y=SETS, known=NAMES[:4], threshold=0.9
    ),
    ReliabilityDisplay: lambda: ReliabilityDisplay(
        bins=calibration_bins([True, False, True], [0.9, 0.6, 0.7], n_bins=4)
    ),
    RiskCoverageDisplay: lambda: RiskCoverageDisplay(
        coverage=dict.fromkeys(NAMES, np.array([0.2, 0.7, 1])),
        risk=dict.fromkeys(NAMES, np.array([0, 0.1, 0.2])),
        area=dict.fromkeys(NAMES, 0.1),
    ),
    SettingAccuracyDisplay: lambda: SettingAccuracyDisplay(
        validation_accuracy=VALUES[:70],
        test_accuracy=VALUES[10:],
        groups=SETS[:70],
        chosen=np.arange(70) < 3,
    ),
    SharedNeuronDisplay: lambda: SharedNeuronDisplay(
        shares={name: RNG.random((3, 4)) for name in NAMES},
        overlap=[0, 0.2, 0.4, 0.6],
        percentile=90,
    ),
    TransferDisplay: lambda: TransferDisplay(
        values=[[np.nan, 0.6], [0.9, np.nan]], validation=["c", "d"], test=["c", "d"]
    ),
    ValidationTestDisplay: lambda: ValidationTestDisplay(
        validation=VALUES, test=1 - VALUES, groups=SETS
    ),
}
every_display = pytest.mark.parametrize("display", MAKE, ids=lambda display: display.__name__)
STYLES = pytest.mark.parametrize("style", ["default", "dark_background", "grayscale", "ggplot"])


@pytest.fixture(autouse=True)
def _close_figures():
    yield
    plt.close("all")


def test_every_display_is_looked_at():
    public = {name for name in skood.inspection.__all__ if name.endswith("Display")}
    assert {display.__name__ for display in MAKE} == public | {"ReliabilityDisplay", "DriftDisplay"}


def luminance(color):
    linear = [c / 12.92 if c <= 0.04045 else ((c + 0.055) / 1.055) ** 2.4 for c in color[:3]]
    return np.dot(linear, [0.2126, 0.7152, 0.0722])


def contrast(color, behind):
    lower, higher = sorted([luminance(to_rgba(color)), luminance(to_rgba(behind))])
    return (higher + 0.05) / (lower + 0.05)


def colours_on(ax):
    """Colours of what stands on the axes: lines, points, error bars and texts."""
    lines = {f"line {line.get_label()}": line.get_color() for line in ax.lines}
    texts = {f"text {text.get_text()}": text.get_color() for text in ax.texts if text.get_text()}
    found = lines | texts
    for number, collection in enumerate(ax.collections):
        # Rings have no colour inside, and areas no lines.
        for color in [*collection.get_facecolor(), *collection.get_edgecolor()]:
            if color[3] > 0.4:
                found[f"collection {number} {collection.get_label()} {color}"] = color
    return found


def labels_beside(ax):
    """Colours of titles, and of labels of axes and ticks."""
    labels = [
        ax.title,
        ax.xaxis.label,
        ax.yaxis.label,
        *ax.get_xticklabels(),
        *ax.get_yticklabels(),
    ]
    return {f"label {text.get_text()}": text.get_color() for text in labels if text.get_text()}


def names_in_legend(ax):
    texts = [] if ax.get_legend() is None else ax.get_legend().get_texts()
    return {f"name {text.get_text()}": text.get_color() for text in texts}


def axes_of(drawn):
    return np.ravel(drawn.axes_) if hasattr(drawn, "axes_") else [drawn.ax_]


def faint(colours, behind):
    """What has too little contrast to what is behind it, by the names of what it is."""
    return {key: color for key, color in colours.items() if contrast(color, behind) < 1.7}


def drawn_on(display, ax):
    # The numbers of a heat map stand on its cells.
    return {} if isinstance(display, TransferDisplay) else colours_on(ax)


@every_display
@STYLES
def test_lines_points_and_texts_stand_out_in_every_style(display, style):
    with plt.style.context(style):
        drawn = MAKE[display]().plot()
        drawn.figure_.canvas.draw()
    for ax in axes_of(drawn):
        assert not faint(drawn_on(drawn, ax) | names_in_legend(ax), ax.get_facecolor())
        assert not faint(labels_beside(ax), drawn.figure_.get_facecolor())


@every_display
def test_on_axes_of_another_style_they_stand_out_too(display):
    """As in a notebook that draws on a figure made before, whose labels have their colours."""
    with plt.style.context("dark_background"):
        n_axes = 3 if display is ActivationMapDisplay else 1
        _, axes = plt.subplots(1, n_axes, squeeze=False)
    drawn = MAKE[display]().plot(axes[0, 0] if n_axes == 1 else axes[0])
    for ax in axes_of(drawn):
        assert not faint(drawn_on(drawn, ax), ax.get_facecolor())


def test_error_bars_are_white_on_dark_axes_and_black_on_bright_ones():
    table = make_table("ab")
    for style, color in (("dark_background", "white"), ("default", "black")):
        with plt.style.context(style):
            drawn = MeanPerformanceDisplay.from_table(table)
            for bars in drawn.bars_.values():
                *_, (lines,) = bars.errorbar.lines
                assert (lines.get_color() == to_rgba(color)).all()
    red = MeanPerformanceDisplay.from_table(table, ecolor="red").bars_["auroc"]
    assert (red.errorbar.lines[2][0].get_color() == to_rgba("red")).all()


def test_axes_without_a_colour_show_that_of_their_figure():
    figure, ax = plt.subplots(facecolor="black")
    ax.set_facecolor("none")
    drawn = MAKE[NeuronMeasureDisplay]().plot(ax)
    assert drawn.reference_lines_["fc"].get_color() == "white"
    figure.set_facecolor("white")
    assert drawn.plot(ax).reference_lines_["fc"].get_color() == "black"


@pytest.mark.parametrize("style", ["default", "dark_background"])
def test_gaps_between_coloured_images_show_the_axes(style):
    with plt.style.context(style):
        drawn = MAKE[ReconstructionDisplay]().plot()
    canvas = np.asarray(drawn.image_.get_array())
    assert canvas.shape[-1] == 4
    # Three images and what is drawn of each, and nothing between them.
    assert (canvas[..., 3] == 1).sum() == 2 * 3 * 4 * 5
    assert set(canvas[..., 3].ravel()) == {0, 1}
