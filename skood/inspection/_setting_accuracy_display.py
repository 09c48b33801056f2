"""How well the accuracy on validation samples foretells the one on test samples."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Self

import numpy as np
from numpy.typing import ArrayLike, NDArray
from sklearn.utils import check_consistent_length
from sklearn.utils.validation import column_or_1d

from .._axes import get_axes, ink
from .._optional import import_optional
from ..ensemble import AutoNAPDetector
from ._drawing import correlations, draw_diagonal, line_style, rows_by_set, split_pipeline

if TYPE_CHECKING:
    from matplotlib.axes import Axes

_COLUMNS = ("layer", "pooling", "percentile")
_N_STYLES = 7


class SettingAccuracyDisplay:
    """Validation against test accuracy of every setting that was tried, a point for each.

    Create it by :meth:`from_estimator` or :meth:`from_predictions`. Where the points lie along a
    line, the out-of-distribution samples that chose the settings were a good guide to those of the
    test; the legend's title states the correlation.

    Parameters
    ----------
    validation_accuracy : array-like of shape (n_settings,)
        Accuracy of each setting on the samples that settings are chosen by.
    test_accuracy : array-like of shape (n_settings,)
        Accuracy of the same settings on other samples.
    groups : array-like of shape (n_settings,), default=None
        Name of the set that each setting belongs to, such as its layer; a colour for each. By
        default all are one set.
    chosen : array-like of bool of shape (n_settings,), default=None
        Which settings were chosen, to be ringed.

    Attributes
    ----------
    pearson_ : float
        Pearson's correlation of the two accuracies; NaN where one of them does not vary.
    spearman_ : float
        Spearman's correlation, of their ranks; NaN where one of them does not vary.
    points_ : dict of str to matplotlib PathCollection
        The points of each set.
    chosen_ : matplotlib PathCollection or None
        The rings.
    diagonal_ : matplotlib Line2D
        Where both accuracies are equal.
    ax_ : matplotlib Axes
        Axes with the points.
    figure_ : matplotlib Figure
        Figure that the axes belong to.

    See Also
    --------
    skood.ensemble.AutoNAPDetector : Tries settings, and combines the best.
    HammingDistanceDisplay : What is behind one of the points.

    Notes
    -----
    This is figure 1 of the supplement of [1]_, for which the out-of-distribution samples of the
    validation and of the test come from different data sets.

    References
    ----------
    .. [1] B. Olber, K. Radlak, A. Popowicz, M. Szczepankiewicz, K. Chachula, "Detection of
       out-of-distribution samples using binary neuron activation patterns", CVPR 2023.
       arXiv:2212.14268

    Examples
    --------
    >>> from skood.inspection import SettingAccuracyDisplay
    >>> display = SettingAccuracyDisplay.from_predictions(
    ...     [0.6, 0.7, 0.8, 0.9], [0.5, 0.6, 0.9, 0.8], ["relu1", "relu1", "relu2", "relu2"]
    ... )
    >>> round(display.pearson_, 2), round(display.spearman_, 2)
    (0.85, 0.8)
    """

    def __init__(
        self,
        *,
        validation_accuracy: ArrayLike,
        test_accuracy: ArrayLike,
        groups: ArrayLike | None = None,
        chosen: ArrayLike | None = None,
    ) -> None:
        self.validation_accuracy = validation_accuracy
        self.test_accuracy = test_accuracy
        self.groups = groups
        self.chosen = chosen

    @classmethod
    def from_estimator(
        cls,
        detector: Any,
        X: Any,
        y: ArrayLike,
        *,
        color_by: str = "layer",
        ax: Axes | None = None,
        **scatter_kw: Any,
    ) -> Self:
        """Draw what a detector has tried, against its accuracies on test samples.

        Poolings that give the same patterns, of a layer without maps, are one setting.

        Parameters
        ----------
        detector : estimator
            :class:`~skood.ensemble.AutoNAPDetector`, fitted with ``keep_settings=True``, or a
            fitted pipeline that ends in one.
        X : Activations or array-like of shape (n_samples, n_features)
            Test samples, as the detector or pipeline takes them.
        y : array-like of shape (n_samples,)
            Their labels; -1 marks an out-of-distribution sample, any other value an
            in-distribution one. As many of either kind as in the validation make the accuracies
            comparable.
        color_by : {"layer", "pooling", "percentile"}, default="layer"
            What the colours mean.
        ax : matplotlib Axes, default=None
            Axes to draw on; new ones by default.
        **scatter_kw : dict
            Keyword arguments of matplotlib's ``scatter``, for all sets.

        Returns
        -------
        display : SettingAccuracyDisplay
            The display, drawn.

        Raises
        ------
        TypeError
            If ``detector`` is not of the kind above.
        ValueError
            If it was fitted without ``keep_settings=True``, ``color_by`` is unknown, or one of the
            two kinds of samples is missing.
        """
        if color_by not in _COLUMNS:
            raise ValueError(f"color_by must be one of {_COLUMNS}, got {color_by!r}.")
        detector, X = split_pipeline(detector, X, "score_samples")
        if not isinstance(detector, AutoNAPDetector):
            raise TypeError(f"Expected an AutoNAPDetector, got {detector!r}.")
        test = detector.score_settings(X, y)
        results, distinct = detector.results_, detector.distinct_settings_
        return cls.from_predictions(
            results["accuracy"][distinct],
            test[distinct],
            results[color_by][distinct],
            chosen=_is_chosen(detector)[distinct],
            ax=ax,
            **scatter_kw,
        )

    @classmethod
    def from_predictions(
        cls,
        validation_accuracy: ArrayLike,
        test_accuracy: ArrayLike,
        groups: ArrayLike | None = None,
        *,
        chosen: ArrayLike | None = None,
        ax: Axes | None = None,
        **scatter_kw: Any,
    ) -> Self:
        """Draw accuracies of settings, such as those of a search.

        Parameters
        ----------
        validation_accuracy : array-like of shape (n_settings,)
            Accuracy of each setting on the samples that settings are chosen by.
        test_accuracy : array-like of shape (n_settings,)
            Accuracy of the same settings on other samples.
        groups : array-like of shape (n_settings,), default=None
            Name of the set that each setting belongs to.
        chosen : array-like of bool of shape (n_settings,), default=None
            Which settings were chosen, to be ringed.
        ax : matplotlib Axes, default=None
            Axes to draw on; new ones by default.
        **scatter_kw : dict
            Keyword arguments of matplotlib's ``scatter``, for all sets.

        Returns
        -------
        display : SettingAccuracyDisplay
            The display, drawn.

        Raises
        ------
        ValueError
            If the lengths differ.
        """
        display = cls(
            validation_accuracy=validation_accuracy,
            test_accuracy=test_accuracy,
            groups=groups,
            chosen=chosen,
        )
        return display.plot(ax, **scatter_kw)

    def plot(self, ax: Axes | None = None, **scatter_kw: Any) -> Self:
        """Draw the points.

        Parameters
        ----------
        ax : matplotlib Axes, default=None
            Axes to draw on; new ones by default.
        **scatter_kw : dict
            Keyword arguments of matplotlib's ``scatter``, for all sets.

        Returns
        -------
        self : SettingAccuracyDisplay
            The display.

        Raises
        ------
        ValueError
            If the lengths differ.
        """
        before, after = (
            column_or_1d(accuracy, dtype=np.float64)
            for accuracy in (self.validation_accuracy, self.test_accuracy)
        )
        check_consistent_length(before, after, self.chosen)
        sets = rows_by_set(self.groups, len(before))
        self.pearson_, self.spearman_ = correlations(before, after)
        self.figure_, self.ax_ = get_axes(ax, "SettingAccuracyDisplay")
        self.points_ = {}
        for style, (name, rows) in zip(_styles(self.ax_, len(sets)), sets.items(), strict=True):
            style = {**style, "label": name, **scatter_kw}
            self.points_[name] = self.ax_.scatter(before[rows], after[rows], **style)
        self._ring(before, after)
        self._describe(before, after)
        return self

    def _ring(self, before: NDArray, after: NDArray) -> None:
        self.chosen_ = None
        if self.chosen is None:
            return
        rows = np.flatnonzero(np.asarray(self.chosen, dtype=bool))
        style: dict[str, Any] = {
            "facecolors": "none",
            "edgecolors": ink(self.ax_),
            "s": 110,
            "label": "chosen",
        }
        self.chosen_ = self.ax_.scatter(before[rows], after[rows], **style)

    def _describe(self, before: NDArray, after: NDArray) -> None:
        self.diagonal_ = draw_diagonal(self.ax_, before, after)
        self.ax_.set(xlabel="validation accuracy", ylabel="test accuracy")
        correlation = f"Pearson {self.pearson_:.2f}, Spearman {self.spearman_:.2f}"
        self.ax_.legend(title=correlation, fontsize="small")


def _is_chosen(detector: AutoNAPDetector) -> NDArray[np.bool_]:
    """Which of the settings that were tried are combined."""
    chosen = set(
        zip(detector.layers_, detector.poolings_, detector.percentiles_.tolist(), strict=True)
    )
    columns = (detector.results_[column].tolist() for column in _COLUMNS)
    return np.array([setting in chosen for setting in zip(*columns, strict=True)])


def _styles(ax: Axes, n_sets: int) -> list[dict[str, Any]]:
    """Colour and marker of each set; more sets than colours are shades in their order."""
    styles = [line_style(ax, number) for number in range(n_sets)]
    colors = [style["color"] for style in styles]
    if n_sets > _N_STYLES:
        pyplot = import_optional("matplotlib.pyplot", "plot", "SettingAccuracyDisplay")
        colors = list(pyplot.get_cmap("viridis")(np.linspace(0, 1, n_sets)))
    return [
        {"color": [color], "marker": style["marker"]}
        for color, style in zip(colors, styles, strict=True)
    ]
