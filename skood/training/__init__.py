"""What happens while a network is trained."""

from typing import TYPE_CHECKING, Any

from .._optional import import_optional

if TYPE_CHECKING:
    from ._recorder import TrainingRecorder

__all__ = ["TrainingRecorder"]


def __getattr__(name: str) -> Any:
    # To import this room is light: torch is imported when a name is asked for.
    if name not in __all__:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    import_optional("torch", "torch", f"skood.training.{name}")
    from . import _recorder

    return getattr(_recorder, name)


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
