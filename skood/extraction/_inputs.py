"""Raw inputs of a network of any type, batch by batch."""

from __future__ import annotations

import zlib
from collections.abc import Callable, Iterator, Mapping
from contextlib import suppress
from dataclasses import KW_ONLY, dataclass, field, replace
from functools import partial
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy.sparse import issparse
from sklearn import get_config
from sklearn.utils import assert_all_finite
from sklearn.utils.validation import validate_data

from .._blocks import checksum_of
from .._sklearn import num_samples
from .._store import Said, StoreWriter
from .._values import without_mask
from .._warnings import warn_user
from ..networks import (
    Batch,
    Loader,
    NetworkAdapter,
    as_loader,
    count_samples,
    is_array,
    is_finite,
    refuse_unreadable,
    take_samples,
    to_array,
)
from ._items import (
    LABEL_COLUMNS,
    as_columns,
    as_labels,
    labels_among,
    naming_columns,
    read_item,
    refuse_no_array,
    without_text_labels,
)
from ._raw_inputs import forget_features, stand_in_for
from ._shapes import check_like_fit

LabelledBatch = tuple[Batch, NDArray | None]
"""A batch with its labels, where there are any."""

_N_COMPARED = 32
"""Samples by which inputs are told from others: to read all takes as long as the network may."""
_N_READ_AGAIN = 8
"""The same, where a sample may be a file of its own that is decoded."""


