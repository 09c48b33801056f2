"""At least one small network of nearly every family of timm."""

from __future__ import annotations

from functools import partial
from typing import Any

from .specimen import N_CLASSES, Case, Specimen, image_case

NETS: dict[str, tuple[str, ...]] = {
    "beit_base_patch16_224": ("blocks.0", "blocks.3"),
    "botnet26t_256": ("stages.0.0", "stages.3.1"),
    "cait_xxs24_224": ("blocks.0", "blocks.23", "blocks_token_only.1"),
    "coat_lite_tiny": ("serial_blocks1.0", "serial_blocks4.1"),
    "coat_tiny": ("serial_blocks1.0", "serial_blocks4.1", "parallel_blocks.*"),
    "coatnet_nano_rw_224": ("stages.0.blocks.0", "stages.3.blocks.2"),
    "convformer_s18": ("stages.0.blocks.0", "stages.3.blocks.2"),
    "convit_tiny": ("blocks.0", "blocks.11"),
    "convmixer_1024_20_ks9_p14": ("blocks.0.0", "blocks.19.0"),
    "convnext_atto": ("stages.0.blocks.0", "stages.3.blocks.1"),
    "convnextv2_atto": ("stages.0.blocks.0", "stages.3.blocks.1"),
    "cpubone_nano": ("stages.*",),
    "crossvit_9_240": ("blocks.0.*", "blocks.2.*"),
    "csatv2": ("stages.0.0", "stages.2.*"),
    "cspresnet50": ("stages.0.blocks.0", "stages.3.blocks.1"),
    "cspnext_tiny": ("stages.0.*", "stages.3.*"),
    "cs3darknet_focus_s": ("stages.0.*", "stages.3.*"),
    "davit_tiny": ("stages.0.blocks.0.*", "stages.3.blocks.*"),
    "deit_tiny_patch16_224": ("blocks.0", "blocks.11"),
    "deit_tiny_distilled_patch16_224": ("blocks.0", "blocks.11"),
    "dla46x_c": ("level2.*", "level5.*"),
    "dpn48b": ("features.conv2_1.*", "features.conv5_*"),
    "edgenext_xx_small": ("stages.0.blocks.0", "stages.3.blocks.1"),
    "efficientformerv2_s0": ("stages.0.blocks.0", "stages.3.blocks.*"),
    "efficientnet_b0": ("blocks.1.1", "blocks.5.3"),
    "efficientvim_m1": ("stages.0.blocks.0", "stages.2.blocks.1"),
    "efficientvit_b0": ("stages.*",),
    "efficientvit_m0": ("stages.*",),
    "ese_vovnet19b_slim": ("stages.0.*", "stages.3.*"),
    "eva02_tiny_patch14_224": ("blocks.0", "blocks.11"),
    "fasternet_t0": ("stages.0.blocks.0", "stages.3.blocks.1"),
    "fastvit_t8": ("stages.0.blocks.*", "stages.3.blocks.*"),
    "focalnet_tiny_srf": ("layers.0.blocks.0", "layers.3.blocks.1"),
    "gcvit_xxtiny": ("stages.0.blocks.*", "stages.3.blocks.*"),
    "gernet_s": ("stages.0.0", "stages.4.0"),
    "ghostnet_050": ("blocks.0.0", "blocks.1.0", "blocks.8.3"),
    "gmlp_ti16_224": ("blocks.0", "blocks.29"),
    "hardcorenas_a": ("blocks.1.1", "blocks.5.1"),
    "hgnetv2_b0": ("stages.0.*", "stages.3.*"),
    "hiera_tiny_224": ("blocks.0", "blocks.1", "blocks.11"),
    "hrnet_w18_small": ("stage2.*", "stage4.*"),
    "iformer_t": ("stages.0.blocks.*", "stages.3.blocks.*"),
    "inception_next_atto": ("stages.0.blocks.0", "stages.3.blocks.1"),
    "lambda_resnet26t": ("stages.0.0", "stages.3.1"),
    "lcnet_050": ("blocks.*",),
    "lcnetv2_small": ("stages.0.*", "stages.3.*"),
    "legacy_seresnet18": ("layer1.0", "layer4.1"),
    "levit_128s": ("stages.0.blocks.0", "stages.2.blocks.3"),
    "levit_conv_128s": ("stages.0.blocks.0", "stages.2.blocks.3"),
    "lowformer_b0": ("stages.*",),
    "mambaout_femto": ("stages.0.blocks.0", "stages.3.blocks.2"),
    "mixer_s32_224": ("blocks.0", "blocks.7"),
    "mobilenetv3_small_050": ("blocks.1.1", "blocks.4.2"),
    "mobilenetv4_conv_small": ("blocks.2.1", "blocks.3.5"),
    "mobileone_s0": ("stages.0.0*", "stages.3.0*"),
    "mobilevit_xxs": ("stages.0.*", "stages.4.*"),
    "mobilevitv2_050": ("stages.1.1", "stages.4.1.*"),
    "mvitv2_tiny": ("stages.0.blocks.0", "stages.3.blocks.1"),
    "nest_tiny": ("levels.0.transformer_encoder.0", "levels.2.transformer_encoder.7"),
    "nextvit_small": ("stages.0.blocks.0", "stages.3.blocks.*"),
    "nf_regnet_b0": ("stages.1.1", "stages.3.5"),
    "pit_ti_224": ("transformers.0.blocks.0", "transformers.2.blocks.3"),
    "pit_ti_distilled_224": ("transformers.0.blocks.0", "transformers.2.blocks.3"),
    "poolformer_s12": ("stages.0.blocks.0", "stages.3.blocks.1"),
    "pvt_v2_b0": ("stages.0.blocks.0", "stages.3.blocks.1"),
    "rdnet_tiny": ("dense_stages.0.*", "dense_stages.6.*"),
    "regnety_002": ("s1.b1", "s4.b7"),
    "repghostnet_050": ("blocks.0.0", "blocks.8.3"),
    "repvgg_a0": ("stages.0.0*", "stages.3.0*"),
    "repvit_m0_9": ("stages.0.blocks.*", "stages.3.blocks.*"),
    "res2net50_14w_8s": ("layer1.0", "layer4.2"),
    "resmlp_12_224": ("blocks.0", "blocks.11"),
    "resnest14d": ("layer1.0", "layer4.0"),
    "resnet10t": ("layer1.0", "layer4.0"),
    "resnetv2_50x1_bit": ("stages.0.blocks.0", "stages.3.blocks.2"),
    "rexnet_100": ("features.*",),
    "selecsls42": ("features.0.*", "features.*"),
    "sequencer2d_s": ("stages.0.blocks.0", "stages.3.blocks.2"),
    "shvit_s1": ("stages.*",),
    "skresnet18": ("layer1.0", "layer4.1"),
    "starnet_s1": ("stages.0.*", "stages.3.*"),
    "swiftformer_xs": ("stages.0.blocks.*", "stages.3.blocks.*"),
    "swin_tiny_patch4_window7_224": ("layers.0.blocks.0", "layers.3.blocks.1"),
    "swinv2_tiny_window8_256": ("layers.0.blocks.0", "layers.3.blocks.1"),
    "tf_efficientnetv2_b0": ("blocks.1.1", "blocks.5.7"),
    "tiny_vit_5m_224": ("stages.0.blocks.0", "stages.3.blocks.1"),
    "tnt_s_patch16_224": ("blocks.0*", "blocks.11*"),
    "tresnet_m": ("body.layer1.0", "body.layer4.2"),
    "twins_svt_small": ("blocks.0.0", "blocks.3.3"),
    "visformer_tiny": ("stage1.0", "stage3.3"),
    "vit_tiny_patch16_224": ("blocks.0", "blocks.11"),
    "vit_tiny_r_s16_p8_224": ("blocks.0", "blocks.11"),
    "volo_d1_224": ("network.0.0", "network.4.1"),
    "xception41": ("blocks.0", "blocks.11"),
    "xcit_nano_12_p16_224": ("blocks.0", "blocks.11"),
}
"""Layers that "auto" must stand for, by name of the network."""

WITHOUT_HEAD = (
    "crossvit_9_240",
    "deit_tiny_distilled_patch16_224",
    "efficientformerv2_s0",
    "efficientvim_m1",
    "levit_128s",
    "levit_conv_128s",
    "pit_ti_distilled_224",
    "repvit_m0_9",
    "swiftformer_xs",
    "volo_d1_224",
)
"""They have several heads, and the output is their mean or sum."""
SIZES = {"crossvit_9_240": 120}
OPTIONS: dict[str, dict[str, Any]] = {
    "beit_base_patch16_224": {"embed_dim": 96, "depth": 4, "num_heads": 4},
}


def list_specimens() -> list[Specimen]:
    return [
        Specimen(f"timm/{name}", partial(_make, name), layers, has_head=name not in WITHOUT_HEAD)
        for name, layers in NETS.items()
    ]


def _make(name: str) -> Case:
    import timm

    size, options = SIZES.get(name, 64), {"img_size": SIZES.get(name, 64)} | OPTIONS.get(name, {})
    try:
        network = timm.create_model(name, num_classes=N_CLASSES, **options)
    except TypeError:  # one that takes images of any size
        network = timm.create_model(name, num_classes=N_CLASSES)
    return image_case(network, size)
