"""What to do with an object that no adapter reads."""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping
from typing import Any

import numpy as np
from sklearn.base import BaseEstimator
from sklearn.calibration import CalibratedClassifierCV

_OWN = (
    "a torch.nn.Module, an exported program of torch, an ONNX model (the path of its file, a "
    "session of onnxruntime, a ModelProto or its bytes), a fitted skorch NeuralNet, or a fitted "
    "scikit-learn MLPClassifier or MLPRegressor, also at the end of a Pipeline, in a "
    "FrozenEstimator or as what a fitted search has found"
)
_HOLDERS = ("estimator_", "regressor_", "estimators_")
# By the libraries that define the class of an object.
_OTHER_FRAMEWORKS = {
    "equinox": "JAX",
    "flax": "JAX",
    "haiku": "JAX",
    "jax": "JAX",
    "jaxlib": "JAX",
    "keras": "Keras",
    "keras_core": "Keras",
    "mlx": "MLX",
    "mxnet": "MXNet",
    "paddle": "PaddlePaddle",
    "tensorflow": "TensorFlow",
    "tf_keras": "Keras",
}
# What these suffixes of files mean.
_FILES = {
    (".bin", ".ckpt", ".pt", ".pth", ".safetensors"): "load it into the torch module that it is of",
    (".h5", ".hdf5", ".keras", ".pb", ".tflite"): "export the network to ONNX, in a file .onnx",
    (".joblib", ".pickle", ".pkl"): "load it, and pass what it holds",
    (".pt2",): "load it with torch.export.load",
}


def explain_unknown(network: Any, kinds: list[str], is_known: Callable[[Any], bool]) -> str:
    """The message for an object that is no network of one of the kinds.

    ``is_known`` says whether another one is.
    """
    advice = _advise_on_held(network, is_known) or _advise(network)
    return (
        f"network must be {_OWN}, or of a kind given to skood.networks.register, which knows "
        f"{kinds}; got {_describe(network)}. {advice}"
    ).strip()


def _describe(network: Any) -> str:
    if isinstance(network, type):
        return f"the class {network.__name__}"
    if isinstance(network, str | os.PathLike):
        return repr(network)
    if isinstance(network, BaseEstimator):
        return f"a {type(network).__name__}"
    return f"an object of type {type(network).__module__}.{type(network).__qualname__}"


def _advise(network: Any) -> str:
    for advise in (_advise_on_class, _advise_on_framework, _advise_on_estimator, _advise_on_file):
        if advice := advise(network):
            return advice
    if isinstance(network, Mapping):
        return (
            "A state_dict, or another mapping, holds weights alone: load it into the module that "
            "it is of, module.load_state_dict(...), and pass the module."
        )
    if callable(network):
        return (
            "A function has no layers that can be read: pass the network that it calls, or "
            "register an adapter."
        )
    return ""


def _advise_on_class(network: Any) -> str:
    if not isinstance(network, type):
        return ""
    return f"Pass a trained instance, such as {network.__name__}(...), not its class."


def _advise_on_framework(network: Any) -> str:
    roots = [parent.__module__.partition(".")[0] for parent in type(network).__mro__]
    framework = next((_OTHER_FRAMEWORKS[root] for root in roots if root in _OTHER_FRAMEWORKS), None)
    if framework is None:
        return ""
    return (
        f"There is no adapter for {framework} here: export the network to ONNX and pass the file, "
        "or register an adapter, as the user guide explains on the page 'Adding a framework'."
    )


def _advise_on_estimator(network: Any) -> str:
    if isinstance(network, CalibratedClassifierCV):
        return (
            "Its probabilities are those of several calibrated copies, which are not those of one "
            "network: pass the network that it was given, fitted."
        )
    if not isinstance(network, BaseEstimator):
        return ""
    return f"A {type(network).__name__} has no layers of neurons."


def _advise_on_held(network: Any, is_known: Callable[[Any], bool]) -> str:
    names = [name for name in _HOLDERS if any(map(is_known, _items(getattr(network, name, None))))]
    return f"What it holds in {names} is a network: pass that." if names else ""


def _items(held: Any) -> list[Any]:
    if not isinstance(held, list | tuple | np.ndarray):
        return [held]
    return [found for item in held for found in _items(item)]


def _advise_on_file(network: Any) -> str:
    if not isinstance(network, str | os.PathLike):
        return ""
    suffix = os.path.splitext(os.fsdecode(network))[1].lower()
    advice = next((what for suffixes, what in _FILES.items() if suffix in suffixes), None)
    return "" if advice is None else f"Of a file {suffix}, {advice}."
