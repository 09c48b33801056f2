"""Reading scikit-learn's multilayer perceptrons."""

import copy
import pickle

import numpy as np
import pytest
from _networks import extract
from numpy.testing import assert_allclose, assert_array_equal
from scipy.special import softmax
from sklearn.base import clone
from sklearn.datasets import load_iris
from sklearn.exceptions import NotFittedError
from sklearn.frozen import FrozenEstimator
from sklearn.linear_model import LogisticRegression
from sklearn.model_selection import GridSearchCV, cross_val_score
from sklearn.neural_network import MLPClassifier, MLPRegressor
from sklearn.pipeline import Pipeline, make_pipeline

from skood import ActivationExtractor, HammingNAPDetector, PercentileBinarizer
from skood.detectors import MaxSoftmaxDetector
from skood.model_selection import OODKFold

pytestmark = pytest.mark.filterwarnings("ignore::sklearn.exceptions.ConvergenceWarning")

X_PLAIN = np.random.default_rng(0).normal(size=(60, 4))
LABELS = np.array(["cat", "dog", "eel"])[np.arange(60) % 3]


def perceptron(y=LABELS, kind=MLPClassifier, hidden=(5, 3), **params):
    return kind(
        hidden_layer_sizes=hidden, max_iter=20, solver="lbfgs", random_state=0, **params
    ).fit(X_PLAIN, y)


@pytest.mark.parametrize("activation", ["identity", "logistic", "relu", "tanh"])
def test_perceptron_gives_what_it_computes(activation):
    network = perceptron(activation=activation)
    A = extract(network, X_PLAIN, ["hidden_*", "output"], batch_size=7)
    assert A.layer_names == ("hidden_0", "hidden_1", "output")
    computed = network._forward_pass([X_PLAIN, None, None, None])
    for name, expected in zip(A.layer_names, computed[1:], strict=True):
        assert_allclose(A[name], expected, rtol=1e-10)
    assert_allclose(softmax(A.logits, axis=1), network.predict_proba(X_PLAIN), rtol=1e-10)
    assert_array_equal(A.predictions, network.predict(X_PLAIN))
    assert A.classes.tolist() == ["cat", "dog", "eel"]
    assert A.head.input_layer == "hidden_1"
    assert_allclose(A.head.logits(A["hidden_1"]), A.logits, rtol=1e-10)


def test_penultimate_is_the_layer_that_the_head_reads():
    network = perceptron()
    for layers in ("penultimate", ["penultimate"], ["hidden_1", "penultimate"]):
        assert extract(network, X_PLAIN, layers).layer_names == ("hidden_1",)
    assert extract(network, X_PLAIN, ["hidden_0", "penultimate"]).head.input_layer == "hidden_1"
    with pytest.raises(ValueError, match="no layer 'penultimate'"):
        extract(perceptron(X_PLAIN[:, :2], MLPRegressor), X_PLAIN, "penultimate")


def test_two_class_perceptron_has_two_logits():
    network = perceptron(LABELS == "cat")
    A = extract(network, X_PLAIN)
    assert A.layer_names == ("hidden_0", "hidden_1")
    assert_array_equal(A.logits[:, 0], 0)
    assert_allclose(softmax(A.logits, axis=1), network.predict_proba(X_PLAIN), rtol=1e-10)
    assert_array_equal(A.predictions, network.predict(X_PLAIN))
    assert_allclose(A.head.logits(A["hidden_1"]), A.logits, rtol=1e-10)


def test_perceptron_without_classes_has_no_logits():
    several = perceptron(np.c_[LABELS == "cat", LABELS != "eel"])
    regressor = perceptron(X_PLAIN[:, :2], MLPRegressor)
    for network in (several, regressor):
        A = extract(network, X_PLAIN, "all")
        assert A.logits is A.head is A.predictions is A.classes is None
    assert_allclose(A["output"], regressor.predict(X_PLAIN))


