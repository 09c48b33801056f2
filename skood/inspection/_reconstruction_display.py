"""Images beside what a decoder makes of them, class by class."""

from __future__ import annotations

from numbers import Integral
from typing import TYPE_CHECKING, Any, Self

import numpy as np
from numpy.typing import ArrayLike, NDArray
from sklearn.utils import check_consistent_length, check_scalar
from sklearn.utils.validation import column_or_1d

from .._axes import ink
from .._optional import import_optional
from ._drawing import split_pipeline

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure
    from matplotlib.image import AxesImage

_ORDERS = ("largest", "smallest", "first")
_TEXT_SHARE = 0.22
"""Of the height of a tile: the space above the images for the error."""


class ReconstructionDisplay:
    """Images beside what a denoising classifier draws of them, a row for each class.

    Create it by :meth:`from_estimator`. By default these are the images of each class with the
    largest reconstruction errors, which stand above them.

    Parameters
    ----------
    images : array-like of shape (n_images, height, width) or (n_images, channels, height, width)
        The images: grey, or with three channels of colours.
    drawn : array-like of the shape of ``images``
        What is drawn of them.
    errors : array-like of shape (n_images,)
        Reconstruction error of each.
    y : array-like of shape (n_images,)
        Class of each: its row. Images of one class are drawn in the order in which they come.

    Attributes
    ----------
    image_ : matplotlib AxesImage
        All of the images as one.
    classes_ : list
        The classes in the order of the rows, ascending.
    ax_ : matplotlib Axes
        Axes with the images.
    figure_ : matplotlib Figure
        Figure that the axes belong to.

    See Also
    --------
    ReconstructionErrorDisplay : The errors of all images.
    skood.training.DenoisingClassifier : Rejects images that are drawn with a large error.

    References
    ----------
    Figure 8 of Y. Song, "Deep Learning Lab, final project report", Yonsei University.

    Examples
    --------
    >>> import numpy as np
    >>> from skood.inspection import ReconstructionDisplay
    >>> images = np.eye(4)[np.newaxis].repeat(3, axis=0)
    >>> display = ReconstructionDisplay(
    ...     images=images, drawn=images / 2, errors=[0.06, 0.06, 0.06], y=["x", "x", "y"]
    ... ).plot()
    >>> display.classes_
    ['x', 'y']
    """

    image_: AxesImage
    classes_: list[Any]
    ax_: Axes
    figure_: Figure

    def __init__(
        self, *, images: ArrayLike, drawn: ArrayLike, errors: ArrayLike, y: ArrayLike
    ) -> None:
        self.images = images
        self.drawn = drawn
        self.errors = errors
        self.y = y

    @classmethod
    def from_estimator(
        cls,
        classifier: Any,
        X: ArrayLike,
        y: ArrayLike,
        *,
        n_images: int = 6,
        order: str = "largest",
        ax: Axes | None = None,
        **imshow_kw: Any,
    ) -> Self:
        """Draw some images of each class.

        Parameters
        ----------
        classifier : estimator
            Fitted :class:`~skood.training.DenoisingClassifier`, or a fitted pipeline that ends in
            one.
        X : array-like of shape (n_samples, height, width) or (n_samples, channels, height, width)
            Images, as the classifier or pipeline takes them, with one or three channels.
        y : array-like of shape (n_samples,)
            Their classes, or names of any other sets.
        n_images : int, default=6
            How many images of each class to draw; all if there are fewer.
        order : {"largest", "smallest", "first"}, default="largest"
            Which: those with the largest errors, the smallest ones, or the first in ``X``.
        ax : matplotlib Axes, default=None
            Axes to draw on; new ones by default.
        **imshow_kw : dict
            Keyword arguments of matplotlib's ``imshow``. Grey images are drawn from ``vmin``, by
            default their smallest value, in white, to ``vmax``, the largest one, in black.

        Returns
        -------
        display : ReconstructionDisplay
            The display, drawn.

        Raises
        ------
        TypeError
            If ``classifier`` does not reconstruct images, or ``n_images`` is not an integer.
        ValueError
            If ``order`` is unknown, ``n_images`` below 1, the lengths differ, or the images have
            another number of channels.
        """
        check_scalar(n_images, "n_images", Integral, min_val=1)
        if order not in _ORDERS:
            raise ValueError(f"order must be one of {_ORDERS}, got {order!r}.")
        classifier, X = split_pipeline(classifier, X, "reconstruct")
        images, labels = np.asarray(X), column_or_1d(y)
        check_consistent_length(images, labels)
        errors = classifier.reconstruction_error(images)
        rows = _choose_rows(errors, labels, n_images, order)
        display = cls(
            # As the network sees them.
            images=images[rows] / 255 if images.dtype == np.uint8 else images[rows],
            drawn=classifier.reconstruct(images[rows]),
            errors=errors[rows],
            y=labels[rows],
        )
        return display.plot(ax, **imshow_kw)

    def plot(self, ax: Axes | None = None, **imshow_kw: Any) -> Self:
        """Draw the images.

        Parameters
        ----------
        ax : matplotlib Axes, default=None
            Axes to draw on; new ones by default.
        **imshow_kw : dict
            Keyword arguments of matplotlib's ``imshow``. Grey images are drawn from ``vmin``, by
            default their smallest value, in white, to ``vmax``, the largest one, in black.

        Returns
        -------
        self : ReconstructionDisplay
            The display.

        Raises
        ------
        ValueError
            If the lengths or shapes differ, or the images have another number of channels.
        """
        images, drawn = _as_pictures(self.images), _as_pictures(self.drawn)
        errors, labels = np.asarray(self.errors), column_or_1d(self.y)
        check_consistent_length(images, drawn, errors, labels)
        if images.shape != drawn.shape:
            raise ValueError(f"images have shape {images.shape}, but drawn {drawn.shape}.")
        classes, row = np.unique(labels, return_inverse=True)
        column = _count_before(row)
        self.classes_ = classes.tolist()
        pyplot = import_optional("matplotlib.pyplot", "plot", "ReconstructionDisplay")
        if ax is None:
            size = (1 + 1.6 * (column.max() + 1), 0.5 + 0.9 * len(classes))
            _, ax = pyplot.subplots(figsize=size, layout="constrained")
        self.figure_, self.ax_ = ax.figure.figure, ax
        tiles = _make_tiles(images, drawn, row, column)
        self._show(tiles, (images.min(), images.max()), imshow_kw)
        self._label(tiles, row, column, errors)
        return self

    def _show(self, tiles: NDArray, ends: tuple[float, float], imshow_kw: dict[str, Any]) -> None:
        n_rows, n_columns, height, width, n_channels = tiles.shape
        canvas = tiles.swapaxes(1, 2).reshape(n_rows * height, n_columns * width, n_channels)
        low, high = ends
        if n_channels == 1:
            canvas = canvas[..., 0]
        else:
            # Colours have no scale but this; where nothing is, they are transparent.
            is_there = ~np.isnan(canvas[..., :1])
            scaled = (canvas - low) / ((high - low) or 1.0)
            canvas = np.dstack([np.nan_to_num(scaled.clip(0, 1)), is_there])
        style: dict[str, Any] = {"cmap": "gray_r", "vmin": low, "vmax": high}
        self.image_ = self.ax_.imshow(canvas, **(style | imshow_kw))

    def _label(self, tiles: NDArray, row: NDArray, column: NDArray, errors: NDArray) -> None:
        height, width = tiles.shape[2:4]
        for place, number, error in zip(row, column, errors, strict=True):
            self.ax_.text(
                (number + 0.5) * width - 0.5,
                (place + _TEXT_SHARE) * height - 0.5,
                f"{error:.3g}",
                ha="center",
                va="bottom",
                fontsize="x-small",
                color=ink(self.ax_),
            )
        middles = (np.arange(len(self.classes_)) + 0.5 + _TEXT_SHARE / 2) * height
        self.ax_.set_yticks(middles, [str(label) for label in self.classes_])
        self.ax_.set_xticks([])
        self.ax_.tick_params(length=0)
        self.ax_.spines[:].set_visible(False)
        self.ax_.set(title="images, and beside each what is drawn of it", ylabel="class")


