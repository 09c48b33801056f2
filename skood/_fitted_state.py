"""What another fit of an estimator would change, as a short text."""

from __future__ import annotations

import hashlib
from collections import deque
from collections.abc import Mapping
from typing import Any

import numpy as np
from scipy.sparse import issparse
from sklearn.frozen import FrozenEstimator
from sklearn.pipeline import Pipeline

_N_VALUES = 150
_N_NUMBERS = 256
_N_ITEMS = 2
"""Of an estimator, array or list, as many are read: each verdict of a monitor waits for it."""


def fitted_state(*estimators: Any) -> str:
    """Digest of fitted attributes, which another fit changes, and a copy or a parameter does not.

    What is read is a part of them, the attributes of the estimators first, then of those in them.
    That a few numbers of an array are exchanged by hand may not be noticed.

    Parameters
    ----------
    *estimators : estimator
        Also pipelines, frozen estimators, and what holds other estimators in fitted attributes.
    """
    digest = hashlib.blake2b(digest_size=16)
    found = deque[Any](estimators)
    for _ in range(_N_VALUES):
        if not found:
            break
        value = found.popleft()
        digest.update(_own_bytes(value))
        found.extend(_parts(value))
    return digest.hexdigest()


def _own_bytes(value: Any) -> bytes:
    """What tells a value from others, apart from those in it."""
    if isinstance(value, np.ndarray):
        return f"{value.dtype}{value.shape}".encode() + _numbers(value)
    if value is None or isinstance(value, str | int | float | complex | np.generic):
        return repr(value).encode()
    size = len(value) if isinstance(value, Mapping | list | tuple) else ""
    return f"{type(value).__qualname__}{size}".encode()


def _numbers(array: np.ndarray) -> bytes:
    some = array.reshape(-1)[:: max(1, array.size // _N_NUMBERS)]
    if array.dtype.hasobject or array.dtype.names:  # whose padding is arbitrary
        return repr(some[:16].tolist()).encode() if array.dtype.names else b""
    return some.tobytes()


def _parts(value: Any) -> list[Any]:
    """What a container or an estimator holds."""
    parts: list[Any] = []
    if isinstance(value, Mapping):
        parts = [part for item in _some(list(value.items())) for part in item]
    elif isinstance(value, list | tuple):
        parts = _some(list(value))
    elif isinstance(value, Pipeline):
        parts = [step for _, step in value.steps]
    elif isinstance(value, FrozenEstimator):
        parts = [value.estimator]
    elif issparse(value):
        parts = [value.data]
    elif type(value).__module__ == "sklearn.tree._tree":  # compiled, without attributes
        parts = [value.__getstate__()["nodes"]]
    else:
        parts = _fitted_attributes(value)
    return parts


def _some(items: list[Any]) -> list[Any]:
    return items[:: max(1, len(items) // _N_ITEMS)]


def _fitted_attributes(estimator: Any) -> list[Any]:
    attributes = getattr(estimator, "__dict__", {})
    names = sorted(name for name in attributes if name.endswith("_") and not name.startswith("_"))
    return [part for name in names for part in (name, attributes[name])]
