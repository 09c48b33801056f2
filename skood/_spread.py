"""Names of layers, thinned out evenly."""

from __future__ import annotations

from collections.abc import Sequence


def evenly(names: Sequence[str], n_names: int) -> list[str]:
    """At most so many of the names, in even steps from the first to the last; one is the last.

    Of two that are equally near to a step, the later one is taken: the last layers know most of the
    classes. The numbers are whole, so that no rounding decides it.
    """
    if len(names) <= n_names:
        return list(names)
    last, n_steps = len(names) - 1, max(n_names - 1, 1)
    before_last = [(2 * step * last + n_steps - 1) // (2 * n_steps) for step in range(n_names)]
    return [names[last - number] for number in reversed(before_last)]
