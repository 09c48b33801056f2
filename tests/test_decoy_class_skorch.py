"""The classifier with a decoy class around nets of skorch."""

import numpy as np
import pytest
from numpy.testing import assert_allclose, assert_array_equal
from sklearn.base import BaseEstimator, ClassifierMixin, clone

from skood.datasets import load_digits_ood, make_noise
from skood.training import DecoyClassClassifier


class Recorder(ClassifierMixin, BaseEstimator):
    """Keeps what it is fitted on."""

    def fit(self, X, y):
        self.X_, self.y_ = X, y
        self.classes_ = np.unique(y)
        return self

    def predict_proba(self, X):
        return np.full((len(X), len(self.classes_)), 1 / len(self.classes_))


@pytest.fixture
def skorch():
    pytest.importorskip("torch")
    return pytest.importorskip("skorch")


def make_net(n_outputs=9, **params):
    import skorch
    import torch
    from torch import nn

    torch.manual_seed(0)
    module = nn.Sequential(
        nn.Flatten(), nn.Linear(64, 32), nn.ReLU(), nn.Dropout(0.1), nn.Linear(32, n_outputs)
    )
    defaults = {
        "criterion": nn.CrossEntropyLoss,
        "optimizer": torch.optim.Adam,
        "lr": 0.01,
        "batch_size": 64,
        "max_epochs": 8,
        "train_split": None,
        "verbose": 0,
    }
    return skorch.NeuralNetClassifier(module, **{**defaults, **params})


@pytest.fixture(scope="module")
def digit_images():
    """Images and labels of training digits and of test digits, of eight classes."""
    data = load_digits_ood(held_out=(1, 5))
    known = np.random.RandomState(0).permutation(np.flatnonzero(data.target != -1))
    train, test = known[:900], known[900:]
    X, y = data.data, data.target
    return X[train], y[train], X[test], y[test]


def test_skorch_net_learns_images_and_stays_usable(skorch, digit_images):
    from skood import ActivationExtractor

    X, y, X_test, y_test = digit_images
    classifier = DecoyClassClassifier(
        make_net(), outliers=["mixed", "rotated"], reject_label=-1, random_state=0
    ).fit(X, y)
    assert classifier.score(X_test, y_test) > 0.85
    noise = make_noise("uniform", (100, 1, 8, 8), random_state=0)
    assert (classifier.predict(noise) == -1).mean() > 0.9

    A = ActivationExtractor(classifier.estimator_).fit_transform(X_test)
    shifted = np.exp(A.logits - A.logits.max(axis=1, keepdims=True))
    proba = shifted / shifted.sum(axis=1, keepdims=True)
    assert_allclose(classifier.decoy_proba(X_test), proba[:, 8], atol=1e-5)
    B = ActivationExtractor(classifier.estimator_).fit_transform(noise)
    assert (B.predictions == 8).mean() > 0.9


def test_callbacks_of_skorch_stop_and_keep_the_best(skorch, digit_images, tmp_path):
    from skorch.callbacks import Checkpoint, EarlyStopping

    X, y, X_test, _ = digit_images
    net = make_net(
        max_epochs=60,
        train_split=skorch.dataset.ValidSplit(5, stratified=False),
        callbacks=[
            ("stop", EarlyStopping(patience=2)),
            ("keep", Checkpoint(dirname=tmp_path, load_best=True)),
        ],
    )
    classifier = DecoyClassClassifier(net, random_state=0).fit(X, y)
    trained = classifier.estimator_
    assert len(trained.history) < 60
    best = make_net().initialize()
    best.load_params(f_params=tmp_path / "params.pt")
    assert_array_equal(best.predict_proba(X_test), trained.predict_proba(X_test))


def test_skorch_net_is_trained_as_by_its_own_fit(skorch, digit_images):
    import torch

    X, y, X_test, _ = digit_images
    net = make_net(max_epochs=2)
    classifier = DecoyClassClassifier(net, random_state=0)
    torch.manual_seed(3)
    learnt = classifier.fit(X, y).estimator_

    recorded = DecoyClassClassifier(Recorder(), random_state=0).fit(X, y).estimator_
    torch.manual_seed(3)
    expected = clone(net).fit(recorded.X_, recorded.y_)
    assert_array_equal(learnt.predict_proba(X_test), expected.predict_proba(X_test))


@pytest.mark.parametrize("n_outputs", [8, 10])
def test_net_with_another_number_of_outputs_is_refused_before_training(
    skorch, digit_images, n_outputs
):
    X, y, *_ = digit_images
    trained = []

    class Told(skorch.callbacks.Callback):
        def on_train_begin(self, net, X=None, y=None, **kwargs):
            trained.append(net)

    net = make_net(n_outputs, callbacks=[("told", Told())])
    with pytest.raises(ValueError, match=rf"must have 9 outputs.* shape \(2, {n_outputs}\)"):
        DecoyClassClassifier(net).fit(X, y)
    assert not trained


def test_net_that_returns_several_outputs_is_read_by_the_first(skorch, digit_images):
    import torch
    from torch import nn

    class WithFeatures(nn.Module):
        def __init__(self):
            super().__init__()
            torch.manual_seed(0)
            self.hidden, self.out = nn.Linear(64, 16), nn.Linear(16, 9)

        def forward(self, images):
            features = self.hidden(images.flatten(1)).relu()
            return self.out(features), features

    class Net(skorch.NeuralNetClassifier):
        def get_loss(self, y_pred, y_true, *args, **kwargs):
            return super().get_loss(y_pred[0], y_true, *args, **kwargs)

    X, y, X_test, y_test = digit_images
    net = Net(
        WithFeatures,
        criterion=nn.CrossEntropyLoss,
        optimizer=torch.optim.Adam,
        lr=0.01,
        max_epochs=8,
        train_split=None,
        verbose=0,
    )
    classifier = DecoyClassClassifier(net, random_state=0).fit(X, y)
    assert classifier.score(X_test, y_test) > 0.85


def test_logits_taken_for_probabilities_are_refused(skorch, digit_images):
    X, y, *_ = digit_images
    net = make_net(max_epochs=1, predict_nonlinearity=None)
    with pytest.raises(ValueError, match=r"sum to 1, got sums .*CrossEntropyLoss"):
        DecoyClassClassifier(net).fit(X, y)
