"""What an adapter of a further framework has to do, and what is refused where it cannot."""

import inspect

import numpy as np
import pytest
from sklearn.neural_network import MLPClassifier

from skood.extraction import ODIN
from skood.extraction._mode import Mode
from skood.extraction._passes import Passes
from skood.networks import NetworkAdapter, Trace, adapt


class Forward(NetworkAdapter):
    """A framework without gradients and dropout."""

    kind = "the Forward framework"

    def fingerprint(self, trace=None):
        raise AssertionError

    def trace(self, batch):
        return Trace(["layer"], [], {"layer": 2}, "it has none"), {"layer": batch}

    def forward(self, batch, trace, layers, keep):
        for layer in layers:
            keep(layer, batch)
        return batch

    def head(self, trace):
        return None

    def to_numpy(self, value):
        return np.asarray(value)


BATCH = np.array([[1.0, 2.0], [4.0, 3.0]])


def run(adapter, mode):
    return mode.run(adapter, BATCH, adapter.trace(BATCH)[0], ["layer"], lambda source, value: None)


def test_an_adapter_that_only_runs_is_enough_for_activations():
    np.testing.assert_array_equal(run(Forward(), Mode()).logits, BATCH)


@pytest.mark.parametrize(
    ("mode", "message"),
    [
        (Mode(gradients=True), "gradients=True needs gradients at the layers"),
        (Mode(passes=Passes(7, 0, 2)), "n_passes=7 needs dropout layers"),
        (Mode(perturbation=ODIN(0.1)), "ODIN needs gradients at the inputs"),
    ],
)
def test_what_a_framework_cannot_do_is_refused_by_its_name(mode, message):
    with pytest.raises(ValueError, match=f"{message}, but the Forward framework has none"):
        run(Forward(), mode)


def test_only_what_every_framework_can_do_is_required():
    required = {"fingerprint", "trace", "forward", "head"}
    assert NetworkAdapter.__abstractmethods__ == required
    assert not inspect.isabstract(Forward)


def test_perceptrons_have_no_dropout():
    network = MLPClassifier((3,), max_iter=300, tol=1).fit(BATCH, [0, 1])
    with pytest.raises(
        ValueError, match=r"n_passes=7 .* but scikit-learn's MLPClassifier has none"
    ):
        adapt(network).forward_with_dropout(BATCH, None, 7, 0)
