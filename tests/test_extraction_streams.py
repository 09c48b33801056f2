"""Inputs that come batch by batch: read whole, in which order, and with whose labels."""

import pickle

import numpy as np
import pytest
import torch
from _networks import Rows, Stream, assert_same, extract, vectors
from numpy.testing import assert_array_equal
from sklearn.pipeline import make_pipeline
from torch import nn
from torch.utils.data import (
    BatchSampler,
    DataLoader,
    IterableDataset,
    RandomSampler,
    SequentialSampler,
    SubsetRandomSampler,
    TensorDataset,
    WeightedRandomSampler,
)

from skood import ActivationExtractor, make_monitor
from skood.detectors import KNNDetector

X = vectors(11)
Y = np.arange(11) % 3


def net():
    torch.manual_seed(0)
    return nn.Sequential(nn.Linear(6, 5), nn.ReLU(), nn.Linear(5, 3))


def batches(make=np.asarray, size=4):
    """A generator."""
    for start in range(0, len(X), size):
        yield make(X[start : start + size])


class Once(IterableDataset):
    """Goes on where it stopped, as can be seen."""

    def __init__(self, rows):
        self.rows = iter(rows)

    def __iter__(self):
        return self.rows


class HiddenOnce(Once):
    """Goes on where it stopped, as cannot be seen."""

    def __iter__(self):
        yield from self.rows


class Again:
    """Neither an array nor an iterator, and no data set of a library."""

    def __iter__(self):
        return batches()


def pairs():
    yield from zip(batches(torch.tensor), np.split(Y, [4, 8]), strict=True)


STREAMS = {
    "generator": batches,
    "generator of tensors": lambda: batches(torch.tensor),
    "generator of mappings": lambda: batches(lambda rows: {"input": rows}),
    "generator of pairs": pairs,
    "map": lambda: map(np.asarray, list(batches())),
    "data set read once": lambda: Once(X),
    "data set secretly read once": lambda: HiddenOnce(X),
    "loader": lambda: DataLoader(Once(X), batch_size=4),
    "loader of what is secretly read once": lambda: DataLoader(HiddenOnce(X), batch_size=4),
    "loader with a worker": lambda: DataLoader(Stream(X), batch_size=4, num_workers=1),
    "loader of batches": lambda: DataLoader(list(batches(torch.tensor)), batch_size=None),
    "iterable": Again,
}


@pytest.mark.parametrize("make", STREAMS.values(), ids=STREAMS)
def test_streams_are_read_whole(make):
    expected = extract(net(), X, batch_size=4)
    assert_same(extract(net(), make(), batch_size=4), expected, rtol=1e-5, atol=1e-6)
    extractor = ActivationExtractor(net(), batch_size=4).fit(X)
    assert_same(extractor.transform(make()), expected, rtol=1e-5, atol=1e-6)


def test_monitor_reads_streams():
    monitor = make_monitor(net())
    expected = monitor.fit(X).score_samples(X)
    assert_array_equal(monitor.fit(batches()).score_samples(batches()), expected)


def test_labels_of_a_generator_ride_along():
    assert_array_equal(extract(net(), pairs()).labels, Y)


@pytest.mark.parametrize(
    "make", [batches, lambda: Once(X), lambda: DataLoader(Once(X))], ids=["a", "b", "c"]
)
def test_what_is_read_once_is_not_begun_by_fit(make):
    stream = make()
    with pytest.raises(TypeError, match=r"read once only.* call fit_transform"):
        ActivationExtractor(net()).fit(stream)
    assert len(extract(net(), stream)) == 11


def test_fit_warns_where_rows_may_be_lost():
    with pytest.warns(UserWarning, match="11 samples with which .* rows were lost to fit"):
        ActivationExtractor(net()).fit(HiddenOnce(X))


@pytest.mark.parametrize("make", [lambda: Stream(X), lambda: DataLoader(Stream(X)), Again])
def test_streams_that_begin_anew_are_fitted_and_read_again(make):
    stream = make()
    extractor = ActivationExtractor(net(), batch_size=4).fit(stream)
    assert len(extractor.transform(stream)) == len(extractor.transform(stream)) == 11


