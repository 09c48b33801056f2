"""Which sums of a forward pass are skips, and which modules are residual blocks."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Collection
from dataclasses import dataclass

from .calls import ACTIVATION_FUNCTIONS, SUMS
from .flow import CHOICES, ELEMENTWISE, LIGHT, MODULE, MULTIPLICATIONS, Ends, Flow, Node, ancestors
from .recorded import RecordedCall

MOST_SKIPS = 4
"""So many skips may one block have; where a module has more, each is a block."""


_REDUCTIONS = frozenset({"amax", "mean"})
"""Functions that may be pooling written out."""
_ENLARGING = frozenset(
    {"conv_transpose1d", "conv_transpose2d", "conv_transpose3d", "interpolate", "upsample"}
)
_JOINS = frozenset({"cat", "concat", "concatenate", "hstack", "stack", "vstack"})


@dataclass(frozen=True)
class Blocks:
    """The residual blocks of a pass."""

    modules: dict[str, bool]
    """Names of modules, and whether each is a linear map of its input plus a skip, or the sum of a
    projection."""
    sums: set[tuple[str, int]]
    """Keys of sums that are blocks without a module."""
    branches: dict[tuple[str, int], set[int]]
    """Of sums and of calls of modules, by their keys, the numbers of the nodes between what is
    added and the sum."""


def find_blocks(calls: list[RecordedCall], flow: Flow, output: Node | None) -> Blocks:
    """The residual blocks of a network, given its output."""
    sums, modules = _by_name(calls, flow)
    found = Blocks({}, set(), {})
    skips: list[_Skip] = []
    scattered = sums.pop("", [])
    for name, own in sums.items():
        judged = [_skips_of(c, ends, own) for c, ends in modules.get(name, ())]
        if max(map(len, judged), default=0) > MOST_SKIPS:
            scattered += own
        elif returned := [s for one in judged for s in one if s.is_returned]:
            found.modules[name] = all(s.is_minor for s in returned)
            skips += returned
    without_module = [s for c, ends in scattered if (s := _skip_without_module(c, ends.output))]
    # A network that returns its only sum is rather a block itself.
    if len(without_module) > 1 or not any(_leads_to(s.total, output) for s in without_module):
        found.sums.update(s.key for s in without_module)
        skips += without_module
    _add_branches(found, skips)
    return found


_Calls = defaultdict[str, list[tuple[RecordedCall, Ends]]]


def _by_name(calls: list[RecordedCall], flow: Flow) -> tuple[_Calls, _Calls]:
    """Sums by the name of the module in whose ``forward`` they are, and modules by their own."""
    sums, modules = _Calls(list), _Calls(list)
    for c in calls:
        if (ends := flow.ends.get(c.call.key)) is None:
            continue
        if not c.is_function:
            modules[c.call.name].append((c, ends))
        elif c.call.called in SUMS and ends.output.is_float:
            sums[flow.callers[ends.output.number]].append((c, ends))
    return _Calls(list, {name: _whole(own) for name, own in sums.items()}), modules


def _whole(sums: list[tuple[RecordedCall, Ends]]) -> list[tuple[RecordedCall, Ends]]:
    """Sums without the differences in others, such as in ``x + rate * (f(x) - x)``."""
    differences = set()
    for _, ends in sums:
        sides = ends.output.variables
        for inner in map(_without_light, sides):
            if inner.function in SUMS and any(side in inner.variables for side in sides):
                differences.add(inner.number)
    return [(c, ends) for c, ends in sums if ends.output.number not in differences]


@dataclass(frozen=True)
class _Skip:
    """A sum that is a skip, and what it adds, or what this is a projection of."""

    key: tuple[str, int]
    """Of the call of the block, or of the sum."""
    start: Node
    total: Node
    is_minor: bool
    is_returned: bool = True


def _skips_of(block: RecordedCall, ends: Ends, own: list[tuple[RecordedCall, Ends]]) -> list[_Skip]:
    """The skips in the own ``forward`` of a module, in one call."""
    totals = [of_sum.output for _, of_sum in own]
    numbers = {total.number for total in totals}
    given = {node.number: node for node in ends.given if node.is_float and node.is_variable}
    found = []
    for total in totals:
        if not ends.start <= total.number <= ends.output.number:
            continue
        if kind := _kind_of_skip(total, given, ends.start):
            is_returned = ends.output.number in follow(total, ends.output, numbers)
            starts = [node for node in ends.given if node in total.variables]
            start = (starts or [*given.values()])[0]
            found.append(_Skip(block.call.key, start, total, kind == _MINOR, is_returned))
    return found


def _skip_without_module(c: RecordedCall, total: Node) -> _Skip | None:
    for start in _starts(total):
        if kind := _kind_of_skip(total, {start.number}, start.number):
            return _Skip(c.call.key, start, total, kind == _MINOR)
    return None


def _add_branches(found: Blocks, skips: list[_Skip]) -> None:
    ends = [s.total.number for s in skips]
    for s in skips:
        # What is between the ends of long skips is a large part of the network.
        if any(s.start.number < end < s.total.number for end in ends):
            continue
        inside = {s.start.number}
        between = ancestors([s.total], since=s.start.number)
        for number in sorted(between):
            if any(parent.number in inside for parent in between[number].parents):
                inside.add(number)
        # What is made larger again was a stage of its own, as in a pyramid.
        if any(between[number].function in _ENLARGING for number in inside - {s.start.number}):
            continue
        found.branches.setdefault(s.key, set()).update(inside - {s.start.number, s.total.number})


_MINOR, _MAJOR = "minor", "major"


def _kind_of_skip(total: Node, given: Collection[int], since: int) -> str:
    """Whether a sum is a skip of what is given, and if so, of which kind; empty if it is none.

    One side is what is given, or a projection of it; the other is made of that by layers.
    """
    sides = total.variables
    if len(sides) != 2 or sides[0].shape != sides[1].shape:
        return ""
    labels = _Labels(given)
    between = ancestors(sides, since=min([since, *given]))
    for node in sorted(between.values(), key=lambda node: node.number):
        if node.number in given or node.number >= since:
            labels.add(node)
    for side, other in (sides, sides[::-1]):
        if side.number in labels.carried and other.number in labels.mixed:
            return _MAJOR if other.number in labels.bent else _MINOR
    for side, other in (sides, sides[::-1]):
        is_projection = side.number in labels.projected and other.number in labels.bent
        if is_projection and not _without_light(other).is_gated:
            return _MINOR
    return ""


class _Labels:
    """What is known of the values that are computed from given ones; filled in order."""

    def __init__(self, given: Collection[int]) -> None:
        self._given = given
        self.carried: set[int] = set()
        """Given, normed, scaled or gated by itself, or with something added."""
        self.bare: set[int] = set()
        """The same after activation functions."""
        self.projected: set[int] = set()
        """These after linear maps."""
        self.mixed: set[int] = set()
        """What some layer with weights or products makes of given values."""
        self.bent: set[int] = set()
        """What is bent after such a layer."""
        self._all: set[int] = set()

    def add(self, node: Node) -> None:
        """Label a node, after its parents."""
        number = node.number
        if number in self._given:
            for labels in (self.carried, self.bare, self._all):
                labels.add(number)
            return
        sources = {parent.number for parent in node.variables if parent.number in self._all}
        if not sources:
            return
        self._all.add(number)
        if node.mixes or not sources.isdisjoint(self.mixed):
            self.mixed.add(number)
        bends_here = node.bends and (node.mixes or not sources.isdisjoint(self.mixed))
        if bends_here or not sources.isdisjoint(self.bent):
            self.bent.add(number)
        self._pass_on(node, sources)

    def _pass_on(self, node: Node, sources: set[int]) -> None:
        if node.mixes:
            is_map = not node.bends and len(node.variables) == 1
            if is_map and sources <= self.bare | self.projected:
                self.projected.add(node.number)
            return
        for labels in (self.carried, self.bare, self.projected):
            if self._keeps(node, labels):
                labels.add(node.number)
        if node.function in ACTIVATION_FUNCTIONS and sources <= self.bare:
            self.bare.add(node.number)

    def _keeps(self, node: Node, labels: set[int]) -> bool:
        alike = [parent for parent in node.variables if parent.number in labels]
        if node.function in LIGHT or node.function in _REDUCTIONS:
            return bool(alike)
        if node.function in _JOINS:
            return len(alike) == len(node.variables)
        if node.function in SUMS:
            return any(parent.shape == node.shape for parent in alike)
        if node.function in MULTIPLICATIONS:
            # By weights or by something smaller that is computed of the same value.
            others = [parent for parent in node.variables if parent not in alike[:1]]
            return bool(alike) and all(
                parent.shape != node.shape and parent.number in self._all for parent in others
            )
        return False


def _without_light(node: Node) -> Node:
    """What a value was before it was normed, dropped or scaled by weights."""
    while len(node.variables) == 1 and (node.function in LIGHT or node.function in MULTIPLICATIONS):
        node = node.variables[0]
    return node


def _leads_to(start: Node, returned: Node | None) -> bool:
    return returned is not None and returned.number in follow(start, returned, None)


def follow(start: Node, end: Node, own_sums: Collection[int] | None) -> set[int]:
    """Numbers of what norms, activation functions and sums make of a value on the way to another.

    The sums are those of the given numbers, or all where these are None.
    """
    reached = {start.number}
    between = ancestors([end], since=start.number)
    for number in sorted(between):
        node = between[number]
        sources = [parent for parent in node.variables if parent.number in reached]
        if sources and _is_small_step(node, reached, own_sums):
            reached.add(number)
    return reached


def _is_small_step(node: Node, reached: set[int], own_sums: Collection[int] | None) -> bool:
    if node.function in SUMS:
        return len(node.variables) == 1 or own_sums is None or node.number in own_sums
    if node.function in MULTIPLICATIONS:
        alike = [parent for parent in node.variables if parent.shape == node.shape]
        return all(parent.number in reached for parent in alike)
    if node.function == MODULE:
        return not node.weights and node.parents[0].shape == node.shape
    if node.function in _JOINS | CHOICES | ELEMENTWISE:
        return all(parent.number in reached for parent in node.variables)
    return node.function in LIGHT


def _starts(total: Node) -> list[Node]:
    """What may be the input of a block that ends in a sum, without a module that says so."""
    starts = []
    for side in total.variables:
        node = _without_light(side)
        starts += [side, node]
        if node.mixes and len(node.variables) == 1:
            projected = node.variables[0]
            starts += [projected, _without_light(projected)]
            if projected.function in ACTIVATION_FUNCTIONS:
                starts += [_without_light(parent) for parent in projected.variables]
    return starts
