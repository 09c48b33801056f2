"""How active each neuron of a layer is, for sets of samples."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from .._axes import get_axes
from ..activations import Activations, Layer
from ._drawing import line_style, name_of_layer, rows_by_set

if TYPE_CHECKING:
    from matplotlib.axes import Axes


class MeanActivationDisplay:
    """Average activation of each neuron of a layer, one line for each set of samples.

    Create it by :meth:`from_activations`. The neurons are sorted by their average over one of the
    sets, largest first: the line of that set falls, and the others are read against it.

    Parameters
    ----------
    means : dict of str to array-like of shape (n_units,)
        Average activation of each neuron, by set of samples.
    layer : str
        Name of the layer.
    reference : str, default=None
        The set that sorts the neurons; the first one by default.

    Attributes
    ----------
    order_ : ndarray of shape (n_units,)
        The units in the order in which they are drawn.
    lines_ : dict of str to matplotlib Line2D
        The line of each set.
    ax_ : matplotlib Axes
        Axes with the lines.
    figure_ : matplotlib Figure
        Figure that the axes belong to.

    See Also
    --------
    NeuronMeasureDisplay : Other measures of the neurons.
    ProgressionDisplay : Sets of samples through the layers.

    References
    ----------
    Demuysere, master's thesis, 2018.

    Examples
    --------
    >>> from skood import Activations
    >>> from skood.inspection import MeanActivationDisplay
    >>> X = Activations({"fc": [[0.0, 3.0], [1.0, 1.0], [4.0, 0.0]]})
    >>> display = MeanActivationDisplay.from_activations(
    ...     X, ["known", "known", "noise"], layer="fc"
    ... )
    >>> display.lines_["known"].get_ydata()
    array([2. , 0.5])
    >>> display.lines_["noise"].get_ydata()
    array([0., 4.])
    """

    def __init__(
        self, *, means: Mapping[str, ArrayLike], layer: str, reference: str | None = None
    ) -> None:
        self.means = means
        self.layer = layer
        self.reference = reference

    @classmethod
    def from_activations(
        cls,
        X: Activations,
        groups: ArrayLike,
        *,
        layer: str | int,
        reference: str | None = None,
        ax: Axes | None = None,
        **line_kw: Any,
    ) -> MeanActivationDisplay:
        """Draw one layer of samples.

        Parameters
        ----------
        X : Activations
            Activations by layer.
        groups : array-like of shape (n_samples,)
            Name of the set that each sample belongs to, drawn in the order of their first
            samples.
        layer : str or int
            Name or number of the layer to draw. Of a feature map, the average is over the positions
            too; of packed bits, it is the share of samples on which the neuron is active.
        reference : str, default=None
            The set that sorts the neurons; the first one by default.
        ax : matplotlib Axes, default=None
            Axes to draw on; new ones by default.
        **line_kw : dict
            Keyword arguments of matplotlib's ``plot``, for all lines.

        Returns
        -------
        display : MeanActivationDisplay
            The display, drawn.

        Raises
        ------
        TypeError
            If ``X`` is not ``Activations``.
        KeyError
            If there is no such layer.
        ValueError
            If ``groups`` has another length than ``X``, or ``reference`` is none of the sets.
        """
        if not isinstance(X, Activations):
            raise TypeError(f"MeanActivationDisplay needs Activations, got {type(X).__name__}.")
        layer = name_of_layer(layer, X)
        activations = X[layer]
        sets = rows_by_set(groups, len(X))
        means = {name: _mean_by_unit(activations[rows]) for name, rows in sets.items()}
        return cls(means=means, layer=layer, reference=reference).plot(ax, **line_kw)

    def plot(self, ax: Axes | None = None, **line_kw: Any) -> MeanActivationDisplay:
        """Draw the lines.

        Parameters
        ----------
        ax : matplotlib Axes, default=None
            Axes to draw on; new ones by default.
        **line_kw : dict
            Keyword arguments of matplotlib's ``plot``, for all lines.

        Returns
        -------
        self : MeanActivationDisplay
            The display.

        Raises
        ------
        ValueError
            If ``reference`` is none of the sets.
        """
        reference = next(iter(self.means)) if self.reference is None else self.reference
        if reference not in self.means:
            raise ValueError(f"reference must be one of {list(self.means)}, got {reference!r}.")
        self.figure_, self.ax_ = get_axes(ax, "MeanActivationDisplay")
        self.order_ = np.argsort(-np.asarray(self.means[reference]), kind="stable")
        self.lines_ = {}
        for number, (name, means) in enumerate(self.means.items()):
            style = {**line_style(number), "markersize": 3, "linewidth": 1, "label": name}
            sorted_means = np.asarray(means)[self.order_]
            (self.lines_[name],) = self.ax_.plot(sorted_means, **(style | line_kw))
        self.ax_.set(
            title=self.layer,
            xlabel=f"neuron, sorted by the average of {reference!r}",
            ylabel="average activation",
        )
        self.ax_.legend()
        return self


def _mean_by_unit(layer: Layer) -> NDArray[np.float64]:
    values = np.asarray(layer)
    return values.mean(axis=(0, *range(2, values.ndim)), dtype=np.float64)
