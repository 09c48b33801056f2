"""What single neurons and layers do: measures and displays."""

from ._activation_map_display import ActivationMapDisplay
from ._cluster_distance_display import ClusterDistanceDisplay
from ._explain import explain
from ._explanation import Explanation
from ._hamming_distance_display import HammingDistanceDisplay
from ._influence import neuron_influence
from ._mean_activation_display import MeanActivationDisplay
from ._mean_performance_display import MeanPerformanceDisplay
from ._neuron_measure_display import NeuronMeasureDisplay
from ._neuron_measures import activation_count, neuron_accuracy, weak_neurons
from ._neuron_statistics import NeuronStatistics
from ._pattern_display import PatternDisplay
from ._progression_display import ProgressionDisplay
from ._reconstruction_display import ReconstructionDisplay
from ._reconstruction_error_display import ReconstructionErrorDisplay
from ._risk_coverage_display import RiskCoverageDisplay
from ._roc_curve_display import OODRocCurveDisplay
from ._setting_accuracy_display import SettingAccuracyDisplay
from ._shared_neuron_display import SharedNeuronDisplay
from ._transfer_display import TransferDisplay
from ._validation_test_display import ValidationTestDisplay

__all__ = [
    "ActivationMapDisplay",
    "ClusterDistanceDisplay",
    "Explanation",
    "HammingDistanceDisplay",
    "MeanActivationDisplay",
    "MeanPerformanceDisplay",
    "NeuronMeasureDisplay",
    "NeuronStatistics",
    "OODRocCurveDisplay",
    "PatternDisplay",
    "ProgressionDisplay",
    "ReconstructionDisplay",
    "ReconstructionErrorDisplay",
    "RiskCoverageDisplay",
    "SettingAccuracyDisplay",
    "SharedNeuronDisplay",
    "TransferDisplay",
    "ValidationTestDisplay",
    "activation_count",
    "explain",
    "neuron_accuracy",
    "neuron_influence",
    "weak_neurons",
]
