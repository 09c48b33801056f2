"""From raw activations to what a detector reads: selection, pooling, binarisation."""

from ._binarizer import PercentileBinarizer as PercentileBinarizer
from ._neuron_selector import NeuronSelector
from ._pooling import PoolingReducer as PoolingReducer
from ._selector import LayerSelector

__all__ = ["LayerSelector", "NeuronSelector"]
