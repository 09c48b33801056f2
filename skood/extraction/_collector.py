"""Collecting the values of the layers of a network, batch by batch."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from functools import partial
from typing import Any

import numpy as np
from numpy.typing import NDArray

from .._block_transform import cast
from .._blocks import BlockWriter
from .._labels import as_labels, label_kind, largest_logits
from .._layer_names import unit_axes
from .._pooling import fitting_mask
from .._row_table import OF_LAYER, RowTable
from ..activations import Activations, Column, LinearHead, PackedBits
from ._deliveries import Deliveries
from ._head_check import HeadCheck
from ._masks import Mask, shorten
from ._mode import Outcome, Source
from ._plan import Plan, as_columns
from ._reduction import reduce_activations

_WITHOUT_ROWS = "leave it out, and name the others by layers=[...]."
_NO_LOGITS = (
    "name the output that holds the logits by logits=, or give a function there that takes them "
    "from what the network returns."
)


class Collector:
    """Reduces the values of layers as they come, and stacks them.

    Parameters
    ----------
    reducer : transformer or None
        Called for each layer at once where it has ``pool_layers``, and otherwise for the
        Activations of each batch.
    deliveries : Deliveries
        Makes arrays of the values of the network.
    n_samples : int or None
        Number of samples to expect, where known.
    plan : Plan
        What comes, and what it is called.
    predict : callable
        Makes numbers of classes of logits; None where these are those of the largest logits.
    head : LinearHead, default=None
        The head of the network, which may not yield the logits of all samples.
    classes : ndarray, default=None
        Labels of the columns of the logits.
    head_rounding : float, default=0
        What rounding may do to logits that the head makes.
    dtype : dtype, default=None
        Type of the values of layers that are floating-point numbers; by default their own.
    writer : BlockWriter, default=None
        Where the rows go; by default they stay in memory as long as it holds them.
    """

    def __init__(
        self,
        reducer: Any,
        deliveries: Deliveries,
        n_samples: int | None,
        plan: Plan,
        predict: Callable[[Any], NDArray | None] = lambda logits: None,
        *,
        head: LinearHead | None = None,
        classes: NDArray | None = None,
        head_rounding: float = 0.0,
        dtype: np.dtype | None = None,
        writer: BlockWriter | None = None,
    ) -> None:
        self._reducer = reducer
        self._deliveries = deliveries
        self._plan = plan
        self._predict = predict
        self._head, self._classes = head, classes
        self._dtype = dtype
        self._table = RowTable(n_samples, writer)
        self._batch: dict[Source, NDArray] = {}
        self._layers: dict[str, None] = {}
        self._n_bits: dict[str, int] = {}
        self._features: NDArray | None = None
        self._check = HeadCheck(head, head_rounding, writer)
        self._kind_of_labels: str | None = None
        self._mask: Mask | None = None
        self._mask_of_values: Mask | None = None
        written = writer.blocks if writer is not None else []
        self._n_masked = sum(block.n_samples for block in written if "mask" in block.pieces)

    def begin_batch(self, mask: Mask | None) -> None:
        """Say which tokens of the batch that comes are no padding, where there are tokens."""
        self._mask_of_values = mask
        self._deliveries.then(partial(setattr, self, "_mask", self._deliveries.kept(mask)))

    def keep(self, source: Source, value: Any) -> None:
        """Take what is extracted of a layer for the current batch; nothing of it is shared."""
        name, unit_axis = self._plan.names[source], self._plan.trace.unit_axes.get(source[0], 1)
        if self._reducer is None:
            self._store_later(name, value, unit_axis)
        elif hasattr(self._reducer, "pool_layers"):
            step = self._plan.trace.token_steps.get(source[0], 0)
            mask = self._mask_of_values
            pooled = pooled_by(self._reducer, name, value, unit_axis, step, mask)
            for pooled_name, part in pooled.items():
                self._store_later(pooled_name, part)
        else:
            self._batch[source] = np.array(self._deliveries.array(value))

    def _store_later(self, name: str, value: Any, unit_axis: int = 1) -> None:
        receive = self._deliveries.send(value)
        self._deliveries.then(lambda: self._store(name, receive(), unit_axis))

    def end_batch(
        self,
        n_rows: int,
        outcome: Outcome,
        labels: NDArray | None,
        about: Mapping[str, Any] | None = None,
    ) -> None:
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
        of_logits, of_passes = map(self._deliveries.send, (logits, passes))
        labels = self._deliveries.kept(labels)
        self._deliveries.then(
            lambda: self._close(n_rows, of_logits(), of_passes(), predicted, labels, about)
        )
        self._deliveries.end_batch()

    def _close(
        self,
        n_rows: int,
        logits: NDArray | None,
        passes: NDArray | None,
        predicted: NDArray | None,
        labels: NDArray | None,
        about: Mapping[str, Any] | None,
    ) -> None:
        """Add what a batch yields beside its layers, which were added."""
        if logits is not None:
            self._table.append("logits", logits)
        if self._batch:
            layers = as_columns(self._batch, self._plan.names, self._plan.trace)
            batch = Activations(layers, logits=logits, predictions=predicted, mask=self._mask)
            self._batch = {}
            self._store_reduced(reduce_activations(self._reducer, batch))
        elif self._reducer is None:
            self._store_mask(self._mask)
        if passes is not None:
            self._store(self._plan.passes_name, passes)
        if predicted is not None:
            self._table.append("predictions", self._as_classes(predicted, logits))
        self._store_labels(labels)
        self._check_rows(n_rows, logits)
        n_wrong = self._check.count(self._features, logits)
        self._features = None
        self._table.end_batch(n_rows, {**(about or {}), "n_without_head": n_wrong})

    def _check_rows(self, n_rows: int, logits: NDArray | None) -> None:
        n_expected = self._table.n_rows + n_rows
        names = [OF_LAYER + name for name in self._layers] + ["logits"] * (logits is not None)
        for name in names:
            if (n_found := self._table.n_rows_of(name)) != n_expected:
                what, advice = f"Layer {name.removeprefix(OF_LAYER)!r}", _WITHOUT_ROWS
                if name == "logits":
                    what, advice = "What is taken for the logits", _NO_LOGITS
                raise ValueError(
                    f"{what} must have a row for each sample, but has {n_found} rows after "
                    f"{n_expected} samples: {advice}"
                )

    def _as_classes(self, predicted: NDArray, logits: NDArray | None) -> NDArray:
        """Labels of the classes of given numbers, where they are those of the logits."""
        classes = self._classes_of(logits)
        return predicted if classes is None else as_labels(classes, "classes")[predicted]

    def _classes_of(self, logits: Any) -> NDArray | None:
        classes = self._classes
        if classes is None or logits is None or len(classes) != logits.shape[1]:
            return None
        return classes

    def _store_labels(self, labels: NDArray | None) -> None:
        """Store labels, unless they are of another kind than before."""
        if labels is None:
            return
        kind = self._kind_of_labels = self._kind_of_labels or label_kind(labels)
        if label_kind(labels) == kind:
            self._table.append("labels", labels)

    def _store_mask(self, mask: Mask | None) -> None:
        if mask is not None:
            self._n_masked += len(mask)
            self._table.append("mask", mask, token_axis=1)

    def _store_reduced(self, reduced: Activations) -> None:
        axes, self._mask = unit_axes(reduced), reduced.mask
        for name, values in reduced.items():
            self._store(name, values, axes[name])
        self._store_mask(self._mask)

    def _predicted_by(self, logits: Any, logits_before: Any) -> NDArray | None:
        """Predictions, where they are not those of the largest of the logits."""
        decisive = logits if logits_before is None else logits_before
        predicted = None if decisive is None else self._predict(decisive)
        if predicted is None and logits_before is not None:
            return largest_logits(self._deliveries.array(logits_before))
        return predicted

    def _store(self, name: str, values: NDArray | PackedBits, unit_axis: int = 1) -> None:
        if isinstance(values, PackedBits):
            self._n_bits[name] = values.n_bits
            values = values.words
        if name == self._plan.head_input:
            # The network may write over its own values.
            self._features = values if self._head is None else np.array(values)
        self._layers[name] = None
        values = cast(name, values, self._dtype, self._table.n_rows)
        self._table.append(OF_LAYER + name, values, self._token_axis(values, unit_axis))

    def _token_axis(self, values: NDArray, unit_axis: int) -> int | None:
        """The axis of the tokens that the mask is about; None where there is none."""
        if self._mask is None or values.ndim != 3:
            return None
        axis = 3 - unit_axis
        return axis if values.shape[axis] == self._mask.shape[1] else None

    def collect(self) -> Activations:
        """All that was kept; head and classes only where they belong to the logits."""
        self._deliveries.finish()
        arrays = self._table.finish()
        layers = {
            (name := key.removeprefix(OF_LAYER)): self._column(name, array)
            for key, array in arrays.items()
            if key.startswith(OF_LAYER)
        }
        logits, has_logits = arrays.get("logits"), "logits" in arrays
        labels, mask = arrays.get("labels"), self._all_masks(layers, arrays.get("mask"))
        head = self._head if has_logits else None
        missing = ([] if head is not None else ["head"]) + ([] if has_logits else ["logits"])
        extracted = Activations(
            layers,
            logits=logits,
            predictions=arrays.get("predictions"),
            head=head,
            classes=self._classes_of(logits),
            labels=labels,
            why_missing=self._why_missing(missing),
            mask=mask,
        )
        return self._check.without_false_head(extracted)

    def _why_missing(self, parts: list[str]) -> dict[str, str]:
        """Why parts are not there, as far as that is known."""
        trace = self._plan.trace
        why = {"head": trace.why_no_head or trace.why_no_logits, "logits": trace.why_no_logits}
        return {part: why[part] for part in parts if why[part]}

    def _column(self, name: str, array: Any) -> Column:
        known = self._plan.template.get(name)
        n_bits = self._n_bits.get(name)
        if known is not None and known.is_packed:
            n_bits = known.n_units
        values = array if n_bits is None else PackedBits._of(array, n_bits)
        return Column(values) if known is None else known.with_array(values)

    def _all_masks(self, layers: dict[str, Column], mask: Any) -> Any:
        """The masks of all batches, where there are layers that may need them.

        Raises
        ------
        ValueError
            If some batches have a mask and others have none.
        """
        if not self._n_masked or all(len(column.shape) < 3 for column in layers.values()):
            return None
        if self._n_masked < self._table.n_rows:
            raise ValueError(
                f"The inputs say what is padding for {self._n_masked} of {self._table.n_rows} "
                "samples, and nothing for the others: give a mask for all of them."
            )
        return mask


def pooled_by(
    reducer: Any, name: str, value: Any, unit_axis: int, step: int, mask: Mask | None
) -> dict[str, Any]:
    """What a reducer with ``pool_layers`` makes of the value of a layer, as soon as it is there.

    Parameters
    ----------
    reducer : transformer
        The reducer.
    name : str
        Name of the column.
    value : array or tensor
        The value.
    unit_axis : int
        Its axis of units.
    step : int
        For how many tokens of the inputs each of its own stands, if for several.
    mask : ndarray or None
        Which tokens of the inputs are no padding, where there are tokens.
    """
    # Swapping neighbours until the units come second leaves all others in order.
    for axis in range(unit_axis, 1, -1):
        value = value.swapaxes(axis - 1, axis)
    if mask is not None and step > 1:
        mask = shorten(mask, value.shape[2], step)
    are_tokens = unit_axis != 1 or fitting_mask(mask, value) is not None
    if are_tokens and hasattr(reducer, "pool_tokens"):
        return dict(reducer.pool_tokens({name: value}, mask))
    return dict(reducer.pool_layers({name: value}))
