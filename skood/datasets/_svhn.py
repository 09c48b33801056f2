"""Reader of the Street View House Numbers, a MATLAB file."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from scipy.io import loadmat

from ._arrays import Images, Labels


def read_svhn(paths: Sequence[Path]) -> tuple[Images, Labels]:
    """Read a MATLAB file of cropped digits.

    Parameters
    ----------
    paths : sequence of one path
        The file, with ``X`` of shape (32, 32, 3, n_samples) and ``y`` of shape (n_samples, 1).

    Returns
    -------
    images : ndarray of shape (n_samples, 3, 32, 32), dtype uint8
        The images.
    labels : ndarray of shape (n_samples,), dtype int64
        The digits; the file says 10 for a 0.

    Raises
    ------
    ValueError
        If the file is no MATLAB file, or holds something else.
    """
    (path,) = paths
    try:
        content = loadmat(path)
    # A damaged file can fail anywhere, and in its own ways.
    except Exception as error:
        raise ValueError(f"'{path}' is no MATLAB file, or a damaged one: {error}") from error
    images, labels = _get(content, "X", path), _get(content, "y", path)
    if images.dtype != np.uint8 or images.ndim != 4 or images.shape[:3] != (32, 32, 3):
        raise ValueError(
            f"X in '{path}' must be uint8 of shape (32, 32, 3, n_samples), got {images.dtype} of "
            f"shape {images.shape}."
        )
    if labels.shape != (images.shape[3], 1) or labels.dtype.kind not in "iu":
        raise ValueError(
            f"y in '{path}' must be integers of shape {(images.shape[3], 1)}, got {labels.dtype} "
            f"of shape {labels.shape}."
        )
    if not np.isin(labels, np.arange(1, 11)).all():
        raise ValueError(f"y in '{path}' must be from 1 to 10, got up to {labels.max()}.")
    return images.transpose(3, 2, 0, 1), labels[:, 0].astype(np.int64) % 10


def _get(content: dict[str, Any], name: str, path: Path) -> np.ndarray[Any, np.dtype[Any]]:
    if name not in content:
        found = sorted(key for key in content if not key.startswith("__"))
        raise ValueError(f"'{path}' holds {found}, expected 'X' and 'y'.")
    return np.asarray(content[name])
