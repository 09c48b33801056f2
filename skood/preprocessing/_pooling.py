"""Pooling of feature maps and tokens to a few values per unit."""

from __future__ import annotations

from collections.abc import Callable, Container, Mapping, Sequence
from numbers import Integral
from typing import Any, Self

import numpy as np
from numpy.typing import ArrayLike, NDArray
from sklearn.utils import Tags

from .._elsewhere import run_elsewhere
from .._fit_context import fit_context
from .._layer_names import layer_columns, units_second
from .._pooling import ENDS, POOLINGS, fitting_mask, pool, pool_units, pooler
from .._sklearn import Interval, StrOptions
from .._values import check_finite
from ..activations import Activations, Column, PackedBits
from ._base import LayerwiseTransformer

Origins = dict[str, tuple[str, str | None]]

TOKEN_POOLINGS = {f"token_{pooling}": pooling for pooling in ("max", "avg", "sum")}
"""Of ``token_pooling``: how the results are called, and how the units of a token are pooled."""


class PoolingReducer(LayerwiseTransformer):
    """Pool the feature maps of each layer over space, and tokens over their sequence.

    A map of shape (n_samples, channels, height, width), or with any other number of spatial
    axes, becomes (n_samples, channels * cells): each spatial axis is cut into ``output_size``
    parts, and every combination of parts is a cell. The second axis is that of the units, unless
    the column in ``Activations`` has another ``unit_axis``: tokens, (n_samples, n_tokens, n_units)
    with ``unit_axis=2``, are pooled over the tokens. Layers that have no spatial axes, such as
    those of a multilayer perceptron, and columns of stochastic forward passes, whose ``kind`` is
    "pass", pass unchanged.

    Parameters
    ----------
    pooling : str or sequence of str, default="max"
        How to reduce a cell:

        - "max", "avg", "sum": its largest value, its mean, its sum; sums of half precision are in
          single precision;
        - "flatten": not at all, and all positions are kept;
        - "first", "last": of sequences, the first or the last token, such as the one that stands
          for the class of an image, or the one that a language model reads its answer from.

        Several yield one layer each, named "layer:pooling"; a layer without spatial axes, for which
        they are all the same, stays one layer under its own name. The columns of what is pooled say
        how (``Column.pooling``).
    output_size : int, default=1
        Number of cells along each spatial axis; 1 pools globally. Where an axis cannot
        be cut evenly, neighbouring cells overlap by one position, as in adaptive pooling.
        Not used by "flatten", "first" and "last".
    token_pooling : sequence of {"max", "avg", "sum"}, default=()
        What else to keep of tokens at fixed places, such as the patches of an image: one value of
        each token, its largest unit, or the mean or sum of its units, as a layer of its own,
        "layer:token_max". Tokens are layers whose units are in another axis than the second. They
        are taken to be at fixed places where there is no mask; where there is one, which
        tells how many tokens each sample has, there are no such layers.

    See Also
    --------
    PercentileBinarizer : Turn pooled activations into binary patterns.
    ActivationExtractor : Takes a reducer, and so never holds unpooled maps.

    Notes
    -----
    **Padding.** Where the ``Activations`` have a mask, (n_samples, n_tokens), padding is left out
    of all but "flatten", at whichever end it is: of a sample with three tokens, "avg" is their
    mean, "last" is the third, and cells are parts of these three. This is so in layers whose only
    axis beside those of samples and units is as long as the mask. Others are pooled whole. What is
    pooled has no mask any more.

    **Sizes.** Inputs may have maps of another size, or another number of tokens, than those that
    were seen in ``fit``, except with "flatten" and ``token_pooling``.

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

    Two sentences, of three tokens and of one, with two units each:

    >>> from skood.activations import Column
    >>> tokens = Column(np.arange(12.0).reshape(2, 3, 2), unit_axis=2)
    >>> text = Activations({"block": tokens}, mask=[[1, 1, 1], [1, 0, 0]])
    >>> PoolingReducer(pooling="avg").fit_transform(text)["block"]
    array([[2., 3.],
           [6., 7.]])
    """

    _parameter_constraints: dict[str, Any] = {
        "pooling": [StrOptions(set(POOLINGS)), list, tuple],
        "output_size": [Interval(Integral, 1, None, closed="left")],
        "token_pooling": [list, tuple],
    }
    _allow_nd = True

    def __init__(
        self,
        *,
        pooling: str | Sequence[str] = "max",
        output_size: int = 1,
        token_pooling: Sequence[str] = (),
    ) -> None:
        self.pooling = pooling
        self.output_size = output_size
        self.token_pooling = token_pooling

    @run_elsewhere("fit_on_few")
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
        if not poolings or not _are_distinct(poolings, POOLINGS):
            raise ValueError(
                f"pooling must be one of {POOLINGS} or distinct ones of them, got {self.pooling!r}."
            )
        of_units = tuple(TOKEN_POOLINGS.values())
        if not _are_distinct(self.token_pooling, of_units):
            raise ValueError(
                f"token_pooling must be distinct ones of {of_units}, got {self.token_pooling!r}."
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
        with_units_second, mask = units_second(X), X.mask
        arrays = {name: (X if name in passes else with_units_second)[name] for name in columns}
        tokens = {name for name, column in columns.items() if column.unit_axis != 1}
        origins = self._origins(arrays, passes, () if mask is not None else tokens)
        with np.errstate(over="ignore", invalid="ignore"):
            pooled = self._pool_layers(arrays, origins, mask)
        for name, layer in pooled.items():
            if not isinstance(layer, PackedBits):
                check_finite(layer, f"PoolingReducer: pooled layer {name!r}", "A sum overflows.")
        found = {}
        for name, (source, pooling) in origins.items():
            known = columns[source].metadata()
            if pooling is not None:
                known |= {"pooling": pooling, "unit_axis": 1}
            found[name] = Column(pooled[name], **known)
        replaced = X.replace(found)
        return replaced if mask is None else replaced.assign(mask=None)

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
            If the name of a pooled layer is that of another layer, or "first" or "last" meets
            several axes of space.
        """
        return self._pool_layers(layers, self._origins(layers))

    def _poolers(self, name: str, n_axes: int) -> dict[str, Callable[[Any], Any]]:
        """What ``pool_layers`` makes of a layer with so many axes, as functions of its values.

        Their results share no memory with these. None are known of a subclass.
        """
        if type(self) is not PoolingReducer:
            return {}
        origins = self._origins({name: np.empty((0,) * n_axes)})
        return {
            pooled: pooler(pooling, self.output_size, n_axes)
            for pooled, (_, pooling) in origins.items()
        }

    def pool_tokens(self, layers: Mapping[str, Any], mask: NDArray | None) -> dict[str, Any]:
        """Pool layers of tokens, as ``pool_layers`` pools those of maps.

        Parameters
        ----------
        layers : dict of str to ndarray or torch.Tensor of shape (n_samples, n_units, ...)
            Activations by layer, with their units moved to the second axis.
        mask : ndarray of shape (n_samples, n_tokens) or None
            False at padding. None where the tokens are at fixed places.

        Returns
        -------
        dict of str to ndarray or torch.Tensor of shape (n_samples, n_units)
            Pooled activations by layer, arrays for arrays and tensors for tensors.

        Raises
        ------
        ValueError
            As in ``pool_layers``.
        """
        return self._pool_layers(
            layers, self._origins(layers, (), () if mask is not None else layers), mask
        )

    def _pool_layers(
        self, layers: Mapping[str, Any], origins: Origins, mask: NDArray | None = None
    ) -> dict[str, Any]:
        return {
            name: layers[source] if pooling is None else self._pool(layers[source], pooling, mask)
            for name, (source, pooling) in origins.items()
        }

    def _pool(self, array: Any, pooling: str, mask: NDArray | None) -> Any:
        if pooling in TOKEN_POOLINGS:
            return pool_units(array, TOKEN_POOLINGS[pooling])
        return pool(array, pooling, self.output_size, fitting_mask(mask, array))

    def _origins(
        self,
        layers: Mapping[str, Any],
        unpooled: Container[str] = (),
        fixed_tokens: Container[str] = (),
    ) -> Origins:
        """Name and pooling of the layer of each result; None where there is nothing to pool."""
        origins: Origins = {}
        for name, array in layers.items():
            if name in unpooled or isinstance(array, PackedBits) or array.ndim == 2:
                origins[name] = (name, None)
                continue
            poolings = self._poolings()
            _check_ends(name, array, poolings)
            if name in fixed_tokens:
                poolings += [f"token_{pooling}" for pooling in self.token_pooling]
            if len(poolings) == 1:
                origins[name] = (name, poolings[0])
            else:
                origins |= {f"{name}:{pooling}": (name, pooling) for pooling in poolings}
        self._check_names(origins, layers)
        return origins

    def _check_names(self, origins: Origins, layers: Mapping[str, Any]) -> None:
        for pooled_name, (name, _) in origins.items():
            if pooled_name != name and pooled_name in layers:
                raise ValueError(f"Pooling {name!r} would replace layer {pooled_name!r}.")

    def _takes_also(self, X: Activations) -> bool:
        """Whether layers differ from those of ``fit`` in nothing but what is pooled over."""
        if "flatten" in self._poolings() or (self.token_pooling and X.mask is None):
            return False
        fitted = self.layer_shapes_
        return list(fitted) == list(X.layer_names) and all(
            len(fitted[name]) == len(column.shape[1:])
            and fitted[name][column.unit_axis - 1] == column.shape[column.unit_axis]
            and column.kind != "pass"
            for name, column in ((str(c.name), c) for c in layer_columns(X))
        )

    def __sklearn_tags__(self) -> Tags:
        tags = super().__sklearn_tags__()
        tags.transformer_tags.preserves_dtype = ["float64", "float32"]
        return tags


def _are_distinct(names: Any, known: Sequence[str]) -> bool:
    return all(name in known for name in names) and len(set(names)) == len(names)


def _check_ends(name: str, array: Any, poolings: Sequence[str]) -> None:
    if array.ndim > 3 and (ends := [pooling for pooling in poolings if pooling in ENDS]):
        raise ValueError(
            f"pooling={ends[0]!r} takes one token of a sequence, but layer {name!r} has "
            f"{array.ndim - 2} axes of space, {tuple(array.shape[2:])}: leave this layer out, or "
            "pool it by 'max' or 'avg'."
        )
