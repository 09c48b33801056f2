"""What single neurons and layers do: measures and displays."""

from ._cluster_distance_display import ClusterDistanceDisplay
from ._influence import neuron_influence
from ._mean_activation_display import MeanActivationDisplay
from ._neuron_measure_display import NeuronMeasureDisplay
from ._neuron_measures import activation_count, neuron_accuracy, weak_neurons
from ._neuron_statistics import NeuronStatistics
from ._progression_display import ProgressionDisplay
from ._roc_curve_display import OODRocCurveDisplay

__all__ = [
    "ClusterDistanceDisplay",
    "MeanActivationDisplay",
    "NeuronMeasureDisplay",
    "NeuronStatistics",
    "OODRocCurveDisplay",
    "ProgressionDisplay",
    "activation_count",
    "neuron_accuracy",
    "neuron_influence",
    "weak_neurons",
]
