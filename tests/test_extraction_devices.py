"""Networks on a device: what is copied, when, and that nothing waits for it that need not."""

import gc
from contextlib import contextmanager

import numpy as np
import pytest
import torch
from _networks import assert_same, cnn, extract, images, untouched
from numpy.testing import assert_array_equal
from sklearn.preprocessing import FunctionTransformer
from torch import nn
from torch.utils.data import DataLoader, TensorDataset

from skood import ActivationExtractor, Activations, PoolingReducer, make_monitor
from skood.networks._torch import adapter as torch_adapter
from skood.networks._torch.transfers import CudaTransfers, Transfers

WITH_CUDA = pytest.mark.skipif(not torch.cuda.is_available(), reason="no CUDA device")
POOLED = {"reducer": PoolingReducer(), "batch_size": 4}


class Elsewhere(Transfers):
    """As a device that goes on computing: what is sent arrives when it is waited for."""

    overlap = True

    def __init__(self):
        super().__init__(torch.device("cpu"))
        self.sizes, self.waiting, self.most_waiting = [], 0, 0
        self.events = []

    def to_device(self, values, dtype, *, copy):
        self.events.append("in")
        return super().to_device(values, dtype, copy=copy)

    def begin(self, value):
        copied, arriving = value.detach().clone(), torch.full_like(value, torch.nan)
        self.sizes.append(tuple(value.shape))
        self.waiting += 1
        self.most_waiting = max(self.most_waiting, self.waiting)
        self.events.append("out")

        def receive():
            self.waiting -= 1
            self.events.append("there")
            return arriving.copy_(copied)

        return receive


@pytest.fixture
def elsewhere(monkeypatch):
    transfers = Elsewhere()
    monkeypatch.setattr(torch_adapter, "transfers_of", lambda device: transfers)
    return transfers


