"""From raw activations to what a detector reads: selection, pooling, binarisation."""

from ._binarizer import PercentileBinarizer
from ._neuron_selector import NeuronSelector
from ._pooling import PoolingReducer
from ._selector import LayerSelector

__all__ = ["LayerSelector", "NeuronSelector", "PercentileBinarizer", "PoolingReducer"]