def test_perceptron_without_hidden_layers_has_its_output_only():
    network = perceptron(hidden=())
    A = extract(network, X_PLAIN, "output")
    assert_allclose(A["output"], network.predict_proba(X_PLAIN), rtol=1e-10)
    assert A.head.input_layer is None
    with pytest.raises(ValueError, match=r"known are \['output'\]"):
        ActivationExtractor(network).fit(X_PLAIN)


def test_perceptron_is_left_as_it_was():
    network = perceptron()
    before = pickle.dumps(network)
    extract(network, X_PLAIN)
    assert pickle.dumps(network) == before


def test_perceptron_that_is_not_fitted_is_refused():
    with pytest.raises(NotFittedError, match="MLPClassifier"):
        ActivationExtractor(MLPClassifier()).fit(X_PLAIN)


@pytest.mark.parametrize("X", [X_PLAIN[:, :3], X_PLAIN[:, :, None], {"X": X_PLAIN}])
def test_perceptron_refuses_inputs_of_another_shape(X):
    with pytest.raises(ValueError, match=r"expects inputs of shape \(n_samples, 4\), got"):
        ActivationExtractor(perceptron()).fit(X)


def test_perceptrons_are_cached_by_content(tmp_path):
    network = perceptron()
    extractor = ActivationExtractor(network, memory=str(tmp_path), changed_network="ignore")
    A = extractor.fit_transform(X_PLAIN)
    assert copy.deepcopy(extractor).fit(X_PLAIN).fingerprint_ == extractor.fingerprint_
    network.coefs_[0][0, 0] += 1
    assert not np.array_equal(extractor.transform(X_PLAIN)["hidden_0"], A["hidden_0"])


def test_search_in_several_processes_shares_the_trained_network():
    network = perceptron()
    pipe = make_pipeline(ActivationExtractor(network), LogisticRegression())
    grid = {"activationextractor__layers": ["hidden_0", "hidden_1"]}
    search = GridSearchCV(pipe, grid, cv=2, n_jobs=2, error_score="raise").fit(X_PLAIN, LABELS)
    assert np.isfinite(search.cv_results_["mean_test_score"]).all()
    assert search.best_estimator_[0].network is network


def test_monitor_of_a_perceptron_serves_inputs_and_activations():
    network = perceptron()
    A = extract(network, X_PLAIN)
    monitor = make_pipeline(
        ActivationExtractor(network), PercentileBinarizer(), HammingNAPDetector()
    ).fit(A)
    assert_array_equal(monitor.predict(X_PLAIN), monitor.predict(A))


def searched(wrap):
    X, y = load_iris(return_X_y=True)
    y[y == 2] = -1
    networks = [
        MLPClassifier((size,), solver="lbfgs", random_state=0).fit(X[y >= 0], y[y >= 0])
        for size in (3, 8)
    ]
    pipe = Pipeline(
        [("extract", ActivationExtractor(networks[0])), ("detect", MaxSoftmaxDetector())]
    )
    grid = {"extract__network": [wrap(network) for network in networks]}
    search = GridSearchCV(pipe, grid, cv=OODKFold(3), error_score="raise")
    scores = [
        cross_val_score(clone(pipe).set_params(extract__network=network), X, y, cv=OODKFold(3))
        for network in networks
    ]
    return search.fit(X, y), np.mean(scores, axis=1)


def test_networks_are_searched_over_where_they_are_frozen():
    search, expected = searched(FrozenEstimator)
    assert_allclose(search.cv_results_["mean_test_score"], expected)
    search, _ = searched(lambda network: FrozenEstimator(FrozenEstimator(network)))
    assert_allclose(search.cv_results_["mean_test_score"], expected)


def test_search_over_networks_that_are_not_frozen_says_what_to_do():
    with pytest.raises(NotFittedError, match=r"wrap each perceptron in sklearn\.frozen\.Frozen"):
        searched(lambda network: network)
