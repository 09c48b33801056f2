"""Models in the ONNX format, which ONNX Runtime runs; neither is imported before it is needed."""

from __future__ import annotations

from typing import Any

from ..._optional import import_optional
from .._base import NetworkAdapter


def adapt_onnx(
    network: Any, device: Any = "auto", logits: Any = "auto", head: Any = "auto"
) -> NetworkAdapter:
    """An adapter of an ONNX model.

    Raises
    ------
    ImportError
        If onnx or onnxruntime is not installed.
    """
    for library in ("onnx", "onnxruntime"):
        import_optional(library, "onnx", "An ONNX model as a network")
    from .adapter import OnnxAdapter

    return OnnxAdapter(network, device, logits, head)
