"""Tokens: where their units are, what is padding, and what is pooled of them."""

import pickle

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from _networks import assert_same, extract, images, run
from numpy.testing import assert_allclose, assert_array_equal
from sklearn.pipeline import make_pipeline
from torch import nn
from torch.utils.data import DataLoader

from skood import ActivationExtractor, Activations, PoolingReducer, make_monitor
from skood.activations import Column
from skood.ensemble import AutoNAPDetector

UNITS = 6
RNG = np.random.default_rng(0)


def seeded(network):
    """Parameters that are all drawn anew, so that none is zero."""
    torch.manual_seed(0)
    for parameter in network.parameters():
        nn.init.normal_(parameter, std=0.3)
    return network.eval()


# Where the units are


class Residual(nn.Module):
    def __init__(self, inner):
        super().__init__()
        self.inner = inner

    def forward(self, x):
        return x + self.inner(x)


class Swap(nn.Module):
    def forward(self, x):
        return x.transpose(1, 2)


class Permute(nn.Module):
    def __init__(self, *axes):
        super().__init__()
        self.axes = axes

    def forward(self, x):
        return x.permute(0, *self.axes)


class Mean(nn.Module):
    def __init__(self, *axes):
        super().__init__()
        self.axes = axes

    def forward(self, x):
        return x.mean(self.axes)


class LayerNorm2d(nn.LayerNorm):
    """A norm of the channels of images, derived from the norm of vectors."""

    def forward(self, x):
        x = F.layer_norm(x.permute(0, 2, 3, 1), self.normalized_shape, self.weight, self.bias)
        return x.permute(0, 3, 1, 2)


def mlp(n_units, n_hidden):
    return [nn.Linear(n_units, n_hidden), nn.GELU(), nn.Linear(n_hidden, n_units)]


class Functional(nn.Module):
    """Products with weights that belong to no module of their own."""

    def __init__(self, product):
        super().__init__()
        self.product = product
        self.weight, self.out = nn.Parameter(torch.randn(6, 6)), nn.Linear(6, 3)

    def forward(self, x):
        return self.out(torch.tanh(self.product(x, self.weight)).mean(1))


class Attention(nn.Module):
    def __init__(self):
        super().__init__()
        self.attention, self.act = nn.MultiheadAttention(6, 2, batch_first=True), nn.Tanh()

    def forward(self, x):
        return self.act(self.attention(x, x, x)[0]).sum(1)


class Recurrent(nn.Module):
    def __init__(self):
        super().__init__()
        self.gru = nn.LSTM(6, 6, batch_first=True)

    def forward(self, x):
        return self.gru(x)[0].sum(1)


def patches():
    return nn.Sequential(nn.Conv2d(1, 6, 2, stride=2), Permute(2, 3, 1))


SEQUENCE = RNG.normal(size=(5, 6, 6)).astype(np.float32)
IMAGES = RNG.normal(size=(5, 1, 12, 12)).astype(np.float32)

AXES = {
    "transformer": (
        lambda: nn.Sequential(nn.TransformerEncoderLayer(6, 2, 12, batch_first=True), Mean(1)),
        SEQUENCE,
        {"0": 2},
    ),
    "attention": (Attention, SEQUENCE, {"act": 2}),
    "recurrent": (
        Recurrent,
        SEQUENCE,
        {"gru": 2},
    ),
    "linear": (lambda: Functional(lambda x, w: F.linear(x, w)), SEQUENCE, {"tanh": 2}),
    "product": (lambda: Functional(lambda x, w: x @ w.T), SEQUENCE, {"tanh": 2}),
    "convolution over time": (
        lambda: nn.Sequential(nn.Conv1d(6, 6, 3, padding=1), nn.ReLU(), Mean(2)),
        SEQUENCE,
        {"0": 1, "1": 1},
    ),
    "mixer": (
        lambda: nn.Sequential(
            patches(),
            nn.Flatten(1, 2),
            Residual(nn.Sequential(nn.LayerNorm(6), Swap(), *mlp(36, 9), Swap())),
            Residual(nn.Sequential(nn.LayerNorm(6), *mlp(6, 36))),
            nn.LayerNorm(6),
            Mean(1),
        ),
        IMAGES,
        {"2": 2, "2.inner.3": 2, "3": 2, "3.inner.2": 2},
    ),
    "channels last": (
        lambda: nn.Sequential(
            patches(), Residual(nn.Sequential(nn.LayerNorm(6), *mlp(6, 6))), Mean(1, 2)
        ),
        IMAGES,
        {"0.0": 1, "1": 3, "1.inner.2": 3},
    ),
    "both": (
        lambda: nn.Sequential(
            nn.Conv2d(1, 6, 2, stride=2),
            Residual(
                nn.Sequential(
                    nn.Conv2d(6, 6, 3, padding=1, groups=6),
                    Permute(2, 3, 1),
                    nn.LayerNorm(6),
                    *mlp(6, 6),
                    Permute(3, 1, 2),
                )
            ),
            LayerNorm2d(6),
            nn.ReLU(),
            nn.AdaptiveAvgPool2d(1),
            nn.Flatten(),
        ),
        IMAGES,
        {"0": 1, "1": 1, "1.inner.4": 3, "2": 1, "3": 1},
    ),
    "in place": (
        lambda: nn.Sequential(
            nn.Conv2d(1, 6, 3), nn.BatchNorm2d(6), nn.ReLU(inplace=True), nn.Flatten()
        ),
        IMAGES,
        {"2": 1},
    ),
}  # fmt: skip


