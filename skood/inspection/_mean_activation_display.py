"""How active each neuron of a layer is, for sets of samples."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any, Self

import numpy as np
from numpy.typing import ArrayLike, NDArray

from .._layer_names import units_second
from .._optional import import_optional
from .._patterns import PackedBits
from ..activations import Activations, Layer
from ._drawing import descending_order, line_style, name_of_layer, rows_by_set
from ._neuron_measures import count_by_layer

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure
    from matplotlib.lines import Line2D


class MeanActivationDisplay:
    """Average activation of each neuron of a layer, one line for each set of samples.

    Create it by :meth:`from_activations`. The neurons are sorted by their average over one of the
    sets, largest first: the line of that set falls, and the others are read against it. Or they are
    sorted by another measure, such as their activation count in training, as in the figure 3.8 of
    [1]_. The share of neurons that are active is written under each diagram.

    Parameters
    ----------
    means : dict of str to array-like of shape (n_units,)
        Average activation of each neuron, by set of samples.
    layer : str
        Name of the layer.
    reference : str, default=None
        The set that sorts the neurons; the first one by default.
    sort_by : array-like of shape (n_units,) or dict of str to such, default=None
        A measure of the neurons, of the layer or by layer, that sorts them in place of a set,
        largest first.
    sorted_by : str, default="the given measure"
        Name of that measure.
    active_shares : dict of str to float, default=None
        Mean share of the neurons that a sample activates, by set of samples.
    ylabel : str, default="average activation"
        What the averages are.

    Attributes
    ----------
    order_ : ndarray of shape (n_units,)
        The units in the order in which they are drawn.
    lines_ : dict of str to matplotlib Line2D
        The line of each set.
    axes_ : ndarray of matplotlib Axes of shape (n_axes,)
        The one axes with all lines, or one axes for each set.
    ax_ : matplotlib Axes
        The first of these.
    figure_ : matplotlib Figure
        Figure that the axes belong to.

    See Also
    --------
    NeuronMeasureDisplay : Other measures of the neurons.
    ProgressionDisplay : Sets of samples through the layers.

    References
    ----------
    .. [1] V. Demuysere, "Investigating layer activation patterns in neural networks for
       classification error detection", master's dissertation, UCLouvain, 2018.

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
    >>> display.active_shares
    {'known': 0.75, 'noise': 0.5}
    """

    lines_: dict[str, Line2D]
    axes_: NDArray[np.object_]
    ax_: Axes
    figure_: Figure

    def __init__(
        self,
        *,
        means: Mapping[str, ArrayLike],
        layer: str,
        reference: str | None = None,
        sort_by: ArrayLike | Mapping[str, ArrayLike] | None = None,
        sorted_by: str = "the given measure",
        active_shares: Mapping[str, float] | None = None,
        ylabel: str = "average activation",
    ) -> None:
        self.means = means
        self.layer = layer
        self.reference = reference
        self.sort_by = sort_by
        self.sorted_by = sorted_by
        self.active_shares = active_shares
        self.ylabel = ylabel

    @classmethod
    def from_activations(
        cls,
        X: Activations,
        groups: ArrayLike,
        *,
        layer: str | int,
        reference: str | None = None,
        sort_by: ArrayLike | Mapping[str, ArrayLike] | None = None,
        sorted_by: str = "the given measure",
        separate: bool = False,
        ax: Axes | ArrayLike | None = None,
        **line_kw: Any,
    ) -> Self:
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
            too, which are all axes but the ``unit_axis`` of its column; of packed bits, it is the
            share of samples on which the neuron is active.
        reference : str, default=None
            The set that sorts the neurons; the first one by default.
        sort_by : array-like of shape (n_units,) or dict of str to such, default=None
            A measure that sorts the neurons in place of a set, largest first, of the layer or by
            layer, such as ``statistics.by_layer("training_count")``.
        sorted_by : str, default="the given measure"
            What to call that measure, such as "training count".
        separate : bool, default=False
            Whether each set has axes of its own, one below the other.
        ax : matplotlib Axes or array-like of Axes, default=None
            Axes to draw on, one for each set if they are separate; new ones by default.
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
            If there is no such layer, in ``X`` or in ``sort_by``.
        ValueError
            If ``groups`` has another length than ``X``, ``reference`` is none of the sets,
            ``sort_by`` is of another number of neurons, ``ax`` does not hold as many axes as are
            needed, or values are not finite.
        """
        if not isinstance(X, Activations):
            raise TypeError(f"MeanActivationDisplay needs Activations, got {type(X).__name__}.")
        layer = name_of_layer(layer, X)
        activations = units_second(X[[layer]])[layer]
        sets = rows_by_set(groups, len(X))
        means = {name: _mean_by_unit(activations[rows]) for name, rows in sets.items()}
        is_bits = isinstance(activations, PackedBits)
        display = cls(
            means=means,
            layer=layer,
            reference=reference,
            sort_by=sort_by,
            sorted_by=sorted_by,
            ylabel="share of samples active" if is_bits else "average activation",
            active_shares={name: _active_share(X[[layer]][rows]) for name, rows in sets.items()},
        )
        return display.plot(ax, separate=separate, **line_kw)

    def plot(
        self, ax: Axes | ArrayLike | None = None, *, separate: bool = False, **line_kw: Any
    ) -> Self:
        """Draw the lines.

        Parameters
        ----------
        ax : matplotlib Axes or array-like of Axes, default=None
            Axes to draw on, one for each set if they are separate; new ones by default.
        separate : bool, default=False
            Whether each set has axes of its own, one below the other.
        **line_kw : dict
            Keyword arguments of matplotlib's ``plot``, for all lines.

        Returns
        -------
        self : MeanActivationDisplay
            The display.

        Raises
        ------
        ValueError
            If ``reference`` is none of the sets, ``sort_by`` is of another number of neurons, or
            ``ax`` does not hold as many axes as are needed.
        """
        self.order_, sorted_by = self._sort()
        self._get_axes(ax, len(self.means) if separate else 1)
        axes_of_sets = self.axes_ if separate else [self.ax_] * len(self.means)
        self.lines_ = {}
        for number, (name, means) in enumerate(self.means.items()):
            axes = axes_of_sets[number]
            style = {**line_style(axes, number), "markersize": 3, "linewidth": 1, "label": name}
            sorted_means = np.asarray(means)[self.order_]
            (self.lines_[name],) = axes.plot(sorted_means, **(style | line_kw))
        sets_of_axes = [[name] for name in self.means] if separate else [list(self.means)]
        for axes, names in zip(self.axes_, sets_of_axes, strict=True):
            axes.set_xlabel(f"neuron, sorted by {sorted_by}" + self._tell_shares(names))
            axes.set_ylabel(self.ylabel)
            if not separate:
                axes.legend()
        self.ax_.set_title(self.layer)
        return self

    def _sort(self) -> tuple[NDArray[np.intp], str]:
        """The units in order, and what has sorted them."""
        first, *_ = self.means
        reference = first if self.reference is None else self.reference
        if reference not in self.means:
            raise ValueError(f"reference must be one of {list(self.means)}, got {reference!r}.")
        is_reference = self.sort_by is None
        by = self.means[reference] if is_reference else self.sort_by
        order = descending_order(by, self.layer, len(np.asarray(self.means[first])))
        return order, f"the average of {reference!r}" if is_reference else self.sorted_by

    def _tell_shares(self, names: list[str]) -> str:
        if self.active_shares is None:
            return ""
        shares = ", ".join(f"{name} {self.active_shares[name]:.1%}" for name in names)
        return f"\nneurons active: {shares}"

    def _get_axes(self, ax: Axes | ArrayLike | None, n_axes: int) -> None:
        pyplot = import_optional("matplotlib.pyplot", "plot", "MeanActivationDisplay")
        if ax is None:
            size = (6.4, max(4.8, 2.4 * n_axes))
            _, ax = pyplot.subplots(n_axes, figsize=size, sharey=True, layout="constrained")
        self.axes_ = np.ravel(np.asarray(ax, dtype=object))
        if len(self.axes_) != n_axes:
            raise ValueError(f"{n_axes} axes are needed, but ax holds {len(self.axes_)}.")
        self.ax_ = self.axes_[0]
        self.figure_ = self.ax_.figure.figure


def _active_share(X: Activations) -> float:
    """Mean share of the neurons of the one layer that a sample activates."""
    (counts,) = count_by_layer(X).values()
    return float(counts.sum() / (len(X) * len(counts)))


def _mean_by_unit(layer: Layer) -> NDArray[np.float64]:
    values = np.asarray(layer)
    return values.mean(axis=(0, *range(2, values.ndim)), dtype=np.float64)
