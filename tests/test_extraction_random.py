"""Random numbers that a network draws are given back, and those of other threads are not."""

import random
import threading
from contextlib import contextmanager

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from _networks import cnn, extract, images, run, untouched, vectors
from numpy.testing import assert_array_equal
from torch import nn
from torch.utils.data import DataLoader, SubsetRandomSampler, TensorDataset

from skood import ActivationExtractor, make_monitor
from skood.extraction import ODIN

DRAWS = {
    "torch": (lambda: torch.rand(()).item(), torch.manual_seed),
    "numpy": (lambda: np.random.rand(), np.random.seed),  # noqa: NPY002
    "random": (lambda: random.random(), random.seed),
}


@contextmanager
def other_thread(work):
    """Another thread repeats some work, at least once."""
    stop, done, errors = threading.Event(), [], []

    def repeat():
        try:
            while not (stop.is_set() and done):
                done.append(work())
        except Exception as error:
            errors.append(error)

    thread = threading.Thread(target=repeat)
    thread.start()
    try:
        yield done
    finally:
        stop.set()
        thread.join()
        assert errors == []


def assert_sequence(numbers, source):
    """That the numbers are those that follow the seed 1."""
    draw, seed = DRAWS[source]
    seed(1)
    assert numbers == [draw() for _ in numbers]


def transformer():
    torch.manual_seed(0)
    layer = nn.TransformerEncoderLayer(6, 2, 12, batch_first=True)
    return nn.Sequential(layer, nn.Flatten(), nn.RReLU(), nn.Linear(30, 3))


SEQUENCES = np.random.default_rng(0).normal(size=(9, 5, 6)).astype(np.float32)
NETWORKS = {"cnn": (cnn, images()), "transformer": (transformer, SEQUENCES)}
MODES = {
    "plain": {},
    "gradients": {"gradients": True},
    "odin": {"perturbation": ODIN(0.1)},
    "passes": {"n_passes": 3, "random_state": 0},
}


@pytest.mark.parametrize("source", DRAWS)
@pytest.mark.parametrize(("make", "X"), NETWORKS.values(), ids=NETWORKS)
@pytest.mark.parametrize("params", MODES.values(), ids=MODES)
def test_other_threads_draw_what_they_would_draw_anyway(source, make, X, params):
    network = make().eval()
    if "n_passes" in params and not any(isinstance(m, nn.Dropout) for m in network.modules()):
        pytest.skip("no dropout layer")
    draw, seed = DRAWS[source]
    seed(1)
    with other_thread(draw) as numbers:
        for _ in range(2):
            extract(network, X, batch_size=4, **params)
    assert_sequence(numbers, source)


@pytest.mark.parametrize("source", DRAWS)
@pytest.mark.parametrize("shuffle", [False, True])
def test_other_threads_draw_what_they_would_draw_beside_a_loader(source, shuffle):
    data = TensorDataset(torch.tensor(vectors()), torch.arange(11))
    draw, seed = DRAWS[source]
    network = nn.Sequential(nn.Linear(6, 4), nn.ReLU(), nn.Linear(4, 3))
    seed(1)
    with other_thread(draw) as numbers:
        extract(network, DataLoader(data, batch_size=4, shuffle=shuffle))
    assert_sequence(numbers, source)


def test_order_of_a_loader_follows_the_seed_that_is_not_drawn():
    data = TensorDataset(torch.arange(50.0).reshape(50, 1), torch.arange(50))
    loader, network = DataLoader(data, batch_size=8, shuffle=True), nn.Sequential(nn.Linear(1, 2))
    torch.manual_seed(3)
    expected = torch.cat([targets for _, targets in loader])
    torch.manual_seed(3)
    with untouched(network):
        extractor = ActivationExtractor(network, "all").fit(loader)
        A = extractor.transform(loader)
    assert_array_equal(A.labels, expected)
    assert loader.generator is None
    assert loader.sampler.generator is None


@pytest.mark.parametrize("n_workers", [0, 1])
def test_samplers_that_draw_are_given_back(n_workers):
    data = TensorDataset(torch.arange(20.0).reshape(20, 1), torch.arange(20))
    loader = DataLoader(
        data, batch_size=8, sampler=SubsetRandomSampler(range(20)), num_workers=n_workers
    )
    network = nn.Sequential(nn.Linear(1, 2))
    with untouched(network):
        assert sorted(extract(network, loader, "all").labels) == list(range(20))
        with pytest.raises(ValueError, match="known are"):
            ActivationExtractor(network, "nothing").fit(loader)


