"""From a trained network and its inputs to the activations of its layers."""

from ._extractor import ActivationExtractor as ActivationExtractor
from ._failures import InputError
from ._masks import KNOWN_MASKS as KNOWN_MASKS
from ._masks import MARKS_PADDING as MARKS_PADDING
from ._masks import mask_name as mask_name
from ._perturbation import ODIN, MahalanobisPerturbation
from ._plan import Plan as Plan
from ._same_network import ChangedNetworkError
from ._session import ExtractionSession as ExtractionSession
from ._session import may_hurry as may_hurry

__all__ = ["ODIN", "ChangedNetworkError", "InputError", "MahalanobisPerturbation"]
