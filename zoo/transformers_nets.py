"""Small transformers of Hugging Face, from their configurations: no weights are loaded."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from functools import partial
from typing import Any

import torch
from torch import Tensor

from .specimen import N_CLASSES, N_OTHERS, N_SAMPLES, Case, Specimen, image_case

TEXT = {
    "vocab_size": 60,
    "hidden_size": 32,
    "num_hidden_layers": 3,
    "num_attention_heads": 4,
    "intermediate_size": 48,
    "max_position_embeddings": 64,
    "num_labels": N_CLASSES,
    "pad_token_id": 0,
    "bos_token_id": 1,
    "eos_token_id": 2,
}
IMAGE = {
    "image_size": 32,
    "patch_size": 8,
    "hidden_size": 32,
    "num_hidden_layers": 3,
    "num_attention_heads": 4,
    "intermediate_size": 48,
    "num_labels": N_CLASSES,
}
SOUND = {
    "hidden_size": 32,
    "num_hidden_layers": 2,
    "num_attention_heads": 4,
    "intermediate_size": 48,
    "conv_dim": (16, 16),
    "conv_stride": (4, 4),
    "conv_kernel": (8, 4),
    "num_feat_extract_layers": 2,
    "num_conv_pos_embeddings": 16,
    "num_conv_pos_embedding_groups": 2,
    "classifier_proj_size": 16,
    "num_labels": N_CLASSES,
}
DISTILBERT = {"dim": 32, "n_layers": 3, "n_heads": 4, "hidden_dim": 48}
GPT2 = {"n_embd": 32, "n_layer": 3, "n_head": 4, "n_positions": 64}
SMALL = {"vocab_size": 60, "pad_token_id": 0, "num_labels": N_CLASSES, "d_model": 32, "d_inner": 48}
XLNET = SMALL | {"n_layer": 3, "n_head": 4}
FUNNEL = SMALL | {"block_sizes": [1, 1], "n_head": 4, "d_head": 8}
MOBILEBERT = {
    "embedding_size": 16,
    "intra_bottleneck_size": 16,
    "true_hidden_size": 16,
    "num_feedforward_networks": 2,
}
PERCEIVER = {
    "d_latents": 32,
    "d_model": 24,
    "num_latents": 6,
    "num_blocks": 1,
    "num_self_attends_per_block": 2,
    "num_self_attention_heads": 4,
    "num_cross_attention_heads": 4,
}
WHISPER = {
    "num_mel_bins": 16,
    "max_source_positions": 20,
    "classifier_proj_size": 16,
    "decoder_start_token_id": 1,
}
SPECTROGRAM = {
    "max_length": 32,
    "num_mel_bins": 16,
    "frequency_stride": 8,
    "time_stride": 8,
}
T5 = {
    "d_model": 32,
    "d_kv": 8,
    "d_ff": 48,
    "num_layers": 2,
    "num_heads": 4,
    "decoder_start_token_id": 0,
}
BART = {
    "d_model": 32,
    "encoder_layers": 2,
    "decoder_layers": 2,
    "encoder_attention_heads": 4,
    "decoder_attention_heads": 4,
    "encoder_ffn_dim": 48,
    "decoder_ffn_dim": 48,
}
SWIN = {
    "image_size": 32,
    "patch_size": 2,
    "embed_dim": 16,
    "depths": [1, 2],
    "num_heads": [2, 4],
    "window_size": 4,
    "num_labels": N_CLASSES,
}
STAGES = {"hidden_sizes": [16, 24, 32, 40], "depths": [1, 1, 2, 1], "num_labels": N_CLASSES}
SEGFORMER = {
    "hidden_sizes": [8, 16, 24, 32],
    "depths": [1, 1, 1, 1],
    "num_attention_heads": [1, 2, 2, 4],
    "num_labels": N_CLASSES,
}

# Model, configuration, its options, the layers that "auto" must stand for.
Entry = tuple[str, str, dict[str, Any], tuple[str, ...]]
TEXTS: dict[str, Entry] = {
    "bert": (
        "BertForSequenceClassification",
        "BertConfig",
        TEXT,
        ("bert.encoder.layer.0.output", "bert.encoder.layer.2.output"),
    ),
    "roberta": (
        "RobertaForSequenceClassification",
        "RobertaConfig",
        TEXT,
        ("roberta.encoder.layer.0.output", "roberta.encoder.layer.2.output"),
    ),
    "distilbert": (
        "DistilBertForSequenceClassification",
        "DistilBertConfig",
        TEXT | DISTILBERT,
        ("distilbert.transformer.layer.0", "distilbert.transformer.layer.2"),
    ),
    "electra": (
        "ElectraForSequenceClassification",
        "ElectraConfig",
        TEXT | {"embedding_size": 24},
        ("electra.encoder.layer.0.output", "electra.encoder.layer.2.output"),
    ),
    "deberta_v2": (
        "DebertaV2ForSequenceClassification",
        "DebertaV2Config",
        TEXT | {"relative_attention": True, "pos_att_type": ["p2c", "c2p"]},
        ("deberta.encoder.layer.0.output", "deberta.encoder.layer.2.output"),
    ),
    "albert": (
        "AlbertForSequenceClassification",
        "AlbertConfig",
        TEXT | {"embedding_size": 24},
        ("albert.encoder.*",),
    ),
    "modernbert": (
        "ModernBertForSequenceClassification",
        "ModernBertConfig",
        TEXT
        | {"global_attn_every_n_layers": 2, "local_attention": 8}
        | {"cls_token_id": 3, "sep_token_id": 4},
        ("model.layers.0", "model.layers.2"),
    ),
    "xlm_roberta": (
        "XLMRobertaForSequenceClassification",
        "XLMRobertaConfig",
        TEXT,
        ("roberta.encoder.layer.0.output", "roberta.encoder.layer.2.output"),
    ),
    "gpt2": (
        "GPT2ForSequenceClassification",
        "GPT2Config",
        TEXT | GPT2,
        ("transformer.h.0", "transformer.h.2"),
    ),
    "llama": (
        "LlamaForSequenceClassification",
        "LlamaConfig",
        TEXT | {"num_key_value_heads": 2},
        ("model.layers.0", "model.layers.2"),
    ),
    "qwen2": (
        "Qwen2ForSequenceClassification",
        "Qwen2Config",
        TEXT | {"num_key_value_heads": 2},
        ("model.layers.0", "model.layers.2"),
    ),
    "opt": (
        "OPTForSequenceClassification",
        "OPTConfig",
        TEXT | {"ffn_dim": 48, "word_embed_proj_dim": 32},
        ("model.decoder.layers.0", "model.decoder.layers.2"),
    ),
    "mixtral": (
        "MixtralForSequenceClassification",
        "MixtralConfig",
        TEXT | {"num_key_value_heads": 2, "num_local_experts": 4},
        ("model.layers.0", "model.layers.2"),
    ),
    "mobilebert": (
        "MobileBertForSequenceClassification",
        "MobileBertConfig",
        TEXT | MOBILEBERT,
        ("mobilebert.encoder.layer.0.*", "mobilebert.encoder.layer.2.*"),
    ),
    "funnel": (
        "FunnelForSequenceClassification",
        "FunnelConfig",
        FUNNEL,
        ("funnel.encoder.blocks.0.*", "funnel.encoder.blocks.1.*"),
    ),
    "xlnet": ("XLNetForSequenceClassification", "XLNetConfig", XLNET, ()),
    "perceiver": (
        "PerceiverForSequenceClassification",
        "PerceiverConfig",
        TEXT | PERCEIVER,
        ("perceiver.encoder.self_attends.0", "perceiver.encoder.self_attends.1"),
    ),
    "bart": (
        "BartForSequenceClassification",
        "BartConfig",
        TEXT | BART,
        ("model.encoder.layers.0", "model.decoder.layers.1"),
    ),
    "t5": (
        "T5ForSequenceClassification",
        "T5Config",
        TEXT | T5,
        ("transformer.encoder.block.0.*", "transformer.decoder.block.1.*"),
    ),
}
IMAGES: dict[str, Entry] = {
    "vit": ("ViTForImageClassification", "ViTConfig", IMAGE, ("vit.layers.0", "vit.layers.2")),
    "deit": ("DeiTForImageClassification", "DeiTConfig", IMAGE, ("deit.layers.0", "deit.layers.2")),
    "deit_with_teacher": (
        "DeiTForImageClassificationWithTeacher",
        "DeiTConfig",
        IMAGE,
        ("deit.layers.0", "deit.layers.2"),
    ),
    "beit": ("BeitForImageClassification", "BeitConfig", IMAGE, ("beit.layers.0", "beit.layers.2")),
    "dinov2": (
        "Dinov2ForImageClassification",
        "Dinov2Config",
        IMAGE,
        ("dinov2.encoder.layer.0", "dinov2.encoder.layer.2"),
    ),
    "clip": (
        "CLIPForImageClassification",
        "CLIPConfig",
        {"vision_config": IMAGE, "num_labels": N_CLASSES, "image_size": 32},
        ("vision_model.encoder.layers.0", "vision_model.encoder.layers.2"),
    ),
    "levit": (
        "LevitForImageClassification",
        "LevitConfig",
        {"image_size": 64, "num_labels": N_CLASSES},
        ("levit.encoder.stages.0.layers.0", "levit.encoder.stages.2.layers.*"),
    ),
    "swin": (
        "SwinForImageClassification",
        "SwinConfig",
        SWIN,
        ("swin.encoder.layers.0.blocks.0", "swin.encoder.layers.1.blocks.1"),
    ),
    "swinv2": (
        "Swinv2ForImageClassification",
        "Swinv2Config",
        SWIN,
        ("swinv2.encoder.layers.0.blocks.0", "swinv2.encoder.layers.1.blocks.1"),
    ),
    "convnext": (
        "ConvNextForImageClassification",
        "ConvNextConfig",
        STAGES,
        ("convnext.encoder.stages.0.layers.0", "convnext.encoder.stages.3.layers.0"),
    ),
    "convnextv2": (
        "ConvNextV2ForImageClassification",
        "ConvNextV2Config",
        STAGES,
        ("convnextv2.encoder.stages.0.layers.0", "convnextv2.encoder.stages.3.layers.0"),
    ),
    "resnet": (
        "ResNetForImageClassification",
        "ResNetConfig",
        STAGES | {"embedding_size": 16, "layer_type": "basic"},
        ("resnet.encoder.stages.0.layers.0", "resnet.encoder.stages.3.layers.0"),
    ),
    "mobilevit": (
        "MobileViTForImageClassification",
        "MobileViTConfig",
        {"hidden_sizes": [16, 24, 32], "neck_hidden_sizes": [8, 8, 16, 16, 24, 32, 64]}
        | {"num_labels": N_CLASSES, "image_size": 64},
        ("mobilevit.encoder.layer.1.layer.2",),
    ),
    "segformer": (
        "SegformerForImageClassification",
        "SegformerConfig",
        SEGFORMER,
        ("segformer.stages.0.blocks.0", "segformer.stages.3.blocks.0"),
    ),
}
SOUNDS: dict[str, Entry] = {
    "wav2vec2": (
        "Wav2Vec2ForSequenceClassification",
        "Wav2Vec2Config",
        SOUND,
        ("wav2vec2.encoder.layers.0", "wav2vec2.encoder.layers.1"),
    ),
    "hubert": (
        "HubertForSequenceClassification",
        "HubertConfig",
        SOUND,
        ("hubert.encoder.layers.0", "hubert.encoder.layers.1"),
    ),
}
# And the name and the shape of a sample.
SHAPED: dict[str, tuple[*Entry, str, tuple[int, ...]]] = {
    "videomae": (
        "VideoMAEForVideoClassification",
        "VideoMAEConfig",
        IMAGE | {"num_frames": 4},
        ("videomae.encoder.layer.0*", "videomae.encoder.layer.2*"),
        "pixel_values",
        (4, 3, 32, 32),
    ),
    "audio_spectrogram_transformer": (
        "ASTForAudioClassification",
        "ASTConfig",
        IMAGE | SPECTROGRAM,
        ("*.layers.0", "*.layers.2"),
        "input_values",
        (32, 16),
    ),
    "whisper": (
        "WhisperForAudioClassification",
        "WhisperConfig",
        TEXT | BART | WHISPER,
        ("encoder.layers.0", "encoder.layers.1"),
        "input_features",
        (16, 40),
    ),
}
WITHOUT_HEAD = ("deit_with_teacher",)
"""The mean of two heads is the output."""


def list_specimens() -> list[Specimen]:
    kinds: tuple[tuple[Mapping[str, Any], Callable[..., Case]], ...] = (
        (TEXTS, make_text_case),
        (IMAGES, _make_image_case),
        (SOUNDS, _make_sound_case),
        (SHAPED, _make_shaped_case),
    )
    return [
        Specimen(
            f"transformers/{name}",
            partial(make_case, model, config, options, *rest),
            layers,
            has_head=name not in WITHOUT_HEAD,
        )
        for entries, make_case in kinds
        for name, (model, config, options, layers, *rest) in entries.items()
    ]


def build(model: str, config: str, options: dict[str, Any]) -> Any:
    """The network with random weights."""
    import transformers

    network = getattr(transformers, model)(getattr(transformers, config)(**options))
    network.config.use_cache = False
    return network


def make_text_case(model: str, config: str, options: dict[str, Any]) -> Case:
    """Texts of 4 to 12 tokens for the fit, of at most 9 later."""
    return Case(
        build(model, config, options),
        inputs=make_texts(N_SAMPLES, 12),
        others=make_texts(N_OTHERS, 9),
        padded=make_texts(N_SAMPLES, 12, n_padding=5),
    )


def make_texts(n_texts: int, longest: int, n_padding: int = 0) -> dict[str, Tensor]:
    """Texts of several lengths, with padding up to the longest, and more where that is wanted.

    Each ends in the token that T5 and BART take for the end.
    """
    generator = torch.Generator().manual_seed(n_texts)
    tokens = torch.randint(5, 60, (n_texts, longest), generator=generator)
    lengths = torch.randint(4, longest + 1, (n_texts,), generator=generator)
    lengths[0] = longest
    present = (torch.arange(longest) < lengths[:, None]).long()
    tokens[torch.arange(n_texts), lengths - 1] = 2
    tokens[tokens * present == 0] = 0
    return {
        "input_ids": torch.nn.functional.pad(tokens, (0, n_padding)),
        "attention_mask": torch.nn.functional.pad(present, (0, n_padding)),
    }


def _make_image_case(model: str, config: str, options: dict[str, Any]) -> Case:
    return image_case(build(model, config, options), options.get("image_size", 64))


def _make_sound_case(model: str, config: str, options: dict[str, Any]) -> Case:
    generator = torch.Generator().manual_seed(0)
    sounds = torch.randn(N_SAMPLES + N_OTHERS, 800, generator=generator)
    return Case(
        build(model, config, options),
        inputs={"input_values": sounds[:N_SAMPLES]},
        others={"input_values": sounds[N_SAMPLES:, :600]},
    )


def _make_shaped_case(
    model: str, config: str, options: dict[str, Any], key: str, shape: tuple[int, ...]
) -> Case:
    """Arrays of one shape, under the name that the network has for them."""
    generator = torch.Generator().manual_seed(0)
    values = torch.randn(N_SAMPLES + N_OTHERS, *shape, generator=generator)
    return Case(
        build(model, config, options | {"num_labels": N_CLASSES}),
        inputs={key: values[:N_SAMPLES]},
        others={key: values[N_SAMPLES:]},
    )
