"""Passes with dropout in extraction."""

import copy

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from _networks import (
    N_CLASSES,
    Counting,
    Rows,
    cnn,
    extract,
    images,
    run,
    trained_perceptron,
    untouched,
    vectors,
)
from numpy.testing import assert_allclose, assert_array_equal
from sklearn.base import clone
from sklearn.pipeline import make_pipeline
from torch import nn
from torch.utils.data import DataLoader

from skood import ActivationExtractor, Activations, PoolingReducer
from skood.activations import Column
from skood.detectors import EnergyDetector, MCDropoutDetector
from skood.extraction import ODIN
from skood.preprocessing import LayerSelector

X = images()


def passes(network, X=X, n_passes=5, random_state=0, **params):
    """The layer of passes, by a new extractor."""
    return extract(network, X, n_passes=n_passes, random_state=random_state, **params)["passes"]


def with_dropout(dropout, *, dtype=torch.float32):
    """A small network around a dropout layer."""
    torch.manual_seed(0)
    return nn.Sequential(nn.Linear(6, 20), nn.ReLU(), dropout, nn.Linear(20, 3)).to(dtype)


def test_passes_are_a_layer_beside_all_that_there_is_without_them():
    network = cnn()
    plain = extract(network, X)
    A = extract(network, X, n_passes=5, random_state=0)
    assert A.layer_names == (*plain.layer_names, "passes")
    assert A["passes"].shape == (len(X), 5, N_CLASSES)
    assert A["passes"].dtype == np.float32
    for name in plain.layer_names:
        assert_array_equal(A[name], plain[name])
    assert_array_equal(A.logits, plain.logits)
    assert_array_equal(A.predictions, plain.predictions)
    assert A.head.input_layer == plain.head.input_layer


def test_passes_differ_from_each_other_and_from_the_logits():
    A = extract(cnn(), X, n_passes=5, random_state=0)
    columns = [A.logits, *A["passes"].swapaxes(0, 1)]
    for i, one in enumerate(columns):
        for other in columns[:i]:
            assert (one != other).any()


def test_a_pass_is_the_network_with_its_dropout_layers_in_training_mode():
    network = with_dropout(nn.Dropout(0.5))
    rows = vectors(1)
    hidden = run(network[:2], rows)
    weight, bias = network[3].weight, network[3].bias
    # Of 20 units, each is left out or doubled: the logits must be those of one such choice.
    found = torch.as_tensor(passes(network, rows, n_passes=3)[0])
    for logits in found:
        kept = hidden[0] > 0
        effect = 2 * hidden[0, kept] * weight[:, kept]
        choices = torch.cartesian_prod(*[torch.tensor([0.0, 1.0])] * int(kept.sum()))
        reachable = choices @ effect.T + bias
        assert (reachable - logits).abs().max(dim=1).values.min() < 1e-5


def test_mean_of_many_passes_of_a_linear_ending_is_the_logits():
    network = with_dropout(nn.Dropout(0.3))
    A = extract(network, vectors(4), n_passes=4000, random_state=0)
    error = A["passes"].std(axis=1) / np.sqrt(4000)
    assert (np.abs(A["passes"].mean(axis=1) - A.logits) < 5 * error).all()


@pytest.mark.parametrize(
    "dropout",
    [nn.Dropout(), nn.AlphaDropout(), nn.FeatureAlphaDropout(), nn.Dropout(0.3, inplace=True)],
    ids=["plain", "alpha", "feature alpha", "in place"],
)
def test_each_kind_of_dropout_of_vectors_is_active(dropout):
    assert passes(with_dropout(dropout), vectors()).std(axis=1).min() > 0


@pytest.mark.parametrize("kind", [nn.Dropout1d, nn.Dropout2d, nn.Dropout3d])
def test_each_kind_of_dropout_of_maps_is_active(kind):
    n_axes = int(kind.__name__[-2])
    conv = getattr(nn, f"Conv{n_axes}d")(1, 40, 1)
    network = nn.Sequential(conv, kind(), nn.ReLU(), nn.Flatten(), nn.Linear(40 * 2**n_axes, 3))
    X = np.random.default_rng(0).normal(size=(5, 1, *[2] * n_axes)).astype(np.float32)
    assert passes(network, X).std(axis=1).min() > 0


