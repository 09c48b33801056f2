"""Scores of samples that neither the detectors nor the networks have learnt from."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray
from sklearn.base import clone

from skood import Activations
from skood.calibration import ConformalDetector
from skood.detectors import EnergyDetector, FDBDDetector, KNNDetector, MaxSoftmaxDetector
from skood.ensemble import AdaptiveEnsembleDetector
from skood.preprocessing import LayerSelector

from ..od_test import sources
from ..od_test.activations import Seen, extract
from ..od_test.methods import features_of
from ..od_test.sources import SOURCES, Source

RATES = (0.01, 0.05)
"""Of false alarms, that are asked for."""
NETWORKS = (("MNIST", "VGG"), ("CIFAR-10", "DenseNet"), ("CIFAR-100", "DenseNet"))
FAR = "textures"
"""The far set of every network."""
DRAWN = "drawn scores"
"""Stands for the network where there is none."""


class Sizes(NamedTuple):
    """How much is scored and drawn."""

    images: sources.Sizes = sources.Sizes()
    n_drawn: int = 20_000
    """Drawn scores, in place of images."""
    n_calibrating: tuple[int, int] = (200, 750)
    n_by_class: tuple[int, int] = (750, 3_000)
    """Calibration rows where each class has a threshold."""
    n_risk: tuple[int, int] = (750, 2_000)
    batch: tuple[int, int] = (450, 50)
    """In- and out-of-distribution rows that are selected from."""
    repetitions: int = 200


QUICK = Sizes(
    images=sources.QUICK._replace(n_train=100, n_test=90, n_outside=10, n_network=300),
    n_drawn=400,
    n_calibrating=(20, 45),
    n_by_class=(40, 60),
    n_risk=(40, 60),
    batch=(45, 5),
    repetitions=3,
)


@dataclass(frozen=True)
class Case:
    """Scores by one detector of one network."""

    network: str
    detector: str
    scores: NDArray[np.float64]
    """Of in-distribution samples that are held out."""
    predictions: NDArray
    labels: NDArray
    outside: dict[str, NDArray[np.float64]] = field(default_factory=dict)
    """Scores of OOD samples, near and far."""
    estimates: tuple[float, ...] = ()
    """Rates of false alarms by thresholds from the training rows, for ``RATES``."""
    split_rates: tuple[float, ...] = ()
    """Those by training rows that the detector, but not the network, has not learnt from."""
    alphas: tuple[float, ...] = ()
    """Error rates that are asked for among the accepted samples."""

    @property
    def held_out(self) -> Activations:
        """The scores as activations of a layer, with the predictions of the network."""
        return as_activations(self.scores, self.predictions)


def as_activations(scores: NDArray, predictions: NDArray) -> Activations:
    return Activations({"score": scores[:, np.newaxis]}, predictions=predictions)


DETECTORS: dict[str, Any] = {
    "MSP": MaxSoftmaxDetector(),
    "energy": EnergyDetector(),
    "fDBD": FDBDDetector(),
    "KNN": KNNDetector(),
    "monitor": AdaptiveEnsembleDetector(),
}
OF_ERRORS = "monitor of errors"
ERROR_DETECTORS = ("MSP", "energy", OF_ERRORS)
"""Those that the risk is measured with."""
ALPHAS = {"CIFAR-10": (0.02, 0.04), "CIFAR-100": (0.05, 0.1)}
"""Error rates to stay below; the networks make 6 % and 25 % errors, and the one for MNIST hardly
any."""


def all_cases(sizes: Sizes, kept: Path, folder: Path) -> Iterator[Case]:
    """Of the networks, scored or from the folder of an earlier run, and those that are drawn."""
    for source in SOURCES:
        if (source.name, source.network) in NETWORKS:
            yield from image_cases(source, sizes, kept, folder)
    yield from drawn_cases(sizes)


def image_cases(source: Source, sizes: Sizes, kept: Path, folder: Path) -> Iterator[Case]:
    seen: Seen | None = None
    detectors = dict(DETECTORS)
    if source.name in ALPHAS:
        detectors[OF_ERRORS] = AdaptiveEnsembleDetector(target="misclassified")
    for name, detector in detectors.items():
        file = folder / f"{source.folder_name}-{sizes.images.n_test}-{name.replace(' ', '_')}.npz"
        if not file.exists():
            seen = seen or extract(source, sizes.images, kept, (source.near[0], FAR))
            print(f"{source.title}: {name}", flush=True)
            file.parent.mkdir(parents=True, exist_ok=True)
            np.savez_compressed(file, **score(name, detector, seen, source))
        yield read_case(source, name, file)


def score(name: str, detector: Any, seen: Seen, source: Source) -> dict[str, Any]:
    """What is kept of a detector: scores of all samples, and rates by training rows."""
    sets = {"train": seen.train, "test": seen.test, "near": seen.outside[source.near[0]]}
    sets["far"] = seen.outside[FAR]
    read = {key: _read_by(name, A) for key, A in sets.items()}
    fitted = clone(detector).fit(read["train"])
    scores = {key: fitted.score_samples(read[key]) for key in ("test", "near", "far")}
    thresholds = np.percentile(fitted.training_scores_, 100 * np.array(RATES))
    split = ConformalDetector(detector, cv=0.2, random_state=0).fit(read["train"])
    p_values = split.p_values(read["test"])
    return {
        **scores,
        "predictions": np.asarray(seen.test.predictions),
        "labels": seen.y_test,
        "estimates": [np.mean(scores["test"] < threshold) for threshold in thresholds],
        "split_rates": [np.mean(p_values <= rate) for rate in RATES],
    }


def _read_by(name: str, A: Activations) -> Activations:
    """The features for KNN, and for the others the means of all layers, in memory."""
    if name == "KNN":
        return LayerSelector(layers=features_of(A)).fit_transform(A)
    names = [str(c.name) for c in A.columns if c.role == "layer" and c.pooling != "max"]
    return A[names].replace({name: np.array(A[name]) for name in names})


def read_case(source: Source, name: str, file: Path) -> Case:
    with np.load(file) as kept:
        return Case(
            source.title,
            name,
            kept["test"].astype(float),
            kept["predictions"],
            kept["labels"],
            {key: kept[key].astype(float) for key in ("near", "far")} if name in DETECTORS else {},
            tuple(kept["estimates"]),
            tuple(kept["split_rates"]),
            ALPHAS.get(source.name, ()) if name in ERROR_DETECTORS else (),
        )


def drawn_cases(sizes: Sizes) -> Iterator[Case]:
    """Scores with equal ones, of few values, and of five classes of unequal size."""
    rng = np.random.default_rng(0)
    n = sizes.n_drawn
    one = np.zeros(n, dtype=int)
    normal, outside = rng.normal(size=n), {"near": rng.normal(-1, size=n)}
    outside["far"] = rng.normal(-4, size=n)
    # Of 32 units, how many agree with a pattern.
    few = -rng.binomial(32, 0.2, size=n).astype(float)
    shares = {"near": 0.4, "far": 0.7}
    few_outside = {
        name: -rng.binomial(32, share, size=n).astype(float) for name, share in shares.items()
    }
    labels = rng.choice(5, size=n, p=(0.5, 0.25, 0.15, 0.07, 0.03))
    of_class = (2.0 - labels) / 2 + (1 + labels) / 2 * normal
    yield Case(DRAWN, "continuous", normal, one, one, outside)
    in_tenths = {name: scores.round(1) for name, scores in outside.items()}
    yield Case(DRAWN, "in tenths", normal.round(1), one, one, in_tenths)
    yield Case(DRAWN, "few values", few, one, one, few_outside)
    # The lower the score, the more errors: one of eight.
    is_wrong = rng.random(n) < 0.5 / (1 + np.exp(2 * normal + 1))
    predictions = np.where(is_wrong, (labels + 1) % 5, labels)
    yield Case(DRAWN, "five classes", of_class, labels, labels, outside)
    yield Case(DRAWN, "with errors", normal, predictions, labels, alphas=(0.05, 0.1))
