"""Reading skorch nets."""

import numpy as np
import pandas as pd
import pytest
import torch
from _networks import assert_same, extract, untouched
from numpy.testing import assert_allclose, assert_array_equal
from scipy.special import softmax
from sklearn.base import clone
from sklearn.exceptions import NotFittedError
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import FunctionTransformer, StandardScaler
from torch import nn
from torch.utils.data import DataLoader

from skood import ActivationExtractor, make_monitor
from skood.extraction import ODIN
from skood.networks import adapt, check_adapter

X_PLAIN = np.random.default_rng(0).normal(size=(60, 4))


class Module(nn.Module):
    """A module for skorch, with a choice of endings."""

    def __init__(self, n_outputs=3, ending=None):
        super().__init__()
        torch.manual_seed(0)
        self.hidden, self.relu = nn.Linear(4, 5), nn.ReLU()
        self.out, self.ending = nn.Linear(5, n_outputs), ending or nn.Identity()

    def forward(self, X):
        return self.ending(self.out(self.relu(self.hidden(X))))


@pytest.fixture
def skorch():
    return pytest.importorskip("skorch")


def trained(kind, y, **params):
    net = kind(Module, train_split=None, max_epochs=2, verbose=0, **params)
    return net.fit(X_PLAIN.astype(np.float32), y)


def test_skorch_net_gives_what_its_module_gives(skorch):
    y = np.arange(60) % 3
    net = trained(skorch.NeuralNetClassifier, y, criterion=nn.CrossEntropyLoss)
    A, expected = extract(net, X_PLAIN), extract(net.module_, X_PLAIN)
    assert A.layer_names == ("relu",)
    assert_same(A, expected)
    assert A.head.input_layer == "relu"
    assert_array_equal(A.predictions, net.predict(X_PLAIN.astype(np.float32)))


def test_classes_of_a_skorch_net_are_kept_where_they_belong_to_the_logits(skorch):
    params = {"criterion": nn.CrossEntropyLoss}
    y = np.arange(60) % 3
    net = trained(skorch.NeuralNetClassifier, y, classes=["cat", "dog", "eel"], **params)
    assert extract(net, X_PLAIN).predictions[0] in ("cat", "dog", "eel")
    net = trained(skorch.NeuralNetClassifier, y, module__n_outputs=7, **params)
    assert extract(net, X_PLAIN).classes.tolist() == list(range(7))


@pytest.mark.parametrize(
    ("ending", "criterion"),
    [(nn.Softmax(1), nn.NLLLoss), (nn.LogSoftmax(1), nn.CrossEntropyLoss)],
)
def test_logits_of_a_skorch_net_precede_its_softmax(skorch, ending, criterion):
    y = np.arange(60) % 3
    net = trained(skorch.NeuralNetClassifier, y, criterion=criterion, module__ending=ending)
    A = extract(net, X_PLAIN)
    proba = net.predict_proba(X_PLAIN.astype(np.float32))
    assert_allclose(softmax(A.logits, axis=1), proba, rtol=1e-5)


@pytest.mark.parametrize("ending", [nn.Identity(), nn.Flatten(0), nn.Sigmoid()])
def test_two_class_skorch_net_has_two_logits(skorch, ending):
    criterion = nn.BCELoss if isinstance(ending, nn.Sigmoid) else nn.BCEWithLogitsLoss
    y = (np.arange(60) % 2).astype(np.float32)
    if not isinstance(ending, nn.Flatten):
        ending = nn.Sequential(ending, nn.Flatten(0))
    net = trained(
        skorch.NeuralNetBinaryClassifier,
        y,
        criterion=criterion,
        module__n_outputs=1,
        module__ending=ending,
    )
    A = extract(net, X_PLAIN)
    proba = net.predict_proba(X_PLAIN.astype(np.float32))
    assert_allclose(softmax(A.logits, axis=1), proba, rtol=1e-5)
    assert_array_equal(A.predictions, net.predict(X_PLAIN.astype(np.float32)))
    assert_allclose(A.head.logits(A["relu"]), A.logits, rtol=1e-4, atol=1e-6)


def test_skorch_regressor_has_no_logits(skorch):
    net = trained(skorch.NeuralNetRegressor, X_PLAIN[:, :3].astype(np.float32))
    A = extract(net, X_PLAIN)
    assert A.layer_names == ("relu",)
    assert A.logits is A.head is None


