"""Binary activation patterns: by class, and a sample beside the stored one it is nearest to."""

from __future__ import annotations

from collections.abc import Mapping
from numbers import Integral
from typing import TYPE_CHECKING, Any, Self

import numpy as np
from numpy.typing import ArrayLike, NDArray
from sklearn.isotonic import isotonic_regression
from sklearn.utils import check_scalar

from .._optional import import_optional
from .._side_by_side import split_layers
from .._sklearn import num_samples, safe_indexing
from ..activations import Activations
from ..detectors import HammingNAPDetector
from ._drawing import name_of_layer, rows_by_set, split_pipeline
from ._pattern_rows import evenly, rows_by_class, rows_of_sample

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure
    from matplotlib.image import AxesImage
    from matplotlib.lines import Line2D

_SILENT, _ACTIVE, _UPPER_ONLY, _LOWER_ONLY = range(4)
_COLORS = ("#ffffff", "#000000", "#0072b2", "#d55e00")
_BOUNDARY = "#009e73"
_ROOM_FOR_MARKS = 1.0
"""Above two patterns, in heights of one."""


class PatternDisplay:
    """Binary activation patterns, one row each: which neurons are active.

    Create it by :meth:`from_activations`, which draws samples class by class, or by
    :meth:`from_detector`, which draws one sample and the stored pattern that it is nearest to. A
    column is a neuron, black where it is active.

    Parameters
    ----------
    patterns : array-like of bool of shape (n_rows, n_neurons)
        The patterns, top to bottom, with the neurons in the order in which they are drawn.
    groups : array-like of shape (n_rows,)
        Name of the set that each row belongs to. The rows of a set follow one another.
    neurons : dict of str to array-like of shape (n_units,)
        Numbers of the neurons of each layer, for the columns left to right.
    mark_differences : bool, default=False
        Whether to mark and name the neurons in which two rows, of two sets, differ.
    title : str, default=None
        Title of the axes; none by default.
    sorted_by : str, default=None
        Name of the measure that sorts the neurons. With it, the share of active neurons is written
        under each layer.

    Attributes
    ----------
    active_shares_ : dict of str to float
        Mean share of the neurons of each layer that are active in a row.
    differing_ : dict of str to ndarray
        Numbers of the neurons of each layer in which the two rows differ; empty where
        differences are not marked.
    marks_ : dict of str to matplotlib Line2D
        The marks of differing neurons, by the set of the row in which they are active; empty
        where differences are not marked.
    image_ : matplotlib AxesImage
        The patterns: 0 is silent and 1 active. Where differences are marked, 2 is active in the
        upper row only, and 3 in the lower one only.
    ax_ : matplotlib Axes
        Axes with the patterns.
    figure_ : matplotlib Figure
        Figure that the axes belong to.

    See Also
    --------
    skood.PercentileBinarizer : Makes patterns.
    skood.HammingNAPDetector : Compares samples with stored patterns.
    ActivationMapDisplay : The maps of a convolutional layer.

    Examples
    --------
    >>> import numpy as np
    >>> from skood import HammingNAPDetector
    >>> from skood.inspection import PatternDisplay
    >>> X = np.array([[1, 1, 0, 0], [1, 1, 0, 0], [0, 1, 1, 0], [0, 0, 1, 1]])
    >>> detector = HammingNAPDetector(tau=1).fit(X)
    >>> display = PatternDisplay.from_detector(detector, [[1, 1, 0, 1]])
    >>> display.differing_
    {'X': array([3])}
    >>> display.image_.get_array().astype(int)
    masked_array(
      data=[[1, 1, 0, 0],
            [1, 1, 0, 3]],
      mask=False,
      fill_value=...)
    """

    marks_: dict[str, Line2D]
    image_: AxesImage
    ax_: Axes
    figure_: Figure

    def __init__(
        self,
        *,
        patterns: ArrayLike,
        groups: ArrayLike,
        neurons: Mapping[str, ArrayLike],
        mark_differences: bool = False,
        title: str | None = None,
        sorted_by: str | None = None,
    ) -> None:
        self.patterns = np.asarray(patterns, dtype=bool)
        self.groups = np.asarray(groups)
        self.neurons = {name: np.asarray(numbers) for name, numbers in neurons.items()}
        self.mark_differences = mark_differences
        self.title = title
        self.sorted_by = sorted_by

    @classmethod
    def from_activations(
        cls,
        X: Activations,
        groups: ArrayLike,
        *,
        layer: str | int | None = None,
        max_per_class: int | None = 25,
        sort_neurons: bool = True,
        sort_by: Mapping[str, ArrayLike] | None = None,
        sorted_by: str = "the given measure",
        ax: Axes | None = None,
        **imshow_kw: Any,
    ) -> Self:
        """Draw the patterns of samples, class by class.

        Parameters
        ----------
        X : Activations
            Patterns by layer. In layers that are not :class:`~skood.activations.PackedBits`, a
            neuron is active where its value is above 0. Feature maps have to be pooled first.
        groups : array-like of shape (n_samples,)
            Class of each sample, or name of any other set that it belongs to. They are drawn in
            ascending order.
        layer : str or int, default=None
            Name or number of the layer to draw; by default all, side by side.
        max_per_class : int, default=25
            How many samples of a class to draw, taken evenly from all of its samples, since rows
            thinner than the pixels of the figure run together into grey; None for all.
        sort_neurons : bool, default=True
            Whether the neurons of a layer stand in the order of the classes in which they are
            active most often, and those of one class with the most distinctive first. Neurons
            that are active equally often in all classes come last. Otherwise they keep
            their order.
        sort_by : dict of str to array-like of shape (n_units,), default=None
            A measure of the neurons by layer, which sorts them in place of the classes, largest
            first: with the training counts, ``statistics.by_layer("training_count")``, these are
            the diagrams of figure 3.8 of [1]_. The share of active neurons in the rows that are
            drawn is then written under each layer.
        sorted_by : str, default="the given measure"
            What to call that measure, such as "training count".
        ax : matplotlib Axes, default=None
            Axes to draw on; new ones by default.
        **imshow_kw : dict
            Keyword arguments of matplotlib's ``imshow``.

        Returns
        -------
        display : PatternDisplay
            The display, drawn.

        Raises
        ------
        TypeError
            If ``X`` is not ``Activations``, or ``max_per_class`` is not an integer.
        KeyError
            If there is no such layer, in ``X`` or in ``sort_by``.
        ValueError
            If ``groups`` has another length than ``X``, ``sort_by`` another width than a layer, or
            a layer has maps.

        References
        ----------
        .. [1] V. Demuysere, "Investigating layer activation patterns in neural networks for
           classification error detection", master's dissertation, UCLouvain, 2018.

        Examples
        --------
        >>> from skood import Activations
        >>> from skood.inspection import PatternDisplay
        >>> X = Activations({"fc": [[0.0, 2.0, 0.5], [3.0, 0.0, 0.1], [4.0, 0.0, 0.2]]})
        >>> display = PatternDisplay.from_activations(X, ["cat", "bird", "bird"])
        >>> display.groups.tolist(), display.neurons["fc"].tolist()
        (['bird', 'bird', 'cat'], [0, 1, 2])
        """
        if not isinstance(X, Activations):
            raise TypeError(f"PatternDisplay needs Activations, got {type(X).__name__}.")
        if max_per_class is not None:
            check_scalar(max_per_class, "max_per_class", Integral, min_val=1)
        X = X if layer is None else X[[name_of_layer(layer, X)]]
        patterns, set_of_row, neurons = rows_by_class(
            X, groups, max_per_class, sort_neurons, sort_by
        )
        display = cls(
            patterns=patterns,
            groups=set_of_row,
            neurons=neurons,
            sorted_by=None if sort_by is None else sorted_by,
        )
        return display.plot(ax, **imshow_kw)

    @classmethod
    def from_detector(
        cls,
        detector: Any,
        X: Any,
        sample: int = 0,
        *,
        ax: Axes | None = None,
        max_labels: int = 40,
        **imshow_kw: Any,
    ) -> Self:
        """Draw one sample and the nearest stored pattern of the class predicted for it.

        Neurons in which the two differ are coloured, carry a triangle that points at the pattern
        in which they are active, up for the sample and down for the stored one, and are labelled.

        Parameters
        ----------
        detector : estimator
            Fitted :class:`~skood.HammingNAPDetector`, or a fitted pipeline that ends in one.
        X : Activations or array-like of shape (n_samples, n_features)
            Samples, as the detector or pipeline takes them.
        sample : int, default=0
            Row of the sample in ``X``.
        ax : matplotlib Axes, default=None
            Axes to draw on; new ones by default.
        max_labels : int, default=40
            How many of the neurons that differ to label, taken evenly from all of them, with
            layer and number, or with the number alone where there is one layer. All are
            marked, and all are in ``differing_``.
        **imshow_kw : dict
            Keyword arguments of matplotlib's ``imshow``.

        Returns
        -------
        display : PatternDisplay
            The display, drawn. Of stored patterns that are equally near, it shows the most
            common one.

        Raises
        ------
        TypeError
            If ``detector`` is not of the kind above, or ``sample`` is not an integer.
        sklearn.exceptions.NotFittedError
            If the detector is not fitted.
        ValueError
            If there is no such sample, or no pattern is stored for its class.

        Examples
        --------
        >>> from skood import Activations, HammingNAPDetector
        >>> from skood.inspection import PatternDisplay
        >>> X = Activations({"fc": [[0, 1, 1], [1, 0, 1]]}, predictions=["cat", "bird"])
        >>> detector = HammingNAPDetector(tau=1).fit(X)
        >>> new = Activations({"fc": [[1, 1, 1]]}, predictions=["cat"])
        >>> PatternDisplay.from_detector(detector, new).title
        'class cat, no alarm: 1 of 3 neurons differs'
        """
        check_scalar(sample, "sample", Integral, min_val=0, max_val=num_samples(X) - 1)
        X = safe_indexing(X, [sample])
        detector, X = split_pipeline(detector, X, "kneighbors")
        if not isinstance(detector, HammingNAPDetector):
            raise TypeError(f"Expected a HammingNAPDetector, got {detector!r}.")
        (patterns, groups, neurons), title = rows_of_sample(detector, X)
        display = cls(
            patterns=patterns, groups=groups, neurons=neurons, mark_differences=True, title=title
        )
        return display.plot(ax, max_labels=max_labels, **imshow_kw)

    def plot(self, ax: Axes | None = None, *, max_labels: int = 40, **imshow_kw: Any) -> Self:
        """Draw the patterns.

        Parameters
        ----------
        ax : matplotlib Axes, default=None
            Axes to draw on; new ones by default.
        max_labels : int, default=40
            How many of the neurons that differ to label, where differences are marked.
        **imshow_kw : dict
            Keyword arguments of matplotlib's ``imshow``.

        Returns
        -------
        self : PatternDisplay
            The display.

        Raises
        ------
        ValueError
            If ``groups`` or ``neurons`` have another length than ``patterns``, or differences are
            to be marked of anything else than two rows of two sets.
        """
        check_scalar(max_labels, "max_labels", Integral, min_val=0)
        patterns = self.patterns
        sets = rows_by_set(self.groups, len(patterns))
        columns = _columns(self.neurons, patterns.shape[1])
        if self.mark_differences and not len(patterns) == len(sets) == 2:
            raise ValueError(
                "Differences are marked between two rows of two sets, but there are "
                f"{len(patterns)} row(s) of {len(sets)}."
            )
        pyplot = import_optional("matplotlib.pyplot", "plot", "PatternDisplay")
        if ax is None:
            # Names of layers stand upright above the marks.
            height = 2.8 if len(columns) == 1 else 2.8 + 0.07 * max(map(len, columns))
            size = (8, height) if self.mark_differences else (7, 5)
            _, ax = pyplot.subplots(figsize=size, layout="constrained")
        self.figure_, self.ax_ = ax.figure.figure, ax
        codes = _codes(patterns, self.mark_differences)
        cmap = pyplot.matplotlib.colors.ListedColormap(_COLORS)
        style = {"cmap": cmap, "vmin": 0, "vmax": 3, "aspect": "auto", "interpolation": "nearest"}
        self.image_ = ax.imshow(codes, **(style | imshow_kw))
        ax.set_title(self.title or "")
        self._describe_rows(sets)
        self.active_shares_ = {
            name: float(patterns[:, places].mean()) for name, places in columns.items()
        }
        self._describe_columns(columns)
        self.differing_: dict[str, NDArray] = {}
        self.marks_ = {}
        if self.mark_differences:
            self._mark(codes, list(sets))
            self._label(columns, np.any(codes > _ACTIVE, axis=0), max_labels)
        return self

    def _describe_rows(self, sets: Mapping[str, NDArray]) -> None:
        names = list(sets)
        if self.mark_differences:
            signs = zip(names, "▼▲", strict=True)
            names = [f"{name}\n{sign} active here only" for name, sign in signs]
        self.ax_.set_yticks([rows.mean() for rows in sets.values()], names)
        self.ax_.tick_params(axis="y", length=0)
        if not self.mark_differences:
            self.ax_.set_ylabel("samples by class")
        for rows in list(sets.values())[1:]:
            self.ax_.axhline(rows.min() - 0.5, color=_BOUNDARY, linewidth=1)

    def _describe_columns(self, columns: Mapping[str, NDArray]) -> None:
        numbers = [self.neurons[name] for name in columns]
        is_sorted = any((np.diff(units) < 0).any() for units in numbers)
        by = "class" if self.sorted_by is None else self.sorted_by
        order = f", sorted by {by}" if is_sorted else ""
        shares = dict.fromkeys(columns, "")
        if self.sorted_by is not None:
            shares = {name: f"\n{share:.1%} active" for name, share in self.active_shares_.items()}
        if len(columns) == 1:
            (layer,) = columns
            self.ax_.set_xlabel(f"neurons of {layer}{order} (black: active){shares[layer]}")
            if not np.array_equal(numbers[0], columns[layer]):
                self.ax_.set_xticks([])
            return
        are_long = sum(map(len, columns)) > 50
        self.ax_.set_xlabel(f"neurons by layer{order} (black: active)")
        self.ax_.set_xticks(
            [places.mean() for places in columns.values()],
            [name + shares[name] for name in columns],
            rotation=30 if are_long else 0,
            ha="right" if are_long else "center",
        )
        self.ax_.tick_params(axis="x", length=0)
        boundaries = [places[0] - 0.5 for places in list(columns.values())[1:]]
        self.ax_.vlines(boundaries, *self.image_.get_extent()[2:], color=_BOUNDARY, linewidth=1)

    def _mark(self, codes: NDArray, names: list[str]) -> None:
        """Draw a triangle above each neuron that differs."""
        rows = zip(names, (_UPPER_ONLY, _LOWER_ONLY), "v^", self.ax_.get_yticklabels(), strict=True)
        for name, code, marker, label in rows:
            places = np.flatnonzero((codes == code).any(axis=0))
            (self.marks_[name],) = self.ax_.plot(
                places,
                np.full(len(places), -0.5 - _ROOM_FOR_MARKS / 4),
                color=_COLORS[code],
                marker=marker,
                linestyle="none",
            )
            label.set_color(_COLORS[code])
        top, bottom = -0.5, len(codes) - 0.5
        self.ax_.set(xlim=(-0.5, codes.shape[1] - 0.5), ylim=(bottom, top - _ROOM_FOR_MARKS))
        self.ax_.spines["top"].set_position(("data", top))
        self.ax_.spines[["left", "right"]].set_bounds(bottom, top)

    def _label(self, columns: Mapping[str, NDArray], differs: NDArray, max_labels: int) -> None:
        """Write which neurons differ above the marks, and draw lines from these to the labels."""
        labels: dict[int, str] = {}
        for name, places in columns.items():
            units = self.neurons[name]
            self.differing_[name] = units[differs[places]]
            layer = f"{name} " if len(columns) > 1 else ""
            labels.update(zip(places, [f"{layer}{unit}" for unit in units], strict=True))
        marked = evenly(np.flatnonzero(differs), max_labels)
        if not marked.size:
            return
        spots = _spread(marked, len(differs), max_labels)
        top = -0.5 - _ROOM_FOR_MARKS
        for place, spot in zip(marked, spots, strict=True):
            ends = [-0.5 - _ROOM_FOR_MARKS / 2, top]
            self.ax_.plot([place, spot], ends, color="#999999", linewidth=0.7)
        axis = self.ax_.secondary_xaxis("top")
        axis.set_xticks(spots, [labels[place] for place in marked], rotation=90, fontsize="small")
        axis.tick_params(length=0, pad=1)
        axis.spines[:].set_visible(False)


