"""What forms of several families look up and compute of rows."""

from __future__ import annotations

from typing import Any

import torch
from numpy.typing import ArrayLike
from torch import Tensor

from ._arrays import Form, class_codes, is_of_array
from ._tensors import TensorActivations


class ClassLookup(Form):
    """Place, among the classes that an estimator knows, of the one each sample is looked up under.

    It is negative for samples of classes that it knows nothing of.
    """

    codes: Tensor

    def __init__(self, estimator: Any, known: ArrayLike) -> None:
        super().__init__()
        self.by_class = bool(estimator._by_class)
        if self.by_class:
            self.keep("codes", class_codes(estimator, known), torch.int64)

    def forward(self, A: TensorActivations) -> Tensor:
        if not self.by_class:
            first = next(iter(A.layers.values()))
            return torch.zeros(first.shape[0], dtype=torch.int64, device=first.device)
        assert A.predictions is not None
        return self.codes[A.predictions]


class KnownClassForm(Form):
    """Base class of the forms that compare a sample with what was learnt of its class.

    A subclass computes scores by the place of the class (``compare``); samples of classes that
    nothing was learnt of get a score of their own.
    """

    unknown: Tensor

    def __init__(self, detector: Any) -> None:
        super().__init__()
        self.lookup = ClassLookup(detector, detector.class_labels_)
        self.keep("unknown", detector.unknown_class_score_)

    def forward(self, A: TensorActivations) -> Tensor:
        """Scores of samples, of shape (n_samples,)."""
        place = self.lookup(A)
        return torch.where(place < 0, self.unknown, self.compare(A, place.clamp(min=0)))

    def compare(self, A: TensorActivations, place: Tensor) -> Tensor:
        """Scores of samples by what was learnt of the class at a place."""
        raise NotImplementedError


def unit_axis_of(estimator: Any, layer: str) -> int:
    """The axis of the units of a layer that an estimator was fitted on."""
    if is_of_array(estimator):
        return 1
    return int(estimator._known_columns.said.get(layer, {}).get("unit_axis", 1))
