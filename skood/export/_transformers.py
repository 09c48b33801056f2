"""Forms of what selects layers and neurons, and of what scales logits."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from .._export_error import ExportError
from .._validation import ARRAY_LAYER
from ..calibration import TemperatureScaler
from ..preprocessing import LayerSelector, NeuronSelector
from ._arrays import Form, class_codes, is_of_array, own_classes
from ._registry import form_of
from ._tensors import TensorActivations


@form_of(LayerSelector)
class LayerSelectorForm(nn.Module):
    """Some of the layers."""

    def __init__(self, selector: LayerSelector) -> None:
        super().__init__()
        self.layers = list(selector.layers_)

    def forward(self, A: TensorActivations) -> TensorActivations:
        """The same samples with these alone."""
        return A.select(self.layers)


@form_of(TemperatureScaler)
class TemperatureForm(Form):
    """Logits divided by a temperature."""

    temperature: Tensor

    def __init__(self, scaler: TemperatureScaler) -> None:
        super().__init__()
        self.is_of_array = is_of_array(scaler)
        self.keep("temperature", scaler.temperature_)

    def forward(self, A: TensorActivations) -> TensorActivations:
        """The same samples with other logits."""
        if self.is_of_array:
            return TensorActivations({ARRAY_LAYER: A.matrix() / self.temperature})
        assert A.logits is not None
        return replace(A, logits=A.logits.to(torch.float64) / self.temperature)


@form_of(NeuronSelector)
class NeuronSelectorForm(Form):
    """Layers that are cut to some of their units."""

    codes: Tensor

    def __init__(self, selector: NeuronSelector) -> None:
        super().__init__()
        self.names, self.by_prediction = list(selector.support_), selector.by_prediction
        self.cuts = self.by_prediction or not all(s.all() for s in selector.support_.values())
        for number, (name, support) in enumerate(selector.support_.items()):
            self.keep(f"kept_{number}", np.flatnonzero(support), torch.int64)
            self.keep(f"own_{number}", selector.class_support_[name][:, support], torch.bool)
        if self.by_prediction:
            self.keep("codes", _known_codes(selector), torch.int64)

    def forward(self, A: TensorActivations) -> TensorActivations:
        """The same samples with fewer units; none of them belongs to a head that reads others."""
        if not self.cuts:
            return A
        layers = dict(A.layers)
        for number, name in enumerate(self.names):
            own = self._own(number, A) if self.by_prediction else None
            for each in (name, f"{name}:gradient"):
                if each in layers:
                    layers[each] = self._cut(layers[each], number, own)
        cut = A.with_layers(layers)
        reads_a_cut_one = A.head is not None and A.head.input_layer in (None, *self.names)
        return replace(cut, head=None) if reads_a_cut_one else cut

    def _own(self, number: int, A: TensorActivations) -> Tensor:
        own: Any = getattr(self, f"own_{number}")
        return own.index_select(0, own_classes(A, self.codes))

    def _cut(self, layer: Tensor, number: int, own: Tensor | None) -> Tensor:
        kept: Any = getattr(self, f"kept_{number}")
        values = layer.index_select(1, kept)
        return values if own is None else values * own


def _known_codes(selector: NeuronSelector) -> Any:
    codes = class_codes(selector, selector.class_labels_)
    if (codes < 0).any():
        raise ExportError(
            "NeuronSelector with by_prediction=True cannot be exported, since it refuses samples "
            "of classes that the network knows, but for which it has no importances."
        )
    return codes
