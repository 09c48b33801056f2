"""What a monitor shows of itself: which detectors watch which layers."""

from __future__ import annotations

import pickle
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from html import escape
from os import PathLike
from pathlib import PurePath
from typing import Any

import numpy as np
from sklearn.pipeline import Pipeline

from ._foreign import detector_of, is_calibrated, scoring_steps, what_is_calibrated

TARGETS = {
    "ood": "out-of-distribution inputs",
    "misclassified": "misclassified inputs",
    "both": "out-of-distribution and misclassified inputs",
}
"""What a monitor may look for, in words."""

_SHOWN = 6
"""As many members of one ensemble are shown in text; the table in a notebook shows all."""


@dataclass(frozen=True)
class Watcher:
    """A fitted detector among those of a monitor, and what it watches."""

    name: str
    kind: str
    layers: list[str]
    weight: float | None = None
    members: list[Watcher] = field(default_factory=list)
    left_out: list[str] = field(default_factory=list)

    @classmethod
    def of(cls, name: str, fitted: Any, weight: float | None = None) -> Watcher:
        """Describe a fitted detector, or a pipeline or search that ends in one."""
        detector = scoring_steps(fitted)[-1]
        members = [cls.of(*member) for member in _members_of(detector)]
        left_out = list(getattr(detector, "left_out_", ()))
        return cls(name, _kind(fitted), _layers_of(fitted), weight, members, left_out)

    def lines(self, depth: int = 0) -> Iterator[str]:
        """Text that shows the first and last members where there are many."""
        indent = "  " * depth
        yield f"{indent}{self.name}: {self.summary()}"
        if depth >= 3:
            return
        n_hidden = len(self.members) - _SHOWN
        for number, member in enumerate(self.members):
            if n_hidden > 0 and number == _SHOWN // 2:
                yield f"{indent}  ... {n_hidden} more ..."
            if n_hidden <= 0 or not 0 <= number - _SHOWN // 2 < n_hidden:
                yield from member.lines(depth + 1)

    def summary(self) -> str:
        """What it is, how much it weighs, and what it reads where its name does not say so."""
        parts = [self.kind]
        if self.weight is not None:
            parts.append(f"weight {self.weight:.3g}")
        if not self.members and self.layers not in ([], [self.name]):
            parts.append(f"reads {listed(self.layers)}")
        if self.left_out:
            parts.append(f"without {listed(self.left_out)}")
        return ", ".join(parts)

    def cells(self, *, are_weighed: bool) -> list[str]:
        """What a row of a table says of it."""
        kind = f"{self.kind}, without {listed(self.left_out)}" if self.left_out else self.kind
        cells = [self.name, kind, listed(self.layers, 3)]
        if are_weighed:
            cells.append("" if self.weight is None else f"{self.weight:.3g}")
        return cells

    def rows(self, depth: int = 0) -> Iterator[tuple[int, Watcher]]:
        """Itself and all of its members, with how deep they lie."""
        yield depth, self
        for member in self.members:
            yield from member.rows(depth + 1)


def network_name(network: Any) -> str:
    """What a monitored network is called: its class, or the file of a model."""
    if isinstance(network, str | PathLike):
        return f"ONNX model {PurePath(network).name}"
    if isinstance(network, bytes) and hasattr(network, "called"):  # loaded with a monitor
        return str(network.called)
    return type(detector_of(network)).__name__


def memory_of(fitted: Any) -> int:
    """Bytes of what an estimator holds, arrays above all, each of them counted once."""
    counter = _Counter()
    pickler = _Pickler(counter, protocol=5)
    pickler.dump(fitted)
    return counter.n_bytes + pickler.n_bytes


class _Counter:
    """A file that keeps nothing and counts."""

    n_bytes = 0

    def write(self, data: Any) -> int:
        n_new = memoryview(data).nbytes
        self.n_bytes += n_new
        return n_new


class _Pickler(pickle.Pickler):
    """Writes no arrays, but counts their bytes, however they lie in memory."""

    n_bytes = 0

    def reducer_override(self, value: Any) -> Any:
        if not isinstance(value, np.ndarray) or value.dtype.hasobject:
            return NotImplemented
        self.n_bytes += value.nbytes
        return np.ndarray, (0,)


