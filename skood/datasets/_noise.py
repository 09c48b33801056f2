"""Random images of several kinds."""

from collections.abc import Callable
from numbers import Integral

import numpy as np
from numpy.random import RandomState
from numpy.typing import NDArray
from scipy.ndimage import gaussian_filter
from sklearn.utils import check_random_state

from .._sklearn import StrOptions, validate_params

Shape = tuple[int, ...]

# Large enough for shapes of several pixels, small enough for several of them in 8 x 8 pixels.
_BLOB_WIDTH = 1.5


def _uniform(shape: Shape, rng: RandomState) -> NDArray[np.number]:
    return rng.uniform(size=shape)


def _gaussian(shape: Shape, rng: RandomState) -> NDArray[np.number]:
    return rng.normal(loc=0.5, size=shape).clip(0, 1)


def _salt_and_pepper(shape: Shape, rng: RandomState) -> NDArray[np.number]:
    return rng.randint(2, size=shape)


def _constant(shape: Shape, rng: RandomState) -> NDArray[np.number]:
    grey = rng.uniform(size=(shape[0],) + (1,) * (len(shape) - 1))
    return np.broadcast_to(grey, shape)


def _blobs(shape: Shape, rng: RandomState) -> NDArray[np.number]:
    spatial = tuple(range(1, len(shape)))[-2:]
    smooth: NDArray[np.floating] = gaussian_filter(
        rng.uniform(size=shape), _BLOB_WIDTH, axes=spatial
    )
    within_sample = tuple(range(1, len(shape)))
    smooth -= smooth.min(axis=within_sample, keepdims=True)
    peak = smooth.max(axis=within_sample, keepdims=True)
    # A sample of a single pixel has no range to stretch.
    return smooth / np.where(peak > 0, peak, 1)


_KINDS: dict[str, Callable[[Shape, RandomState], NDArray[np.number]]] = {
    "blobs": _blobs,
    "constant": _constant,
    "gaussian": _gaussian,
    "salt_and_pepper": _salt_and_pepper,
    "uniform": _uniform,
}


@validate_params(
    {
        "kind": [StrOptions(set(_KINDS))],
        "shape": [tuple, list],
        "random_state": ["random_state"],
    },
    prefer_skip_nested_validation=True,
)
def make_noise(
    kind: str, shape: Shape, *, random_state: int | RandomState | None = None
) -> NDArray[np.float32]:
    """Draw random images that belong to no class.

    Parameters
    ----------
    kind : {"blobs", "constant", "gaussian", "salt_and_pepper", "uniform"}
        What to draw:

        - "uniform": every value uniform between 0 and 1;
        - "gaussian": every value normal with mean 0.5 and standard deviation 1, clipped to
          [0, 1], as in [1]_;
        - "salt_and_pepper": every value 0 or 1, as likely;
        - "constant": one grey for each sample, uniform between 0 and 1;
        - "blobs": uniform noise smoothed over the last two axes (over the last one where a sample
          has one axis), by a Gaussian of 1.5 pixels, then stretched so that every sample reaches
          from 0 to 1.
    shape : tuple of int
        Shape of the result, ``(n_samples, ...)``, with at least two axes, channels first.
    random_state : int, RandomState instance or None, default=None
        Determines the noise. Pass an int for the same noise at every call.

    Returns
    -------
    X : ndarray of the given shape, dtype float32
        The noise, from 0 to 1.

    Raises
    ------
    ValueError
        If ``kind`` is none of those above, or ``shape`` is not two or more positive integers.

    References
    ----------
    .. [1] S. Liang, Y. Li and R. Srikant, "Enhancing the reliability of out-of-distribution image
       detection in neural networks", ICLR 2018. arXiv:1706.02690.

    Examples
    --------
    >>> from skood.datasets import make_noise
    >>> X = make_noise("blobs", (10, 1, 8, 8), random_state=0)
    >>> X.shape, X.dtype, float(X.min()), float(X.max())
    ((10, 1, 8, 8), dtype('float32'), 0.0, 1.0)
    """
    if len(shape) < 2 or not all(isinstance(n, Integral) and n > 0 for n in shape):
        raise ValueError(f"shape must be two or more positive integers, got {shape!r}.")
    draw = _KINDS[kind]
    return draw(tuple(shape), check_random_state(random_state)).astype(np.float32, order="C")