def test_without_anything_left_out_the_passes_are_the_logits():
    A = extract(with_dropout(nn.Dropout(0)), vectors(), n_passes=4, random_state=0)
    for one in A["passes"].swapaxes(0, 1):
        assert_array_equal(one, A.logits)


class EverythingElse(nn.Module):
    """Has, beside a dropout layer that leaves nothing out, all that acts in training mode."""

    def __init__(self):
        super().__init__()
        torch.manual_seed(0)
        self.fc, self.norm, self.relu = nn.Linear(6, 8), nn.BatchNorm1d(8), nn.ReLU()
        self.attention = nn.MultiheadAttention(8, 2, dropout=0.5, batch_first=True)
        self.recurrent = nn.GRU(8, 8, 2, dropout=0.5, batch_first=True)
        self.leaky, self.dropout, self.out = nn.RReLU(), nn.Dropout(0), nn.Linear(8, 3)

    def forward(self, x):
        x = F.dropout(self.relu(self.norm(self.fc(x))), training=self.training)[:, None]
        x = self.recurrent(self.attention(x, x, x)[0])[0][:, 0]
        return self.out(self.dropout(self.leaky(x)))


def test_nothing_but_dropout_layers_is_in_training_mode():
    network = EverythingElse()
    with untouched(network):
        A = extract(network, vectors(), n_passes=3, random_state=0)
    for one in A["passes"].swapaxes(0, 1):
        assert_allclose(one, A.logits, rtol=1e-6, atol=1e-7)


def test_same_random_state_gives_same_passes():
    network, twin = cnn(), cnn()
    assert_array_equal(passes(network), passes(twin))
    assert (passes(network) != passes(network, random_state=1)).any()
    extractor = ActivationExtractor(network, n_passes=5, random_state=0).fit(X)
    assert_array_equal(extractor.transform(X)["passes"], extractor.transform(X)["passes"])


def test_global_random_state_makes_no_difference():
    torch.manual_seed(1)
    one = passes(cnn())
    torch.manual_seed(2)
    torch.rand(5)
    assert_array_equal(passes(cnn()), one)


def test_without_a_random_state_every_call_differs_even_for_equal_global_states():
    def draw():
        network = cnn()
        np.random.seed(0)  # noqa: NPY002
        return passes(network, random_state=None)

    assert (draw() != draw()).any()


def test_random_state_instance_goes_on_from_call_to_call():
    extractor = ActivationExtractor(cnn(), n_passes=5, random_state=np.random.RandomState(0))
    extractor.fit(X)
    first = extractor.transform(X)["passes"]
    assert (extractor.transform(X)["passes"] != first).any()
    again = extractor.set_params(random_state=np.random.RandomState(0)).transform(X)
    assert_array_equal(again["passes"], first)


def test_more_passes_begin_with_the_same_ones():
    whole = passes(cnn(), n_passes=9, batch_size=20)
    assert_array_equal(passes(cnn(), n_passes=4, batch_size=20), whole[:, :4])


def test_batches_draw_numbers_of_their_own():
    same = np.repeat(vectors(1), 8, axis=0)
    found = passes(with_dropout(nn.Dropout()), same, batch_size=4)
    assert (found[:4] != found[4:]).any()
    assert (found[0] != found[1]).any()


def test_loaders_give_what_arrays_give():
    loader = DataLoader(Rows(X), batch_size=4)
    assert_array_equal(passes(cnn(), loader), passes(cnn(), batch_size=4))


@pytest.mark.parametrize("random_state", [0, None])
def test_network_and_random_states_are_left_as_they_were(random_state):
    network = cnn().train()
    network[3].eval()
    extractor = ActivationExtractor(
        network, "all", n_passes=3, random_state=random_state, batch_size=4
    )
    with untouched(network):
        extractor.fit(X)
        extractor.transform(X)
        clone(extractor).fit_transform(X)


