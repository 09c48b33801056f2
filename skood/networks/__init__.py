"""Trained networks of any framework, and nothing of the activations that they yield.

An adapter runs a network of one framework without leaving a mark on it, and says which layers,
logits and head it has. Another framework is one more adapter, and a call of :func:`register`.
"""

from typing import TYPE_CHECKING, Any

from ._adapt import adapt, register
from ._adapt import is_network as is_network
from ._base import PENULTIMATE as PENULTIMATE
from ._base import Batch as Batch
from ._base import LayerCallback as LayerCallback
from ._base import LossGradients, NetworkAdapter, Perturbation, Trace
from ._base import count_samples as count_samples
from ._base import take_samples as take_samples
from ._checks import check_adapter
from ._difference import differing as differing
from ._difference import explain_difference as explain_difference
from ._fingerprint import ContentReader, Fingerprint
from ._inputs import InputReader, Loader, register_inputs
from ._inputs import as_loader as as_loader
from ._inputs import is_array as is_array
from ._inputs import is_finite as is_finite
from ._inputs import is_stream as is_stream
from ._inputs import refuse_unreadable as refuse_unreadable
from ._inputs import to_array as to_array
from ._session import NetworkSession

if TYPE_CHECKING:
    from ._torch import StoredTensor as StoredTensor
    from ._torch import TorchAdapter as TorchAdapter
    from ._torch import WeightLayer as WeightLayer
    from ._torch import find_weight_layers as find_weight_layers
    from ._torch import load_weights as load_weights
    from ._torch import n_units_of_norm as n_units_of_norm
    from ._torch import read_weights as read_weights

__all__ = [
    "ContentReader",
    "Fingerprint",
    "InputReader",
    "Loader",
    "LossGradients",
    "NetworkAdapter",
    "NetworkSession",
    "Perturbation",
    "Trace",
    "adapt",
    "check_adapter",
    "register",
    "register_inputs",
]

_OF_TORCH = {
    "StoredTensor",
    "TorchAdapter",
    "WeightLayer",
    "find_weight_layers",
    "load_weights",
    "n_units_of_norm",
    "read_weights",
}


def __getattr__(name: str) -> Any:
    # Not imported before one of its names is used: torch takes seconds.
    if name not in _OF_TORCH:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    from . import _torch

    return getattr(_torch, name)
