"""Axes that the displays draw on, and what is read well on them."""

from __future__ import annotations

from typing import TYPE_CHECKING, cast

import numpy as np
from numpy.typing import NDArray

from ._optional import import_optional

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure


def get_axes(
    ax: Axes | None, needed_by: str, size: tuple[float, float] | None = None
) -> tuple[Figure, Axes]:
    """The figure and the axes to draw on: those of ``ax``, or new ones where it is None.

    A new figure has the given width and height in inches, or matplotlib's own.

    Raises
    ------
    ImportError
        If matplotlib is not installed; ``needed_by`` is what the user called.
    """
    pyplot = import_optional("matplotlib.pyplot", "plot", needed_by)
    if ax is None:
        return cast("tuple[Figure, Axes]", pyplot.subplots(figsize=size, layout="constrained"))
    # Axes of a subfigure belong to it; only the figure around it can be saved.
    return ax.figure.figure, ax


def ink(ax: Axes) -> str:
    """Black or white, whichever is read better on the axes, whatever style they were made in."""
    color = np.asarray(ax.get_facecolor())
    if color[3] == 0:
        color = np.asarray(ax.figure.figure.get_facecolor())
    return "white" if is_dark(color) else "black"


def is_dark(colors: NDArray) -> NDArray[np.bool_]:
    """Whether white is read better than black on each colour, by the relative luminance."""
    linear = np.where(colors <= 0.04045, colors / 12.92, ((colors + 0.055) / 1.055) ** 2.4)
    luminance = linear[..., :3] @ [0.2126, 0.7152, 0.0722]
    # There both contrasts, (luminance + .05) / .05 and 1.05 / (luminance + .05), are equal.
    return luminance < np.sqrt(1.05 * 0.05) - 0.05