class FailingInTraining(nn.Dropout):
    """Draws a number and fails in training mode."""

    def forward(self, x):
        if self.training:
            torch.rand(1)
            raise RuntimeError("out of order")
        return x


def test_network_is_left_as_it_was_when_a_pass_fails():
    network = nn.Sequential(nn.Dropout(), with_dropout(FailingInTraining()))
    network[0].eval()
    with untouched(network), pytest.raises(RuntimeError, match="out of order"):
        passes(network, vectors())


def test_reducer_is_not_given_the_passes():
    expected = passes(cnn(), batch_size=4)
    for reducer in (PoolingReducer(pooling=["max", "avg"]), LayerSelector(layers="1")):
        A = extract(
            cnn(), X, reducer=reducer, n_passes=5, random_state=0, batch_size=4, layers=["1", "4"]
        )
        assert A.layer_names[-1] == "passes"
        assert_array_equal(A["passes"], expected)


def test_rows_and_files_keep_the_passes(tmp_path):
    A = extract(cnn(), X, n_passes=5, random_state=0)
    A[3:7].save(tmp_path / "A")
    loaded = Activations.load(tmp_path / "A")
    assert_array_equal(loaded["passes"], A["passes"][3:7])
    assert LayerSelector(layers="passes").fit_transform(A).layer_names == ("passes",)


def test_gradients_and_passes_go_together():
    A = extract(cnn(), X, n_passes=5, random_state=0, gradients=True, layers=["7"])
    assert A.layer_names == ("7", "7:gradient", "passes")
    assert_array_equal(A["passes"], passes(cnn()))


def test_perturbed_inputs_are_those_of_the_passes():
    network = with_dropout(nn.Dropout(0))
    A = extract(network, vectors(), n_passes=2, random_state=0, perturbation=ODIN(0.5))
    assert_array_equal(A["passes"][:, 0], A.logits)
    assert (A.logits != extract(network, vectors()).logits).any()


def test_double_and_half_precision():
    network = with_dropout(nn.Dropout(), dtype=torch.float64)
    assert passes(network, vectors()).dtype == np.float64
    network = with_dropout(nn.Dropout(), dtype=torch.bfloat16)
    assert passes(network, vectors()).dtype == np.float32


def test_network_without_dropout_layers_is_refused():
    network = with_dropout(nn.Identity())
    with untouched(network), pytest.raises(ValueError, match=r"n_passes=5 needs .* AlphaDropout"):
        passes(network, vectors())


def test_network_without_logits_is_refused():
    network = nn.Sequential(nn.Conv2d(1, 2, 3), nn.ReLU(), nn.Dropout())
    with pytest.raises(ValueError, match="n_passes=5 needs the logits of a classifier"):
        passes(network)


def test_perceptron_of_scikit_learn_is_refused():
    network = trained_perceptron(vectors(), np.arange(11) % 3)
    with pytest.raises(ValueError, match="MLPClassifier has none"):
        passes(network, vectors())


def test_layer_of_the_network_with_the_same_name_keeps_it():
    torch.manual_seed(0)
    network = nn.Sequential()
    for name, module in {"passes": nn.ReLU(), "drop": nn.Dropout(), "fc": nn.Linear(6, 3)}.items():
        network.add_module(name, module)
    extractor = ActivationExtractor(network, ["passes"], n_passes=5, random_state=0)
    A = extractor.fit_transform(vectors())
    assert A.layer_shapes == {"passes": (6,), "passes_2": (5, 3)}
    assert [column.kind for column in A.columns if column.role == "layer"] == ["value", "pass"]
    assert_array_equal(A["passes"], np.maximum(vectors(), 0))
    assert_array_equal(A["passes_2"], passes(network, vectors(), layers="drop"))
    alone = Activations({"any": Column(A["passes_2"], kind="pass")})
    expected = MCDropoutDetector(statistic="variance").fit(alone)
    detector = MCDropoutDetector(statistic="variance").fit(A)
    assert_array_equal(detector.training_scores_, expected.training_scores_)


