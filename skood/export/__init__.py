"""A fitted monitor as one module of tensors: for torch, and for ONNX.

Nothing of it imports torch before something is exported.
"""

from typing import TYPE_CHECKING, Any

from .._export_error import ExportError
from ._registry import form, form_of
from ._tensors import TensorActivations

if TYPE_CHECKING:
    from ._monitor import MonitorModule as MonitorModule
    from ._onnx import write_onnx as write_onnx

__all__ = ["ExportError", "TensorActivations", "form", "form_of"]

_OF_TORCH = {"MonitorModule": "_monitor", "write_onnx": "_onnx"}


def __getattr__(name: str) -> Any:
    # Not imported before one of its names is used: torch takes seconds.
    if name not in _OF_TORCH:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    from importlib import import_module

    return getattr(import_module(f"{__name__}.{_OF_TORCH[name]}"), name)
