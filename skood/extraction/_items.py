"""What stands in a mapping of inputs, and what data sets and loaders yield."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence, Sized
from contextlib import contextmanager
from numbers import Real
from typing import Any, NoReturn

import numpy as np
from numpy.typing import NDArray
from scipy.sparse import issparse

from ..networks import Batch, Loader, count_samples, is_array, refuse_unreadable, to_array

LABEL_COLUMNS = ("labels", "label")
"""What labels are called among named inputs."""

_ADVICE = Loader(()).advice


Read = Callable[[Any, str], Any]
"""Checks an array, whose name in messages is given, and returns it."""


def read_item(
    item: Any, loader: Loader, prepare: Callable[[Any], tuple[Any, Read]]
) -> tuple[Batch, NDArray | None]:
    """The batch in what a loader yields, and its labels, where there are any.

    What the network makes of the batch comes from ``prepare``, with what reads that.

    Raises
    ------
    TypeError
        If there is no batch in it.
    ValueError
        If the values of a mapping are not of one length.
    """
    refuse_unreadable(item)
    is_tuple = isinstance(item, tuple | list)
    batch = item[0] if is_tuple and item else item
    refuse_unreadable(batch)
    batch, read = prepare(batch)
    labels = None
    if isinstance(batch, Mapping):
        batch, labels = without_text_labels(batch)
        batch = as_columns(batch, loader.advice)
        labels = labels_among(batch) if labels is None else as_labels(labels, count_samples(batch))
        batch = {key: values for key, values in batch.items() if key not in loader.label_columns}
        _refuse_nothing(batch, loader)
    elif is_array(batch) or hasattr(batch, "__array__") or issparse(batch):
        what = "what the data set or loader yields"
        batch = read(batch, "the first item of what the data set yields" if is_tuple else what)
    else:
        refuse_no_array(batch)
        raise TypeError(
            "A data set or loader must yield arrays, tensors or mappings of names to these, "
            f"or a tuple or list whose first item is one; got {type(batch).__name__}."
        )
    if is_tuple and len(item) == 2:
        labels = as_labels(item[1], count_samples(batch))
    return batch, labels


def _refuse_nothing(batch: Mapping[str, Any], loader: Loader) -> None:
    if not batch:
        raise TypeError(
            "The data set has no inputs, but only labels in the columns "
            f"{list(loader.label_columns)}."
        )


def without_text_labels(named: Mapping[str, Any]) -> tuple[Mapping[str, Any], Any]:
    """A mapping without labels that are texts, which no network takes; and these, or None."""
    for key in LABEL_COLUMNS:
        values: Any = named.get(key)
        is_array_of_text = isinstance(values, np.ndarray) and values.dtype.kind == "U"
        is_list = isinstance(values, list | tuple) and len(values) > 0
        if is_array_of_text or (is_list and all(isinstance(value, str) for value in values)):
            return {name: named[name] for name in named if name != key}, values
    return named, None


def labels_among(batch: Batch) -> NDArray | None:
    """The labels in a mapping of inputs, where there are some, one for each row."""
    if isinstance(batch, Mapping):
        for key in LABEL_COLUMNS:
            if key in batch:
                return as_labels(batch[key], count_samples(batch))
    return None


def as_labels(targets: Any, n_rows: int) -> NDArray | None:
    """Targets as labels, where they are one number or text a row; otherwise None."""
    if is_array(targets):
        targets = np.array(to_array(targets))  # a loader may use its memory again
    elif isinstance(targets, list | tuple):
        are_text = [isinstance(target, str) for target in targets]
        if not (all(are_text) or all(isinstance(target, Real) for target in targets)):
            return None
        targets = np.asarray(targets)
    is_column = isinstance(targets, np.ndarray) and targets.shape == (n_rows,)
    return targets if is_column and targets.dtype.kind in "biufU" else None


def as_columns(named: Mapping[str, Any], advice: str = _ADVICE) -> dict[str, Any]:
    """The arrays of a mapping, of a row for each sample.

    Raises
    ------
    TypeError
        If a value is an option, or text, or something else that a network's argument cannot be.
    ValueError
        If they are not of one length.
    """
    columns = {key: _as_column(key, values, advice) for key, values in named.items()}
    lengths = {key: len(values) for key, values in columns.items()}
    if len(set(lengths.values())) == 1 and 0 not in lengths.values():
        return columns
    if "edge_index" in lengths:
        raise TypeError(
            "A mapping with 'edge_index' is a graph, which has no row for each sample, got the "
            f"lengths {lengths}: to classify graphs, pass dense ones, with an adjacency matrix for "
            "each, such as to_dense_adj of torch_geometric makes them."
        )
    raise ValueError(f"A mapping of inputs needs values of one length, at least 1, got {lengths}.")


def _as_column(key: str, values: Any, advice: str) -> Any:
    """An array of any library, with one value for each sample."""
    refuse_unreadable(values)
    holds_objects = isinstance(values, np.ndarray) and values.dtype.kind not in "biufc"
    is_ready = is_array(values) and not holds_objects
    array = values if is_ready else _stack(key, values, advice)
    if array.ndim == 0:
        raise TypeError(
            f"The inputs {key!r} must have a value for each sample, got {_short(values)}. Leave "
            "out what is None. Where this is an option of the network, put it into a module that "
            "calls the network with it."
        )
    return array


def _stack(key: str, values: Any, advice: str) -> NDArray:
    """An array of the values of a column, which may be arrays themselves."""
    if isinstance(values, list | tuple):
        for value in _one_of_each_type(values):
            refuse_unreadable(value)
            # The axes of images are nobody's choice.
            is_image = hasattr(value, "__array_interface__") and not hasattr(value, "dtype")
            if value is None or is_image or isinstance(value, Mapping | str | bytes):
                _refuse_column(key, value, advice)
        values = [to_array(value) if is_array(value) else value for value in values]
    try:
        array = np.asarray(values)
    except ValueError:
        _refuse_ragged(key, values)
    if array.dtype == object and array.ndim == 1 and all(isinstance(v, Sized) for v in array):
        _refuse_ragged(key, list(array))
    if array.dtype.kind not in "biufc" and array.ndim > 0:
        _refuse_column(key, next(v for v in array.flat if not isinstance(v, Real)), advice)
    return array


def _one_of_each_type(values: Sequence[Any]) -> Iterable[Any]:
    return {type(value): value for value in reversed(values)}.values()


def _refuse_column(key: str, example: Any, advice: str) -> NoReturn:
    if isinstance(example, np.generic):
        example = example.item()
    raise TypeError(
        f"The inputs {key!r} must be numbers, got {type(example).__name__} such as "
        f"{_short(example)}: {advice}."
    )


def _refuse_ragged(key: str, values: Sequence[Any]) -> NoReturn:
    sizes = [len(value) if isinstance(value, Sized) else 1 for value in values]
    found = list(dict.fromkeys(sizes))
    what = f"lengths, such as {found[0]} and {found[1]}" if len(found) > 1 else "shapes"
    raise ValueError(
        f"The inputs {key!r} hold values of different {what}: pad them to one, with a mask as "
        "another input."
    ) from None


def _short(example: Any) -> str:
    text = repr(example)
    return text if len(text) <= 80 else f"{text[:77]}..."


@contextmanager
def naming_columns(X: Any) -> Iterator[None]:
    """Context in which a data frame becomes an array; an error names the columns it is due to."""
    try:
        yield
    except (TypeError, ValueError) as error:
        names = list(getattr(X, "columns", ()))
        texts = [name for name in names if np.asarray(X[name]).dtype.kind not in "biufc"]
        if not texts:
            raise
        raise ValueError(
            f"The columns {texts} of X must be numbers: {_ADVICE}. The error was: {error}"
        ) from error


def refuse_no_array(X: Any) -> None:
    """Raise an error that says what to do for what would be taken for an array that it is not."""
    if isinstance(X, np.ndarray) and X.dtype == object and X.ndim == 1:
        X = list(X)
    if not isinstance(X, list | tuple):
        if not hasattr(X, "shape") and hasattr(X, "__getitem__") and hasattr(X, "__len__"):
            _refuse_rows_of_mappings(X)
        return
    for item in _one_of_each_type(X):
        refuse_unreadable(item)
    _refuse_arrays_of_several_inputs(X)
    _refuse_rows_of_mappings(X)
    _refuse_pairs(X)
    lengths = list(dict.fromkeys(len(item) for item in X if isinstance(item, list | tuple)))
    if len(lengths) > 1:
        raise ValueError(
            f"Got a {type(X).__name__} of lists of different lengths, such as {lengths[0]} and "
            f"{lengths[1]}: pad them to one, and pass a mapping with a mask where the network "
            "takes one."
        )


def _refuse_arrays_of_several_inputs(X: Sequence[Any]) -> None:
    shapes = [tuple(array.shape) for array in X if hasattr(array, "shape")]
    if len(shapes) > 1 and (
        len(set(shapes)) > 1 or (isinstance(X, tuple) and min(map(len, shapes)) > 1)
    ):
        raise TypeError(
            f"Got a {type(X).__name__} of arrays of the shapes {_short(shapes)}. For a network of "
            "several inputs pass a mapping of the names of its arguments to arrays, such as "
            "{'x': ..., 'mask': ...}; stack samples to one array."
        )


def _refuse_rows_of_mappings(X: Any) -> None:
    first = X[0] if len(X) and not isinstance(X, str | bytes | Mapping) else None
    if isinstance(first, Mapping):
        raise TypeError(
            f"A {type(X).__name__} of mappings, with the keys {list(first)}, is no mapping "
            "of arrays: pass a DataLoader that reads it, or an array for each key."
        )
    if first is not None and not isinstance(X, list | tuple) and isinstance(first, tuple):
        _refuse_pairs([first])


def _refuse_pairs(X: Sequence[Any]) -> None:
    first = X[0] if X else None
    if isinstance(first, list | tuple) and any(np.ndim(part) > 0 for part in _arrays_in(first)):
        kinds = [type(part).__name__ for part in first]
        raise TypeError(
            f"Rows that are tuples of {kinds} are no array: pass a DataLoader that reads them, or "
            "the inputs as one array and the labels as y."
        )


def _arrays_in(values: Sequence[Any]) -> list[Any]:
    return [value for value in values if is_array(value)]
