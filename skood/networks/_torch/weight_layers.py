"""The dense and convolutional layers of a torch network."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from math import prod
from typing import Any

from torch import Tensor, nn

_TRANSPOSED = (nn.ConvTranspose1d, nn.ConvTranspose2d, nn.ConvTranspose3d)
_CONVOLUTIONS = (nn.Conv1d, nn.Conv2d, nn.Conv3d, *_TRANSPOSED)
_NORMS_OF_CHANNELS = (
    nn.BatchNorm1d,
    nn.BatchNorm2d,
    nn.BatchNorm3d,
    nn.GroupNorm,
    nn.InstanceNorm1d,
    nn.InstanceNorm2d,
    nn.InstanceNorm3d,
    nn.SyncBatchNorm,
)
_NORMS = (*_NORMS_OF_CHANNELS, nn.LayerNorm)
# A norm that comes after one of these still comes before the activation function.
_NO_ACTIVATIONS = (nn.AlphaDropout, nn.Dropout, nn.Dropout1d, nn.Dropout2d, nn.Dropout3d)


@dataclass
class WeightLayer:
    """A dense layer, whose units are its neurons, or a convolution, whose units are its channels.

    Its neighbours are found by the order in which the network registers modules.
    """

    name: str
    module: Any
    """One of ``torch.nn``, whose attributes type checkers do not know."""
    norms_before: list[nn.Module]
    """Norms since the layer before, except the ``norm`` of that layer."""
    norm: nn.Module | None = None
    """Norm of the units that follows at once."""

    @property
    def n_units(self) -> int:
        """Number of neurons or channels."""
        return self.module.out_channels if self.is_convolution else self.module.out_features

    @property
    def n_weights(self) -> int:
        """Number of incoming weights of each unit."""
        if not self.is_convolution:
            return self.module.in_features
        return self.module.in_channels // self.module.groups * prod(self.module.kernel_size)

    @property
    def is_convolution(self) -> bool:
        """Whether a unit has several positions."""
        return isinstance(self.module, _CONVOLUTIONS)

    @property
    def last_module(self) -> nn.Module:
        """The module that yields what the activation function gets."""
        return self.module if self.norm is None else self.norm

    @property
    def has_units_first(self) -> bool:
        """Whether the output of ``last_module`` has its units in axis 1, not in the last axis."""
        if isinstance(self.norm, nn.LayerNorm):
            return len(self.norm.normalized_shape) > 1
        return self.is_convolution or self.norm is not None

    @property
    def n_axes(self) -> int:
        """Number of axes of its output for one sample without a batch; a batch has more."""
        return 1 + len(self.module.kernel_size) if self.is_convolution else 1

    def by_unit(self, weights: Tensor) -> Tensor:
        """Weights, or values of their shape, as (group, unit, input, position in the kernel).

        The units of all groups one after another are those of the layer; so are the inputs.
        """
        n_groups = self.module.groups if self.is_convolution else 1
        n_units = self.n_units // n_groups
        if isinstance(self.module, _TRANSPOSED):
            return weights.reshape(n_groups, -1, n_units, weights[0, 0].numel()).transpose(1, 2)
        return weights.reshape(n_groups, n_units, weights.shape[1], -1)

    def sum_by_unit(self, values: Tensor) -> Tensor:
        """Sums of values of the weights' shape over all incoming weights of a unit, (n_units,)."""
        if values.itemsize < 4:
            values = values.float()  # half precision would overflow
        if isinstance(self.module, _TRANSPOSED):
            return self.by_unit(values).sum((2, 3)).flatten()
        return values.sum(tuple(range(1, values.ndim)))


def find_weight_layers(network: nn.Module) -> list[WeightLayer]:
    """The layers of a network that have weights, in the order of registration, the output last."""
    layers: list[WeightLayer] = []
    norms: list[nn.Module] = []
    follows_at_once = False
    for name, module in _single_modules(network):
        if is_weight_module(module):
            layers.append(WeightLayer(name, module, norms))
            norms, follows_at_once = [], True
        elif isinstance(module, _NORMS):
            if follows_at_once and n_units_of_norm(module) == layers[-1].n_units:
                layers[-1].norm = module
            else:
                norms.append(module)
            follows_at_once = False
        elif not isinstance(module, _NO_ACTIVATIONS):
            follows_at_once = False
    return layers


def is_weight_module(module: nn.Module) -> bool:
    """Whether it is a dense layer or a convolution."""
    return isinstance(module, (nn.Linear, *_CONVOLUTIONS))


def _single_modules(network: nn.Module) -> Iterator[tuple[str, nn.Module]]:
    """Modules that hold no others; a layer whose weights are computed by others is one."""
    parts: tuple[str, ...] = ()
    for name, module in network.named_modules():
        if is_weight_module(module):
            parts = (f"{name}.",)
            yield name, module
        elif not name.startswith(parts) and not any(module.children()):
            yield name, module


def n_units_of_norm(norm: Any) -> int:
    """Number of neurons or channels that a norm scales."""
    if isinstance(norm, nn.LayerNorm):
        return norm.normalized_shape[0]
    return norm.num_channels if isinstance(norm, nn.GroupNorm) else norm.num_features
