"""The network's part of an exported monitor: from inputs to activations."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
import torch
from sklearn.base import clone
from torch import Tensor, nn

from .._export_error import ExportError
from ..activations import Activations, Column
from ..extraction import KNOWN_MASKS, MARKS_PADDING, ActivationExtractor, Plan, mask_name
from ..networks import NetworkAdapter
from ..preprocessing import PoolingReducer
from ._arrays import Form
from ._pooling import pool_layer, shorten
from ._registry import form
from ._tensors import TensorActivations, TensorHead

_N_TRACED = 3


class ExtractionForm(Form):
    """Runs a network, and reads and reduces its layers.

    Parameters
    ----------
    extractor : ActivationExtractor
        Fitted.
    X : array-like, Tensor, Dataset, DataLoader or dict, default=None
        Inputs, of which a few tell what inputs are like; needed where the extractor was fitted on
        activations.
    """

    head_weight: Tensor
    head_bias: Tensor

    def __init__(self, extractor: ActivationExtractor, X: Any = None) -> None:
        super().__init__()
        _refuse(extractor)
        adapter = extractor._adapt()
        self.plan = _plan_of(extractor, adapter, X)
        self.names = list(extractor._template)
        self.mask, self.reducer = extractor.mask, extractor.reducer
        self.steps = nn.ModuleList(form(step) for step in adapter.steps)
        batch = draw_inputs(self.plan, _N_TRACED, extractor.mask)
        with adapter.untouched():
            layers = self.plan.layers
            self.network = adapter.as_module(batch, self.plan.trace, layers, self._read)
            head = adapter.head(self.plan.trace)
        self.has_head = head is not None
        if head is not None:
            weight, bias = head
            self.keep("head_weight", weight)
            self.keep("head_bias", np.zeros(len(weight)) if bias is None else bias)
        self.after = self._form_of_reducer(batch, adapter)

    def forward(self, *inputs: Tensor) -> TensorActivations:
        """Activations of inputs, of several one after the other."""
        for step in self.steps:
            inputs = (step(*inputs),)
        logits, codes, layers = self.network(*inputs)
        if logits is not None:
            logits = _widened(logits)
            codes = logits.argmax(dim=1) if codes is None else codes
        head = None
        if self.has_head:
            head = TensorHead(self.head_weight, self.head_bias, self.plan.head_input)
        named = self._named(inputs)
        mask = None if self.reducer is not None else self._mask(named)
        A = TensorActivations(layers, logits, codes, head, mask=mask)
        if self.after is not None:
            A = self.after(A)
        return A.select(self.names)

    def _named(self, inputs: tuple[Tensor, ...]) -> Any:
        names = list(self.plan.inputs)
        return inputs[0] if names == [None] else dict(zip(names, inputs, strict=True))

    def _read(self, layer: str, value: Tensor, inputs: Any) -> dict[str, Tensor]:
        """What is kept of a layer as soon as it has its value."""
        value = value.dequantize() if value.is_quantized else value
        name = self.plan.names[layer, "value"]
        if not isinstance(self.reducer, PoolingReducer):
            return {name: _widened(value.clone())}
        unit_axis, mask = self.plan.trace.unit_axes.get(layer, 1), self._mask(inputs)
        step = self.plan.trace.token_steps.get(layer, 0)
        if mask is not None and step > 1:
            mask = shorten(mask, value.shape[1 if unit_axis != 1 else 2], step)
        pooled = pool_layer(self.reducer, name, value, unit_axis, mask)
        return {key: _widened(array.clone()) for key, array in pooled.items()}

    def _mask(self, inputs: Any) -> Tensor | None:
        """True at tokens and False at padding; None where samples are no sequences."""
        given = inputs if isinstance(inputs, Mapping) else {self.plan.trace.sequence: inputs}
        name = mask_name(inputs, self.mask)
        if name is not None and given[name].ndim == 2:
            values = given[name]
            return values == 0 if name in MARKS_PADDING else values != 0
        if not self.plan.trace.takes_any_length:
            return None
        sequence = given.get(self.plan.trace.sequence, next(iter(given.values())))
        return torch.ones_like(sequence[(...,) + (0,) * (sequence.ndim - 2)], dtype=torch.bool)

    def _form_of_reducer(self, batch: Any, adapter: NetworkAdapter) -> nn.Module | None:
        """The form of a reducer that does not pool layer by layer as they come."""
        if self.reducer is None or isinstance(self.reducer, PoolingReducer):
            return None
        trace = self.plan.trace
        values: dict[str, Any] = {}
        with adapter.untouched():
            adapter.forward(batch, trace, self.plan.layers, values.__setitem__)
            columns = {
                self.plan.names[layer, "value"]: Column(
                    np.array(adapter.to_numpy(value)), unit_axis=trace.unit_axes.get(layer, 1)
                )
                for layer, value in values.items()
            }
        return form(clone(self.reducer).fit(Activations(columns)))


def _widened(value: Tensor) -> Tensor:
    """Half precision as single precision, as an adapter gives it to NumPy.

    So are booleans: those that stay as they are come from binarizers alone.
    """
    is_half = value.is_floating_point() and value.element_size() < 4
    return value.float() if is_half or value.dtype == torch.bool else value


def _refuse(extractor: ActivationExtractor) -> None:
    """Raise an ExportError where more is done than to run the network once."""
    parts = {
        "perturbation": "it takes gradients at the inputs",
        "gradients": "it takes gradients at the layers",
        "n_passes": "it draws what dropout leaves out",
    }
    for name, why in parts.items():
        if value := getattr(extractor, name):
            raise ExportError(
                f"ActivationExtractor cannot be exported with {name}={value!r}, since {why}, and a "
                "graph of tensors computes values alone."
            )


def _plan_of(extractor: ActivationExtractor, adapter: NetworkAdapter, X: Any) -> Plan:
    if extractor._plan is not None:
        return extractor._plan
    if X is None:
        raise ExportError(
            "The monitor was fitted on activations, which do not tell what inputs the network "
            "takes: pass some as X."
        )
    return extractor._make_plan(adapter, extractor._batches(adapter, X, reset=False))


def draw_inputs(plan: Plan, n_samples: int, mask: str | None = None) -> Any:
    """Inputs as the network takes them, of values within those that it was given in ``fit``."""
    random = np.random.default_rng(0)
    drawn = {name: kind.draw(n_samples, random) for name, kind in plan.inputs.items()}
    for name, values in drawn.items():
        # Where all is padding, there is nothing to pool.
        if name in KNOWN_MASKS or (name is not None and name == mask):
            values[:] = name not in MARKS_PADDING
    return drawn.get(None, drawn)
