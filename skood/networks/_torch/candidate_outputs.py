"""Which of several outputs of a torch network may be its logits."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

from torch import Tensor

from .calls import ACTIVATION_FUNCTIONS, SQUASHING_FUNCTIONS
from .flow import ELEMENTWISE, LIGHT, MULTIPLICATIONS, Flow, Node, ancestors
from .heads import Search, find_source, is_scaled_and_shifted
from .outputs import AUTO, BINARY, Candidates, Path, Wanted, choose_output, name_output
from .recorded import RecordedCall, content_key

_NORMS = frozenset(
    {"amax", "clamp_min", "linalg_norm", "linalg_vector_norm", "mean", "norm", "sum"}
)
_LIKE_FEATURES = LIGHT | ACTIVATION_FUNCTIONS | MULTIPLICATIONS | _NORMS
"""What networks make of features that they also return."""


def find_path(
    returned: Any,
    wanted: Wanted,
    fits: Callable[[Tensor], bool],
    search: Search,
    flow: Flow,
) -> Path | None:
    """Which output holds the logits; None where a function of the user's computes them.

    Raises
    ------
    ValueError
        If there is no such output.
    """
    if callable(wanted):
        return None
    if wanted not in (AUTO, BINARY):
        return name_output(returned, wanted)
    return choose_output(returned, fits, _Preference(search, flow).candidates)


class _Preference:
    """What may be the logits, by the last linear layers that yield outputs.

    Parameters
    ----------
    search : Search
        The calls of the pass.
    flow : Flow
        What is computed from what.
    """

    def __init__(self, search: Search, flow: Flow) -> None:
        self._search = search
        self._calls = search.calls
        self._flow = flow

    def candidates(self, outputs: Mapping[Path, Tensor]) -> Candidates:
        """The outputs that may be the logits, of some that have the shape of such.

        Features that the network goes on with are none, nor is what it only makes of others. What
        a last linear layer yields is preferred: as it is; or pooled, scaled or shifted, as long as
        there is nothing else.
        """
        nodes = {path: self._flow.find(output) for path, output in outputs.items()}
        left = [p for p in outputs if not self._is_feature(p, outputs, nodes)]
        direct = {p: c for p in left if (c := self._direct(outputs[p])) is not None}
        scaled = {p: c for p in left if (c := self._scaled(outputs[p])) is not None}
        linear = _first_of_each(left, direct, scaled)
        known = [node for p in (*direct, *scaled) if (node := nodes[p]) is not None]
        left = [
            p
            for p in left
            if p in linear or not (p in direct or p in scaled or _is_made_of(nodes[p], known))
        ]
        if direct or len(left) == len(linear):
            return Candidates([*linear, *(p for p in left if p not in linear)], bool(linear))
        return Candidates(left, False)

    def _is_feature(
        self, path: Path, outputs: Mapping[Path, Tensor], nodes: Mapping[Path, Node | None]
    ) -> bool:
        """Whether another output is computed from it with further weights."""
        node = nodes[path]
        if node is None:
            return self._direct(outputs[path]) is None and _is_known(outputs[path], self._calls)
        others = [other for p, other in nodes.items() if p != path and other is not None]
        return any(_leads_to(start, other) for other in others for start in _sources(node))

    def _direct(self, output: Tensor) -> RecordedCall | None:
        """What yields an output, or what is squashed to it."""
        squashing, reader = find_source(self._calls, output)
        return reader if reader is not None and self._is_last(reader, squashing) else None

    def _scaled(self, output: Tensor) -> RecordedCall | None:
        """What yields an output but for a scale, a shift, and pooling."""
        for product in self._search.products(output):
            if self._is_last(product.recorded) and (
                self._search.fit(output, product.output) is not None
                or is_scaled_and_shifted(output, product.output)
            ):
                return product.recorded
        return None

    def _is_last(self, reader: RecordedCall, squashing: RecordedCall | None = None) -> bool:
        return not any(_reads_on(c, reader) for c in self._calls if c is not squashing)


def _first_of_each(
    paths: list[Path], direct: Mapping[Path, RecordedCall], scaled: Mapping[Path, RecordedCall]
) -> list[Path]:
    """The first output of each layer that yields one, better as it is than scaled."""
    chosen: dict[int, Path] = {}
    for yielded in (direct, scaled):
        for path, c in yielded.items():
            chosen.setdefault(id(c), path)
    return [path for path in paths if path in chosen.values()]


def _is_known(output: Tensor, calls: list[RecordedCall]) -> bool:
    key = content_key(output)
    return any(key in (c.input_key, c.output_key) for c in calls)


def _sources(node: Node) -> list[Node]:
    """A value, and where it is but a pooled or normed one, also this."""
    found, waiting = {node.number: node}, [node]
    while waiting:
        one = waiting.pop()
        if one.function in _LIKE_FEATURES and not _has_weight(one):
            new = [parent for parent in one.variables if parent.number not in found]
            found.update((parent.number, parent) for parent in new)
            waiting.extend(new)
    return [one for one in found.values() if one is node or one.function]


def _leads_to(start: Node, end: Node) -> bool:
    """Whether a value is computed from another with weights, and not only from its softmax."""
    reached: set[int] = {start.number}
    weighted: set[int] = set()
    for number, node in sorted(ancestors([end], since=start.number).items()):
        before = {parent.number for parent in node.variables}
        is_squashed = node.function in SQUASHING_FUNCTIONS and not before & weighted
        if is_squashed or not before & reached:
            continue
        reached.add(number)
        if _has_weight(node) or before & weighted:
            weighted.add(number)
    return end.number in weighted


def _has_weight(node: Node) -> bool:
    """Whether it is computed with weights that do not act on each of its values alone."""
    if node.function in ELEMENTWISE or node.function in LIGHT:
        return bool(node.weights) and all(v.shape != node.shape for v in node.variables)
    return bool(node.weights)


def _is_made_of(node: Node | None, sources: list[Node]) -> bool:
    """Whether a value depends on the inputs by one other value alone, and on no weights beside."""
    return node is not None and any(_comes_from(node, source) for source in sources)


def _comes_from(node: Node, source: Node) -> bool:
    seen: set[int] = set()
    waiting = [node]
    while waiting:
        one = waiting.pop()
        if one is source or one.number in seen:
            continue
        seen.add(one.number)
        if not one.variables or _has_weight(one):
            return False
        waiting.extend(one.variables)
    return True


def _reads_on(recorded: RecordedCall, other: RecordedCall) -> bool:
    """Whether it is given the output of another call and yields something else."""
    if recorded.is_squashing or (recorded.is_product and not recorded.has_weight):
        return False
    return other.output_key == recorded.input_key != recorded.output_key
