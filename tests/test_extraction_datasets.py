"""Inputs of other libraries: data sets of Hugging Face, graphs, and what is registered."""

import sys
from types import ModuleType

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from _networks import assert_same, extract, images, trained_perceptron, vectors
from numpy.testing import assert_allclose, assert_array_equal
from torch import nn
from torch.utils.data import DataLoader, Dataset

from skood import ActivationExtractor, make_monitor
from skood.networks import InputReader, Loader, register_inputs

RNG = np.random.default_rng(0)
IDS, MASK, Y = RNG.integers(20, size=(11, 5)), np.ones((11, 5), int), np.arange(11) % 3
MASK[::2, 3:] = 0


class Text(nn.Module):
    """Takes words and a mask by their names, and no labels."""

    def __init__(self):
        super().__init__()
        torch.manual_seed(0)
        self.words, self.fc, self.out = nn.Embedding(20, 8), nn.Linear(8, 6), nn.Linear(6, 3)

    def forward(self, input_ids, attention_mask):
        mask = attention_mask[..., None]
        mean = (self.words(input_ids) * mask).sum(1) / mask.sum(1)
        return self.out(F.relu(self.fc(mean)))


COLUMNS = {"input_ids": IDS, "attention_mask": MASK, "label": Y}


class StandIn:
    """What data sets of Hugging Face offer."""

    def __init__(self, columns, make=np.ndarray.tolist):
        self._columns, self._make = columns, make
        self.column_names = list(columns)

    def iter(self, batch_size):
        n_samples = len(next(iter(self._columns.values())))
        for start in range(0, n_samples, batch_size):
            rows = slice(start, start + batch_size)
            yield {
                key: self._make(values[rows]) if isinstance(values, np.ndarray) else values[rows]
                for key, values in self._columns.items()
            }


class StandInOfKnownLength(StandIn):
    def __len__(self):
        return len(next(iter(self._columns.values())))


class Splits(dict):
    column_names = {"train": []}


for standing_in in (StandIn, StandInOfKnownLength, Splits):
    standing_in.__module__ = "datasets.stand_in"


def as_data(columns, **options):
    return StandInOfKnownLength(columns, **options)


def hugging_face(columns, **options):
    """The library's own data set."""
    datasets = pytest.importorskip("datasets")
    plain = {k: v.tolist() if isinstance(v, np.ndarray) else v for k, v in columns.items()}
    return datasets.Dataset.from_dict(plain)


@pytest.fixture(params=[as_data, hugging_face])
def make(request):
    return request.param


def expected():
    return extract(Text(), {key: COLUMNS[key] for key in ("input_ids", "attention_mask")})


FORMATS = {
    "raw": lambda: as_data(COLUMNS),
    "numpy": lambda: as_data(COLUMNS, make=np.asarray),
    "torch": lambda: as_data(COLUMNS, make=torch.tensor),
    "stream": lambda: StandIn(COLUMNS),
    "real, raw": lambda: hugging_face(COLUMNS),
    "real, numpy": lambda: hugging_face(COLUMNS).with_format("numpy"),
    "real, torch": lambda: hugging_face(COLUMNS).with_format("torch"),
    "real, stream": lambda: hugging_face(COLUMNS).to_iterable_dataset(),
    "real, loader": lambda: DataLoader(hugging_face(COLUMNS).with_format("torch"), batch_size=4),
    "real, rows": lambda: hugging_face(COLUMNS)[:],
}


@pytest.mark.parametrize("make_format", FORMATS.values(), ids=FORMATS)
def test_data_sets_of_hugging_face_are_read_in_batches(make_format):
    A = extract(Text(), make_format(), batch_size=4)
    assert_array_equal(A.labels, Y)
    without = A.assign(labels=Y)
    assert_same(without, expected().assign(labels=Y), rtol=1e-5, atol=1e-6)
    extractor = ActivationExtractor(Text(), batch_size=4).fit(make_format())
    assert_same(extractor.transform(make_format()), A)


def test_monitor_of_a_data_set(make):
    data = make(COLUMNS)
    monitor = make_monitor(Text()).fit(data, Y)
    plain = make_monitor(Text()).fit({key: COLUMNS[key] for key in list(COLUMNS)[:2]}, Y)
    scores = plain.score_samples({key: COLUMNS[key] for key in list(COLUMNS)[:2]})
    assert_allclose(monitor.score_samples(data), scores, rtol=1e-6)


class Picture:
    """An image of another library."""

    __array_interface__ = np.zeros((8, 8, 3), np.uint8).__array_interface__


