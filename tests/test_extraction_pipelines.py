"""Networks at the end of pipelines, in searches and in frozen estimators."""

import pickle
from copy import deepcopy

import numpy as np
import pandas as pd
import polars as pl
import pytest
from _networks import extract
from numpy.testing import assert_allclose, assert_array_equal
from sklearn.base import BaseEstimator, TransformerMixin
from sklearn.calibration import CalibratedClassifierCV
from sklearn.compose import make_column_transformer
from sklearn.ensemble import BaggingClassifier, RandomForestClassifier, RandomTreesEmbedding
from sklearn.exceptions import NotFittedError
from sklearn.feature_extraction.text import TfidfVectorizer
from sklearn.frozen import FrozenEstimator
from sklearn.linear_model import LogisticRegressionCV
from sklearn.model_selection import (
    GridSearchCV,
    RandomizedSearchCV,
    TunedThresholdClassifierCV,
)
from sklearn.neural_network import MLPClassifier
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import FunctionTransformer, StandardScaler

from skood import ActivationExtractor, make_monitor
from skood.extraction import ODIN
from skood.inspection import neuron_influence
from skood.networks import adapt, check_adapter

pytestmark = pytest.mark.filterwarnings("ignore::sklearn.exceptions.ConvergenceWarning")

RNG = np.random.default_rng(0)
X = RNG.normal(3, 2, size=(60, 4))
LABELS = np.array(["cat", "dog", "eel"])[np.arange(60) % 3]
NAMES = ["a", "b", "c", "d"]
FRAME = pd.DataFrame(X, columns=NAMES)
TEXTS = ["good film", "bad film", "a nice thing", "an awful thing"] * 15


def perceptron():
    return MLPClassifier((5, 3), max_iter=20, solver="lbfgs", random_state=0)


def hidden(network, prepared):
    """The first hidden layer, worked out by hand."""
    return np.maximum(prepared @ network.coefs_[0] + network.intercepts_[0], 0)


def test_earlier_steps_prepare_the_inputs():
    pipe = make_pipeline(StandardScaler(), "passthrough", None, perceptron()).fit(X, LABELS)
    extractor = ActivationExtractor(pipe, batch_size=7).fit(X)
    A = extractor.transform(X)
    assert_allclose(A["hidden_0"], hidden(pipe[-1], pipe[0].transform(X)))
    assert_array_equal(A.predictions, pipe.predict(X))
    assert A.classes.tolist() == ["cat", "dog", "eel"]
    assert extractor.n_features_in_ == 4
    check_adapter(adapt(pipe), X)


def searched(kind, params):
    return kind(make_pipeline(StandardScaler(), perceptron()), params, cv=2).fit(X, LABELS)


@pytest.mark.parametrize(
    "wrap",
    [
        lambda pipe: searched(GridSearchCV, {"mlpclassifier__alpha": [1e-4, 1.0]}),
        lambda pipe: FrozenEstimator(searched(RandomizedSearchCV, {"mlpclassifier__alpha": [1.0]})),
        lambda pipe: make_pipeline(FunctionTransformer(), FrozenEstimator(pipe)),
        lambda pipe: make_pipeline(
            FrozenEstimator(make_pipeline(StandardScaler(), pipe).fit(X, LABELS))
        ),
    ],
)
@pytest.mark.filterwarnings("ignore:n_iter|The total space:UserWarning")
def test_what_holds_a_network_is_opened(wrap):
    network = wrap(make_pipeline(StandardScaler(), perceptron()).fit(X, LABELS))
    if not hasattr(network, "best_estimator_"):
        network = network.fit(X, LABELS)
    A = extract(network, X)
    assert_array_equal(A.predictions, network.predict(X))
    assert A.layer_names == ("hidden_0", "hidden_1")


class OtherSearch:
    """A search that does not derive from anything of scikit-learn."""

    def __init__(self, best_estimator):
        self.best_estimator_ = best_estimator


def test_searches_of_other_libraries_are_opened():
    network = perceptron().fit(X, LABELS)
    assert adapt(OtherSearch(network)).network is network


def test_raw_inputs_may_be_text():
    pipe = make_pipeline(TfidfVectorizer(), perceptron()).fit(TEXTS, np.arange(60) % 2)
    expected = hidden(pipe[-1], pipe[0].transform(TEXTS).toarray())
    for texts in (TEXTS, np.array(TEXTS), pd.Series(TEXTS)):
        extractor = ActivationExtractor(pipe, batch_size=7).fit(texts)
        assert_allclose(extractor.transform(texts)["hidden_0"], expected)
        assert not hasattr(extractor, "n_features_in_")
    assert len(make_monitor(pipe).fit(TEXTS).predict(TEXTS[:3])) == 3


