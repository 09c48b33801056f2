"""Tensors, data sets and loaders of torch as inputs."""

from __future__ import annotations

import traceback
from collections.abc import Iterable, Iterator, Sequence
from functools import partial
from typing import Any

import numpy as np
from numpy.typing import NDArray
from torch import Tensor
from torch.nn.utils.rnn import PackedSequence
from torch.utils.data import (
    BatchSampler,
    DataLoader,
    Dataset,
    IterableDataset,
    SequentialSampler,
    Subset,
)

from ..._warnings import warn_user
from .._inputs import InputReader, Loader
from .memory import as_array
from .random_numbers import SOURCES, drawing, drawn_apart


class TorchInputs(InputReader):
    """Tensors are arrays, and data sets are read by loaders."""

    def refuse(self, X: Any) -> None:
        if isinstance(X, PackedSequence):
            raise TypeError(
                "A PackedSequence has no row for each sample: yield padded sequences, as "
                "pad_packed_sequence makes them, and pack them in the network; their lengths may "
                "be a second value of a mapping."
            )
        if isinstance(X, Tensor) and (X.is_nested or X.is_sparse):
            kind = "nested" if X.is_nested else "sparse"
            raise TypeError(
                f"A {kind} tensor has no plain row for each sample: pass a dense one, such as "
                f"{'nested.to_padded_tensor(0.0)' if X.is_nested else 'X.to_dense()'}."
            )

    def load(self, X: Any, batch_size: int) -> Loader | None:
        if isinstance(X, DataLoader):
            order = _order(X)
            n_samples = _n_samples(X)
            return Loader(_Apart(X), n_samples, order, _left_out(X), read_once=_is_read_once(X))
        if isinstance(X, Dataset):
            loader = DataLoader(X, batch_size=batch_size)
            n_samples = _n_samples(loader)
            is_stream = isinstance(X, IterableDataset)
            after = None if is_stream else partial(_after, X, batch_size)
            return Loader(
                _Collated(loader), n_samples, read_once=_is_read_once(loader), after=after
            )
        return None

    def is_array(self, X: Any) -> bool:
        return isinstance(X, Tensor)

    def is_finite(self, array: Tensor) -> bool:
        return bool(array.isfinite().all())

    def to_numpy(self, array: Tensor) -> NDArray:
        # One kind of half precision is none of NumPy's.
        is_half = array.is_floating_point() and array.element_size() < 4
        return as_array(array.float() if is_half else array)


def _after(dataset: Dataset, batch_size: int, n_samples: int) -> Iterable[Any]:
    """The batches of a data set after its first samples, which are not read."""
    rows = range(n_samples, len(dataset))  # type: ignore[arg-type]
    return _Collated(DataLoader(Subset(dataset, rows), batch_size=batch_size))


class _Apart:
    """A loader whose random numbers are drawn apart from those of the user."""

    def __init__(self, loader: DataLoader) -> None:
        self._loader = loader

    def __iter__(self) -> Iterator[Any]:
        n_yielded, n_batches = 0, _length(self._loader)
        for item in drawn_apart(self._loader):
            yield item
            n_yielded += 1
        if n_yielded >= n_batches:
            return
        said = (
            f"The loader ended after {n_yielded} of {n_batches} batches: its data set has raised "
            "StopIteration, which ends a loop without an error, or its sampler or stream yields "
            "less than its length. Let the data set raise another error, or mend that length."
        )
        if _is_counted(self._loader):
            raise RuntimeError(said)
        warn_user(said)  # lengths that users write may be estimates


class _Collated(_Apart):
    """Its errors also say what to do where items do not go into one batch."""

    def __iter__(self) -> Iterator[Any]:
        try:
            yield from super().__iter__()
        except (RuntimeError, TypeError) as error:
            # Not those of the data set itself.
            places = traceback.extract_tb(error.__traceback__)
            if not any(place.name == "default_collate" for place in places):
                raise
            raise type(error)(
                "The items of the data set do not go into one batch: pass a DataLoader with a "
                "collate_fn that makes numbers of one shape of them, such as padded sequences with "
                f"a mask. torch says: {error}"
            ) from error


def _batch_sampler(loader: DataLoader) -> BatchSampler | None:
    """What cuts the samples into batches; None where the user's own code does."""
    sampler = loader.batch_sampler
    return sampler if type(sampler) is BatchSampler else None


def _n_drawn(loader: DataLoader) -> int | None:
    """How many samples go into batches, those included that a loader drops in the end."""
    batches = _batch_sampler(loader)
    if batches is None:
        return None
    is_stream = isinstance(loader.dataset, IterableDataset)
    try:
        return len(loader.dataset if is_stream else batches.sampler)  # type: ignore[arg-type]
    except TypeError:  # of unknown length
        return None


def _length(loader: DataLoader) -> int:
    """How many batches a pass yields, as it says; 0 where it does not say."""
    try:
        return len(loader)
    except TypeError:
        return 0


def _is_counted(loader: DataLoader) -> bool:
    """Whether torch itself knows how many batches there are."""
    return not isinstance(loader.dataset, IterableDataset) and _n_samples(loader) is not None


def _n_samples(loader: DataLoader) -> int | None:
    """How many samples a pass yields; None where this is not known."""
    n_drawn, batches = _n_drawn(loader), _batch_sampler(loader)
    if n_drawn is None or batches is None or not batches.drop_last:
        return n_drawn
    return n_drawn - n_drawn % batches.batch_size


def _left_out(loader: DataLoader) -> str:
    """What a pass leaves out."""
    batches = _batch_sampler(loader)
    if batches is None or not batches.drop_last:
        return ""
    n_drawn = _n_drawn(loader)
    if n_drawn is None:
        return f"a last batch of fewer than {batches.batch_size} samples (drop_last=True)"
    n_dropped = n_drawn % batches.batch_size
    return f"{n_dropped} of {n_drawn} samples (drop_last=True)" if n_dropped else ""


def _order(loader: DataLoader) -> str:
    """What decides the order of the samples, where it is not that of the data set."""
    if isinstance(loader.dataset, IterableDataset):
        return ""
    if loader.batch_sampler is None:
        return _order_of(loader.sampler, loader)
    if (batches := _batch_sampler(loader)) is not None:
        return _order_of(batches.sampler, loader)
    return f"a batch sampler of its own, a {type(loader.batch_sampler).__name__}"


def _order_of(sampler: Any, loader: DataLoader) -> str:
    if type(sampler) is SequentialSampler:
        return ""
    if isinstance(sampler, Sequence | np.ndarray):
        n_samples = len(loader.dataset)  # type: ignore[arg-type]
        return "" if list(sampler) == list(range(n_samples)) else "the indices in its sampler"
    return f"a {type(sampler).__name__}"


def _is_read_once(loader: DataLoader) -> bool | None:
    """Whether the data set is a stream that a second pass goes on with; None if not known."""
    dataset = loader.dataset
    if not isinstance(dataset, IterableDataset):
        return False
    if loader.num_workers:  # each pass reads a copy of its own
        return False
    with drawing(SOURCES, listen=False):
        return True if iter(dataset) is iter(dataset) else None