class Noisy(nn.Module):
    """Draws from one of the global generators, where ``condition`` holds for the inputs."""

    def __init__(self, source, condition=lambda x: True):
        super().__init__()
        self.fc, self.relu = nn.Linear(6, 3), nn.ReLU()
        self.draw, self.condition = DRAWS[source][0], condition

    def forward(self, x):
        return self.relu(self.fc(x)) + (self.draw() if self.condition(x) else 0)


CONDITIONS = {
    "always": lambda x: True,
    "for large batches": lambda x: len(x) > 3,
    "for some inputs": lambda x: bool(x.max() > 50),
}


@pytest.mark.parametrize("source", DRAWS)
@pytest.mark.parametrize("condition", CONDITIONS.values(), ids=CONDITIONS)
@pytest.mark.parametrize("with_company", [False, True])
def test_what_a_network_draws_is_given_back(source, condition, with_company):
    network, X = Noisy(source, condition), vectors(20)
    X[11] = 99
    idle = threading.Event()
    thread = threading.Thread(target=idle.wait)
    if with_company:
        thread.start()
    try:
        with untouched(network):
            A = extract(network, X, batch_size=4)
    finally:
        idle.set()
        if with_company:
            thread.join()
    noise = A.logits - A["relu"]
    assert (noise[8:12] > 0).all()  # the condition holds for this batch


@pytest.mark.parametrize("source", DRAWS)
@pytest.mark.parametrize("drawn_by_others", DRAWS)
def test_generators_that_the_network_leaves_alone_are_left_alone(source, drawn_by_others):
    if source == drawn_by_others:
        pytest.skip("these numbers cannot be told apart")
    network, (draw, seed) = Noisy(source), DRAWS[drawn_by_others]
    seed(1)
    with other_thread(draw) as numbers:
        extract(network, vectors(), batch_size=4)
    assert_sequence(numbers, drawn_by_others)


def test_batches_draw_different_numbers():
    torch.manual_seed(0)
    noise = extract(Noisy("torch"), vectors(8), batch_size=4)
    noise = (noise.logits - noise["relu"])[:, 0]
    assert not np.isclose(noise[0], noise[4])


def test_server_with_dropout_is_not_disturbed_by_passes():
    network = cnn().eval()
    X = torch.tensor(images())
    expected = run(network, X)

    def serve():
        with torch.no_grad():
            return torch.equal(network(X), expected) and not network[8].training

    monitored = ActivationExtractor(network, n_passes=20, random_state=0).fit(X)
    alone = monitored.transform(X)["passes"]
    with other_thread(serve) as served:
        beside = [monitored.transform(X)["passes"] for _ in range(5)]
    assert all(served)
    for passes in beside:
        assert_array_equal(passes, alone)


def test_server_of_a_transformer_computes_what_it_did_bit_for_bit():
    network, X = transformer().eval(), torch.tensor(SEQUENCES)

    def serve():
        with torch.no_grad():  # by torch's fast path
            return network(X)

    expected = serve()
    with other_thread(serve) as served:
        for _ in range(10):
            A = extract(network, SEQUENCES, "all", batch_size=4)
    assert all(torch.equal(found, expected) for found in served)
    assert "0.self_attn" in A.layer_names


def test_passes_change_no_random_state_even_while_they_run():
    network, states = cnn().eval(), []
    network[9].register_forward_pre_hook(lambda m, args: states.append(torch.get_rng_state()))
    before = torch.get_rng_state()
    extract(network, images(), n_passes=3, random_state=0)
    assert len(states) > 3
    assert all(torch.equal(state, before) for state in states)


LAYERS = {
    "plain": (nn.Dropout(0.3), (5, 6)),
    "in place": (nn.Dropout(0.3, inplace=True), (5, 6)),
    "everything": (nn.Dropout(1), (5, 6)),
    "alpha": (nn.AlphaDropout(0.3), (5, 6)),
    "feature alpha": (nn.FeatureAlphaDropout(0.3), (5, 6, 3)),
    "1d": (nn.Dropout1d(0.3), (5, 6, 3)),
    "1d of vectors": (nn.Dropout1d(0.3), (5, 6)),
    "2d": (nn.Dropout2d(0.3), (5, 6, 3, 2)),
    "3d": (nn.Dropout3d(0.3), (5, 6, 3, 2, 2)),
    "3d of maps": (nn.Dropout3d(0.3), (5, 6, 3, 2)),
}


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64, torch.bfloat16])
@pytest.mark.parametrize(("layer", "shape"), LAYERS.values(), ids=LAYERS)
def test_passes_draw_what_the_layers_draw_in_training(layer, shape, dtype):
    torch.manual_seed(0)
    network = nn.Sequential(layer, nn.Flatten(), nn.Linear(np.prod(shape[1:]), 3)).to(dtype).eval()
    X = torch.randn(shape, dtype=dtype)
    extractor = ActivationExtractor(network, "all", n_passes=1, random_state=4).fit(X)
    found = extractor.transform(X)["passes"][:, 0]
    seed = extractor._mode(4).passes.batch_seed(0)
    torch.manual_seed(seed)
    layer.train()
    with torch.no_grad():
        expected = network(X.clone()).float() if dtype is torch.bfloat16 else network(X.clone())
    layer.eval()
    assert_array_equal(found, expected)


