"""Scores are those of pytorch-ood, an independent implementation, up to their sign and scale.

Its VRA has another rule: it raises what is small instead of removing it, and has a pair of
thresholds for each unit.
"""

from collections.abc import Callable
from dataclasses import dataclass
from importlib.util import find_spec
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray
from scipy.special import expit
from sklearn.base import clone
from sklearn.pipeline import make_pipeline

from skood import ActivationExtractor, Activations
from skood.activations import LinearHead
from skood.detectors import (
    EnergyDetector,
    EntropyDetector,
    FDBDDetector,
    GENDetector,
    GradNormDetector,
    GramDetector,
    KLMatchingDetector,
    KNNDetector,
    MahalanobisDetector,
    MaxLogitDetector,
    MaxSoftmaxDetector,
    NCIDetector,
    NNGuideDetector,
    OpenMaxDetector,
    SHEDetector,
    ViMDetector,
)
from skood.extraction import ODIN, MahalanobisPerturbation
from skood.shaping import ASH, DICE, SCALE, ReAct

if find_spec("pytorch_ood") is None:
    pytest.skip("needs pytorch-ood, which the extra 'peers' installs", allow_module_level=True)

import torch
from torch import nn

try:
    import torchvision  # noqa: F401
except RuntimeError:
    # One that was built for CUDA cannot load its operators beside a torch without, but pytorch-ood
    # does not use them: that their names are known is enough.
    for operator in ("nms", "qnms"):
        torch.library.define(
            f"torchvision::{operator}",
            "(Tensor dets, Tensor scores, float iou_threshold) -> Tensor",
        )

from pytorch_ood import detector as peers


def as_tensor(array: NDArray) -> torch.Tensor:
    """In the default precision, in which pytorch-ood keeps its statistics."""
    return torch.from_numpy(array).to(torch.get_default_dtype())


@dataclass(frozen=True)
class Problem:
    """Features and logits of training samples and of others, as both libraries take them."""

    train: Activations
    labels: NDArray[np.int64]
    new: Activations

    @classmethod
    def draw(cls, seed: int, n_units: int, n_classes: int) -> "Problem":
        rng = np.random.default_rng(seed)
        centers = rng.normal(size=(n_classes, n_units))
        inside = centers[np.arange(400) % n_classes] + rng.normal(size=(400, n_units))
        outside = 1.5 * rng.normal(size=(60, n_units))
        # Of equal values, as 0 after a ReLU, each library keeps others when it shapes them.
        features = cls._round(np.logaddexp(0, np.concatenate([inside, outside])))
        weight = cls._round(centers / np.sqrt(n_units))
        # Every class is predicted.
        bias = cls._round(-weight @ features.mean(axis=0))
        head = LinearHead(weight, bias, "fc")
        A = Activations({"fc": features}, logits=head.logits(features), head=head)
        is_right = rng.random(300) < 0.9
        labels = np.where(is_right, A.predictions[:300], rng.integers(n_classes, size=300))
        return cls(A[:300], labels, A[300:])

    @staticmethod
    def _round(values: NDArray) -> NDArray[np.float64]:
        """To single precision, so that a detector which computes in it gets the same values."""
        return values.astype(np.float32).astype(np.float64)

    @property
    def head(self) -> nn.Linear:
        n_classes, n_units = self.train.head.shape
        linear = nn.Linear(n_units, n_classes).requires_grad_(False)
        linear.weight.copy_(torch.from_numpy(self.train.head.weight))
        linear.bias.copy_(torch.from_numpy(self.train.head.bias))
        return linear

    @property
    def maps_head(self) -> nn.Module:
        """The head of features in the shape of maps with one pixel."""
        return nn.Sequential(nn.Flatten(), self.head)

    def fit(self, detector: Any, what: str) -> Any:
        """Fit a detector of pytorch-ood on "logits", "features" or "feature_maps"."""
        getattr(detector, f"fit_{what}")(self._tensor(self.train, what), self.y)
        return detector

    def predict(self, detector: Any, what: str) -> NDArray:
        """Its scores of the other samples, large for out-of-distribution."""
        return getattr(detector, f"predict_{what}")(self._tensor(self.new, what)).numpy()

    def fit_predict(self, detector: Any, what: str) -> NDArray:
        return self.predict(self.fit(detector, what), what)

    @property
    def y(self) -> torch.Tensor:
        return torch.from_numpy(self.labels)

    def _tensor(self, A: Activations, what: str) -> torch.Tensor:
        tensor = as_tensor(A.logits if what == "logits" else A["fc"])
        return tensor[:, :, None, None] if what == "feature_maps" else tensor


def same(scores, problem):
    return scores


@dataclass(frozen=True)
class Case:
    """A method of both libraries.

    ``convert`` turns scores of skood into those of pytorch-ood with the sign turned. ``precision``
    is single for detectors that compute in it whatever they are given.
    """

    name: str
    estimator: Any
    peer: Callable[[Problem], NDArray]
    convert: Callable[[NDArray, Problem], NDArray] = same
    precision: torch.dtype = torch.float64
    rtol: float = 1e-5


