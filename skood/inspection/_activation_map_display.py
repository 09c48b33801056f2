"""The feature maps of a layer for one input, as a grid of images."""

from __future__ import annotations

from numbers import Integral
from typing import TYPE_CHECKING, Any, Self

import numpy as np
from numpy.typing import ArrayLike, NDArray
from sklearn.utils import check_scalar

from .._layer_names import units_second
from .._optional import import_optional
from ..activations import Activations, Layer
from ._drawing import name_of_layer

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.colorbar import Colorbar
    from matplotlib.figure import Figure
    from matplotlib.image import AxesImage


class ActivationMapDisplay:
    """Feature maps of a layer for one input, as a grid of images.

    Create it by :meth:`from_activations`. Each image is what one channel of the layer puts out:
    where in the input it finds what it looks for, and how strongly.

    Parameters
    ----------
    maps : array-like of shape (n_maps, height, width)
        The maps, in the order in which they are drawn.
    channels : array-like of shape (n_maps,)
        Number of each map's channel.
    layer : str
        Name of the layer.
    image : array-like, default=None
        What the network was shown, to be drawn before the maps: a grey image of shape
        (height, width) or (1, height, width), or a coloured one of shape (3, height, width) or
        (height, width, 3).

    Attributes
    ----------
    images_ : list of matplotlib AxesImage
        The images drawn, that of the input first where it is given.
    colorbar_ : matplotlib Colorbar or None
        The colour bar of all maps, where they share one scale.
    axes_ : ndarray of matplotlib Axes of shape (n_images,)
        Axes of each image.
    figure_ : matplotlib Figure
        Figure that the axes belong to.

    See Also
    --------
    PatternDisplay : Which neurons of a layer are active, sample by sample.
    MeanActivationDisplay : How active the neurons of a layer are, with or without maps.

    Notes
    -----
    Maps without negative values, such as those after a ReLU, go from dark at 0 to bright. If any
    value is negative, blue is below 0, red above and white is 0.

    Examples
    --------
    >>> import numpy as np
    >>> from skood import Activations
    >>> from skood.inspection import ActivationMapDisplay
    >>> maps = np.zeros((1, 3, 4, 4))
    >>> maps[0, 1, 2, 2] = 5.0
    >>> maps[0, 2] = 1.0
    >>> display = ActivationMapDisplay.from_activations(
    ...     Activations({"conv": maps}), layer="conv", n_maps=2
    ... )
    >>> display.channels
    array([2, 1])
    >>> [ax.get_title() for ax in display.axes_]
    ['channel 2', 'channel 1']
    """

    images_: list[AxesImage]
    colorbar_: Colorbar | None
    axes_: NDArray[np.object_]
    figure_: Figure

    def __init__(
        self,
        *,
        maps: ArrayLike,
        channels: ArrayLike,
        layer: str,
        image: ArrayLike | None = None,
    ) -> None:
        self.maps = maps
        self.channels = channels
        self.layer = layer
        self.image = image

    @classmethod
    def from_activations(
        cls,
        X: Activations,
        *,
        layer: str | int,
        sample: int = 0,
        channels: ArrayLike | None = None,
        n_maps: int = 16,
        image: ArrayLike | None = None,
        share_scale: bool = True,
        ax: Axes | ArrayLike | None = None,
        **imshow_kw: Any,
    ) -> Self:
        """Draw one layer of one sample.

        Parameters
        ----------
        X : Activations
            Activations by layer.
        layer : str or int
            Name or number of the layer to draw, of shape (n_samples, channels, height, width), or
            with the channels in another axis, the ``unit_axis`` of its column. Layers that have no
            maps, such as dense, pooled or packed ones, are refused.
        sample : int, default=0
            Row of the sample in ``X``.
        channels : array-like of shape (n_maps,), default=None
            Numbers of the channels to draw, in this order. By default those with the largest
            mean for this sample, largest first; of equal ones the earlier channel first.
        n_maps : int, default=16
            How many channels to draw where ``channels`` does not name them; all if the layer has
            fewer.
        image : array-like, default=None
            What the network was shown, to be drawn before the maps: a grey image of shape
            (height, width) or (1, height, width), or a coloured one of shape
            (3, height, width) or (height, width, 3).
        share_scale : bool, default=True
            Whether all maps have one colour scale, which a colour bar shows. Otherwise each has
            its own, which its title states.
        ax : matplotlib Axes or array-like of Axes, default=None
            One axes, in whose place the grid is drawn, or one for each image, that of the input
            first. By default a new figure. The layout "constrained" leaves space for the colour
            bar; "tight" does not.
        **imshow_kw : dict
            Keyword arguments of matplotlib's ``imshow``, for all maps: ``vmin`` and ``vmax`` give
            several displays one scale.

        Returns
        -------
        display : ActivationMapDisplay
            The display, drawn.

        Raises
        ------
        TypeError
            If ``X`` is not ``Activations``, or ``sample`` or ``n_maps`` is not an integer.
        KeyError
            If there is no such layer.
        ValueError
            If the layer has no maps, or there is no such sample or channel.
        """
        if not isinstance(X, Activations):
            raise TypeError(f"ActivationMapDisplay needs Activations, got {type(X).__name__}.")
        check_scalar(sample, "sample", Integral, min_val=0, max_val=len(X) - 1)
        layer = name_of_layer(layer, X)
        maps = np.asarray(_layer_with_maps(X[[sample]], layer))[0]
        chosen = _most_active(maps, n_maps) if channels is None else _check(channels, len(maps))
        display = cls(maps=maps[chosen], channels=chosen, layer=layer, image=image)
        return display.plot(ax, share_scale=share_scale, **imshow_kw)

    def plot(
        self,
        ax: Axes | ArrayLike | None = None,
        *,
        share_scale: bool = True,
        **imshow_kw: Any,
    ) -> Self:
        """Draw the maps.

        Parameters
        ----------
        ax : matplotlib Axes or array-like of Axes, default=None
            One axes, in whose place the grid is drawn, or one for each image, that of the input
            first. By default a new figure.
        share_scale : bool, default=True
            Whether all maps have one colour scale, which a colour bar shows. Otherwise each has
            its own, which its title states.
        **imshow_kw : dict
            Keyword arguments of matplotlib's ``imshow``, for all maps.

        Returns
        -------
        self : ActivationMapDisplay
            The display.

        Raises
        ------
        ValueError
            If ``ax`` does not hold one axes for each image, or the one axes cannot be divided, or
            ``image`` has another shape than those above.
        """
        maps = np.asarray(self.maps, dtype=np.float64)
        image = None if self.image is None else _as_picture(self.image)
        self._get_axes(ax)
        self.images_ = []
        if image is not None:
            self.images_.append(self.axes_[0].imshow(image, cmap="gray"))
            self.axes_[0].set_title("input", fontsize="small")
        map_axes = self.axes_[len(self.images_) :]
        for axes, values, channel in zip(map_axes, maps, np.asarray(self.channels), strict=True):
            style = _color_scale(maps if share_scale else values, is_signed=bool((maps < 0).any()))
            self.images_.append(axes.imshow(values, **(style | imshow_kw)))
            low, high = self.images_[-1].get_clim()
            scale = "" if share_scale else f"\n{low:.2g} to {high:.2g}"
            axes.set_title(f"channel {channel}{scale}", fontsize="small")
        for axes in self.axes_:
            axes.set(xticks=[], yticks=[])
        self.colorbar_ = None
        if share_scale:
            self.colorbar_ = self.figure_.colorbar(self.images_[-1], ax=list(map_axes))
            self.colorbar_.set_label(f"activation of {self.layer}", fontsize="small")
        else:
            map_axes[0].set_ylabel(self.layer)
        return self

    def _get_axes(self, ax: Axes | ArrayLike | None) -> None:
        pyplot = import_optional("matplotlib.pyplot", "plot", "ActivationMapDisplay")
        n_maps, has_image = len(np.asarray(self.maps)), self.image is not None
        n_rows, n_columns = _grid_shape(n_maps)
        input_size = min(2, n_rows) if has_image else 0
        if ax is None:
            size = (1.2 * (n_columns + input_size) + 1, 1.3 * n_rows + 0.4)
            _, ax = pyplot.subplots(figsize=size, layout="constrained")
        if isinstance(ax, pyplot.Axes):
            divided = _divide(ax, n_maps, n_rows, n_columns, input_size)
            self.axes_ = np.array(divided, dtype=object)
        else:
            self.axes_ = np.ravel(np.asarray(ax, dtype=object))
        if len(self.axes_) != n_maps + has_image:
            raise ValueError(
                f"There are {n_maps + has_image} images, but ax holds {len(self.axes_)} axes."
            )
        self.figure_ = self.axes_[0].figure.figure


