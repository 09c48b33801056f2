"""Tables as an OD-test gives them, of made-up numbers."""

from itertools import permutations

import numpy as np
import pandas as pd

METRICS = ("accuracy", "auroc", "aupr_in", "aupr_out", "fpr95_in", "fpr95_out")


def make_table(detectors, sets=("c", "d", "e"), sources=("one",), target="ood", seed=0):
    """A row for each triple and detector, with random values from 0.5 to 1."""
    rng = np.random.default_rng(seed)
    rows = [
        {
            "source": source,
            "detector": detector,
            "target": target,
            "validation": validation,
            "test": test,
            **{metric: rng.uniform(0.5, 1) for metric in METRICS},
            "n_in": 100,
            "n_out": 100,
            "fit_time": 0.5,
            "score_time": 0.1,
        }
        for source in sources
        for detector in detectors
        for validation, test in permutations(sets, 2)
    ]
    return pd.DataFrame(rows)


def make_table_of_errors(detectors, sources=("one",), seed=0):
    """A row for each source and detector: no validation set, and the metric of errors alone."""
    rng = np.random.default_rng(seed)
    rows = [
        {
            "source": source,
            "detector": detector,
            "target": "misclassified",
            "validation": "none",
            "test": "errors",
            **{metric: rng.uniform(0.5, 1) for metric in METRICS},
            "aurc": rng.uniform(0, 0.1),
        }
        for source in sources
        for detector in detectors
    ]
    return pd.DataFrame(rows)
