"""Networks with parts that are compiled or scripted."""

import copy
import threading

import numpy as np
import pytest
import torch
from _networks import assert_head_yields_logits, assert_same, cnn, extract, images, run, untouched
from numpy.testing import assert_allclose
from torch import nn

from skood import ActivationExtractor
from skood.extraction import ODIN


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


class Chain(nn.Sequential):
    """Of a class of the user: code of torch itself is not compiled in place."""

    def forward(self, x):
        for module in self:
            x = module(x)
        return x


def chained():
    body, *others = nested()
    return Chain(Chain(*body), *others)


def compile_all(network, backend):
    network.compile(backend=backend)
    return network


def compile_around(network, backend):
    return torch.compile(network, backend=backend)


def use(network, X, *, with_gradients):
    """What the user does with the network."""
    with torch.set_grad_enabled(with_gradients):
        return network(X).detach()


READINGS = {
    "plain": {},
    "gradients": {"gradients": True},
    "odin": {"perturbation": ODIN(0.1)},
    "passes": {"n_passes": 2, "random_state": 0},
    "autocast": {"autocast": True},
}


@pytest.mark.parametrize("wrap", [compile_all, compile_around, compile_part, wrap_part])
@pytest.mark.parametrize("training", [False, True])
@pytest.mark.parametrize("with_gradients", [False, True])
def test_what_the_user_compiled_is_not_compiled_anew(wrap, training, with_gradients):
    torch._dynamo.reset()
    backend, X = Backend(), torch.tensor(images())
    network = chained()
    network[1].append(nn.Dropout(0.0))
    network = wrap(network, backend).train(training)
    for _ in range(3):
        use(network, X, with_gradients=with_gradients)
    n_compiled, n_graphs = backend.n_compiled, _n_graphs()
    assert n_compiled > 0
    with untouched(network):
        for params in READINGS.values():
            extractor = ActivationExtractor(network, **params).fit(X)
            extractor.transform(X[:5])
            extractor.transform(X[:1])
    assert (backend.n_compiled, _n_graphs()) == (n_compiled, n_graphs)
    for _ in range(3):
        use(network, X, with_gradients=with_gradients)
    assert (backend.n_compiled, _n_graphs()) == (n_compiled, n_graphs)


def _n_graphs():
    return torch._dynamo.utils.counters["stats"]["unique_graphs"]


@pytest.mark.parametrize("wrap", [*WAYS, compile_all, compile_around])
def test_a_network_that_is_compiled_after_fit_is_the_same(wrap):
    torch._dynamo.reset()
    network, X = nested().eval(), images()
    extractor = ActivationExtractor(network).fit(X)
    A = extractor.transform(X)
    extractor.set_params(network=wrap(network, Backend()))
    assert_same(extractor.transform(X), A)
    assert ActivationExtractor(extractor.network).fit(X).fingerprint_ == extractor.fingerprint_
    network[1][0].weight.data.mul_(2)
    with pytest.raises(ValueError, match=r"'1\.0\.weight' differs"):
        extractor.transform(X)


@pytest.mark.parametrize("wrap", [compile_all, compile_part])
def test_reading_before_compiling_costs_no_graph(wrap):
    counts = []
    for reads in (False, True):
        torch._dynamo.reset()
        backend, X = Backend(), torch.tensor(images())
        network = chained().eval()
        extractor = ActivationExtractor(network)
        if reads:
            A = extractor.fit_transform(X)
        wrap(network, backend)
        use(network, X, with_gradients=False)
        if reads:
            assert_same(extractor.transform(X), A)  # nor is it another network
        use(network, X, with_gradients=False)
        counts.append(backend.n_compiled)
    assert counts[0] == counts[1] > 0


def test_server_of_compiled_code_goes_on_beside_the_reader():
    torch._dynamo.reset()
    backend, X = Backend(), torch.tensor(images())
    network = wrap_part(nested(), backend).eval()
    expected = use(network, X, with_gradients=False)
    n_compiled, served, stop = backend.n_compiled, [], threading.Event()

    def serve():
        while not stop.is_set():
            served.append(torch.allclose(use(network, X, with_gradients=False), expected))

    thread = threading.Thread(target=serve)
    thread.start()
    try:
        for _ in range(20):
            extract(network, X)
    finally:
        stop.set()
        thread.join()
    assert served
    assert all(served)
    assert backend.n_compiled == n_compiled


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