def test_skorch_net_is_left_as_it_was(skorch):
    y = np.arange(60) % 3
    net = trained(skorch.NeuralNetClassifier, y, criterion=nn.CrossEntropyLoss)
    net.module_.train()
    with untouched(net.module_):
        extract(net, {"X": X_PLAIN}, batch_size=7)
    assert clone(ActivationExtractor(net)).network is net


def test_skorch_net_that_is_not_fitted_is_refused(skorch):
    with pytest.raises(NotFittedError, match="NeuralNetClassifier instance is not fitted yet"):
        ActivationExtractor(skorch.NeuralNetClassifier(Module)).fit(X_PLAIN)


def test_threshold_of_a_binary_net_decides_the_predictions(skorch):
    y = (np.arange(60) % 3 == 1).astype(np.float32)
    X = X_PLAIN.astype(np.float32)
    for ending, criterion in (
        (nn.Flatten(0), nn.BCEWithLogitsLoss),
        (nn.Sequential(nn.Sigmoid(), nn.Flatten(0)), nn.BCELoss),
    ):
        net = trained(
            skorch.NeuralNetBinaryClassifier,
            y,
            criterion=criterion,
            module__n_outputs=1,
            module__ending=ending,
            threshold=0.35,
        )
        A = extract(net, X)
        assert_array_equal(A.predictions, net.predict(X))
        assert (A.predictions != A.logits.argmax(axis=1)).any()
        assert_allclose(softmax(A.logits, axis=1), net.predict_proba(X), rtol=1e-5)
        moved = extract(net, X, perturbation=ODIN(0.1))
        assert_array_equal(moved.predictions, net.predict(X))
        check_adapter(adapt(net), X)


def test_threshold_counts_in_the_fingerprint(skorch):
    y = (np.arange(60) % 2).astype(np.float32)
    net = trained(skorch.NeuralNetBinaryClassifier, y, module__n_outputs=1)
    before, stamp = adapt(net).fingerprint(), adapt(net).stamp()
    assert adapt(net).fingerprint() == before
    net.threshold = 0.2
    assert adapt(net).fingerprint() != before
    assert adapt(net).stamp() != stamp


def prefer_the_second(output):
    return torch.softmax(output + torch.tensor([0.0, 0.4, 0.0]), dim=1)


@pytest.mark.parametrize("ending", [nn.Identity(), nn.LogSoftmax(1)])
def test_nonlinearity_of_a_net_decides_the_predictions(skorch, ending):
    net = trained(
        skorch.NeuralNetClassifier,
        np.arange(60) % 3,
        criterion=nn.CrossEntropyLoss,
        module__ending=ending,
        predict_nonlinearity=prefer_the_second,
        classes=["cat", "dog", "eel"],
    )
    X = X_PLAIN.astype(np.float32)
    A = extract(net, X)
    assert_array_equal(A.predictions, np.array(net.classes)[net.predict(X)])
    assert (A.logits.argmax(axis=1) != net.predict(X)).any()


TEXTS = np.array(["a b c", "b", "c c a d", "a"] * 15)


def words(skorch):
    class Words(skorch.dataset.Dataset):
        def transform(self, X, y):
            return torch.tensor([ord(c) - 96 for c in X.split()]), 0 if y is None else int(y)

    return Words


def pad(samples):
    X, y = zip(*samples, strict=True)
    return nn.utils.rnn.pad_sequence(list(X), batch_first=True), torch.tensor(y)


class Text(nn.Module):
    """A network of words, of which 0 is padding."""

    def __init__(self):
        super().__init__()
        torch.manual_seed(0)
        self.words, self.relu = nn.Embedding(9, 4, padding_idx=0), nn.ReLU()
        self.out = nn.Linear(4, 2)

    def forward(self, X):
        return self.out(self.relu(self.words(X).sum(1)))


@pytest.fixture
def text_net(skorch):
    net = skorch.NeuralNetClassifier(
        Text,
        criterion=nn.CrossEntropyLoss,
        dataset=words(skorch),
        iterator_train__collate_fn=pad,
        iterator_valid__collate_fn=pad,
        iterator_valid__drop_last=True,
        batch_size=16,
        train_split=None,
        max_epochs=2,
        verbose=0,
    )
    return net.fit(TEXTS, np.arange(60) % 2)


def test_a_net_prepares_its_inputs_itself(text_net):
    A = extract(text_net, TEXTS)
    expected = text_net.module_(pad([(torch.tensor([3, 3, 1, 4]), 0), (torch.tensor([1]), 0)])[0])
    assert len(A) == 60  # although a net drops the last batch of validation
    assert_allclose(A.logits[2:4], expected.detach(), rtol=1e-6)
    assert A.labels is None
    with untouched(text_net.module_):
        assert len(make_monitor(text_net).fit(TEXTS).predict(TEXTS[:3])) == 3


