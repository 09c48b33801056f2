"""Drawn triangles."""

from numbers import Integral

import numpy as np
from numpy.random import RandomState
from numpy.typing import NDArray
from sklearn.utils import check_random_state, gen_batches

from .._sklearn import validate_params

# Shares of the shorter side. The pen is as wide as that of MNIST's digits.
_RADIUS = (0.25, 0.42)
_SHIFT = 0.06
_PEN = (0.07, 0.12)
_IMAGES_PER_BATCH = 256


@validate_params(
    {"shape": [tuple, list], "random_state": ["random_state"]}, prefer_skip_nested_validation=True
)
def make_triangles(
    shape: tuple[int, ...], *, random_state: int | RandomState | None = None
) -> NDArray[np.float32]:
    """Draw outlines of triangles, as if by the pen that writes digits.

    A shape that is no digit and yet looks as if the same hand had drawn it: to feed it to a network
    of digits is the test of [1]_. Size, place, proportions, orientation and the width of the pen
    are random; seen from the middle, corners are at least 60 degrees apart.

    Parameters
    ----------
    shape : tuple of int
        Shape of the result, ``(n_samples, height, width)`` or ``(n_samples, channels, height,
        width)``. All channels of an image are the same.
    random_state : int, RandomState instance or None, default=None
        Determines the triangles. Pass an int for the same ones at every call.

    Returns
    -------
    X : ndarray of the given shape, dtype float32
        The images, from 0 (background) to 1.

    Raises
    ------
    ValueError
        If ``shape`` is not three or four positive integers.

    See Also
    --------
    make_noise : Random images without shape.

    References
    ----------
    .. [1] S. K. Gaddipati, J. Bandlamudi, "Monitoring neuron activations for out of distribution
       detection", slides, Hochschule Bonn-Rhein-Sieg, 2020.

    Examples
    --------
    >>> from skood.datasets import make_triangles
    >>> X = make_triangles((10, 1, 28, 28), random_state=0)
    >>> X.shape, X.dtype, float(X.min()), float(X.max())
    ((10, 1, 28, 28), dtype('float32'), 0.0, 1.0)
    """
    if len(shape) not in (3, 4) or not all(isinstance(n, Integral) and n > 0 for n in shape):
        raise ValueError(f"shape must be three or four positive integers, got {shape!r}.")
    n_samples, height, width = int(shape[0]), int(shape[-2]), int(shape[-1])
    corners, pen = _draw_corners(n_samples, height, width, check_random_state(random_state))
    images = np.empty((n_samples, height, width), dtype=np.float32)
    for rows in gen_batches(n_samples, _IMAGES_PER_BATCH):
        distance = _distance_to_outline(corners[rows], height, width)
        # A pixel at the edge of the line is covered in part.
        images[rows] = np.clip(pen[rows, None, None] / 2 - distance + 0.5, 0, 1)
    if len(shape) == 3:
        return images
    return np.repeat(images[:, np.newaxis], shape[1], axis=1)


def _draw_corners(
    n_samples: int, height: int, width: int, rng: RandomState
) -> tuple[NDArray[np.floating], NDArray[np.floating]]:
    """Corners as rows and columns in pixels, (n_samples, 3, 2), and widths of the pen."""
    side = min(height, width)
    turn = rng.uniform(2 * np.pi, size=(n_samples, 1))
    angle = turn + np.arange(3) * 2 * np.pi / 3 + rng.uniform(-1, 1, (n_samples, 3)) * np.pi / 6
    radius = rng.uniform(*_RADIUS, size=(n_samples, 3)) * side
    middle = rng.uniform(-_SHIFT, _SHIFT, size=(n_samples, 1, 2)) * side
    middle += np.array([height - 1, width - 1]) / 2
    corners = middle + radius[..., None] * np.stack([np.sin(angle), np.cos(angle)], axis=-1)
    pen = np.maximum(1, rng.uniform(*_PEN, size=n_samples) * side)
    return corners, pen


def _distance_to_outline(
    corners: NDArray[np.floating], height: int, width: int
) -> NDArray[np.floating]:
    """Of every pixel to the nearest of the three sides, (n_samples, height, width)."""
    pixels = np.moveaxis(np.mgrid[:height, :width], 0, -1)
    distance = np.full((len(corners), height, width), np.inf)
    for side in range(3):
        start = corners[:, None, None, side]
        along = corners[:, None, None, side - 1] - start
        offset = pixels - start
        place = np.sum(offset * along, axis=-1) / np.sum(along**2, axis=-1)
        nearest = np.clip(place, 0, 1)[..., None] * along
        distance = np.minimum(distance, np.linalg.norm(offset - nearest, axis=-1))
    return distance