REFUSED = {
    "text": ({"text": ["a"] * 11}, TypeError, "'text' must be numbers, got str such as 'a': leave"),
    "missing": (
        {"input_ids": [[1, 2], None] * 5 + [[1, 2]]},
        TypeError,
        "'input_ids' must be numbers, got NoneType .* remove_columns",
    ),
    "nested": ({"info": [{"a": 1}] * 11}, TypeError, "'info' must be numbers, got dict such as"),
    "ragged": (
        {"input_ids": [[1], [1, 2]] * 5 + [[1]]},
        ValueError,
        "'input_ids' hold values of different lengths, such as 1 and 2: pad .* mask",
    ),
    "labels alone": ({"label": Y}, TypeError, "no inputs, but only labels in the columns"),
    "no argument": ({**COLUMNS, "index": Y}, ValueError, r"takes the inputs \['input_ids', 'att"),
}


@pytest.mark.parametrize(("columns", "error", "message"), REFUSED.values(), ids=REFUSED)
def test_columns_that_are_no_inputs_are_refused_by_name(make, columns, error, message):
    with pytest.raises(error, match=message):
        ActivationExtractor(Text()).fit(make(columns))


@pytest.mark.parametrize("format", ["numpy", "torch", None])
def test_ragged_columns_are_refused_in_every_format(format):
    data = hugging_face(REFUSED["ragged"][0]).with_format(format)
    with pytest.raises(ValueError, match="'input_ids' hold values of different lengths"):
        ActivationExtractor(Text()).fit(data)


def test_images_are_refused_by_name():
    data = as_data({"image": [Picture()] * 3})
    with pytest.raises(TypeError, match=r"'image' must be numbers, got Picture .* collate_fn"):
        ActivationExtractor(Text()).fit(data)


def test_splits_are_refused_by_name():
    with pytest.raises(TypeError, match=r"Splits holds several .* data\['train'\]; known are \['t"):
        ActivationExtractor(Text()).fit(Splits(train=as_data(COLUMNS), test=as_data(COLUMNS)))
    datasets = pytest.importorskip("datasets")
    splits = datasets.DatasetDict(train=hugging_face(COLUMNS))
    with pytest.raises(TypeError, match=r"DatasetDict holds several .* pass one of them"):
        ActivationExtractor(Text()).fit(splits)


