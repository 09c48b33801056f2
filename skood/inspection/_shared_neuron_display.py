"""How many of a class's most important neurons it shares with other classes."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any, Self

import numpy as np
from numpy.typing import ArrayLike, NDArray

from .._axes import get_axes
from ..shaping import shared_top_neurons
from ._drawing import line_style

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.collections import PolyCollection
    from matplotlib.lines import Line2D

_OVERLAP = tuple(percent / 100 for percent in range(0, 100, 5))


class SharedNeuronDisplay:
    """Fraction of a class's important neurons that many classes share, a line for each network.

    Create it by :meth:`from_contributions`. The line falls early where each class has neurons of
    its own, and remains high where the same neurons are important for most classes. The band
    reaches from the class that shares least to the one that shares most.

    Parameters
    ----------
    shares : dict of str to array-like of shape (n_classes, n_overlaps)
        For each network, the fractions of each class.
    overlap : array-like of shape (n_overlaps,)
        The fractions of the classes.
    percentile : float
        A class's most important units are those whose contribution is above it.

    Attributes
    ----------
    lines_ : dict of str to matplotlib Line2D
        The mean over the classes of each network, in percent.
    ranges_ : dict of str to matplotlib PolyCollection
        From the smallest to the largest class, in percent.
    ax_ : matplotlib Axes
        Axes with the lines.
    figure_ : matplotlib Figure
        Figure that the axes belong to.

    See Also
    --------
    skood.shaping.shared_top_neurons : What is drawn, and how to read it.
    skood.shaping.LINe : Keeps the neurons that are important for the predicted class.

    Examples
    --------
    >>> from skood.inspection import SharedNeuronDisplay
    >>> contributions = [[5.0, 5.0, 5.0], [4.0, 0.0, 0.0], [0.0, 4.0, 0.0], [0.0, 0.0, 4.0]]
    >>> display = SharedNeuronDisplay.from_contributions(
    ...     {"net": contributions}, percentile=50, overlap=[0.3, 0.5]
    ... )
    >>> display.lines_["net"].get_ydata()
    array([100.,  50.])
    """

    def __init__(
        self, *, shares: Mapping[str, ArrayLike], overlap: ArrayLike, percentile: float
    ) -> None:
        self.shares = shares
        self.overlap = overlap
        self.percentile = percentile

    @classmethod
    def from_contributions(
        cls,
        contributions: Any,
        *,
        percentile: float = 90,
        overlap: ArrayLike = _OVERLAP,
        ax: Axes | None = None,
        **line_kw: Any,
    ) -> Self:
        """Draw what classes share, for one network or several.

        Parameters
        ----------
        contributions : LINe, Pipeline, array-like of shape (n_units, n_classes), or dict of them
            Contributions of the units to the classes, as
            :func:`~skood.shaping.shared_top_neurons` takes them, or several by the names that the
            legend shows.
        percentile : float in (0, 100), default=90
            A class's most important units are those whose contribution is above it.
        overlap : array-like of float in [0, 1), default=0, 0.05, ..., 0.95
            Fractions of the classes.
        ax : matplotlib Axes, default=None
            Axes to draw on; new ones by default.
        **line_kw : dict
            Keyword arguments of matplotlib's ``plot``, for all lines.

        Returns
        -------
        display : SharedNeuronDisplay
            The display, drawn.

        Raises
        ------
        ValueError
            If contributions or parameters are not as described.
        """
        if not isinstance(contributions, Mapping):
            contributions = {"network": contributions}
        overlap = np.sort(np.atleast_1d(np.asarray(overlap, dtype=np.float64)))
        shares = {
            name: shared_top_neurons(of_one, percentile=percentile, overlap=overlap, average=False)
            for name, of_one in contributions.items()
        }
        return cls(shares=shares, overlap=overlap, percentile=percentile).plot(ax, **line_kw)

    def plot(self, ax: Axes | None = None, **line_kw: Any) -> Self:
        """Draw the lines.

        Parameters
        ----------
        ax : matplotlib Axes, default=None
            Axes to draw on; new ones by default.
        **line_kw : dict
            Keyword arguments of matplotlib's ``plot``, for all lines.

        Returns
        -------
        self : SharedNeuronDisplay
            The display.
        """
        self.figure_, self.ax_ = get_axes(ax, "SharedNeuronDisplay")
        percent = 100 * np.asarray(self.overlap, dtype=np.float64)
        self.lines_: dict[str, Line2D] = {}
        self.ranges_: dict[str, PolyCollection] = {}
        for number, (name, shares) in enumerate(self.shares.items()):
            values = 100 * np.asarray(shares, dtype=np.float64)
            values = values[~np.isnan(values).any(axis=1)]
            style = {**line_style(self.ax_, number), "label": f"{name} ({len(values)} classes)"}
            (line,) = self.ax_.plot(percent, values.mean(axis=0), **(style | line_kw))
            self.lines_[name] = line
            self.ranges_[name] = self._draw_range(percent, values, line.get_color())
        self.ax_.set(
            xlabel="more than this share of the classes (%)",
            ylabel=f"shared of a class's top {100 - self.percentile:.4g} % neurons (%)",
            ylim=(0, 103),
        )
        self.ax_.legend()
        return self

    def _draw_range(self, percent: NDArray, values: NDArray, color: Any) -> PolyCollection:
        lowest, highest = values.min(axis=0), values.max(axis=0)
        return self.ax_.fill_between(percent, lowest, highest, color=color, alpha=0.15, linewidth=0)
