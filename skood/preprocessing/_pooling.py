"""Pooling of feature maps to a few values per channel."""

from itertools import product
from numbers import Integral

import numpy as np

from .._fit_context import fit_context
from .._sklearn import Interval, StrOptions
from .._values import all_finite, check_finite
from ..activations import PackedBits
from ._base import LayerwiseTransformer

POOLINGS = ("max", "avg", "sum", "flatten")


class PoolingReducer(LayerwiseTransformer):
    """Pool the feature maps of each layer over space.

    A map of shape (n_samples, channels, height, width), or with any other number of spatial
    axes, becomes (n_samples, channels * cells): each spatial axis is cut into ``output_size``
    parts, and every combination of parts is a cell. The second axis is that of the units: tokens,
    (n_samples, n_tokens, n_units), are to come as (n_samples, n_units, n_tokens), as an
    ``ActivationExtractor`` gives sequences of any length to its reducer. Layers that have no
    spatial axes, such as those of a multilayer perceptron, pass unchanged.

    Parameters
    ----------
    pooling : {"max", "avg", "sum", "flatten"} or sequence of them, default="max"
        How to reduce a cell: its largest value, its mean, its sum, or not at all; sums of half
        precision are in single precision. Several yield one
        layer each, named "layer:pooling"; a layer without spatial axes, for which they
        are all the same, stays one layer under its own name.
    output_size : int, default=1
        Number of cells along each spatial axis; 1 pools globally. Where an axis cannot
        be cut evenly, neighbouring cells overlap by one position, as in adaptive pooling.
        Not used by "flatten".

    Attributes
    ----------
    n_features_in_ : int
        Number of units seen in ``fit``, over all layers.
    feature_names_in_ : ndarray of shape (`n_features_in_`,)
        Names of the features, where ``fit`` saw a data frame with string names.
    layer_shapes_ : dict of str to tuple
        Shape of one sample in each layer, where ``fit`` saw ``Activations``.

    See Also
    --------
    PercentileBinarizer : Turn pooled activations into binary patterns.
    ActivationExtractor : Takes a reducer, and so never holds unpooled maps.

    Examples
    --------
    >>> import numpy as np
    >>> from skood import Activations, PoolingReducer
    >>> maps = np.arange(16.0).reshape(1, 2, 2, 4)
    >>> PoolingReducer("avg").fit_transform(maps)
    array([[ 3.5, 11.5]])
    >>> A = Activations({"conv": maps, "fc": np.ones((1, 3))})
    >>> PoolingReducer(["max", "avg"]).fit_transform(A)
    Activations(n_samples=1, layers={conv:max: (2,), conv:avg: (2,), fc: (3,)})
    """

    _parameter_constraints: dict = {
        "pooling": [StrOptions(set(POOLINGS)), list, tuple],
        "output_size": [Interval(Integral, 1, None, closed="left")],
    }
    _allow_nd = True

    def __init__(self, pooling="max", *, output_size=1):
        self.pooling = pooling
        self.output_size = output_size

    @fit_context(prefer_skip_nested_validation=True)
    def fit(self, X, y=None):
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

    def _poolings(self):
        return [self.pooling] if isinstance(self.pooling, str) else list(self.pooling)

    def _transform(self, X):
        with np.errstate(over="ignore", invalid="ignore"):
            pooled = self.pool_layers(dict(X.items()))
        for name, layer in pooled.items():
            if not isinstance(layer, PackedBits):
                check_finite(layer, f"PoolingReducer: pooled layer {name!r}", "A sum overflows.")
        return X.replace(pooled)

    def pool_layers(self, layers):
        """Pool a dict of NumPy arrays or torch tensors, without validation.

        This is what :class:`~skood.ActivationExtractor` calls for each batch.

        Parameters
        ----------
        layers : dict of str to ndarray or torch.Tensor of shape (n_samples, channels, ...)
            Activations by layer.

        Returns
        -------
        dict of str to ndarray or torch.Tensor of shape (n_samples, n_units)
            Pooled activations by layer, of the same kind as the input.

        Raises
        ------
        ValueError
            If the name of a pooled layer is that of another layer.
        """
        poolings = self._poolings()
        pooled = {}
        for name, array in layers.items():
            if len(poolings) == 1 or isinstance(array, PackedBits) or array.ndim == 2:
                pooled[name] = pool(array, poolings[0], self.output_size)
            else:
                for pooling in poolings:
                    if (pooled_name := f"{name}:{pooling}") in layers:
                        raise ValueError(f"Pooling {name!r} would replace layer {pooled_name!r}.")
                    pooled[pooled_name] = pool(array, pooling, self.output_size)
        return pooled

    def __sklearn_tags__(self):
        tags = super().__sklearn_tags__()
        tags.transformer_tags.preserves_dtype = ["float64", "float32"]
        return tags


def pool(array, pooling, output_size=1):
    """Pool an array or tensor of shape (n_samples, channels, ...) to (n_samples, n_units)."""
    if isinstance(array, PackedBits) or array.ndim == 2:
        return array
    flat = array.reshape(*array.shape[:2], -1)
    if pooling == "flatten":
        return flat.reshape(len(array), -1)
    if output_size == 1:
        return _reduce(flat, pooling)
    cells = [
        _reduce(array[(..., *cell)].reshape(*array.shape[:2], -1), pooling)
        for cell in product(*(_cuts(size, output_size) for size in array.shape[2:]))
    ]
    if isinstance(array, np.ndarray):
        return np.stack(cells, axis=2).reshape(len(array), -1)
    import torch

    return torch.stack(cells, dim=2).reshape(len(array), -1)


def _reduce(flat, pooling):
    if pooling == "max":
        return flat.max(2) if isinstance(flat, np.ndarray) else flat.amax(2)
    if pooling == "sum":
        return _in_single_precision(flat).sum(2)
    mean = flat.mean(2)
    if isinstance(flat, np.ndarray) and not all_finite(mean):
        return (flat / flat.shape[2]).sum(2)
    return mean


def _in_single_precision(flat):
    """Half precision as single precision, as sums soon leave its range; others as they are."""
    if isinstance(flat, np.ndarray):
        return flat.astype(np.float32) if flat.dtype == np.float16 else flat
    return flat.float() if flat.is_floating_point() and flat.itemsize == 2 else flat


def _cuts(size, n_cells):
    """Slices that cut an axis into cells, the last position of a cell rounded up."""
    return [slice(i * size // n_cells, -(-(i + 1) * size // n_cells)) for i in range(n_cells)]
