"""Readers of data sets that are folders of pictures."""

import csv
import io
from collections.abc import Sequence
from pathlib import Path
from typing import TypeAlias

import numpy as np

from .._optional import import_optional
from ._arrays import Images, Labels

Sample: TypeAlias = tuple[Path, int]


def read_sign_folders(paths: Sequence[Path], *, image_size: int) -> tuple[Images, Labels]:
    """Read the training images of GTSRB.

    Parameters
    ----------
    paths : sequence of one path
        The folder, with a folder ``00000``, ``00001``, ... for each class.
    image_size : int
        Height and width to which the images are stretched.

    Returns
    -------
    images : ndarray of shape (n_samples, 3, image_size, image_size), dtype uint8
        The images, ordered by class and file name.
    labels : ndarray of shape (n_samples,), dtype int64
        Their classes.

    Raises
    ------
    ValueError
        If there is no image, or one that cannot be read.
    """
    (folder,) = paths
    files = sorted(folder.glob("*/*.ppm"))
    if not files:
        raise ValueError(f"'{folder}' holds no images '00000/*.ppm', '00001/*.ppm', ...")
    samples = [(file, _parse_class(file, file.parent.name)) for file in files]
    return _read_images(samples, image_size, crops=False)


def read_listed_signs(paths: Sequence[Path], *, image_size: int) -> tuple[Images, Labels]:
    """Read the test images of GTSRB.

    Parameters
    ----------
    paths : sequence of two paths
        The table of the classes, with the columns ``Filename`` and ``ClassId`` between semicolons,
        and the folder of the images.
    image_size : int
        Height and width to which the images are stretched.

    Returns
    -------
    images : ndarray of shape (n_samples, 3, image_size, image_size), dtype uint8
        The images, in the order of the table.
    labels : ndarray of shape (n_samples,), dtype int64
        Their classes.

    Raises
    ------
    ValueError
        If the table is not as above, or an image cannot be read.
    FileNotFoundError
        If an image is missing.
    """
    table, folder = paths
    lines = io.StringIO(_read_text(table))
    rows = list(csv.DictReader(lines, delimiter=";", skipinitialspace=True))
    if not rows or not {"Filename", "ClassId"} <= set(rows[0]):
        raise ValueError(f"'{table}' must be a table with the columns Filename;...;ClassId.")
    samples = [
        (_find_listed(folder, row["Filename"], table), _parse_class(table, row["ClassId"]))
        for row in rows
    ]
    return _read_images(samples, image_size, crops=False)


def read_listed_textures(
    paths: Sequence[Path], *, image_size: int, classes: Sequence[str]
) -> tuple[Images, Labels]:
    """Read a subset of the Describable Textures.

    Parameters
    ----------
    paths : sequence of two paths
        The list of the images, one ``class/file`` a line, and the folder that holds them.
    image_size : int
        Height and width of the square that is cut out of the middle, after the shorter side was
        reduced to it.
    classes : sequence of str
        The classes, in the order of their numbers.

    Returns
    -------
    images : ndarray of shape (n_samples, 3, image_size, image_size), dtype uint8
        The images, in the order of the list.
    labels : ndarray of shape (n_samples,), dtype int64
        Their classes.

    Raises
    ------
    ValueError
        If the list is no text, a line names no class, or an image cannot be read.
    FileNotFoundError
        If an image is missing.
    """
    listing, folder = paths
    number = {name: place for place, name in enumerate(classes)}
    samples = []
    for line in _read_text(listing).split():
        name = line.partition("/")[0]
        if name not in number:
            raise ValueError(f"'{listing}' holds the line {line!r}, expected 'class/file'.")
        samples.append((_find_listed(folder, line, listing), number[name]))
    if not samples:
        raise ValueError(f"'{listing}' lists no images, expected lines 'class/file'.")
    return _read_images(samples, image_size, crops=True)


def _read_text(path: Path) -> str:
    try:
        return path.read_text(encoding="utf-8")
    except UnicodeDecodeError as error:
        raise ValueError(f"'{path}' is no text in UTF-8: {error}") from error


def _parse_class(path: Path, text: str) -> int:
    if not (text.isascii() and text.isdecimal()):
        raise ValueError(f"'{path}' is of the class {text!r}, expected an integer.")
    return int(text)


def _find_listed(folder: Path, name: str, listing: Path) -> Path:
    path = folder / name
    if not path.is_file():
        raise FileNotFoundError(f"'{listing}' lists {name!r}, which is not in '{folder}'.")
    return path


def _read_images(
    samples: Sequence[Sample], image_size: int, *, crops: bool
) -> tuple[Images, Labels]:
    """Images of one size, stretched to it or with their proportions kept and the rest cropped."""
    pillow = import_optional("PIL.Image", "datasets", "Reading folders of images")
    operations = import_optional("PIL.ImageOps", "datasets", "Reading folders of images")
    resize = operations.fit if crops else pillow.Image.resize
    size = (image_size, image_size)
    images = np.empty((len(samples), *size, 3), dtype=np.uint8)
    for row, (path, _) in enumerate(samples):
        try:
            with pillow.open(path) as image:
                images[row] = resize(image.convert("RGB"), size, pillow.Resampling.BILINEAR)
        # A damaged image can fail anywhere, and in its own ways.
        except Exception as error:
            raise ValueError(f"'{path}' is no image, or a damaged one: {error}") from error
    return images.transpose(0, 3, 1, 2), np.array([label for _, label in samples], dtype=np.int64)
