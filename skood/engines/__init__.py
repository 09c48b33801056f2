"""skood on the engines of others: Dask and Ray."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from .._optional import import_optional
from ._ray import RayScorer

if TYPE_CHECKING:
    from ._dask_activations import DaskActivations

__all__ = ["DaskActivations", "RayScorer"]


def __getattr__(name: str) -> Any:
    if name != "DaskActivations":
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    import_optional("dask.array", "dask", name)
    from ._dask_activations import DaskActivations

    return DaskActivations
