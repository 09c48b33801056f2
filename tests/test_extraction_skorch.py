"""Reading skorch nets."""

import numpy as np
import pytest
import torch
from _networks import assert_same, extract, untouched
from numpy.testing import assert_allclose, assert_array_equal
from scipy.special import softmax
from sklearn.base import clone
from sklearn.exceptions import NotFittedError
from torch import nn

from skood import ActivationExtractor

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