@pytest.mark.parametrize("n_passes", [0, 2.5])
def test_number_of_passes_must_be_a_positive_integer(n_passes):
    with pytest.raises(ValueError, match="n_passes"):
        passes(cnn(), n_passes=n_passes)


def test_skorch_net_gives_what_its_module_gives():
    skorch = pytest.importorskip("skorch")
    torch.manual_seed(0)
    net = skorch.NeuralNetClassifier(
        with_dropout(nn.Dropout()), criterion=nn.CrossEntropyLoss, max_epochs=1, verbose=0
    )
    net.set_params(train_split=None).fit(vectors(), np.arange(11) % 3)
    net.module_.train()
    with untouched(net.module_):
        found = passes(net, vectors())
    assert_array_equal(found, passes(net.module_, vectors()))


def test_extracted_passes_are_selected_and_not_reduced():
    network = cnn()
    params = {"reducer": PoolingReducer(pooling="max"), "n_passes": 5, "random_state": 0}
    extractor = ActivationExtractor(network, ["1", "4"], **params).fit(X)
    A = ActivationExtractor(network, n_passes=5, random_state=0).fit_transform(X)
    expected = extractor.transform(X)
    for found in (
        extractor.transform(A),
        clone(extractor).fit_transform(A),
        extractor.transform(expected),
    ):
        assert found.layer_names == ("1", "4", "passes")
        for name, array in expected.items():
            assert_array_equal(found[name], array)


def test_extracted_passes_are_left_where_they_are_not_wanted():
    A = extract(cnn(), X, n_passes=5, random_state=0)
    reduced = ActivationExtractor(cnn(), reducer=PoolingReducer(pooling="max")).fit_transform(A)
    assert reduced.layer_names == ("1", "4", "7")


def test_activations_without_the_passes_are_refused():
    A = extract(cnn(), X, n_passes=5, random_state=0)
    with pytest.raises(ValueError, match=r"no layers \['passes'\]"):
        ActivationExtractor(cnn(), n_passes=5).fit(A[["1", "4"]])
    with pytest.raises(ValueError, match="n_passes=6, but the layer 'passes' of X has 5"):
        ActivationExtractor(cnn(), n_passes=6).fit(A)


def test_cache_goes_by_all_that_the_passes_depend_on(tmp_path):
    network = Counting(cnn())

    def n_runs(**params):
        params = {"n_passes": 2, "random_state": 0, "memory": str(tmp_path), **params}
        extractor = ActivationExtractor(network, **params).fit(X)
        network.seen.clear()  # a fit runs the network, too
        extractor.transform(X)
        return len(network.seen)

    assert n_runs() == 3
    assert n_runs() == 0
    assert n_runs(n_passes=3) == 4
    assert n_runs(n_passes=None) == 1
    assert n_runs(random_state=1) == 3
    assert n_runs(batch_size=6) == 6
    assert n_runs(random_state=None) == n_runs(random_state=None) == 3
    assert n_runs() == 0


@pytest.mark.skipif(not torch.cuda.is_available(), reason="no CUDA device")
def test_passes_on_another_device_are_reproducible_and_keep_its_random_state():
    torch.cuda.manual_seed(1)
    before = torch.cuda.get_rng_state()
    first = passes(cnn(), device="cuda")
    torch.cuda.manual_seed(1)
    assert_array_equal(passes(cnn(), device="cuda"), first)
    assert torch.equal(torch.cuda.get_rng_state(), before)


def test_passes_in_a_pipeline():
    extractor = ActivationExtractor(cnn(), n_passes=5, random_state=0)
    monitor = make_pipeline(extractor, MCDropoutDetector(statistic="mutual_information")).fit(X)
    copied = copy.deepcopy(monitor)
    assert_array_equal(copied.score_samples(X), monitor.score_samples(X))
    assert make_pipeline(extractor, EnergyDetector()).fit(X).score_samples(X).shape == (11,)
