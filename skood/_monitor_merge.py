"""Whether two monitors may become one."""

from __future__ import annotations

from typing import Any

from ._streams import check_has_begun, check_same_steps
from .extraction import ActivationExtractor

_MAY_DIFFER = {
    "network",
    "layers",
    "batch_size",
    "device",
    "memory",
    "verbose",
    "random_state",
    "changed_network",
}
"""Parameters of an extractor that change nothing, or are told by what it was fitted to."""


def check_mergeable(monitor: Any, other: Any) -> None:
    """Check that what another monitor has learnt is about the same layers of the same network.

    Raises
    ------
    TypeError
        If it is no monitor.
    NotFittedError
        If it is not fitted.
    ValueError
        If the networks, layers, targets, or steps differ.
    """
    if type(other) is not type(monitor):
        raise TypeError(
            f"Only another {type(monitor).__name__} can be merged, got {type(other).__name__}."
        )
    check_has_begun(other)
    if monitor.target != other.target:
        raise ValueError(
            f"Merged monitors need the same target, got {monitor.target!r} and {other.target!r}."
        )
    names = [[name for name, _ in each.steps] for each in (monitor, other)]
    if names[0] != names[1]:
        raise ValueError(f"Merged monitors need the same steps, got {names[0]} and {names[1]}.")
    _check_same_network(monitor._extractor, other._extractor)
    check_same_steps(*(_between(each) for each in (monitor, other)))


def _between(monitor: Any) -> list[Any]:
    """The steps between the extractor and the last one."""
    return [
        step
        for _, step in monitor.steps[:-1]
        if step not in (None, "passthrough") and not isinstance(step, ActivationExtractor)
    ]


def _check_same_network(mine: ActivationExtractor, theirs: ActivationExtractor) -> None:
    if mine.layers_ != theirs.layers_:
        raise ValueError(
            f"Merged monitors need the same layers, got {mine.layers_} and {theirs.layers_}."
        )
    if mine.fingerprint_ != theirs.fingerprint_:
        raise ValueError(
            "Merged monitors have to be of the same network, but the fingerprints of the two, "
            f"{mine.fingerprint_} and {theirs.fingerprint_}, differ: weights or settings of "
            f"{type(mine.network).__name__} are others than those of "
            f"{type(theirs.network).__name__}, or have changed since. What was learnt from the "
            "activations of one says nothing about another: fit both on the same network."
        )
    given, others = mine.get_params(deep=False), theirs.get_params(deep=False)
    for name in given.keys() - _MAY_DIFFER:
        if given[name] is not others[name] and repr(given[name]) != repr(others[name]):
            raise ValueError(
                "Extractors of merged monitors need the same parameters, got "
                f"{name}={given[name]!r} and {others[name]!r}."
            )
