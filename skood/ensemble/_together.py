"""Scores of few samples by all members of an ensemble, of which those of one kind come at once."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np
from sklearn.pipeline import Pipeline

from .._patterns import PatternTable
from .._values import Floats
from ..activations import Activations
from ..detectors import HammingNAPDetector
from ..preprocessing import PercentileBinarizer
from ._combination import Calibration
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
        self._nodes = [self._node(*pair) for pair in zip(members, inputs, strict=True)]
        means = [node for node in self._nodes if isinstance(node, _Node) and node.is_mean]
        self._means = _Means(means) if means else None
        self._table: PatternTable | None = None

    def _node(self, member: Any, names: list[str]) -> Any:
        """How a member is evaluated: by the number of its patterns, by its members, by itself."""
        if type(member) is self._ensemble:
            pairs = zip(member.estimators_, member._inputs, strict=True)
            return _Node(member, [self._node(*pair) for pair in pairs])
        if len(names) == 1 and _finds_patterns(member) and self._fits_in(member[-1]):
            self._patterns.append((names[0], member))
            return len(self._patterns) - 1
        return member, names

    def _fits_in(self, detector: Any) -> bool:
        """Whether a detector looks samples up as the others do."""
        return not self._patterns or self._patterns[0][1][-1]._by_class == detector._by_class

    def scores(self, X: Activations) -> Floats:
        """Scores of samples by each member, of shape (n_samples, n_members)."""
        found = self._scores_of_patterns(X) if self._patterns else np.empty((len(X), 0))
        means = iter(() if self._means is None else self._means.scores(found).T)
        return np.column_stack([self._score(node, X, found, means) for node in self._nodes])

    def _score(self, node: Any, X: Activations, found: Floats, means: Iterator[Floats]) -> Floats:
        if isinstance(node, int):
            return found[:, node]
        if not isinstance(node, _Node):
            member, names = node
            return member_scores(member, X[names])
        if node.is_mean:
            return next(means)
        scores = np.column_stack([self._score(each, X, found, iter(())) for each in node.inside])
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


class _Node:
    """An ensemble among the members, and how its own are evaluated."""

    def __init__(self, ensemble: Any, inside: list[Any]) -> None:
        self.ensemble, self.inside = ensemble, inside

    @property
    def is_mean(self) -> bool:
        """Whether it takes the mean of what patterns say."""
        return self.ensemble.combine == "mean" and all(isinstance(n, int) for n in self.inside)


class _Means:
    """Ensembles of patterns that take means of standardized scores, side by side."""

    def __init__(self, nodes: list[_Node]) -> None:
        ensembles = [node.ensemble for node in nodes]
        self._all = np.concatenate([node.inside for node in nodes])
        self._unknown = np.concatenate([each._scores_of_unknown for each in ensembles])
        self._starts = _starts([len(node.inside) for node in nodes])
        counting = [np.array(node.inside)[node.ensemble._counting] for node in nodes]
        self._counting = np.concatenate(counting)
        self._n_counting = np.array([len(each) for each in counting])
        self._starts_counting = _starts(self._n_counting)
        self._calibration = Calibration.side_by_side([each._calibration for each in ensembles])
        self._score_of_unknown = np.array([each.unknown_class_score_ for each in ensembles])

    def scores(self, found: Floats) -> Floats:
        """Scores by each ensemble, of those of all patterns."""
        standardized = self._calibration.standardize(found[:, self._counting])
        sums = np.add.reduceat(standardized, self._starts_counting, axis=1)
        is_unknown = np.logical_or.reduceat(found[:, self._all] == self._unknown, self._starts, 1)
        return np.where(is_unknown, self._score_of_unknown, sums / self._n_counting)


def _starts(sizes: Any) -> Any:
    return np.cumsum(sizes) - sizes


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
