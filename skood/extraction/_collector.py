"""Gathering what the layers of a network give, batch by batch."""

from __future__ import annotations

import os
from collections.abc import Callable, Collection
from typing import Any

import numpy as np
from numpy.typing import NDArray
from sklearn.base import clone

from .._batches import row_batches
from .._warnings import warn_user
from ..activations import Activations, LinearHead, PackedBits, largest_logits
from ._gradients import owner_of
from ._passes import PASSES


class Collector:
    """Reduces the values of layers as they come, and stacks them.

    Parameters
    ----------
    reducer : transformer or None
        Called for each layer at once where it has ``pool_layers``, and otherwise for the
        Activations of each batch.
    to_numpy : callable
        Makes an array of a value of the network.
    n_samples : int or None
        Number of samples to expect, where known.
    names : list of str
        The layers, in the order in which the reducer is to see them.
    units_last : collection of str, default=()
        Layers of which a reducer is to be given the units in the second axis.
    """

    def __init__(
        self,
        reducer: Any,
        to_numpy: Callable[[Any], NDArray],
        n_samples: int | None,
        names: list[str],
        units_last: Collection[str] = (),
    ) -> None:
        self._reducer = reducer
        self._units_last = units_last
        self._to_numpy = to_numpy
        self._n_expected = n_samples
        self._names = names
        self._n_rows = 0
        self._batch: dict[str, NDArray] = {}
        self._layers: dict[str, _RowBuffer] = {}
        self._n_bits: dict[str, int] = {}
        self._logits: _RowBuffer | None = None
        self._predicted: _RowBuffer | None = None

    def keep(self, layer: str, value: Any) -> None:
        """Take the value of a layer for the current batch; nothing of it is shared."""
        if self._reducer is None:
            self._store(layer, self._to_numpy(value))
            return
        if owner_of(layer) in self._units_last:
            value = value.swapaxes(1, 2)
        if hasattr(self._reducer, "pool_layers"):
            for name, pooled in self._reducer.pool_layers({layer: value}).items():
                self._store(name, self._to_numpy(pooled))
        else:
            self._batch[layer] = np.array(self._to_numpy(value))

    def end_batch(
        self, n_rows: int, logits: Any, logits_before: Any = None, passes: Any = None
    ) -> None:
        """Take the logits of the current batch, or None, and close it.

        ``logits_before`` are those that the predictions are made of, where they are others.
        ``passes`` becomes the last layer, which no reducer is given.

        Raises
        ------
        ValueError
            If a layer did not give a row for each sample.
        """
        predicted = None
        if logits is not None:
            logits = self._to_numpy(logits)
            self._logits = self._logits or _RowBuffer("logits", logits, self._n_expected)
            self._logits.append(logits)
        if logits_before is not None:
            predicted = largest_logits(self._to_numpy(logits_before))
            self._predicted = self._predicted or _RowBuffer(
                "predictions", predicted, self._n_expected
            )
            self._predicted.append(predicted)
        if self._batch:
            layers = {name: self._batch[name] for name in self._names}
            batch = Activations(layers, logits=logits, predictions=predicted)
            self._batch = {}
            for name, values in reduce_activations(self._reducer, batch).items():
                self._store(name, values)
        if passes is not None:
            self._store(PASSES, self._to_numpy(passes))
        self._n_rows += n_rows
        buffers = {**self._layers, **({} if self._logits is None else {"logits": self._logits})}
        for name, buffer in buffers.items():
            if buffer.n_rows != self._n_rows:
                raise ValueError(
                    f"Layer {name!r} must have a row for each sample, but has {buffer.n_rows} "
                    f"rows after {self._n_rows} samples."
                )

    def _store(self, name: str, values: NDArray | PackedBits) -> None:
        if isinstance(values, PackedBits):
            self._n_bits[name] = values.n_bits
            values = values.words
        if name not in self._layers:
            self._check_memory(values)
            self._layers[name] = _RowBuffer(name, values, self._n_expected)
        self._layers[name].append(values)

    def _check_memory(self, first: NDArray) -> None:
        # Memory is promised first and taken when used: without this, it runs out long after.
        needed = sum(buffer.n_bytes for buffer in self._layers.values())
        needed += first.nbytes * (self._n_expected or len(first)) // len(first)
        if needed > (present := _physical_memory()):
            raise MemoryError(
                f"The layers take {needed / 2**30:.1f} GiB or more, but the machine has "
                f"{present / 2**30:.1f} GiB: pass reducer=PoolingReducer(), or name fewer layers."
            )

    def collect(self, head: LinearHead | None, classes: NDArray | None) -> Activations:
        """All that was kept; head and classes only where they belong to the logits."""
        logits = None if self._logits is None else self._logits.finish()
        layers: dict[str, NDArray | PackedBits] = {}
        for name, buffer in self._layers.items():
            array = buffer.finish()
            is_packed = name in self._n_bits
            layers[name] = PackedBits(array, self._n_bits[name]) if is_packed else array
        if logits is None:
            return Activations(layers)
        if classes is not None and len(classes) != logits.shape[1]:
            classes = None
        predictions = None if self._predicted is None else self._predicted.finish()
        if predictions is not None and classes is not None:
            predictions = classes[predictions]
        return Activations(
            layers, logits=logits, predictions=predictions, head=head, classes=classes
        )