def axes_of(A):
    return {column.name: column.unit_axis for column in A.columns if column.role == "layer"}


@pytest.mark.parametrize(("make", "X", "expected"), AXES.values(), ids=AXES)
def test_axis_of_units(make, X, expected):
    # As many tokens as units in most of them, so that sizes alone say nothing.
    A = extract(seeded(make()), X, list(expected))
    assert axes_of(A) == expected


@pytest.mark.parametrize(("make", "X", "expected"), AXES.values(), ids=AXES)
@pytest.mark.parametrize("later", [False, True])
def test_pooling_is_over_all_but_samples_and_units(make, X, expected, later):
    network = seeded(make())
    unpooled = extract(network, X, list(expected))
    reducer = PoolingReducer(pooling="avg")
    A = (
        reducer.fit_transform(unpooled)
        if later
        else extract(network, X, list(expected), reducer=reducer)
    )
    for name, axis in expected.items():
        others = tuple(a for a in range(1, unpooled[name].ndim) if a != axis)
        assert_allclose(A[name], unpooled[name].mean(others), rtol=1e-4, atol=1e-5)


class OneLength(nn.Module):
    """Takes sequences of six vectors of six values only; ``compute`` makes six units of each."""

    def __init__(self, compute):
        super().__init__()
        self.compute, self.act, self.head = compute, nn.ReLU(), nn.Linear(36, 3)
        self.qkv, self.cell = nn.Linear(6, 18), nn.LSTMCell(6, 6)
        self.weight = nn.Parameter(torch.randn(6, 6))
        self.each = nn.Parameter(torch.randn(6, 6, 6))

    def forward(self, x):
        x = x.reshape(len(x), 6, 6)
        return self.head(self.act(self.compute(self, x)).flatten(1))


def attend(net, x):
    return F.scaled_dot_product_attention(*net.qkv(x).chunk(3, -1))


def attend_with_heads(net, x):
    parts = (part.unflatten(2, (2, 3)).transpose(1, 2) for part in net.qkv(x).chunk(3, -1))
    return F.scaled_dot_product_attention(*parts).transpose(1, 2).flatten(2)


def steps(net, x, axis=1):
    state, states = None, []
    for step in x.unbind(1):
        state = net.cell(step, state)
        states.append(state[0])
    return torch.stack(states, axis)


COMPUTED = {
    "attention": (attend, 2),
    "attention with heads": (attend_with_heads, 2),
    "graph": (lambda net, x: torch.einsum("ij,bjf,fg->big", net.weight, x, net.weight), 2),
    "members": (lambda net, x: torch.einsum("bi,mio->bmo", x[:, 0], net.each), 2),
    "any axes": (lambda net, x: torch.einsum("...f,fg->...g", x, net.weight), 2),
    "channels": (lambda net, x: torch.einsum("oc,bcl->bol", net.weight, x), 1),
    "steps": (steps, 2),
    "steps first": (lambda net, x: steps(net, x, 0).transpose(0, 1), 2),
    "steps last": (lambda net, x: steps(net, x, 2), 1),
}


@pytest.mark.parametrize(("compute", "axis"), COMPUTED.values(), ids=COMPUTED)
def test_axis_of_units_in_networks_of_one_length(compute, axis):
    assert axes_of(extract(seeded(OneLength(compute)), SEQUENCE, ["act"])) == {"act": axis}


def test_gradients_have_the_axis_of_their_layer():
    make, X, _ = AXES["channels last"]
    A = extract(seeded(make()), X, ["1"], gradients=True)
    assert axes_of(A) == {"1": 3, "1:gradient": 3}
    pooled = extract(
        seeded(make()), X, ["1"], gradients=True, reducer=PoolingReducer(pooling="sum")
    )
    assert_allclose(pooled["1:gradient"], A["1:gradient"].sum((1, 2)), rtol=1e-4, atol=1e-5)


