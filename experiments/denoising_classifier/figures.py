"""The figures of the experiment with the denoising classifier."""

from __future__ import annotations

from collections.abc import Mapping

import matplotlib.pyplot as plt
import numpy as np
from matplotlib.figure import Figure
from numpy.typing import NDArray
from scipy.special import logit

from skood.inspection import ReconstructionDisplay, ReconstructionErrorDisplay
from skood.training import DenoisingClassifier

from .digits import Digits
from .rules import Outcome

COLORS = {
    "digits, right": "#0072b2",
    "digits, wrong": "#e69f00",
    "zeros": "#d55e00",
    "digits, turned": "#009e73",
}


def draw_all(
    net: DenoisingClassifier,
    digits: Digits,
    rules: Mapping[str, Outcome],
    published: tuple[float, float],
) -> dict[str, Figure]:
    """All figures by the names of their files, with the thresholds that the network has."""
    sets = split_sets(net, digits)
    return {
        "scores": draw_distributions(net, sets),
        "trade_off": draw_trade_off(net, sets, rules, published),
        "drawn": draw_reconstructions(net, sets),
        "errors_by_class": draw_errors(net, digits),
        "largest_errors": draw_largest_errors(net, digits),
    }


def split_sets(net: DenoisingClassifier, digits: Digits) -> dict[str, NDArray]:
    """Test images by what they are to the network."""
    X, y = digits.X_test, digits.y_test
    right = net.classes_[net.predict_proba(X).argmax(axis=1)] == y
    known = np.isin(y, net.classes_)
    turned = np.rot90(X[known], axes=(-2, -1))
    groups = (X[right], X[known & ~right], X[~known], turned)
    return dict(zip(COLORS, groups, strict=True))


def draw_distributions(net: DenoisingClassifier, sets: Mapping[str, NDArray]) -> Figure:
    """Confidences and errors, each with its threshold."""
    figure, axes = plt.subplots(1, 2, figsize=(11, 3.8), layout="constrained")
    # Float32 separates no probability from 1 above this.
    largest = 1 - 1e-7
    panels = [
        ("log-odds of the predicted class", logit(net.softmax_threshold_), lambda X: logit(
            np.minimum(net.predict_proba(X).max(axis=1).astype(float), largest))),
        ("log10 of the reconstruction error", np.log10(net.error_threshold_),
         lambda X: np.log10(net.reconstruction_error(X))),
    ]  # fmt: skip
    for ax, (label, threshold, measure) in zip(axes, panels, strict=True):
        values = {name: measure(X) for name, X in sets.items()}
        bins = np.histogram_bin_edges(np.concatenate(list(values.values())), 60)
        for name, some in values.items():
            ax.hist(some, bins, density=True, histtype="step", lw=1.6, color=COLORS[name],
                    label=f"{name} ({len(some):,})")  # fmt: skip
        if np.isfinite(threshold):
            ax.axvline(threshold, color="black", ls=":", label="threshold")
        ax.set(xlabel=label, ylabel="density")
    axes[0].legend(loc="upper right", fontsize=8)
    return figure


def draw_trade_off(
    net: DenoisingClassifier,
    sets: Mapping[str, NDArray],
    rules: Mapping[str, Outcome],
    published: tuple[float, float],
) -> Figure:
    """Zeros found against digits kept and right, over all thresholds of the score."""
    figure, ax = plt.subplots(figsize=(7, 6), layout="constrained")
    right, wrong, zeros = (net.score_samples(sets[name]) for name in list(COLORS)[:3])
    thresholds = np.quantile(np.concatenate([right, zeros]), np.linspace(0, 1, 400))
    kept = [(right >= threshold).sum() / (len(right) + len(wrong)) for threshold in thresholds]
    found = [(zeros < threshold).mean() for threshold in thresholds]
    corner = ax.inset_axes((0.1, 0.45, 0.62, 0.45), xlim=(0.93, 1.002), ylim=(0.86, 1.0))
    for axes in (ax, corner):
        axes.plot(found, kept, color="#0072b2", label="automatic score, any threshold")
        for number, (name, outcome) in enumerate(rules.items()):
            axes.plot(outcome.found, outcome.kept, "os^Dv<>PX"[number % 9], label=name)
        axes.plot(*published, "k*", ms=13, label="published")
    ax.indicate_inset_zoom(corner)
    ax.set(xlabel="zeros found", ylabel="digits kept and right", xlim=(0, 1.02), ylim=(0, 1.02))
    ax.legend(fontsize=8, loc="lower left")
    return figure


def draw_reconstructions(
    net: DenoisingClassifier, sets: Mapping[str, NDArray], n_images: int = 6
) -> Figure:
    """Images of each kind beside what the decoder draws of them."""
    images = np.concatenate([X[:n_images] for X in sets.values()])
    names = np.repeat(list(sets), [len(X[:n_images]) for X in sets.values()])
    display = ReconstructionDisplay.from_estimator(
        net, images, names, n_images=n_images, order="first", vmin=0, vmax=1
    )
    return whole_figure(display)


def draw_errors(net: DenoisingClassifier, digits: Digits) -> Figure:
    """Errors of the test images by class; the threshold is that of the automatic rule."""
    figure, ax = plt.subplots(figsize=(7.5, 4.5), layout="constrained")
    ReconstructionErrorDisplay.from_estimator(net, digits.X_test, digits.y_test, ax=ax)
    return figure


def draw_largest_errors(net: DenoisingClassifier, digits: Digits) -> Figure:
    """The test images of each class that are drawn worst."""
    display = ReconstructionDisplay.from_estimator(
        net, digits.X_test, digits.y_test, vmin=0, vmax=1
    )
    return whole_figure(display)


def whole_figure(display: ReconstructionDisplay) -> Figure:
    """The figure of a display that has one of its own, not a part of another."""
    assert isinstance(display.figure_, Figure)
    return display.figure_