def per_class(scores, problem):
    """pytorch-ood takes the mean over classes, not the sum."""
    return scores / problem.new.logits.shape[1]


def probability(scores, problem):
    """skood's scores are log-odds."""
    return expit(scores)


CASES = [
    Case(
        "MSP",
        MaxSoftmaxDetector(),
        lambda p: p.predict(peers.MaxSoftmax(None), "logits"),
        convert=probability,
    ),
    Case(
        "MSP at another temperature",
        MaxSoftmaxDetector(temperature=10.0),
        lambda p: p.predict(peers.MaxSoftmax(None, t=10.0), "logits"),
        convert=probability,
    ),
    Case("MaxLogit", MaxLogitDetector(), lambda p: p.predict(peers.MaxLogit(None), "logits")),
    Case("energy", EnergyDetector(), lambda p: p.predict(peers.EnergyBased(None), "logits")),
    Case(
        "energy at another temperature",
        EnergyDetector(temperature=2.5),
        lambda p: p.predict(peers.EnergyBased(None, t=2.5), "logits"),
    ),
    Case("entropy", EntropyDetector(), lambda p: p.predict(peers.Entropy(None), "logits")),
    Case("GEN", GENDetector(), lambda p: p.predict(peers.GEN(None), "logits"), convert=per_class),
    Case(
        "GEN of the largest two",
        GENDetector(gamma=0.4, n_largest=2),
        lambda p: p.predict(peers.GEN(None, gamma=0.4, M=2), "logits"),
        convert=lambda scores, problem: scores / 2,
    ),
    Case(
        "KL matching",
        KLMatchingDetector(),
        lambda p: p.fit_predict(peers.KLMatching(None), "logits"),
    ),
    Case(
        "OpenMax",
        OpenMaxDetector(tail_size=15, n_revised=3, group_by="label"),
        lambda p: p.fit_predict(peers.OpenMax(None, tailsize=15, alpha=3), "logits"),
        # The probability of the unknown class is one minus that of the known ones.
        convert=lambda scores, problem: -expit(-scores),
        # Its Weibull is fitted by a search that ends before the best fit.
        rtol=1e-3,
    ),
    Case(
        "Mahalanobis",
        MahalanobisDetector(),
        lambda p: p.fit_predict(peers.Mahalanobis(None), "features"),
        # pytorch-ood's covariance is a sum over samples, not a mean.
        convert=lambda scores, problem: scores / len(problem.train),
    ),
    Case(
        "relative Mahalanobis",
        MahalanobisDetector(relative=True),
        lambda p: p.fit_predict(peers.RMD(None), "features"),
        # As before, and without the half.
        convert=lambda scores, problem: 2 * scores / len(problem.train),
    ),
    Case(
        "KNN",
        KNNDetector(n_neighbors=5),
        lambda p: p.fit_predict(peers.KNN(None, k=5), "features"),
    ),
    Case(
        "KNN of features that are not normalised",
        KNNDetector(n_neighbors=20, normalize=False),
        lambda p: p.fit_predict(peers.KNN(None, k=20, normalize=False), "features"),
    ),
    Case(
        "ViM",
        ViMDetector(n_components=3),
        lambda p: p.fit_predict(peers.ViM(None, 3, p.head.weight, p.head.bias), "features"),
        precision=torch.float32,
    ),
    Case("SHE", SHEDetector(), lambda p: p.fit_predict(peers.SHE(None, p.head), "features")),
    Case(
        "GradNorm",
        GradNormDetector(temperature=2.0),
        lambda p: (
            peers.GradNorm(p.head, lambda name: name == "weight", temperature=2.0)
            .predict(as_tensor(p.new["fc"]))
            .numpy()
        ),
    ),
    Case(
        "NNGuide",
        NNGuideDetector(n_neighbors=7),
        lambda p: p.fit_predict(peers.NNGuide(None, p.head, k=7), "features"),
        precision=torch.float32,
    ),
    Case(
        "fDBD",
        FDBDDetector(),
        lambda p: p.fit_predict(peers.fDBD(None, p.head), "features"),
        precision=torch.float32,
    ),
    *(
        Case(
            f"NCI, alpha {alpha}",
            NCIDetector(alpha=alpha),
            lambda p, alpha=alpha: p.fit_predict(peers.NCI(None, p.head, alpha), "features"),
            precision=torch.float32,
        )
        for alpha in (0.0, 0.01)
    ),
    Case(
        "ReAct",
        make_pipeline(ReAct(percentile=80), EnergyDetector()),
        lambda p: p.fit_predict(peers.ReAct(None, p.maps_head, percentile=0.8), "feature_maps"),
    ),
    *(
        Case(
            f"ASH-{variant}",
            make_pipeline(ASH(variant=variant, percentile=65), EnergyDetector()),
            lambda p, variant=variant: p.predict(
                peers.ASH(None, p.maps_head, f"ash-{variant}", 0.65), "feature_maps"
            ),
        )
        for variant in "pbs"
    ),
    Case(
        "SCALE",
        make_pipeline(SCALE(percentile=65), EnergyDetector()),
        lambda p: p.predict(peers.SCALE(None, p.maps_head, 0.65), "feature_maps"),
    ),
    Case(
        "DICE",
        make_pipeline(DICE(sparsity=70), EnergyDetector()),
        lambda p: p.fit_predict(peers.DICE(None, p.head.weight, p.head.bias, 0.7), "features"),
        precision=torch.float32,
    ),
    Case(
        "ASH and MSP",
        make_pipeline(ASH(variant="p", percentile=50), MaxSoftmaxDetector()),
        lambda p: p.predict(
            peers.ASH(None, p.maps_head, "ash-p", 0.5, peers.MaxSoftmax.score), "feature_maps"
        ),
        convert=probability,
    ),
]


