"""Scores of few samples by all members of an ensemble, of which those of one kind come at once."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray
from scipy.linalg import block_diag
from sklearn.pipeline import Pipeline

from .._patterns import PatternTable
from .._side_by_side import stretches
from .._values import Floats
from ..activations import Activations, PackedBits
from ..detectors import (
    ActivationNormDetector,
    DistancesSideBySide,
    HammingNAPDetector,
    MahalanobisDetector,
    RowsSideBySide,
    may_stand,
    say_the_same,
)
from ..preprocessing import PercentileBinarizer
from ._calibrations import Calibration, TailCalibration
from ._combination import below_edge, informed_weights, mean_of_members
from ._members import member_scores

FEW = 32
"""Of more samples, each member takes longer to look at them than to be called."""

Key = str | None
"""A layer by its name; None are the features that the head reads, where they are no layer."""


@dataclass(frozen=True)
class Reading:
    """What a member reads of activations.

    Parameters
    ----------
    view : callable
        Takes the activations, and returns those that the member is given.
    names : sequence of str
        The layers of these that it reads.
    keys : dict of str to str or None, default={}
        Where these are to be found in the activations themselves, if under another name.
    """

    view: Callable[[Activations], Activations]
    names: Sequence[str]
    keys: Mapping[str, Key] = field(default_factory=dict)

    def of_layers(self, names: Sequence[str]) -> Reading:
        """What a member of the member reads, which is given some of the layers."""
        return replace(self, view=lambda X: self.view(X)[list(names)], names=names)

    def key(self, name: str) -> Key:
        """Where a layer is to be found."""
        return self.keys.get(name, name)


def reads_layers(names: Sequence[str]) -> Reading:
    """What a member reads that is given some layers of activations."""
    return Reading(lambda X: X[list(names)], names)


class Together:
    """The members of an ensemble, sorted by how they are evaluated.

    Scores of all that are no ensembles are columns of one table, those of one kind side by side.
    Then come ensembles of these, those of one kind together, and at last ensembles of ensembles.

    Parameters
    ----------
    members : sequence of estimator
        The members.
    readings : sequence of Reading
        What each of them reads.
    ensemble : type
        The class of ensembles that may be members, and whose own members are looked for.
    X : Activations
        Some that are like all others.
    """

    def __init__(
        self,
        members: Sequence[Any],
        readings: Sequence[Reading],
        ensemble: type[Any],
        X: Activations,
    ) -> None:
        self._ensemble, self._X = ensemble, X
        self._patterns: list[tuple[Key, Any]] = []
        self._gaussians: list[tuple[Key, MahalanobisDetector]] = []
        self._norms: list[tuple[list[Key], ActivationNormDetector]] = []
        self._others: list[tuple[Reading, Any]] = []
        self._ensembles: list[_Node] = []
        nodes = [self._node(*pair) for pair in zip(members, readings, strict=True)]
        of_kinds = self._patterns, self._gaussians, self._norms, self._others
        self._columns = stretches([len(some) for some in of_kinds])
        self._n_first = self._columns[-1].stop
        self._n_columns = self._n_first + len(self._ensembles)
        for column, node in enumerate(self._ensembles, self._n_first):
            node.column = column
        self._of_members = [self._column(node) for node in nodes]
        for each in self._ensembles:
            each.inside = np.array([self._column(node) for node in each.nodes])
        self._steps = _steps(self._ensembles, set(range(self._n_first)))
        self._prepare()
        del self._X

    def _node(self, member: Any, reading: Reading) -> Any:
        """Where a member's scores will be: which of a kind it is, or an ensemble."""
        if type(member) is self._ensemble:
            readings = map(reading.of_layers, member._inputs)
            node = _Node(member, [*map(self._node, member.estimators_, readings)])
            self._ensembles.append(node)
            return node
        for kind, add in enumerate((self._add_patterns, self._add_gaussian, self._add_norms)):
            if (number := add(member, reading)) is not None:
                return kind, number
        self._others.append((reading, member))
        return 3, len(self._others) - 1

    def _column(self, node: Any) -> int:
        if isinstance(node, _Node):
            return node.column
        kind, number = node
        return int(self._columns[kind].start + number)

    def _add_patterns(self, member: Any, reading: Reading) -> int | None:
        if not _finds_patterns(member) or not self._reads_one_row(reading):
            return None
        # Bits stay as they are, whatever the percentile.
        if isinstance(_stored(self._X, reading.key(reading.names[0])), PackedBits):
            return None
        # Where all look samples up in the same way.
        if self._patterns and self._patterns[0][1][-1]._by_class != member[-1]._by_class:
            return None
        self._patterns.append((reading.key(reading.names[0]), member))
        return len(self._patterns) - 1

    def _add_gaussian(self, member: Any, reading: Reading) -> int | None:
        beside = self._gaussians[0][1] if self._gaussians else member
        if not self._reads_one_row(reading) or not may_stand(member, beside):
            return None
        key = reading.key(reading.names[0])
        for number, (known, other) in enumerate(self._gaussians):
            if known == key and say_the_same(other, member):
                return number
        self._gaussians.append((key, member))
        return len(self._gaussians) - 1

    def _add_norms(self, member: Any, reading: Reading) -> int | None:
        if type(member) is not ActivationNormDetector or member.distances_ is None:
            return None
        keys = [reading.key(name) for name in member.mean_norms_]
        if not all(map(self._is_row, keys)):
            return None
        self._norms.append((keys, member))
        return len(self._norms) - 1

    def _reads_one_row(self, reading: Reading) -> bool:
        return len(reading.names) == 1 and self._is_row(reading.key(reading.names[0]))

    def _is_row(self, key: Key) -> bool:
        return _read(self._X, key).ndim == 2

    def _prepare(self) -> None:
        """Put side by side what is read side by side."""
        self._distances, self._first_keys = None, []
        if self._gaussians:
            self._distances = DistancesSideBySide([member for _, member in self._gaussians])
            pairs = zip(self._gaussians, self._distances.n_of_each, strict=True)
            self._first_keys = [key for (key, _), n in pairs for _ in range(n)]
        known = dict.fromkeys(self._first_keys)
        more = {key: None for keys, _ in self._norms for key in keys if key not in known}
        self._keys_of_rows = [*self._first_keys, *more]
        self._rows = RowsSideBySide([_read(self._X, k).shape[1] for k in self._keys_of_rows])
        self._n_units = sum(self._distances.widths) if self._distances else 0
        self._layers_of_norms = [
            [self._keys_of_rows.index(key) for key in keys] for keys, _ in self._norms
        ]
        keys = [key for key, _ in self._patterns]
        self._keys = [*dict.fromkeys([*self._keys_of_rows, *keys])]
        self._table = PatternTable([*map(self._entry, self._patterns)]) if self._patterns else None

    def _entry(self, pattern: tuple[Key, Any]) -> tuple[Key, int, float, Any, bool]:
        key, member = pattern
        detector = member[-1]
        n_units, percentile = _read(self._X, key).shape[1], member[0].percentile
        return key, n_units, percentile, detector.stores_, detector.break_ties

    def scores(self, X: Activations) -> Floats | None:
        """Scores of samples by each member, of shape (n_samples, n_members).

        None where one of them is not finite, of which the member itself has something to say.
        """
        values = np.empty((len(X), self._n_columns))
        patterns, distances, norms, others = (values[:, columns] for columns in self._columns)
        arrays = {key: _read(X, key) for key in self._keys}
        if self._table is not None:
            lookup = self._patterns[0][1][-1]._lookup_classes(X)
            patterns[:] = self._table.similarities(arrays, lookup)
        if self._keys_of_rows:
            self._score_rows([arrays[key] for key in self._keys_of_rows], distances, norms)
        for number, (reading, member) in enumerate(self._others):
            others[:, number] = member_scores(member, reading.view(X))
        if not np.isfinite(values[:, : self._n_first]).all():
            return None
        for step in self._steps:
            values[:, step.columns] = step.scores(values)
        return values.take(self._of_members, axis=1)

    def _score_rows(self, layers: Sequence[NDArray], distances: Floats, norms: Floats) -> None:
        """Fill in what is said of rows side by side."""
        rows = self._rows.join(layers)
        lengths = self._rows.lengths(rows)
        if self._distances is not None:
            first = lengths[:, : len(self._first_keys)]
            distances[:] = self._distances.scores(rows[:, : self._n_units], first)
        for number, (_, member) in enumerate(self._norms):
            norms[:, number] = member._score_norms(lengths.take(self._layers_of_norms[number], 1))


