"""From a trained network and its inputs to the activations of its layers."""

from ._extractor import ActivationExtractor as ActivationExtractor
from ._failures import InputError as InputError
from ._perturbation import ODIN, MahalanobisPerturbation
from ._same_network import ChangedNetworkError as ChangedNetworkError

__all__ = ["ODIN", "MahalanobisPerturbation"]
