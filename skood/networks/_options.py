"""What the user can set about how a network is read."""

from __future__ import annotations

import inspect
from collections.abc import Callable
from typing import Any

_DEFAULTS = {"device": "auto", "logits": "auto", "head": "auto", "autocast": False}


def known_options(
    network: Any, factory: Callable[..., Any], options: dict[str, Any]
) -> dict[str, Any]:
    """The options that are set.

    Raises
    ------
    ValueError
        If one of them is not known to what makes the adapter.
    """
    wanted = {
        name: value
        for name, value in options.items()
        if not (type(value) is type(_DEFAULTS[name]) and value == _DEFAULTS[name])
    }
    if not wanted:  # as in most calls, of which each batch of a service is one
        return wanted
    parameters = inspect.signature(factory).parameters
    takes_all = any(p.kind is p.VAR_KEYWORD for p in parameters.values())
    for name, value in wanted.items():
        if name not in parameters and not takes_all:
            raise ValueError(
                f"{name}={value!r} is not known for a {type(network).__name__}: leave it at its "
                f"default, {_DEFAULTS[name]!r}."
            )
    return wanted
