"""Training of networks: a recorder, confidence losses, and classifiers with a reject option."""

from importlib import import_module
from typing import TYPE_CHECKING, Any

from .._optional import import_optional
from ._decoy_class import DecoyClassClassifier

if TYPE_CHECKING:
    from ._denoising_classifier import DenoisingClassifier
    from ._penalties import OverconfidencePenalty, SpreadPenalty
    from ._recorder import TrainingRecorder

__all__ = [
    "DecoyClassClassifier",
    "DenoisingClassifier",
    "OverconfidencePenalty",
    "SpreadPenalty",
    "TrainingRecorder",
]

# The module of each name that needs an optional package, and that package.
_LAZY = {
    "DenoisingClassifier": ("_denoising_classifier", "skorch"),
    "OverconfidencePenalty": ("_penalties", "torch"),
    "SpreadPenalty": ("_penalties", "torch"),
    "TrainingRecorder": ("_recorder", "torch"),
}


def __getattr__(name: str) -> Any:
    # Importing this subpackage is light: torch is imported with the first name that needs it.
    if name not in _LAZY:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    module, package = _LAZY[name]
    import_optional(package, package, f"skood.training.{name}")
    return getattr(import_module(f"{__name__}.{module}"), name)


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
