"""From a trained network and its inputs to the activations of its layers."""

from ._extractor import ActivationExtractor as ActivationExtractor
from ._perturbation import ODIN, MahalanobisPerturbation
from ._session import ExtractionSession as ExtractionSession
from ._session import may_hurry as may_hurry

__all__ = ["ODIN", "MahalanobisPerturbation"]
