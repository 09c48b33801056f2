"""The detectors that are compared: outputs, single layers, ensembles of layers."""

from __future__ import annotations

import time
from typing import Any

import numpy as np
from numpy.typing import NDArray
from sklearn.base import clone
from sklearn.model_selection import GridSearchCV
from sklearn.pipeline import Pipeline, make_pipeline
from torch import nn

from skood import Activations, HammingNAPDetector, PercentileBinarizer, make_monitor
from skood.detectors import EnergyDetector, MaxSoftmaxDetector
from skood.ensemble import AutoNAPDetector, LayerEnsembleDetector
from skood.metrics import make_ood_scorer
from skood.model_selection import OODPredefinedSplit
from skood.preprocessing import LayerSelector

PERCENTILES = (10, 30, 50, 70, 90)
WEIGHTED = "NAP, published, 6 layers, weighted"


def single_layer() -> Pipeline:
    return Pipeline(
        [
            ("select", LayerSelector()),
            ("binarize", PercentileBinarizer()),
            ("detect", HammingNAPDetector()),
        ]
    )


def fit_single_layer(train: Activations, layer: str, percentile: int) -> Pipeline:
    params = {"select__layers": layer, "binarize__percentile": percentile}
    return single_layer().set_params(**params).fit(train)


def search_layers(A: Activations, y: NDArray, is_test: NDArray[np.bool_]) -> GridSearchCV:
    """Every layer, pooling and percentile, scored on the validation samples."""
    grid = {"select__layers": list(A.layer_names), "binarize__percentile": PERCENTILES}
    split = OODPredefinedSplit(np.where(is_test, 0, -1))
    return GridSearchCV(single_layer(), grid, scoring=make_ood_scorer(), cv=split, refit=False).fit(
        A, y
    )


def fit_detectors(
    net: nn.Module, A: Activations, y: NDArray, is_test: NDArray[np.bool_]
) -> dict[str, Any]:
    """All detectors, fitted on the rows not for validation, configured on those that are."""
    train = A[~is_test]
    search = search_layers(A, y, is_test)
    best = clone(search.estimator).set_params(**search.best_params_)
    ensemble = LayerEnsembleDetector.from_search(search, 6)
    split = np.where(is_test, 0, -1)
    start = time.perf_counter()
    weighted = AutoNAPDetector(n_layers=6, keep_settings=True).fit(A, y, sample_split=split)
    print(f"published auto-configuration: {time.perf_counter() - start:.0f} s")
    vote = AutoNAPDetector(n_layers=6, combine="vote").fit(A, y, sample_split=split)
    nap = make_pipeline(PercentileBinarizer(percentile=30), HammingNAPDetector())
    return {
        "MSP": MaxSoftmaxDetector().fit(train),
        "energy": EnergyDetector().fit(train),
        "NAP, best layer of the search": best.fit(train),
        "NAP, published, 6 layers, vote": vote,
        WEIGHTED: weighted,
        "NAP, best 6 of the search, Fisher": ensemble.fit(train),
        "NAP, all layers, Fisher (no OOD)": LayerEnsembleDetector(nap).fit(train),
        "NAP, all layers, mean (no OOD)": LayerEnsembleDetector(nap, combine="mean").fit(train),
        "NAP 30, 50, 70, all layers, mean (no OOD)": several_percentiles().fit(train),
        "make_monitor (no OOD)": default_detector(net, train).fit(train),
    }


def several_percentiles() -> LayerEnsembleDetector:
    """Patterns at three percentiles, averaged for each layer first."""
    nap = [
        make_pipeline(PercentileBinarizer(percentile=p), HammingNAPDetector()) for p in (30, 50, 70)
    ]
    return LayerEnsembleDetector(LayerEnsembleDetector(nap, combine="mean"), combine="mean")


def default_detector(net: nn.Module, A: Activations) -> Pipeline:
    """That of ``make_monitor``, on what it extracts: the mean of each map, and no maximum."""
    names = [name for name in A.layer_names if not name.endswith(":max")]
    return make_pipeline(LayerSelector(layers=names), make_monitor(net)["detect"])
