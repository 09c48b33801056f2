"""Whether the labels of batches are classes, which one batch alone may not show."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any, Protocol, TypeVar

import numpy as np
from numpy.typing import NDArray

from .._classes import check_same_kind


def _no_labels() -> NDArray:
    return np.empty(0, dtype=int)


@dataclass(frozen=True)
class LabelsSeen:
    """Which labels batches came with, as far as these may be marks instead of classes.

    One label for all samples only says that they are in-distribution, and so it may be with one
    batch; as soon as there are two, they are classes, also of the samples before.

    Attributes
    ----------
    labels : ndarray of shape (n_labels,)
        The distinct labels.
    is_complete : bool
        Whether there was no sample without a label.
    """

    labels: NDArray = field(default_factory=_no_labels)
    is_complete: bool = True

    @classmethod
    def of(cls, y: NDArray | None, n_samples: int) -> LabelsSeen:
        return cls(_no_labels(), n_samples == 0) if y is None else cls(np.unique(y))

    @property
    def tell_classes(self) -> bool:
        return len(self.labels) > 1

    def merge(self, other: LabelsSeen) -> LabelsSeen:
        """The labels of both.

        Raises
        ------
        ValueError
            If they are classes, and some samples have none.
        """
        check_same_kind(self.labels, other.labels)
        parts = [part.labels for part in (self, other) if len(part.labels)]
        labels = np.unique(np.concatenate(parts)) if parts else _no_labels()
        both = LabelsSeen(labels, self.is_complete and other.is_complete)
        if both.tell_classes and not both.is_complete:
            raise ValueError(
                f"Class labels y came with some batches and not with others; they are "
                f"{labels[:10].tolist()}. Give them with every batch, or with none."
            )
        return both


class Poolable(Protocol):
    """What samples of several classes teach."""

    def pooled(self, label: NDArray) -> Any:
        """What they teach as samples of one class."""

    def merge(self, other: Any) -> Any:
        """What the samples of both teach."""


Part = TypeVar("Part", bound=Poolable)


@dataclass(frozen=True)
class ByClass:
    """What samples teach, layer by layer and class by class, and which labels they had.

    While the labels may be marks, the classes are those that the network predicted.

    Attributes
    ----------
    seen : LabelsSeen
        The labels, where these may be marks; otherwise none.
    layers : dict of str to Poolable
        What there is to know of each layer.
    """

    seen: LabelsSeen
    layers: dict[str, Any]

    def merge(self, other: ByClass) -> ByClass:
        """What the samples of both teach."""
        if not self.layers or not other.layers:
            return self if self.layers else other
        seen = self.seen.merge(other.seen)
        mine, theirs = self._under(seen), other._under(seen)
        return ByClass(seen, {name: part.merge(theirs[name]) for name, part in mine.items()})

    def _under(self, seen: LabelsSeen) -> dict[str, Any]:
        """The layers, by labels where these have turned out to be classes."""
        if not seen.tell_classes or self.seen.tell_classes or not len(self.seen.labels):
            return self.layers
        return {name: part.pooled(self.seen.labels) for name, part in self.layers.items()}
