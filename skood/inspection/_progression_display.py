"""How groups of nearest training patterns change through the layers, for sets of samples."""

from __future__ import annotations

from collections.abc import Sequence
from math import prod
from typing import TYPE_CHECKING, Any, Self

import numpy as np
from numpy.typing import ArrayLike, NDArray
from sklearn.utils import check_array

from .._axes import get_axes
from ._drawing import line_style, rows_by_set, split_pipeline

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.lines import Line2D

_FEATURES = ("distance", "matching")
_STEP = 0.09
"""Between the points of neighbouring sets, as a share of the way from layer to layer."""


class ProgressionDisplay:
    """Group progression through the layers, one line for each set of samples.

    Create it by :meth:`from_estimator` or :meth:`from_predictions`. A line is the mean over the
    samples of a set, the bars reach from their 25th to their 75th percentile.

    Parameters
    ----------
    values : array-like of shape (n_samples, n_layers)
        Average distance in bits to the final group, or share between 0 and 1 of the layer group
        that matches.
    layers : sequence of str
        Names of the layers, in forward order.
    groups : array-like of shape (n_samples,), default=None
        Name of the set that each sample belongs to. By default all are one set.
    feature : {"distance", "matching"}, default="distance"
        What ``values`` are.
    widths : array-like of shape (n_layers,), default=None
        Number of bits in each layer. With it, distances are drawn in percent of the layer's bits,
        so that layers of different widths can be compared; without it, in bits.

    Attributes
    ----------
    lines_ : dict of str to matplotlib Line2D
        The line of each set.
    bars_ : dict of str to matplotlib Line2D
        The bars of each set, parts of one broken line; empty where none were drawn.
    ax_ : matplotlib Axes
        Axes with the lines.
    figure_ : matplotlib Figure
        Figure that the axes belong to.

    See Also
    --------
    skood.GroupProgressionDetector : Scores samples by these values.
    ClusterDistanceDisplay : Distances to clusters of patterns, by confidence.

    Notes
    -----
    Two unrelated patterns that both have half of their bits set differ in about half of all bits,
    so in percent a distance of 50 is that of chance.

    References
    ----------
    V. Demuysere, "Investigating layer activation patterns in neural networks for classification
    error detection", master's dissertation, UCLouvain, 2018.

    Examples
    --------
    >>> from skood.inspection import ProgressionDisplay
    >>> display = ProgressionDisplay.from_predictions(
    ...     [[0.6, 1.0], [0.8, 1.0], [0.1, 0.7]],
    ...     layers=["relu1", "relu2"],
    ...     groups=["known", "known", "noise"],
    ...     feature="matching",
    ... )
    >>> display.lines_["known"].get_ydata()
    array([ 70., 100.])
    """

    def __init__(
        self,
        *,
        values: ArrayLike,
        layers: Sequence[str],
        groups: ArrayLike | None = None,
        feature: str = "distance",
        widths: ArrayLike | None = None,
    ) -> None:
        self.values = values
        self.layers = layers
        self.groups = groups
        self.feature = feature
        self.widths = widths

    @classmethod
    def from_estimator(
        cls,
        detector: Any,
        X: Any,
        groups: ArrayLike | None = None,
        *,
        feature: str = "distance",
        ax: Axes | None = None,
        **line_kw: Any,
    ) -> Self:
        """Draw the progression of samples that a detector follows through the layers.

        Parameters
        ----------
        detector : estimator
            Fitted :class:`~skood.GroupProgressionDetector`, or a fitted
            pipeline that ends in one.
        X : Activations or array-like of shape (n_samples, n_features)
            Samples, as the detector or pipeline takes them.
        groups : array-like of shape (n_samples,), default=None
            Name of the set that each sample belongs to, drawn in the order of their first
            samples. By default all are one set.
        feature : {"distance", "matching"}, default="distance"
            "distance": average distance to the final group, in percent of the layer's bits;
            "matching": percentage of the layer group that has the class predicted for
            the sample.
        ax : matplotlib Axes, default=None
            Axes to draw on; new ones by default.
        **line_kw : dict
            Keyword arguments of matplotlib's ``plot``, for all lines.

        Returns
        -------
        display : ProgressionDisplay
            The display, drawn.

        Raises
        ------
        ValueError
            If ``feature`` is unknown, or ``groups`` has another length than ``X``.
        TypeError
            If ``detector`` is not of the kind above.
        """
        _check_feature(feature)
        detector, X = split_pipeline(detector, X, "progression")
        return cls.from_predictions(
            getattr(detector.progression(X), feature),
            detector.layers_,
            groups,
            feature=feature,
            widths=_layer_widths(detector) if feature == "distance" else None,
            ax=ax,
            **line_kw,
        )

    @classmethod
    def from_predictions(
        cls,
        values: ArrayLike,
        layers: Sequence[str],
        groups: ArrayLike | None = None,
        *,
        feature: str = "distance",
        widths: ArrayLike | None = None,
        ax: Axes | None = None,
        **line_kw: Any,
    ) -> Self:
        """Draw one of the two tables that ``progression`` of a detector returns.

        Parameters
        ----------
        values : array-like of shape (n_samples, n_layers)
            Average distance in bits to the final group, or share between 0 and 1 of the layer
            group that matches.
        layers : sequence of str
            Names of the layers, in forward order.
        groups : array-like of shape (n_samples,), default=None
            Name of the set that each sample belongs to, drawn in the order of their first
            samples. By default all are one set.
        feature : {"distance", "matching"}, default="distance"
            What ``values`` are.
        widths : array-like of shape (n_layers,), default=None
            Number of bits in each layer. With it, distances are drawn in percent of the
            layer's bits, without it in bits.
        ax : matplotlib Axes, default=None
            Axes to draw on; new ones by default.
        **line_kw : dict
            Keyword arguments of matplotlib's ``plot``, for all lines.

        Returns
        -------
        display : ProgressionDisplay
            The display, drawn.

        Raises
        ------
        ValueError
            If ``feature`` is unknown, ``widths`` come with another feature than "distance", or
            the lengths disagree.
        """
        _check_feature(feature)
        values = check_array(values, dtype=np.float64, input_name="values")
        _, n_layers = np.shape(values)
        if len(layers) != n_layers:
            raise ValueError(f"values has {n_layers} layers, but layers names {len(layers)}.")
        if widths is not None:
            _check_widths(widths, feature, n_layers)
        display = cls(values=values, layers=layers, groups=groups, feature=feature, widths=widths)
        return display.plot(ax, **line_kw)

    def plot(
        self,
        ax: Axes | None = None,
        *,
        percentiles: tuple[float, float] | None = (25, 75),
        **line_kw: Any,
    ) -> Self:
        """Draw the lines and bars.

        Parameters
        ----------
        ax : matplotlib Axes, default=None
            Axes to draw on; new ones by default.
        percentiles : tuple of (float, float), default=(25, 75)
            Percentiles of a set's samples between which its bars reach; None for no bars.
        **line_kw : dict
            Keyword arguments of matplotlib's ``plot``, for all lines.

        Returns
        -------
        self : ProgressionDisplay
            The display.

        Raises
        ------
        ValueError
            If ``groups`` has another length than ``values``.
        """
        sets = rows_by_set(self.groups, len(np.asarray(self.values)))
        self.figure_, self.ax_ = get_axes(ax, "ProgressionDisplay")
        values, unit = self._as_drawn()
        self.lines_, self.bars_ = {}, {}
        for number, (name, rows) in enumerate(sets.items()):
            places = np.arange(len(self.layers)) + _STEP * (number - (len(sets) - 1) / 2)
            style = {**line_style(self.ax_, number), "label": f"{name} ({len(rows)})"}
            (line,) = self.ax_.plot(places, values[rows].mean(axis=0), **(style | line_kw))
            self.lines_[name] = line
            if percentiles is not None:
                ends = np.percentile(values[rows], percentiles, axis=0)
                self.bars_[name] = self._draw_bars(places, ends, line.get_color())
        self._describe(unit)
        return self

    def _draw_bars(self, places: NDArray, ends: NDArray, color: Any) -> Line2D:
        # One broken line: the legend keeps clear of lines, but not of collections of lines.
        gaps = np.full(len(places), np.nan)
        (bars,) = self.ax_.plot(
            np.repeat(places, 3),
            np.column_stack([*ends, gaps]).ravel(),
            color=color,
            alpha=0.3,
            linewidth=6,
            solid_capstyle="butt",
        )
        return bars

    def _as_drawn(self) -> tuple[NDArray[np.float64], str]:
        """The values to draw, and their unit."""
        values = np.asarray(self.values, dtype=np.float64)
        if self.feature == "matching":
            return 100 * values, "%"
        if self.widths is None:
            return values, "bits"
        return 100 * values / np.asarray(self.widths), "% of the layer's bits"

    def _describe(self, unit: str) -> None:
        is_matching = self.feature == "matching"
        what = "layer group with the predicted class" if is_matching else "distance to final group"
        are_long = sum(map(len, self.layers)) > 50
        self.ax_.set_xticks(
            np.arange(len(self.layers)),
            self.layers,
            rotation=30 if are_long else 0,
            ha="right" if are_long else "center",
        )
        self.ax_.set(xlabel="layer, first to last", ylabel=f"{what} ({unit})")
        self.ax_.set_xlim(-0.5, len(self.layers) - 0.5)
        self.ax_.set_ylim(0, 103 if is_matching else None)
        self.ax_.legend(title=None if self.groups is None else "set (samples)")


def _check_feature(feature: str) -> None:
    if feature not in _FEATURES:
        raise ValueError(f"feature must be one of {_FEATURES}, got {feature!r}.")


def _check_widths(widths: ArrayLike, feature: str, n_layers: int) -> None:
    if feature != "distance":
        raise ValueError(f"widths scale distances, but feature is {feature!r}.")
    if np.shape(widths) != (n_layers,):
        raise ValueError(f"There are {n_layers} layers, but widths has shape {np.shape(widths)}.")


def _layer_widths(detector: Any) -> list[int]:
    """Number of bits in each layer of a detector, which is fitted on Activations or an array."""
    if hasattr(detector, "layer_shapes_"):
        return [prod(detector.layer_shapes_[name]) for name in detector.layers_]
    return [detector.n_features_in_]
