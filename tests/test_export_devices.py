"""What is exported computes where it was moved to, and nowhere else."""

from dataclasses import replace

import numpy as np
import pytest

torch = pytest.importorskip("torch")

from _networks import cnn, images  # noqa: E402
from test_export_detectors import DETECTORS, WITH_FORM, samples, small, tensors  # noqa: E402

from skood import make_monitor  # noqa: E402
from skood.calibration import UncalibratedWarning  # noqa: E402
from skood.export import form  # noqa: E402

WITH_CUDA = pytest.mark.skipif(not torch.cuda.is_available(), reason="no CUDA device")
# What mixes tensors of it with others fails, as on any device.
DEVICES = ["meta", pytest.param("cuda", marks=WITH_CUDA)]


def moved(A, device):
    """The same samples on a device."""
    head = A.head and replace(A.head, weight=A.head.weight.to(device), bias=A.head.bias.to(device))
    layers = {name: layer.to(device) for name, layer in A.layers.items()}
    return replace(
        A,
        layers=layers,
        logits=A.logits.to(device),
        predictions=A.predictions.to(device),
        head=head,
    )


@pytest.mark.parametrize("device", DEVICES)
@pytest.mark.parametrize("name", WITH_FORM)
def test_scores_are_computed_on_the_device_of_the_form(name, device):
    train, new = samples(60), samples(9, seed=1)
    detector = small(DETECTORS[name]).fit(train, train.predictions)
    scores = form(detector).to(device)(moved(tensors(new), device))
    assert scores.device.type == device
    if device == "cuda":
        np.testing.assert_allclose(scores.cpu(), detector.score_samples(new), rtol=1e-4, atol=1e-6)


@pytest.mark.parametrize("device", DEVICES)
@pytest.mark.filterwarnings("ignore", category=UncalibratedWarning)
def test_a_monitor_computes_all_on_its_device(device):
    network, X = cnn(), images(60)
    monitor = make_monitor(network).fit(X)
    monitor.calibrate(images(40, seed=1))
    module = monitor.to_torch().to(device)
    said = module(torch.from_numpy(X).to(device))
    assert {value.device.type for value in said.values()} == {device}
    if device == "cuda":
        expected = monitor.score_samples(X)
        np.testing.assert_allclose(said["score"].cpu(), expected, rtol=1e-3, atol=1e-3)
