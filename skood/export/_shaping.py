"""Forms of what shapes the features of the last layer."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from .._validation import ARRAY_LAYER
from ..activations import LinearHead
from ..shaping import ASH, DICE, SCALE, VRA, BaseShaper, LINe, ReAct
from ._arrays import Form, is_of_array
from ._registry import form_of
from ._tensors import TensorActivations, TensorHead


class ShaperForm(Form):
    """Base class of these: ``shape`` takes features, and gives shaped ones and their logits."""

    weight: Tensor
    bias: Tensor

    def __init__(self, shaper: BaseShaper) -> None:
        super().__init__()
        self.layer = None if is_of_array(shaper) else str(shaper.head_.input_layer)
        self.keep_head(shaper.head_)

    def keep_head(self, head: LinearHead) -> None:
        """Hold the head that makes logits of shaped features."""
        self.keep_as_it_is("weight", head.weight)
        self.keep_as_it_is("bias", np.asarray(head.bias))

    def keep_as_it_is(self, name: str, array: NDArray) -> None:
        """Hold an array in its own precision, single or double."""
        is_single = np.result_type(array, np.float32) == np.float32
        self.keep(name, array, torch.float32 if is_single else torch.float64)

    def forward(self, A: TensorActivations) -> TensorActivations:
        """The same samples with shaped features, other logits and their head."""
        features = _as_floats(A.only_layer() if self.layer is None else A.layers[self.layer])
        shaped, logits = self.shape(features)
        if self.layer is None:
            return TensorActivations({ARRAY_LAYER: logits.to(features.dtype)})
        shaped_ones = A.with_layers({**A.layers, self.layer: shaped})
        return replace(shaped_ones, logits=logits, head=self.shaped_head())

    def shape(self, features: Tensor) -> tuple[Tensor, Tensor]:
        """Shaped features, by ``shape_features``, and what the head makes of them."""
        shaped = self.shape_features(features)
        return shaped, shaped if self.layer is None else self.logits_of(shaped)

    def shape_features(self, features: Tensor) -> Tensor:
        """Shaped features of shape (n_samples, n_units)."""
        raise NotImplementedError

    def logits_of(self, features: Tensor) -> Tensor:
        """Logits in the precision of features and weights."""
        dtype = torch.promote_types(features.dtype, self.weight.dtype)
        return features.to(dtype) @ self.weight.to(dtype).T + self.bias

    def shaped_head(self) -> TensorHead | None:
        """The head that makes the logits of shaped features, if one does."""
        return TensorHead(self.weight, self.bias, self.layer)


def _as_floats(values: Tensor) -> Tensor:
    """Values in single precision at least; bits and integers in double precision."""
    if not values.is_floating_point():
        return values.to(torch.float64)
    return values.to(torch.promote_types(values.dtype, torch.float32))


@form_of(ReAct)
class ReActForm(ShaperForm):
    """Features clipped from above."""

    threshold: Tensor

    def __init__(self, shaper: ReAct) -> None:
        super().__init__(shaper)
        self.keep("threshold", shaper.threshold_)

    def shape_features(self, features: Tensor) -> Tensor:
        return torch.minimum(features, self.threshold.to(features.dtype))


@form_of(VRA)
class VRAForm(ShaperForm):
    """Small features set to 0, large ones clipped."""

    thresholds: Tensor

    def __init__(self, shaper: VRA) -> None:
        super().__init__(shaper)
        self.keep("thresholds", shaper.thresholds_)

    def shape_features(self, features: Tensor) -> Tensor:
        low, high = self.thresholds.to(features.dtype)
        return torch.minimum(torch.where(features < low, 0.0, features), high)


class _SampleShaperForm(ShaperForm):
    """Base class of the shaping by a sample's own largest features."""

    def __init__(self, shaper: ASH | SCALE) -> None:
        super().__init__(shaper)
        n_units = shaper.head_.shape[1]
        self.n_kept = n_units - round(n_units * shaper.percentile / 100)

    def largest_values(self, features: Tensor) -> Tensor:
        """The largest of each sample, in descending order."""
        return features.topk(self.n_kept, dim=1).values


