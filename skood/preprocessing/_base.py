"""The template of the transformers that treat each layer on its own."""

from __future__ import annotations

from abc import ABCMeta, abstractmethod
from typing import Any, Self, overload

import numpy as np
from numpy.typing import ArrayLike, NDArray
from sklearn.base import BaseEstimator
from sklearn.utils.validation import check_is_fitted

from .._block_transform import in_blocks_if_larger
from .._elsewhere import run_elsewhere
from .._fit_context import fit_context
from .._look import ShowsChanges
from .._output import ActivationsOutputMixin
from .._validation import ARRAY_LAYER, check_activations
from ..activations import Activations


class LayerwiseTransformer(ShowsChanges, ActivationsOutputMixin, BaseEstimator, metaclass=ABCMeta):
    """Validate, then apply ``_transform`` to ``Activations``.

    An ordinary array is treated as one layer and comes back as an array.
    """

    _allow_nd = False
    _learns_from_rows = False
    """Whether what ``transform`` does to a row depends on the rows of ``fit``."""

    @run_elsewhere("fit_on_few")
    @fit_context(prefer_skip_nested_validation=True)
    def fit(self, X: Activations | ArrayLike, y: Any = None) -> Self:
        """Check the parameters and remember the layers of ``X``; nothing is learnt.

        Parameters
        ----------
        X : Activations or array-like of shape (n_samples, n_features)
            Activations by layer, or those of one layer.
        y : None
            Ignored, there for the scikit-learn convention.

        Returns
        -------
        self : object
            Fitted transformer.
        """
        checked = check_activations(self, X, reset=True, allow_nd=self._allow_nd)
        if not isinstance(X, Activations):
            self._n_dims = checked[ARRAY_LAYER].ndim
        return self

    @overload
    def transform(self, X: Activations) -> Activations: ...

    @overload
    def transform(self, X: ArrayLike) -> NDArray: ...

    @run_elsewhere("transform")
    def transform(self, X: Activations | ArrayLike) -> Activations | NDArray:
        """Transform every layer.

        Parameters
        ----------
        X : Activations or array-like of shape (n_samples, n_features)
            Activations of the layers seen in ``fit``.

        Returns
        -------
        X_out : Activations or ndarray of shape (n_samples, n_features_out)
            The transformed layers; an array where ``X`` is one.
        """
        check_is_fitted(self)
        return in_blocks_if_larger(X, self._check_and_transform)

    def _check_and_transform(self, X: Activations | ArrayLike) -> Activations | NDArray:
        checked = check_activations(self, X, reset=False, allow_nd=self._allow_nd)
        transformed = self._transform(checked)
        return transformed if isinstance(X, Activations) else np.asarray(transformed[ARRAY_LAYER])

    @abstractmethod
    def _transform(self, X: Activations) -> Activations:
        """Return the transformed Activations of validated Activations."""

    def _returns_table(self) -> bool:
        return super()._returns_table() and getattr(self, "_n_dims", 2) == 2

    def __sklearn_is_fitted__(self) -> bool:
        return hasattr(self, "n_features_in_")
