"""The order of the gallery: from the first steps on. Examples not named here come last."""

from pathlib import Path

ORDER = [
    "plot_quickstart.py",
    "plot_sklearn_mlp.py",
    "plot_skorch.py",
    "plot_no_single_best_layer.py",
    "plot_grid_search.py",
    "plot_auto_nap.py",
    "plot_od_test.py",
    "plot_thresholds.py",
    "plot_drift.py",
    "plot_layer_patterns.py",
    "plot_group_progression.py",
    "plot_neuron_measures.py",
    "plot_seeing_activations.py",
    "plot_explain_alarm.py",
    "plot_runtime_monitors.py",
    "plot_calibration.py",
    "plot_monitor_report.py",
    "plot_other_libraries.py",
    "plot_input_perturbation.py",
    "plot_shaping.py",
    "plot_line.py",
    "plot_mc_dropout.py",
    "plot_decoy_class.py",
    "plot_denoising_classifier.py",
]


class GalleryOrder:
    """Sort key that sphinx-gallery builds for each folder of examples."""

    def __init__(self, src_dir):
        self.src_dir = src_dir

    def __call__(self, filename):
        name = Path(filename).name
        return (ORDER.index(name) if name in ORDER else len(ORDER), name)

    def __repr__(self):
        return "<GalleryOrder>"