class Unknown(nn.Module):
    """Tells by nothing but sizes where its units are."""

    def __init__(self, axis):
        super().__init__()
        self.weight, self.axis = nn.Parameter(torch.randn(4)), axis

    def forward(self, x):
        x = x.unsqueeze(2) * self.weight.reshape(4, 1, 1)
        x = torch.sin(x.sum(1)).movedim(1, self.axis)
        return F.relu(x).flatten(1).sum(1, keepdim=True).expand(-1, 2)


@pytest.mark.parametrize("axis", [1, 2, 3])
def test_axis_of_units_is_the_one_whose_size_stays(axis):
    assert axes_of(extract(Unknown(axis), IMAGES, ["relu"])) == {"relu": axis}


class Vectorised(nn.Module):
    """Calls a function for each row by a transformation of torch."""

    def __init__(self):
        super().__init__()
        self.inner, self.act, self.out = nn.Linear(6, 6), nn.Tanh(), nn.Linear(6, 2)

    def forward(self, x):
        x = torch.vmap(lambda row: 2 * F.linear(row, self.inner.weight) + row)(x)
        return self.out(self.act(x).mean(1))


def test_functions_that_torch_vectorises_are_no_hindrance():
    network = seeded(Vectorised())
    A = extract(network, SEQUENCE, ["act"])
    assert axes_of(A) == {"act": 2}
    assert_allclose(A.logits, run(network, SEQUENCE), rtol=1e-5, atol=1e-6)


# What is pooled

POOLINGS = ("max", "avg", "sum", "first", "last")


def by_loops(tokens, mask, pooling):
    """Pooling of (n_samples, n_tokens, n_units), token by token."""
    pooled = []
    for row, inside in zip(tokens, mask, strict=True):
        real = [token for token, is_real in zip(row, inside, strict=True) if is_real]
        functions = {"max": np.max, "avg": np.mean, "sum": np.sum}
        ends = {"first": real[0], "last": real[-1]}
        pooled.append(ends[pooling] if pooling in ends else functions[pooling](real, axis=0))
    return np.array(pooled)


TOKENS = RNG.normal(size=(5, 7, 3)).astype(np.float32)
MASKS = {
    "none": np.ones((5, 7), dtype=bool),
    "right": np.arange(7) < np.array([[7], [1], [4], [6], [2]]),
    "left": np.arange(7) >= np.array([[0], [6], [3], [1], [5]]),
    "in between": np.array([[1, 0, 1, 0, 1, 1, 0]] * 4 + [[0, 0, 1, 0, 0, 0, 0]], dtype=bool),
}


@pytest.mark.parametrize("pooling", POOLINGS)
@pytest.mark.parametrize("mask", MASKS.values(), ids=MASKS)
@pytest.mark.parametrize("unit_axis", [1, 2])
def test_padding_is_left_out(pooling, mask, unit_axis):
    column = Column(np.moveaxis(TOKENS, 2, unit_axis), unit_axis=unit_axis)
    A = Activations({"block": column, "fc": TOKENS[:, 0]}, mask=mask.astype(int))
    pooled = PoolingReducer(pooling=pooling).fit_transform(A)
    assert_allclose(pooled["block"], by_loops(TOKENS, mask, pooling), rtol=1e-5, atol=1e-6)
    assert pooled["block"].dtype == np.float32
    assert_array_equal(pooled["fc"], A["fc"])
    assert pooled.mask is None


@pytest.mark.parametrize("pooling", POOLINGS)
@pytest.mark.parametrize("dtype", [torch.float64, torch.float32, torch.float16, torch.int64])
@pytest.mark.parametrize("mask", MASKS.values(), ids=MASKS)
def test_tensors_are_pooled_as_arrays(pooling, dtype, mask):
    tokens = torch.as_tensor(3 * TOKENS).to(dtype)
    if pooling == "avg" and dtype == torch.int64 and mask.all():
        return  # torch has no mean of integers
    found = PoolingReducer(pooling=pooling).pool_tokens({"a": tokens.swapaxes(1, 2)}, mask)["a"]
    expected = by_loops(tokens.numpy().astype(float), mask, pooling)
    assert_allclose(found.double(), expected, rtol=1e-5 if dtype.itemsize > 2 else 2e-3, atol=1e-2)