@dataclass
class Batches:
    """Inputs that can be gone through in batches, and more than once where they hold still."""

    generate: Callable[[], Iterator[LabelledBatch]]
    """Each batch with its labels."""
    n_samples: int | None
    """Number of samples to expect, where known."""
    data: Batch | None = None
    """All inputs, where they are in memory or mapped."""
    loader: Loader | None = None
    """What yields the batches, where something does."""
    start_at: Callable[[int], Iterator[LabelledBatch]] | None = None
    """The batches from a sample of a given number on, where those before need not be read."""
    one_by_one: Callable[[int], Iterator[LabelledBatch]] | None = None
    """The same, in batches of one sample."""
    _begun: tuple[LabelledBatch, Iterator[LabelledBatch]] | None = field(default=None, init=False)
    """The first batch, where it was looked at and would be lost, and the others."""

    def __iter__(self) -> Iterator[LabelledBatch]:
        begun, self._begun = self._begun, None
        first, others = self._begin() if begun is None else begun
        del begun
        yield first
        del first  # its memory
        yield from others

    def first(self) -> Batch:
        """The first batch, which is not lost where the inputs can be read once only.

        Raises
        ------
        ValueError
            If there is no sample.
        """
        return self._first()[0]

    def _first(self) -> LabelledBatch:
        if self._begun is not None:
            return self._begun[0]
        first, others = self._begin()
        if self.loader is not None and self.loader.read_once is not False:
            self._begun = (first, others)
        return first

    def _begin(self) -> tuple[LabelledBatch, Iterator[LabelledBatch]]:
        batches = self.generate()
        for first in batches:
            return first, batches
        exhausted = ""
        if self.loader is not None and self.loader.read_once is not False:
            exhausted = " A stream that can be read once only may be exhausted: make it anew."
        raise ValueError(f"Found 0 samples where at least 1 is needed.{exhausted}")

    def after(self, writer: StoreWriter | None) -> Iterator[LabelledBatch]:
        """The batches after those of an earlier call, whose rows a folder holds.

        Raises
        ------
        ValueError
            If the rows are not those of the earlier call.
        """
        if writer is None or not writer.n_samples:
            return iter(self)
        if writer.n_samples == self.n_samples:
            return iter(())
        if self.start_at is not None:
            return self.start_at(writer.n_samples)
        return self._read_past(writer.said)

    def refuse_others(self, said: Said, *, is_whole: bool) -> None:
        """Refuse inputs that are not those of a folder, as far as a few samples tell.

        Raises
        ------
        ValueError
            If these are others, or may come in another order.
        """
        self._refuse_another_order()
        sizes = said("n_samples")
        n_there = sum(sizes)
        n_here = n_there if self.n_samples is None else self.n_samples
        if n_there > n_here or (is_whole and n_there < n_here):
            raise _others(f": there are {n_here} samples, and {n_there} in the folder")
        starts = np.cumsum([0, *sizes])
        for number, (batch, labels) in self._some_again(starts[:-1]):
            expected = {key: said(key)[number] for key in _OF_BATCH}
            if what := _differing(batch, labels, expected):
                raise _others(f": the {what} of sample {starts[number]} differ")

    def _some_again(self, starts: NDArray[np.intp]) -> Iterator[tuple[int, LabelledBatch]]:
        """The first sample of some batches, which begin there, or all of the first batch."""
        if self.one_by_one is None:
            yield 0, self._first()
            return
        for number in np.unique(np.linspace(0, len(starts) - 1, _N_READ_AGAIN, dtype=np.intp)):
            yield int(number), next(self.one_by_one(int(starts[number])))

    def _refuse_another_order(self) -> None:
        """Raise a ValueError where the rows may be others than those that a folder holds."""
        if self.loader is not None and self.loader.order:
            raise ValueError(
                "The folder holds rows of an earlier call, but the loader yields its samples in an "
                f"order of its own, that of {self.loader.order}: nothing tells which ones are "
                "there. Make the loader with shuffle=False, or choose a new folder; what an "
                "earlier call has finished is read by Activations.load."
            )

    def _read_past(self, said: Said) -> Iterator[LabelledBatch]:
        """The batches after those of an earlier call, which are read, but do not pass."""
        batches, n_read = iter(self), 0
        for values in zip(*map(said, _OF_BATCH), strict=True):
            expected, found = dict(zip(_OF_BATCH, values, strict=True)), next(batches, None)
            n_found = 0 if found is None else count_samples(found[0])
            if found is None or n_found != expected["n_samples"] or _differing(*found, expected):
                raise _others(f" from sample {n_read} on, or come in batches of another size")
            n_read += n_found
        yield from batches

    def about(self, batch: Batch, labels: NDArray | None) -> dict[str, Any]:
        """What another call needs to know of a batch to go on after it."""
        checksum = None if self.start_at is not None else checksum_of_batch(batch)
        first = {"first input": _checksum_of_first(batch), "first label": _first_label(labels)}
        known = {"n_samples": count_samples(batch), "inputs": checksum, **first}
        return {**known, "labels": None if labels is None else checksum_of(labels)}

    def refuse_reading_on(self) -> None:
        """Refuse to look at the first batch alone, where others would not find it any more.

        Raises
        ------
        TypeError
            If the inputs can be read once only.
        """
        if self.loader is not None and self.loader.read_once:
            raise TypeError(
                "These inputs can be read once only, and fit would take the first batch of them: "
                "call fit_transform, which reads them whole, or pass a list of the batches' rows, "
                "or inputs that can be read again."
            )

    def warn_of_lost_rows(self) -> None:
        """Warn where a second pass does not begin as the one did of which the first batch is known.

        Not known to a stream, whether it holds still shows when it is read again.
        """
        if self._begun is None:
            return
        (first, _), _ = self._begun
        again = next(self.generate(), None)
        if again is None or not _are_equal(first, again[0]):
            warn_user(
                f"The {count_samples(first)} samples with which these inputs began are not those "
                "with which they begin now: if they can be read once only, rows were lost to fit. "
                "Call fit_transform, which reads them whole. If they are shuffled, all is well."
            )

    def warn_of_rows(self, labels: NDArray | None) -> None:
        """Warn where samples have no row, or nothing tells which row is that of which sample."""
        if self.loader is None:
            return
        if self.loader.left_out:
            warn_user(
                f"The loader leaves out {self.loader.left_out}, which get no rows: make it with "
                "drop_last=False to have them all."
            )
        if self.loader.order and labels is None:
            warn_user(
                "The rows are in the order in which the loader yields them, that of "
                f"{self.loader.order}, and nothing tells which sample is which: make it with "
                "shuffle=False, or let it yield pairs of inputs and labels, which become A.labels."
            )


def check_labels(y: Any, X: Any, batches: Batches | None) -> None:
    """Check that labels given beside inputs or activations may be those of their rows.

    Raises
    ------
    ValueError
        If a loader yields the rows in an order of its own, or their number is known and another.
    """
    if batches is None:
        check_number_of_labels(y, len(X))
    elif y is not None and batches.loader is not None and (order := batches.loader.order):
        raise ValueError(
            f"The loader yields its samples in an order of its own, that of {order}, so "
            "that labels y given beside it may be those of other samples. Make it with "
            "shuffle=False; or let it yield pairs of inputs and labels, extract, and fit on what "
            "comes out, as in detector.fit(A, A.labels)."
        )
    else:
        left_out = "" if batches.loader is None else batches.loader.left_out
        check_number_of_labels(y, batches.n_samples, left_out)


def check_number_of_labels(y: Any, n_samples: int | None, left_out: str = "") -> None:
    """Raise a ValueError where labels are given for another number of samples."""
    if y is None or n_samples is None:
        return
    with suppress(TypeError):  # of a single number
        if (n_labels := num_samples(y)) != n_samples:
            without = f": the loader leaves out {left_out}" if left_out else ""
            raise ValueError(f"X has {n_samples} samples, but y has {n_labels} labels{without}.")


