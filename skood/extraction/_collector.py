"""Collecting the values of the layers of a network, batch by batch."""

from __future__ import annotations

import os
from collections.abc import Callable
from functools import cache
from typing import Any

import numpy as np
from numpy.typing import NDArray

from .._concatenate import pad_masks
from .._labels import label_kind, largest_logits
from .._layer_names import unit_axes
from .._pooling import fitting_mask
from ..activations import Activations, Column, LinearHead, PackedBits
from ._masks import Mask, shorten
from ._mode import Outcome, Source
from ._plan import Plan, as_columns
from ._reduction import reduce_activations


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
    plan : Plan
        What comes, and what it is called.
    predict : callable
        Makes numbers of classes of logits; None where these are those of the largest logits.
    """

    def __init__(
        self,
        reducer: Any,
        to_numpy: Callable[[Any], NDArray],
        n_samples: int | None,
        plan: Plan,
        predict: Callable[[Any], NDArray | None] = lambda logits: None,
    ) -> None:
        self._reducer = reducer
        self._to_numpy = to_numpy
        self._n_expected = n_samples
        self._plan = plan
        self._predict = predict
        self._n_rows = 0
        self._batch: dict[Source, NDArray] = {}
        self._layers: dict[str, _RowBuffer] = {}
        self._n_bytes = 0
        self._n_bits: dict[str, int] = {}
        self._logits: _RowBuffer | None = None
        self._predicted: _RowBuffer | None = None
        self._labels: list[NDArray | None] = []
        self._mask: Mask | None = None
        self._masks: list[Mask] = []

    def begin_batch(self, mask: Mask | None) -> None:
        """Say which tokens of the batch that comes are no padding, where there are tokens."""
        self._mask = mask

    def keep(self, source: Source, value: Any) -> None:
        """Take what is extracted of a layer for the current batch; nothing of it is shared."""
        name, unit_axis = self._plan.names[source], self._plan.trace.unit_axes.get(source[0], 1)
        if self._reducer is None:
            self._store(name, self._to_numpy(value), unit_axis)
        elif hasattr(self._reducer, "pool_layers"):
            step = self._plan.trace.token_steps.get(source[0], 0)
            for pooled_name, pooled in self._pool(name, value, unit_axis, step).items():
                self._store(pooled_name, self._to_numpy(pooled))
        else:
            self._batch[source] = np.array(self._to_numpy(value))

    def _pool(self, name: str, value: Any, unit_axis: int, step: int) -> dict[str, Any]:
        """What a reducer makes of the value of a layer, as soon as it is there."""
        # Swapping neighbours until the units come second leaves all others in order.
        for axis in range(unit_axis, 1, -1):
            value = value.swapaxes(axis - 1, axis)
        mask = self._mask
        if mask is not None and step > 1:
            mask = shorten(mask, value.shape[2], step)
        are_tokens = unit_axis != 1 or fitting_mask(mask, value) is not None
        if are_tokens and hasattr(self._reducer, "pool_tokens"):
            return self._reducer.pool_tokens({name: value}, mask)
        return self._reducer.pool_layers({name: value})

    def end_batch(self, n_rows: int, outcome: Outcome, labels: NDArray | None) -> None:
        """Take what the current batch yields beside its layers, and close it.

        Predictions are made of the logits before a perturbation, where there was one. The passes
        become the last layer, which no reducer is given.

        Raises
        ------
        ValueError
            If a layer did not give a row for each sample.
        """
        logits, logits_before, passes = outcome
        predicted = self._predicted_by(logits, logits_before)
        self._labels.append(labels)
        if logits is not None:
            logits = self._to_numpy(logits)
            self._logits = self._logits or _RowBuffer("logits", logits, self._n_expected)
            self._logits.append(logits)
        if predicted is not None:
            self._predicted = self._predicted or _RowBuffer(
                "predictions", predicted, self._n_expected
            )
            self._predicted.append(predicted)
        if self._batch:
            layers = as_columns(self._batch, self._plan.names, self._plan.trace)
            batch = Activations(layers, logits=logits, predictions=predicted, mask=self._mask)
            self._batch = {}
            self._store_reduced(reduce_activations(self._reducer, batch))
        elif self._reducer is None and self._mask is not None:
            self._masks.append(self._mask)
        if passes is not None:
            self._store(self._plan.passes_name, self._to_numpy(passes))
        self._n_rows += n_rows
        buffers = {**self._layers, **({} if self._logits is None else {"logits": self._logits})}
        for name, buffer in buffers.items():
            if buffer.n_rows != self._n_rows:
                advice = ": leave it out, and name the others by layers=[...]."
                raise ValueError(
                    f"Layer {name!r} must have a row for each sample, but has {buffer.n_rows} "
                    f"rows after {self._n_rows} samples{advice if name in self._layers else '.'}"
                )

    def _store_reduced(self, reduced: Activations) -> None:
        axes, self._mask = unit_axes(reduced), reduced.mask
        for name, values in reduced.items():
            self._store(name, values, axes[name])
        if self._mask is not None:
            self._masks.append(self._mask)

    def _predicted_by(self, logits: Any, logits_before: Any) -> NDArray | None:
        """Predictions, where they are not those of the largest of the logits."""
        decisive = logits if logits_before is None else logits_before
        predicted = None if decisive is None else self._predict(decisive)
        if predicted is None and logits_before is not None:
            return largest_logits(self._to_numpy(logits_before))
        return predicted

    def _store(self, name: str, values: NDArray | PackedBits, unit_axis: int = 1) -> None:
        if isinstance(values, PackedBits):
            self._n_bits[name] = values.n_bits
            values = values.words
        if name not in self._layers:
            self._check_memory(values)
            self._layers[name] = _RowBuffer(name, values, self._n_expected)
        self._layers[name].append(values, self._token_axis(values, unit_axis))

    def _token_axis(self, values: NDArray, unit_axis: int) -> int | None:
        """The axis of the tokens that the mask is about; None where there is none."""
        if self._mask is None or values.ndim != 3:
            return None
        axis = 3 - unit_axis
        return axis if values.shape[axis] == self._mask.shape[1] else None

    def _check_memory(self, first: NDArray) -> None:
        # Memory is promised first and taken when used: without this, it runs out long after.
        self._n_bytes += first.nbytes * (self._n_expected or len(first)) // len(first)
        if self._n_bytes > (present := _physical_memory()):
            raise MemoryError(
                f"The layers take {self._n_bytes / 2**30:.1f} GiB or more, but the machine has "
                f"{present / 2**30:.1f} GiB: pass reducer=PoolingReducer(), or name fewer layers."
            )

    def collect(self, head: LinearHead | None, classes: NDArray | None) -> Activations:
        """All that was kept; head and classes only where they belong to the logits."""
        logits = None if self._logits is None else self._logits.finish()
        layers = {name: self._column(name) for name in self._layers}
        labels, mask = self._all_labels(), self._all_masks(layers)
        if logits is None:
            return Activations(
                layers,
                labels=labels,
                mask=mask,
                why_missing=self._why_missing(["head", "logits"]),
            )
        if classes is not None and len(classes) != logits.shape[1]:
            classes = None
        predictions = None if self._predicted is None else self._predicted.finish()
        if predictions is not None and classes is not None:
            predictions = classes[predictions]
        return Activations(
            layers,
            logits=logits,
            predictions=predictions,
            head=head,
            classes=classes,
            labels=labels,
            why_missing={} if head is not None else self._why_missing(["head"]),
            mask=mask,
        )

    def _why_missing(self, parts: list[str]) -> dict[str, str]:
        """Why parts are not there, as far as that is known."""
        trace = self._plan.trace
        why = {"head": trace.why_no_head or trace.why_no_logits, "logits": trace.why_no_logits}
        return {part: why[part] for part in parts if why[part]}

    def _column(self, name: str) -> Column:
        array = self._layers[name].finish()
        values = PackedBits(array, self._n_bits[name]) if name in self._n_bits else array
        template = self._plan.template
        return template[name].with_array(values) if name in template else Column(values)

    def _all_masks(self, layers: dict[str, Column]) -> Mask | None:
        """The masks of all batches, where there are layers that may need them.

        Raises
        ------
        ValueError
            If some batches have a mask and others have none.
        """
        if not self._masks or all(len(column.shape) < 3 for column in layers.values()):
            return None
        if (n_rows := sum(map(len, self._masks))) < self._n_rows:
            raise ValueError(
                f"The inputs say what is padding for {n_rows} of {self._n_rows} samples, and "
                "nothing for the others: give a mask for all of them."
            )
        return np.concatenate(pad_masks(self._masks))

    def _all_labels(self) -> NDArray | None:
        """The labels of all batches; None where some have none, or they are of several kinds."""
        labels = [found for found in self._labels if found is not None]
        if len(labels) < len(self._labels) or len({label_kind(found) for found in labels}) != 1:
            return None
        return np.concatenate(labels)


class _RowBuffer:
    """An array that is filled row by row; allocated once where their number is known."""

    def __init__(self, name: str, first: NDArray, n_expected: int | None) -> None:
        capacity = len(first) if n_expected is None else n_expected
        self._name = name
        self._array = np.empty((capacity, *first.shape[1:]), first.dtype)
        self.n_rows = 0

    def append(self, rows: NDArray, token_axis: int | None = None) -> None:
        """Add rows; fewer tokens, or those that are there already, are padded by zeros."""
        if token_axis is not None and self._array.ndim == rows.ndim:
            length = max(rows.shape[token_axis], self._array.shape[token_axis])
            rows = _padded(rows, token_axis, length)
            self._array = _padded(self._array, token_axis, length)
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


def _padded(array: NDArray, axis: int, length: int) -> NDArray:
    if array.shape[axis] == length:
        return array
    padding = [(0, 0)] * array.ndim
    padding[axis] = (0, length - array.shape[axis])
    return np.pad(array, padding)


@cache
def _physical_memory() -> float:
    try:
        return os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    except (AttributeError, ValueError):  # unknown on this system
        return float("inf")
