"""The head of a torch network that the user names or gives."""

from __future__ import annotations

from collections.abc import Iterator
from typing import NoReturn

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from .._base import PENULTIMATE, GivenHead
from .heads import Search, widened
from .products import Product, rounding
from .recorded import Layer, Location, RecordedCall
from .why_no_head import explain_difference, explain_other_map

WantedHead = str | GivenHead
"""The parameter ``head``: "auto", the name of a module, or weight and bias themselves."""


def refuse_named(
    network: nn.Module, calls: list[RecordedCall], logits: Tensor, name: str
) -> NoReturn:
    """Raise a ValueError that says why the module of a name is not the head."""
    inside, everywhere = Search(network, calls, name), Search(network, calls)
    if name not in dict(network.named_modules()):
        known = [c.call.name for c in everywhere.linear_layers() if not c.is_product]
        raise ValueError(
            f"head={name!r} names no module of the network; its linear layers are {known[::-1]}."
        )
    product = next(inside.products(logits), None)
    if product is not None:
        raise ValueError(f"head={name!r} does not yield the logits: {_compare(product, logits)}.")
    raise ValueError(f"head={name!r} is no head: {_explain_call(inside, logits)}.")


def _explain_call(inside: Search, logits: Tensor) -> str:
    called = next(inside.linear_layers(), None)
    if called is None or called.output is None:
        return (
            "it is no linear layer that is called with one vector for each sample, and calls none"
        )
    n_classes = logits[0].numel()
    if n_classes not in called.output.shape[1:]:
        return f"it yields {called.output.shape[-1]} values, but the logits are {n_classes}"
    return explain_other_map(called)


def _compare(product: Product, logits: Tensor) -> str:
    values, outputs = widened(logits).reshape(len(logits), -1), widened(product.output)
    if outputs.shape != values.shape:
        return "none of its outputs for a sample, nor their mean, is the logits times a constant"
    off, largest = (values - outputs).abs().max(), values.abs().max()
    why = explain_difference(product, values) or "no constant scale makes up for that"
    return (
        f"its weight times its input plus its bias differs from them by up to {off:.3g}, where the "
        f"largest is {largest:.3g}, and {why}"
    )


def place_given(
    head: GivenHead, layers: dict[str, Layer], calls: list[RecordedCall], logits: Tensor
) -> tuple[list[str], dict[str, Layer]]:
    """The layers that a given head reads, and all layers, with one more where no other is it.

    Raises
    ------
    ValueError
        If there is none, or the head does not make the logits of it.
    """
    name = head.input_layer
    if name is not None and (name in layers or name != PENULTIMATE):
        _check_named(head, name, layers, logits)
    for number in reversed(range(len(calls))):
        for layer in _layers_at(calls[number]):
            if _yields(head, layer.value, logits):
                later = {id(c) for c in calls[number:]}
                first = {n: v for n, v in layers.items() if id(v.source) not in later}
                added = PENULTIMATE if PENULTIMATE not in layers else f"{PENULTIMATE}_input"
                layers = {**first, added: layer, **layers}
                return _equal_layers(layers, name or added), layers
    raise ValueError(_explain_unplaced(head, layers, logits))


def _equal_layers(layers: dict[str, Layer], name: str) -> list[str]:
    """The layers that have the very values of the one of a name."""
    value = layers[name].value
    return [
        other
        for other, layer in layers.items()
        if layer.value.shape == value.shape and torch.equal(layer.value, value)
    ]


def _layers_at(c: RecordedCall) -> Iterator[Layer]:
    """What a call yields and is given, each as a matrix."""
    if c.output is not None:
        yield Layer(c, Location(c.call.key, is_matrix=True), c.output.flatten(1))
    if c.input is not None:
        yield Layer(c, Location(c.call.key, True, c.index, True), c.input.flatten(1))


def _check_named(head: GivenHead, name: str, layers: dict[str, Layer], logits: Tensor) -> None:
    if name not in layers:
        raise ValueError(
            f"The LinearHead reads the layer {name!r}, but the network has none of this name; its "
            f"layers are {list(layers)}."
        )
    value = layers[name].value
    if value.ndim != 2 or not _yields(head, value, logits):
        raise ValueError(
            f"The LinearHead does not make the logits of the layer {name!r}: "
            f"{_how_far(head, value, logits)}."
        )


def _explain_unplaced(head: GivenHead, layers: dict[str, Layer], logits: Tensor) -> str:
    width = head.weight.shape[1]
    values = {n: layer.value for n, layer in layers.items() if layer.value[0].numel() == width}
    found = [f"of {name!r}, {_how_far(head, value, logits)}" for name, value in values.items()]
    return (
        f"The LinearHead reads {width} units, but there is no layer of the network that it makes "
        f"the logits of: {'; '.join(found) or f'none has {width} units'}."
    )


def _how_far(head: GivenHead, value: Tensor, logits: Tensor) -> str:
    made, _, values = _make(head, value, logits)
    if made is None:
        return (
            f"its weight has shape {tuple(head.weight.shape)}, but the layer has shape "
            f"{tuple(value.shape)} and the logits {tuple(logits.shape)}"
        )
    return (
        f"weight times values plus bias differs from the logits by up to "
        f"{(made - values).abs().max():.3g}, where the largest is {values.abs().max():.3g}"
    )


def _yields(head: GivenHead, value: Tensor, logits: Tensor) -> bool:
    made, size, values = _make(head, value, logits)
    if made is None or size is None:
        return False
    allowed = max(rounding(logits.dtype), rounding(value.dtype)) * size
    return bool(((made - values).abs() <= allowed).all())


def _make(
    head: GivenHead, value: Tensor, logits: Tensor
) -> tuple[Tensor | None, Tensor | None, Tensor]:
    """What the head makes of a value, its size without signs, and the logits to compare with."""
    values, features = widened(logits).reshape(len(logits), -1), widened(value).flatten(1)
    weight = torch.as_tensor(np.array(head.weight, np.float64))
    given = np.zeros(len(weight)) if head.bias is None else np.array(head.bias, np.float64)
    bias = torch.as_tensor(given)
    if values.shape[1] == 1 and len(weight) == 2:  # [0, z], the logits of two classes
        values = torch.cat([torch.zeros_like(values), values], dim=1)
    if features.shape[1] != weight.shape[1] or values.shape != (len(features), len(weight)):
        return None, None, values
    made = F.linear(features, weight, bias)
    return made, F.linear(features.abs(), weight.abs(), bias.abs()), values
