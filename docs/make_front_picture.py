"""Draw the picture of the front page and of the README, for light pages and for dark ones.

``python docs/make_front_picture.py`` writes ``front_light.svg`` and ``front_dark.svg`` in
``docs/_static``: a small network for digits, what it says of digits that it knows and of others,
how sure it is, and where a monitor puts them.
"""

from __future__ import annotations

import warnings
from pathlib import Path
from typing import NamedTuple

import matplotlib as mpl
import matplotlib.pyplot as plt
import numpy as np
from matplotlib.axes import Axes
from matplotlib.offsetbox import AnnotationBbox, OffsetImage
from numpy.typing import NDArray
from scipy.special import softmax
from scipy.stats import gaussian_kde
from sklearn.utils import Bunch

from skood import ActivationExtractor, Monitor, make_monitor
from skood.calibration import UncalibratedWarning
from skood.datasets import load_digits_network

mpl.use("Agg")
# The same file from the same numbers.
mpl.rcParams["svg.hashsalt"] = "skood"

FOLDER = Path(__file__).parent / "_static"
# Text, lines, known, unknown: colours that stay apart for colour-blind eyes and on their page.
THEMES = {
    "light": ("#222832", "#8a94a3", "#0072b2", "#d55e00"),
    "dark": ("#dfe4ea", "#7f8895", "#56b4e9", "#f08a4b"),
}
# The images shown are those whose scores are nearest to the first number, at the second one.
KNOWN = ((-7.0, -8.0), (-3.2, -3.6), (-0.9, -0.9))
UNKNOWN = ((-14.9, -15.2), (-12.5, -12.2), (-7.6, -8.4), (-2.4, -3.0))
LEFT, RIGHT = -16.5, 0.6


class Kind(NamedTuple):
    """Images of one kind, and what network and monitor say of them."""

    images: NDArray
    answers: NDArray
    confidence: NDArray
    scores: NDArray
    is_shown: NDArray  # the network is sure, and right if it can be


def measure() -> tuple[Kind, Kind, float]:
    """Known and unknown digits, and the threshold of the monitor."""
    digits = load_digits_network(held_out=(1, 5))
    X = digits.data
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", UncalibratedWarning)
        monitor = make_monitor(digits.network).fit(X[digits.train])
    monitor.calibrate(X[digits.calibration], false_alarm_rate=0.05)
    known, unknown = (judged(monitor, digits, rows) for rows in (digits.test, digits.unknown))
    return known, unknown, monitor.offset_


def judged(monitor: Monitor, digits: Bunch, rows: NDArray) -> Kind:
    images = digits.data[rows]
    A = ActivationExtractor(digits.network).fit_transform(images)
    confidence = softmax(A.logits, axis=1).max(axis=1)
    answers = np.asarray(digits.target_names)[A.predictions]
    is_right = (answers == digits.digit[rows]) | (digits.target[rows] == -1)
    scores = monitor.score_samples(images)
    return Kind(images, answers, confidence, scores, is_right & (confidence > 0.9))


def draw(known: Kind, unknown: Kind, threshold: float, theme: str) -> None:
    text, line, blue, orange = THEMES[theme]
    with mpl.rc_context({"text.color": text, "font.size": 12}):
        figure, ax = plt.subplots(figsize=(7.6, 4.8))
        draw_scores(ax, known, blue, up=True)
        draw_scores(ax, unknown, orange, up=False)
        ax.axhline(0, color=line, linewidth=1)
        ax.axvline(threshold, color=text, linestyle="--", linewidth=1.5)
        draw_images(ax, known, KNOWN, blue, up=True)
        draw_images(ax, unknown, UNKNOWN, orange, up=False)
        write(ax, threshold, blue, orange)
        ax.set(xlim=(LEFT, RIGHT), ylim=(-3, 3))
        ax.axis("off")
        file = FOLDER / f"front_{theme}.svg"
        figure.savefig(file, transparent=True, bbox_inches="tight", metadata={"Date": None})
        plt.close(figure)


def draw_scores(ax: Axes, kind: Kind, colour: str, *, up: bool) -> None:
    """How the scores of a kind are spread, above the axis or below it."""
    grid = np.linspace(LEFT, RIGHT, 300)
    density = gaussian_kde(kind.scores[kind.scores > LEFT])(grid)
    heights = density / density.max() * (1 if up else -1)
    ax.fill_between(grid, heights, color=colour, alpha=0.35, linewidth=0)


def draw_images(
    ax: Axes, kind: Kind, shown: tuple[tuple[float, float], ...], colour: str, *, up: bool
) -> None:
    """Single images, where their scores are, and what the network takes them for."""
    sign = 1 if up else -1
    for score, x in shown:
        row = nearest(kind, score)
        ax.plot([x, kind.scores[row]], [sign * 1.6, 0], color=colour, linewidth=1)
        ax.plot(kind.scores[row], 0, "o", color=colour, markersize=6)
        image = OffsetImage(kind.images[row, 0], zoom=5, cmap="gray_r", interpolation="nearest")
        frame = {"edgecolor": colour, "linewidth": 2.5, "boxstyle": "square,pad=0.05"}
        ax.add_artist(AnnotationBbox(image, (x, sign * 1.75), pad=0, bboxprops=frame))
        says = f"\u201c{kind.answers[row]}\u201d, {100 * kind.confidence[row]:.0f} %"
        ax.text(x, sign * 2.4, says, ha="center", va="center")


def nearest(kind: Kind, place: float) -> int:
    """The image whose score is nearest to a place, among those that may be shown."""
    return int(np.argmin(np.where(kind.is_shown, np.abs(kind.scores - place), np.inf)))


def write(ax: Axes, threshold: float, blue: str, orange: str) -> None:
    title = {"weight": "bold", "va": "center"}
    ax.text(LEFT, 2.0, "Digits that the network\nhas learnt", color=blue, **title)
    ax.text(LEFT, -2.85, "Digits that it has never seen: 1 and 5", color=orange, **title)
    ax.text(LEFT, 1.2, "\u201canswer\u201d, how sure it is", va="center")
    ax.text(threshold - 0.2, 2.85, "monitor: do not trust", ha="right", **title)
    ax.text(threshold + 0.2, 2.85, "trust", **title)


if __name__ == "__main__":
    measured = measure()
    for theme in THEMES:
        draw(*measured, theme)
