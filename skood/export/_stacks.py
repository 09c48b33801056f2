"""Members of ensembles that are evaluated together."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from itertools import islice
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from sklearn.pipeline import Pipeline
from torch import Tensor, nn

from ..detectors import HammingNAPDetector, MahalanobisDetector
from ..ensemble import LayerEnsembleDetector
from ..preprocessing import PercentileBinarizer
from ._arrays import Form
from ._gaussian import LayerDistances, alike_first, likeness
from ._patterns import LayerPatterns
from ._registry import form
from ._scores import StandardizeForm
from ._tensors import TensorActivations

_MOST_VALUES = 2**24
"""As many bits of patterns, or numbers of Gaussians, are unpacked at a time, 64 MiB of floats."""


class OneMember(nn.Module):
    """A member alone.

    Parameters
    ----------
    member : estimator
        Fitted.
    names : list of str
        The layers that it reads.
    """

    def __init__(self, member: Any, names: list[str]) -> None:
        super().__init__()
        self.names, self.form = names, form(member)

    def forward(self, A: TensorActivations) -> Tensor:
        """Scores of shape (n_samples, 1)."""
        scores: Tensor = self.form(A.select(self.names))
        return scores[:, None]


class Members(nn.Module):
    """Scores by all members of an ensemble, those of one kind together.

    Parameters
    ----------
    members : sequence of estimator
        Fitted.
    inputs : sequence of list of str
        The layers that each of them reads.
    """

    order: Tensor

    def __init__(self, members: Sequence[Any], inputs: Sequence[list[str]]) -> None:
        super().__init__()
        self.stacks, order = nn.ModuleList(), []
        for positions, stack in _stacked(members, inputs):
            self.stacks.append(stack)
            order += positions
        places = sorted(range(len(order)), key=order.__getitem__)
        self.is_ordered = order == sorted(order)
        self.register_buffer("order", torch.tensor(places, dtype=torch.int64))

    def forward(self, A: TensorActivations) -> Tensor:
        """Scores of shape (n_samples, n_members)."""
        scores = torch.cat([stack(A) for stack in self.stacks], dim=1)
        return scores if self.is_ordered else scores.index_select(1, self.order)


Stack = tuple[list[int], nn.Module]
"""Positions of members, and what scores by them in this order."""


@dataclass(frozen=True)
class _Kind:
    """Equal for members that are evaluated together."""

    key: tuple[Any, ...]
    make: Callable[[list[Any]], nn.Module] = field(compare=False)
    """Makes what evaluates pairs of a member and its layer."""
    size: int = field(compare=False)
    """As many numbers are unpacked for a member."""


def _stacked(members: Sequence[Any], inputs: Sequence[list[str]]) -> Iterator[Stack]:
    kinds = [_kind(*pair) for pair in zip(members, inputs, strict=True)]
    for alike in alike_first(kinds):
        kind = kinds[alike[0]]
        if kind is None:
            yield from (([i], OneMember(members[i], inputs[i])) for i in alike)
            continue
        iterator = iter(alike)
        while part := list(islice(iterator, max(1, _MOST_VALUES // max(1, kind.size)))):
            yield part, kind.make([(members[i], inputs[i][0]) for i in part])


def _kind(member: Any, names: list[str]) -> _Kind | None:
    if len(names) == 1 and type(member) is MahalanobisDetector:
        size = member._gaussians[names[0]][0]._factor.size
        return _Kind(("distances", likeness(member, names[0])), _distances, size)
    if len(names) == 1 and (settings := _patterns_of(member)):
        percentiles, detectors = settings
        n_bits, by_class = int(detectors[0].n_features_in_), detectors[0]._by_class
        n_patterns = sum(s.n_patterns for d in detectors for s in d.stores_.values())
        key = "patterns", percentiles, n_bits, by_class
        return _Kind(key, _PatternEnsembles, n_bits * n_patterns)
    return None


def _distances(members: list[tuple[MahalanobisDetector, str]]) -> nn.Module:
    names = [layer for _, layer in members]
    gaussians = [member._gaussians[layer] for member, layer in members]
    return _Weighted(
        LayerDistances(names, gaussians, normalize=members[0][0].normalize),
        [float(member.layer_weights_[0]) for member, _ in members],
    )


class _Weighted(nn.Module):
    """Scores times a weight each."""

    weights: Tensor

    def __init__(self, scores: nn.Module, weights: list[float]) -> None:
        super().__init__()
        self.scores = scores
        self.register_buffer("weights", torch.tensor(weights, dtype=torch.float64))

    def forward(self, A: TensorActivations) -> Tensor:
        """Scores of shape (n_samples, n_members)."""
        scores: Tensor = self.scores(A) * self.weights
        return scores


Percentiles = tuple[float, ...]


def _patterns_of(member: Any) -> tuple[Percentiles, list[HammingNAPDetector]] | None:
    """Percentiles and detectors of a mean of scores by patterns of one layer; None of others."""
    if type(member) is not LayerEnsembleDetector or member.combine not in ("mean", "weighted"):
        return None
    steps = [
        [step for _, step in each.steps] if type(each) is Pipeline else [each]
        for each in member.estimators_
    ]
    kinds = {tuple(map(type, each)) for each in steps}
    if kinds != {(PercentileBinarizer, HammingNAPDetector)}:
        return None
    if any(each[0].rule != "quantile" or len(each[1].layer_shapes_) > 1 for each in steps):
        return None
    return tuple(float(each[0].percentile) for each in steps), [each[1] for each in steps]


def mean_weights(detector: LayerEnsembleDetector) -> NDArray:
    """Weight of each member in the mean, 0 of those that do not count."""
    is_weighted = detector.combine == "weighted"
    weights = (detector.weights_ if is_weighted else 1.0) * detector._counting
    return np.asarray(weights / weights.sum())


class _PatternEnsembles(Form):
    """Means of scores by patterns at several percentiles, in several layers at once."""

    weights: Tensor
    of_unknown: Tensor
    lowest: Tensor

    def __init__(self, members: list[tuple[LayerEnsembleDetector, str]]) -> None:
        super().__init__()
        settings = [_patterns_of(member) for member, _ in members]
        percentiles = next(known[0] for known in settings if known)
        detectors = [detector for known in settings if known for detector in known[1]]
        layers = [layer for _, layer in members]
        self.patterns = LayerPatterns(layers, percentiles, detectors)
        ensembles = [member for member, _ in members]
        self.standardize = StandardizeForm(
            [each._calibration for each in ensembles], [each._counting for each in ensembles]
        )
        self.keep("weights", np.stack([mean_weights(each) for each in ensembles]))
        self.keep("of_unknown", np.stack([each._scores_of_unknown for each in ensembles]))
        self.keep("lowest", [each.unknown_class_score_ for each in ensembles])

    def forward(self, A: TensorActivations) -> Tensor:
        """Scores of shape (n_samples, n_layers)."""
        scores = self.patterns(A).reshape(-1, *self.weights.shape)
        combined = (self.standardize(scores) * self.weights).sum(dim=2)
        unknown = (scores == self.of_unknown).any(dim=2)
        return torch.where(unknown, self.lowest, combined)
