"""Reader of USPS, a text file of features."""

from collections.abc import Sequence
from pathlib import Path

import numpy as np
from sklearn.datasets import load_svmlight_file

from ._arrays import Images, Labels

_SIZE = (16, 16)


def read_usps(paths: Sequence[Path]) -> tuple[Images, Labels]:
    """Read a file in the svmlight format, packed by bzip2 if its name ends in ``.bz2``.

    Parameters
    ----------
    paths : sequence of one path
        The file: classes from 1 to 10, and 256 values from -1 to 1.

    Returns
    -------
    images : ndarray of shape (n_samples, 1, 16, 16), dtype float32
        The images, from 0 to 1.
    labels : ndarray of shape (n_samples,), dtype int64
        The digits.

    Raises
    ------
    ValueError
        If the file is no such text, is cut short, or holds other values.
    """
    (path,) = paths
    n_pixels = _SIZE[0] * _SIZE[1]
    try:
        values, classes = load_svmlight_file(str(path), n_features=n_pixels, zero_based=False)
    except (ValueError, OverflowError, EOFError, OSError) as error:
        raise ValueError(
            f"'{path}' is no file of {n_pixels} features in the svmlight format, or a damaged "
            f"one: {error}"
        ) from error
    pixels = values.toarray()
    if not np.all(np.abs(pixels) <= 1):
        raise ValueError(f"The values in '{path}' must be from -1 to 1.")
    if not np.isin(classes, np.arange(1, 11)).all():
        raise ValueError(f"The classes in '{path}' must be the integers 1 to 10.")
    images = ((pixels + 1) / 2).astype(np.float32).reshape(-1, 1, *_SIZE)
    return images, classes.astype(np.int64) - 1
