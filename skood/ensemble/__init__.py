"""Several monitors of one network, combined."""

from ._auto_nap import AutoNAPDetector
from ._layers import LayerEnsembleDetector

__all__ = ["AutoNAPDetector", "LayerEnsembleDetector"]