@pytest.mark.parametrize("output_size", [2, 3])
@pytest.mark.parametrize("pooling", ["max", "avg", "sum"])
def test_cells_are_parts_of_what_is_no_padding(output_size, pooling):
    mask = MASKS["left"]
    A = Activations({"block": Column(TOKENS, unit_axis=2)}, mask=mask)
    reducer = PoolingReducer(pooling=pooling, output_size=output_size)
    pooled = reducer.fit_transform(A)["block"]
    for row, inside, found in zip(TOKENS, mask, pooled, strict=True):
        alone = reducer.fit_transform(row[inside].T[np.newaxis])
        assert_allclose(found, alone[0], rtol=1e-5, atol=1e-6)


def test_flatten_keeps_padding_and_other_layers_are_pooled_whole():
    others = RNG.normal(size=(5, 4, 3))
    columns = {"block": Column(TOKENS, unit_axis=2), "other": Column(others, unit_axis=2)}
    A = Activations(columns, mask=MASKS["left"])
    flat = PoolingReducer(pooling="flatten").fit_transform(A)["block"]
    assert_array_equal(flat, TOKENS.swapaxes(1, 2).reshape(5, -1))
    assert_array_equal(PoolingReducer().fit_transform(A)["other"], others.max(1))


def test_large_values_have_a_mean():
    tokens = np.full((1, 4, 1), 3e38, np.float32)
    A = Activations({"a": Column(tokens, unit_axis=2)}, mask=[[1, 1, 1, 0]])
    assert_allclose(PoolingReducer(pooling="avg").fit_transform(A)["a"], 3e38, rtol=1e-6)


@pytest.mark.parametrize("pooling", ["first", "last"])
def test_one_token_is_none_of_a_map(pooling):
    reducer = PoolingReducer(pooling=["max", pooling])
    A = Activations({"fc": np.ones((2, 3)), "conv": np.ones((2, 3, 4, 5))})
    with pytest.raises(ValueError, match=rf"'{pooling}'.*'conv' has 2 axes of space, \(4, 5\)"):
        reducer.fit_transform(A)
    network = nn.Sequential(nn.Conv2d(1, 3, 3), nn.ReLU(), nn.Flatten())
    with pytest.raises(ValueError, match="layer '1' has 2 axes of space"):
        ActivationExtractor(network, reducer=reducer).fit(images())


def test_first_and_last_step_of_time():
    X = RNG.normal(size=(4, 2, 5))
    assert_array_equal(PoolingReducer(pooling="first").fit_transform(X), X[:, :, 0])
    assert_array_equal(PoolingReducer(pooling="last").fit_transform(X), X[:, :, -1])


def test_tokens_at_fixed_places_have_a_value_each():
    grid = RNG.normal(size=(5, 2, 4, 3))
    columns = {"row": Column(TOKENS, unit_axis=2), "grid": Column(grid, unit_axis=3)}
    A = Activations({**columns, "conv": grid, "fc": TOKENS[:, 0]})
    reducer = PoolingReducer(pooling="avg", token_pooling=["max", "sum"])
    pooled = reducer.fit_transform(A)
    assert pooled.layer_names == (
        "row:avg", "row:token_max", "row:token_sum", "grid:avg", "grid:token_max",
        "grid:token_sum", "conv", "fc",
    )  # fmt: skip
    assert_array_equal(pooled["row:token_max"], TOKENS.max(2))
    assert_allclose(pooled["grid:token_sum"], grid.sum(3).reshape(5, 8))
    assert_allclose(pooled["grid:avg"], grid.mean((1, 2)))
    said = {c.name: (c.layer, c.pooling, c.unit_axis) for c in pooled.columns}
    assert said["grid:token_max"] == ("grid", "token_max", 1)
    masked = reducer.fit_transform(A.assign(mask=np.ones((5, 7))))
    assert masked.layer_names == ("row", "grid", "conv", "fc")


@pytest.mark.parametrize("token_pooling", [["median"], ["max", "max"], ["first"], "max", None])
def test_unknown_poolings_of_tokens_are_refused(token_pooling):
    with pytest.raises(ValueError, match="token_pooling"):
        PoolingReducer(token_pooling=token_pooling).fit(TOKENS)


def test_maps_may_be_of_another_size_than_in_fit():
    def build(length):
        tokens = RNG.normal(size=(4, length, 3))
        return Activations({"a": Column(tokens, unit_axis=2), "b": np.ones((4, 2, length, 2))})

    reducer = PoolingReducer(pooling=["max", "avg"]).fit(build(7))
    assert_array_equal(reducer.transform(A := build(5))["a:max"], A["a"].max(1))
    for other in (
        Activations({"a": A["a"], "b": A["b"]}),
        Activations({"a": Column(A["a"][..., :2], unit_axis=2), "b": A["b"]}),
        A[["b", "a"]],
    ):
        with pytest.raises(ValueError, match="fitted on"):
            reducer.transform(other)
    with pytest.raises(ValueError, match="fitted on"):
        PoolingReducer(pooling="flatten").fit(build(7)).transform(A)
    with pytest.raises(ValueError, match="fitted on"):
        PoolingReducer(token_pooling=["max"]).fit(build(7)).transform(A)


