"""Kinds of inputs that activations are extracted from."""

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from _networks import (
    Counting,
    Rows,
    Stream,
    TextNet,
    assert_same,
    cnn,
    extract,
    images,
    run,
    vectors,
    with_peak_memory,
)
from numpy.testing import assert_allclose, assert_array_equal
from torch import nn
from torch.utils.data import DataLoader, TensorDataset

from skood import ActivationExtractor, PercentileBinarizer, PoolingReducer
from skood.extraction import ODIN


def keyed(batch):
    return {"input": torch.tensor(np.stack(batch))}


def readonly(X):
    X = X.copy()
    X.setflags(write=False)
    return X


INPUTS = {
    "list": lambda X: X.tolist(),
    "double": lambda X: X.astype(np.float64),
    "big-endian": lambda X: X.astype(">f4"),
    "long double": lambda X: X.astype(np.longdouble),
    "read-only": readonly,
    "reversed": lambda X: X[::-1].copy()[::-1],
    "tensor": torch.tensor,
    "tensor that requires gradients": lambda X: torch.tensor(X, requires_grad=True),
    "mapping": lambda X: {"input": X},
    "mapping of tensors": lambda X: {"input": torch.tensor(X)},
    "data set of pairs": Rows,
    "data set of tuples": lambda X: TensorDataset(torch.tensor(X)),
    "stream": Stream,
    "loader": lambda X: DataLoader(Rows(X), batch_size=3),
    "loader of a stream": lambda X: DataLoader(Stream(X), batch_size=3),
    "loader of mappings": lambda X: DataLoader(Stream(X), batch_size=3, collate_fn=keyed),
    "loader of arrays": lambda X: DataLoader(Stream(X), batch_size=5, collate_fn=np.stack),
}


@pytest.mark.parametrize("make", INPUTS.values(), ids=INPUTS)
def test_kinds_of_inputs_agree(make):
    X = images(11)
    A = extract(cnn(), make(X), batch_size=4)
    assert len(A) == 11
    assert_same(A, extract(cnn(), X, batch_size=4), rtol=1e-5, atol=1e-6)


def test_arrays_keep_their_memory_layout():
    # Convolutions run faster on channels last, if that is how the user lays them out.
    X = np.ones((4, 8, 8, 3), dtype=np.float32).transpose(0, 3, 1, 2)
    strides = []
    network = nn.Sequential(nn.ReLU())
    network.register_forward_pre_hook(lambda module, args: strides.append(args[0].stride()))
    extract(network, X)
    extract(network, torch.from_numpy(X))
    assert set(strides) == {(192, 1, 24, 3)}


def test_memory_map_is_read_batch_by_batch(tmp_path):
    X = images(4000)
    np.save(tmp_path / "X.npy", X)
    mapped = np.load(tmp_path / "X.npy", mmap_mode="r")
    extract(cnn(), X[:10], ["7"])  # so that no code is imported while memory is measured
    A, peak = with_peak_memory(lambda: extract(cnn(), mapped, ["7"], batch_size=200))
    assert_same(A, extract(cnn(), X, ["7"], batch_size=200))
    assert peak < A["7"].nbytes + A.logits.nbytes + 600_000 < X.nbytes


def test_data_frames_give_feature_names():
    pd = pytest.importorskip("pandas")
    network = nn.Sequential(nn.Linear(2, 3), nn.ReLU())
    frame = pd.DataFrame({"width": [1.0, 2.0], "height": [0, 1]})
    extractor = ActivationExtractor(network).fit(frame)
    assert extractor.feature_names_in_.tolist() == ["width", "height"]
    assert_array_equal(extractor.transform(frame)["1"], extract(network, frame.to_numpy())["1"])
    extractor.fit({"input": frame.to_numpy()})
    assert not hasattr(extractor, "feature_names_in_")


