"""Pooling of maps and tokens in tensors."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from .._export_error import ExportError
from .._pooling import ENDS, pool
from ..preprocessing import PoolingReducer
from ._arrays import Form
from ._registry import form_of
from ._tensors import TensorActivations


def pool_layer(
    reducer: PoolingReducer, name: str, layer: Tensor, unit_axis: int, mask: Tensor | None
) -> dict[str, Tensor]:
    """What a reducer makes of one layer.

    Parameters
    ----------
    reducer : PoolingReducer
        With its parameters; it need not be fitted.
    name : str
        Name of the layer.
    layer : Tensor of shape (n_samples, ...)
        Its values.
    unit_axis : int
        Where the units are.
    mask : Tensor of shape (n_samples, n_tokens), dtype bool, or None
        False at padding. None where samples are no sequences.
    """
    units_second = layer if unit_axis == 1 else layer.movedim(unit_axis, 1)
    if mask is None and unit_axis != 1:
        return reducer.pool_tokens({name: units_second}, None)
    fits = mask is not None and layer.ndim == 3 and units_second.shape[2] == mask.shape[1]
    if mask is None or not fits:
        return reducer.pool_layers({name: units_second})
    if reducer.output_size != 1:
        raise ExportError(
            "PoolingReducer cannot be exported with output_size above 1 for sequences with "
            "padding: their cells differ in size from one sample to the next."
        )
    poolings = reducer._poolings()
    names = [name] if len(poolings) == 1 else [f"{name}:{pooling}" for pooling in poolings]
    pairs = zip(names, poolings, strict=True)
    return {key: _pool_tokens(units_second, pooling, mask) for key, pooling in pairs}


def _pool_tokens(layer: Tensor, pooling: str, mask: Tensor) -> Tensor:
    """Pool (n_samples, n_units, n_tokens) over the tokens that are no padding."""
    if pooling == "flatten":
        pooled: Tensor = pool(layer, pooling)
        return pooled
    if pooling in ENDS:
        return _take_end(layer, pooling, mask)
    inside = mask[:, None]
    if pooling == "max":
        return torch.where(inside, layer, _take_end(layer, "first", mask)[:, :, None]).amax(dim=2)
    kept = torch.where(inside, layer, 0)
    if pooling == "avg":
        kept = kept / mask.sum(dim=1).to(kept.dtype)[:, None, None]
    return kept.sum(dim=2)


def _take_end(layer: Tensor, pooling: str, mask: Tensor) -> Tensor:
    """The first or last token of each row that is no padding."""
    tokens = torch.arange(layer.shape[2], device=layer.device)
    last = layer.shape[2] - 1
    if pooling == "first":
        places = torch.where(mask, tokens, last).amin(dim=1)
    else:
        places = torch.where(mask, tokens, 0).amax(dim=1)
    index = places[:, None, None].expand(-1, layer.shape[1], 1)
    return layer.gather(2, index)[:, :, 0]


def shorten(mask: Tensor, n_tokens: int, step: int) -> Tensor:
    """The mask of a layer, of which each token stands for some of the inputs, one after the other.

    It is no padding if one of these is none.
    """
    n_known = min(n_tokens * step, mask.shape[1])
    filled = torch.nn.functional.pad(mask[:, :n_known], (0, n_tokens * step - n_known))
    shorter = filled.reshape(-1, n_tokens, step).any(dim=2)
    is_last = torch.arange(n_tokens, device=mask.device) == n_tokens - 1
    # Of what the network leaves out at the end.
    return shorter | (~shorter.any(dim=1, keepdim=True) & is_last)


@form_of(PoolingReducer)
class PoolingForm(Form):
    """Pools all layers of activations."""

    def __init__(self, reducer: PoolingReducer) -> None:
        super().__init__()
        self.reducer = reducer
        known: Any = getattr(reducer, "_known_columns", None)
        self.said = {} if known is None else known.said

    def forward(self, A: TensorActivations) -> TensorActivations:
        """The same samples, pooled."""
        pooled: dict[str, Tensor] = {}
        for name, layer in A.layers.items():
            said = self.said.get(name, {})
            if layer.ndim == 2 or said.get("kind") == "pass":
                pooled[name] = layer
            else:
                axis = said.get("unit_axis", 1)
                pooled |= pool_layer(self.reducer, name, layer, axis, A.mask)
        without_mask = A.with_layers(pooled)
        without_mask.mask = None
        return without_mask
