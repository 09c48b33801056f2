"""Networks with parts that are compiled or scripted."""

import copy

import numpy as np
import pytest
import torch
from _networks import assert_head_yields_logits, assert_same, cnn, extract, images, run, untouched
from numpy.testing import assert_allclose
from torch import nn

from skood import ActivationExtractor


class Backend:
    """Counts what it compiles, and runs it as it is."""

    def __init__(self):
        self.n_compiled = 0

    def __call__(self, graph, inputs):
        self.n_compiled += 1
        return graph.forward


def nested():
    body = nn.Sequential(*cnn()[:6])
    return nn.Sequential(body, nn.Sequential(*cnn()[6:8]), cnn()[9])


def wrap_part(network, backend):
    network[0] = torch.compile(network[0], backend=backend)
    return network


def wrap_layers(network, backend):
    network[0][1] = torch.compile(network[0][1], backend=backend)
    network[2] = torch.compile(network[2], backend=backend)
    return network


def compile_part(network, backend):
    network[0].compile(backend=backend)
    return network


def wrap_all(network, backend):
    return torch.compile(wrap_part(network, backend), backend=backend)


def wrap_parallel(network, backend):
    return nn.DataParallel(torch.compile(network, backend=backend))


WAYS = [wrap_part, wrap_layers, compile_part, wrap_all, wrap_parallel]


@pytest.mark.parametrize("wrap", WAYS)
@pytest.mark.parametrize("gradients", [False, True])
def test_compiled_parts_are_read_as_what_they_were_made_from(wrap, gradients):
    torch._dynamo.reset()  # what other tests compiled would be found again
    backend, X = Backend(), torch.tensor(images())
    network = wrap(nested(), backend).eval()
    with torch.no_grad():
        network(X[:2])
        expected = network(X)
    n_compiled = backend.n_compiled
    with untouched(network):
        A = extract(network, X, gradients=gradients)
    assert_same(A, extract(nested(), X, gradients=gradients), rtol=1e-5, atol=1e-6)
    assert_head_yields_logits(A)
    assert backend.n_compiled == n_compiled
    with torch.no_grad():
        assert torch.equal(network(X), expected)
    assert backend.n_compiled == n_compiled  # nor is anything compiled anew afterwards
    assert n_compiled > 0 or wrap is compile_part


def test_compiled_function_is_run_as_it_was():
    class Calling(nn.Module):
        def __init__(self):
            super().__init__()
            self.fc, self.out = nn.Linear(6, 5), nn.Linear(5, 3)
            self.act = torch.compile(lambda x: torch.relu(x), backend="eager")

        def forward(self, x):
            return self.out(self.act(self.fc(x)))

    network, X = Calling(), np.ones((4, 6), np.float32)
    with torch.no_grad():
        network(torch.ones(4, 6))
    assert extract(network, X).layer_names == ("relu",)


def test_compiled_parts_need_a_torch_that_can_do_without(monkeypatch):
    network = wrap_part(nested(), "eager")
    monkeypatch.delattr(torch.compiler, "set_stance")
    with pytest.raises(TypeError, match=r"'0' of the network is compiled.*torch 2\.6"):
        ActivationExtractor(network).fit(images())
    extract(nested(), images())


def script(part):
    return torch.jit.script(part)


def trace(part):
    return torch.jit.trace(part.eval(), torch.tensor(images(2)))


def freeze(part):
    return torch.jit.freeze(torch.jit.script(part.eval()))


@pytest.mark.filterwarnings("ignore::DeprecationWarning", "ignore::torch.jit.TracerWarning")
@pytest.mark.parametrize("make", [script, trace, freeze])
@pytest.mark.parametrize("gradients", [False, True])
def test_output_of_a_scripted_part_is_a_layer(make, gradients):
    network, X = nested(), images()
    network[0] = make(network[0])
    with untouched(network):
        A = extract(network, X, "all", batch_size=4, gradients=gradients)
    assert [name for name in A.layer_names if not name.endswith("gradient")] == [
        *("0", "1.0", "1.1", "1", "penultimate", "2")
    ]
    assert_allclose(A["0"], run(nested()[0], X), rtol=1e-5, atol=1e-6)
    assert_allclose(A.logits, run(nested(), X), rtol=1e-5, atol=1e-6)
    assert extract(network, X).layer_names == ("1.1",)
    with pytest.raises(ValueError, match="known are"):
        ActivationExtractor(network, "0.1").fit(X)


@pytest.mark.filterwarnings("ignore::DeprecationWarning")
def test_scripted_last_layer_is_no_head():
    network = nested()
    network[2] = script(network[2])
    A = extract(network, images())
    assert A.head is None
    assert_same(copy.copy(A), extract(network, images()))
    assert_allclose(A.logits, run(nested(), images()), rtol=1e-5, atol=1e-6)
