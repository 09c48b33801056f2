"""Scores of few samples by all members of an ensemble, of which those of one kind come at once."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np
from sklearn.pipeline import Pipeline

from .._patterns import PatternTable
from .._values import Floats
from ..activations import Activations
from ..detectors import DistancesSideBySide, HammingNAPDetector, may_stand
from ..preprocessing import PercentileBinarizer
from ._combination import Calibration, mean_of_members
from ._members import member_scores

FEW = 32
"""Of more samples, each member takes longer to look at them than to be called."""


class Together:
    """The members of an ensemble, sorted by how they are evaluated.

    Parameters
    ----------
    members : sequence of estimator
        The members.
    inputs : sequence of list of str
        The layers that each of them reads.
    ensemble : type
        The class of ensembles that may be members, and whose own members are looked for.
    """

    def __init__(
        self, members: Sequence[Any], inputs: Sequence[list[str]], ensemble: type[Any]
    ) -> None:
        self._ensemble = ensemble
        self._patterns: list[tuple[str, Any]] = []
        self._mean_nodes: list[_Node] = []
        self._gaussians: list[tuple[str, Any]] = []
        self._side_by_side: DistancesSideBySide | None = None
        self._nodes = [self._node(*pair) for pair in zip(members, inputs, strict=True)]
        self._means = _Means.of(self._mean_nodes)
        self._table: PatternTable | None = None

    def _node(self, member: Any, names: list[str]) -> Any:
        """How a member is evaluated: by the number of its patterns, by its members, by itself."""
        if type(member) is self._ensemble:
            pairs = zip(member.estimators_, member._inputs, strict=True)
            node = _Node(member, [self._node(*pair) for pair in pairs])
            if node.is_mean:
                self._mean_nodes.append(node)
            return node
        if len(names) == 1 and _finds_patterns(member) and self._fits_in(member[-1]):
            self._patterns.append((names[0], member))
            return len(self._patterns) - 1
        beside = self._gaussians[0][1] if self._gaussians else member
        if len(names) == 1 and may_stand(member, beside):
            self._gaussians.append((names[0], member))
        return member, names

    def _fits_in(self, detector: Any) -> bool:
        """Whether a detector looks samples up as the others do."""
        return not self._patterns or self._patterns[0][1][-1]._by_class == detector._by_class

    def scores(self, X: Activations) -> Floats:
        """Scores of samples by each member, of shape (n_samples, n_members)."""
        found = self._scores_of_patterns(X) if self._patterns else np.empty((len(X), 0))
        means = [each.scores(found) for each in self._means]
        known = _Known(found, means, self._distances(X))
        return np.column_stack([self._score(node, X, known) for node in self._nodes])

    def _distances(self, X: Activations) -> dict[int, Floats]:
        """Scores by those members whose distances are found together, by their identities."""
        if len(self._gaussians) < 2:
            return {}
        if self._side_by_side is None:
            self._side_by_side = DistancesSideBySide([member for _, member in self._gaussians])
        scores = self._side_by_side.scores([np.asarray(X[name]) for name, _ in self._gaussians])
        if scores is None:
            return {}
        ids = [id(member) for _, member in self._gaussians]
        return dict(zip(ids, scores.T, strict=True))

    def _score(self, node: Any, X: Activations, known: _Known) -> Floats:
        if isinstance(node, int):
            return known.of_patterns[:, node]
        if not isinstance(node, _Node):
            member, names = node
            scores = known.distances.get(id(member))
            return member_scores(member, X[names]) if scores is None else scores
        if node.place is not None:
            group, column = node.place
            return known.means[group][:, column]
        scores = np.column_stack([self._score(each, X, known) for each in node.inside])
        return np.asarray(node.ensemble._combined(scores))

    def _scores_of_patterns(self, X: Activations) -> Floats:
        if self._table is None:
            self._table = PatternTable(
                [
                    (name, X[name].shape[1], member[0].percentile, *_stored_in(member[-1]))
                    for name, member in self._patterns
                ]
            )
        lookup = self._patterns[0][1][-1]._lookup_classes(X)
        return self._table.similarities(X, lookup)


class _Known(NamedTuple):
    """Scores that were found together."""

    of_patterns: Floats
    means: list[Floats]
    distances: dict[int, Floats]


class _Node:
    """An ensemble among the members, and how its own are evaluated."""

    def __init__(self, ensemble: Any, inside: list[Any]) -> None:
        self.ensemble, self.inside = ensemble, inside
        self.place: tuple[int, int] | None = None
        """Among the means, by which group and in which column it is computed, if there."""

    @property
    def is_mean(self) -> bool:
        """Whether it takes the mean of what patterns say."""
        return self.ensemble.combine == "mean" and all(isinstance(n, int) for n in self.inside)


class _Means:
    """Ensembles of patterns that take means of standardized scores, side by side."""

    def __init__(self, nodes: list[_Node]) -> None:
        ensembles = [node.ensemble for node in nodes]
        self._inside = np.array([node.inside for node in nodes])
        self._unknown = np.stack([each._scores_of_unknown for each in ensembles])
        self._counting = np.stack(
            [np.array(node.inside)[node.ensemble._counting] for node in nodes]
        )
        self._calibration = Calibration.side_by_side([each._calibration for each in ensembles])
        self._score_of_unknown = np.array([each.unknown_class_score_ for each in ensembles])

    @classmethod
    def of(cls, nodes: list[_Node]) -> list[_Means]:
        """Those of as many members, and as many that count, together."""
        by_size: dict[tuple[int, int], list[_Node]] = {}
        for node in nodes:
            size = len(node.inside), int(node.ensemble._counting.sum())
            by_size.setdefault(size, []).append(node)
        for group, alike in enumerate(by_size.values()):
            for column, node in enumerate(alike):
                node.place = group, column
        return [cls(alike) for alike in by_size.values()]

    def scores(self, found: Floats) -> Floats:
        """Scores by each ensemble, of those of all patterns."""
        scores = found[:, self._counting.reshape(-1)]
        standardized = self._calibration.standardize(scores)
        means = mean_of_members(standardized.reshape(len(found), *self._counting.shape))
        is_unknown = (found[:, self._inside] == self._unknown).any(axis=2)
        return np.where(is_unknown, self._score_of_unknown, means)


def _finds_patterns(member: Any) -> bool:
    """Whether a member is a binarizer by percentiles and a detector of patterns in memory."""
    if not isinstance(member, Pipeline) or len(member) != 2:
        return False
    binarizer, detector = member[0], member[-1]
    return (
        type(binarizer) is PercentileBinarizer
        and binarizer.rule == "quantile"
        and type(detector) is HammingNAPDetector
        and detector._are_in_memory
    )


def _stored_in(detector: HammingNAPDetector) -> tuple[Any, bool]:
    return detector.stores_, detector.break_ties