def as_text(facts: dict[str, str], watcher: Watcher | None) -> str:
    """The monitor as text: its facts, and below them what watches what."""
    width = max(map(len, facts))
    lines = ["Monitor", *(f"  {name:<{width}}  {text}" for name, text in facts.items())]
    if watcher is not None:
        lines += [f"  {line}" for line in watcher.lines()]
    return "\n".join(lines)


def as_html(facts: dict[str, str], watcher: Watcher | None) -> str:
    """The same for a notebook, in its own colours, to stand below scikit-learn's diagram."""
    html = f"<table>{''.join(_row(fact) for fact in facts.items())}</table>"
    if watcher is not None:
        html += _members_table(list(watcher.rows()))
    return f'<div class="skood-monitor">{html}</div>'


def _members_table(members: list[tuple[int, Watcher]]) -> str:
    """All members below each other, indented; folded, since a deep network has hundreds."""
    are_weighed = any(member.weight is not None for _, member in members)
    head = ["detector", "kind", "watches", *(["weight"] if are_weighed else [])]
    rows = [_row(m.cells(are_weighed=are_weighed), indent=depth) for depth, m in members]
    return (
        "<details><summary>What watches what</summary>"
        '<div style="max-height: 24em; overflow: auto">'
        f"<table><thead>{_row(head, tag='th')}</thead><tbody>{''.join(rows)}</tbody></table>"
        "</div></details>"
    )


def _members_of(detector: Any) -> list[tuple[str, Any, float | None]]:
    """Names, members and weights of an ensemble, of any that has the usual attributes."""
    if hasattr(detector, "named_estimators_"):
        named = list(detector.named_estimators_.items())
    elif hasattr(detector, "estimators_") and hasattr(detector, "layers_"):
        named = list(zip(detector.layers_, detector.estimators_, strict=True))
    else:
        return []
    shares = _shares(detector, len(named))
    return [(name, member, w) for (name, member), w in zip(named, shares, strict=True)]


def _shares(detector: Any, n_members: int) -> list[float | None]:
    """The weight of each member, as a share of all, where the ensemble weighs them."""
    combine = getattr(detector, "combine", "weighted")
    name = {"informed": "knowledge_", "weighted": "weights_"}.get(combine, "")
    weights = getattr(detector, name, ())
    if len(weights) != n_members or not np.any(weights):
        return [None] * n_members
    return list(map(float, np.asarray(weights) / np.sum(weights)))


def _kind(fitted: Any) -> str:
    """Names of the classes, those of a pipeline one after the other, and of a search its choice."""
    if hasattr(fitted, "best_name_"):
        n_tried = len(fitted.cv_results_["name"])
        best = _kind(fitted.best_estimator_)
        return f"{best}, which is {fitted.best_name_!r}, the choice from {n_tried}"
    if is_calibrated(fitted):
        return f"{type(fitted).__name__} of {_kind(what_is_calibrated(fitted))}"
    if hasattr(fitted, "layer_share_"):
        return f"{type(fitted).__name__}, layer share {fitted.layer_share_:.2g}"
    if isinstance(fitted, Pipeline):
        return " > ".join(_kind(step) for _, step in fitted.steps)
    last = scoring_steps(fitted)[-1]
    return type(last).__name__ if last is fitted else _kind(last)


def _layers_of(fitted: Any) -> list[str]:
    """Layers that a detector reads, as far as it keeps them."""
    return list(getattr(scoring_steps(fitted)[-1], "layer_shapes_", ()))


def listed(names: Sequence[str], n_shown: int = 4) -> str:
    if len(names) <= n_shown:
        return ", ".join(names)
    return f"{', '.join(names[: n_shown - 1])}, ..., {names[-1]} ({len(names)} in all)"


def _row(cells: Sequence[str], *, tag: str = "td", indent: int = 0) -> str:
    padding = f"; padding-left: {indent + 0.5}em"
    return (
        "<tr>"
        + "".join(
            f'<{tag} style="text-align: left{"" if number else padding}">{escape(cell)}</{tag}>'
            for number, cell in enumerate(cells)
        )
        + "</tr>"
    )