# Masks of Activations


def masked():
    tokens = Column(TOKENS, unit_axis=2)
    return Activations({"block": tokens}, logits=RNG.normal(size=(5, 2)), mask=MASKS["right"])


def test_activations_carry_their_mask(tmp_path):
    A = masked()
    assert A.mask.dtype == bool
    assert [column.role for column in A.columns] == ["layer", "logits", "mask"]
    rows = [3, 1, 1]
    assert_array_equal(A[rows].mask, MASKS["right"][rows])
    A[rows].save(tmp_path / "saved")
    for B in (pickle.loads(pickle.dumps(A[rows])), Activations.load(tmp_path / "saved")):
        assert_array_equal(B.mask, MASKS["right"][rows])
    assert_array_equal(A.replace({"new": TOKENS}).mask, A.mask)
    assert_array_equal(A.assign(logits=-A.logits).mask, A.mask)
    assert A.assign(mask=None).mask is None
    assert_array_equal(A[rows].assign(mask=MASKS["left"][rows]).mask, MASKS["left"][rows])
    assert "mask" in A._repr_html_()


def test_masks_are_concatenated_to_the_longest():
    A = masked()
    short = Activations({"fc": np.ones((2, 3))}, mask=[[1, 1], [1, 0]])
    long = Activations({"fc": np.ones((1, 3))}, mask=[[0, 1, 1]])
    expected = [[1, 1, 0], [1, 0, 0], [0, 1, 1]]
    assert_array_equal(Activations.concatenate([short, long]).mask, expected)
    assert_array_equal(Activations.concatenate([A, A[:2]]).mask[5:], A.mask[:2])
    with pytest.raises(ValueError, match="Some parts carry a mask of tokens"):
        Activations.concatenate([A, A.assign(mask=None)])


BAD_MASKS = {
    "no token": ([[1, 1], [0, 1], [0, 0], [0, 0], [1, 1]], "all of row 2 as padding"),
    "other values": (np.full((5, 2), 2), "hold 1 .or True. at tokens"),
    "one axis": (np.ones(5), "must have shape"),
    "three axes": (np.ones((5, 2, 2)), "must have shape"),
    "other length": (np.ones((4, 7)), "same number of samples"),
    "text": ([["a"]] * 5, "must be an array of numbers"),
}


@pytest.mark.parametrize(("mask", "message"), BAD_MASKS.values(), ids=BAD_MASKS)
def test_bad_masks_are_refused(mask, message):
    with pytest.raises(ValueError, match=message):
        masked().assign(mask=mask)


# Masks of inputs


class Text(nn.Module):
    """Reads a mask by whatever name, and honours it."""

    def __init__(self, name="attention_mask", marks_tokens=True):
        super().__init__()
        self.name, self.marks_tokens = name, marks_tokens
        self.words = nn.Embedding(20, UNITS)
        layer = nn.TransformerEncoderLayer(UNITS, 2, 12, batch_first=True)
        self.encoder = nn.TransformerEncoder(layer, 2, enable_nested_tensor=False)
        self.out = nn.Linear(UNITS, 3)

    def forward(self, words, **masks):
        mask = masks[self.name].bool()
        mask = mask if self.marks_tokens else ~mask
        x = self.encoder(self.words(words), src_key_padding_mask=~mask)
        return self.out((x * mask[..., None]).sum(1) / mask.sum(1, keepdim=True))


BLOCKS = ["encoder.layers.0", "encoder.layers.1"]


def texts(n_samples=12, length=8, name="attention_mask", marks_tokens=True, seed=0, left=False):
    rng = np.random.default_rng(seed)
    lengths = rng.integers(2, length + 1, size=(n_samples, 1))
    mask = np.arange(length) < lengths
    words = np.where(mask, rng.integers(1, 20, size=mask.shape), 0)
    if left:
        words, mask = words[:, ::-1].copy(), mask[:, ::-1].copy()
    return {"words": words, name: (mask if marks_tokens else ~mask).astype(np.int64)}


def padded(X, n_more):
    return {key: np.pad(values, [(0, 0), (0, n_more)]) for key, values in X.items()}


