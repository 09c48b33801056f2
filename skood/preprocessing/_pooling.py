"""Pooling of feature maps to a few values per channel."""

from __future__ import annotations

from collections.abc import Container, Mapping, Sequence
from numbers import Integral
from typing import Any, Self

import numpy as np
from numpy.typing import ArrayLike
from sklearn.utils import Tags

from .._fit_context import fit_context
from .._layer_names import layer_columns, units_second
from .._pooling import POOLINGS, pool
from .._sklearn import Interval, StrOptions
from .._values import check_finite
from ..activations import Activations, Column, PackedBits
from ._base import LayerwiseTransformer

Origins = dict[str, tuple[str, str | None]]


class PoolingReducer(LayerwiseTransformer):
    """Pool the feature maps of each layer over space.

    A map of shape (n_samples, channels, height, width), or with any other number of spatial
    axes, becomes (n_samples, channels * cells): each spatial axis is cut into ``output_size``
    parts, and every combination of parts is a cell. The second axis is that of the units, unless
    the column in ``Activations`` has another ``unit_axis``: tokens, (n_samples, n_tokens, n_units)
    with ``unit_axis=2``, are pooled over the tokens. Layers that have no spatial axes, such as
    those of a multilayer perceptron, and columns of stochastic forward passes, whose ``kind`` is
    "pass", pass unchanged.

    Parameters
    ----------
    pooling : {"max", "avg", "sum", "flatten"} or sequence of them, default="max"
        How to reduce a cell: its largest value, its mean, its sum, or not at all; sums of half
        precision are in single precision. Several yield one
        layer each, named "layer:pooling"; a layer without spatial axes, for which they
        are all the same, stays one layer under its own name. The columns of what is pooled say how
        (``Column.pooling``).
    output_size : int, default=1
        Number of cells along each spatial axis; 1 pools globally. Where an axis cannot
        be cut evenly, neighbouring cells overlap by one position, as in adaptive pooling.
        Not used by "flatten".

    See Also
    --------
    PercentileBinarizer : Turn pooled activations into binary patterns.
    ActivationExtractor : Takes a reducer, and so never holds unpooled maps.

    Examples
    --------
    >>> import numpy as np
    >>> from skood import Activations, PoolingReducer
    >>> maps = np.arange(16.0).reshape(1, 2, 2, 4)
    >>> PoolingReducer(pooling="avg").fit_transform(maps)
    array([[ 3.5, 11.5]])
    >>> A = Activations({"conv": maps, "fc": np.ones((1, 3))})
    >>> PoolingReducer(pooling=["max", "avg"]).fit_transform(A)
    Activations(n_samples=1, layers={conv:max: (2,), conv:avg: (2,), fc: (3,)})
    """

    _parameter_constraints: dict[str, Any] = {
        "pooling": [StrOptions(set(POOLINGS)), list, tuple],
        "output_size": [Interval(Integral, 1, None, closed="left")],
    }
    _allow_nd = True

    def __init__(self, *, pooling: str | Sequence[str] = "max", output_size: int = 1) -> None:
        self.pooling = pooling
        self.output_size = output_size

    @fit_context(prefer_skip_nested_validation=True)
    def fit(self, X: Activations | ArrayLike, y: Any = None) -> Self:
        """Check the parameters and remember the layers of ``X``; nothing is learnt.

        Parameters
        ----------
        X : Activations or array-like of shape (n_samples, channels, ...)
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
            If a pooling is unknown or named twice, or an array meets several poolings.
        """
        poolings = self._poolings()
        known = all(pooling in POOLINGS for pooling in poolings)
        if not poolings or not known or len(set(poolings)) < len(poolings):
            raise ValueError(
                f"pooling must be one of {POOLINGS} or distinct ones of them, got {self.pooling!r}."
            )
        super().fit(X, y)
        if not hasattr(self, "layer_shapes_") and len(poolings) > 1:
            raise ValueError(
                f"Several poolings {poolings} yield a layer each, which needs Activations; "
                "an array can be pooled in one way only."
            )
        return self

    def _poolings(self) -> list[str]:
        return [self.pooling] if isinstance(self.pooling, str) else list(self.pooling)

    def _transform(self, X: Activations) -> Activations:
        columns = {str(column.name): column for column in layer_columns(X)}
        # The axes of passes, (n_samples, n_passes, n_classes), are none of space.
        passes = {name for name, column in columns.items() if column.kind == "pass"}
        with_units_second = units_second(X)
        arrays = {name: (X if name in passes else with_units_second)[name] for name in columns}
        origins = self._origins(arrays, passes)
        with np.errstate(over="ignore", invalid="ignore"):
            pooled = self._pool_layers(arrays, origins)
        for name, layer in pooled.items():
            if not isinstance(layer, PackedBits):
                check_finite(layer, f"PoolingReducer: pooled layer {name!r}", "A sum overflows.")
        found = {}
        for name, (source, pooling) in origins.items():
            known = columns[source].metadata()
            if pooling is not None:
                known |= {"pooling": pooling, "unit_axis": 1}
            found[name] = Column(pooled[name], **known)
        return X.replace(found)

    def pool_layers(self, layers: Mapping[str, Any]) -> dict[str, Any]:
        """Pool a dict of NumPy arrays or torch tensors, without validation.

        This is what :class:`~skood.ActivationExtractor` calls for each batch.

        Parameters
        ----------
        layers : dict of str to ndarray or torch.Tensor of shape (n_samples, n_units, ...)
            Activations by layer.

        Returns
        -------
        dict of str to ndarray or torch.Tensor of shape (n_samples, n_units)
            Pooled activations by layer, arrays for arrays and tensors for tensors.

        Raises
        ------
        ValueError
            If the name of a pooled layer is that of another layer.
        """
        return self._pool_layers(layers, self._origins(layers))

    def _pool_layers(self, layers: Mapping[str, Any], origins: Origins) -> dict[str, Any]:
        return {
            name: layers[source] if pooling is None else self._pool(layers[source], pooling)
            for name, (source, pooling) in origins.items()
        }

    def _pool(self, array: Any, pooling: str) -> Any:
        return pool(array, pooling, self.output_size)

    def _origins(self, layers: Mapping[str, Any], unpooled: Container[str] = ()) -> Origins:
        """Name and pooling of the layer of each result; None where there is nothing to pool."""
        poolings = self._poolings()
        origins: Origins = {}
        for name, array in layers.items():
            if name in unpooled or isinstance(array, PackedBits) or array.ndim == 2:
                origins[name] = (name, None)
            elif len(poolings) == 1:
                origins[name] = (name, poolings[0])
            else:
                origins |= {f"{name}:{pooling}": (name, pooling) for pooling in poolings}
        self._check_names(origins, layers)
        return origins

    def _check_names(self, origins: Origins, layers: Mapping[str, Any]) -> None:
        for pooled_name, (name, _) in origins.items():
            if pooled_name != name and pooled_name in layers:
                raise ValueError(f"Pooling {name!r} would replace layer {pooled_name!r}.")

    def __sklearn_tags__(self) -> Tags:
        tags = super().__sklearn_tags__()
        tags.transformer_tags.preserves_dtype = ["float64", "float32"]
        return tags
