"""Forms of transformers of scikit-learn that come before the network, on matrices of inputs."""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
from sklearn.decomposition import PCA
from sklearn.preprocessing import MaxAbsScaler, MinMaxScaler, RobustScaler, StandardScaler
from torch import Tensor

from .._export_error import ExportError
from ._arrays import Form
from ._registry import form_of


def as_floats(inputs: Tensor) -> Tensor:
    """Inputs as scikit-learn computes with them: 32-bit floats stay so, all else is 64 bits."""
    return inputs if inputs.dtype == torch.float32 else inputs.to(torch.float64)


class ShiftAndScale(Form):
    """Subtracts a number from each feature, multiplies it by another, and adds a third."""

    center: Tensor
    scale: Tensor
    start: Tensor

    def __init__(self, center: Any, scale: Any, start: Any = 0.0, ends: Any = None) -> None:
        super().__init__()
        self.keep("center", 0.0 if center is None else center)
        self.keep("scale", 1.0 if scale is None else scale)
        self.keep("start", start)
        self.ends = ends

    def forward(self, inputs: Tensor) -> Tensor:
        """The features, each on its new scale."""
        values = as_floats(inputs)
        center, scale, start = (a.to(values.dtype) for a in (self.center, self.scale, self.start))
        scaled = (values - center) * scale + start
        return scaled if self.ends is None else scaled.clamp(*self.ends)


@form_of(StandardScaler)
def form_of_standard_scaler(scaler: StandardScaler) -> ShiftAndScale:
    """Mean and standard deviation."""
    center = scaler.mean_ if scaler.with_mean else None
    return ShiftAndScale(center, 1 / scaler.scale_ if scaler.with_std else None)


@form_of(RobustScaler)
def form_of_robust_scaler(scaler: RobustScaler) -> ShiftAndScale:
    """Median and quantiles."""
    center = scaler.center_ if scaler.with_centering else None
    return ShiftAndScale(center, 1 / scaler.scale_ if scaler.with_scaling else None)


@form_of(MinMaxScaler)
def form_of_min_max_scaler(scaler: MinMaxScaler) -> ShiftAndScale:
    """Smallest and largest value."""
    ends = tuple(map(float, scaler.feature_range)) if scaler.clip else None
    return ShiftAndScale(None, scaler.scale_, scaler.min_, ends)


@form_of(MaxAbsScaler)
def form_of_max_abs_scaler(scaler: MaxAbsScaler) -> ShiftAndScale:
    """Largest absolute value."""
    return ShiftAndScale(None, 1 / scaler.scale_)


@form_of(PCA)
class PCAForm(Form):
    mean: Tensor
    axes: Tensor

    def __init__(self, pca: PCA) -> None:
        super().__init__()
        self.keep("mean", pca.mean_)
        scale = np.sqrt(pca.explained_variance_) if pca.whiten else np.ones(len(pca.components_))
        if (scale == 0).any():
            raise ExportError("PCA cannot be exported with whiten=True and axes of no variance.")
        self.keep("axes", pca.components_.T / scale)

    def forward(self, inputs: Tensor) -> Tensor:
        """Coordinates along the principal axes."""
        values = as_floats(inputs)
        return (values - self.mean.to(values.dtype)) @ self.axes.to(values.dtype)
