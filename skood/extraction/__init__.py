"""From a trained network and its inputs to the activations of its layers."""

from ._extractor import ActivationExtractor as ActivationExtractor
from ._perturbation import ODIN, MahalanobisPerturbation

__all__ = ["ODIN", "MahalanobisPerturbation"]
