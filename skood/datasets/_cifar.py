"""Readers of CIFAR's batches, pickled or binary."""

import pickle
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from ._arrays import Images, Labels

_IMAGE = (3, 32, 32)
_N_PIXELS = 3 * 32 * 32


def read_cifar_pickles(paths: Sequence[Path], *, label_key: str) -> tuple[Images, Labels]:
    """Read batches that hold a pickled dictionary.

    Parameters
    ----------
    paths : sequence of paths
        The batches, in order.
    label_key : str
        The entry that holds the classes.

    Returns
    -------
    images : ndarray of shape (n_samples, 3, 32, 32), dtype uint8
        The images.
    labels : ndarray of shape (n_samples,), dtype int64
        Their classes.

    Raises
    ------
    ValueError
        If a batch is no such pickle, holds no images, or asks for any code but what rebuilds a
        NumPy array.
    """
    batches = [_read_pickle(path, label_key) for path in paths]
    images = np.concatenate([images for images, _ in batches])
    return images.reshape(-1, *_IMAGE), np.concatenate([labels for _, labels in batches])


def read_cifar_binaries(
    paths: Sequence[Path], *, n_labels: int, label_column: int
) -> tuple[Images, Labels]:
    """Read batches of records, each a few labels and the 3,072 values of an image.

    Parameters
    ----------
    paths : sequence of paths
        The batches, in order.
    n_labels : int
        Number of labels of an image.
    label_column : int
        Which of them is the class.

    Returns
    -------
    images : ndarray of shape (n_samples, 3, 32, 32), dtype uint8
        The images.
    labels : ndarray of shape (n_samples,), dtype int64
        Their classes.

    Raises
    ------
    ValueError
        If the size of a batch is no multiple of that of a record.
    """
    n_bytes = n_labels + _N_PIXELS
    batches = []
    for path in paths:
        content = path.read_bytes()
        if len(content) % n_bytes or not content:
            raise ValueError(
                f"'{path}' holds {len(content)} bytes, expected a multiple of {n_bytes}: for each "
                f"image {n_labels} of labels and {_N_PIXELS} of pixels."
            )
        batches.append(np.frombuffer(content, dtype=np.uint8).reshape(-1, n_bytes))
    records = np.concatenate(batches)
    images = records[:, n_labels:].reshape(-1, *_IMAGE)
    return images, records[:, label_column].astype(np.int64)


def _read_pickle(path: Path, label_key: str) -> tuple[NDArray[np.uint8], Labels]:
    try:
        with path.open("rb") as file:
            content = _ArrayUnpickler(file, encoding="latin1").load()
    # A damaged pickle can fail anywhere, and in its own ways.
    except Exception as error:
        raise ValueError(
            f"'{path}' is no pickled batch of CIFAR, or a damaged one: {error}"
        ) from error
    entries = _decode_keys(content)
    expected = f"expected a dictionary with 'data' and {label_key!r}"
    if not {"data", label_key} <= set(entries):
        found = sorted(map(str, entries)) if entries else type(content).__name__
        raise ValueError(f"'{path}' holds {found}, {expected}.")
    images = entries["data"]
    is_images = isinstance(images, np.ndarray) and images.dtype == np.uint8
    if not is_images or images.shape[1:] != (_N_PIXELS,) or not len(images):
        raise ValueError(
            f"'data' in '{path}' must be a uint8 array of shape (n_samples, {_N_PIXELS}) with at "
            f"least one sample, got {_describe(images)}."
        )
    labels = np.asarray(entries[label_key], dtype=object)
    if labels.shape != images.shape[:1] or not all(map(_is_byte, labels)):
        raise ValueError(
            f"{label_key!r} in '{path}' must be a list of {len(images)} integers from 0 to 255, "
            "one for each image."
        )
    return images, labels.astype(np.int64)


def _decode_keys(content: Any) -> dict[Any, Any]:
    """Entries of a dictionary, with text keys also where Python 3 wrote bytes."""
    if not isinstance(content, dict):
        return {}
    return {
        key.decode("latin1") if isinstance(key, bytes) else key: value
        for key, value in content.items()
    }


def _is_byte(value: Any) -> bool:
    return type(value) is int and 0 <= value < 256


def _describe(value: Any) -> str:
    if isinstance(value, np.ndarray):
        return f"{value.dtype} of shape {value.shape}"
    return type(value).__name__


# --------------------------------------------------------------------------------------
# Unpickling without running what a file asks for
# --------------------------------------------------------------------------------------


def _make_dtype(code: str, align: int = False, copy: int = False) -> np.dtype[Any]:
    """Stand in for ``numpy.dtype``; pickles of Python 2 give 0 and 1 for False and True."""
    dtype = np.dtype(code, align=bool(align), copy=bool(copy))
    if dtype.kind not in "iu":
        raise pickle.UnpicklingError(f"it asks for an array of {dtype}.")
    return dtype


def _make_no_array(*_: Any) -> NDArray[Any]:
    """Stand in for ``numpy.ndarray``, which pickles name, but would make of memory left unset."""
    raise pickle.UnpicklingError("it asks for an array without its values.")


def _make_array(*_: Any) -> NDArray[np.uint8]:
    """Stand in for ``numpy._core.multiarray._reconstruct``: the pickle fills the array later."""
    return np.empty(0, dtype=np.uint8)


def _wrap_buffer(
    buffer: bytes, dtype: np.dtype[Any], shape: tuple[int, ...], order: Literal["C", "F"]
) -> NDArray[Any]:
    """Stand in for ``numpy._core.numeric._frombuffer``, which protocol 5 calls."""
    return np.frombuffer(buffer, dtype=dtype).reshape(shape, order=order)


def _encode(text: str, encoding: str) -> bytes:
    """Stand in for ``codecs.encode``, with which protocol 2 of Python 3 writes bytes."""
    if encoding != "latin1":
        raise pickle.UnpicklingError(f"it asks for the codec {encoding!r}.")
    return text.encode("latin1")


class _ArrayUnpickler(pickle.Unpickler):
    """Unpickler that builds arrays of integers and Python's plain types, and refuses all else."""

    _STAND_INS: dict[tuple[str, str], Callable[..., Any]] = {
        ("_codecs", "encode"): _encode,
        ("numpy", "dtype"): _make_dtype,
        ("numpy", "ndarray"): _make_no_array,
        ("numpy.multiarray", "_reconstruct"): _make_array,
        ("numpy.numeric", "_frombuffer"): _wrap_buffer,
    }

    def find_class(self, module: str, name: str) -> Any:
        # NumPy 2 has renamed its folder of private modules.
        key = module.replace("numpy._core.", "numpy.").replace("numpy.core.", "numpy."), name
        if key not in self._STAND_INS:
            raise pickle.UnpicklingError(
                f"it asks for {module}.{name}, which no batch needs. Nothing of it was run."
            )
        stand_in = self._STAND_INS[key]
        # A new function each time: a pickle can set attributes of what it is given.
        return lambda *arguments: stand_in(*arguments)
