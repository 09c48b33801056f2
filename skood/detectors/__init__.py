"""Detectors of inputs that a network should not be trusted on."""

from ._activation_interval import ActivationIntervalDetector
from ._activation_norm import SILENCE as SILENCE
from ._activation_norm import ActivationNormDetector
from ._base import BaseDetector, BaseOneClassDetector
from ._base import joined as joined
from ._base import rows_of as rows_of
from ._base_incremental import BaseIncrementalDetector as BaseIncrementalDetector
from ._base_incremental import batches_of as batches_of
from ._base_incremental import forget_batches as forget_batches
from ._block_fit import BlockFit as BlockFit
from ._block_fit import BlockScores as BlockScores
from ._cluster_distance import ClusterDistanceDetector as ClusterDistanceDetector
from ._core import RESIDUAL_ROUNDING as RESIDUAL_ROUNDING
from ._core import COREDetector
from ._energy import EnergyDetector
from ._entropy import EntropyDetector
from ._fdbd import FDBDDetector
from ._few_rows import DistancesSideBySide as DistancesSideBySide
from ._few_rows import RowsSideBySide as RowsSideBySide
from ._few_rows import may_stand as may_stand
from ._few_rows import say_the_same as say_the_same
from ._gaussian_activation import GaussianActivationDetector
from ._gen import GENDetector
from ._grad_norm import GradNormDetector
from ._gram import GramDetector
from ._gram_ranges import end_sizes as end_sizes
from ._group_progression import GroupProgressionDetector as GroupProgressionDetector
from ._hamming import HammingNAPDetector as HammingNAPDetector
from ._kl_matching import KLMatchingDetector
from ._knn import KNNDetector
from ._mahalanobis import MahalanobisDetector
from ._max_logit import MaxLogitDetector
from ._max_softmax import MaxSoftmaxDetector
from ._mc_dropout import MCDropoutDetector
from ._nac import STATE_ROUNDING as STATE_ROUNDING
from ._nac import NACDetector
from ._nci import NCIDetector
from ._neuron_count import NeuronCountDetector as NeuronCountDetector
from ._nn_guide import NNGuideDetector
from ._open_max import TAIL_SHIFT as TAIL_SHIFT
from ._open_max import OpenMaxDetector
from ._she import SHEDetector
from ._stored_samples import NearestExamples
from ._vim import ViMDetector

__all__ = [
    "ActivationIntervalDetector",
    "ActivationNormDetector",
    "BaseDetector",
    "BaseOneClassDetector",
    "COREDetector",
    "EnergyDetector",
    "EntropyDetector",
    "FDBDDetector",
    "GENDetector",
    "GaussianActivationDetector",
    "GradNormDetector",
    "GramDetector",
    "KLMatchingDetector",
    "KNNDetector",
    "MCDropoutDetector",
    "MahalanobisDetector",
    "MaxLogitDetector",
    "MaxSoftmaxDetector",
    "NACDetector",
    "NCIDetector",
    "NNGuideDetector",
    "NearestExamples",
    "OpenMaxDetector",
    "SHEDetector",
    "ViMDetector",
]