NAMES = {
    "attention_mask": True,
    "src_key_padding_mask": False,
    "key_padding_mask": False,
    "padding_mask": False,
}


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("as_tensors", [False, True])
@pytest.mark.parametrize("pooling", POOLINGS)
def test_masks_of_inputs_are_read(name, as_tensors, pooling):
    X = texts(name=name, marks_tokens=NAMES[name])
    mask = X[name] == NAMES[name]
    if as_tensors:
        X = {"words": torch.tensor(X["words"]), name: torch.tensor(X[name]).bool()}
    network = seeded(Text(name, NAMES[name]))
    unpooled = extract(network, X, BLOCKS, batch_size=5)
    assert_array_equal(unpooled.mask, mask)
    reducer = PoolingReducer(pooling=pooling)
    A = extract(network, X, BLOCKS, reducer=reducer, batch_size=5)
    assert A.mask is None
    for block in BLOCKS:
        expected = by_loops(unpooled[block], mask, pooling)
        assert_allclose(A[block], expected, rtol=1e-4, atol=1e-5)
    assert_same(reducer.fit_transform(unpooled), A, rtol=1e-4, atol=1e-5)
    piped = extract(network, X, BLOCKS, reducer=make_pipeline(reducer), batch_size=5)
    assert_same(piped, A, rtol=1e-4, atol=1e-5)


def test_another_mask_is_named_and_none_is_read():
    network, X = seeded(Text("inside")), texts(name="inside")
    everything = extract(network, X, BLOCKS, reducer=PoolingReducer(pooling="avg"))
    named = extract(network, X, BLOCKS, mask="inside", reducer=PoolingReducer(pooling="avg"))
    unpooled = extract(network, X, BLOCKS)
    assert unpooled.mask.all()
    for block in BLOCKS:
        assert_allclose(everything[block], unpooled[block].mean(1), rtol=1e-4, atol=1e-5)
        expected = by_loops(unpooled[block], X["inside"] == 1, "avg")
        assert_allclose(named[block], expected, rtol=1e-4, atol=1e-5)
    known = texts()
    ignored = extract(seeded(Text()), known, BLOCKS, mask=None, reducer=PoolingReducer())
    unpooled = extract(seeded(Text()), known, BLOCKS, mask=None)
    assert_allclose(ignored[BLOCKS[0]], unpooled[BLOCKS[0]].max(1), rtol=1e-4, atol=1e-5)


def test_a_mask_that_is_no_input_is_refused():
    with pytest.raises(ValueError, match=r"mask='inside'.*\['words', 'attention_mask'\]"):
        ActivationExtractor(seeded(Text()), mask="inside").fit(texts())
    with pytest.raises(ValueError, match=r"mask='inside'.*the inputs are a ndarray"):
        ActivationExtractor(nn.Sequential(nn.ReLU()), mask="inside").fit(np.ones((3, 2)))


def test_a_row_of_padding_alone_is_named():
    X = texts(12)
    X["attention_mask"][7] = 0
    extractor = ActivationExtractor(seeded(Text()), reducer=PoolingReducer(), batch_size=5)
    with pytest.raises(ValueError, match="'attention_mask' marks all of row 7 as padding"):
        extractor.fit(texts()).transform(X)


@pytest.mark.parametrize("pooling", POOLINGS)
@pytest.mark.parametrize("left", [False, True])
def test_more_padding_changes_nothing(pooling, left):
    X = texts(left=left)
    longer = {k: np.pad(v, [(0, 0), (3, 0) if left else (0, 3)]) for k, v in X.items()}
    reducer = PoolingReducer(pooling=[pooling, "max"] if pooling != "max" else "max")
    extractor = ActivationExtractor(seeded(Text()), BLOCKS, reducer=reducer).fit(X)
    assert_same(extractor.transform(longer), extractor.transform(X), rtol=1e-4, atol=1e-5)


class Shortening(Text):
    """Makes one token of each two, and then one of a window of three."""

    def __init__(self):
        super().__init__()
        self.act, self.convolve = nn.Tanh(), nn.Conv1d(UNITS, UNITS, 3)
        self.last = nn.Sequential(nn.Tanh(), nn.Linear(UNITS, 3))

    def forward(self, words, attention_mask):
        x = self.words(words) * attention_mask[..., None]
        half = self.act(F.avg_pool1d(x.swapaxes(1, 2), 2, ceil_mode=True)).swapaxes(1, 2)
        kept = F.max_pool1d(attention_mask[:, None].float(), 2, ceil_mode=True)[:, 0, :, None]
        windows = self.last[0](self.convolve(half.swapaxes(1, 2)))
        return self.out((half * kept).sum(1) / kept.sum(1)) + windows.sum(2) @ self.out.weight.T