def on_cpu(*args, **kwargs):
    """What is extracted where nothing overlaps."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(torch_adapter, "transfers_of", Transfers)
        return extract(*args, **kwargs)


def n_batches_of(X, size=4):
    return -(-len(X) // size)


def test_layers_are_pooled_before_they_are_copied(elsewhere):
    network, X = cnn(), images(10)
    A = extract(network, X, **POOLED)
    assert {len(size) for size in elsewhere.sizes} == {2}
    n_values = sum(n_rows * n_columns for n_rows, n_columns in elsewhere.sizes)
    assert n_values == A.shape[0] * A.shape[1] + A.logits.size
    assert_same(A, on_cpu(network, X, **POOLED), rtol=0)


def test_one_batch_is_on_its_way_while_the_next_one_is_computed(elsewhere):
    A = extract(cnn(), X := images(18), **POOLED)
    n_values = len(A.layer_names) + 1  # with the logits
    assert elsewhere.waiting == 0
    assert elsewhere.most_waiting == 2 * n_values
    n_batches = n_batches_of(X)
    batch = ["in", *["out"] * n_values]
    arrives = ["there"] * n_values
    # What comes before is the trace, which runs on two samples.
    expected = batch + (batch + arrives) * (n_batches - 1) + arrives
    assert elsewhere.events[-len(expected) :] == expected


@pytest.mark.parametrize("reducer", [None, FunctionTransformer()])
def test_maps_are_waited_for(elsewhere, reducer):
    how = {"reducer": reducer, "batch_size": 4}
    A = extract(cnn(), X := images(10), **how)
    assert not elsewhere.sizes
    assert_same(A, on_cpu(cnn(), X, **how), rtol=0)


@pytest.mark.parametrize("n_samples", [1, 3, 4, 9])
@pytest.mark.parametrize("pooling", ["max", "avg", "flatten"])
def test_layers_are_those_of_the_cpu_also_where_they_are_overwritten(elsewhere, pooling, n_samples):
    """The layer "3" is overwritten by the activation after it, and "flatten" yields a view."""
    network, X = cnn(), images(n_samples)
    how = {"reducer": PoolingReducer(pooling=pooling), "batch_size": 4}
    A = extract(network, X, ["3", "4"], **how)
    assert_same(A, on_cpu(network, X, ["3", "4"], **how), rtol=0)
    assert (A["3"] < 0).any()


def test_all_that_a_batch_yields_belongs_together(elsewhere):
    network, X, y = cnn(), images(10), np.arange(10) % 3
    network.insert(1, nn.Dropout(0.5))
    how = {"gradients": True, "n_passes": 2, "random_state": 0}
    loader = DataLoader(TensorDataset(torch.from_numpy(X), torch.from_numpy(y)), batch_size=3)
    with untouched(network):
        A = extract(network, loader, **how, **POOLED)
    B = on_cpu(network, loader, **how, **POOLED)
    assert_same(A, B, rtol=0)
    assert_array_equal(A.labels, y)
    assert_array_equal(A.predictions, B.predictions)


class Words(nn.Module):
    """Its tokens are pooled without those that are padding."""

    def __init__(self):
        super().__init__()
        torch.manual_seed(0)
        self.words, self.act = nn.Embedding(9, 6), nn.Tanh()
        self.out = nn.Linear(6, 3)

    def forward(self, input_ids, attention_mask):
        inside = attention_mask[:, :, None]
        tokens = self.act(self.words(input_ids))
        return self.out((tokens * inside).sum(1) / inside.sum(1))


def test_padding_is_that_of_its_own_batch(elsewhere):
    rng = np.random.default_rng(0)
    words = rng.integers(9, size=(11, 5))
    mask = (np.arange(5) < rng.integers(1, 6, size=(11, 1))).astype(np.int64)
    X = {"input_ids": words, "attention_mask": mask}
    A = extract(Words(), X, ["act"], **POOLED)
    assert_same(A, on_cpu(Words(), X, ["act"], **POOLED), rtol=0)


def test_a_loader_may_write_over_what_it_yielded(elsewhere):
    X, y = images(12), np.arange(12)

    class Loader:
        """Yields the same memory again and again."""

        def __iter__(self):
            rows, labels = np.empty_like(X[:4]), np.empty_like(y[:4])
            for start in range(0, len(X), 4):
                rows[:], labels[:] = X[start : start + 4], y[start : start + 4]
                yield rows, labels

    extractor = ActivationExtractor(cnn(), **POOLED).fit(X)
    A = extractor.transform(Loader())
    assert_array_equal(A.labels, y)
    assert_same(A, extractor.transform(X), rtol=0)


def test_a_folder_holds_what_memory_would(elsewhere, tmp_path):
    network, X = cnn(), images(10)
    extractor = ActivationExtractor(network, **POOLED).fit(X)
    extractor.transform(X, out=tmp_path / "store")
    assert_same(Activations.load(tmp_path / "store"), on_cpu(network, X, **POOLED), rtol=0)


def test_an_error_in_a_later_batch_leaves_nothing_behind(elsewhere):
    network, X = cnn(), images(8)
    extractor = ActivationExtractor(network, **POOLED).fit(X)

    def batches():
        yield X[:4]
        raise OSError("the disk is gone")

    with untouched(network), pytest.raises(OSError, match="gone"):
        extractor.transform(batches())
    assert_same(extractor.transform(X), on_cpu(network, X, **POOLED), rtol=0)


def test_a_monitor_is_the_same(elsewhere):
    network, X = cnn(), images(40)
    y = np.arange(40) % 3
    monitor = make_monitor(network).fit(X, y)
    assert elsewhere.most_waiting > 0
    found = monitor.score_samples(X)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(torch_adapter, "transfers_of", Transfers)
        assert_array_equal(make_monitor(network).fit(X, y).score_samples(X), found)


# Streams

CPU = torch.device("cpu")


class Stream:
    """Notes what is asked of it."""

    def __init__(self, log, name):
        self.log, self.name = log, name

    def wait_stream(self, other):
        self.log.append(f"{self.name} waits for {other.name}")

    def record_event(self):
        self.log.append(f"event in {self.name}")
        return Stream(self.log, f"event in {self.name}")

    def synchronize(self):
        self.log.append(f"CPU waits for {self.name}")


@pytest.fixture
def log(monkeypatch):
    """What CUDA would be asked for, in order, beside copies that are made at once."""
    log, names = [], iter(["coming", "going"])

    @contextmanager
    def stream(chosen):
        log.append(f"in {chosen.name}:")
        yield
        log.append("end")

    monkeypatch.setattr(torch.cuda, "Stream", lambda device: Stream(log, next(names)))
    monkeypatch.setattr(torch.cuda, "stream", stream)
    monkeypatch.setattr(torch.cuda, "current_stream", lambda device: Stream(log, "computing"))
    monkeypatch.setattr(
        torch.Tensor, "record_stream", lambda tensor, other: log.append(f"kept for {other.name}")
    )
    empty_like = torch.empty_like
    monkeypatch.setattr(
        torch, "empty_like", lambda value, device, pin_memory: empty_like(value, device=device)
    )
    monkeypatch.setattr(torch.Tensor, "pin_memory", torch.Tensor.clone)
    return log


def test_inputs_come_beside_what_is_computed(log):
    values = torch.arange(6, dtype=torch.uint8).reshape(2, 3)
    moved = CudaTransfers(CPU).to_device(values, torch.float32, copy=True)
    assert log == ["in coming:", "end", "CPU waits for coming", "kept for computing"]
    values.zero_()
    assert_array_equal(moved, np.arange(6, dtype=np.float32).reshape(2, 3))


def test_values_go_beside_what_is_computed_once_they_are(log):
    value = torch.arange(6.0).reshape(2, 3)
    receive = CudaTransfers(CPU).begin(value)
    value.zero_()
    assert log == [
        "going waits for computing",
        "in going:",
        "event in going",
        "end",
        "kept for going",
    ]
    assert_array_equal(receive(), np.arange(6.0).reshape(2, 3))
    assert log[-1] == "CPU waits for event in going"


def test_values_of_another_device_are_waited_for(log):
    transfers = CudaTransfers(torch.device("meta"))
    value = torch.arange(6.0)
    receive = transfers.begin(value)
    value.zero_()
    assert_array_equal(receive(), np.arange(6.0))
    assert transfers.to_device(torch.empty(3, device="meta"), torch.float64, copy=True).is_meta
    assert log == []


# On a device


@pytest.fixture
def pooled_bytes(monkeypatch):
    """Sizes of all that is copied from the device."""
    sizes, begin = [], CudaTransfers.begin

    def count(self, value):
        sizes.append(value.numel() * value.element_size())
        return begin(self, value)

    monkeypatch.setattr(CudaTransfers, "begin", count)
    return sizes


@WITH_CUDA
@pytest.mark.parametrize("pin", [False, True])
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64, torch.uint8])
def test_pooled_rows_of_a_device_are_those_of_the_cpu(pooled_bytes, dtype, pin):
    X = torch.from_numpy(images(50)).mul(20).to(dtype)
    X = X.pin_memory() if pin else X
    with untouched(network := cnn().cuda()):
        A = extract(network, X, **POOLED)
    assert_same(A, extract(cnn(), X, **POOLED), rtol=1e-3, atol=1e-3)
    assert sum(pooled_bytes) == 4 * (A.shape[0] * A.shape[1] + A.logits.size)


@WITH_CUDA
def test_a_loader_may_write_over_what_a_device_was_given():
    X, network = torch.from_numpy(images(64)), cnn().cuda()
    memory = torch.empty_like(X[:4]).pin_memory()

    def batches():
        for start in range(0, len(X), 4):
            yield memory.copy_(X[start : start + 4])

    extractor = ActivationExtractor(network, **POOLED).fit(X)
    assert_same(extractor.transform(batches()), extractor.transform(X), rtol=0)


@WITH_CUDA
def test_memory_of_a_device_does_not_grow():
    network, X = cnn().cuda(), images(64)
    extractor = ActivationExtractor(network, **POOLED).fit(X)

    def peak():
        gc.collect()
        torch.cuda.synchronize()
        torch.cuda.reset_peak_memory_stats()
        extractor.transform(X)
        torch.cuda.synchronize()
        return torch.cuda.max_memory_allocated()

    peak()
    first = peak()
    assert max(peak() for _ in range(20)) <= 1.5 * first
    assert torch.cuda.memory_allocated() < first