def _stored(X: Activations, key: Key) -> Any:
    return X.features if key is None else X[key]


def _read(X: Activations, key: Key) -> NDArray:
    return np.asarray(_stored(X, key))


class _Node:
    """An ensemble among the members, and where its own members' scores are."""

    column: int
    inside: NDArray[np.intp]

    def __init__(self, ensemble: Any, nodes: list[Any]) -> None:
        self.ensemble, self.nodes = ensemble, nodes

    @property
    def counting(self) -> NDArray[np.intp]:
        """Where the scores of those members are that count."""
        return np.asarray(self.inside[self.ensemble._counting])


class _Step(NamedTuple):
    """Columns that are made of those before."""

    columns: Sequence[int]
    scores: Callable[[Floats], Floats]


def _steps(ensembles: Sequence[_Node], known: set[int]) -> list[_Step]:
    """Steps that make the columns of ensembles, from columns that are known."""
    steps: list[_Step] = []
    waiting = list(ensembles)
    while waiting:
        ready = [node for node in waiting if known.issuperset(node.inside.tolist())]
        # Means first, so that more of what is made of them is ready at once.
        kind = min(map(_kind, ready))
        alike = [node for node in ready if _kind(node) == kind]
        made: Any = (_Means, _InformedSums, _Alone)[kind[0]](alike)
        columns = [node.column for node in alike]
        steps.append(_Step(columns, made.scores))
        known = known.union(columns)
        waiting = [node for node in waiting if node.column not in known]
    return steps


