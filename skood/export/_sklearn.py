"""Forms of transformers and classifiers of scikit-learn's own."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import torch
from sklearn.base import is_classifier, is_outlier_detector
from sklearn.decomposition import PCA
from sklearn.discriminant_analysis import LinearDiscriminantAnalysis
from sklearn.linear_model import LogisticRegression, LogisticRegressionCV, RidgeClassifier
from sklearn.neural_network import MLPClassifier
from sklearn.pipeline import Pipeline
from sklearn.preprocessing import MaxAbsScaler, MinMaxScaler, RobustScaler, StandardScaler
from sklearn.svm import LinearSVC
from torch import Tensor, nn

from .._export_error import ExportError
from .._validation import ARRAY_LAYER
from ._arrays import Form
from ._registry import form, form_of
from ._tensors import TensorActivations

_LINEAR = (
    LinearDiscriminantAnalysis,
    LinearSVC,
    LogisticRegression,
    LogisticRegressionCV,
    RidgeClassifier,
)


_ACTIVATIONS: dict[str, Callable[[Tensor], Tensor]] = {
    "identity": torch.clone,
    "logistic": torch.sigmoid,
    "relu": torch.relu,
    "tanh": torch.tanh,
}


class MatrixForm(Form):
    """Base class of the forms of transformers of matrices.

    They take a matrix, or activations, whose layers are put side by side as an array.
    """

    def forward(self, A: Any) -> Any:
        """What is made of a matrix; activations become those of an ordinary array."""
        if isinstance(A, Tensor):
            return self.change(_as_floats(A))
        # What has no type of its own, as activations have none, is read as 64-bit floats.
        return TensorActivations({ARRAY_LAYER: self.change(A.matrix())})

    def change(self, rows: Tensor) -> Tensor:
        """Rows of shape (n_samples, n_features) as others."""
        raise NotImplementedError


def _as_floats(rows: Tensor) -> Tensor:
    """Rows as scikit-learn computes with them: 32-bit floats stay so, all else is 64 bits."""
    return rows if rows.dtype == torch.float32 else rows.to(torch.float64)


class ScalerForm(MatrixForm):
    """Minus an array, divided by one, times one, plus one, in the precision of what comes."""

    shift: Tensor
    divisor: Tensor
    factor: Tensor
    start: Tensor

    def __init__(
        self, shift: Any = None, divisor: Any = None, factor: Any = 1.0, start: Any = 0.0
    ) -> None:
        super().__init__()
        self.keep("shift", 0.0 if shift is None else shift)
        self.keep("divisor", 1.0 if divisor is None else divisor)
        self.keep("factor", factor)
        self.keep("start", start)

    def change(self, rows: Tensor) -> Tensor:
        shift, divisor, factor, start = (
            each.to(rows.dtype) for each in (self.shift, self.divisor, self.factor, self.start)
        )
        return (rows - shift) / divisor * factor + start


class ClippedForm(MatrixForm):
    """What another one makes, within bounds."""

    low: Tensor
    high: Tensor

    def __init__(self, scaler: MatrixForm, low: float, high: float) -> None:
        super().__init__()
        self.scaler = scaler
        self.keep("low", low)
        self.keep("high", high)

    def change(self, rows: Tensor) -> Tensor:
        scaled = self.scaler.change(rows)
        low, high = self.low.to(scaled.dtype), self.high.to(scaled.dtype)
        return torch.minimum(torch.maximum(scaled, low), high)


@form_of(StandardScaler)
def form_of_standard_scaler(scaler: StandardScaler) -> MatrixForm:
    """Mean and standard deviation."""
    return ScalerForm(scaler.mean_ if scaler.with_mean else None, scaler.scale_)


@form_of(RobustScaler)
def form_of_robust_scaler(scaler: RobustScaler) -> MatrixForm:
    """Median and quantiles."""
    center = scaler.center_ if scaler.with_centering else None
    return ScalerForm(center, scaler.scale_ if scaler.with_scaling else None)


@form_of(MaxAbsScaler)
def form_of_max_abs_scaler(scaler: MaxAbsScaler) -> MatrixForm:
    """Largest absolute value."""
    form = ScalerForm(divisor=scaler.scale_)
    return ClippedForm(form, -1.0, 1.0) if getattr(scaler, "clip", False) else form


@form_of(MinMaxScaler)
def form_of_min_max_scaler(scaler: MinMaxScaler) -> MatrixForm:
    """Smallest and largest value."""
    form = ScalerForm(factor=scaler.scale_, start=scaler.min_)
    return ClippedForm(form, *scaler.feature_range) if scaler.clip else form


@form_of(PCA)
class PCAForm(MatrixForm):
    """Coordinates along principal axes."""

    mean: Tensor
    axes: Tensor

    def __init__(self, pca: PCA) -> None:
        super().__init__()
        axes = pca.components_
        if pca.whiten:
            least = np.finfo(pca.explained_variance_.dtype).eps
            axes = axes / np.maximum(np.sqrt(pca.explained_variance_), least)[:, np.newaxis]
        self.keep("mean", pca.mean_)
        self.keep("axes", axes)

    def change(self, rows: Tensor) -> Tensor:
        return (rows - self.mean.to(rows.dtype)) @ self.axes.to(rows.dtype).T


class LinearLogOdds(Form):
    """Minus the decision of a linear classifier, which is high for the second class."""

    weight: Tensor
    bias: Tensor

    def __init__(self, classifier: Any) -> None:
        super().__init__()
        self.keep("weight", np.ravel(classifier.coef_))
        self.keep("bias", np.ravel(classifier.intercept_)[0])

    def forward(self, rows: Tensor) -> Tensor:
        """Log-odds of the first class, of shape (n_samples,)."""
        return -(rows @ self.weight + self.bias)


class MLPLogOdds(Form):
    """Log-odds of the first class by the probabilities of a perceptron."""

    tiny: Tensor

    def __init__(self, mlp: MLPClassifier) -> None:
        super().__init__()
        self.activate, self.n_layers = _ACTIVATIONS[mlp.activation], len(mlp.coefs_)
        for number, (weight, bias) in enumerate(zip(mlp.coefs_, mlp.intercepts_, strict=True)):
            self.keep(f"weight_{number}", weight)
            self.keep(f"bias_{number}", bias)
        self.keep("tiny", np.finfo(np.float64).tiny)

    def forward(self, rows: Tensor) -> Tensor:
        """Log-odds of the first class, of shape (n_samples,)."""
        for number in range(self.n_layers):
            rows = self.activate(rows) if number else rows
            rows = rows @ getattr(self, f"weight_{number}") + getattr(self, f"bias_{number}")
        second = torch.sigmoid(rows[:, 0])
        logs = [torch.log(torch.maximum(p, self.tiny)) for p in (1 - second, second)]
        return logs[0] - logs[1]


class Decision(Form):
    """Scores of an outlier detector of matrices, relative to its threshold."""

    offset: Tensor

    def __init__(self, detector: Any) -> None:
        super().__init__()
        self.detector = form(detector)
        self.keep("offset", detector.offset_)

    def forward(self, rows: Tensor) -> Tensor:
        """Relative scores of samples, of shape (n_samples,)."""
        scores: Tensor = self.detector(TensorActivations({ARRAY_LAYER: rows}))
        return scores - self.offset


class Mean(nn.Module):
    """The mean of what a transformer makes of each sample."""

    def __init__(self, transformer: Any) -> None:
        super().__init__()
        self.transform = form(transformer)

    def forward(self, rows: Tensor) -> Tensor:
        """Means, of shape (n_samples,)."""
        changed: Tensor = self.transform(rows)
        return changed.mean(dim=1)


def rating_of(estimator: Any) -> nn.Module:
    """How an estimator rates rows: high for in-distribution ones, which a classifier calls 0.

    Raises
    ------
    ExportError
        If it has no form in tensors.
    """
    if isinstance(estimator, Pipeline):
        *steps, (_, last) = estimator.steps
        steps = [step for _, step in steps if step not in (None, "passthrough")]
        return nn.Sequential(*map(form, steps), rating_of(last))
    if isinstance(estimator, _LINEAR):
        return LinearLogOdds(estimator)
    if isinstance(estimator, MLPClassifier):
        return MLPLogOdds(estimator)
    if is_classifier(estimator):
        known = ", ".join(cls.__name__ for cls in (*_LINEAR, MLPClassifier))
        raise ExportError(
            f"{type(estimator).__name__} cannot be exported as the classifier of another detector: "
            f"there are forms of {known}."
        )
    return Decision(estimator) if is_outlier_detector(estimator) else Mean(estimator)