def test_own_module_of_that_name_is_none_of_hugging_face():
    class Own(Dataset):
        def __len__(self):
            return 11

        def __getitem__(self, row):
            return {"input_ids": IDS[row], "attention_mask": MASK[row]}

    Own.__module__ = "datasets"
    assert_same(extract(Text(), Own(), batch_size=4), expected(), rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize("dtype", [np.uint8, np.uint16, np.int64])
def test_integer_images_may_stand_in_a_mapping(dtype):
    network = nn.Sequential(nn.Conv2d(1, 4, 3), nn.ReLU(), nn.Flatten(), nn.Linear(144, 3))
    X = (images(5) > 0).astype(dtype)
    A = extract(network, as_data({"image": X}, make=np.asarray))
    assert_same(A, extract(network, X.astype(np.float32)), rtol=1e-5, atol=1e-6)


class ByKind(nn.Module):
    """Tells kinds of numbers apart."""

    def __init__(self):
        super().__init__()
        torch.manual_seed(0)
        self.fc, self.out = nn.Linear(6, 5), nn.Linear(5, 3)

    def forward(self, x):
        scale = {torch.uint8: 255, torch.bool: 2}.get(x.dtype, 1)
        return self.out(F.relu(self.fc(x.float() / scale)))


@pytest.mark.parametrize("dtype", [np.uint8, bool, np.int32, np.float64])
@pytest.mark.parametrize("make_kind", [np.asarray, torch.tensor, lambda X: {"x": X}])
def test_network_that_tells_kinds_of_numbers_apart_gets_its_own(dtype, make_kind):
    X, network = (vectors() > 0).astype(dtype), ByKind()
    with torch.no_grad():
        expected = network(torch.tensor(X)).numpy()
    assert_allclose(extract(network, make_kind(X)).logits, expected, rtol=1e-5, atol=1e-6)


class Counted(nn.Module):
    """Makes vectors of words by a function."""

    def __init__(self):
        super().__init__()
        torch.manual_seed(0)
        self.out = nn.Linear(20, 3)

    def forward(self, x):
        return self.out(F.relu(F.one_hot(x, 20).float().mean(1)))


def test_words_that_a_function_looks_up_stay_integers():
    with torch.no_grad():
        expected = Counted()(torch.tensor(IDS)).numpy()
    for X in (IDS, torch.tensor(IDS), IDS.astype(np.int32), {"x": IDS}):
        assert_allclose(extract(Counted(), X).logits, expected, rtol=1e-5, atol=1e-6)


@pytest.fixture
def graphs(monkeypatch):
    """Classes of torch_geometric, which is not needed."""
    module = ModuleType("torch_geometric")

    class Data:
        pass

    class Batch(Data):
        def __len__(self):
            return 3

        def __getitem__(self, item):
            return Data()

    class Graphs(Dataset):
        def __len__(self):
            return 3

        def __getitem__(self, row):
            return Data()

    class GraphLoader(DataLoader):
        pass

    for name, kind in list(locals().items()):
        if isinstance(kind, type):
            kind.__module__ = "torch_geometric.data"
            setattr(module, name, kind)
    monkeypatch.setitem(sys.modules, "torch_geometric", module)
    return module


def test_graphs_are_refused_by_name(graphs):
    one = graphs.Data()
    loader = DataLoader([one, one], batch_size=None)
    kinds = [one, graphs.Batch(), graphs.Graphs(), [one, one], {"x": one}, loader, iter([(one, 1)])]
    kinds += [graphs.GraphLoader(graphs.Graphs()), {"x": [one, one]}]
    for X in kinds:
        with pytest.raises(TypeError, match=r"of torch_geometric: a graph has no row .* mapping"):
            ActivationExtractor(Text()).fit_transform(X)


def test_sparse_graph_in_a_mapping_is_refused_by_name():
    X = {"x": np.ones((9, 2)), "edge_index": np.ones((2, 30), int)}
    with pytest.raises(TypeError, match=r"'edge_index' is a graph, .* to_dense_adj"):
        ActivationExtractor(Text()).fit(X)


class GraphNet(nn.Module):
    """Classifies dense graphs."""

    def __init__(self):
        super().__init__()
        torch.manual_seed(0)
        self.fc, self.out = nn.Linear(4, 5), nn.Linear(5, 3)

    def forward(self, x, adj):
        return self.out(F.relu(self.fc(adj @ x)).mean(1))


def test_dense_graphs_are_rows():
    X = {"x": RNG.normal(size=(7, 9, 4)), "adj": RNG.random((7, 9, 9)) > 0.5}
    X["adj"] = X["adj"].astype(np.float32)
    with torch.no_grad():
        logits = GraphNet()(torch.tensor(X["x"]).float(), torch.tensor(X["adj"])).numpy()
    assert_allclose(extract(GraphNet(), X, batch_size=3).logits, logits, rtol=1e-4, atol=1e-5)


class Volume:
    """An array of a library that nobody knows."""

    def __init__(self, values):
        self.values = values
        self.shape, self.ndim = values.shape, values.ndim

    def __len__(self):
        return len(self.values)

    def __getitem__(self, rows):
        return Volume(self.values[rows])


class Shelf:
    """Inputs of a library that nobody knows."""

    def __init__(self, values):
        self.values = values


class VolumeReader(InputReader):
    def load(self, X, batch_size):
        if not isinstance(X, Shelf):
            return None
        n_samples = len(X.values)
        pieces = [X.values[at : at + batch_size] for at in range(0, n_samples, batch_size)]
        return Loader([Volume(piece) for piece in pieces], n_samples)

    def is_array(self, X):
        return isinstance(X, Volume)

    def to_numpy(self, array):
        return array.values


def test_inputs_of_another_library_are_registered():
    X = RNG.normal(size=(20, 4))
    network = trained_perceptron(X, np.arange(20) % 2)
    with pytest.raises((TypeError, ValueError)):
        ActivationExtractor(network).fit(Shelf(X))
    register_inputs(Shelf, VolumeReader)
    register_inputs(Volume, VolumeReader)
    for inputs in (Volume(X), Shelf(X)):
        extractor = ActivationExtractor(network, batch_size=6).fit(inputs)
        assert_array_equal(extractor.transform(inputs).predictions, network.predict(X))
        assert extractor.n_features_in_ == 4
    with pytest.raises(ValueError, match="contains NaN in sample 1"):
        extractor.transform(Volume(np.where(np.arange(20)[:, None] == 1, np.nan, X)))
    with pytest.raises(TypeError, match="kind must be"):
        register_inputs(3, VolumeReader)


def test_tensors_are_inputs_of_perceptrons():
    X = RNG.normal(size=(20, 4))
    network = trained_perceptron(X, np.arange(20) % 2)
    A = extract(network, X)
    for tensor in (torch.tensor(X), torch.tensor(X, requires_grad=True)):
        assert_same(extract(network, tensor), A)
        assert_same(extract(network, DataLoader(tensor, batch_size=6)), A)
