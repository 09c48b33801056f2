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
    network: nn.Module, calls: list[RecordedCall], logits: Tensor | None, name: str
) -> NoReturn:
    """Raise a ValueError that says why the module of a name is not the head."""
    inside, everywhere = Search(network, calls, name), Search(network, calls)
    if name not in dict(network.named_modules()):
        known = [c.call.name for c in everywhere.linear_layers() if not c.is_product]
        raise ValueError(
            f"head={name!r} names no module of the network; its linear layers are {known[::-1]}."
        )
    if logits is None:
        raise ValueError(
            f"head={name!r} needs logits, but the network returns nothing that could be the logits."
        )
    product = next(inside.products(logits), None)
    if product is not None:
        raise ValueError(f"head={name!r} does not yield the logits: {_compare(product, logits)}.")
    called = next(inside.linear_layers(), None)
    why = (
        "it is not called with one vector for each sample, to yield a value for each class"
        if called is None or called.output is None or called.output.shape[-1] != logits[0].numel()
        else explain_other_map(called)
    )
    raise ValueError(f"head={name!r} is no head: {why}.")


def _compare(product: Product, logits: Tensor) -> str:
    values, outputs = widened(logits).flatten(1), widened(product.output)
    if outputs.shape != values.shape:
        return "none of its outputs for a sample, nor their mean, is the logits times a constant"
    off, largest = (values - outputs).abs().max(), values.abs().max()
    why = explain_difference(product, values) or "no constant scale makes up for that"
    return (
        f"its weight times its input plus its bias differs from them by up to {off:.3g}, where the "
        f"largest is {largest:.3g}, and {why}"
    )


def place_given(
    head: GivenHead, layers: dict[str, Layer], calls: list[RecordedCall], logits: Tensor | None
) -> list[str]:
    """The layers that a given head reads; adds the one where no other is it.

    Raises
    ------
    ValueError
        If there is none, or the head does not make the logits of it.
    """
    if logits is None:
        raise ValueError(
            "A LinearHead is given, but the network returns nothing that could be the logits."
        )
    if head.input_layer is not None:
        return [_check_named(head, layers, logits)]
    found = [name for name, layer in layers.items() if _yields(head, layer.value, logits)]
    flat = [name for name in found if layers[name].value.ndim == 2]
    if flat:
        return flat
    for c in reversed(calls):
        for value, location in _values_of(c):
            if value is not None and _yields(head, value, logits):
                layers[PENULTIMATE] = Layer(c, location, value.flatten(1))
                return [PENULTIMATE]
    raise ValueError(_explain_unplaced(head, layers, logits))


def _values_of(c: RecordedCall) -> Iterator[tuple[Tensor | None, Location]]:
    yield c.output, Location(c.call.key, is_matrix=True)
    yield c.input, Location(c.call.key, True, c.index, True)


def _check_named(head: GivenHead, layers: dict[str, Layer], logits: Tensor) -> str:
    name = str(head.input_layer)
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
    return name


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
    values, features = widened(logits).flatten(1), widened(value).flatten(1)
    weight = torch.as_tensor(np.array(head.weight, np.float64))
    bias = (
        torch.zeros(len(weight))
        if head.bias is None
        else torch.as_tensor(np.array(head.bias, np.float64))
    )
    if values.shape[1] == 1 and len(weight) == 2:  # [0, z], the logits of two classes
        values = torch.cat([torch.zeros_like(values), values], dim=1)
    if features.shape[1] != weight.shape[1] or values.shape != (len(features), len(weight)):
        return None, None, values
    made = F.linear(features, weight, bias.double())
    return made, F.linear(features.abs(), weight.abs(), bias.double().abs()), values
