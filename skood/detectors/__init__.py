"""Detectors of inputs that a network should not be trusted on."""

from ._base import BaseDetector, BaseOneClassDetector
from ._cluster_distance import ClusterDistanceDetector
from ._group_progression import GroupProgressionDetector
from ._hamming import HammingNAPDetector
from ._logits import EnergyDetector, MaxSoftmaxDetector
from ._neuron_count import NeuronCountDetector

__all__ = [
    "BaseDetector",
    "BaseOneClassDetector",
    "ClusterDistanceDetector",
    "EnergyDetector",
    "GroupProgressionDetector",
    "HammingNAPDetector",
    "MaxSoftmaxDetector",
    "NeuronCountDetector",
]