@pytest.mark.parametrize(
    "make", [lambda frame: frame, lambda frame: pl.DataFrame(frame.to_dict("list"))]
)
def test_raw_inputs_may_be_a_frame(make):
    frame = make(FRAME)
    columns = make_column_transformer((StandardScaler(), ["b", "d"]), remainder="drop")
    pipe = make_pipeline(columns, perceptron()).fit(frame, LABELS)
    extractor = ActivationExtractor(pipe).fit(frame)
    assert_array_equal(extractor.transform(frame).predictions, pipe.predict(frame))
    assert extractor.feature_names_in_.tolist() == NAMES
    assert extractor.n_features_in_ == 4
    with pytest.raises(ValueError, match="feature names should match"):
        extractor.transform(make(FRAME[NAMES[::-1]]))


def test_batches_of_a_loader_are_prepared_one_by_one():
    torch = pytest.importorskip("torch")
    from torch.utils.data import DataLoader, TensorDataset

    pipe = make_pipeline(StandardScaler(), perceptron()).fit(X, LABELS)
    data_set = TensorDataset(torch.from_numpy(X), torch.arange(60))
    loader = DataLoader(data_set, batch_size=7, shuffle=True)
    A = ActivationExtractor(pipe).fit(X).transform(loader)
    assert_array_equal(A.predictions, pipe.predict(X)[A.labels])
    extractor = ActivationExtractor(pipe).fit(data_set)
    assert extractor.n_features_in_ == 4
    with pytest.raises(ValueError, match="X has 3 features"):
        extractor.transform(TensorDataset(torch.zeros(5, 3)))


def test_a_step_must_keep_the_rows():
    halve = FunctionTransformer(lambda X: X[::2])
    pipe = make_pipeline(halve, FrozenEstimator(perceptron().fit(X, LABELS)))
    with pytest.raises(ValueError, match=r"'functiontransformer' .* makes 30 rows of 60 samples"):
        ActivationExtractor(pipe).fit(X)


class Sampler:
    """A step that works in ``fit`` alone, as those of imbalanced-learn."""

    def fit_resample(self, X, y):
        return X, y


def test_samplers_are_left_out():
    network = perceptron().fit(X, LABELS)
    pipe = make_pipeline("passthrough", network)
    pipe.steps[0] = ("sample", Sampler())
    assert_array_equal(extract(pipe, X).logits, extract(network, X).logits)


def test_the_fingerprint_covers_earlier_steps():
    network = perceptron().fit(X, LABELS)
    one, other = (make_pipeline(StandardScaler().fit(values), network) for values in (X, X + 1))
    digests = [adapt(pipe).fingerprint().digest for pipe in (one, other, network)]
    assert len(set(digests)) == 3
    again = make_pipeline(StandardScaler().fit(X), network)
    assert adapt(again).fingerprint().digest == digests[0]
    assert adapt(one).stamp() != adapt(other).stamp()


def test_results_of_a_pipeline_are_cached_by_its_steps(tmp_path):
    pipe = make_pipeline(StandardScaler(), perceptron()).fit(X, LABELS)
    extractor = ActivationExtractor(pipe, memory=str(tmp_path), changed_network="ignore").fit(X)
    A = extractor.transform(X)
    pipe[0].mean_ += 1
    expected = extract(pipe, X).logits
    assert not np.allclose(A.logits, expected)
    assert_array_equal(extractor.transform(X).logits, expected)


def test_perturbations_move_the_prepared_inputs():
    pipe = make_pipeline(StandardScaler(), perceptron()).fit(X, LABELS)
    prepared = pipe[0].transform(X)
    moved = extract(pipe, X, perturbation=ODIN(0.05))
    expected = extract(pipe[-1], prepared, perturbation=ODIN(0.05))
    assert_array_equal(moved.logits, expected.logits)
    assert not np.array_equal(moved.logits, extract(pipe, X).logits)


def test_gradients_and_influence_are_those_of_the_network():
    pipe = make_pipeline(StandardScaler(), perceptron()).fit(X, LABELS)
    prepared = pipe[0].transform(X)
    found = extract(pipe, X, gradients=True)["hidden_0:gradient"]
    assert_array_equal(found, extract(pipe[-1], prepared, gradients=True)["hidden_0:gradient"])
    for layer, expected in neuron_influence(pipe[-1]).items():
        assert_array_equal(neuron_influence(FrozenEstimator(pipe))[layer], expected)


@pytest.mark.parametrize(
    ("network", "message"),
    [
        (make_pipeline(StandardScaler(), perceptron()), "MLPClassifier instance is not fitted yet"),
        (GridSearchCV(perceptron(), {}), "GridSearchCV instance is not fitted yet"),
        (
            GridSearchCV(perceptron(), {}, refit=False),
            "has refit=False, so it holds no fitted network: set refit=True",
        ),
    ],
)
def test_what_is_not_fitted_is_refused(network, message):
    with pytest.raises(NotFittedError, match=message):
        ActivationExtractor(network).fit(X)


def test_a_pipeline_without_a_network_is_refused():
    forest = make_pipeline(StandardScaler(), RandomForestClassifier(2, random_state=0)).fit(
        X, LABELS
    )
    with pytest.raises(TypeError, match=r"'randomforestclassifier', is not a network: .*no layers"):
        ActivationExtractor(forest).fit(X)