@form_of(SCALE)
class SCALEForm(_SampleShaperForm):
    """Features times a factor."""

    def shape_features(self, features: Tensor) -> Tensor:
        return features * _factor(features, self.largest_values(features))


@form_of(ASH)
class ASHForm(_SampleShaperForm):
    """The largest features, the others set to 0."""

    def __init__(self, shaper: ASH) -> None:
        super().__init__(shaper)
        self.variant = shaper.variant

    def shape_features(self, features: Tensor) -> Tensor:
        largest = self.largest_values(features)
        kept = self._are_among(largest, features)
        if self.variant == "b":
            share = _sums(features) / max(self.n_kept, 1)
            return torch.where(kept, _in_range_of(features, share)[:, None], 0.0)
        pruned = torch.where(kept, features, 0.0)
        return pruned if self.variant == "p" else pruned * _factor(features, largest)

    def _are_among(self, largest: Tensor, features: Tensor) -> Tensor:
        """Mask of the values that are the largest; of equal ones, those of earlier units."""
        if self.n_kept == 0:
            return torch.zeros_like(features, dtype=torch.bool)
        smallest = largest[:, -1:]
        is_above, is_equal = features > smallest, features == smallest
        place = is_above.sum(dim=1, keepdim=True) + is_equal.to(torch.int64).cumsum(dim=1)
        return is_above | (is_equal & (place <= self.n_kept))


def _in_range_of(features: Tensor, values: Tensor) -> Tensor:
    """Values in the precision of features, which holds no larger ones than these."""
    if features.dtype == torch.float64:
        return values
    largest = torch.finfo(features.dtype).max
    return values.clamp(-largest, largest).to(features.dtype)


def _factor(features: Tensor, largest: Tensor) -> Tensor:
    """Exponential of the sum of each sample over that of its largest values, (n_samples, 1)."""
    total, of_largest = _sums(features), _sums(largest)
    is_positive = of_largest > 0
    exponent = torch.where(is_positive, total / torch.where(is_positive, of_largest, 1.0), 0.0)
    bound = float(np.log(torch.finfo(features.dtype).max))
    magnitude = features.abs().amax(dim=1).to(torch.float64)
    within_range = (bound - 0.001 - magnitude.clamp(min=1).log()).clamp(0, 0.75 * bound)
    return torch.minimum(exponent, within_range).exp().to(features.dtype)[:, None]


def _sums(rows: Tensor) -> Tensor:
    return rows.to(torch.float64).sum(dim=1)


@form_of(DICE)
class DICEForm(ShaperForm):
    """The features as they are, and a head that keeps only its important weights."""

    def __init__(self, shaper: DICE) -> None:
        super().__init__(shaper)
        self.keep_head(shaper.sparse_head_)

    def shape(self, features: Tensor) -> tuple[Tensor, Tensor]:
        return features, self.logits_of(features)


@form_of(LINe)
class LINeForm(ShaperForm):
    """The units and weights that are important for the class that the head predicts."""

    clip: Tensor
    unit_masks: Tensor
    sizes: Tensor
    weight_thresholds: Tensor

    def __init__(self, shaper: LINe) -> None:
        super().__init__(shaper)
        self.keep("clip", np.inf if shaper.clip is None else shaper.clip)
        self.keep("unit_masks", shaper.unit_masks_, torch.bool)
        self.keep_as_it_is("sizes", shaper._sizes(slice(None)))
        self.keep_as_it_is("weight_thresholds", shaper.weight_thresholds_)

    def shape(self, features: Tensor) -> tuple[Tensor, Tensor]:
        clipped = torch.minimum(features, self.clip.to(features.dtype))
        predicted = self.logits_of(clipped).argmax(dim=1)
        shaped = torch.where(self.unit_masks[predicted], clipped, 0.0)
        contributions = self.sizes[predicted][:, None] * self.weight
        is_kept = contributions > self.weight_thresholds[predicted][:, None, None]
        kept = torch.where(is_kept, self.weight, 0.0).to(shaped.dtype)
        return shaped, (kept @ shaped[:, :, None])[:, :, 0] + self.bias

    def shaped_head(self) -> None:
        """No head makes the logits of all samples."""
        return None