def _columns(neurons: Mapping[str, ArrayLike], n_columns: int) -> dict[str, NDArray[np.intp]]:
    """The columns of each layer."""
    sizes = {layer: np.size(units) for layer, units in neurons.items()}
    if (n_neurons := sum(sizes.values())) != n_columns:
        raise ValueError(f"patterns has {n_columns} neurons, but neurons numbers {n_neurons}.")
    return split_layers(np.arange(n_columns), sizes)


def _codes(patterns: NDArray[np.bool_], mark_differences: bool) -> NDArray[np.uint8]:
    """What is drawn in each place: one of the colours."""
    codes = np.where(patterns, _ACTIVE, _SILENT).astype(np.uint8)
    if mark_differences:
        upper, lower = patterns
        codes[0, upper & ~lower] = _UPPER_ONLY
        codes[1, lower & ~upper] = _LOWER_ONLY
    return codes


def _spread(places: NDArray, n_columns: int, n_labels: int) -> NDArray[np.float64]:
    """Positions nearest to the given ascending ones, with space for labels between."""
    gap = n_columns / n_labels
    shifts = gap * np.arange(len(places))
    last = n_columns - 0.5 - shifts[-1:].sum()
    return isotonic_regression(places - shifts, y_min=-0.5, y_max=last) + shifts