@pytest.fixture
def default_precision():
    """Setter of torch's default precision, which is what it was before when a test is over."""
    before = torch.get_default_dtype()
    yield torch.set_default_dtype
    torch.set_default_dtype(before)


@pytest.mark.parametrize(("n_units", "n_classes"), [(8, 2), (20, 5), (48, 10)])
@pytest.mark.parametrize("seed", range(3))
@pytest.mark.parametrize("case", CASES, ids=lambda case: case.name)
def test_scores_are_those_of_pytorch_ood(case, seed, n_units, n_classes, default_precision):
    default_precision(case.precision)
    problem = Problem.draw(seed, n_units, n_classes)
    expected = -case.peer(problem)
    estimator = clone(case.estimator).fit(problem.train, problem.labels)
    found = case.convert(estimator.score_samples(problem.new), problem)
    # Scores that are differences come near to 0.
    atol = case.rtol * np.abs(expected).max()
    np.testing.assert_allclose(found, expected, rtol=case.rtol, atol=atol)


def small_network(seed):
    torch.manual_seed(seed)
    layers = [nn.Conv2d(2, 4, 3), nn.ReLU(), nn.Flatten(), nn.Linear(64, 12), nn.Softplus()]
    return nn.Sequential(*layers, nn.Linear(12, 5)).requires_grad_(False).eval()


@pytest.fixture(params=range(3))
def network_and_images(request, default_precision):
    default_precision(torch.float64)
    images = np.random.default_rng(request.param).normal(size=(90, 2, 6, 6))
    return small_network(request.param), images


@pytest.mark.parametrize("std", [None, [0.5, 2.0]], ids=str)
@pytest.mark.parametrize("temperature", [1.0, 1000.0])
def test_odin_is_that_of_pytorch_ood(network_and_images, temperature, std):
    network, images = network_and_images
    odin = ODIN(0.02, temperature, std=std)
    monitor = make_pipeline(
        ActivationExtractor(network, perturbation=odin), MaxSoftmaxDetector(temperature=temperature)
    )
    found = expit(monitor.fit(images).score_samples(images))
    peer = peers.ODIN(network, eps=0.02, temperature=temperature, norm_std=std)
    np.testing.assert_allclose(found, -peer.predict(torch.from_numpy(images)), rtol=1e-6)


def test_mahalanobis_perturbation_is_that_of_pytorch_ood(network_and_images):
    network, images = network_and_images
    labels = np.arange(len(images)) % 4
    extractor = ActivationExtractor(network, ["4"])
    A = extractor.fit_transform(images)
    detector = MahalanobisDetector().fit(A, labels)
    extractor.set_params(perturbation=MahalanobisPerturbation(detector, 0.02, std=[0.5, 2.0]))
    found = detector.score_samples(extractor.fit_transform(images)) / len(images)
    peer = peers.MahalanobisODIN(network[:5], eps=0.02, norm_std=[0.5, 2.0])
    peer.fit_features(torch.from_numpy(A["4"]), torch.from_numpy(labels))
    np.testing.assert_allclose(found, -peer.predict(torch.from_numpy(images)), rtol=1e-5)


def test_gram_deviations_are_those_of_pytorch_ood(network_and_images):
    network, images = network_and_images
    A = ActivationExtractor(network, ["0", "1"]).fit_transform(images)
    labels = np.arange(len(images)) % 5
    powers = [1, 2, 5]
    detector = GramDetector(powers=powers).fit(A[:60], labels[:60])
    peer = peers.Gram(network[2:], network[:2], 5, powers)
    # Without rows to take the mean deviation of, layers are not divided by it.
    peer.validation_fraction = 0
    peer.to("cpu").fit([(torch.from_numpy(images[:60]), torch.from_numpy(labels[:60]))])
    found = detector.layer_scores(A[60:]).sum(axis=1)
    expected = -peer.predict(torch.from_numpy(images[60:]))
    # A bound below 0 is made larger by 0.000001 there, and its size here.
    np.testing.assert_allclose(found, expected, rtol=1e-3)
