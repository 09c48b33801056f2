"""Selection of layers by name or number."""

from __future__ import annotations

from collections.abc import Sequence
from numbers import Integral
from typing import Any, Self, overload

from numpy.typing import ArrayLike, NDArray
from sklearn.utils.validation import check_is_fitted

from .._elsewhere import run_elsewhere
from .._fit_context import fit_context
from .._layer_names import check_layers_exist, match_layers
from .._validation import ARRAY_LAYER, remember_layers
from ..activations import Activations
from ._base import LayerwiseTransformer

Layers = str | int | slice | Sequence[str | int | slice]


class LayerSelector(LayerwiseTransformer):
    """Keep some of the layers.

    Selecting reads no data: the layers that are left out may stay on disk.

    Parameters
    ----------
    layers : str, int, slice or sequence of them, default="all"
        Names or glob patterns such as ``"features.*"``; "all" keeps every layer. Numbers and slices
        are positions among the layers that ``fit`` sees, from 0 in forward order, or from the end
        where negative: ``-1`` is the last layer, ``slice(-3, None)`` the last three. Text is always
        a name: ``"0"`` is the layer of that name, which need not be the first. The layers keep
        their forward order. An ordinary array is one layer named "X".

    Attributes
    ----------
    layers_ : list of str
        Names of the selected layers, in forward order.
    n_features_in_ : int
        Number of units in the selected layers.
    layer_shapes_ : dict of str to tuple
        Shape of one sample in each selected layer, where ``fit`` saw ``Activations``.

    Examples
    --------
    >>> import numpy as np
    >>> from skood import Activations
    >>> from skood.preprocessing import LayerSelector
    >>> A = Activations({"relu1": np.ones((2, 4)), "relu2": np.ones((2, 3)), "fc": np.ones((2, 9))})
    >>> LayerSelector(layers="relu*").fit_transform(A).layer_names
    ('relu1', 'relu2')
    >>> LayerSelector(layers=[0, -1]).fit_transform(A).layer_names
    ('relu1', 'fc')
    """

    _parameter_constraints: dict[str, Any] = {"layers": [str, Integral, slice, "array-like"]}
    _allow_nd = True

    def __init__(self, *, layers: Layers = "all") -> None:
        self.layers = layers

    @run_elsewhere("fit_on_few")
    @fit_context(prefer_skip_nested_validation=True)
    def fit(self, X: Activations | ArrayLike, y: Any = None) -> Self:
        """Find the layers to keep.

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

        Raises
        ------
        ValueError
            If a name, pattern or number selects nothing; the message lists the known layers.
        """
        if not isinstance(X, Activations):
            self.layers_ = match_layers(self.layers, [ARRAY_LAYER])
            return super().fit(X)
        self.layers_ = match_layers(self.layers, X.layer_names)
        selected = X[self.layers_]
        remember_layers(self, selected)
        return self

    @overload
    def transform(self, X: Activations) -> Activations: ...

    @overload
    def transform(self, X: ArrayLike) -> NDArray: ...

    @run_elsewhere("transform")
    def transform(self, X: Activations | ArrayLike) -> Activations | NDArray:
        """Keep the selected layers.

        Parameters
        ----------
        X : Activations or array-like of shape (n_samples, n_features)
            Activations that hold the selected layers, and perhaps others.

        Returns
        -------
        X_out : Activations or ndarray of shape (n_samples, n_features)
            The selected layers, as a lazy view.
        """
        check_is_fitted(self)
        if not isinstance(X, Activations):
            return super().transform(X)
        check_layers_exist(X, self.layers_)
        return X[self.layers_]

    def _transform(self, X: Activations) -> Activations:
        return X