@pytest.mark.parametrize("pooling", ["max", "avg", "last"])
@pytest.mark.parametrize("n_more", [1, 4])
def test_padding_is_left_out_where_tokens_are_halved(pooling, n_more):
    X, network = texts(length=16), seeded(Shortening())
    extractor = ActivationExtractor(network, "act", reducer=PoolingReducer(pooling=pooling)).fit(X)
    A = extractor.transform(X)
    words = network.words.weight.detach().numpy()[X["words"]] * X["attention_mask"][..., None]
    values = np.tanh(words.reshape(12, 8, 2, UNITS).mean(2))
    mask = X["attention_mask"].reshape(12, 8, 2).any(2)
    assert_allclose(A["act"], by_loops(values, mask, pooling), rtol=1e-4, atol=1e-5)
    longer = extractor.transform(padded(X, n_more))["act"]
    assert_allclose(longer, A["act"], rtol=1e-4, atol=1e-5)


def test_layers_whose_padding_is_not_known_are_named():
    X, network = texts(length=16), seeded(Shortening())
    with pytest.warns(UserWarning, match=r"layers \['last.0'\] .* the mask 'attention_mask'"):
        ActivationExtractor(network, ["act", "last.0"], reducer=PoolingReducer()).fit(X)
    with pytest.warns(UserWarning, match=r"layers \['act'\] .* reducer=PoolingReducer\(\)"):
        ActivationExtractor(network, "act").fit(X)
    ActivationExtractor(network, mask=None).fit(X)


def in_batches(X, size):
    """Batches that are cut to the longest text of each."""
    for start in range(0, len(X["words"]), size):
        rows = slice(start, start + size)
        length = X["attention_mask"][rows].sum(1).max()
        yield {key: torch.tensor(values[rows, :length]) for key, values in X.items()}


@pytest.mark.parametrize("pooling", ["max", ["avg", "first"]])
def test_batches_may_be_padded_each_to_its_own_length(pooling):
    network, X = seeded(Text()), texts(24)
    order = np.argsort(X["attention_mask"].sum(1))
    X = {key: values[order] for key, values in X.items()}
    reducer = PoolingReducer(pooling=pooling)
    expected = extract(network, X, BLOCKS, reducer=reducer)
    for order in (np.arange(24), np.arange(24)[::-1]):
        ordered = {key: values[order] for key, values in X.items()}
        loader = DataLoader(list(in_batches(ordered, 4)), batch_size=None)
        pooled = extract(network, loader, BLOCKS, reducer=reducer)
        assert_same(pooled, expected[order], rtol=1e-4, atol=1e-5)
        unpooled = extract(network, loader, BLOCKS)
        assert unpooled.layer_shapes[BLOCKS[0]] == (8, UNITS)
        assert_array_equal(unpooled.mask, ordered["attention_mask"] == 1)
        assert_same(reducer.fit_transform(unpooled), pooled, rtol=1e-4, atol=1e-5)


def test_batches_of_different_length_without_masks_are_padded_where_any_length_is_taken():
    network = seeded(nn.Sequential(nn.Linear(6, 4), nn.Tanh(), Mean(1)))
    batches = [torch.randn(3, length, 6) for length in (4, 7, 5)]
    A = extract(network, DataLoader(batches, batch_size=None), ["1"])
    assert A["1"].shape == (9, 7, 4)
    assert_array_equal(A.mask.sum(1), np.repeat([4, 7, 5], 3))
    pooled = PoolingReducer(pooling="avg").fit_transform(A)["1"]
    assert_allclose(pooled, A.logits, rtol=1e-4, atol=1e-6)


def test_a_batch_without_a_mask_has_tokens_alone():
    class Optional(Text):
        def forward(self, words, attention_mask=None):
            mask = torch.ones_like(words) if attention_mask is None else attention_mask
            return super().forward(words, attention_mask=mask)

    X = {key: torch.tensor(values) for key, values in texts(4).items()}
    batches = DataLoader([X, {"words": X["words"]}], batch_size=None)
    A = extract(seeded(Optional()), batches, BLOCKS)
    assert_array_equal(A.mask[:4], X["attention_mask"].bool())
    assert A.mask[4:].all()


# Lengths


