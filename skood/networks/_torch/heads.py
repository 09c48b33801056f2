"""Which call of a torch network yields its logits, and whether it is a linear map."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, cast

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from .._base import LEAST_ROUNDING
from .outputs import AUTO, BINARY, Path, Wanted, choose_output, name_output
from .recorded import RecordedCall, content_key, last


def find_path(
    returned: Any, wanted: Wanted, fits: Callable[[Tensor], bool], calls: list[RecordedCall]
) -> Path | None:
    if callable(wanted):
        return None
    if wanted not in (AUTO, BINARY):
        return name_output(returned, wanted)

    def last_linear(output: Tensor) -> RecordedCall | None:
        squashing, reader = find_source(calls, output)
        if reader is None or any(_reads_on(c, reader) for c in calls if c is not squashing):
            return None
        return reader

    return choose_output(returned, fits, last_linear)


def find_source(
    calls: list[RecordedCall], output: Tensor | None
) -> tuple[RecordedCall | None, RecordedCall | None]:
    """The softmax or sigmoid that yields an output, and the linear layer that yields the logits."""
    if output is None:
        return None, None
    key: tuple | None = content_key(output)
    squashing = last(calls, lambda c: c.is_squashing and c.output_key == key)
    if squashing is not None:
        key = squashing.input_key
    return squashing, last(calls, lambda c: reads_features(c) and c.output_key == key)


def explain_missing_head(
    calls: list[RecordedCall], logits: Tensor | None, candidate: RecordedCall | None
) -> str:
    """Why no linear layer is the head; empty where one is."""
    if logits is None:
        return "the network returns nothing that could be the logits"
    if candidate is None:
        linear = last(calls, reads_features)
        if linear is None:
            return "no module of the class Linear is called with one vector for each sample"
        return (
            f"the network does not return what its last linear layer {linear.call.name!r} yields, "
            "but something computed from it or beside it"
        )
    if not yields_product(candidate):
        return (
            f"the last linear layer {candidate.call.name!r} does not yield the product of its "
            "weight and input plus its bias: its class computes something else, or a hook "
            "changes it"
        )
    return ""


def linear_map(module: Any) -> tuple[Tensor, Tensor | None]:
    """Weight, (n_outputs, n_inputs), and bias of a linear layer or convolution of one position."""
    return module.weight.detach().flatten(1), module.bias


def reads_features(recorded: RecordedCall) -> bool:
    """Whether it is a linear layer that is given one vector for each sample.

    A convolution of one position with a kernel of one position is one too.
    """
    called, given = recorded.call.called, recorded.input
    if given is None:
        return False
    if isinstance(called, nn.Linear):
        return given.ndim == 2
    is_pointwise = isinstance(called, nn.Conv1d | nn.Conv2d | nn.Conv3d) and (
        called.groups == 1 and set(called.kernel_size) == {1} and not _pads(called)
    )
    return is_pointwise and given[0, 0].numel() == 1


def _pads(convolution: Any) -> bool:
    return not isinstance(convolution.padding, str) and any(convolution.padding)


def yields_product(recorded: RecordedCall) -> bool:
    """Whether a linear layer yields its weight times its input, plus its bias, at all."""
    if recorded.input is None or recorded.output is None or not recorded.output.is_floating_point():
        return False
    weight, bias = linear_map(recorded.call.called)
    given, got = recorded.input.flatten(1), recorded.output.flatten(1)
    if weight.shape != (got.shape[1], given.shape[1]) or not weight.is_floating_point():
        return False
    given, weight = given.to(got.dtype), weight.to(got.dtype)
    bias = torch.zeros_like(got[0]) if bias is None else bias.detach().to(got.dtype)
    wide = torch.promote_types(got.dtype, torch.float32)
    difference = (F.linear(given, weight, bias) - got).abs().to(wide)
    # What the sum would be without signs, for what rounding may do to it.
    scale = F.linear(*(term.abs().to(wide) for term in (given, weight, bias)))
    return bool((difference <= rounding(recorded) * scale).all())


def rounding(recorded: RecordedCall) -> float:
    """Relative error that a product of this precision may have."""
    return max(4 * torch.finfo(cast(Tensor, recorded.output).dtype).eps, LEAST_ROUNDING)


def _reads_on(recorded: RecordedCall, other: RecordedCall) -> bool:
    """Whether it is given the output of another call and yields something else."""
    return (
        other.output_key == recorded.input_key != recorded.output_key and not recorded.is_squashing
    )
