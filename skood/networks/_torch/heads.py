"""Which call of a torch network yields its logits, and whether it is a linear map."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from math import log2
from typing import NamedTuple

import torch
from torch import Tensor, nn

from .._base import have_one_length
from .memory import as_array
from .products import (
    Product,
    WeightView,
    as_product,
    own_tensors,
    reads_map,
    reads_positions,
    reads_rows,
    rounding,
)
from .recorded import Location, Positions, RecordedCall, content_key, last

Probe = Callable[[list[RecordedCall], float], Tensor | None]
"""Runs the network again with the outputs of calls multiplied by a factor, and returns the logits
then, or None."""


@dataclass(frozen=True)
class Head:
    """A linear map that yields the logits, ``scale * (input @ weight.T + bias) + shift``."""

    location: Location
    """Of what it is given."""
    weight: WeightView
    bias: WeightView | None
    scale: float = 1.0
    shift: tuple[float, WeightView] | None = None
    """What is added later: a factor of a vector."""
    rounding: float = 0.0
    """Relative error that the product may have."""

    def read(self, network: nn.Module) -> tuple[Tensor, Tensor | None]:
        """Copies of the present weight and bias."""
        weight = self.scale * self.weight.read(network)
        bias = None if self.bias is None else self.scale * self.bias.read(network)
        if self.shift is not None:
            factor, vector = self.shift
            shift = factor * vector.read(network)
            bias = shift if bias is None else bias + shift
        return weight, bias

    def pick(self, logits: Tensor, vectors: Tensor, outputs: Tensor) -> Tensor:
        """Of several vectors for each sample, the last of those that yield its logits best.

        Or the mean of a run of them that does.
        """
        outputs, vectors = outputs.flatten(1, -2).to(logits.dtype), vectors.flatten(1, -2)
        logits = logits.reshape(len(logits), 1, -1)
        if self.location.positions is Positions.RUN:
            shares = _runs(outputs)
            off = (self.scale * (shares @ outputs) - logits).abs().amax(2)
            return (shares.to(vectors)[off.argmin(1)][:, None] @ vectors)[:, 0]
        off = (self.scale * outputs - logits).abs().amax(2)
        near = off.amin(1, keepdim=True) + rounding(logits.dtype) * logits.abs().amax(2)
        number = torch.arange(off.shape[1], device=off.device)
        picked = torch.where(off <= near, number, 0).amax(1)
        return vectors[torch.arange(len(off), device=off.device), picked]


class Found(NamedTuple):
    """The call that is the head, what it is given, and the head."""

    recorded: RecordedCall
    features: Tensor
    head: Head

    def is_cosine(self, network: nn.Module) -> bool:
        """Whether it multiplies vectors of length one by vectors of one length."""
        if self.head.bias is not None or not have_one_length(as_array(widened(self.features)), 1.0):
            return False
        return have_one_length(as_array(widened(self.head.read(network)[0])))


class Fit(NamedTuple):
    """How logits come from the outputs of a product."""

    scale: float
    positions: Positions | None = None
    shift: tuple[float, WeightView] | None = None

    def apply(self, outputs: Tensor, network: nn.Module) -> Tensor:
        """The logits, or each vector that may be those of its sample, (n_samples, ..., n)."""
        if self.positions is Positions.MEAN:
            outputs = outputs.flatten(1, -2).mean(1)
        elif self.positions is Positions.RUN:
            outputs = outputs.flatten(1, -2)
            outputs = _runs(outputs) @ outputs
        if self.shift is None:
            return self.scale * outputs
        factor, vector = self.shift
        return self.scale * outputs + factor * widened(vector.read(network))


class Search:
    """A recorded pass of a network, in which to look for the head.

    Parameters
    ----------
    network : torch.nn.Module
        The network.
    calls : list of RecordedCall
        All calls of the pass.
    within : str or None
        The module that must hold the head; None for any.
    """

    def __init__(
        self, network: nn.Module, calls: list[RecordedCall], within: str | None = None
    ) -> None:
        self._network = network
        self.calls = calls
        self._within = within

    def find(self, logits: Tensor, direct: RecordedCall | None, probe: Probe) -> Found | None:
        """The head: the product that yields the logits, which ``direct`` does if it is one."""
        is_known = direct is not None and self._is_within(direct)
        if direct is not None and is_known and (p := as_product(direct, self._network)) is not None:
            return _found(p, Fit(1.0), logits)
        for product in self.products(logits):
            fit = self.fit(logits, product.output)
            if fit is not None and self.stays(product, fit, probe):
                return _found(product, fit, logits)
        return None

    def products(self, logits: Tensor) -> Iterator[Product]:
        """The products that have as many outputs as there are logits, the last first."""
        n_classes = logits[0].numel()
        for c in self.linear_layers():
            if c.output is not None and n_classes in c.output.shape[1:]:
                product = as_product(c, self._network)
                if product is not None and product.output.shape[-1] == n_classes:
                    yield product

    def linear_layers(self) -> Iterator[RecordedCall]:
        """What multiplies by a weight, or seems to, the last first."""
        for c in reversed(self.calls):
            if self._is_within(c) and (reads_rows(c) or reads_positions(c)):
                yield c

    def fit(self, logits: Tensor, outputs: Tensor) -> Fit | None:
        """How logits come from the outputs of a product by a constant scale, or None."""
        allowed = _rounding(logits, outputs)
        logits, outputs = widened(logits).reshape(len(logits), -1), widened(outputs)
        if outputs.ndim > 2:
            is_sequence = outputs.ndim == 3
            return _fit_positions(logits, outputs.flatten(1, -2), allowed, is_sequence)
        if logits.shape != outputs.shape:
            return None
        scale = _scale(logits, outputs, allowed * outputs.abs())
        return self._fit_shift(logits, outputs, allowed) if scale is None else Fit(scale)

    def _fit_shift(self, logits: Tensor, outputs: Tensor, rounding: float) -> Fit | None:
        """Where a vector of the network is added, before or after scaling."""
        vectors = [
            (WeightView.of(module, attribute, held, held.flatten()), widened(held).flatten())
            for module, attribute, held in own_tensors(self._network)
            if held.is_floating_point() and held.numel() == logits.shape[1]
        ]
        for ways in (_unscaled, _scaled):
            for view, vector in vectors:
                for scale, factor in ways(logits, outputs, vector):
                    product, shift = scale * outputs, factor * vector
                    allowed = 2 * rounding * (product.abs() + shift.abs())
                    if scale and ((logits - product - shift).abs() <= allowed).all():
                        return Fit(scale, shift=(factor, view))
        return None

    def stays(self, product: Product, fit: Fit, probe: Probe) -> bool:
        """Whether logits come from a product in the same way where its output is another.

        A function that clips or bends may leave the values alone that there were.
        """
        largest = float(product.output.abs().max().clamp(min=1e-3))
        factor = -(2.0 ** round(log2(_LARGE / largest)))
        logits = probe(self._alike(product.recorded), factor)
        n_samples, *_, n_classes = product.output.shape
        if logits is None or logits.ndim == 0 or logits.numel() != n_samples * n_classes:
            return False
        rounded = _rounding(product.output, logits)
        logits, outputs = widened(logits), factor * widened(product.output)
        logits = logits.reshape(n_samples, 1, n_classes)
        expected = fit.apply(outputs, self._network).reshape(n_samples, -1, n_classes)
        allowed = rounded * abs(fit.scale * factor) * largest
        off = (expected - logits).abs()
        return bool((off <= allowed).all(2).any(1).all())

    def _alike(self, recorded: RecordedCall) -> list[RecordedCall]:
        """The calls of a module that yield the same, as after dropout that is switched off."""
        return [
            c
            for c in self.calls
            if c is recorded
            or (
                c.call.name == recorded.call.name
                and c.output is not None
                and recorded.output is not None
                and torch.equal(c.output, recorded.output)
            )
        ]

    def _is_within(self, recorded: RecordedCall) -> bool:
        name, module = recorded.call.name, self._within
        return module is None or name == module or name.startswith(f"{module}.")


_LARGE = 2.0**14
"""Far from what a network may clip at, and in the range of half precision."""
_MOST_ROUNDING = 1e-4
"""Half precision does not tell the means of runs that differ by one vector."""
_LONGEST_RUN = 1024


def _found(product: Product, fit: Fit, logits: Tensor) -> Found:
    recorded = product.recorded
    has_units_first = fit.positions is not None and reads_map(recorded)
    location = Location(
        recorded.call.key, True, recorded.index, True, fit.positions, has_units_first
    )
    rounding = _rounding(product.output) if fit == Fit(1.0) else _rounding(product.output, logits)
    head = Head(location, product.weight, product.bias, fit.scale, fit.shift, rounding)
    if fit.positions is None:
        features = product.vectors
    elif fit.positions.is_other_for_each:
        features = head.pick(logits, product.vectors, product.output)
    else:
        features = product.vectors.flatten(1, -2).mean(1)
    return Found(recorded, features, head)


def _fit_positions(
    logits: Tensor, outputs: Tensor, rounding: float, may_be_run: bool
) -> Fit | None:
    """How logits come from one of several outputs of each sample, or from a mean of them."""
    size = (outputs[0] ** 2).sum(1)
    ratios = (logits[0] * outputs[0]).sum(1) / size
    for scale in (1.0, *ratios[(size > 0) & (ratios != 0)].tolist()):
        off = (scale * outputs - logits[:, None]).abs()
        if (off <= rounding * (scale * outputs).abs()).all(2).any(1).all():
            return Fit(scale, Positions.ONE)
    # Samples of the same length do not show that padding is left out.
    if may_be_run and rounding <= _MOST_ROUNDING and outputs.shape[1] <= _LONGEST_RUN:
        shares = _runs(outputs)
        off = (shares @ outputs - logits[:, None]).abs()
        if (off <= rounding * (shares @ outputs.abs())).all(2).any(1).all():
            return Fit(1.0, Positions.RUN)
    scale = _scale(logits, outputs.mean(1), rounding * outputs.abs().mean(1))
    return None if scale is None else Fit(scale, Positions.MEAN)


def _runs(vectors: Tensor) -> Tensor:
    """The shares of several vectors in the mean of those up to each, and of those from each on."""
    ones = vectors.new_ones(vectors.shape[1], vectors.shape[1])
    shares = torch.cat([ones.tril(), ones.triu()])
    return shares / shares.sum(1, keepdim=True)


def _scale(logits: Tensor, outputs: Tensor, allowed: Tensor) -> float | None:
    """The number that outputs are multiplied by, up to differences that are allowed, or None."""
    for scale in (1.0, _ratio(logits, outputs)):
        if scale and ((logits - scale * outputs).abs() <= abs(scale) * allowed).all():
            return scale
    return None


def is_scaled_and_shifted(logits: Tensor, outputs: Tensor) -> bool:
    """Whether logits are a constant times the outputs of a product, plus the same for all."""
    if logits.shape != outputs.shape or len(logits) < 2:
        return False
    allowed = _rounding(logits, outputs)
    logits, outputs = widened(logits), widened(outputs)
    size = logits.abs() + logits.abs().mean(0) + outputs.abs() + outputs.abs().mean(0)
    return _scale(logits - logits.mean(0), outputs - outputs.mean(0), allowed * size) is not None


def _unscaled(logits: Tensor, outputs: Tensor, vector: Tensor) -> Iterator[tuple[float, float]]:
    """Factors of outputs and vector where one is added to the other."""
    yield from ((1.0, 1.0), (1.0, -1.0))


def _scaled(logits: Tensor, outputs: Tensor, vector: Tensor) -> Iterator[tuple[float, float]]:
    """Factors of outputs and vector where they are scaled afterwards, or the outputs before."""
    for sign in (1.0, -1.0):
        scale = _ratio(logits, outputs + sign * vector)
        yield scale, sign * scale
        yield _ratio(logits - sign * vector, outputs), sign


def _ratio(one: Tensor, other: Tensor) -> float:
    """The number that brings another matrix closest to one."""
    return float((one * other).sum() / (other**2).sum().clamp(min=1e-300))


def widened(values: Tensor) -> Tensor:
    """Values in double precision, to compare them."""
    # Not all devices have double precision.
    return values.detach().cpu().double()


def _rounding(*values: Tensor) -> float:
    return max(rounding(value.dtype) for value in values)


def find_source(
    calls: list[RecordedCall], output: Tensor | None
) -> tuple[RecordedCall | None, RecordedCall | None]:
    """The softmax or sigmoid that yields an output, and the linear layer that yields the logits."""
    if output is None:
        return None, None
    key: tuple | None = content_key(output)
    squashing = last(calls, lambda c: c.is_squashing and c.input is not None and _yields(c, output))
    if squashing is not None:
        key = squashing.input_key
    return squashing, last(calls, lambda c: reads_rows(c) and c.output_key == key)


def _yields(recorded: RecordedCall, output: Tensor) -> bool:
    """Whether an output is what a call yields, or a copy or cast of it."""
    if recorded.output_key == content_key(output):
        return True
    got = recorded.output
    if got is None or got.shape != output.shape:
        return False
    return torch.equal(got, output) or torch.equal(got.to(output.dtype), output)