def _kind(node: _Node) -> tuple[int, int, int]:
    """A number of the rule, and what those have in common that are computed together."""
    rule = node.ensemble.combine
    if rule == "mean":
        return 0, len(node.inside), len(node.counting)
    return (1, 0, 0) if rule == "informed" else (2, node.column, 0)


class _Means:
    """Ensembles that take means of standardized scores of as many members, side by side."""

    def __init__(self, nodes: Sequence[_Node]) -> None:
        ensembles = [node.ensemble for node in nodes]
        self._inside = np.stack([node.inside for node in nodes])
        self._unknown = np.stack([each._scores_of_unknown for each in ensembles])
        self._counting = np.stack([node.counting for node in nodes])
        self._calibration = Calibration.side_by_side([each._calibration for each in ensembles])
        self._score_of_unknown = np.array([each.unknown_class_score_ for each in ensembles])

    def scores(self, values: Floats) -> Floats:
        """Scores by each ensemble, from the columns of all members."""
        standardized = self._calibration.standardize(values[:, self._counting.reshape(-1)])
        means = mean_of_members(standardized.reshape(len(values), *self._counting.shape))
        is_unknown = (values[:, self._inside] == self._unknown).any(axis=2)
        return np.where(is_unknown, self._score_of_unknown, means)


class _InformedSums:
    """Ensembles that weigh log p-values by what layers know, side by side."""

    def __init__(self, nodes: Sequence[_Node]) -> None:
        ensembles = [node.ensemble for node in nodes]
        self._inside = np.concatenate([node.inside for node in nodes])
        self._starts = np.cumsum([0] + [len(node.inside) for node in nodes[:-1]])
        self._unknown = np.concatenate([each._scores_of_unknown for each in ensembles])
        self._counting = np.concatenate([node.counting for node in nodes])
        self._calibration = TailCalibration.side_by_side([each._calibration for each in ensembles])
        self._score_of_unknown = np.array([each.unknown_class_score_ for each in ensembles])
        weights = [informed_weights(each.knowledge_[each._counting]) for each in ensembles]
        self._plain, self._beyond = (block_diag(*some).T for some in zip(*weights, strict=True))

    def scores(self, values: Floats) -> Floats:
        """Scores by each ensemble, from the columns of all members."""
        log_p = self._calibration.log_p_values(values.take(self._counting, axis=1))
        sums = log_p @ self._plain + below_edge(log_p) @ self._beyond
        is_it = values.take(self._inside, axis=1) == self._unknown
        is_unknown = np.logical_or.reduceat(is_it, self._starts, axis=1)
        return np.where(is_unknown, self._score_of_unknown, sums)


class _Alone:
    """An ensemble by another rule."""

    def __init__(self, nodes: Sequence[_Node]) -> None:
        (self._node,) = nodes

    def scores(self, values: Floats) -> Floats:
        """Its scores as a column, from the columns of all members."""
        scores = self._node.ensemble._combined(values[:, self._node.inside])
        return np.asarray(scores[:, np.newaxis])


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