def test_labels_of_a_data_set_ride_along(text_net):
    labels = np.arange(60) % 5
    A = extract(text_net, text_net.dataset(TEXTS, labels))
    assert_array_equal(A.labels, labels)
    assert_array_equal(A.logits, extract(text_net, TEXTS).logits)


def test_the_first_of_several_outputs_is_that_of_the_net(skorch):
    class Several(Module):
        def forward(self, X):
            return super().forward(X), self.relu(self.hidden(X))

    class Net(skorch.NeuralNetClassifier):
        def get_loss(self, y_pred, y_true, *args, **kwargs):
            return super().get_loss(y_pred[0], y_true, *args, **kwargs)

    net = Net(Several, criterion=nn.CrossEntropyLoss, train_split=None, max_epochs=2, verbose=0)
    X = X_PLAIN.astype(np.float32)
    net.fit(X, np.arange(60) % 3)
    A = extract(net, X)
    assert_array_equal(A.logits, net.forward(X)[0])
    assert A.head.input_layer == "relu[0]"


def test_an_own_way_to_call_the_module_is_kept(skorch):
    class Net(skorch.NeuralNetClassifier):
        def infer(self, x, **params):
            return self.module_(2 * x)

    net = trained(Net, np.arange(60) % 3, criterion=nn.CrossEntropyLoss)
    X = X_PLAIN.astype(np.float32)
    assert_array_equal(extract(net, X).logits, net.forward(X))


class Columns(nn.Module):
    """A network with an argument for each column."""

    def __init__(self):
        super().__init__()
        self.hidden, self.out = nn.Linear(2, 5), nn.Linear(5, 3)

    def forward(self, a, b):
        return self.out(torch.relu(self.hidden(torch.cat([a, b], 1))))


@pytest.mark.filterwarnings("ignore:The given NumPy array is not writable")  # skorch's own
def test_columns_become_the_arguments_of_the_module(skorch):
    from skorch.helper import SliceDict

    frame = pd.DataFrame(X_PLAIN[:, :2].astype(np.float32), columns=["a", "b"])
    columns = SliceDict(**{k: frame[k].to_numpy()[:, None] for k in frame})
    net = skorch.NeuralNetClassifier(
        Columns, criterion=nn.CrossEntropyLoss, train_split=None, max_epochs=2, verbose=0
    ).fit(frame, np.arange(60) % 3)
    for given in (frame, columns):
        assert_array_equal(extract(net, given, "relu").logits, net.forward(given))
    extractor = ActivationExtractor(net).fit(frame)
    assert extractor.feature_names_in_.tolist() == ["a", "b"]
    with pytest.raises(ValueError, match="feature names should match"):
        extractor.transform(frame.rename(columns={"a": "c"}))


def test_a_net_at_the_end_of_a_pipeline(skorch):
    net = skorch.NeuralNetClassifier(
        Module, criterion=nn.CrossEntropyLoss, train_split=None, max_epochs=2, verbose=0
    )
    X = X_PLAIN.astype(np.float32)
    pipe = make_pipeline(StandardScaler(), net).fit(X, np.arange(60) % 3)
    A = extract(pipe, X)
    assert_array_equal(A.logits, net.forward(pipe[0].transform(X)))
    check_adapter(adapt(pipe), X)


def test_a_net_with_its_own_batches_takes_no_loader_through_a_pipeline(text_net):
    pipe = make_pipeline(FunctionTransformer(np.asarray), text_net)
    assert_array_equal(extract(pipe, TEXTS).logits, extract(text_net, TEXTS).logits)
    with pytest.raises(TypeError, match="makes its own batches"):
        ActivationExtractor(pipe).fit(DataLoader([(text, 0) for text in TEXTS.tolist()]))


def test_other_objects_of_skorch_and_nets_without_one_module_are_refused(skorch):
    from skorch.helper import SliceDict

    with pytest.raises(TypeError, match="got a SliceDict of skorch"):
        adapt(SliceDict(a=X_PLAIN))

    class Two(skorch.NeuralNet):
        def initialize_module(self):
            self.encoder_, self.decoder_ = nn.Linear(4, 2), nn.Linear(2, 4)
            return self

    net = Two(Module, criterion=nn.MSELoss).initialize()
    with pytest.raises(TypeError, match="has no module_: put its modules into one"):
        adapt(net)
