"""How many layers "auto" stands for, whatever the framework."""

from __future__ import annotations

from collections.abc import Sequence

from .._spread import evenly

MOST_LAYERS = 64
"""So many layers "auto" stands for at most."""


def spread_beside(names: Sequence[str], n_others: int) -> set[str]:
    """Those that "auto" takes of the names beside so many others, evenly spread; at least two."""
    return set(evenly(names, max(MOST_LAYERS - n_others, 2)))
