"""Networks that fail on their inputs: what the error says."""

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from _networks import (
    Returning,
    cnn,
    extract,
    images,
    run,
    trained_perceptron,
    untouched,
    vectors,
)
from numpy.testing import assert_allclose
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import FunctionTransformer
from torch import nn
from torch.utils.data import DataLoader, Dataset, IterableDataset, Sampler, Subset

from skood import ActivationExtractor, make_monitor
from skood.extraction import ODIN, InputError

pytestmark = pytest.mark.filterwarnings("ignore::skood.calibration.UncalibratedWarning")


class ChannelsLast(nn.Module):
    def __init__(self):
        super().__init__()
        self.features = cnn()

    def forward(self, x):
        return self.features(x.permute(0, 3, 1, 2))


def perceptron(n_features=64):
    return nn.Sequential(nn.Linear(n_features, 5), nn.ReLU(), nn.Linear(5, 3))


def recurrent():
    return nn.Sequential(nn.Conv1d(4, 5, 1), nn.ReLU(), nn.AdaptiveAvgPool1d(1), nn.Flatten())


GREY = images(11)
COLOUR = np.repeat(GREY, 3, axis=1)


def colourful():
    network = cnn()
    network[0] = nn.Conv2d(3, 4, 3)
    return network


LAID_OUT = {
    "channels last": (cnn, GREY.transpose(0, 2, 3, 1), "X.transpose(0, 3, 1, 2)", "(NHWC)"),
    "channels first": (ChannelsLast, GREY, "X.transpose(0, 2, 3, 1)", "(NCHW)"),
    "colours last": (colourful, COLOUR.transpose(0, 2, 3, 1), "X.transpose(0, 3, 1, 2)", "(NHWC)"),
    "no channels": (cnn, GREY[:, 0], "X[:, None]", "without an axis of channels"),
    "one grey image": (cnn, GREY[0, 0], "X[None, None]", "one sample"),
    "one image": (colourful, COLOUR[0], "X[None]", "one sample"),
    "vectors": (cnn, GREY.reshape(11, 64), "X.reshape(-1, 1, 8, 8)", "images as vectors"),
    "images": (perceptron, GREY, "X.reshape(len(X), -1)", "the network takes vectors"),
    "time first": (
        recurrent,
        vectors(35).reshape(7, 5, 6)[:, :, :4],
        "X.transpose(0, 2, 1)",
        "axes",
    ),
}


@pytest.mark.parametrize(("network", "X", "code", "what"), LAID_OUT.values(), ids=LAID_OUT)
def test_fit_names_the_change_on_which_the_network_runs(network, X, code, what):
    network = network().eval()
    with untouched(network), pytest.raises(ValueError, match="failed on inputs of shape") as caught:
        ActivationExtractor(network).fit(X)
    message = str(caught.value)
    assert f"runs on {code}, so pass that" in message
    assert what in message
    assert isinstance(caught.value.__cause__, RuntimeError)
    assert str(caught.value.__cause__) in message
    # The advice holds.
    changed = eval(code, {"X": X})
    assert_allclose(extract(network, changed).logits, run(network, changed), atol=1e-5)


def test_change_is_in_the_words_of_torch():
    X = torch.tensor(GREY).permute(0, 2, 3, 1)
    with pytest.raises(ValueError, match=r"runs on X\.permute\(0, 3, 1, 2\)"):
        ActivationExtractor(cnn()).fit(X)
    with pytest.raises(ValueError, match=r"runs on X\['input'\]\.permute\(0, 3, 1, 2\)"):
        ActivationExtractor(cnn()).fit({"input": X})


@pytest.mark.parametrize(
    ("X", "message"),
    [
        (GREY.transpose(0, 2, 3, 1), r"channels last \(NHWC\). Pass X.transpose\(0, 3, 1, 2\)"),
        (GREY[0], r"one sample, .* Pass X\[None\]"),
        (GREY[:, 0], r"grey images, .* Pass X\[:, None\]"),
        (GREY[:, :, :, :1, None], r"shape \(11, 1, 8, 1, 1\), .* \(n_samples, 1, 8, 8\): bring"),
        (GREY.repeat(2, axis=1), r"\(11, 2, 8, 8\), but in fit .* \(n_samples, 1, 8, 8\): bring"),
        (torch.tensor(GREY).permute(0, 2, 3, 1), r"Pass X.permute\(0, 3, 1, 2\)"),
    ],
)
def test_inputs_unlike_those_of_fit_are_refused(X, message):
    monitor = make_monitor(cnn()).fit(GREY)
    with pytest.raises(ValueError, match=message):
        monitor.predict(X)


