"""Forms in tensors of detectors and transformers: the scores of what they are made from."""

import numpy as np
import pytest
from _estimators import construct, estimator_classes

from skood import Activations, HammingNAPDetector
from skood.activations import LinearHead
from skood.detectors import BaseDetector, EnergyDetector
from skood.ensemble import AnyAlarmDetector
from skood.export._registry import forms

torch = pytest.importorskip("torch")

from skood.export import ExportError, TensorActivations, form, form_of  # noqa: E402
from skood.export._tensors import TensorHead  # noqa: E402


def samples(n, seed=0, *, n_classes=3, n_units=8):
    """Activations of a small network: a layer, one that the head reads, and logits."""
    rng = np.random.default_rng(seed)
    classes = rng.integers(0, n_classes, n)
    centres = np.random.default_rng(99).normal(size=(n_classes, n_units))
    fc = (centres[classes] + 0.5 * rng.normal(size=(n, n_units))).astype(np.float32)
    relu = np.maximum(fc @ np.random.default_rng(98).normal(size=(n_units, 70)), 0)
    head = LinearHead(2 * centres, -np.square(centres).sum(1), input_layer="fc")
    return Activations(
        {"relu": relu.astype(np.float32), "fc": fc}, logits=head.logits(fc), head=head
    )


def tensors(A):
    """The same samples for a form."""
    head = None
    if A.head is not None:
        weight, bias = (torch.as_tensor(a) for a in (A.head.weight, A.head.bias))
        head = TensorHead(weight, bias, A.head.input_layer)
    codes = (
        None if A.predictions is None else np.argmax(A.predictions[:, None] == A.classes, axis=1)
    )
    return TensorActivations(
        {name: torch.as_tensor(np.asarray(layer)) for name, layer in A.items()},
        None if A.logits is None else torch.as_tensor(A.logits),
        None if codes is None else torch.as_tensor(codes),
        head,
    )


class OfTensors(torch.nn.Module):
    """A form as a module of plain tensors, which can be traced."""

    def __init__(self, module, A):
        super().__init__()
        self.module, self.names, self.head = module, A.layer_names, tensors(A).head

    def forward(self, layers, logits, predictions):
        """Scores."""
        layers = dict(zip(self.names, layers, strict=True))
        return self.module(TensorActivations(layers, logits, predictions, self.head))


def traced_scores(detector, A):
    """Scores by a graph of any number of samples, that was traced with others."""
    some = tensors(A[:7])
    arguments = [*some.layers.values()], some.logits, some.predictions
    n_rows = {0: torch.export.Dim("n_rows")}
    shapes = ([n_rows] * len(some.layers), n_rows, n_rows)
    module = OfTensors(form(detector), A)
    with torch.no_grad():
        program = torch.export.export(module, arguments, dynamic_shapes=shapes, strict=False)
        given = tensors(A)
        return program.module()([*given.layers.values()], given.logits, given.predictions).numpy()


def assert_same_scores(detector, A, **tolerance):
    """The form of a fitted detector gives its scores, of one row as well."""
    module = form(detector)
    with torch.no_grad():
        scores = module(tensors(A)).numpy()
        alone = module(tensors(A[:1])).numpy()
        none = module(tensors(A[:0]))
    expected = detector.score_samples(A)
    tolerance = {"rtol": 1e-9, "atol": 1e-9, **tolerance}
    assert scores.dtype == np.float64
    assert none.shape == (0,)
    np.testing.assert_allclose(scores, expected, **tolerance)
    np.testing.assert_allclose(alone, expected[:1], **tolerance)


def small(cls):
    """A detector with parameters for tests."""
    if cls is AnyAlarmDetector:
        return AnyAlarmDetector([("nap", HammingNAPDetector()), ("energy", EnergyDetector())])
    return construct(cls)


DETECTORS = {
    name: cls for name, cls in estimator_classes().items() if issubclass(cls, BaseDetector)
}
WITH_FORM = [name for name, cls in DETECTORS.items() if cls in forms()]


@pytest.mark.parametrize("name", WITH_FORM)
def test_scores_of_a_form_are_those_of_the_detector(name):
    train, new = samples(120), samples(30, seed=1)
    detector = small(DETECTORS[name]).fit(train, train.predictions)
    assert_same_scores(detector, new)
    np.testing.assert_allclose(traced_scores(detector, new), detector.score_samples(new), rtol=1e-9)


def test_every_detector_has_a_form():
    assert list(DETECTORS) == WITH_FORM


def test_what_is_not_known_is_refused_by_name():
    class Strange:
        pass

    with pytest.raises(ExportError, match=r"Strange cannot be exported: .*form_of"):
        form(Strange())


def test_a_form_of_a_class_is_none_of_its_subclasses():
    class Mine(DETECTORS["EnergyDetector"]):
        pass

    with pytest.raises(ExportError, match="Mine"):
        form(Mine().fit([[0.0, 1.0], [1.0, 3.0]]))


def test_buffers_move_with_the_module():
    train = samples(50)
    module = form(DETECTORS["EnergyDetector"]().fit(train))
    scores = module.double()(tensors(train))
    assert scores.shape == (50,)


def test_users_register_forms_of_their_own():
    class Mine:
        pass

    @form_of(Mine)
    def make(detector):
        return torch.nn.Identity()

    assert isinstance(form(Mine()), torch.nn.Identity)
    del forms()[Mine]


@pytest.mark.parametrize("scale", [1e-3, 1.0, 300.0])
@pytest.mark.parametrize("name", ["EnergyDetector", "MaxSoftmaxDetector", "EntropyDetector"])
def test_scores_of_an_array_of_logits_keep_their_digits(name, scale):
    logits = np.random.default_rng(0).normal(size=(40, 5)) * scale
    detector = DETECTORS[name]().fit(logits)
    scores = form(detector)(TensorActivations({"X": torch.as_tensor(logits)})).numpy()
    np.testing.assert_allclose(scores, detector.score_samples(logits), rtol=1e-9, atol=1e-300)
