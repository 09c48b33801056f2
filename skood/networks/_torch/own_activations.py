"""Activation functions that are not torch's own, found by what they do."""

from __future__ import annotations

from collections.abc import Mapping
from contextlib import suppress

import torch
from torch import Tensor, nn

from .calls import ACTIVATION_FUNCTIONS, SQUASHING_FUNCTIONS
from .expressions import find_expressions
from .flow import ELEMENTWISE, MULTIPLICATIONS, Flow, Node
from .recorded import RecordedCall


def find_own_activations(
    calls: list[RecordedCall], flow: Flow, nodes: Mapping[int, Node]
) -> set[tuple[str, int]]:
    """Keys of calls that are activation functions without being called by such a name.

    Modules without parameters that treat each value on its own; products of a value and a gate
    that is computed of it alone; and the ends of expressions. ``nodes`` lead to the output.
    """
    known: dict[int, bool] = {}
    expressions = find_expressions(nodes)
    found = set()
    # A module that returns what such a function yields is no other layer.
    yielded = {c.output_key for c in calls if c.is_activation}
    for c in calls:
        node = flow.ends[c.call.key].output if c.call.key in flow.ends else None
        if node is None or c.output is None or not node.is_variable:
            continue
        if isinstance(c.call.called, nn.Module):
            called = c.call.called
            if id(called) not in known:
                known[id(called)] = _may_bend(c) and bends_each_value(called, c.input)
            is_one = known[id(called)] and c.output_key not in {c.input_key, *yielded}
        else:
            is_one = node.number in expressions or _is_self_gated(node)
        if is_one:
            found.add(c.call.key)
    return found


def _may_bend(c: RecordedCall) -> bool:
    module = c.call.called
    return (
        isinstance(module, nn.Module)
        and not type(module).__module__.startswith("torch.")
        and not any(True for _ in module.parameters())
        and len(c.call.inputs) == 1
        and c.input is not None
        and c.output is not None
        and c.input.is_floating_point()
        and c.input.shape == c.output.shape
    )


def bends_each_value(module: nn.Module, given: Tensor | None) -> bool:
    """Whether a module treats each value on its own, and not by a linear function."""
    if given is None:
        return False
    with suppress(Exception), torch.no_grad():  # whatever a module does with other inputs
        result = module(given.clone())
        changed = given.clone().flatten()
        changed[::3] = changed[::3] * 1.5 + 1
        moved = module(changed.reshape(given.shape)).flatten()
        kept = torch.arange(len(moved), device=moved.device) % 3 > 0
        if not torch.equal(moved[kept], result.flatten()[kept]):
            return False
        zero, double, negative = (module(factor * given) for factor in (0, 2, -1))
        is_linear = _are_close(double - result, result - zero)
        return not (is_linear and _are_close(result - zero, zero - negative))
    return False


def _are_close(one: Tensor, other: Tensor) -> bool:
    return torch.allclose(one, other, rtol=1e-3, atol=1e-5)


def _is_self_gated(node: Node) -> bool:
    """Whether a product is of a value and a gate that is computed of it, value by value."""
    sides = node.variables if node.function in MULTIPLICATIONS else []
    if len(sides) != 2 or sides[0].shape != sides[1].shape:
        return False
    return any(
        _is_gate_of(gate, side) for side, gate in ((sides[0], sides[1]), (sides[1], sides[0]))
    )


def _is_gate_of(gate: Node, side: Node) -> bool:
    sources = {side.number}
    while len(side.variables) == 1 and side.function in MULTIPLICATIONS:  # scaled
        side = side.variables[0]
        sources.add(side.number)
    waiting, squashes = [gate], False
    while waiting:
        node = waiting.pop()
        if node.number in sources:
            continue
        if node.function not in ELEMENTWISE | SQUASHING_FUNCTIONS:
            return False
        squashes |= node.function in ACTIVATION_FUNCTIONS or node.function == "erf"
        waiting.extend(node.variables)
    return squashes
