"""What libraries note on networks while they train, load and save them, and no pass reads.

Such a note says nothing of what a network computes, and differs between the network that was
trained and the same one in another process: the trainer, the name of a file, what was last logged.
It is known by the library whose class defines it, and by its name, since a network of the user may
mean something else by the same name.
"""

from __future__ import annotations

import functools
from typing import Any

_ALL, _IF_EMPTY = "*", "?"
_LIGHTNING = (
    "_automatic_optimization _compiler_ctx _current_fx_name _device_mesh _example_input_array "
    "_fabric _fabric_optimizers _hparams? _hparams_initial _log_hyperparams _metric_attributes "
    "_param_requires_grad_state _strict_loading _trainer"
)
_CONFIG = (
    "_auto_class _commit_hash _name_or_path architectures dtype model_type problem_type "
    "torch_dtype transformers_version use_cache"
)
_NOTES = {
    # accelerate and transformers mark any module.
    "torch.Module": "_is_accelerate_prepared _is_hf_initialized hf_device_map",
    "lightning.LightningModule": _LIGHTNING,
    "pytorch_lightning.LightningModule": _LIGHTNING,
    # It rates a network, and sums up what it was given.
    "torchmetrics.Metric": _ALL,
    "transformers.PreTrainedModel": "_auto_class _gradient_checkpointing_func "
    "_require_grads_hook _require_grads_hooks _use_kernels _weight_conversions "
    "generation_config gradient_checkpointing model_tags name_or_path warnings_issued",
    "transformers.GradientCheckpointingLayer": "_gradient_checkpointing_func "
    "gradient_checkpointing",
    "transformers.PreTrainedConfig": _CONFIG,
    "transformers.PretrainedConfig": _CONFIG,
    # On which devices weights lie, and where in memory.
    "accelerate.AlignDevicesHook": "buffer_original_devices execution_device input_device "
    "original_devices param_original_devices tied_params_map tied_pointers_to_remove",
    # An address.
    "sklearn._VectorizerMixin": "_stop_words_id",
}
"""Attributes that have no part in a pass, by library and class.

With a ``?``, only where they are empty: Lightning makes them for whoever asks, as its trainer does.
"""
_TRAINERS = frozenset(
    {
        "accelerate.Accelerator",
        "lightning.Trainer",
        "pytorch_lightning.Trainer",
        "torch.GradScaler",
        "torch.LRScheduler",
        "torch.Optimizer",
        "transformers.Trainer",
    }
)
"""What trains networks, some of which hold it."""


_PLACING = "accelerate.AlignDevicesHook"
_HOOK, _INNER, _REPLACED = "_hf_hook", "_old_forward", "forward"
_MOVING = frozenset({"cuda", "mlu", "musa", "npu", "sdaa", "to", "xpu"})
"""Methods of a module that accelerate replaces by ones that warn."""


def without_placement(module: Any) -> dict[str, Any]:
    """Attributes of a module, without those by which accelerate moves inputs to its weights.

    On which devices a network lies makes no difference to what it computes.
    """
    attributes: dict[str, Any] = vars(module)
    hook = attributes.get(_HOOK)
    if hook is None or _INNER not in attributes or _PLACING not in _names_of(type(hook)):
        return attributes
    left = {n: v for n, v in attributes.items() if n not in {_HOOK, _INNER, _REPLACED, *_MOVING}}
    inner = attributes[_INNER]
    is_of_class = getattr(inner, "__func__", None) is type(module).forward
    return left if is_of_class else {**left, _REPLACED: inner}


def is_note(kind: type, name: str, value: Any = None) -> bool:
    """Whether an attribute of objects of a class has no part in what a network computes.

    Parameters
    ----------
    kind : type
        The class.
    name : str
        The attribute.
    value : object, default=None
        What it holds.
    """
    notes = _notes_of(kind)
    held: type = type(value)
    is_empty = f"{name}{_IF_EMPTY}" in notes and not value
    return name in notes or _ALL in notes or is_empty or _is_trainer(held)


@functools.lru_cache(maxsize=10_000)
def _is_trainer(kind: type) -> bool:
    return not _TRAINERS.isdisjoint(_names_of(kind))


@functools.lru_cache(maxsize=10_000)
def _notes_of(kind: type) -> frozenset[str]:
    return frozenset(
        note for name in _names_of(kind) if name in _NOTES for note in _NOTES[name].split()
    )


def _names_of(kind: type) -> frozenset[str]:
    """Library and name of a class and of those that it is derived from."""
    return frozenset(f"{k.__module__.partition('.')[0]}.{k.__name__}" for k in kind.__mro__)
