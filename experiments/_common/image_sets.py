"""The sets of images that the experiments run on: archives made for them, some of a part only."""

from __future__ import annotations

import hashlib
from functools import cache
from pathlib import Path
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from .images import DATA


class ImageFile(NamedTuple):
    """An ``.npz`` file of ``x``, uint8 images with the channels last, and ``y``, their classes."""

    name: str
    shape: tuple[int, ...]
    """Of ``x``."""
    sha256: str


IMAGE_SETS = {
    "mnist": {
        "train": ImageFile(
            "mnist_train.npz",
            (60_000, 28, 28),
            "40bc4b8d9c4fe50968a68bd17de88328144047926159d18020242f42ba9e907c",
        ),
        "test": ImageFile(
            "mnist_test.npz",
            (10_000, 28, 28),
            "fbd7022cdec5ed9b43c2a5a85dcd49b6dd87cbd588291119599f45057e1a98c4",
        ),
    },
    "fashion_mnist": {
        "train": ImageFile(
            "fashion_mnist_train_subset.npz",
            (20_000, 28, 28),
            "f1fdb8875e5384e1b2ee7919b93f26b25d861c04a224afac2b8cac0345aeea34",
        ),
        "test": ImageFile(
            "fashion_mnist_test.npz",
            (10_000, 28, 28),
            "a8aa5f47dee15dc5e90e1f0848e878a296930038181119fe863bea35485ebf73",
        ),
    },
    "kmnist": {
        "test": ImageFile(
            "kmnist_test.npz",
            (10_000, 28, 28),
            "af4f6f397f96ec88a6982855e686c7ea9b703a4cace93e5dbfec416ee206c2b7",
        ),
    },
    "notmnist": {
        "all": ImageFile(
            "notmnist.npz",
            (5_000, 28, 28),
            "529f3ad978c733f1a321868c490c06ad0870a51c9b735bf26a76ab8131766ba3",
        ),
    },
    "usps": {
        "test": ImageFile(
            "usps_test.npz",
            (2_007, 28, 28),
            "ad2c5bfe113e8f0c91f3dbf5fa26ce13350ba24afa49490131e4f8fdd5a153c4",
        ),
    },
    "cifar10": {
        "train": ImageFile(
            "cifar10_train_subset.npz",
            (10_000, 32, 32, 3),
            "1e255ada97a1d41b25fd3d74b36a064a16e0ceafcacfac3137b0f052e4e9a076",
        ),
        "test": ImageFile(
            "cifar10_test.npz",
            (10_000, 32, 32, 3),
            "137cf8ebb3a757ce3b79f71739b5b0bd5afbc08c9800e454f31b10e0740c3448",
        ),
    },
    "cifar100": {
        "train": ImageFile(
            "cifar100_train_subset.npz",
            (5_000, 32, 32, 3),
            "8d4a30f8c073a2293fd9933b0e5249e999436728f30c1f02f770b56807613189",
        ),
        "test": ImageFile(
            "cifar100_test_subset.npz",
            (5_000, 32, 32, 3),
            "0595c4c5a65e2bbb7f97f109145146871aae21280c76a3f0c06c25281eeeb801",
        ),
    },
    "tiny_imagenet": {
        "validation": ImageFile(
            "tiny_imagenet_val.npz",
            (4_000, 32, 32, 3),
            "5b8fcaf277c49e14df228195543bf462ef1ad4b59509a12658438053bc918b73",
        ),
    },
    "textures": {
        "all": ImageFile(
            "textures.npz",
            (720, 32, 32, 3),
            "0dcf9c552952bf8a1598a1ae96209cc2d692b48ce6e511de6155de341d1052ec",
        ),
    },
    "scenes": {
        "test": ImageFile(
            "scenes.npz",
            (2_158, 32, 32, 3),
            "a3b5f7f582a7f4907c21974f778a9b05c12782b0d8c3f25c869450b4bf61043e",
        ),
    },
    "gtsrb": {
        "test": ImageFile(
            "gtsrb_test.npz",
            (4_000, 32, 32, 3),
            "225951494105132e27c78acc67e43e1da64a832eaaa96db3de817fe6a17c7d34",
        ),
    },
    "streetview_chars": {
        "train": ImageFile(
            "streetview_chars.npz",
            (3_000, 32, 32, 3),
            "4176691cdb2c46befa4d673abed09d0517d235d1f7fae707e21fc6f60915090a",
        ),
    },
}
"""By set and subset."""


def read_images(
    name: str, subset: str = "all", folder: Path = DATA
) -> tuple[NDArray[np.float32], NDArray[np.int64]]:
    """Read one set of images, or one of its subsets.

    Parameters
    ----------
    name : str
        A key of ``IMAGE_SETS``.
    subset : str, default="all"
        One of its subsets, or "all" for one after the other.
    folder : Path
        The folder of the files.

    Returns
    -------
    X : ndarray of shape (n_samples, n_channels, height, width), dtype float32
        The images, from 0 to 1.
    y : ndarray of shape (n_samples,), dtype int64
        Their classes.

    Raises
    ------
    FileNotFoundError
        If a file is not in the folder.
    OSError
        If a file is there, but with another SHA-256 sum.
    """
    files = IMAGE_SETS[name]
    parts = [
        _read(folder, file) for file in ([*files.values()] if subset == "all" else [files[subset]])
    ]
    images = np.concatenate([images for images, _ in parts])
    is_grey = images.ndim == 3
    images = images[:, np.newaxis] if is_grey else images.transpose(0, 3, 1, 2)
    X = np.divide(images, 255, dtype=np.float32, order="C")
    return X, np.concatenate([labels for _, labels in parts])


def _read(folder: Path, file: ImageFile) -> tuple[NDArray[np.uint8], NDArray[np.int64]]:
    path = folder / file.name
    if not path.is_file():
        raise FileNotFoundError(
            f"There is no file {file.name!r} in the folder '{folder}': name its folder by the "
            f"environment variable SKOOD_DATA. It is a NumPy archive of x, uint8 of shape "
            f"{file.shape}, and y, int64 of shape {file.shape[:1]}, with the SHA-256 sum "
            f"{file.sha256}."
        )
    status = path.stat()
    found = _sha256(path, status.st_mtime_ns, status.st_size)
    if found != file.sha256:
        raise OSError(
            f"The file '{path}' is not the expected one: its SHA-256 sum is {found}, not "
            f"{file.sha256}."
        )
    return _unpacked(path, status.st_mtime_ns, status.st_size)


# An experiment reads some of the files for several networks.
@cache
def _unpacked(
    path: Path, modified_ns: int, size: int
) -> tuple[NDArray[np.uint8], NDArray[np.int64]]:
    with np.load(path) as archive:
        x, y = archive["x"], archive["y"]
    x.flags.writeable = y.flags.writeable = False
    return x, y


# The time and size make a file that was replaced a new entry: each version is summed up once.
@cache
def _sha256(path: Path, modified_ns: int, size: int) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
