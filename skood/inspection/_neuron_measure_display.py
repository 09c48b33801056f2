"""One measure of all neurons, as sorted bars."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from .._optional import import_optional
from .._validation import find_layer, layer_list
from ._neuron_measures import common_widths
from ._neuron_statistics import NeuronStatistics

if TYPE_CHECKING:
    from matplotlib.axes import Axes

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
    """Neurons of each layer as bars, sorted by one measure and coloured by another.

    Create it by :meth:`from_statistics`. Each layer has axes of its own, on which the neuron with
    the largest value comes first. Neurons whose value is NaN have no bar.

    Parameters
    ----------
    values : dict of str to array-like of shape (n_units,)
        The measure by layer: the lengths of the bars.
    measure : str
        Its name.
    color_values : dict of str to array-like of shape (n_units,), default=None
        Another measure of the same neurons, for the colours; grey where it is NaN.
    color_by : str, default=None
        The name of that measure.

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
    Demuysere, master's thesis, 2018.

    Examples
    --------
    >>> from skood.inspection import NeuronMeasureDisplay, NeuronStatistics
    >>> statistics = NeuronStatistics(
    ...     {
    ...         "accuracy": {"fc1": [0.8, float("nan"), 1.0], "fc2": [0.6, 1.0]},
    ...         "activation_count": {"fc1": [9, 0, 4], "fc2": [5, 7]},
    ...     }
    ... )
    >>> display = NeuronMeasureDisplay.from_statistics(
    ...     statistics, "accuracy", color_by="activation_count", reference=0.9
    ... )
    >>> display.order_
    {'fc1': array([2, 0]), 'fc2': array([1, 0])}
    """

    def __init__(
        self,
        *,
        values: Mapping[str, ArrayLike],
        measure: str,
        color_values: Mapping[str, ArrayLike] | None = None,
        color_by: str | None = None,
    ) -> None:
        self.values = values
        self.measure = measure
        self.color_values = color_values
        self.color_by = color_by

    @classmethod
    def from_statistics(
        cls,
        statistics: NeuronStatistics,
        measure: str,
        *,
        color_by: str | None = None,
        layers: str | int | Sequence[str | int] | None = None,
        reference: float | None = None,
        reference_label: str | None = None,
        cmap: Any = "viridis",
        ax: Axes | ArrayLike | None = None,
        **bar_kw: Any,
    ) -> NeuronMeasureDisplay:
        """Draw one or two columns of a table of neurons.

        Parameters
        ----------
        statistics : NeuronStatistics
            The table.
        measure : str
            Column that sorts the bars and gives their lengths.
        color_by : str, default=None
            Column that gives their colours. By default all have one colour.
        layers : str, int or sequence of them, default=None
            Names or numbers of the layers to draw; all by default.
        reference : float, default=None
            A value to mark by a horizontal line, such as the accuracy of the network.
        reference_label : str, default=None
            What to write at that line.
        cmap : str or matplotlib Colormap, default="viridis"
            Colours of ``color_by``.
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
        color_values = None if color_by is None else _by_layer(statistics, color_by, layers)
        display = cls(
            values=_by_layer(statistics, measure, layers),
            measure=measure,
            color_values=color_values,
            color_by=color_by,
        )
        return display.plot(
            ax, reference=reference, reference_label=reference_label, cmap=cmap, **bar_kw
        )

    def plot(
        self,
        ax: Axes | ArrayLike | None = None,
        *,
        reference: float | None = None,
        reference_label: str | None = None,
        cmap: Any = "viridis",
        **bar_kw: Any,
    ) -> NeuronMeasureDisplay:
        """Draw the bars.

        Parameters
        ----------
        ax : matplotlib Axes or array-like of Axes, default=None
            Axes to draw on, one for each layer; new ones side by side by default.
        reference : float, default=None
            A value to mark by a horizontal line, such as the accuracy of the network.
        reference_label : str, default=None
            What to write at that line.
        cmap : str or matplotlib Colormap, default="viridis"
            Colours of ``color_values``.
        **bar_kw : dict
            Keyword arguments of matplotlib's ``bar``, for all bars.

        Returns
        -------
        self : NeuronMeasureDisplay
            The display.

        Raises
        ------
        ValueError
            If ``color_values`` are of other neurons than ``values``, or ``ax`` does not hold one
            axes for each layer.
        """
        if self.color_values is not None:
            common_widths({"values": self.values, "color_values": self.color_values})
        self._get_axes(ax)
        colors = self._colors(cmap)
        self.order_, self.bars_, self.reference_lines_ = {}, {}, {}
        for layer, axes in zip(self.values, self.axes_, strict=True):
            heights = np.asarray(self.values[layer], dtype=np.float64)
            order = np.argsort(-heights, kind="stable")[: np.count_nonzero(~np.isnan(heights))]
            style = {"width": 1.0, "color": colors[layer][order], **bar_kw}
            self.order_[layer] = order
            self.bars_[layer] = axes.bar(np.arange(len(order)), heights[order], **style)
            n_bars = "" if len(order) == len(heights) else f"{len(order)} of "
            axes.set(title=layer, xlabel=f"{n_bars}{len(heights)} neurons")
            if reference is not None:
                line = axes.axhline(reference, color="black", linestyle="--", linewidth=1)
                self.reference_lines_[layer] = line
        self.axes_[0].set_ylabel(_AXIS_LABELS.get(self.measure, self.measure))
        if reference is not None and reference_label is not None:
            self._write_at_line(reference, reference_label)
        return self

    def _get_axes(self, ax: Axes | ArrayLike | None) -> None:
        n_layers = len(self.values)
        pyplot = import_optional("matplotlib.pyplot", "plot", "NeuronMeasureDisplay")
        if ax is None:
            size = (max(6.4, 2.2 * n_layers), 3.6)
            _, ax = pyplot.subplots(
                1, n_layers, figsize=size, sharey=True, squeeze=False, layout="constrained"
            )
        self.axes_: NDArray = np.ravel(np.asarray(ax, dtype=object))
        if len(self.axes_) != n_layers:
            raise ValueError(f"There are {n_layers} layers, but ax holds {len(self.axes_)} axes.")
        self.figure_ = self.axes_[0].figure

    def _colors(self, cmap: Any) -> dict[str, NDArray]:
        """The colour of each neuron by layer; draws the colour bar."""
        if self.color_values is None:
            self.colorbar_ = None
            return {layer: np.full(np.size(v), "#0072b2") for layer, v in self.values.items()}
        numbers = {layer: np.asarray(self.color_values[layer]) for layer in self.values}
        every = np.concatenate(list(numbers.values()))
        is_flag = every.dtype == bool
        pyplot = import_optional("matplotlib.pyplot", "plot", "NeuronMeasureDisplay")
        colormap = pyplot.get_cmap(cmap, 2 if is_flag else None).with_extremes(bad="#bbbbbb")
        scale = pyplot.cm.ScalarMappable(cmap=colormap)
        scale.set_array(np.ma.masked_invalid(every))
        scale.set_clim(*((0, 1) if is_flag else (None, None)))
        label = _AXIS_LABELS.get(str(self.color_by), self.color_by)
        self.colorbar_ = self.figure_.colorbar(scale, ax=list(self.axes_), label=label, pad=0.02)
        if is_flag:
            self.colorbar_.set_ticks([0.25, 0.75], labels=["no", "yes"])
        return {layer: scale.to_rgba(np.ma.masked_invalid(v)) for layer, v in numbers.items()}

    def _write_at_line(self, reference: float, label: str) -> None:
        # Above the right end, where the bars are lowest.
        axes = self.axes_[-1]
        axes.text(
            0.98, reference, label, transform=axes.get_yaxis_transform(), ha="right", va="bottom"
        )


def _by_layer(
    statistics: NeuronStatistics, column: str, layers: str | int | Sequence[str | int] | None
) -> dict[str, NDArray]:
    measure = statistics.by_layer(column)
    if statistics[column].dtype.kind not in "biuf":
        raise ValueError(f"Column {column!r} does not hold numbers.")
    if layers is None:
        return measure
    names = {layer: find_layer(layer, list(measure)) for layer in layer_list(layers)}
    if unknown := [layer for layer, name in names.items() if name is None]:
        raise KeyError(f"No layers {unknown}; the layers are {list(measure)}, numbered from 0.")
    return {name: measure[name] for name in names.values() if name is not None}
