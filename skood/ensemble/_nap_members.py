"""What the auto-configuration of NAP tries, and what it keeps."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from .._layer_names import layer_columns
from .._patterns import BasePatternStore, PackedBits, build_stores, nearest_of_class, quantile_bits
from .._pooling import fitting_mask, pool
from ..activations import Activations
from ._nap_configuration import choose_threshold


@dataclass(frozen=True)
class RowRoles:
    """Rows by what they serve for; classes by row."""

    stored: NDArray[np.intp]  # store a pattern
    inside: NDArray[np.intp]  # in-distribution, set thresholds
    outside: NDArray[np.intp]  # out-of-distribution, set thresholds; empty: shuffled stand-ins
    labels: NDArray  # class under which each row is stored
    lookup: NDArray  # class under which each row is looked up


@dataclass(frozen=True)
class Source:
    """A layer of the network under one pooling."""

    layer: str
    pooling: str
    name: str  # of the column that it is made from
    unit_axis: int = 1

    @property
    def label(self) -> str:
        """What it is, for people."""
        return f"{self.layer}, {self.pooling}"

    def values(self, X: Activations) -> NDArray:
        """Pooled activations of shape (n_samples, n_units)."""
        units = np.moveaxis(np.asarray(X[self.name]), self.unit_axis, 1)
        return pool(units, self.pooling, mask=fitting_mask(X.mask, units))

    def key(self, X: Activations) -> tuple[str, str]:
        """What decides the values; without spatial axes, all poolings give the same."""
        has_space = len(X.layer_shapes[self.name]) > 1
        return (self.name, self.pooling if has_space else "any")

    def width(self, X: Activations) -> int:
        """Number of units after pooling."""
        shape = X.layer_shapes[self.name]
        return int(np.prod(shape)) if self.pooling == "flatten" else shape[self.unit_axis - 1]


def sources_by_layer(X: Activations, poolings: Sequence[str]) -> list[list[Source]]:
    """One list of sources a layer, in forward order and in the order of ``poolings``.

    A column that was pooled before, in one of these ways, stands for that pooling of its layer.
    Gradients and stochastic passes are left out.

    Raises
    ------
    ValueError
        If no column holds the activations of a layer.
    """
    layers: dict[str, list[Source]] = {}
    for column in layer_columns(X):
        if column.kind != "value":
            continue
        name = str(column.name)
        pooling = column.pooling
        if pooling is not None and pooling in poolings and len(column.shape) == 2:
            layer = str(column.layer)
            layers.setdefault(layer, []).append(Source(layer, pooling, name))
        else:
            of_layer = layers.setdefault(name, [])
            of_layer.extend(Source(name, p, name, column.unit_axis) for p in poolings)
    if not layers:
        raise ValueError(
            f"X has the layers {list(X.layer_names)}, none of which holds activations."
        )
    order = {pooling: position for position, pooling in enumerate(poolings)}
    return [sorted(sources, key=lambda s: order[s.pooling]) for sources in layers.values()]


def try_percentiles(
    values: NDArray, roles: RowRoles, percentiles: Sequence[float]
) -> tuple[NDArray, NDArray]:
    """Threshold and validation accuracy of each percentile.

    Parameters
    ----------
    values : ndarray of shape (n_samples, n_units)
        Pooled activations of one layer.
    roles : RowRoles
        Which rows store patterns and which set thresholds.
    percentiles : sequence of float
        What to try.

    Returns
    -------
    taus, accuracies : ndarray of shape (n_percentiles,)
        As in :func:`choose_threshold`.
    """
    found = []
    for bits in map(PackedBits.pack, quantile_bits(values, percentiles)):
        stores = build_stores(bits[roles.stored], roles.labels[roles.stored], roles.stored)
        inside, outside = (
            nearest_of_class(stores, bits[rows], roles.lookup[rows])[0]
            for rows in (roles.inside, roles.outside)
        )
        found.append(choose_threshold(inside, outside))
    taus, accuracies = zip(*found, strict=True)
    return np.array(taus), np.array(accuracies)


def with_stand_ins(
    values: NDArray, roles: RowRoles, random_state: np.random.RandomState
) -> tuple[NDArray, RowRoles]:
    """Append stand-ins for missing out-of-distribution roles.

    Each unit's values are shuffled among the validation samples, which keeps the distribution of
    every unit and breaks their coactivation.
    """
    shuffled = np.argsort(random_state.random_sample((len(roles.inside), values.shape[1])), axis=0)
    stand_ins = np.take_along_axis(values[roles.inside], shuffled, axis=0)
    outside = len(values) + np.arange(len(stand_ins))
    lookup = np.concatenate([roles.lookup, roles.lookup[roles.inside]])
    return np.concatenate([values, stand_ins]), RowRoles(
        roles.stored, roles.inside, outside, roles.labels, lookup
    )


class Choice(NamedTuple):
    """The best setting of a layer."""

    source: Source
    percentile: float
    tau: int
    accuracy: float


@dataclass(frozen=True)
class Member:
    """A layer that was chosen, and the patterns that it stores."""

    source: Source
    percentile: float
    stores: dict[Any, BasePatternStore]

    @classmethod
    def build(cls, X: Activations, roles: RowRoles, source: Source, percentile: float) -> Member:
        """Store the patterns of the rows that are meant for it."""
        bits = _bits(source.values(X[roles.stored]), percentile)
        stores = build_stores(bits, roles.labels[roles.stored], roles.stored)
        return cls(source, percentile, stores)

    def distances(self, X: Activations, lookup: NDArray) -> NDArray[np.integer]:
        """Distance of each sample to the nearest pattern of the lookup class."""
        bits = _bits(self.source.values(X), self.percentile)
        return nearest_of_class(self.stores, bits, lookup)[0]


def _bits(values: NDArray, percentile: float) -> PackedBits:
    return PackedBits.pack(next(quantile_bits(values, [percentile])))
