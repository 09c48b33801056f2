"""From the body of a request to rows of numbers, or why there are none."""

from __future__ import annotations

import json
import math
import re
from collections.abc import Callable
from itertools import chain
from typing import Any, Literal, NoReturn

import numpy as np
from numpy.typing import NDArray

from ._refusal import RefusalError

Rows = NDArray | dict[str, NDArray] | list[str]
"""Inputs of a network: an array, arrays by the names of inputs, or texts."""

JSON, NPY = "application/json", "application/octet-stream"

_LARGEST = float(np.finfo(np.float32).max)
_HEADER = (
    ("descr", r"""["']([<>|=]?[a-zA-Z]\d{0,9}(?:\[\w{1,9}\])?)["']"""),
    ("fortran_order", "(True|False)"),
    ("shape", r"\(([0-9, ]{0,1000})\)"),
)
_LONGEST_HEADER = 10_000
_NUMBERS = {int, float}
_NAMES = {dict: "an object", list: "an array", type(None): "null", bool: "true or false"}
_HOW = 'a list of rows, or {"rows": [...]}'


class Reader:
    """Reads the rows of requests.

    Parameters
    ----------
    max_batch : int
        Largest number of rows.
    dtype_of : callable
        Given the name of an input, None where it has none, the type of rows that come as JSON, or
        None for 64-bit floats, or integers where no number has a fraction.
    """

    def __init__(self, max_batch: int, dtype_of: Callable[[str | None], np.dtype | None]) -> None:
        self._max_batch, self._dtype_of = max_batch, dtype_of

    def read(self, body: bytes, media_type: str) -> Rows:
        """Read the rows of a request.

        Parameters
        ----------
        body : bytes
            The body, of any content.
        media_type : str
            What the client says it is, ``JSON`` or ``NPY``.

        Returns
        -------
        rows : ndarray, dict of str to ndarray, or list of str
            One row at least; all values are finite.

        Raises
        ------
        RefusalError
            If these are no such rows.
        """
        if not body:
            raise RefusalError(400, "the request has no body")
        rows = _from_json(body) if media_type == JSON else _from_npy(body)
        _check_number(rows, self._max_batch)
        if isinstance(rows, dict):
            return {name: self._checked(v, media_type, name) for name, v in rows.items()}
        return self._checked(rows, media_type) if isinstance(rows, np.ndarray) else rows

    def _checked(self, values: NDArray, media_type: str, name: str | None = None) -> NDArray:
        of = "" if name is None else f" of {name!r}"
        _check_values(values, of)
        dtype = self._dtype_of(name) if media_type == JSON else None
        if dtype is None:
            return values
        with np.errstate(over="ignore"):
            cast = values.astype(dtype)
        is_right = np.isfinite(cast) if dtype.kind == "f" else cast == values
        if is_right.all():
            return cast
        raise RefusalError(422, f"the rows{of} hold numbers that are no {dtype}")


def form_of(rows: Rows) -> Any:
    """Shape of a row and kind of its values, which decide whether a network takes it."""
    if isinstance(rows, dict):
        return tuple((name, form_of(values)) for name, values in sorted(rows.items()))
    return "text" if isinstance(rows, list) else (rows.shape[1:], rows.dtype.kind)


def first_of(rows: Rows) -> Rows:
    """The first row alone, in memory of its own."""
    if isinstance(rows, dict):
        return {name: values[:1].copy() for name, values in rows.items()}
    return rows[:1].copy()


def described(rows: Rows) -> str:
    """The form of rows, in words."""
    if isinstance(rows, dict):
        return ", ".join(f"{name!r}: {described(values)}" for name, values in rows.items())
    return "texts" if isinstance(rows, list) else f"shape {rows.shape[1:]} and type {rows.dtype}"


def n_rows_of(rows: Rows) -> int:
    """How many rows there are."""
    return len(next(iter(rows.values()))) if isinstance(rows, dict) else len(rows)


def _check_number(rows: Rows, max_batch: int) -> None:
    n_rows = n_rows_of(rows)
    if isinstance(rows, dict) and len({len(values) for values in rows.values()}) > 1:
        numbers = {name: len(values) for name, values in rows.items()}
        raise RefusalError(422, f"the inputs have different numbers of rows: {numbers}")
    if not n_rows:
        raise RefusalError(422, "there are no rows")
    if n_rows > max_batch:
        raise RefusalError(413, f"there are {n_rows} rows, and at most {max_batch} are taken")


def _check_values(values: NDArray, of: str) -> None:
    if values.ndim < 2:
        raise RefusalError(
            422, f"the rows{of} are single numbers: a row is a list, also where it holds one"
        )
    if not values.size:
        raise RefusalError(422, f"the rows{of} are empty, of shape {values.shape[1:]}")
    if values.dtype.kind == "f" and not (is_right := _can_be_computed_with(values)).all():
        is_wrong = ~is_right.reshape(len(values), -1)
        row = int(np.flatnonzero(is_wrong.any(axis=1))[0])
        wrong = values[row].reshape(-1)[is_wrong[row]][0]
        raise RefusalError(
            422, f"row {row}{of} holds {wrong:.2g}, which is no finite number of 32 bits"
        )


def _can_be_computed_with(values: NDArray) -> NDArray[np.bool_]:
    """Whether values are finite, also for networks that compute with 32 bits."""
    if values.dtype.itemsize < 8:
        return np.isfinite(values)
    return np.abs(values) <= _LARGEST