@pytest.mark.parametrize("layers", ["auto", "penultimate"])
@pytest.mark.parametrize("wrap", ["mapping", "array"])
def test_other_lengths_than_in_fit(layers, wrap):
    network = seeded(nn.Sequential(nn.Linear(6, UNITS), nn.Tanh(), Mean(1), nn.Linear(UNITS, 3)))

    class Named(nn.Module):
        def __init__(self):
            super().__init__()
            self.inner = network

        def forward(self, x):
            return self.inner(x)

    def give(X):
        return {"x": X} if wrap == "mapping" else X

    X, shorter = (RNG.normal(size=(20, length, 6)).astype(np.float32) for length in (9, 5))
    pipeline = make_pipeline(ActivationExtractor(Named(), layers), PoolingReducer())
    for estimator in (
        make_monitor(Named(), layers=layers).fit(give(X)),
        make_pipeline(pipeline, make_monitor(Named())[-1]).fit(give(X)),
    ):
        assert estimator.predict(give(shorter)).shape == (20,)
    A = pipeline.transform(give(shorter))
    assert_allclose(A.logits, run(network, shorter), rtol=1e-4, atol=1e-5)
    if layers == "auto":
        tokens = extract(network, shorter, ["1"])["1"]
        assert_allclose(A["inner.1"], tokens.max(1), rtol=1e-4, atol=1e-5)


def test_monitors_of_texts_take_other_lengths_and_padding():
    monitor = make_monitor(seeded(Text())).fit(texts(60))
    X = texts(10, length=5, seed=1)
    scores = monitor.score_samples(X)
    assert_allclose(monitor.score_samples(padded(X, 6)), scores, rtol=1e-4, atol=1e-4)
    pooled = monitor[0].transform(X)
    assert not any("token_" in name for name in pooled.layer_names)


def test_monitors_of_images_have_a_value_of_each_token():
    make, X, _ = AXES["channels last"]
    A = make_monitor(seeded(make())).fit(X)[0].transform(X)
    unpooled = extract(seeded(make()), X, ["1"])["1"]
    assert_allclose(A["1:token_avg"], unpooled.mean(3).reshape(5, -1), rtol=1e-4, atol=1e-5)
    assert_allclose(A["1:token_max"], unpooled.max(3).reshape(5, -1), rtol=1e-4, atol=1e-5)
    convolutions = nn.Sequential(nn.Conv2d(1, 3, 3), nn.ReLU(), nn.Flatten(), nn.Linear(300, 2))
    A = make_monitor(convolutions).fit(X)[0].transform(X)
    assert A.layer_names == ("1", "penultimate")


class Waves(nn.Module):
    """A matrix of numbers is a sequence where the network takes fewer of them."""

    def __init__(self):
        super().__init__()
        self.conv, self.fc, self.out = (
            nn.Conv1d(1, 5, 4, stride=2),
            nn.Linear(5, 4),
            nn.Linear(4, 2),
        )

    def forward(self, x):
        x = torch.tanh(self.conv(x[:, None])).transpose(1, 2)
        return self.out(F.gelu(self.fc(x)).mean(1))


def test_waves_may_have_another_length_than_in_fit():
    network = seeded(Waves())
    X = RNG.normal(size=(6, 30)).astype(np.float32)
    extractor = ActivationExtractor(
        network, ["tanh", "gelu"], reducer=PoolingReducer(pooling="avg")
    )
    A = extractor.fit(X).transform(X[:, :21])
    unpooled = extract(network, X[:, :21], ["tanh", "gelu"])
    assert axes_of(unpooled) == {"tanh": 1, "gelu": 2}
    assert_allclose(A["tanh"], unpooled["tanh"].mean(2), rtol=1e-4, atol=1e-5)
    assert_allclose(A["gelu"], unpooled["gelu"].mean(1), rtol=1e-4, atol=1e-5)


def test_the_configured_monitor_leaves_padding_out():
    A = masked().assign(logits=np.tile([[0.0, 1.0]], (5, 1)))
    A = Activations.concatenate([A] * 8)
    pooled = PoolingReducer(pooling="avg").fit_transform(A)

    def scores(X, pooling="avg"):
        params = {"poolings": [pooling], "group_by": "prediction", "random_state": 0}
        return AutoNAPDetector(**params).fit(X).score_samples(X)

    assert_array_equal(scores(A), scores(pooled))
    with pytest.raises(ValueError, match="poolings must be among"):
        scores(A, "first")


def test_a_cached_result_goes_by_the_mask(tmp_path):
    X = texts()
    reducer = PoolingReducer(pooling="avg")
    found = [
        extract(seeded(Text()), X, BLOCKS, reducer=reducer, mask=mask, memory=str(tmp_path))
        for mask in ("auto", None, "auto")
    ]
    assert not np.allclose(found[0][BLOCKS[0]], found[1][BLOCKS[0]])
    assert_same(found[0], found[2])


def test_one_sample_has_its_mask():
    network, X = seeded(Text()), texts()
    extractor = ActivationExtractor(network, BLOCKS, reducer=PoolingReducer(pooling="avg")).fit(X)
    one = {key: values[3:4] for key, values in X.items()}
    assert_same(extractor.transform(one), extractor.transform(X)[[3]], rtol=1e-4, atol=1e-5)
