"""A fitted monitor as one module of tensors: for torch, and for ONNX.

Nothing of it imports torch before something is exported.
"""

from .._export_error import ExportError
from ._registry import form, form_of
from ._tensors import TensorActivations

__all__ = ["ExportError", "TensorActivations", "form", "form_of"]
