"""Reader of IDX files: MNIST and the sets of its make."""

import gzip
import hashlib
import zlib
from collections.abc import Sequence
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from ._arrays import Images, Labels

_SIZE = (28, 28)

# By the SHA-256 sums of the published label files, unpacked: their names are the same.
_OWNERS = {
    "65a50cbbf4e906d70832878ad85ccda5333a97f0f4c3dd2ef09a8a9eef7101c5": "MNIST",
    "ff7bcfd416de33731a308c3f266cc351222c34898ecbeaf847f06e48f7ec33f2": "MNIST",
    "bad3541b69d912435c50bb6ba87bec294ff4f6a2e1246121d8633921760443d9": "Fashion-MNIST",
    "0402a96d92fd2663957122ceb108a494c5af83dab82d92729df917d7dec38c34": "Fashion-MNIST",
    "2a16eeae62da984b8bd24fa32e31d47291f01dac3fe84d5594f304f71e7d374b": "KMNIST",
    "a11dc742be8e781a40a92f53d6a4957e7b7d36df2faa097659131ebfd8fd60c6": "KMNIST",
}


def read_idx(
    paths: Sequence[Path], *, title: str, first_label: int = 0, is_transposed: bool = False
) -> tuple[Images, Labels]:
    """Read a file of images and the file of their labels.

    Parameters
    ----------
    paths : sequence of two paths
        The images and the labels, packed by gzip if the name ends in ``.gz``.
    title : str
        The data set that the files must belong to.
    first_label : int, default=0
        The number that the file gives to the first class.
    is_transposed : bool, default=False
        Whether the images are stored column by column.

    Returns
    -------
    images : ndarray of shape (n_samples, 1, 28, 28), dtype uint8
        The images.
    labels : ndarray of shape (n_samples,), dtype int64
        Their classes, counted from 0.

    Raises
    ------
    ValueError
        If a file is no IDX file, is cut short, holds images of another size, or is known to belong
        to another data set.
    """
    images_path, labels_path = paths
    images = _parse(images_path, _unpack(images_path), n_dims=3)
    if images.shape[1:] != _SIZE:
        raise ValueError(
            f"'{images_path}' holds images of {images.shape[1]} x {images.shape[2]} pixels, "
            f"expected {_SIZE[0]} x {_SIZE[1]}."
        )
    content = _unpack(labels_path)
    owner = _OWNERS.get(hashlib.sha256(content).hexdigest(), title)
    if owner != title:
        raise ValueError(
            f"'{labels_path}' holds the labels of {owner}, expected those of {title}. The files "
            "of both have the same names: keep them in folders of their own."
        )
    labels = _parse(labels_path, content, n_dims=1).astype(np.int64) - first_label
    if is_transposed:
        images = images.swapaxes(1, 2)
    return images[:, np.newaxis], labels


def _unpack(path: Path) -> bytes:
    if path.suffix != ".gz":
        return path.read_bytes()
    try:
        with gzip.open(path) as file:
            return file.read()
    except (EOFError, gzip.BadGzipFile, zlib.error) as error:
        raise ValueError(f"'{path}' is no whole gzip file: {error}") from error


def _parse(path: Path, content: bytes, n_dims: int) -> NDArray[np.uint8]:
    """Array in an IDX file: two zeros, the type, the number of axes, the axes, the values."""
    magic = bytes([0, 0, 8, n_dims])
    if content[:4] != magic:
        raise ValueError(
            f"'{path}' is no IDX file of bytes with {n_dims} axes: it begins with "
            f"{content[:4].hex() or 'nothing'}, expected {magic.hex()}."
        )
    n_header = 4 + 4 * n_dims
    if len(content) < n_header:
        raise ValueError(f"'{path}' ends within its header of {n_header} bytes.")
    shape = np.frombuffer(content, dtype=">u4", count=n_dims, offset=4).astype(np.int64)
    n_expected = n_header + int(np.prod(shape, dtype=object))
    if len(content) != n_expected:
        raise ValueError(
            f"'{path}' holds {len(content)} bytes, expected {n_expected}: its header announces an "
            f"array of shape {tuple(shape.tolist())}."
        )
    return np.frombuffer(content, dtype=np.uint8, offset=n_header).reshape(shape)
