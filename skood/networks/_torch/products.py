"""Products of vectors with the weights of a torch network, as linear layers or by a function."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from .._base import LEAST_ROUNDING
from .recorded import RecordedCall, storage


@dataclass(frozen=True)
class WeightView:
    """Where a matrix or vector is found again in a network, whose values may have changed since."""

    module: str
    attribute: str
    size: tuple[int, ...]
    stride: tuple[int, ...]
    offset: int = 0
    """From the start of the attribute, in its memory."""
    factor: float = 1.0

    @classmethod
    def of(cls, module: str, attribute: str, held: Tensor, tensor: Tensor) -> WeightView:
        """The view of what an attribute holds that is, or is laid out like, a tensor."""
        shares = storage(held) == storage(tensor)
        offset = int(tensor.storage_offset() - held.storage_offset()) if shares else 0
        return cls(module, attribute, tuple(tensor.shape), tuple(tensor.stride()), offset)

    @property
    def transposed(self) -> WeightView:
        return replace(self, size=self.size[::-1], stride=self.stride[::-1])

    def read(self, network: nn.Module) -> Tensor:
        """The present values; a weight that is computed from others is computed anew."""
        held = getattr(network.get_submodule(self.module), self.attribute).detach()
        values = held.as_strided(self.size, self.stride, held.storage_offset() + self.offset)
        return values if self.factor == 1 else self.factor * values


@dataclass(frozen=True)
class Product:
    """A call whose output is ``vectors @ weight.T + bias``."""

    recorded: RecordedCall
    weight: WeightView
    """(n_outputs, n_units)."""
    bias: WeightView | None
    vectors: Tensor
    """(n_samples, ..., n_units)."""
    output: Tensor
    """(n_samples, ..., n_outputs)."""

    @property
    def name(self) -> str:
        return self.recorded.call.name

    @property
    def rounding(self) -> float:
        return rounding(self.output.dtype)


def rounding(dtype: torch.dtype) -> float:
    """Relative error that a product of this precision may have."""
    return max(4 * torch.finfo(dtype).eps, LEAST_ROUNDING)


def reads_rows(recorded: RecordedCall) -> bool:
    """Whether it may be a product with one vector for each sample."""
    if recorded.input is None or recorded.output is None or recorded.output.ndim < 2:
        return False
    if recorded.is_product or isinstance(recorded.call.called, nn.Linear):
        return recorded.input.ndim == 2
    return _is_pointwise(recorded.call.called) and recorded.input[0, 0].numel() == 1


def reads_positions(recorded: RecordedCall) -> bool:
    """Whether it may be a product with several vectors for each sample, such as one a token."""
    given = recorded.input
    if given is None or recorded.output is None or given.ndim < 3:
        return False
    is_linear = recorded.is_product or isinstance(recorded.call.called, nn.Linear)
    return is_linear or reads_map(recorded)


def reads_map(recorded: RecordedCall) -> bool:
    """Whether it may be a product with the vector of each place of a map, units first."""
    called: Any = recorded.call.called
    return _is_pointwise(called) and not reads_rows(recorded) and set(called.stride) == {1}


def _is_pointwise(module: Any) -> bool:
    """Whether it is a convolution of one position."""
    return (
        isinstance(module, nn.Conv1d | nn.Conv2d | nn.Conv3d)
        and module.groups == 1
        and set(module.kernel_size) == {1}
        and (isinstance(module.padding, str) or not any(module.padding))
    )


def as_product(recorded: RecordedCall, network: nn.Module) -> Product | None:
    """A call as the product that it is, or None."""
    given, got = recorded.input, recorded.output
    if given is None or got is None or not got.is_floating_point():
        return None
    if not (recorded.is_product or isinstance(recorded.call.called, nn.Linear)):
        if reads_map(recorded):
            given, got = given.movedim(1, -1), got.movedim(1, -1)
        else:
            given, got = given.flatten(1), got.flatten(1)
    for weight, bias in _factors(recorded, network):
        added = None if bias is None else bias.read(network)
        if _is_product(given, weight.read(network), added, got):
            return Product(recorded, weight, bias, given, got)
    if recorded.call.called == "addmm":
        return _scaled_product(recorded, network, given, got)
    return None


def _scaled_product(
    recorded: RecordedCall, network: nn.Module, given: Tensor, got: Tensor
) -> Product | None:
    """A call that takes constants, which multiply the product and the bias, as a product."""
    for weight, bias in _factors(recorded, network):
        held = weight.read(network)
        if bias is None or held.shape != (got.shape[-1], given.shape[-1]):
            continue
        product = F.linear(given.double(), held.double())
        terms = [product, bias.read(network).double().expand_as(product)]
        matrix = torch.stack([term.flatten() for term in terms], dim=1)
        of_product, of_bias = torch.linalg.lstsq(matrix, got.double().flatten()[:, None]).solution
        weight, bias = (
            replace(weight, factor=float(of_product)),
            replace(bias, factor=float(of_bias)),
        )
        if _is_product(given, weight.read(network), bias.read(network), got):
            return Product(recorded, weight, bias, given, got)
    return None


def _factors(
    recorded: RecordedCall, network: nn.Module
) -> Iterator[tuple[WeightView, WeightView | None]]:
    """What the weight, of either orientation, and the bias of a call may be."""
    name, called = recorded.call.name, recorded.call.called
    if isinstance(called, nn.Module):
        weight, bias = linear_map(called)
        found = None if bias is None else WeightView.of(name, "bias", bias, bias)
        held: Any = called.weight
        yield WeightView.of(name, "weight", held, weight), found
        return
    others = [v for number, v in enumerate(recorded.call.inputs) if number != recorded.index]
    views = [view for value in others if (view := view_of(value, network)) is not None]
    if len(views) == 1 and len(views[0].size) == 1:
        views = [replace(views[0], size=(1, *views[0].size), stride=(1, *views[0].stride))]
    biases: list[WeightView | None] = [view for view in views if len(view.size) == 1]
    for view in views:
        if len(view.size) == 2:
            yield from ((view, bias) for bias in biases or [None])
            yield from ((view.transposed, bias) for bias in biases or [None])


def view_of(tensor: Tensor, network: nn.Module) -> WeightView | None:
    """Where the network holds a tensor, be it as a view, a cast or a computed weight of its own."""
    for module, attribute, held in own_tensors(network):
        if storage(held) == storage(tensor):
            return WeightView.of(module, attribute, held, tensor)
    for module, attribute, held in (*own_tensors(network), *_computed_weights(network)):
        for laid_out in (held, held.T) if held.ndim == 2 else (held,):
            if laid_out.shape == tensor.shape and torch.equal(laid_out.to(tensor.dtype), tensor):
                return WeightView.of(module, attribute, held, laid_out)
    return None


def own_tensors(network: nn.Module) -> Iterator[tuple[str, str, Tensor]]:
    """Parameters and buffers, with the names of their modules and attributes."""
    for name, module in network.named_modules():
        for attribute, held in (*module._parameters.items(), *module._buffers.items()):
            if held is not None:
                yield name, attribute, held.detach()


def _computed_weights(network: nn.Module) -> Iterator[tuple[str, str, Tensor]]:
    """Weights that parametrisations compute."""
    for name, module in network.named_modules():
        if nn.utils.parametrize.is_parametrized(module):
            for attribute in module.parametrizations:
                yield name, attribute, getattr(module, attribute).detach()


def linear_map(module: Any) -> tuple[Tensor, Tensor | None]:
    """Weight, (n_outputs, n_inputs), and bias of a linear layer or convolution of one position."""
    return module.weight.detach().flatten(1), module.bias


def _is_product(vectors: Tensor, weight: Tensor, bias: Tensor | None, got: Tensor) -> bool:
    """Whether the values are the product, within rounding."""
    if weight.shape != (got.shape[-1], vectors.shape[-1]) or not weight.is_floating_point():
        return False
    vectors, weight = vectors.to(got.dtype), weight.to(got.dtype)
    bias = torch.zeros_like(weight[:, 0]) if bias is None else bias.to(got.dtype)
    if bias.shape != weight.shape[:1]:
        return False
    wide = torch.promote_types(got.dtype, torch.float32)
    product = F.linear(vectors, weight, bias)
    if product.shape != got.shape:
        return False
    # What the sum would be without signs, for what rounding may do to it.
    size = F.linear(*(term.abs().to(wide) for term in (vectors, weight, bias)))
    return bool(((product - got).abs().to(wide) <= rounding(got.dtype) * size).all())