def as_batches(
    estimator: Any,
    X: Any,
    batch_size: int,
    *,
    reset: bool,
    any_length: bool = False,
    adapter: NetworkAdapter | None = None,
) -> Batches:
    """Check what can be checked of ``X`` without reading it, and cut it into batches.

    With ``any_length``, the second axis may have another size than in ``fit``. An ``adapter``
    prepares the inputs.

    Raises
    ------
    TypeError
        If it is no kind of input; the message says what to pass.
    ValueError
        If there is no sample, or the inputs have not the shape of those of ``fit``. Values that
        are not finite are found when their batch is read.
    """
    if reset:
        forget_features(estimator)
    refuse_unreadable(X)
    prepared = X if adapter is None else adapter.prepare(X)
    if prepared is not X:
        estimator, reset = stand_in_for(estimator, X, reset=reset), True
        adapter, X = None, prepared
    reader = _Reader(estimator, adapter, reset=reset, any_length=any_length)
    if (loader := as_loader(X, batch_size)) is not None:
        start_at = None if loader.after is None else partial(_load_after, loader, reader)
        single = None if start_at is None else as_loader(X, 1)
        return Batches(
            partial(_load, loader, reader),
            loader.n_samples,
            loader=loader,
            start_at=start_at,
            one_by_one=None if single is None else partial(_load_after, single, reader),
        )
    texts = None
    if isinstance(X, Mapping) and not issparse(X):  # a sparse matrix may be a dict
        X, texts = without_text_labels(X)
        data: Batch = as_columns(X)
        texts = None if texts is None else as_labels(texts, count_samples(data))
    else:
        refuse_no_array(X)
        data = reader.read(X, "X")
    start_at = partial(_slice, data, batch_size, estimator, texts=texts)
    one_by_one = partial(_slice, data, 1, estimator, texts=texts)
    return Batches(start_at, count_samples(data), data, start_at=start_at, one_by_one=one_by_one)


def as_arrays(data: Batch) -> Any:
    """The same with arrays of NumPy."""
    if isinstance(data, Mapping):
        return {key: to_array(values) for key, values in data.items()}
    return to_array(data)


@dataclass(frozen=True)
class _Reader:
    """Checks arrays against what ``fit`` saw of them."""

    estimator: Any
    adapter: NetworkAdapter | None
    _: KW_ONLY
    reset: bool
    any_length: bool

    def prepare(self, batch: Any) -> tuple[Any, Callable[[Any, str], Any]]:
        """What the network makes of a batch that a loader yields, and what reads that."""
        prepared = batch if self.adapter is None else self.adapter.prepare_batch(batch)
        if prepared is batch:
            return batch, self.read
        stand_in = stand_in_for(self.estimator, batch, reset=self.reset)
        return prepared, replace(self, estimator=stand_in, adapter=None, reset=True).read

    def read(self, X: Any, name: str) -> Any:
        """An array, a sparse one among them, or tensor."""
        if isinstance(X, list | tuple | np.ma.MaskedArray):
            X = np.asarray(without_mask(X, name))
        shape = getattr(X, "shape", ())
        is_foreign = is_array(X) and not isinstance(X, np.ndarray)
        if is_foreign or len(shape) > 1:
            check_like_fit(self.estimator, X, name, reset=self.reset, any_length=self.any_length)
        # The number of features is checked where two dimensions are required.
        with naming_columns(X):
            validated = validate_data(
                self.estimator,
                np.broadcast_to(np.float32(0), tuple(shape)) if is_foreign else X,
                reset=self.reset,
                accept_sparse="csr",
                ensure_2d=not (self.any_length and len(shape) > 1),
                allow_nd=True,
                ensure_all_finite=False,
            )
            if validated.dtype.kind not in "biufc":
                raise ValueError(f"{name} must hold numbers, got dtype {validated.dtype}.")
        return X if is_foreign else validated


def checksum_of_batch(batch: Batch) -> int:
    """CRC-32 of the values of a batch."""
    arrays = batch.values() if isinstance(batch, Mapping) else [batch]
    checksum = 0
    for array in arrays:
        checksum = checksum_of(to_array(array), checksum)
    return checksum


def checksum_of_some(data: Batch) -> int:
    """CRC-32 of a few samples of arrays, the first and last ones among them, and their shape."""
    n_samples = count_samples(data)
    rows = np.unique(np.linspace(0, n_samples - 1, _N_COMPARED, dtype=np.intp))
    some = _dense(take_samples(data, rows.tolist()))
    arrays = some.values() if isinstance(some, Mapping) else [some]
    shapes = [(n_samples, *array.shape[1:]) for array in arrays]
    return zlib.crc32(repr(shapes).encode(), checksum_of_batch(some))