def test_rows_of_a_loader_come_in_its_order_and_number():
    X = images(11)
    dropping = DataLoader(Rows(X), batch_size=4, drop_last=True)
    assert_same(extract(cnn(), dropping), extract(cnn(), X[:8]), rtol=1e-5, atol=1e-6)
    backwards = DataLoader(Rows(X), batch_size=4, sampler=range(10, -1, -1))
    assert_same(extract(cnn(), backwards), extract(cnn(), X[::-1]), rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize("dtype", [np.uint8, np.int32, np.int64, bool])
def test_integers_are_cast_for_a_network_that_computes_with_floats(dtype):
    X = (images(5) > 0).astype(dtype)
    expected = extract(cnn(), X.astype(np.float32))
    assert_same(extract(cnn(), X), expected)
    assert_same(extract(cnn(), torch.tensor(X)), expected)


@pytest.mark.parametrize("dtype", [np.uint8, np.int32, np.int64])
@pytest.mark.parametrize("make", [np.asarray, torch.tensor, lambda X: {"x": X}, Rows])
def test_integers_stay_what_they_are_for_an_embedding(dtype, make):
    X = np.random.default_rng(0).integers(20, size=(7, 5)).astype(dtype)
    network = TextNet()
    A = extract(network, make(X), batch_size=3)
    assert_allclose(A.logits, run(network, X.astype(np.int64)), rtol=1e-4, atol=1e-5)


class Masked(nn.Module):
    """Takes several named inputs of different kinds."""

    def __init__(self):
        super().__init__()
        self.embedding, self.relu = nn.Embedding(9, 4), nn.ReLU()

    def forward(self, words, keep, scale):
        assert (words.dtype, keep.dtype, scale.dtype) == (torch.int64, torch.bool, torch.float32)
        return self.relu(self.embedding(words).masked_fill(~keep[..., None], 0) * scale)


def test_mapping_becomes_keyword_arguments_that_keep_their_kinds():
    rng = np.random.default_rng(0)
    X = {
        "words": rng.integers(9, size=(6, 5)).astype(np.int32),
        "keep": rng.random((6, 5)) > 0.5,
        "scale": rng.random((6, 1, 1)),
    }
    extractor = ActivationExtractor(Masked(), batch_size=4).fit(X)
    A = extractor.transform(X)
    assert A["relu"].shape == (6, 5, 4)
    assert not A["relu"][~X["keep"]].any()
    assert not hasattr(extractor, "n_features_in_")


@pytest.mark.parametrize("lengths", [(3, 4), (0, 0)])
def test_mapping_of_different_lengths_is_refused(lengths):
    X = {name: vectors(n) for name, n in zip("ab", lengths, strict=True)}
    with pytest.raises(ValueError, match=f"'a': {lengths[0]}, 'b': {lengths[1]}"):
        ActivationExtractor(cnn()).fit(X)


@pytest.mark.parametrize("make", [np.asarray, torch.tensor, Rows, lambda X: {"input": X}])
@pytest.mark.parametrize("value", [np.nan, np.inf])
def test_values_that_are_not_finite_are_refused(make, value):
    X = images(11)
    X[6, 0, 3, 3] = value
    extractor = ActivationExtractor(cnn(), batch_size=4).fit(make(X))
    with pytest.raises(ValueError, match=r"contains (NaN|infinity)"):
        extractor.transform(make(X))


@pytest.mark.parametrize("make", [np.asarray, torch.tensor, Rows])
def test_another_number_of_features_is_refused(make):
    network = nn.Sequential(nn.Identity())
    extractor = ActivationExtractor(network, "0").fit(make(vectors(4, 6)))
    assert extractor.n_features_in_ == 6
    with pytest.raises(
        ValueError, match="X has 5 features, but ActivationExtractor is expecting 6"
    ):
        extractor.transform(make(vectors(4, 5)))


@pytest.mark.parametrize("X", [np.ones((0, 6)), torch.ones(0, 6), Stream([])], ids=type)
def test_no_samples_are_refused(X):
    with pytest.raises(ValueError, match=r"0 sample"):
        ActivationExtractor(nn.Sequential(nn.ReLU())).fit(X)


@pytest.mark.parametrize("X", [np.ones(3), torch.ones(3), Stream([1.0, 2.0])], ids=type)
def test_vectors_of_single_numbers_are_refused(X):
    with pytest.raises(ValueError, match="Expected 2D array, got 1D array"):
        ActivationExtractor(nn.Sequential(nn.ReLU())).fit(X)


def test_data_set_of_something_else_is_refused():
    with pytest.raises(TypeError, match=r"must yield arrays, tensors or mappings.*; got str"):
        ActivationExtractor(cnn()).fit(Stream(["a", "b"]))


@pytest.mark.parametrize("batch_size", [1, 2, 5, 11, 1000])
@pytest.mark.parametrize("reducer", [None, PoolingReducer(pooling="avg"), PercentileBinarizer()])
def test_batch_size_makes_no_difference(batch_size, reducer):
    layers = ["7"] if isinstance(reducer, PercentileBinarizer) else "auto"
    A = extract(cnn(), images(11), layers, batch_size=batch_size, reducer=reducer)
    expected = extract(cnn(), images(11), layers, batch_size=11, reducer=reducer)
    assert_same(A, expected, rtol=1e-5, atol=1e-6)


def test_network_runs_over_the_inputs_once():
    network = Counting(cnn())
    extractor = ActivationExtractor(network, batch_size=4)
    extractor.fit_transform(images(11))
    assert network.seen == [2, 4, 4, 3]
    extractor.transform(images(11))
    assert network.seen == [2, 4, 4, 3, 4, 4, 3]


def test_one_sample_is_enough():
    A = extract(cnn(), images(1))
    assert_same(A, extract(cnn(), images(11))[:1], rtol=1e-5, atol=1e-6)


class Squeezing(nn.Module):
    """Loses the axis of the samples where there is one alone."""

    def __init__(self, strict):
        super().__init__()
        torch.manual_seed(0)
        self.conv, self.pool = nn.Conv2d(1, 6, 3), nn.AdaptiveAvgPool2d(1)
        # It refuses a vector without that axis.
        self.norm = nn.BatchNorm1d(6) if strict else nn.Identity()
        self.dropout, self.out = nn.Dropout(), nn.Linear(6, 3)

    def forward(self, x):
        x = self.norm(self.pool(F.relu(self.conv(x))).squeeze())
        return self.out(self.dropout(torch.tanh(x)))


@pytest.mark.parametrize("strict", [False, True])
@pytest.mark.parametrize("n_samples", [1, 9])
@pytest.mark.parametrize(
    "params",
    [
        {},
        {"reducer": PoolingReducer(pooling=["max", "avg"])},
        {"gradients": True},
        {"perturbation": ODIN()},
        {"n_passes": 2, "random_state": 0},
    ],
    ids=str,
)
def test_network_that_squeezes_is_read_one_by_one_too(strict, n_samples, params):
    network, X = Squeezing(strict), images(9)
    whole = extract(network, X, "all", **params)
    extractor = ActivationExtractor(network, "all", batch_size=4, **params).fit(X)
    A = extractor.transform(X[:n_samples])
    assert A.logits.shape == (n_samples, 3)
    for name in set(A.layer_names) - {"passes"}:
        assert_allclose(A[name], whole[name][:n_samples], rtol=1e-4, atol=1e-6)
    assert_allclose(A.logits, whole.logits[:n_samples], rtol=1e-4, atol=1e-6)
    assert_array_equal(A.predictions, whole.predictions[:n_samples])


class Losing(nn.Module):
    """Has logits for some inputs only."""

    def __init__(self, lost):
        super().__init__()
        self.out, self.lost = nn.Linear(6, 3), lost

    def forward(self, x):
        logits = self.out(F.relu(x))
        return logits if x.sum() < 100 else self.lost(logits)


LOST = {
    "one column": lambda z: z[:, :1],
    "fewer classes": lambda z: z[:, :2],
    "vector": lambda z: z.flatten(),
    "nothing": lambda z: None,
}


@pytest.mark.parametrize("lost", LOST.values(), ids=LOST)
@pytest.mark.parametrize("n_samples", [1, 4])
def test_logits_are_never_lost_in_silence(lost, n_samples):
    extractor = ActivationExtractor(Losing(lost)).fit(vectors())
    with pytest.raises(ValueError, match=rf"3 logits .* fit, but .* a batch of {n_samples}: does"):
        extractor.transform(np.full((n_samples, 6), 100, np.float32))


PACKED = nn.utils.rnn.pack_sequence([torch.ones(3, 4), torch.ones(2, 4)])
MISTAKEN = {
    "packed": (PACKED, "A PackedSequence has no row"),
    "loader of packed": (DataLoader([PACKED], batch_size=None), "A PackedSequence has no row"),
    "pairs of packed": (DataLoader([(PACKED, 1)], batch_size=None), "A PackedSequence has no row"),
    "mapping of packed": ({"x": PACKED}, "A PackedSequence has no row"),
    "option": ({"x": np.ones((3, 2)), "fast": False}, "'fast' must have a value for each sample"),
    "no mask": ({"x": np.ones((3, 2)), "mask": None}, "'mask' must have a value for each sample"),
    "text": ({"x": np.ones((2, 2)), "text": ["a", "b"]}, "'text' must be numbers, got str such as"),
    "loader of text": (
        DataLoader([{"x": torch.ones(2), "text": "a"}] * 2, batch_size=2),
        "'text' must be numbers, got str such as 'a'",
    ),
    "tuple": ((np.ones((4, 2)), np.ones((4, 3))), r"shapes \[\(4, 2\), \(4, 3\)\].*pass a mapping"),
    "tuple of equals": ((torch.ones(4, 2), torch.ones(4, 2)), "tuple of arrays .*pass a mapping"),
    "list": ([np.ones((4, 2)), np.ones((2, 2))], "list of arrays .*pass a mapping"),
    "rows of mappings": (
        [{"x": 1}, {"x": 2}],
        r"keys \['x'\], is no mapping of arrays: pass",
    ),
}


@pytest.mark.parametrize(("X", "message"), MISTAKEN.values(), ids=MISTAKEN)
def test_what_would_be_mistaken_for_an_array_is_refused(X, message):
    with pytest.raises(TypeError, match=message):
        ActivationExtractor(nn.Sequential(nn.ReLU())).fit(X)


@pytest.mark.parametrize(
    ("X", "error", "message"),
    [
        ([[1.0, 2.0], [1.0]], ValueError, "list of lists of different lengths, such as 2 and 1"),
        ({"x": [[1.0, 2.0], [1.0]]}, ValueError, "'x' hold values of different lengths, such as 2"),
        ({"x": np.ones((2, 2)), "y": {"z": 1}}, TypeError, "'y' must have a value for each sample"),
        ({"x": [1.0, None]}, TypeError, "'x' must be numbers, got NoneType such as None"),
        ({"x": torch.tensor(1.0)}, TypeError, "'x' must have a value for each sample"),
        (
            [(np.ones(2), 1)] * 2,
            TypeError,
            r"tuples of \['ndarray', 'int'\] are no array: pass a D",
        ),
        ([PACKED, PACKED], TypeError, "A PackedSequence has no row"),
        ({"x": [PACKED]}, TypeError, "A PackedSequence has no row"),
        (iter([[PACKED]]), TypeError, "A PackedSequence has no row"),
        (torch.eye(3).to_sparse(), TypeError, "A sparse tensor has no plain row"),
        (np.ma.masked_array(np.ones((2, 2)), [[0, 1], [0, 0]]), ValueError, "masked"),
        (np.array([np.ones(2), np.ones(3)], dtype=object), TypeError, "list of arrays of the shap"),
    ],
)
def test_what_has_no_shape_is_refused(X, error, message):
    with pytest.raises(error, match=message):
        ActivationExtractor(nn.Sequential(nn.ReLU())).fit_transform(X)


@pytest.mark.parametrize("library", ["pandas", "polars"])
def test_columns_of_text_in_a_data_frame_are_named(library):
    frames = pytest.importorskip(library)
    frame = frames.DataFrame({"size": [1.0, 2.0], "name": ["a", "b"]})
    with pytest.raises(ValueError, match=r"The columns \['name'\] of X must be numbers: leave"):
        ActivationExtractor(nn.Sequential(nn.ReLU())).fit(frame)


@pytest.mark.parametrize("kind", [list, tuple])
def test_rows_may_come_in_a_sequence(kind):
    X = vectors()
    assert_same(extract(Squares(), kind(X)), extract(Squares(), X))
    assert_same(extract(Squares(), kind(map(torch.tensor, X))), extract(Squares(), X))


class Squares(nn.Sequential):
    def __init__(self):
        torch.manual_seed(0)
        super().__init__(nn.Linear(6, 5), nn.ReLU(), nn.Linear(5, 3))


def test_data_set_whose_first_items_are_numbers_is_refused_by_their_shape():
    data = TensorDataset(torch.arange(20), torch.randn(20, 6))
    with pytest.raises(ValueError, match=r"the first item .* yields has shape \(20,\); inputs"):
        ActivationExtractor(Squares()).fit(data)
    with pytest.raises(ValueError, match=r"X has shape \(6,\); inputs need at least two dimens"):
        ActivationExtractor(Squares()).fit(torch.ones(6))