def test_part_that_fails_is_named_with_what_came_and_what_fit_saw():
    extractor = ActivationExtractor(cnn()).fit(GREY)
    with pytest.raises(ValueError, match="failed") as caught:
        extractor.transform(np.zeros((4, 1, 10, 10), np.float32))
    assert str(caught.value).startswith(
        "The network failed on inputs of shape (4, 1, 10, 10): its module '6', a "
        "Linear(in_features=96, out_features=10, bias=True), was given the shape (4, 216). In fit, "
        "it ran on inputs of shape (n_samples, 1, 8, 8). The error was RuntimeError: mat1 and mat2"
    )


@pytest.mark.parametrize("params", [{"gradients": True}, {"perturbation": ODIN()}])
def test_failures_with_gradients_are_explained_too(params):
    extractor = ActivationExtractor(cnn(), **params).fit(GREY)
    with pytest.raises(ValueError, match=r"its module '6', a Linear.*was given the shape"):
        extractor.transform(np.zeros((4, 1, 10, 10), np.float32))


def test_failure_in_a_forward_is_named_by_its_line():
    class Picky(nn.Module):
        def forward(this, x):  # noqa: N805 - its name is nobody's business
            assert x.shape[1] == 5, "five features"
            return x

    network = nn.Sequential(perceptron(6), Picky())
    with pytest.raises(
        ValueError,
        match=r"its module '1', a Picky, was given the shape \(2, 3\).*"
        "AssertionError: five features",
    ):
        ActivationExtractor(network).fit(vectors())


@pytest.mark.parametrize("name", ["0", "1", "nonexistent"])
def test_head_that_is_refused_is_no_failure_of_the_network(name):
    network = nn.Sequential(nn.Linear(6, 8), nn.ReLU(), nn.Linear(8, 3))
    with pytest.raises(ValueError, match=f"^head='{name}' ") as caught:
        ActivationExtractor(network, head=name).fit(np.ones((5, 6), np.float32))
    assert not isinstance(caught.value, RuntimeError)


def test_names_of_inputs_that_a_network_takes_are_listed():
    network = Returning(lambda logits: logits)
    with pytest.raises(ValueError, match=r"takes the inputs \['x'\].*argument 'index'"):
        ActivationExtractor(network).fit({"x": vectors(), "index": np.arange(11)})


def test_one_input_needs_no_name_and_labels_are_not_passed():
    network, X = Returning(lambda logits: logits), vectors()
    A = extract(network, {"pixels": X, "label": np.arange(11)})
    assert_allclose(A.logits, run(network, X), rtol=1e-5, atol=1e-6)
    assert A.labels.tolist() == list(range(11))


class OfFour(nn.Module):
    """Written for batches of one size."""

    def __init__(self):
        super().__init__()
        torch.manual_seed(0)
        self.fc, self.out = nn.Linear(6, 5), nn.Linear(5, 3)

    def forward(self, x):
        return self.out(F.relu(self.fc(x.view(4, 6))))


@pytest.mark.parametrize("n_samples", [1, 3, 4, 11, 12])
@pytest.mark.parametrize("params", [{}, {"gradients": True}, {"perturbation": ODIN()}], ids=str)
def test_network_for_batches_of_one_size_is_read_in_these(n_samples, params):
    network, X = OfFour(), vectors(12)
    extractor = ActivationExtractor(network, batch_size=4, **params).fit(X)
    A = extractor.transform(X[:n_samples])
    whole = extractor.transform(X)
    expected = np.concatenate([run(network, X[rows : rows + 4]) for rows in (0, 4, 8)])
    if not params.get("perturbation"):
        assert_allclose(A.logits, expected[:n_samples], rtol=1e-5, atol=1e-6)
    assert_allclose(A["relu"], whole["relu"][:n_samples], rtol=1e-5, atol=1e-6)


def test_size_of_batches_that_a_network_takes_is_named():
    with pytest.raises(ValueError, match="runs on batches of 4 and not of 2: pass batch_size=4"):
        ActivationExtractor(OfFour()).fit(vectors())
    extractor = ActivationExtractor(OfFour(), batch_size=4).fit(vectors())
    with pytest.raises(ValueError, match=r"In fit, it ran on inputs of .* in batches of 4"):
        extractor.set_params(batch_size=5).transform(vectors())


