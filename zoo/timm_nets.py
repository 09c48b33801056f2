"""At least one small network of nearly every family of timm."""

from __future__ import annotations

from functools import partial
from typing import Any

from .specimen import N_CLASSES, Case, Specimen, image_case

NETS: dict[str, tuple[str, ...]] = {
    "beit_base_patch16_224": (),
    "botnet26t_256": (),
    "caformer_s18": (),
    "cait_xxs24_224": (),
    "coat_lite_tiny": (),
    "coat_tiny": (),
    "coatnet_nano_rw_224": (),
    "convformer_s18": (),
    "convit_tiny": (),
    "convmixer_1024_20_ks9_p14": (),
    "convnext_atto": (),
    "convnextv2_atto": (),
    "cpubone_nano": (),
    "crossvit_9_240": (),
    "csatv2": (),
    "cspresnet50": (),
    "cspnext_tiny": (),
    "cs3darknet_focus_s": (),
    "davit_tiny": (),
    "deit_tiny_patch16_224": (),
    "deit_tiny_distilled_patch16_224": (),
    "densenet121": (),
    "dla46x_c": (),
    "dpn48b": (),
    "eca_nfnet_l0": (),
    "edgenext_xx_small": (),
    "efficientformer_l1": (),
    "efficientformerv2_s0": (),
    "efficientnet_b0": (),
    "efficientvim_m1": (),
    "efficientvit_b0": (),
    "efficientvit_m0": (),
    "ese_vovnet19b_slim": (),
    "eva02_tiny_patch14_224": (),
    "fasternet_t0": (),
    "fastvit_t8": (),
    "focalnet_tiny_srf": (),
    "gcvit_xxtiny": (),
    "gernet_s": (),
    "ghostnet_050": (),
    "gmlp_ti16_224": (),
    "hardcorenas_a": (),
    "hgnetv2_b0": (),
    "hiera_tiny_224": (),
    "hrnet_w18_small": (),
    "iformer_t": (),
    "inception_next_atto": (),
    "inception_v4": (),
    "lambda_resnet26t": (),
    "lcnet_050": (),
    "lcnetv2_small": (),
    "legacy_seresnet18": (),
    "legacy_xception": (),
    "levit_128s": (),
    "levit_conv_128s": (),
    "lowformer_b0": (),
    "mambaout_femto": (),
    "maxvit_pico_rw_256": (),
    "mixer_s32_224": (),
    "mobilenetv3_small_050": (),
    "mobilenetv4_conv_small": (),
    "mobileone_s0": (),
    "mobilevit_xxs": (),
    "mobilevitv2_050": (),
    "mvitv2_tiny": (),
    "nest_tiny": (),
    "nextvit_small": (),
    "nf_regnet_b0": (),
    "pit_ti_224": (),
    "pit_ti_distilled_224": (),
    "poolformer_s12": (),
    "pvt_v2_b0": (),
    "rdnet_tiny": (),
    "regnety_002": (),
    "repghostnet_050": (),
    "repvgg_a0": (),
    "repvit_m0_9": (),
    "res2net50_14w_8s": (),
    "resmlp_12_224": (),
    "resnest14d": (),
    "resnet10t": (),
    "resnetv2_50": (),
    "resnetv2_50x1_bit": (),
    "rexnet_100": (),
    "selecsls42": (),
    "sequencer2d_s": (),
    "shvit_s1": (),
    "skresnet18": (),
    "starnet_s1": (),
    "swiftformer_xs": (),
    "swin_tiny_patch4_window7_224": (),
    "swinv2_tiny_window8_256": (),
    "swinv2_cr_tiny_224": (),
    "tf_efficientnetv2_b0": (),
    "tiny_vit_5m_224": (),
    "tnt_s_patch16_224": (),
    "tresnet_m": (),
    "twins_svt_small": (),
    "visformer_tiny": (),
    "vit_tiny_patch16_224": (),
    "vit_tiny_r_s16_p8_224": (),
    "vit_relpos_small_patch16_224": (),
    "vitamin_small_224": (),
    "volo_d1_224": (),
    "xception41": (),
    "xcit_nano_12_p16_224": (),
}
"""Layers that "auto" must stand for, by name of the network."""

WITHOUT_HEAD = (
    "crossvit_9_240",
    "deit_tiny_distilled_patch16_224",
    "efficientformer_l1",
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
SIZES = {"efficientformer_l1": 224, "inception_v4": 96}
OPTIONS: dict[str, dict[str, Any]] = {
    "beit_base_patch16_224": {"embed_dim": 96, "depth": 4, "num_heads": 4},
    # It enlarges its images itself.
    "crossvit_9_240": {"img_size": 240},
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
