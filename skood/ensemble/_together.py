"""Scores of few samples by all members of an ensemble, of which those of one kind come at once."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from sklearn.pipeline import Pipeline

from .._patterns import PatternTable
from .._values import Floats
from ..activations import Activations
from ..detectors import HammingNAPDetector
from ..preprocessing import PercentileBinarizer
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
        self._patterns: list[tuple[str, Any, Any]] = []
        self._nodes = [self._node(*pair) for pair in zip(members, inputs, strict=True)]
        self._table: PatternTable | None = None

    def _node(self, member: Any, names: list[str]) -> Any:
        """How a member is evaluated: by the number of its patterns, by its members, by itself."""
        if type(member) is self._ensemble:
            pairs = zip(member.estimators_, member._inputs, strict=True)
            # What it reads has the names that are known here.
            return member, [self._node(*pair) for pair in pairs]
        if len(names) == 1 and _finds_patterns(member):
            self._patterns.append((names[0], member[0].percentile, member[-1]))
            return len(self._patterns) - 1
        return member, names

    def scores(self, X: Activations) -> Floats:
        """Scores of samples by each member, of shape (n_samples, n_members)."""
        found = np.empty((len(X), 0))
        if self._patterns:
            found = self._scores_of_patterns(X)
        return np.column_stack([self._score(node, X, found) for node in self._nodes])

    def _score(self, node: Any, X: Activations, of_patterns: Floats) -> Floats:
        if isinstance(node, int):
            return of_patterns[:, node]
        member, inside = node
        if type(member) is not self._ensemble:
            return member_scores(member, X[inside])
        scores = np.column_stack([self._score(each, X, of_patterns) for each in inside])
        member._check_finite(scores)
        return np.asarray(member._combined(scores))

    def _scores_of_patterns(self, X: Activations) -> Floats:
        if self._table is None:
            widths = {name: X[name].shape[1] for name, _, _ in self._patterns}
            self._table = PatternTable(
                [
                    (name, widths[name], percentile, detector.stores_, detector.break_ties)
                    for name, percentile, detector in self._patterns
                ]
            )
        first = self._patterns[0][2]
        return self._table.similarities(X, first._lookup_classes(X))


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