def _from_json(body: bytes) -> Rows:
    content = _parse(body)
    if isinstance(content, dict):
        if content.keys() != {"rows"}:
            raise RefusalError(
                422, f"expected {_HOW}, got an object with the keys {sorted(content)[:10]}"
            )
        content = content["rows"]
    if isinstance(content, dict):
        if not content:
            raise RefusalError(422, "there are no inputs in the object of rows")
        return {name: _array(values, f" of {name!r}") for name, values in content.items()}
    if not isinstance(content, list):
        raise RefusalError(422, f"expected {_HOW}, got {_name(content)}")
    if content and all(isinstance(row, str) for row in content):
        return content
    return _array(content, "")


def _parse(body: bytes) -> Any:
    try:
        return json.loads(
            body.decode("utf-8-sig"), object_pairs_hook=_entries, parse_constant=_refuse_constant
        )
    except UnicodeDecodeError:
        reason = "the body is not UTF-8"
    except json.JSONDecodeError as error:
        reason = f"the body is no JSON: {error.msg} in line {error.lineno}, column {error.colno}"
    except RecursionError:
        reason = "the body is nested too deeply"
    except ValueError:  # of Python's limit to the digits of integers
        reason = "the body holds a number of too many digits"
    raise RefusalError(400, reason)


def _entries(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    entries = dict(pairs)
    if len(entries) < len(pairs):
        raise RefusalError(400, "the body holds an object with several entries of one name")
    return entries


def _refuse_constant(name: str) -> NoReturn:
    raise RefusalError(422, f"the body holds {name}, which no score is computed of")


def _array(values: Any, of: str) -> NDArray:
    """The array of nested lists, all of numbers or all of truth values."""
    if not isinstance(values, list):
        raise RefusalError(422, f"the rows{of} have to be a list, not {_name(values)}")
    shape, flat = [len(values)], values
    while any(isinstance(value, list) for value in flat):
        flat = _next_level(flat, shape, of)
    types = set(map(type, flat))
    if not (types <= _NUMBERS or types == {bool}):
        wrong = next(v for v in flat if type(v) not in _NUMBERS)
        raise RefusalError(422, f"the rows{of} hold {_name(wrong)} where numbers are expected")
    try:
        dtype = np.float64 if float in types else np.bool_ if bool in types else np.int64
        return np.array(flat, dtype=dtype).reshape(shape)
    except OverflowError:
        raise RefusalError(422, f"the rows{of} hold an integer of more than 64 bits") from None


def _next_level(lists: list[Any], shape: list[int], of: str) -> list[Any]:
    """The items of lists that are all of one length, which is appended to the shape."""
    ragged = f"the rows{of} are no array: in axis {len(shape)}, "
    if not all(isinstance(value, list) for value in lists):
        other = next(value for value in lists if not isinstance(value, list))
        raise RefusalError(422, f"{ragged}some items are lists and others are {_name(other)}")
    sizes = set(map(len, lists))
    if len(sizes) > 1:
        raise RefusalError(422, f"{ragged}there are {min(sizes)} to {max(sizes)} values")
    shape.append(sizes.pop())
    return list(chain.from_iterable(lists))


def _name(value: Any) -> str:
    return _NAMES.get(type(value), "a text" if isinstance(value, str) else "a number")


def _from_npy(body: bytes) -> NDArray:
    """The array of a file of NumPy, which is never unpickled, nor given memory that it asks for."""
    shape, is_fortran, dtype, start = _header(body)
    if dtype.hasobject:
        raise RefusalError(422, "the array holds Python objects, which are never loaded")
    if dtype.kind not in "biuf" or dtype.itemsize > 8:
        raise RefusalError(
            422, f"the array is of type {dtype}, and numbers of at most 64 bits are expected"
        )
    expected, found = math.prod(shape) * dtype.itemsize, len(body) - start
    if expected != found:
        raise RefusalError(
            400, f"an array of shape {shape} and type {dtype} takes {expected} bytes, got {found}"
        )
    if not shape:
        raise RefusalError(422, "the array is a single number, and rows are expected")
    order: Literal["F", "C"] = "F" if is_fortran else "C"
    array = np.frombuffer(body, dtype, offset=start).reshape(shape, order=order)
    return array.astype(dtype.newbyteorder("="), order="C")


def _header(body: bytes) -> tuple[tuple[int, ...], bool, np.dtype, int]:
    """Shape, order and type of the array, and where its values begin.

    NumPy's own reader parses headers as code of Python, which several threads cannot do at once in
    all versions of Python.
    """
    size_of_length = {1: 2, 2: 4, 3: 4}.get(body[6] if len(body) > 10 else 0, 0)
    start = 8 + size_of_length
    end = start + int.from_bytes(body[8:start], "little")
    if not body.startswith(b"\x93NUMPY") or not size_of_length or end > len(body):
        raise RefusalError(400, "the body is no array in NumPy's format .npy")
    header = body[start : min(end, start + _LONGEST_HEADER)].decode("latin-1")
    found = [re.search(rf"""["']{name}["'] *: *{value}""", header) for name, value in _HEADER]
    if found[0] is None:
        raise RefusalError(422, "the array holds more than one value in each place")
    if any(match is None for match in found):
        raise RefusalError(422, "the array has an order or shape that no array has")
    descr, order, shape = (match[1] for match in found if match is not None)
    try:
        sizes = tuple(int(size) for size in shape.split(",") if size.strip())
        return sizes, order == "True", np.dtype(descr), end
    except (TypeError, ValueError):
        raise RefusalError(422, "the array has a type or shape that is unknown here") from None