@pytest.mark.parametrize("make", [batches, lambda: Once(X)], ids=["generator", "data set"])
def test_exhausted_streams_are_refused(make):
    stream = make()
    extractor = ActivationExtractor(net()).fit(X)
    extractor.transform(stream)
    with pytest.raises(ValueError, match=r"Found 0 samples .* may be exhausted: make it anew"):
        extractor.transform(stream)
    with pytest.raises(ValueError, match="may be exhausted"):
        extractor.fit_transform(stream)


@pytest.mark.parametrize("item", ["a", 1.0, {1.0}])
def test_generators_of_something_else_are_refused(item):
    with pytest.raises(TypeError, match=f"got {type(item).__name__}"):
        ActivationExtractor(net()).fit_transform(iter([item]))


DATA = TensorDataset(torch.tensor(X), torch.tensor(Y))
SHUFFLING = {
    "RandomSampler": DataLoader(DATA, batch_size=4, shuffle=True),
    "WeightedRandomSampler": DataLoader(DATA, sampler=WeightedRandomSampler(torch.ones(11), 11)),
    "SubsetRandomSampler": DataLoader(DATA, sampler=SubsetRandomSampler(range(11))),
    "indices": DataLoader(DATA, sampler=range(10, -1, -1)),
    "type": DataLoader(DATA, sampler=type("Own", (SequentialSampler,), {})(DATA)),
    "batch sampler": DataLoader(DATA, batch_sampler=[[1, 0], [5, 3, 4]]),
    "not batched": DataLoader(Rows(X[:, None]), batch_size=None, shuffle=True),
}


@pytest.mark.parametrize("loader", SHUFFLING.values(), ids=SHUFFLING)
def test_labels_beside_a_loader_that_shuffles_are_refused(loader):
    extractor = ActivationExtractor(net())
    for fit in (extractor.fit, extractor.fit_transform, make_monitor(net()).fit):
        with pytest.raises(ValueError, match=r"in an order of its own, that of .* shuffle=False"):
            fit(loader, Y)


@pytest.mark.parametrize(
    "loader",
    [
        DataLoader(DATA, batch_size=4),
        DataLoader(DATA, sampler=range(11)),
        DataLoader(DATA, batch_sampler=BatchSampler(SequentialSampler(DATA), 4, False)),
        DATA,
        DataLoader(Stream(X), batch_size=4),
    ],
)
def test_labels_beside_a_loader_that_keeps_the_order_are_taken(loader):
    extractor = ActivationExtractor(net())
    assert len(extractor.fit(loader, Y).transform(loader)) == 11
    A = extractor.fit_transform(loader, Y)
    assert_same(A.assign(labels=Y), extract(net(), X).assign(labels=Y), rtol=1e-5, atol=1e-6)


def test_labels_of_a_loader_that_shuffles_ride_along():
    extractor = ActivationExtractor(net()).fit(X)
    A = extractor.transform(DataLoader(DATA, batch_size=4, shuffle=True))
    straight = extractor.transform(X)
    rows = [np.abs(straight["1"] - row).sum(axis=1).argmin() for row in A["1"]]
    assert sorted(rows) == list(range(11))
    assert_array_equal(A.labels, Y[rows])
    detector = make_pipeline(extractor, KNNDetector(n_neighbors=2)).fit(
        DataLoader(DATA, shuffle=True)
    )
    assert detector[-1].n_samples_seen_ == 11


def test_rows_in_an_unknown_order_are_warned_about():
    loader = DataLoader(
        TensorDataset(torch.tensor(X)), batch_sampler=BatchSampler(RandomSampler(DATA), 4, False)
    )
    monitor = make_monitor(net()).fit(loader)
    with pytest.warns(UserWarning, match="that of a RandomSampler, and nothing tells which"):
        assert len(monitor.predict(loader)) == 11


@pytest.mark.parametrize("marks", [lambda y: y, lambda y: np.where(y == -1, -1, 1)])
def test_labels_in_another_order_are_refused_by_score(marks):
    rng = np.random.default_rng(0)
    many, y = rng.normal(size=(70, 6)).astype(np.float32), np.where(np.arange(70) < 60, 0, -1)
    y[:30] = 1
    data = TensorDataset(torch.tensor(many), torch.tensor(y))
    monitor = make_monitor(net()).fit(many[:60])
    # Batches of one sample are rounded otherwise, which changes the order of a few.
    expected = pytest.approx(monitor.score(many, marks(y)), abs=0.01)
    assert monitor.score(DataLoader(data), marks(y)) == expected
    with pytest.raises(ValueError, match=r"labels of X.labels in another order"):
        monitor.score(DataLoader(data, shuffle=True), marks(y))


