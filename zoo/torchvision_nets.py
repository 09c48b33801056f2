"""Every family of torchvision's classifiers."""

from __future__ import annotations

from functools import partial
from typing import Any

from .specimen import N_CLASSES, Case, Specimen, image_case

NETS: dict[str, tuple[str, ...]] = {
    "alexnet": ("features.*", "classifier.*"),
    "vgg11_bn": ("features.*", "classifier.*"),
    "resnet18": ("layer1.0", "layer2.1", "layer3.0", "layer4.1"),
    "resnet50": ("layer1.0", "layer4.2"),
    "resnext50_32x4d": ("layer1.0", "layer4.2"),
    "squeezenet1_1": ("features.*",),
    "densenet121": ("features.denseblock1.*", "features.denseblock4.*"),
    "googlenet": ("inception3a.*", "inception5b.*"),
    "inception_v3": ("Mixed_5b.*", "Mixed_7c.*"),
    "shufflenet_v2_x0_5": ("stage2.*", "stage4.*"),
    "mobilenet_v2": ("features.3", "features.16"),
    "mobilenet_v3_small": ("features.3", "features.11"),
    "mobilenet_v3_large": ("features.1", "features.15"),
    "mnasnet0_5": ("layers.8.1", "layers.12.3"),
    "efficientnet_b0": ("features.2.1", "features.6.3"),
    "efficientnet_v2_s": ("features.1.0", "features.6.*"),
    "regnet_x_400mf": ("trunk_output.block1.*", "trunk_output.block4.*"),
    "regnet_y_400mf": ("trunk_output.block1.*", "trunk_output.block4.*"),
    "convnext_tiny": ("features.1.*", "features.7.*"),
    "vit_b_32": ("encoder.layers.encoder_layer_0", "encoder.layers.encoder_layer_11"),
    "swin_t": ("features.1.*", "features.7.*"),
    "swin_v2_t": ("features.1.*", "features.7.*"),
    "maxvit_t": ("blocks.0.*", "blocks.3.*"),
}
"""Layers that "auto" must stand for, by name of the network."""

WITHOUT_HEAD = ("squeezenet1_1",)
"""A ReLU and a mean come after its last convolution."""
SIZES = {"inception_v3": 96, "maxvit_t": 64}
OPTIONS: dict[str, dict[str, Any]] = {
    "googlenet": {"init_weights": False},
    "inception_v3": {"init_weights": False},
    "vit_b_32": {"image_size": 64},
    "maxvit_t": {
        "input_size": (64, 64),
        "stem_channels": 16,
        "block_channels": [16, 32, 64, 64],
        "block_layers": [1, 1, 2, 1],
        "head_dim": 16,
        "stochastic_depth_prob": 0.0,
        "partition_size": 2,
    },
}


def list_specimens() -> list[Specimen]:
    return [
        Specimen(
            f"torchvision/{name}", partial(_make, name), layers, has_head=name not in WITHOUT_HEAD
        )
        for name, layers in NETS.items()
    ]


def _make(name: str) -> Case:
    from torchvision import models

    options = OPTIONS.get(name, {})
    if name == "maxvit_t":  # its function fixes the size of the network
        network = models.MaxVit(num_classes=N_CLASSES, **options)
    else:
        network = models.get_model(name, weights=None, num_classes=N_CLASSES, **options)
    return image_case(network, SIZES.get(name, 64))