_OF_BATCH = ("n_samples", "inputs", "first input", "first label", "labels")
"""What a folder says of each batch of inputs."""


def _checksum_of_first(batch: Batch) -> int:
    """CRC-32 of the first sample of a batch, the same for any type of numbers that holds it."""
    named = batch if isinstance(batch, Mapping) else {"": batch}
    checksum = 0
    for name in sorted(set(named) - set(LABEL_COLUMNS)):
        row = to_array(named[name][:1])
        row = row.astype(np.float64) if row.dtype.kind in "biuf" else row
        checksum = checksum_of(row, zlib.crc32(f"{name}{row.shape}".encode(), checksum))
    return checksum


def _first_label(labels: NDArray | None) -> Any:
    """The label of the first sample, as text."""
    return None if labels is None else repr(labels[0].item())


def _differing(batch: Batch, labels: NDArray | None, expected: Mapping[str, Any]) -> str:
    """What differs from a batch in a folder, whose first sample is also that of this one."""
    if _checksum_of_first(batch) != expected["first input"]:
        return "inputs"
    if _first_label(labels) != expected["first label"]:
        return "labels"
    if count_samples(batch) != expected["n_samples"]:
        return ""  # nothing is known of the others
    known = expected["inputs"]
    if known is not None and checksum_of_batch(batch) != known:
        return "inputs"
    is_same = labels is None or checksum_of(labels) == expected["labels"]
    return "" if is_same else "labels"


def _others(how: str) -> ValueError:
    return ValueError(
        f"The folder holds rows of an earlier call, but these inputs are others{how}. Pass the "
        "same again, or choose a new folder. Inputs that are changed at random each time are never "
        "the same. What an earlier call has finished is read by Activations.load."
    )


def _slice(
    data: Batch,
    batch_size: int,
    estimator: Any,
    first: int = 0,
    *,
    texts: NDArray | None = None,
) -> Iterator[LabelledBatch]:
    n_samples = count_samples(data)
    for start in range(first, n_samples, batch_size):
        rows = slice(start, min(start + batch_size, n_samples))
        batch = _dense(take_samples(data, rows))
        _check_finite(estimator, batch, rows.start)
        yield batch, labels_among(batch) if texts is None else texts[rows]


def _load_after(loader: Loader, reader: _Reader, n_samples: int) -> Iterator[LabelledBatch]:
    assert loader.after is not None
    return _load(replace(loader, batches=loader.after(n_samples)), reader, n_samples)


def _load(loader: Loader, reader: _Reader, n_read: int = 0) -> Iterator[LabelledBatch]:
    for item in loader.batches:
        batch, labels = read_item(item, loader, reader.prepare)
        batch = _dense(batch)
        _check_finite(reader.estimator, batch, n_read)
        n_read += count_samples(batch)
        yield batch, labels


def _dense(batch: Batch) -> Batch:
    return batch.toarray() if issparse(batch) else batch


def _check_finite(estimator: Any, batch: Batch, n_before: int) -> None:
    """Raise a ValueError that names the samples with values that are not finite."""
    for name, values in batch.items() if isinstance(batch, Mapping) else [("", batch)]:
        if get_config()["assume_finite"] or all_are_finite(values):
            continue
        array = to_array(values)
        wrong = np.flatnonzero(~np.isfinite(array.reshape(len(array), -1)).all(axis=1))
        of = f" of {name!r}" if name else ""
        more = f" and {len(wrong) - 1} more of its batch" if len(wrong) > 1 else ""
        raise ValueError(
            f"Input X{of} contains {'NaN' if np.isnan(array).any() else 'infinity'} in sample "
            f"{n_before + wrong[0]}{more}, which {type(estimator).__name__} refuses: leave such "
            "samples out, or replace what is missing in them."
        )


def all_are_finite(values: Any) -> bool:
    """Whether no value of an array or tensor is NaN or infinite."""
    if not isinstance(values, np.ndarray):
        return is_finite(values)
    try:  # faster for arrays
        assert_all_finite(values)
    except ValueError:
        return False
    return True


def _are_equal(batch: Batch, other: Batch) -> bool:
    if isinstance(batch, Mapping) and isinstance(other, Mapping):
        return list(batch) == list(other) and all(
            np.array_equal(to_array(values), to_array(other[key])) for key, values in batch.items()
        )
    if isinstance(batch, Mapping) or isinstance(other, Mapping):
        return False
    return np.array_equal(to_array(batch), to_array(other))
