"""The weights of any network as :func:`neuron_influence` needs them."""

from __future__ import annotations

import sys
from collections.abc import Iterable
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy.linalg import block_diag
from sklearn.neural_network import MLPClassifier, MLPRegressor
from sklearn.utils import check_array

from ..networks import NetworkAdapter, adapt

if TYPE_CHECKING:
    from torch import Tensor, nn

    from ..networks import WeightLayer


class LayerPowers(NamedTuple):
    """Weights of one layer, as powers that add up."""

    name: str
    powers: NDArray[np.float64]
    """``abs(weight) ** power`` of shape (n_units, n_inputs), summed over a kernel's positions."""
    is_convolution: bool


def read_powers(network: Any, power: int) -> list[LayerPowers]:
    """The layers of a network in forward order, the output last.

    Raises
    ------
    TypeError
        If the network is of no known kind.
    NotFittedError
        If it is not trained yet.
    ValueError
        If it has weights other than those of dense layers and convolutions, or weights that are
        not finite.
    """
    if isinstance(network, list | tuple):
        names = [f"layer_{number}" for number in range(len(network))]
        return _read_matrices(names, network, power)
    adapter = adapt(network)
    inner, torch = adapter.network, sys.modules.get("torch")
    if isinstance(inner, MLPClassifier | MLPRegressor):
        names = [*(f"hidden_{number}" for number in range(len(inner.coefs_) - 1)), "output"]
        return _read_matrices(names, (weights.T for weights in inner.coefs_), power)
    if torch is None or not isinstance(inner, torch.nn.Module):
        raise TypeError(
            "Influence needs the weights of all layers: those of a torch module, a skorch net or a "
            f"perceptron of scikit-learn. They cannot be read of {adapter.kind}."
        )
    return _read_torch(adapter, power)


def _read_matrices(
    names: list[str], matrices: Iterable[ArrayLike], power: int
) -> list[LayerPowers]:
    return [
        LayerPowers(
            name, np.abs(check_array(matrix, dtype=np.float64, input_name=name)) ** power, False
        )
        for name, matrix in zip(names, matrices, strict=True)
    ]


def _read_torch(adapter: NetworkAdapter, power: int) -> list[LayerPowers]:
    from ..networks import find_weight_layers

    layers = find_weight_layers(adapter.network)
    _check_has_no_other_weights(adapter.network, layers)
    # Weights may be computed when they are looked at.
    with adapter.untouched():
        return [
            LayerPowers(
                layer.name,
                _powers_of(layer, power, is_first=layer is layers[0]),
                layer.is_convolution,
            )
            for layer in layers
        ]


def _check_has_no_other_weights(network: nn.Module, layers: list[WeightLayer]) -> None:
    known = tuple(f"{layer.name}." for layer in layers)
    norms = {id(norm) for layer in layers for norm in (layer.norm, *layer.norms_before)}
    for name, module in network.named_modules():
        if f"{name}.".startswith(known) or id(module) in norms:
            continue
        if any(weights.ndim > 1 for weights in module.parameters(recurse=False)):
            raise ValueError(
                "Influence is defined for chains of dense layers and convolutions, but the "
                f"network has other weights: {name!r} is of type {type(module).__name__}."
            )


def _powers_of(layer: WeightLayer, power: int, *, is_first: bool) -> NDArray[np.float64]:
    weights = _to_numpy(layer.by_unit(layer.module.weight))
    if not np.isfinite(weights).all():
        raise ValueError(f"Layer {layer.name!r} has weights that are not finite.")
    powers = (np.abs(weights) ** power).sum(axis=-1)
    powers = powers[0] if len(powers) == 1 else block_diag(*powers)
    # Inputs of the network have no influence to be scaled.
    for norm in [] if is_first else layer.norms_before:
        scale = _scale(norm, power)
        n_inputs = powers.shape[1]
        if n_inputs % len(scale):
            raise ValueError(
                f"The {type(norm).__name__} before layer {layer.name!r} has {len(scale)} units, "
                f"which do not fit the {n_inputs} inputs of the layer: only chains of layers are "
                "supported."
            )
        powers *= np.repeat(scale, n_inputs // len(scale))
    return powers if layer.norm is None else powers * _scale(layer.norm, power)[:, None]


def _scale(norm: Any, power: int) -> NDArray[np.float64]:
    """Powers of the factors by which a norm scales its units, of shape (n_units,)."""
    from ..networks import n_units_of_norm

    factors = np.ones(n_units_of_norm(norm))
    if norm.weight is not None:
        factors = np.abs(_to_numpy(norm.weight))
    if getattr(norm, "running_var", None) is not None:
        factors = factors / np.sqrt(_to_numpy(norm.running_var) + norm.eps)
    # A layer norm may have a factor for each position of a channel.
    return (factors**power).reshape(len(factors), -1).mean(axis=1)


def _to_numpy(values: Tensor) -> NDArray[np.float64]:
    return values.detach().clone().cpu().double().numpy()  # never of the weights themselves