def _layer_with_maps(X: Activations, layer: str) -> Layer:
    activations = units_second(X[[layer]])[layer]
    if activations.ndim != 4:
        with_maps = [name for name, shape in X.layer_shapes.items() if len(shape) == 3]
        raise ValueError(
            f"Layer {layer!r} has samples of shape {X.layer_shapes[layer]}, but maps need "
            f"(channels, height, width); layers that have them are {with_maps}."
        )
    return activations


def _most_active(maps: NDArray, n_maps: int) -> NDArray[np.intp]:
    check_scalar(n_maps, "n_maps", Integral, min_val=1)
    means = maps.mean(axis=(1, 2), dtype=np.float64)
    return np.argsort(-means, kind="stable")[:n_maps]


def _check(channels: ArrayLike, n_channels: int) -> NDArray[np.intp]:
    chosen = np.asarray(channels)
    if chosen.ndim != 1 or not chosen.size or chosen.dtype.kind not in "iu":
        raise ValueError(f"channels must be a list of channel numbers, got {channels!r}.")
    if chosen.min() < 0 or chosen.max() >= n_channels:
        raise ValueError(
            f"channels must be from 0 to {n_channels - 1} in this layer, got {chosen.tolist()}."
        )
    return chosen.astype(np.intp)


def _grid_shape(n_maps: int) -> tuple[int, int]:
    n_columns = min(n_maps, max(4, int(np.ceil(np.sqrt(n_maps)))))
    return -(-n_maps // n_columns), n_columns


def _divide(ax: Axes, n_maps: int, n_rows: int, n_columns: int, input_size: int) -> list[Axes]:
    """Axes in a grid in the place of ``ax``; that of the input is larger and at the left."""
    spec = ax.get_subplotspec()
    if spec is None:
        raise ValueError(
            "ax is not part of a grid and cannot be divided: make it by plt.subplots, or give "
            "one axes for each image."
        )
    ax.set_axis_off()
    grid = spec.subgridspec(n_rows, n_columns + input_size)
    cells = [grid[i // n_columns, input_size + i % n_columns] for i in range(n_maps)]
    if input_size:
        cells.insert(0, grid[:input_size, :input_size])
    return [ax.figure.add_subplot(cell) for cell in cells]


def _color_scale(values: NDArray, *, is_signed: bool) -> dict[str, Any]:
    limit = np.abs(values[np.isfinite(values)]).max(initial=0) or 1.0
    if is_signed:
        return {"cmap": "RdBu_r", "vmin": -limit, "vmax": limit}
    return {"cmap": "viridis", "vmin": 0, "vmax": limit}


def _as_picture(image: ArrayLike) -> NDArray:
    """An image as ``imshow`` takes it: grey, or with colours last and between 0 and 1."""
    picture = np.asarray(image)
    if picture.ndim == 3 and picture.shape[0] in (1, 3):
        picture = np.moveaxis(picture, 0, -1)
    if picture.ndim == 3 and picture.shape[-1] == 1:
        picture = picture[..., 0]
    if picture.ndim != 2 and (picture.ndim != 3 or picture.shape[-1] != 3):
        raise ValueError(
            "image must have shape (height, width), (1 or 3, height, width) or "
            f"(height, width, 3), got {picture.shape}."
        )
    is_normalized = picture.dtype.kind == "f" and (picture.min() < 0 or picture.max() > 1)
    if picture.ndim == 2 or not is_normalized:
        return picture
    # Networks are often shown standardised colours, which `imshow` would cut off.
    return (picture - picture.min()) / (np.ptp(picture) or 1.0)