def _choose_rows(errors: NDArray, labels: NDArray, n_images: int, order: str) -> NDArray[np.intp]:
    """Rows of at most that many images of each class, class by class."""
    keys = {"largest": -errors, "smallest": errors, "first": np.zeros(len(errors))}
    _, number = np.unique(labels, return_inverse=True)
    rows = np.lexsort((keys[order], number))
    return rows[_count_before(number[rows]) < n_images]


def _count_before(numbers: NDArray) -> NDArray[np.intp]:
    """How many equal numbers come before each."""
    order = np.argsort(numbers, kind="stable")
    found, first = np.unique(numbers[order], return_index=True)
    counts = np.empty(len(numbers), dtype=np.intp)
    counts[order] = np.arange(len(numbers)) - first[np.searchsorted(found, numbers[order])]
    return counts


def _make_tiles(images: NDArray, drawn: NDArray, row: NDArray, column: NDArray) -> NDArray:
    """Each image beside what is drawn of it; NaN where nothing is.

    Of shape (n_rows, n_columns, height, width, channels), those of a tile.
    """
    _, height, width, n_channels = images.shape
    space = round(height * _TEXT_SHARE / (1 - _TEXT_SHARE))
    gap = max(1, width // 12)
    shape = (row.max() + 1, column.max() + 1, space + height, 2 * width + 5 * gap, n_channels)
    tiles = np.full(shape, np.nan)
    for pictures, left in ((images, 2 * gap), (drawn, width + 3 * gap)):
        tiles[row, column, space:, left : left + width] = pictures
    return tiles


def _as_pictures(images: ArrayLike) -> NDArray[np.float64]:
    """Images with the channels last, one or three."""
    pictures = np.asarray(images, dtype=np.float64)
    if pictures.ndim == 3:
        return pictures[..., np.newaxis]
    if pictures.ndim != 4 or pictures.shape[1] not in (1, 3):
        raise ValueError(
            "Expected images of shape (n, height, width), (n, 1, height, width) or "
            f"(n, 3, height, width), got an array of shape {pictures.shape}."
        )
    return np.moveaxis(pictures, 1, -1)