@pytest.mark.parametrize(
    ("value", "kind"), [(np.nan, "NaN"), (np.inf, "infinity"), (-np.inf, "infinity")]
)
@pytest.mark.parametrize("make", [np.asarray, torch.tensor, lambda X: {"x": X}])
def test_samples_that_are_not_finite_are_named(make, value, kind):
    X = vectors()
    X[7, 3] = X[5, 2] = value
    of = " of 'x'" if isinstance(make(X), dict) else ""
    extractor = ActivationExtractor(Returning(lambda logits: logits), batch_size=4)
    with pytest.raises(ValueError, match=f"X{of} contains {kind} in sample 5 and 1 more of its"):
        extractor.fit_transform(make(X))


class Stopping(nn.Module):
    """Asks an iterator for more than it has, for some inputs."""

    def __init__(self, n=64):
        super().__init__()
        self.inner = perceptron(n)

    def forward(self, x):
        if x[0, 0] > 5:
            next(iter(()))
        return self.inner(x)


STOPS = np.full((300, 64), 9, np.float32)
FINE = np.random.default_rng(0).normal(size=(300, 64)).astype(np.float32)


@pytest.mark.parametrize("n_rows", [1, 300])
@pytest.mark.parametrize("is_open", [False, True])
def test_a_network_that_raises_what_ends_a_loop(n_rows, is_open):
    with pytest.raises(InputError, match=r"failed at `next\(iter\(\(\)\)\)`.* was StopIteration"):
        make_monitor(Stopping().eval()).fit(STOPS)
    monitor = make_monitor(Stopping().eval()).fit(FINE)
    if is_open:
        monitor.open()
    for _ in range(2):
        with pytest.raises(InputError, match="StopIteration") as caught:
            list(map(monitor.predict, [STOPS[:n_rows]]))
        assert isinstance(caught.value.__cause__, StopIteration)
        monitor.predict(FINE[:n_rows])
    monitor.close()


@pytest.mark.parametrize("n_rows", [1, 300])
def test_a_step_that_raises_what_ends_a_loop(n_rows):
    def refuse(rows):
        return next(iter(())) if (rows > 5).any() else rows

    network = trained_perceptron(FINE, FINE[:, 0] > 0)
    monitor = make_monitor(make_pipeline(FunctionTransformer(refuse), network)).fit(FINE)
    monitor.predict(FINE[:1])
    with pytest.raises(RuntimeError, match=r"step 'functiontransformer' .* raised StopIteration"):
        list(map(monitor.predict, [STOPS[:n_rows]]))


class Ending(Dataset):
    """Raises what ends a loop at one of its items."""

    def __len__(self):
        return 300

    def __getitem__(self, item):
        return FINE[item] if item < 150 else next(iter(()))


@pytest.mark.parametrize("batch_size", [16, None])
def test_rows_are_not_lost_where_a_data_set_raises_what_ends_a_loop(batch_size):
    X = Ending() if batch_size is None else DataLoader(Ending(), batch_size)
    with pytest.raises(RuntimeError, match=r"ended after \d of \d+ batches: .*StopIteration"):
        make_monitor(perceptron().eval()).fit(X)
    extractor = ActivationExtractor(perceptron().eval()).fit(FINE)
    with pytest.raises(RuntimeError, match="StopIteration"):
        extractor.transform(X)
    assert len(extractor.transform(DataLoader(Subset(Ending(), range(140)), 16))) == 140


class Short(IterableDataset):
    """Says that it has 300 rows, and yields 100; or ends before it has begun."""

    def __init__(self, begins=True):
        self.begins = begins

    def __len__(self):
        return 300

    def __iter__(self):
        return iter(FINE[:100]) if self.begins else next(iter(()))


class ShortBatches(Sampler):
    def __len__(self):
        return 3

    def __iter__(self):
        return iter([range(50), range(50, 100)])


@pytest.mark.filterwarnings("ignore:The rows are in the order")
@pytest.mark.parametrize(
    "X",
    [Short(), DataLoader(Short(), 50), DataLoader(FINE, batch_sampler=ShortBatches())],
    ids=["stream", "loader of a stream", "batches"],
)
def test_less_than_a_length_of_the_user_is_warned_of(X):
    extractor = ActivationExtractor(perceptron().eval()).fit(FINE)
    with pytest.warns(UserWarning, match=r"ended after \d of \d+ batches"):
        assert len(extractor.transform(X)) == 100


@pytest.mark.parametrize("in_loader", [False, True])
def test_a_stream_that_ends_before_it_begins_ends_no_loop(in_loader):
    X = Short(begins=False)
    extractor = ActivationExtractor(perceptron().eval()).fit(FINE)
    with pytest.raises(RuntimeError, match="StopIteration"):
        list(map(extractor.transform, [DataLoader(X, 50) if in_loader else X]))