@pytest.mark.parametrize("marks", [np.arange(70) % 3, np.where(np.arange(70) < 25, -1, 0)])
def test_labels_that_do_not_go_by_those_of_a_loader_that_shuffles_are_refused(marks):
    rng = np.random.default_rng(0)
    many, y = rng.normal(size=(70, 6)).astype(np.float32), np.arange(70) // 10
    loader = DataLoader(TensorDataset(torch.tensor(many), torch.tensor(y)), shuffle=True)
    monitor = make_monitor(net()).fit(many)
    message = "in the order in which a loader yielded them, that of a RandomSampler"
    with pytest.raises(ValueError, match=message):
        monitor.score(loader, marks)
    A = monitor[:-1].transform(loader)
    for rows in (A, pickle.loads(pickle.dumps(A[5:]))):
        with pytest.raises(ValueError, match=message):
            KNNDetector(n_neighbors=2).fit(rows, marks[-len(rows) :])
        detector = KNNDetector(n_neighbors=2).fit(rows, np.where(rows.labels < 2, -1, rows.labels))
        for own in (rows.labels < 3, rows.labels == rows.predictions):
            detector.score(rows, np.where(own, -1, 1))
        KNNDetector(n_neighbors=2).fit(rows.assign(labels=marks[-len(rows) :]), marks[-len(rows) :])


def test_another_number_of_labels_is_refused_before_the_network_runs():
    extractor = ActivationExtractor(net())
    for inputs in (X, torch.tensor(X), {"input": X}, DATA, DataLoader(DATA), extract(net(), X)):
        for fit in (extractor.fit, extractor.fit_transform):
            with pytest.raises(ValueError, match="X has 11 samples, but y has 10 labels"):
                fit(inputs, Y[:10])
    with pytest.raises(ValueError, match="X has 11 samples, but y has 10 labels"):
        extractor.fit_transform(batches(), Y[:10])


def test_samples_that_a_loader_drops_are_named():
    loader = DataLoader(DATA, batch_size=4, drop_last=True)
    extractor = ActivationExtractor(net()).fit(loader)
    with pytest.warns(UserWarning, match=r"leaves out 3 of 11 samples \(drop_last=True\)"):
        assert len(extractor.transform(loader)) == 8
    with pytest.raises(ValueError, match="8 samples, but y has 11 labels: the loader leaves out 3"):
        extractor.fit(loader, Y)
    stream = DataLoader(Stream(X), batch_size=4, drop_last=True)
    with pytest.warns(UserWarning, match="leaves out a last batch of fewer than 4 samples"):
        assert len(extractor.transform(stream)) == 8
    assert len(extractor.transform(DataLoader(DATA, batch_size=11, drop_last=True))) == 11


def test_items_that_do_not_go_into_a_batch_are_refused():
    with pytest.raises(RuntimeError, match="do not go into one batch: pass a DataLoader with a"):
        ActivationExtractor(net()).fit(Stream([np.ones(3), np.ones(4)]))

    def broken():
        raise RuntimeError("broken file")
        yield

    with pytest.raises(RuntimeError, match=r"^broken file"):
        ActivationExtractor(net()).fit_transform(broken())


class NamedInput(nn.Module):
    def __init__(self, inner):
        super().__init__()
        self.inner = inner

    def forward(self, x):
        return self.inner(x)


def test_text_labels_of_mappings_are_labels_in_any_kind_of_input():
    network, inputs = NamedInput(net()).eval(), torch.from_numpy(np.asarray(X, np.float32))
    texts = ["a", "bb", "c", "a", "", "bb", "a", "a", "c", "c", "d"]
    rows = [{"x": row, "label": text} for row, text in zip(inputs, texts, strict=True)]
    whole = {"x": inputs, "label": texts}
    parts = [{key: values[i : i + 4] for key, values in whole.items()} for i in (0, 4, 8)]
    array = {**whole, "label": np.array(texts)}
    for source in (DataLoader(rows, batch_size=4), iter(parts), whole, array):
        A = ActivationExtractor(network, batch_size=4).fit_transform(source)
        assert_array_equal(A.labels, texts)
        np.testing.assert_allclose(A.logits, network(inputs).detach(), rtol=1e-5, atol=1e-6)
