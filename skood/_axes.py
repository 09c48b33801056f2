"""Axes that the displays draw on."""

from __future__ import annotations

from typing import TYPE_CHECKING, cast

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
