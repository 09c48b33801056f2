"""Binary activation patterns."""

from __future__ import annotations

from numbers import Real
from typing import Any

import numpy as np
from numpy.typing import NDArray
from sklearn.utils import Tags

from .._patterns import quantile_bits, top_share
from .._sklearn import Interval, StrOptions
from ..activations import Activations, PackedBits
from ._base import LayerwiseTransformer


class PercentileBinarizer(LayerwiseTransformer):
    """Turn activations into binary patterns, one bit a neuron.

    A neuron's bit is 1 where it stands out among the neurons of its layer for the same sample, so
    patterns do not depend on other samples and nothing is learnt in ``fit``.

    Parameters
    ----------
    percentile : float, default=50
        Share of the layer's neurons, in percent, whose bit is 0 (at least that many with
        ``rule="quantile"``). Not used by ``rule="zero"``.
    rule : {"quantile", "rank", "zero"}, default="quantile"
        - "quantile": 1 where the value is above the sample's own percentile over the layer
          and above 0, both strictly, as in NAP [1]_. A sample may have fewer ones than
          its share where values tie, as after a ReLU.
        - "rank": 1 for exactly the top share [2]_: of ``r`` neurons, the
          ``floor(r * percentile / 100)`` smallest become 0 and the rest 1; among equal values
          those of earlier neurons become 0 first. Layer activation patterns are of this kind.
        - "zero": 1 where the value is above 0; the percentile is not used.

    See Also
    --------
    PoolingReducer : Brings feature maps to the two dimensions that are expected here.
    HammingNAPDetector : Scores patterns.

    Notes
    -----
    ``transform`` returns :class:`~skood.activations.PackedBits` layers for ``Activations`` and a
    boolean array for an array.

    References
    ----------
    .. [1] B. Olber, K. Radlak, A. Popowicz, M. Szczepankiewicz, K. Chachula, "Detection of
       out-of-distribution samples using binary neuron activation patterns", CVPR 2023.
       arXiv:2212.14268
    .. [2] V. Demuysere, "Investigating layer activation patterns in neural networks for
       classification error detection", master's dissertation, UCLouvain, 2018.

    Examples
    --------
    >>> from skood import PercentileBinarizer
    >>> X = [[0.0, 3.0, 1.0, 2.0], [0.0, 0.0, 0.0, 5.0]]
    >>> PercentileBinarizer(percentile=25).fit_transform(X).astype(int)
    array([[0, 1, 1, 1],
           [0, 0, 0, 1]])
    >>> PercentileBinarizer(percentile=25, rule="rank").fit_transform(X).astype(int)
    array([[0, 1, 1, 1],
           [0, 1, 1, 1]])
    """

    _parameter_constraints: dict[str, Any] = {
        "percentile": [Interval(Real, 0, 100, closed="both")],
        "rule": [StrOptions({"quantile", "rank", "zero"})],
    }

    def __init__(self, *, percentile: float = 50, rule: str = "quantile") -> None:
        self.percentile = percentile
        self.rule = rule

    def _transform(self, X: Activations) -> Activations:
        return X._with_layers(
            {
                name: layer if isinstance(layer, PackedBits) else PackedBits.pack(self._bits(layer))
                for name, layer in X.items()
            }
        )

    def _bits(self, array: NDArray) -> NDArray[np.bool_]:
        if self.rule == "zero":
            return array > 0
        if self.rule == "rank":
            return top_share(array, self.percentile)
        (bits,) = quantile_bits(array, [self.percentile])
        return bits

    def __sklearn_tags__(self) -> Tags:
        tags = super().__sklearn_tags__()
        tags.transformer_tags.preserves_dtype = []
        return tags
