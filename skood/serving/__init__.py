"""A monitor behind HTTP: verdicts, and whether what comes in has changed."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from .._optional import import_optional

if TYPE_CHECKING:
    from ._app import create_app

__all__ = ["create_app"]


def __getattr__(name: str) -> Any:
    if name != "create_app":
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    import_optional("fastapi", "serve", f"skood.serving.{name}")
    from ._app import create_app

    return create_app
