"""Up to three measures of all neurons, as bars."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from textwrap import fill
from typing import TYPE_CHECKING, Any, Self

import numpy as np
from numpy.typing import ArrayLike, NDArray

from .._axes import ink
from .._layer_names import find_layer, layer_list
from .._optional import import_optional
from .._values import is_real
from ._neuron_measures import common_widths
from ._neuron_statistics import NeuronStatistics

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.colorbar import Colorbar
    from matplotlib.container import BarContainer
    from matplotlib.figure import Figure
    from matplotlib.lines import Line2D

_AXIS_LABELS = {
    "activation_count": "activation count (samples)",
    "activation_rate": "activation rate (share of samples)",
    "accuracy": "neuron accuracy (share of samples)",
    "support": "support (samples)",
    "training_count": "activation count in training",
    "average_gradient": "average gradient in training",
    "influence_l1": "influence on the output (l1)",
    "influence_l2": "influence on the output (l2)",
}


class NeuronMeasureDisplay:
    """Neurons of each layer as bars, of three measures: height, order and colour.

    Create it by :meth:`from_statistics`. Each layer has axes of its own, on which the neuron with
    the largest value of ``sort_by`` comes first, and those for which it is NaN last. Neurons whose
    height is NaN have no bar. So are drawn the figures 3.2 to 3.7 of [1]_: activation count,
    average gradient, influence and accuracy, each against the others.

    Parameters
    ----------
    height : dict of str to array-like of shape (n_units,)
        The measure by layer that gives the heights of the bars.
    sort_by : dict of str to array-like of shape (n_units,), default=None
        A measure of the same neurons that sorts them; ``height`` by default.
    color : dict of str to array-like of shape (n_units,), default=None
        A measure of the same neurons that gives the colours of the bars, grey where it is NaN; by
        default all have one colour.
    names : dict of str to str, default=None
        Names of the measures, by the parameters "height", "sort_by" and "color". Those of the
        columns of :class:`NeuronStatistics` are written out.
    reference : float, default=None
        A height to mark by a dotted line, such as the accuracy of the network.
    reference_label : str, default=None
        What to write at that line.

    Attributes
    ----------
    order_ : dict of str to ndarray of shape (n_bars,)
        Units of each layer in the order of their bars.
    bars_ : dict of str to matplotlib BarContainer
        The bars of each layer.
    reference_lines_ : dict of str to matplotlib Line2D
        The reference line in the axes of each layer; empty where there is none.
    colorbar_ : matplotlib Colorbar or None
        The one colour bar of all axes, where the bars are coloured by a measure.
    axes_ : ndarray of matplotlib Axes of shape (n_layers,)
        Axes with the bars of each layer.
    figure_ : matplotlib Figure
        Figure that the axes belong to.

    See Also
    --------
    NeuronStatistics : The measures.
    MeanActivationDisplay : How active the neurons of a layer are, by set of samples.

    References
    ----------
    .. [1] V. Demuysere, "Investigating layer activation patterns in neural networks for
       classification error detection", master's dissertation, UCLouvain, 2018.

    Examples
    --------
    >>> from skood.inspection import NeuronMeasureDisplay, NeuronStatistics
    >>> statistics = NeuronStatistics(
    ...     {
    ...         "accuracy": {"fc1": [0.8, float("nan"), 1.0], "fc2": [0.6, 1.0]},
    ...         "training_count": {"fc1": [9, 0, 4], "fc2": [5, 7]},
    ...         "average_gradient": {"fc1": [0.1, 0.0, 0.3], "fc2": [0.2, 0.1]},
    ...     },
    ...     network_accuracy=0.9,
    ... )
    >>> display = NeuronMeasureDisplay.from_statistics(
    ...     statistics, height="accuracy", sort_by="training_count", color="average_gradient"
    ... )
    >>> display.order_
    {'fc1': array([0, 2]), 'fc2': array([1, 0])}
    """

    order_: dict[str, NDArray[np.intp]]
    bars_: dict[str, BarContainer]
    reference_lines_: dict[str, Line2D]
    colorbar_: Colorbar | None
    axes_: NDArray[np.object_]
    figure_: Figure

    def __init__(
        self,
        *,
        height: Mapping[str, ArrayLike],
        sort_by: Mapping[str, ArrayLike] | None = None,
        color: Mapping[str, ArrayLike] | None = None,
        names: Mapping[str, str] | None = None,
        reference: float | None = None,
        reference_label: str | None = None,
    ) -> None:
        self.height = height
        self.sort_by = sort_by
        self.color = color
        self.names = names
        self.reference = reference
        self.reference_label = reference_label

    @classmethod
    def from_statistics(
        cls,
        statistics: NeuronStatistics,
        height: str,
        *,
        sort_by: str | None = None,
        color: str | None = None,
        layers: str | int | Sequence[str | int] | None = None,
        reference: float | None = None,
        reference_label: str | None = None,
        cmap: Any = "viridis",
        ax: Axes | ArrayLike | None = None,
        **bar_kw: Any,
    ) -> Self:
        """Draw one to three columns of a table of neurons.

        Parameters
        ----------
        statistics : NeuronStatistics
            The table.
        height : str
            Column that gives the heights of the bars.
        sort_by : str, default=None
            Column that sorts the bars, largest first; ``height`` by default.
        color : str, default=None
            Column that gives their colours. By default all have one colour.
        layers : str, int or sequence of them, default=None
            Names or numbers of the layers to draw; all by default.
        reference : float, default=None
            A height to mark by a dotted line. By default, where ``height`` is "accuracy", it is the
            accuracy of the network, if the table has it.
        reference_label : str, default=None
            What to write at that line.
        cmap : str or matplotlib Colormap, default="viridis"
            Colours of ``color``.
        ax : matplotlib Axes or array-like of Axes, default=None
            Axes to draw on, one for each layer; new ones side by side by default.
        **bar_kw : dict
            Keyword arguments of matplotlib's ``bar``, for all bars.

        Returns
        -------
        display : NeuronMeasureDisplay
            The display, drawn.

        Raises
        ------
        KeyError
            If there is no such column or layer.
        ValueError
            If a column does not hold numbers, or ``ax`` does not hold one axes for each layer.
        """
        if reference is None and height == "accuracy":
            reference = statistics.network_accuracy
            reference_label = reference_label or "network"
        names = {"height": height, "sort_by": sort_by or height}
        if color is not None:
            names["color"] = color
        measures = {role: _by_layer(statistics, name, layers) for role, name in names.items()}
        display = cls(**measures, names=names, reference=reference, reference_label=reference_label)
        return display.plot(ax, cmap=cmap, **bar_kw)

    def plot(
        self, ax: Axes | ArrayLike | None = None, *, cmap: Any = "viridis", **bar_kw: Any
    ) -> Self:
        """Draw the bars.

        Parameters
        ----------
        ax : matplotlib Axes or array-like of Axes, default=None
            Axes to draw on, one for each layer; new ones side by side by default.
        cmap : str or matplotlib Colormap, default="viridis"
            Colours of ``color``.
        **bar_kw : dict
            Keyword arguments of matplotlib's ``bar``, for all bars.

        Returns
        -------
        self : NeuronMeasureDisplay
            The display.

        Raises
        ------
        ValueError
            If ``sort_by`` or ``color`` are of other neurons than ``height``, or ``ax`` does not
            hold one axes for each layer.
        """
        sort_by = self.height if self.sort_by is None else self.sort_by
        measures = {"height": self.height, "sort_by": sort_by, "color": self.color}
        common_widths(
            {role: by_layer for role, by_layer in measures.items() if by_layer is not None}
        )
        self._get_axes(ax)
        colors = self._colors(cmap)
        self.order_, self.bars_, self.reference_lines_ = {}, {}, {}
        for layer, axes in zip(self.height, self.axes_, strict=True):
            heights = np.asarray(self.height[layer], dtype=np.float64)
            order = np.argsort(-np.asarray(sort_by[layer], dtype=np.float64), kind="stable")
            order = order[~np.isnan(heights[order])]
            style = {"width": 1.0, "color": colors[layer][order], **bar_kw}
            self.order_[layer] = order
            self.bars_[layer] = axes.bar(np.arange(len(order)), heights[order], **style)
            n_bars = "" if len(order) == len(heights) else f"{len(order)} of "
            axes.set(title=layer, xlabel=f"{n_bars}{len(heights)} neurons{self._sorted()}")
            if self.reference is not None:
                line = axes.axhline(self.reference, color=ink(axes), linestyle=":", linewidth=1.2)
                self.reference_lines_[layer] = line
        self.axes_[0].set_ylabel(self._label("height"))
        if self.reference is not None and self.reference_label is not None:
            self._write_at_line(self.reference, self.reference_label)
        return self

    def _label(self, role: str) -> str:
        name = (self.names or {}).get(role, "")
        return _AXIS_LABELS.get(name, name)

    def _sorted(self) -> str:
        """A description of the order where the heights do not show it."""
        names = self.names or {}
        if self.sort_by is None or "sort_by" not in names:
            return ""
        if names["sort_by"] == names.get("height"):
            return ""
        # The axes of a layer are narrow.
        return " by\n" + fill(self._label("sort_by"), 20)

    def _get_axes(self, ax: Axes | ArrayLike | None) -> None:
        n_layers = len(self.height)
        pyplot = import_optional("matplotlib.pyplot", "plot", "NeuronMeasureDisplay")
        if ax is None:
            size = (max(6.4, 2.2 * n_layers), 3.6)
            _, ax = pyplot.subplots(
                1, n_layers, figsize=size, sharey=True, squeeze=False, layout="constrained"
            )
        self.axes_ = np.ravel(np.asarray(ax, dtype=object))
        if len(self.axes_) != n_layers:
            raise ValueError(f"There are {n_layers} layers, but ax holds {len(self.axes_)} axes.")
        self.figure_ = self.axes_[0].figure.figure

    def _colors(self, cmap: Any) -> dict[str, NDArray]:
        """The colour of each neuron by layer; draws the colour bar."""
        if self.color is None:
            self.colorbar_ = None
            return {layer: np.full(np.size(v), "#0072b2") for layer, v in self.height.items()}
        numbers = {layer: np.asarray(self.color[layer]) for layer in self.height}
        every = np.concatenate(list(numbers.values()))
        is_flag = every.dtype == bool
        pyplot = import_optional("matplotlib.pyplot", "plot", "NeuronMeasureDisplay")
        colormap = pyplot.get_cmap(cmap, 2 if is_flag else None).with_extremes(bad="#bbbbbb")
        scale = pyplot.cm.ScalarMappable(cmap=colormap)
        scale.set_array(np.ma.masked_invalid(every))
        scale.set_clim(*((0, 1) if is_flag else (None, None)))
        self.colorbar_ = self.figure_.colorbar(
            scale, ax=list(self.axes_), label=self._label("color"), pad=0.02
        )
        if is_flag:
            self.colorbar_.set_ticks([0.25, 0.75], labels=["no", "yes"])
        return {layer: scale.to_rgba(np.ma.masked_invalid(v)) for layer, v in numbers.items()}

    def _write_at_line(self, reference: float, label: str) -> None:
        # Above the right end, where the bars are lowest, but some may reach up to it.
        axes = self.axes_[-1]
        axes.text(
            0.98,
            reference,
            label,
            transform=axes.get_yaxis_transform(),
            ha="right",
            va="bottom",
            color=ink(axes),
            bbox={"facecolor": axes.get_facecolor(), "linewidth": 0, "alpha": 0.8, "pad": 1},
        )


def _by_layer(
    statistics: NeuronStatistics, column: str, layers: str | int | Sequence[str | int] | None
) -> dict[str, NDArray]:
    measure = statistics.by_layer(column)
    if not is_real(statistics[column]):
        raise ValueError(f"Column {column!r} does not hold numbers.")
    if layers is None:
        return measure
    known = list(measure)
    wanted: list[Any] = []
    for item in layer_list(layers):
        wanted += known[item] if isinstance(item, slice) else [item]
    names = [find_layer(layer, known) for layer in wanted]
    if unknown := [layer for layer, name in zip(wanted, names, strict=True) if name is None]:
        raise KeyError(f"No layers {unknown}; the layers are {known}, numbered from 0.")
    return {name: measure[name] for name in names if name is not None}