class Own(nn.Dropout):
    """Its own code, which reads the mode."""

    def forward(self, x):
        return F.dropout(x, self.p, self.training) * 2


def test_dropout_of_own_code_runs_in_training_mode_for_the_reader_alone():
    network = nn.Sequential(nn.Linear(6, 8), Own(), nn.Linear(8, 3)).eval()
    X = torch.tensor(vectors())
    expected = run(network, X)

    def serve():
        with torch.no_grad():
            return torch.equal(network(X), expected)

    with other_thread(serve) as served:
        passes = extract(network, X, "all", n_passes=6, random_state=0)["passes"]
    assert all(served)
    assert passes.std(axis=1).min() > 0
    with untouched(network):
        again = extract(network, X, "all", n_passes=6, random_state=0)["passes"]
    assert_array_equal(again, passes)


def test_dropout_whose_forward_is_replaced_is_active_too():
    network = nn.Sequential(nn.Linear(6, 8), nn.Dropout(), nn.Linear(8, 3)).eval()
    forward = network[1].forward
    network[1].forward = lambda x: 2 * forward(x)
    with untouched(network):
        passes = extract(network, vectors(), "all", n_passes=6, random_state=0)["passes"]
    assert passes.std(axis=1).min() > 0


def test_hooks_of_the_user_are_given_what_is_left_in():
    network = nn.Sequential(nn.Linear(6, 8), nn.Dropout(0.5), nn.Linear(8, 3)).eval()
    n_zeros = []
    network[1].register_forward_hook(lambda m, args, out: n_zeros.append(int((out == 0).sum())))
    extract(network, vectors(), "all", n_passes=2, random_state=0)
    assert n_zeros[0] == 0
    assert min(n_zeros[-2:]) > 0


def test_monitor_of_one_sample_at_a_time_beside_several_servers_that_draw():
    network, X = cnn().eval(), images(30)
    monitor = make_monitor(network).fit(X)
    alone = [monitor.score_samples(X[i : i + 1])[0] for i in range(30)]
    expected = run(network, X[:4])

    def serve():
        with torch.no_grad():
            return torch.equal(network(torch.as_tensor(X[:4])), expected), torch.rand(()).item()

    torch.manual_seed(1)
    with other_thread(serve) as first, other_thread(lambda: serve()[0]) as second:
        found = [monitor.score_samples(X[i : i + 1])[0] for i in range(30)]
    assert_array_equal(found, alone)
    assert all(same for same, _ in first)
    assert all(second)


class AddsNormals(nn.Module):
    """Adds normal numbers to what it computes, of which generators make two at a time."""

    def __init__(self, draw):
        super().__init__()
        self.hidden, self.head, self.draw = nn.Linear(6, 12), nn.Linear(12, 3), draw

    def forward(self, x):
        return self.head(F.relu(self.hidden(x))) + self.draw()


NORMALS = {
    "torch": (lambda: torch.randn(()).item(), torch.manual_seed),
    "numpy": (lambda: float(np.random.randn()), np.random.seed),  # noqa: NPY002
    "random": (lambda: random.gauss(0, 1), random.seed),
}


@pytest.mark.parametrize(("draw", "seed"), NORMALS.values(), ids=NORMALS)
@pytest.mark.parametrize("n_before", [0, 1, 2])
def test_a_normal_number_kept_for_the_next_call_is_given_back(draw, seed, n_before):
    X = np.random.default_rng(0).normal(size=(40, 6)).astype(np.float32)
    monitor = make_monitor(AddsNormals(draw).eval()).fit(X)
    seed(3)
    expected = [draw() for _ in range(n_before + 3)][n_before:]
    seed(3)
    for _ in range(n_before):
        draw()
    scores = [monitor.score_samples(X[:1]).item() for _ in range(4)]
    assert max(scores) - min(scores) < 1e-9
    assert [draw() for _ in range(3)] == expected
