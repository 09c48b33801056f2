"""The templates of shaping: change what the head reads, and recompute the logits."""

from __future__ import annotations

from abc import ABCMeta, abstractmethod
from typing import Any, Self, overload

import numpy as np
from numpy.typing import ArrayLike, NDArray
from sklearn.base import BaseEstimator
from sklearn.utils import Tags
from sklearn.utils.validation import check_is_fitted

from .._batches import row_batches
from .._block_transform import in_blocks_if_larger
from .._docstrings import FITTED_ON, OF_HEAD
from .._elsewhere import run_elsewhere
from .._fit_context import fit_context
from .._head import float64_logits, head_features, head_logits, validate_head_input
from .._marks import in_distribution_rows, take_rows
from .._output import ActivationsOutputMixin
from .._values import all_finite, check_finite
from .._warnings import warn_user
from ..activations import Activations, LinearHead


class BaseShaper(ActivationsOutputMixin, BaseEstimator, metaclass=ABCMeta):
    """Template of the transformers that shape the penultimate features.

    A subclass defines what to learn from in-distribution samples (``_fit``), and the shaped
    features with their logits (``_shape``). The predictions remain those of the network.
    """

    head_: LinearHead

    _entries = {**FITTED_ON, **OF_HEAD}

    _parameter_constraints: dict[str, Any] = {}
    _min_classes = 1

    @run_elsewhere("fit_on_few")
    @fit_context(prefer_skip_nested_validation=True)
    def fit(self, X: Activations | ArrayLike, y: ArrayLike | None = None) -> Self:
        """Learn from the in-distribution samples.

        Parameters
        ----------
        X : Activations or array-like of shape (n_samples, n_features)
            Activations with the head of the network and the layer that it reads. An array is
            taken as logits: as the input of a head that passes it on unchanged.
        y : array-like of shape (n_samples,), default=None
            Class labels; -1 marks an out-of-distribution sample, which is left out.

        Returns
        -------
        self : object
            Fitted transformer.

        Raises
        ------
        ValueError
            If there is no head or its layer is missing, values are not finite, or no sample is
            in-distribution.
        """
        checked = validate_head_input(self, X, reset=True, ensure_min_classes=self._min_classes)
        self._fit(*take_rows(checked, y, in_distribution_rows(y, len(checked))))
        return self

    @overload
    def transform(self, X: Activations) -> Activations: ...

    @overload
    def transform(self, X: ArrayLike) -> NDArray[np.floating]: ...

    @run_elsewhere("transform")
    def transform(self, X: Activations | ArrayLike) -> Activations | NDArray[np.floating]:
        """Shape the features and recompute the logits.

        Parameters
        ----------
        X : Activations or array-like of shape (n_samples, n_features)
            Activations with the layer that the head of ``fit`` reads.

        Returns
        -------
        X_out : Activations or ndarray of shape (n_samples, n_features)
            The same with the shaped features and their logits; all other layers, and the
            predictions of the network, are kept. For an array, the logits. Half precision comes
            back as single precision.

        Raises
        ------
        ValueError
            If values or shaped values are not finite, or the layer or the classes of the network
            are not those of ``fit``.
        """
        check_is_fitted(self, "head_")
        return in_blocks_if_larger(X, self._check_and_shape)

    def _check_and_shape(self, X: Activations | ArrayLike) -> Activations | NDArray[np.floating]:
        checked = validate_head_input(self, X, reset=False, in_blocks=True)
        features = head_features(checked)
        with np.errstate(over="ignore", invalid="ignore"):
            shaped, logits = self._shape(features)
        self._check_shaped(shaped, logits)
        if not isinstance(X, Activations):
            return logits.astype(features.dtype, copy=False)
        # Predictions and ``A.features`` of the network itself come from these from here on.
        made = None if X.logits is not None else float64_logits(self, checked, self.head_)
        X = X.assign(logits=made, head=self.head_)
        layer = self.head_.input_layer
        assert layer is not None  # validate_head_input names it
        return X.assign({layer: shaped}, logits=logits, head=self._shaped_head())

    def _check_shaped(self, shaped: NDArray[np.floating], logits: NDArray[np.floating]) -> None:
        for array, name in ((shaped, "shaped features"), (logits, "logits of shaped features")):
            check_finite(array, f"{type(self).__name__}: {name}", "Divide the layer by a constant.")

    @abstractmethod
    def _fit(self, X: Activations, y: NDArray | None) -> None:
        """Learn from validated in-distribution Activations with the layer that the head reads.

        ``y`` may be None.
        """

    @abstractmethod
    def _shape(
        self, features: NDArray[np.floating]
    ) -> tuple[NDArray[np.floating], NDArray[np.floating]]:
        """Shaped copies of floating-point features (n_samples, n_units), and their logits."""

    def _shaped_head(self) -> LinearHead | None:
        """The head that turns shaped features into the new logits; None where none does."""
        return self.head_

    def __sklearn_tags__(self) -> Tags:
        tags = super().__sklearn_tags__()
        tags.transformer_tags.preserves_dtype = ["float64", "float32"]
        return tags


class FeatureShaper(BaseShaper):
    """Template of the shaping that changes features and keeps the head."""

    def _shape(
        self, features: NDArray[np.floating]
    ) -> tuple[NDArray[np.floating], NDArray[np.floating]]:
        shaped, head = np.empty_like(features, order="C"), self.head_
        is_table = self._returns_table()
        dtype = np.result_type(features, head.weight)
        # The head of an array is the identity.
        logits = shaped if is_table else np.empty((len(features), head.shape[0]), dtype)
        for rows in row_batches(*features.shape):
            self._shape_into(shaped[rows], features[rows])
            if not is_table:  # here, as a processor's cache holds these rows still
                logits[rows] = head.logits(shaped[rows])
        if not is_table and not all_finite(logits):
            logits = head_logits(head, shaped)
        return shaped, logits

    def _check_shaped(self, shaped: NDArray[np.floating], logits: NDArray[np.floating]) -> None:
        # A shaped feature that is not finite makes logits that are not, even with a weight of 0.
        if not all_finite(logits):
            super()._check_shaped(shaped, logits)

    def _shape_features(self, features: NDArray[np.floating]) -> NDArray[np.floating]:
        """Shaped copies of features (n_samples, n_units), of some of the samples at a time."""
        raise NotImplementedError

    def _shape_into(self, out: NDArray[np.floating], features: NDArray[np.floating]) -> None:
        """The same, written into ``out``; a subclass may define this instead, and save a copy."""
        out[:] = self._shape_features(features)


def warn_if_all_clipped(
    shaper: BaseShaper, features: NDArray[np.floating], largest: float, remedy: str
) -> None:
    """Warn where no training feature is below the value from which on features are clipped."""
    if largest <= features.min():
        warn_user(
            f"{type(shaper).__name__} clips features at {largest:.4g}, which no training feature "
            "is below: all samples are shaped alike and cannot be distinguished. Choose "
            f"{remedy}, or check whether the layer is constant."
        )
