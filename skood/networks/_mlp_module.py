"""A multilayer perceptron of scikit-learn as a module of torch."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import torch
from torch import Tensor, nn

from ._base import LayerReading

_FUNCTIONS: dict[str, Callable[[Tensor], Tensor]] = {
    "exp": torch.exp,
    "identity": torch.clone,
    "logistic": torch.sigmoid,
    "relu": torch.relu,
    "softmax": lambda values: torch.softmax(values, dim=1),
    "tanh": torch.tanh,
}


class MLPModule(nn.Module):
    """A fitted perceptron with copies of its coefficients.

    Parameters
    ----------
    mlp : MLPClassifier or MLPRegressor
        The perceptron.
    layers : sequence of str
        Those to read, of its hidden layers and "output".
    read : callable
        What is read of them.
    has_logits : bool
        Whether what it yields are logits.
    """

    def __init__(
        self, mlp: Any, layers: Sequence[str], read: LayerReading, *, has_logits: bool
    ) -> None:
        super().__init__()
        self.layers, self.read, self.has_logits = list(layers), read, has_logits
        self.activation, self.out_activation = mlp.activation, mlp.out_activation_
        self.n_layers = len(mlp.coefs_)
        for number, (weight, bias) in enumerate(zip(mlp.coefs_, mlp.intercepts_, strict=True)):
            self.register_buffer(f"weight_{number}", torch.tensor(weight))
            self.register_buffer(f"bias_{number}", torch.tensor(bias))

    def forward(self, inputs: Tensor) -> tuple[Tensor | None, None, dict[str, Tensor]]:
        """Logits, predicted classes, which are those of the largest ones, and layers by name."""
        weight: Any = self.weight_0
        dtype = torch.promote_types(inputs.dtype, weight.dtype)
        values, found = inputs.to(dtype), {}
        for number in range(self.n_layers - 1):
            values = _FUNCTIONS[self.activation](self._sums(number, values))
            found[f"hidden_{number}"] = values
        output = self._sums(self.n_layers - 1, values)
        if "output" in self.layers:
            found["output"] = _FUNCTIONS[self.out_activation](output)
        layers: dict[str, Tensor] = {}
        for name in self.layers:
            layers.update(self.read(name, found[name], inputs))
        return self._logits(output), None, layers

    def _sums(self, number: int, values: Tensor) -> Tensor:
        weight: Any = getattr(self, f"weight_{number}")
        bias: Any = getattr(self, f"bias_{number}")
        return values @ weight.to(values.dtype) + bias.to(values.dtype)

    def _logits(self, output: Tensor) -> Tensor | None:
        if not self.has_logits:
            return None
        if output.shape[1] > 1:
            return output
        return torch.cat([torch.zeros_like(output), output], dim=1)
