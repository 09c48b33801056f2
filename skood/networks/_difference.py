"""What tells one network from another, by their fingerprints."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from ._fingerprint import Fingerprint

_N_NAMED = 5


def differing(
    before: Mapping[str, Any], now: Mapping[str, Any], left_out: frozenset[str] = frozenset()
) -> list[str]:
    """Places that two mappings do not have in common with the same content."""
    places = [*now, *(place for place in before if place not in now)]
    return [p for p in places if p not in left_out and before.get(p) != now.get(p)]


def explain_difference(before: Fingerprint, now: Fingerprint) -> str:
    """Whether the architecture, the weights or other parts differ, and which of them; or ""."""
    left_out = before.left_out | now.left_out
    weights = differing(before.weights, now.weights, left_out)
    missing = [place for place in weights if place not in now.weights]
    new = [place for place in weights if place not in before.weights]
    changed = [place for place in weights if place not in {*missing, *new}]
    settings = differing(before.settings, now.settings, left_out)
    found = {
        "the architecture: weights that it had are missing": missing,
        "the architecture: weights are new": new,
        "the values of weights": changed,
        "code, settings or hooks": settings,
    }
    said = [f"{what} ({_named(places)})" for what, places in found.items() if places]
    return "; ".join(said)


def _named(places: list[str]) -> str:
    named = ", ".join(place.removeprefix(".") or "the network" for place in places[:_N_NAMED])
    return f"{named} and {len(places) - _N_NAMED} more" if len(places) > _N_NAMED else named
