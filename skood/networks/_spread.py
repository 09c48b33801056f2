"""How many layers "auto" stands for, whatever the framework."""

from __future__ import annotations

from collections.abc import Sequence

MOST_LAYERS = 64
"""So many layers "auto" stands for at most."""


def evenly(names: Sequence[str], n_names: int) -> set[str]:
    """At most so many of the names, but at least two, evenly spread from the first to the last."""
    n_names = max(n_names, 2)
    if len(names) <= n_names:
        return set(names)
    step = (len(names) - 1) / (n_names - 1)
    return {names[round(i * step)] for i in range(n_names)}
