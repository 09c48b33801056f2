"""Which layers of a torch network "auto" stands for."""

from __future__ import annotations

from collections import defaultdict
from dataclasses import dataclass
from itertools import chain
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn

from .._spread import spread_beside
from .flow import Flow, Node, ancestors, nearest_layers
from .gates import find_gates
from .own_activations import find_own_activations
from .recorded import Layer, RecordedCall
from .residual import Blocks, find_blocks, follow

LOGITS = "the logits, or what becomes them without another layer"
ONE_VALUE = "the one value a sample that the network returns, or what becomes it"


class Choice(NamedTuple):
    """What "auto" stands for, in forward order, and what it leaves out, with the reasons."""

    layers: list[str]
    left_out: dict[str, str]


class Candidates(NamedTuple):
    """What "auto" may stand for, found before the layers are named."""

    blocks: Blocks
    own_activations: set[tuple[str, int]]
    gates: set[int]
    """Numbers of the values that only serve to multiply others."""

    @property
    def functions(self) -> set[tuple[str, int]]:
        """Keys of calls of functions that are layers because of this."""
        return self.own_activations | set(self.blocks.sums)


def find_candidates(calls: list[RecordedCall], flow: Flow, returned: Any) -> Candidates:
    """Blocks, and activation functions that are not torch's own."""
    nodes = flow.that_lead_to(returned)
    own = find_own_activations(calls, flow, nodes)
    return Candidates(find_blocks(calls, flow, flow.find(returned)), own, find_gates(nodes))


@dataclass
class _Candidate:
    """A call that "auto" may stand for, under the name of its layer."""

    name: str
    recorded: RecordedCall
    node: Node | None
    is_block: bool
    left_out: str = ""
    """Why it is left out; empty while it is not."""

    @property
    def whole_name(self) -> str:
        """That of a module stands for all its calls."""
        return self.name if self.recorded.is_function else self.recorded.call.name


class AutoLayers:
    """Chooses among the calls of a forward pass.

    Parameters
    ----------
    calls : dict of str to RecordedCall
        All calls, by the names that their layers have or would have, in forward order.
    layers : dict of str to Layer
        Those that have a row for each sample.
    found : Candidates
        What may be taken beside activation functions.
    flow : Flow
        What is computed from what.
    """

    def __init__(
        self,
        calls: dict[str, RecordedCall],
        layers: dict[str, Layer],
        found: Candidates,
        flow: Flow,
    ) -> None:
        self._layers = layers
        self._found = found
        self._flow = flow
        self._candidates: list[_Candidate] = []
        for name, c in calls.items():
            key = c.call.key
            is_module = isinstance(c.call.called, nn.Module)
            is_block = key in found.blocks.sums or (
                is_module and c.call.name in found.blocks.modules
            )
            if is_block or c.is_activation or key in found.own_activations:
                node = flow.ends[key].output if key in flow.ends else None
                self._candidates.append(_Candidate(name, c, node, is_block))

    def leave_out_logits(
        self, squashing: RecordedCall | None, logits: Tensor, returned: Node | None, reason: str
    ) -> None:
        """Leave out the logits, and what the network makes of them without any other layer.

        Parameters
        ----------
        squashing : RecordedCall or None
            The softmax or sigmoid that the network ends in.
        logits : Tensor
            What goes into it, or the output of the network.
        returned : Node or None
            The output of the network.
        reason : str
            Why they are left out.
        """
        if squashing is not None and (ends := self._flow.ends.get(squashing.call.key)) is not None:
            returned = next(iter(ends.output.variables), returned)
        for c in self._candidates:
            value = c.recorded.output
            if value is None or value.numel() != logits.numel():
                continue
            is_on_the_way = (
                c.node is not None
                and returned is not None
                and returned.number in follow(c.node, returned, None)
            )
            if is_on_the_way or c.recorded is squashing or _are_logits(value, logits):
                c.left_out = reason

    def choose(self, features: list[str]) -> Choice:
        """What is taken and what is left out; ``features`` are layers that the head is given."""
        if all(c.left_out for c in self._candidates) and not features:
            # A network without another activation function than that of its output.
            for c in self._candidates:
                c.left_out = ""
        self._leave_out_no_rows()
        self._leave_out_parts()
        self._leave_out_repetitions()
        self._leave_out_duplicates()
        self._leave_out_gates(features)
        chosen = {c.name for c in self._candidates if not c.left_out}
        if chosen.isdisjoint(features):
            chosen.update(name for name in features if self._layers[name].location.before)
        names = [name for name in self._layers if name in chosen]
        kept = spread(names, features)
        left_out = {c.name: c.left_out for c in self._candidates if c.left_out}
        for name in names:
            if name not in kept:
                left_out[name] = f"one of {len(names)} layers, of which {len(kept)} are taken"
        return Choice(kept, left_out)

    def _leave_out_no_rows(self) -> None:
        for c in self._candidates:
            value = c.recorded.call.output
            if c.left_out or value is None:
                continue
            if c.name not in self._layers:
                c.left_out = f"has no row for each sample: shape {tuple(value.shape)}"
            elif not (value.is_floating_point() or value.is_quantized):
                c.left_out = f"holds no real numbers: {value.dtype}"
            elif c.node is not None and not c.node.is_variable:
                c.left_out = "does not depend on the inputs"
            elif c.node is not None and c.node.rows_vary:
                c.left_out = "has rows only where a condition holds that depends on the inputs"

    def _leave_out_parts(self) -> None:
        """Of blocks, and of activation functions."""
        blocks = [c for c in self._candidates if c.is_block and not c.left_out]
        minor = self._found.blocks.modules
        for c in self._candidates:
            around = [block for block in blocks if self._is_inside(c, block)]
            # A block inside another stays where it is one of its own.
            if around and not c.left_out and (not c.is_block or minor.get(c.recorded.call.name)):
                c.left_out = f"inside the block {around[-1].whole_name!r}"
        self._leave_out_sums_before_activations()
        own = [c for c in self._candidates if c.recorded.call.key in self._found.own_activations]
        for outer in own:
            for c in self._candidates:
                if not (c.left_out or outer.left_out or c is outer) and _is_part(c, outer):
                    c.left_out = f"inside the activation function {outer.name!r}"

    def _leave_out_sums_before_activations(self) -> None:
        """A block without a module ends in the activation function that follows its sum."""
        sums = {
            c.node.number: c
            for c in self._candidates
            if c.node is not None and c.recorded.call.key in self._found.blocks.sums
        }
        for c in self._candidates:
            given = [] if c.node is None or c.is_block else c.node.variables
            if not c.left_out and len(given) == 1 and given[0].number in sums:
                sums[given[0].number].left_out = f"followed by the activation function {c.name!r}"

    def _is_inside(self, c: _Candidate, block: _Candidate) -> bool:
        if c is block:
            return False
        key = block.recorded.call.key
        if c.node is not None and c.node.number in self._found.blocks.branches.get(key, ()):
            return True
        return not block.recorded.is_function and c.recorded.call.name.startswith(
            f"{block.recorded.call.name}."
        )

    def _leave_out_repetitions(self) -> None:
        """What the same weights yielded before, and were then given again."""
        alike: defaultdict[tuple, list[tuple[_Candidate, Node]]] = defaultdict(list)
        for c in self._candidates:
            if not c.left_out and c.node is not None:
                layers = nearest_layers(c.node)
                weights = frozenset(chain.from_iterable(layer.weights for layer in layers))
                alike[c.recorded.call.name, weights].append((c, c.node))
        for (name, weights), group in alike.items():
            if weights and len(group) > 1:
                _leave_out_earlier(name, group)

    def _leave_out_duplicates(self) -> None:
        first: dict[tuple, str] = {}
        for c in self._candidates:
            key = c.recorded.output_key
            if c.left_out or key is None:
                continue
            if key in first:
                c.left_out = f"the same value as {first[key]!r}"
            else:
                first[key] = c.name

    def _leave_out_gates(self, features: list[str]) -> None:
        gates = []
        for c in self._candidates:
            is_gate = c.node is not None and c.node.number in self._found.gates
            if is_gate and not (c.left_out or c.is_block or c.name in features):
                gates.append(c)
        if features or any(not (c.left_out or c in gates) for c in self._candidates):
            for c in gates:
                c.left_out = "a gate, which only multiplies other values"


