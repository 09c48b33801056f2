"""Scores are those of pytorch-ood, an independent implementation, up to their sign and scale.

Its VRA has another rule: it raises what is small instead of removing it, and has a pair of
thresholds for each unit.
"""

from collections.abc import Callable
from dataclasses import dataclass
from importlib.util import find_spec

import numpy as np
import pytest
from numpy.typing import NDArray
from scipy.special import expit
from sklearn.base import clone
from sklearn.pipeline import make_pipeline

from skood import ActivationExtractor, Activations
from skood.activations import LinearHead
from skood.detectors import GramDetector, MahalanobisDetector, MaxSoftmaxDetector
from skood.extraction import ODIN, MahalanobisPerturbation

if find_spec("pytorch_ood") is None:
    pytest.skip("needs pytorch-ood, which the extra 'peers' installs", allow_module_level=True)

import torch
from torch import nn

from benchmarks import pairs
from benchmarks.libraries import PytorchOOD, Samples, import_pytorch_ood
from benchmarks.pairs import Pair

peers = import_pytorch_ood()


def draw_samples(seed: int, n_units: int, n_classes: int) -> Samples:
    """Features and logits of training samples and of others, as both libraries take them."""
    rng = np.random.default_rng(seed)
    centers = rng.normal(size=(n_classes, n_units))
    inside = centers[np.arange(400) % n_classes] + rng.normal(size=(400, n_units))
    outside = 1.5 * rng.normal(size=(60, n_units))
    # Of equal values, as 0 after a ReLU, each library keeps others when it shapes them.
    features = round_to_single(np.logaddexp(0, np.concatenate([inside, outside])))
    weight = round_to_single(centers / np.sqrt(n_units))
    # Every class is predicted.
    bias = round_to_single(-weight @ features.mean(axis=0))
    head = LinearHead(weight, bias, "fc")
    A = Activations({"fc": features}, logits=head.logits(features), head=head)
    is_right = rng.random(300) < 0.9
    labels = np.where(is_right, A.predictions[:300], rng.integers(n_classes, size=300))
    return Samples(A[:300], labels, A[300:])


def round_to_single(values: NDArray) -> NDArray[np.float64]:
    """So that a detector which computes in single precision gets the same values."""
    return values.astype(np.float32).astype(np.float64)


def same(scores, samples):
    return scores


@dataclass(frozen=True)
class Case:
    """A method of both libraries.

    ``convert`` turns scores of skood into those of pytorch-ood with the sign turned. ``precision``
    is single for detectors that compute in it, no matter what they are given.
    """

    name: str
    pair: Pair
    convert: Callable[[NDArray, Samples], NDArray] = same
    precision: torch.dtype = torch.float64
    rtol: float = 1e-5


def per_class(scores, samples):
    """pytorch-ood takes the mean over classes, not the sum."""
    return scores / samples.new.logits.shape[1]


def probability(scores, samples):
    """skood's scores are log-odds."""
    return expit(scores)


CASES = [
    Case("MSP", pairs.max_softmax(), probability),
    Case("MSP at another temperature", pairs.max_softmax(10.0), probability),
    Case("MaxLogit", pairs.max_logit()),
    Case("energy", pairs.energy()),
    Case("energy at another temperature", pairs.energy(2.5)),
    Case("entropy", pairs.entropy()),
    Case("GEN", pairs.gen(), per_class),
    Case("GEN of the largest two", pairs.gen(0.4, 2), lambda scores, samples: scores / 2),
    Case("KL matching", pairs.kl_matching()),
    Case(
        "OpenMax",
        pairs.open_max(tail_size=15),
        # The probability of the unknown class is one minus that of the known ones.
        lambda scores, samples: -expit(-scores),
        # Its Weibull is fitted by a search that ends before the best fit.
        rtol=1e-3,
    ),
    Case(
        "Mahalanobis",
        pairs.mahalanobis(),
        # pytorch-ood's covariance is a sum over samples, not a mean.
        lambda scores, samples: scores / len(samples.train),
    ),
    Case(
        "relative Mahalanobis",
        pairs.relative_mahalanobis(),
        # As before, and without the half.
        lambda scores, samples: 2 * scores / len(samples.train),
    ),
    Case("KNN", pairs.knn(5)),
    Case("KNN of features that are not normalised", pairs.knn(20, normalize=False)),
    Case("ViM", pairs.vim(3), precision=torch.float32),
    Case("SHE", pairs.she()),
    Case("GradNorm", pairs.grad_norm(2.0)),
    Case("NNGuide", pairs.nn_guide(7), precision=torch.float32),
    Case("fDBD", pairs.fdbd(), precision=torch.float32),
    *(
        Case(f"NCI, alpha {alpha}", pairs.nci(alpha), precision=torch.float32)
        for alpha in (0.0, 0.01)
    ),
    Case("ReAct", pairs.react(80)),
    *(Case(f"ASH-{variant}", pairs.ash(variant, 65)) for variant in "pbs"),
    Case("SCALE", pairs.scale(65)),
    Case("DICE", pairs.dice(70), precision=torch.float32),
    Case("ASH and MSP", pairs.ash_and_max_softmax("p", 50), probability),
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
    samples = draw_samples(seed, n_units, n_classes)
    peer = PytorchOOD(peers, case.pair, samples, torch.get_default_dtype())
    peer.fit()
    expected = peer.score()
    estimator = clone(case.pair.estimator).fit(samples.train, samples.labels)
    found = case.convert(estimator.score_samples(samples.new), samples)
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