def test_calibrated_networks_are_refused_with_the_reason():
    calibrated = CalibratedClassifierCV(perceptron(), cv=2).fit(X, LABELS)
    with pytest.raises(TypeError, match="several calibrated copies"):
        ActivationExtractor(calibrated).fit(X)


def test_a_perceptron_checks_the_names_of_columns():
    network = perceptron().fit(FRAME, LABELS)
    for frame in (FRAME, pl.DataFrame(FRAME.to_dict("list"))):
        assert_array_equal(extract(network, frame).predictions, network.predict(FRAME))
    for frame in (FRAME[NAMES[::-1]], FRAME.rename(columns={"a": "e"})):
        with pytest.raises(ValueError, match="feature names should match"):
            ActivationExtractor(network).fit(frame)
    with pytest.warns(UserWarning, match="MLPClassifier was fitted with feature names"):
        ActivationExtractor(network).fit(X)


def test_networks_inside_of_other_estimators_are_named():
    bagging = BaggingClassifier(perceptron(), 2, random_state=0).fit(X, LABELS)
    with pytest.raises(TypeError, match=r"holds in .*'estimators_'.* is a network: pass that"):
        ActivationExtractor(bagging).fit(X)


@pytest.mark.filterwarnings("ignore::FutureWarning:sklearn")
@pytest.mark.parametrize("in_pipeline", [False, True])
def test_estimators_that_choose_their_own_parameters_are_no_searches(in_pipeline):
    for estimator, advice in [
        (TunedThresholdClassifierCV(perceptron(), cv=2), r"in \['estimator_'\] is a network"),
        (LogisticRegressionCV(), "has no layers of neurons"),
    ]:
        fitted = (make_pipeline(estimator) if in_pipeline else estimator).fit(X, X[:, 0] > 3)
        with pytest.raises(TypeError, match=advice):
            ActivationExtractor(fitted).fit(X)


class Counting(TransformerMixin, BaseEstimator):
    """A step that notes what it transforms."""

    def fit(self, X, y=None):
        self.n_calls_, self.seen_ = 0, []
        return self

    def transform(self, X):
        self.n_calls_ += 1
        self.seen_.append(len(X))
        return X


def test_what_a_step_notes_as_it_runs_is_no_change():
    pipe = make_pipeline(Counting(), StandardScaler(), perceptron()).fit(X, LABELS)
    extractor = ActivationExtractor(pipe).fit(X)
    for fitted in (extractor, pickle.loads(pickle.dumps(extractor)), deepcopy(extractor)):
        for rows in (X, X[:7], X):
            fitted.transform(rows)
    pipe[1].mean_ += 1
    with pytest.raises(ValueError, match="'step standardscaler' differs"):
        extractor.transform(X)


@pytest.mark.parametrize("words", ["english", ["the"]])
def test_copies_of_vectorizers_are_the_same_step(words):
    pipe = make_pipeline(TfidfVectorizer(stop_words=words), perceptron())
    monitor = make_monitor(pipe.fit(TEXTS, np.arange(60) % 2)).fit(TEXTS)
    expected = monitor.predict(TEXTS)
    for again in (pickle.loads(pickle.dumps(monitor)), deepcopy(monitor)):
        for _ in range(2):
            assert_array_equal(again.predict(TEXTS), expected)
    copied = deepcopy(pipe)
    copied.predict(TEXTS)
    assert adapt(copied).fingerprint().digest == adapt(pipe).fingerprint().digest


def test_copies_of_trees_are_the_same_step():
    pipe = make_pipeline(RandomTreesEmbedding(3, random_state=0), perceptron()).fit(X, LABELS)
    extractor = ActivationExtractor(pipe).fit(X)
    for again in (deepcopy(extractor), pickle.loads(pickle.dumps(extractor))):
        assert_array_equal(again.transform(X).logits, extractor.transform(X).logits)
    pipe[0].estimators_[0].tree_.threshold[0] += 1
    assert ActivationExtractor(pipe).fit(X).fingerprint_ != extractor.fingerprint_


def test_the_stamp_of_a_pipeline_shows_what_is_set():
    columns = make_column_transformer((StandardScaler(), [0, 1]), remainder="passthrough")
    pipe = make_pipeline(columns, FunctionTransformer(np.abs), perceptron()).fit(X, LABELS)
    stamps = [adapt(pipe).stamp()]
    assert adapt(pipe).stamp() == stamps[0]
    for change in (
        lambda: pipe[0].named_transformers_["standardscaler"].mean_.__iadd__(1),
        lambda: pipe[1].set_params(func=np.negative),
        lambda: pipe.steps.insert(1, ("scale", StandardScaler().fit(X))),
    ):
        change()
        stamps.append(adapt(pipe).stamp())
        assert stamps[-1] not in stamps[:-1]
