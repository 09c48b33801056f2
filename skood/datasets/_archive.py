"""How the ``fetch_*`` functions read their files."""

import hashlib
import os
from functools import cache
from pathlib import Path
from typing import TypeAlias

import numpy as np
from numpy.typing import NDArray
from sklearn.utils import Bunch

from ._table import ARCHIVES, ArchiveFile

DEFAULT_DATA_HOME = "~/skood_data"

Fetched: TypeAlias = Bunch | tuple[NDArray[np.float32], NDArray[np.int64]]


def fetch_archive(
    dataset: str,
    *,
    subset: str = "all",
    data_home: str | os.PathLike[str] | None,
    return_X_y: bool,
) -> Fetched:
    """Read one data set: the common part of the ``fetch_*`` functions.

    Parameters
    ----------
    dataset : str
        A key of ``ARCHIVES``.
    subset : str, default="all"
        One of the data set's subsets, or "all" for one after the other.
    data_home : str, path-like or None
        The folder; None stands for the variable ``SKOOD_DATA``, or else ``~/skood_data``.
    return_X_y : bool
        Whether to return a tuple instead of a Bunch.

    Returns
    -------
    data : Bunch or tuple (data, target)
        What the public functions promise.

    Raises
    ------
    ValueError
        If the data set has no such subset.
    FileNotFoundError
        If a file is not in the folder.
    OSError
        If a file is there, but with another SHA-256 sum.
    """
    archive = ARCHIVES[dataset]
    if subset != "all" and subset not in archive.files:
        raise ValueError(f"subset must be one of {[*archive.files, 'all']}, got {subset!r}.")
    folder = Path(data_home or os.environ.get("SKOOD_DATA") or DEFAULT_DATA_HOME).expanduser()
    files = archive.files.values() if subset == "all" else [archive.files[subset]]
    parts = [_read(folder, file, archive.image_shape) for file in files]
    data = _to_channels_first(np.concatenate([images for images, _ in parts]))
    target = np.concatenate([labels for _, labels in parts])
    if return_X_y:
        return data, target
    bunch = Bunch(data=data, target=target, DESCR=archive.descr)
    if archive.target_names is not None:
        bunch.target_names = list(archive.target_names)
    return bunch


def _read(
    folder: Path, file: ArchiveFile, image_shape: tuple[int, ...]
) -> tuple[NDArray[np.uint8], NDArray[np.int64]]:
    path = folder / file.name
    if not path.is_file():
        raise FileNotFoundError(
            f"There is no file {file.name!r} in the folder '{folder}'. skood downloads nothing: "
            "name the folder that holds the file by data_home or by the environment variable "
            f"SKOOD_DATA. It is a NumPy archive of x, uint8 of shape "
            f"{(file.n_samples, *image_shape)}, and y, int64 of shape {(file.n_samples,)}, with "
            f"the SHA-256 sum {file.sha256}."
        )
    status = path.stat()
    found = _sha256(path, status.st_mtime_ns, status.st_size)
    if found != file.sha256:
        raise OSError(
            f"The file '{path}' is not the expected one: its SHA-256 sum is {found}, not "
            f"{file.sha256}."
        )
    with np.load(path) as archive:
        return archive["x"], archive["y"]


# The time and size make a file that was replaced a new entry: each version is summed up once.
@cache
def _sha256(path: Path, modified_ns: int, size: int) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def _to_channels_first(images: NDArray[np.uint8]) -> NDArray[np.float32]:
    is_grey = images.ndim == 3
    images = images[:, np.newaxis] if is_grey else images.transpose(0, 3, 1, 2)
    return np.divide(images, 255, dtype=np.float32, order="C")
