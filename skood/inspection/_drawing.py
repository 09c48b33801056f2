"""What the displays share: styles of lines, sets of samples, and detectors in pipelines."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy.stats import pearsonr, spearmanr
from sklearn.pipeline import Pipeline
from sklearn.utils.validation import column_or_1d

from .._axes import ink
from .._layer_names import find_layer
from ..activations import Activations

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.lines import Line2D

# Colours that the colour-blind can distinguish, with markers and dashes that print in grey. The
# seventh is black, or white where the axes are dark.
_COLORS = ("#0072b2", "#d55e00", "#009e73", "#cc79a7", "#e69f00", "#56b4e9")
_MARKERS = ("o", "s", "^", "D", "v", "P", "X")
_DASHES = ("-", "--", "-.", ":", (0, (5, 1, 1, 1, 1, 1)), (0, (8, 3)), (0, (1, 3)))


def line_style(ax: Axes, number: int) -> dict[str, Any]:
    """Colour, marker and dashes of the line with that number; they repeat after seven."""
    number %= len(_MARKERS)
    color = [*_COLORS, ink(ax)][number]
    return {"color": color, "marker": _MARKERS[number], "linestyle": _DASHES[number]}


def point_style(ax: Axes, number: int) -> dict[str, Any]:
    """Colour and marker of the set of points with that number; they repeat after 49."""
    marker = _MARKERS[(number + number // len(_MARKERS)) % len(_MARKERS)]
    return {"color": [line_style(ax, number)["color"]], "marker": marker}


def cell_size(ax: Axes, n_columns: int, n_rows: int) -> tuple[float, float]:
    """Width and height, in points, of the cells of a grid that fills the axes as laid out."""
    figure = ax.figure.figure
    # A layout that makes room for labels is computed only when the figure is drawn.
    figure.draw_without_rendering()
    box = ax.get_window_extent()
    points = 72 / figure.dpi
    return box.width * points / n_columns, box.height * points / n_rows


def rows_by_set(groups: ArrayLike | None, n_samples: int) -> dict[str, NDArray[np.intp]]:
    """Rows of each set of samples, in the order in which ``groups`` first names the sets.

    Without ``groups``, all samples are one set.

    Raises
    ------
    ValueError
        If ``groups`` does not name one set for each of the samples.
    """
    if groups is None:
        return {"all samples": np.arange(n_samples)}
    names: NDArray = column_or_1d(groups)
    if len(names) != n_samples:
        raise ValueError(f"There are {n_samples} samples, but groups has {len(names)}.")
    _, first, number = np.unique(names, return_index=True, return_inverse=True)
    return {str(names[first[i]]): np.flatnonzero(number == i) for i in np.argsort(first)}


def correlations(before: NDArray, after: NDArray) -> tuple[float, float]:
    """Correlations of Pearson and of Spearman; NaN where one of the two does not vary."""
    if len(before) < 2 or np.ptp(before) == 0 or np.ptp(after) == 0:
        return np.nan, np.nan
    return float(pearsonr(before, after)[0]), float(spearmanr(before, after)[0])


def draw_diagonal(ax: Axes, before: NDArray, after: NDArray) -> Line2D:
    """Draw where the two are equal, over all that they reach."""
    ends = [min(before.min(), after.min()), max(before.max(), after.max())]
    style: dict[str, Any] = {"color": "#777777", "linestyle": ":", "linewidth": 1, "zorder": 1}
    (line,) = ax.plot(ends, ends, label="equal", **style)
    return line


def name_of_layer(layer: Any, X: Activations) -> str:
    """Name of the layer of ``X`` that is given by its name or its number.

    Raises
    ------
    KeyError
        If there is no such layer.
    """
    if (name := find_layer(layer, X.layer_names)) is None:
        raise KeyError(
            f"No layer {layer!r}; the layers are {list(X.layer_names)}, numbered from 0."
        )
    return name


def descending_order(measure: Any, layer: str, n_units: int) -> NDArray[np.intp]:
    """Units of a layer, those of the largest values first and those without one last.

    ``measure`` holds a value for each unit, by layer or of that layer alone.

    Raises
    ------
    KeyError
        If it does not have the layer.
    ValueError
        If it is of another number of units.
    """
    if isinstance(measure, Mapping):
        if layer not in measure:
            raise KeyError(f"sort_by has no layer {layer!r}; its layers are {list(measure)}.")
        measure = measure[layer]
    values = np.asarray(measure, dtype=np.float64)
    if values.shape != (n_units,):
        raise ValueError(
            f"sort_by must have a value for each of the {n_units} neurons of {layer!r}, got shape "
            f"{values.shape}."
        )
    return np.argsort(-values, kind="stable")


def split_pipeline(estimator: Any, X: Any, method: str) -> tuple[Any, Any]:
    """The detector at the end of a pipeline, or ``estimator`` itself, and what ``X`` is to it.

    Raises
    ------
    TypeError
        If the detector has no such method.
    """
    detector = estimator
    if isinstance(estimator, Pipeline):
        detector = estimator[-1]
        X = estimator[:-1].transform(X) if len(estimator) > 1 else X
    if not hasattr(detector, method):
        raise TypeError(f"Expected a detector with the method {method}, got {detector!r}.")
    return detector, X
