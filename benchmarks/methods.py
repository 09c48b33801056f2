"""The methods that several libraries have, and how each constructs its own."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from importlib import import_module
from importlib.util import find_spec
from typing import Any

from numpy.typing import NDArray
from sklearn.covariance import EmpiricalCovariance
from sklearn.neighbors import NearestNeighbors

from skood.detectors import MahalanobisDetector

from . import pairs
from .pairs import FEATURES, Pair

OODEEL, PYOD, SKLEARN = "oodeel", "PyOD", "scikit-learn"
N_NEIGHBORS = 50

PlainPeer = tuple[Callable[[], Any], Callable[[Any, NDArray], NDArray]]
"""What makes an estimator of arrays, and what its scores are, large for in-distribution samples."""


@dataclass(frozen=True)
class Method:
    """A method of skood and of pytorch-ood, and how others construct their own, if they have one.

    ``oodeel`` takes the module with the methods of oodeel; ``plain`` is what libraries have that
    take arrays, by their names. ``rule_differs`` names libraries whose scores are not only skood's
    on another scale. Where nothing is learnt, ``fit`` is not timed. ``has_single`` says that skood
    scores in single precision where it is asked to; of ``one_class``, pytorch-ood is left out.
    """

    name: str
    pair: Pair
    oodeel: Callable[[Any], Any] | None = None
    plain: Mapping[str, PlainPeer] = field(default_factory=dict)
    rule_differs: tuple[str, ...] = ()
    learns: bool = True
    is_slow: bool = False
    has_single: bool = False
    one_class: bool = False


def make_methods(n_units: int, n_neighbors: int = N_NEIGHBORS) -> list[Method]:
    """All of them, for features of as many units."""
    return [*of_logits(), *of_features(n_units, n_neighbors), *of_shaping()]


def of_logits() -> list[Method]:
    return [
        Method("MSP", pairs.max_softmax(), learns=False, has_single=True),
        Method(
            "MaxLogit",
            pairs.max_logit(),
            lambda library: library.MLS(),
            learns=False,
            has_single=True,
        ),
        Method(
            "energy",
            pairs.energy(),
            lambda library: library.Energy(),
            learns=False,
            has_single=True,
        ),
        Method(
            "entropy",
            pairs.entropy(),
            lambda library: library.Entropy(),
            learns=False,
            has_single=True,
        ),
        Method("GEN", pairs.gen(), lambda library: library.GEN(), learns=False),
        Method("KL matching", pairs.kl_matching(), has_single=True),
        Method("OpenMax", pairs.open_max(), is_slow=True),
    ]


def of_features(n_units: int, n_neighbors: int) -> list[Method]:
    return [
        Method(
            "Mahalanobis",
            pairs.mahalanobis(),
            lambda library: library.Mahalanobis(eps=0),
            is_slow=True,
        ),
        Method(
            "Mahalanobis, one class",
            Pair(MahalanobisDetector(), FEATURES, lambda library, head: None),
            plain={SKLEARN: (EmpiricalCovariance, lambda fitted, X: -fitted.mahalanobis(X))},
            one_class=True,
        ),
        Method(
            "relative Mahalanobis",
            pairs.relative_mahalanobis(),
            lambda library: library.RMDS(eps=0),
            is_slow=True,
        ),
        Method("KNN", pairs.knn(n_neighbors), lambda library: library.DKNN(nearest=n_neighbors)),
        Method(
            "KNN, not normalised",
            pairs.knn(n_neighbors, normalize=False),
            plain=neighbors_of_arrays(n_neighbors),
        ),
        Method("ViM", pairs.vim(n_units // 2), has_single=True),
        Method("SHE", pairs.she(), lambda library: library.SHE(eps=0), rule_differs=(OODEEL,)),
        Method("GradNorm", pairs.grad_norm(), learns=False, is_slow=True),
        Method("NNGuide", pairs.nn_guide()),
        Method("fDBD", pairs.fdbd()),
        Method("NCI", pairs.nci(0.01)),
    ]


def neighbors_of_arrays(n_neighbors: int) -> dict[str, PlainPeer]:
    """What takes arrays and finds neighbours, of the libraries that are installed."""
    peers: dict[str, PlainPeer] = {
        SKLEARN: (
            lambda: NearestNeighbors(n_neighbors=n_neighbors),
            lambda fitted, X: -fitted.kneighbors(X)[0][:, -1],
        )
    }
    if find_spec("pyod") is not None:
        models = import_module("pyod.models.knn")
        peers[PYOD] = (
            lambda: models.KNN(n_neighbors=n_neighbors),
            lambda fitted, X: -fitted.decision_function(X),
        )
    return peers


def of_shaping() -> list[Method]:
    return [
        Method(
            "ReAct and energy",
            pairs.react(),
            lambda library: library.Energy(use_react=True, react_quantile=0.9),
            has_single=True,
        ),
        Method("ASH-p and energy", pairs.ash("p"), learns=False),
        Method("ASH-b and energy", pairs.ash("b"), learns=False),
        Method(
            "ASH-s and energy",
            pairs.ash("s"),
            lambda library: library.Energy(use_ash=True),
            rule_differs=(OODEEL,),
            learns=False,
        ),
        Method(
            "SCALE and energy",
            pairs.scale(),
            lambda library: library.Energy(use_scale=True),
            rule_differs=(OODEEL,),
            learns=False,
        ),
        Method("DICE and energy", pairs.dice(), is_slow=True),
    ]
