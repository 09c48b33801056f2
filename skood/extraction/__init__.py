"""From a trained network and its inputs to the activations of its layers."""

from ._extractor import ActivationExtractor

__all__ = ["ActivationExtractor"]
