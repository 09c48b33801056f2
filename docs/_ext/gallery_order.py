"""The order of the gallery: sections, and the examples of each. What is not named comes last."""

from pathlib import Path

ORDER = {
    "first_steps": ["quickstart", "skorch", "sklearn_mlp"],
    "kinds_of_data": ["tabular", "bag_of_words", "tiny_transformer", "time_series", "regression"],
    "choosing": [
        "no_single_best_layer",
        "grid_search",
        "od_test",
        "od_test_own",
        "auto_nap",
        "other_libraries",
    ],
    "thresholds": ["thresholds", "choosing_a_rate", "calibration", "monitor_report", "drift"],
    "methods": [
        "layer_patterns",
        "group_progression",
        "neuron_measures",
        "runtime_monitors",
        "shaping",
        "line",
        "input_perturbation",
        "mc_dropout",
    ],
    "understanding": ["seeing_activations", "explain_alarm"],
    "reject_option": ["decoy_class", "denoising_classifier"],
    "deployment": ["serving", "streams"],
}
SECTIONS = [f"../examples/{section}" for section in ORDER]


class GalleryOrder:
    """Sort key that sphinx-gallery builds for each folder of examples."""

    def __init__(self, src_dir):
        self.names = [f"plot_{name}.py" for name in ORDER.get(Path(src_dir).name, [])]

    def __call__(self, filename):
        name = Path(filename).name
        return (self.names.index(name) if name in self.names else len(self.names), name)

    def __repr__(self):
        return "<GalleryOrder>"
