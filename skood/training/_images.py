"""Images of the denoising classifier: their checks, and noise, squares and rotations of them."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from sklearn.utils import check_array
from torch import Tensor

DISGUISES = ("rotation", "occlusion", "decoder")
STEPS = ("noise", *DISGUISES)


def check_images(X: Any, image_shape: tuple[int, ...] | None = None) -> NDArray[np.float32]:
    """Images as an array of shape (n, channels, height, width), dtype float32.

    Parameters
    ----------
    X : array-like of shape (n, height, width) or (n, channels, height, width)
        Images. Without an axis of channels they have one. Values of dtype uint8 are divided by 255.
    image_shape : (int, int, int), default=None
        The channels, height and width that they must have.

    Raises
    ------
    ValueError
        If they have other shapes or dtypes, values that are not finite, or there are none.
    """
    dtype = np.asarray(X).dtype
    if dtype.kind in "iu" and dtype != np.uint8:
        raise ValueError(f"Images must be real-valued or of dtype uint8, got {dtype}.")
    images: NDArray[np.float32] = check_array(
        X, allow_nd=True, dtype=np.float32, order="C", input_name="X"
    )
    if images.ndim not in (3, 4) or images.size == 0:
        raise ValueError(
            "Expected images, of shape (n, height, width) or (n, channels, height, width), "
            f"got an array of shape {images.shape}."
        )
    images = images / np.float32(255) if dtype == np.uint8 else images
    images = images[:, np.newaxis] if images.ndim == 3 else images
    if image_shape is not None and images.shape[1:] != image_shape:
        raise ValueError(
            f"The network was trained on images of {image_shape} (channels, height, width), "
            f"got images of {images.shape[1:]}."
        )
    return images


def check_sides(name: str, sides: tuple[float, float]) -> None:
    """Raise a ValueError where ``sides`` are no fractions of a side, the smaller one first."""
    if len(sides) != 2 or not 0 < sides[0] <= sides[1] <= 1:
        raise ValueError(
            f"{name} must be two shares of an image's side, the smaller one first, got {sides}."
        )


def check_disguises(kinds: Sequence[str], image_shape: tuple[int, ...]) -> None:
    """Raise a ValueError where images of that shape cannot be transformed in these ways."""
    if not kinds or not all(map(_is_disguise, kinds)):
        raise ValueError(
            f"pseudo_ood must be some of {DISGUISES}, or steps of {STEPS} joined by '+', each at "
            f"most once and a rotation or an occlusion among them; got {tuple(kinds)}."
        )
    height, width = image_shape[-2:]
    if height != width and any("rotation" in steps_of(kind) for kind in kinds):
        raise ValueError(
            f"Images of {height} x {width} cannot be turned by 90 degrees: "
            "pseudo_ood=('occlusion',) is left."
        )


def steps_of(kind: str) -> list[str]:
    """The steps that make images unlike known ones, in order."""
    return ["rotation", "decoder"] if kind == "decoder" else kind.split("+")


def _is_disguise(kind: object) -> bool:
    if not isinstance(kind, str):
        return False
    steps = steps_of(kind)
    # The others alone do not make it unlike known ones.
    changes = {"rotation", "occlusion"} & set(steps)
    return bool(changes) and set(steps) <= set(STEPS) and len(set(steps)) == len(steps)


def add_noise(images: Tensor, std: float) -> Tensor:
    """Images plus Gaussian noise."""
    return images + std * torch.randn_like(images)


def cover_square(images: Tensor, sides: tuple[float, float]) -> Tensor:
    """Images with one square of noise each, anywhere.

    Parameters
    ----------
    images : Tensor of shape (n, channels, height, width)
        Images.
    sides : (float, float)
        Smallest and largest side of the square, as fractions of the shorter side of the image.

    Returns
    -------
    covered : Tensor of shape (n, channels, height, width)
        The images. The pixels of a square are uniform between the lowest and the highest of the
        batch.
    """
    n, _, height, width = images.shape
    smallest, largest = (max(1, round(share * min(height, width))) for share in sides)

    def random(*shape: int) -> Tensor:
        return torch.rand(shape, device=images.device)

    side = smallest + (random(n) * (largest - smallest + 1)).floor()
    in_rows = _in_span(height, side, random(n))
    in_columns = _in_span(width, side, random(n))
    square = (in_rows[:, :, None] & in_columns[:, None, :])[:, None]
    low, high = images.amin(), images.amax()
    return torch.where(square, low + (high - low) * random(*images.shape), images)


def turn_quarter(images: Tensor) -> Tensor:
    """Square images turned by 90 or 270 degrees, each way for half of them at random."""
    turned = torch.rot90(images, 1, (-2, -1))
    by_270 = torch.rand(len(images), 1, 1, 1, device=images.device) < 0.5
    return torch.where(by_270, turned.flip(-2, -1), turned)


def _in_span(length: int, side: Tensor, place: Tensor) -> Tensor:
    """Which of ``length`` positions lie in a span of that side; ``place`` in [0, 1) moves it."""
    start = (place * (length - side + 1)).floor()[:, None]
    positions = torch.arange(length, device=side.device)
    return (positions >= start) & (positions < start + side[:, None])