def without_false_head(extracted: Activations, rounding: float) -> Activations:
    """The same, without a head that does not yield the logits of all samples, and a warning then.

    What clips or chooses among several layers may show in other samples than those of the trace.
    """
    head, features, logits = extracted.head, extracted.features, extracted.logits
    if head is None or features is None or logits is None:
        return extracted
    wrong = 0
    for rows in row_batches(len(features), max(features.shape[1], logits.shape[1])):
        some = np.asarray(features[rows], dtype=logits.dtype)
        # What the sums would be without signs, for what rounding may do to them.
        scale = np.abs(some) @ np.abs(head.weight.T) + np.abs(np.asarray(head.bias))
        off = np.abs(head.logits(some) - logits[rows]) > rounding * scale
        wrong += int(off.any(axis=1).sum())
    if not wrong:
        return extracted
    warn_user(
        f"The last linear layer does not yield the logits of {wrong} of {len(features)} samples: "
        "its input or output is clipped, or another layer takes its place. These activations carry "
        "no head, and detectors that read it compute with what it is for the other samples."
    )
    return extracted.assign(head=None)


def units_first(activations: Activations, units_last: Collection[str]) -> Activations:
    """The layers as a reducer is given them."""
    if not units_last:
        return activations
    swapped = {}
    for name, array in activations.items():
        is_sequence = owner_of(name) in units_last and len(activations.layer_shapes[name]) == 2
        swapped[name] = np.asarray(array).swapaxes(1, 2) if is_sequence else array
    return activations.replace(swapped)


def reduce_activations(reducer: Any, activations: Activations) -> Activations:
    """Apply a reducer, whose ``fit`` learns nothing.

    Raises
    ------
    TypeError
        If it does not return Activations.
    """
    reduced = clone(reducer).fit(activations).transform(activations)
    if not isinstance(reduced, Activations):
        raise TypeError(
            f"reducer must turn Activations into Activations, but {type(reducer).__name__} "
            f"returned {type(reduced).__name__}."
        )
    return reduced


class _RowBuffer:
    """An array that is filled row by row; allocated once where their number is known."""

    def __init__(self, name: str, first: NDArray, n_expected: int | None) -> None:
        capacity = len(first) if n_expected is None else n_expected
        self._name = name
        self._array = np.empty((capacity, *first.shape[1:]), first.dtype)
        self.n_rows = 0

    @property
    def n_bytes(self) -> int:
        return self._array.nbytes

    def append(self, rows: NDArray) -> None:
        if rows.shape[1:] != self._array.shape[1:]:
            raise ValueError(
                f"Layer {self._name!r} has shape {self._array.shape[1:]} for some samples and "
                f"{rows.shape[1:]} for others: bring the inputs to the same size, or pass "
                "reducer=PoolingReducer(), which makes one size of sequences."
            )
        end = self.n_rows + len(rows)
        if end > len(self._array):
            self._resize(max(end, 2 * len(self._array)))
        self._array[self.n_rows : end] = rows
        self.n_rows = end

    def finish(self) -> NDArray:
        self._resize(self.n_rows)
        return self._array

    def _resize(self, n_rows: int) -> None:
        if n_rows != len(self._array):
            # In place, so that no second copy is needed; nobody else refers to the array yet.
            self._array.resize((n_rows, *self._array.shape[1:]), refcheck=False)


def _physical_memory() -> float:
    try:
        return os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    except (AttributeError, ValueError):  # not told on this system
        return float("inf")
