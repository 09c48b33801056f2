"""Networks of torch."""

from .adapter import TorchAdapter as TorchAdapter
from .weight_layers import WeightLayer as WeightLayer
from .weight_layers import find_weight_layers as find_weight_layers
from .weight_layers import n_units_of_norm as n_units_of_norm
from .weights import StoredTensor as StoredTensor
from .weights import load_weights as load_weights
from .weights import read_weights as read_weights
