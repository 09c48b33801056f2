"""From raw activations to what a detector reads: selection, pooling, binarisation."""

from ._binarizer import PercentileBinarizer
from ._pooling import PoolingReducer
from ._selector import LayerSelector

__all__ = ["LayerSelector", "PercentileBinarizer", "PoolingReducer"]
