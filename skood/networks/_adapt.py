"""Which adapter reads a network."""

from __future__ import annotations

import inspect
from collections.abc import Callable
from typing import Any

from sklearn.frozen import FrozenEstimator

from ._base import NetworkAdapter
from ._registry import Kind, Registry

AdapterFactory = Callable[..., NetworkAdapter]

_DEFAULTS = {"device": "auto", "logits": "auto", "head": "auto", "autocast": False}

_ADAPTERS = Registry("skood.networks")
_ADAPTERS.register("torch", "skood.networks._torch:TorchAdapter")
_ADAPTERS.register("skorch", "skood.networks._skorch:adapt_skorch")
_ADAPTERS.register("sklearn.neural_network.MLPClassifier", "skood.networks._sklearn_mlp:MLPAdapter")
_ADAPTERS.register("sklearn.neural_network.MLPRegressor", "skood.networks._sklearn_mlp:MLPAdapter")
for _kind in (".onnx", "onnx", "onnxruntime", bytes):
    _ADAPTERS.register(_kind, "skood.networks._onnx:adapt_onnx")


def register(kind: Kind, adapter: AdapterFactory | str) -> None:
    """Say which adapter reads networks of a kind.

    Parameters
    ----------
    kind : type or str
        A class, the dotted name of one, such as "torch.nn.Module", the name of a library, such as
        "torch", or the suffix of a file, such as ".onnx". A library is not imported. The adapter of
        the most specific kind is taken, and of one kind the one that was registered last.
    adapter : callable or str
        Called with a network, and by keyword with those of ``device``, ``logits``, ``head``
        and ``autocast`` that the user sets, where its signature names them; else they are refused.
        Returns a :class:`NetworkAdapter`. As a string, "module:name", which is imported
        when the first such network comes.

    Raises
    ------
    TypeError
        If the kind or the adapter is none of these.
    """
    _ADAPTERS.register(kind, adapter)


def adapt(network: Any, **options: Any) -> NetworkAdapter:
    """Choose the adapter of a network; only the library of the network is imported.

    Raises
    ------
    TypeError
        If the network is of no known kind.
    NotFittedError
        If it is not trained yet.
    ValueError
        If an option is set that the adapter does not know.
    """
    while isinstance(network, FrozenEstimator):
        network = network.estimator
    factory = _ADAPTERS.find(network)
    if factory is None:
        raise TypeError(
            "network must be a torch.nn.Module, a fitted skorch NeuralNet or a fitted scikit-learn "
            "MLPClassifier or MLPRegressor, or one of these in a FrozenEstimator, or an ONNX model "
            "(the path of an .onnx file, an onnxruntime.InferenceSession or an onnx.ModelProto), "
            f"or of a kind given to skood.networks.register; got {network!r}."
        )
    return factory(network, **_known_options(network, factory, options))


def _known_options(
    network: Any, factory: AdapterFactory, options: dict[str, Any]
) -> dict[str, Any]:
    """The options that are set."""
    wanted = {
        name: value
        for name, value in options.items()
        if not (type(value) is type(_DEFAULTS[name]) and value == _DEFAULTS[name])
    }
    known = inspect.signature(factory).parameters
    for name, value in wanted.items():
        if name not in known:
            raise ValueError(
                f"{name}={value!r} is not known for a {type(network).__name__}: leave it at its "
                f"default, {_DEFAULTS[name]!r}."
            )
    return wanted