def _leave_out_earlier(name: str, group: list[tuple[_Candidate, Node]]) -> None:
    """Of what the same weights yield, leave out what was given to them again.

    Of several values of the last time, such as the gates of a cell, the last one stays.
    """
    later: dict[int, Node] = {}
    last: list[tuple[_Candidate, int]] = []
    for c, node in reversed(group):
        if node.number in later:
            c.left_out = f"a repetition of {name!r}"
        else:
            layers = nearest_layers(node)
            later |= ancestors(layers, since=group[0][1].number)
            last.append((c, max(layer.number for layer in layers)))
    if len(last) < len(group):
        steps = [step for _, step in last]
        for i, (c, step) in enumerate(last):
            if step in steps[:i]:
                c.left_out = f"a repetition of {name!r}"


def _is_part(c: _Candidate, outer: _Candidate) -> bool:
    """Whether a call serves to compute an activation function that is not torch's own."""
    if isinstance(outer.recorded.call.called, nn.Module):
        return c.recorded.call.name.startswith(f"{outer.recorded.call.name}.")
    return c.node is not None and outer.node is not None and _gates(c.node, outer.node)


def _gates(node: Node, product: Node) -> bool:
    if len(product.variables) < 2:
        return False
    between = ancestors([product], since=min(parent.number for parent in product.variables))
    return node.number in between and node is not product and not node.mixes


def _sizes(value: Tensor) -> list[int]:
    """Of the axes in which there is more than one place."""
    return [size for size in value.shape if size > 1]


def _are_logits(value: Tensor, logits: Tensor) -> bool:
    """Whether values are logits or their softmax."""
    value, logits = value.double().reshape(logits.shape), logits.double()
    if not logits.isfinite().all():
        return torch.equal(value, logits)
    squashed = [logits, logits.sigmoid()]
    if logits[0].numel() > 1:  # the softmax of one value is always one
        squashed += [logits.softmax(-1), logits.log_softmax(-1)]
    return any(torch.allclose(value, one, rtol=1e-5, atol=1e-7) for one in squashed)


def spread(names: list[str], features: list[str]) -> list[str]:
    """At most as many names as "auto" takes, evenly spread, with the last and the ``features``."""
    needed = {name for name in names if name in features}
    kept = spread_beside(names, 0)
    if missing := needed.difference(kept):
        kept = missing.union(spread_beside(names, len(missing)))
    return [name for name in names if name in kept]
