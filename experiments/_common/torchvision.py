"""Importing torchvision beside any build of torch."""

from __future__ import annotations

from importlib import import_module

import torch


def import_torchvision() -> None:
    """Import it, also where its compiled operators cannot be loaded.

    One that was built for CUDA cannot load them beside a torch without. Nothing uses them here:
    that their names are known is enough.
    """
    try:
        import_module("torchvision")
    except RuntimeError:
        for operator in ("nms", "qnms"):
            torch.library.define(
                f"torchvision::{operator}",
                "(Tensor dets, Tensor scores, float iou_threshold) -> Tensor",
            )
