"""Accuracy against confidence in a figure."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Self

import numpy as np
from numpy.typing import ArrayLike

from .._axes import get_axes, ink
from .._classes import check_class_labels
from .._marks import in_distribution_mask, take_rows
from ..activations import Activations
from ._calibration_error import CalibrationBins, calibration_bins, error_of_bins
from ._confidence import prediction_confidence

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.container import BarContainer
    from matplotlib.lines import Line2D


class ReliabilityDisplay:
    """Accuracy by confidence: the reliability diagram of a network.

    Create it by :meth:`from_activations` or :meth:`from_predictions`. A bar is the accuracy of
    the samples in a bin of confidences; hatched is the gap to their mean confidence. A gap on top
    of the bar means overconfidence, a gap inside the bar underconfidence. The upper axis shows the
    percentage of the samples in each bin, the legend the expected calibration error (ECE).

    Parameters
    ----------
    bins : CalibrationBins
        What :func:`calibration_bins` returns.
    name : str, default=None
        What the legend calls the bars; "accuracy" by default.

    Attributes
    ----------
    bars_ : matplotlib BarContainer
        Accuracies of the bins that are not empty.
    gaps_ : matplotlib BarContainer
        Gaps to the mean confidence in the same bins.
    line_ : matplotlib Line2D
        Where accuracy and confidence agree.
    ax_ : matplotlib Axes
        Axes with the bars.
    figure_ : matplotlib Figure
        Figure that the axes belong to.

    See Also
    --------
    expected_calibration_error : The number in the legend.
    TemperatureScaler : Makes the gaps smaller.

    Notes
    -----
    The upper axis needs space above the axes; figures made by
    ``plt.subplots(layout="constrained")`` leave enough, also for a title.

    Examples
    --------
    >>> from skood.calibration import ReliabilityDisplay
    >>> correct, confidence = [True, False, True, True], [0.6, 0.7, 0.9, 1.0]
    >>> display = ReliabilityDisplay.from_predictions(correct, confidence, n_bins=4)
    >>> display.bars_.get_label()
    'accuracy (ECE 0.100)'
    """

    def __init__(self, *, bins: CalibrationBins, name: str | None = None) -> None:
        self.bins = bins
        self.name = name

    @classmethod
    def from_activations(
        cls,
        X: Activations,
        y: ArrayLike,
        *,
        n_bins: int = 10,
        name: str | None = None,
        ax: Axes | None = None,
        **bar_kw: Any,
    ) -> Self:
        """Draw the accuracy of a network's predictions by their confidence.

        Parameters
        ----------
        X : Activations
            Activations with logits.
        y : array-like of shape (n_samples,)
            Class of each sample; -1 marks an out-of-distribution sample, which is left out.
        n_bins : int, default=10
            Number of bins of equal width.
        name : str, default=None
            What the legend calls the bars; "accuracy" by default.
        ax : matplotlib Axes, default=None
            Axes to draw on; new ones by default.
        **bar_kw : dict
            Keyword arguments of matplotlib's ``bar``, for the accuracies.

        Returns
        -------
        display : ReliabilityDisplay
            The display, drawn.

        Raises
        ------
        ValueError
            If ``X`` carries no logits, ``y`` has another length or holds a label that is not among
            the classes of the network, or no sample is in-distribution.
        """
        rows = np.flatnonzero(in_distribution_mask(y, len(X)))
        X, labels = take_rows(X, y, rows)
        confidence = prediction_confidence(X)
        check_class_labels(X, labels, cls.__name__)
        return cls.from_predictions(
            X.predictions == labels, confidence, n_bins=n_bins, name=name, ax=ax, **bar_kw
        )

    @classmethod
    def from_predictions(
        cls,
        correct: ArrayLike,
        confidence: ArrayLike,
        *,
        n_bins: int = 10,
        name: str | None = None,
        ax: Axes | None = None,
        **bar_kw: Any,
    ) -> Self:
        """Draw the accuracy of predictions by their confidence.

        Parameters
        ----------
        correct : array-like of bool of shape (n_samples,)
            Whether the network classified the sample correctly.
        confidence : array-like of shape (n_samples,)
            Its confidence, between 0 and 1 but for rounding.
        n_bins : int, default=10
            Number of bins of equal width.
        name : str, default=None
            What the legend calls the bars; "accuracy" by default.
        ax : matplotlib Axes, default=None
            Axes to draw on; new ones by default.
        **bar_kw : dict
            Keyword arguments of matplotlib's ``bar``, for the accuracies.

        Returns
        -------
        display : ReliabilityDisplay
            The display, drawn.

        Raises
        ------
        ValueError
            As :func:`calibration_bins`.
        """
        bins = calibration_bins(correct, confidence, n_bins=n_bins)
        return cls(bins=bins, name=name).plot(ax, **bar_kw)

    def plot(self, ax: Axes | None = None, *, name: str | None = None, **bar_kw: Any) -> Self:
        """Draw the bars.

        Parameters
        ----------
        ax : matplotlib Axes, default=None
            Axes to draw on; new ones by default.
        name : str, default=None
            What the legend calls the bars; by default the name of the display.
        **bar_kw : dict
            Keyword arguments of matplotlib's ``bar``, for the accuracies.

        Returns
        -------
        self : ReliabilityDisplay
            The display.

        Raises
        ------
        ImportError
            If matplotlib is not installed.
        """
        self.figure_, self.ax_ = get_axes(ax, "ReliabilityDisplay")
        self._draw_bars(name or self.name or "accuracy", bar_kw)
        style: dict[str, Any] = {"color": ink(self.ax_), "linestyle": "--", "linewidth": 1}
        self.line_: Line2D = self.ax_.plot([0, 1], [0, 1], **style, label="calibrated")[0]
        self._show_shares()
        self.ax_.set(xlabel="confidence", ylabel="accuracy", xlim=(0, 1), ylim=(0, 1))
        self.ax_.legend(handles=[self.bars_, self.gaps_, self.line_], loc="best")
        return self

    def _draw_bars(self, name: str, bar_kw: dict[str, Any]) -> None:
        edges, counts, accuracy, confidence = self.bins
        filled = counts > 0
        left, heights = edges[:-1][filled], accuracy[filled]
        width = 1 / len(counts)
        style = {
            "color": "#56b4e9",
            "edgecolor": "white",
            "label": f"{name} (ECE {error_of_bins(self.bins, 'l1'):.3f})",
            **bar_kw,
        }
        self.bars_: BarContainer = self.ax_.bar(left, heights, width, align="edge", **style)
        self.gaps_: BarContainer = self.ax_.bar(
            left,
            confidence[filled] - heights,
            width,
            bottom=heights,
            align="edge",
            facecolor="#d55e0040",
            edgecolor="#d55e00",
            hatch="///",
            label="gap to mean confidence",
        )

    def _show_shares(self) -> None:
        edges, counts, _, _ = self.bins
        shares = 100 * counts / counts.sum()
        labels = ["<1" if 0 < share < 1 else f"{share:.0f}" for share in shares]
        upper = self.ax_.secondary_xaxis("top")
        upper.set_ticks((edges[:-1] + edges[1:]) / 2, labels)
        upper.tick_params(length=0)
        upper.set_xlabel("samples (%)")
