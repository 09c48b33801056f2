"""The classifier with a decoy class."""

import pickle

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from numpy.testing import assert_allclose, assert_array_equal
from scipy.sparse import csr_array
from sklearn.base import BaseEstimator, ClassifierMixin, clone
from sklearn.datasets import make_blobs
from sklearn.ensemble import RandomForestClassifier
from sklearn.linear_model import LogisticRegression
from sklearn.metrics import roc_auc_score
from sklearn.model_selection import GridSearchCV
from sklearn.neural_network import MLPClassifier
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import FunctionTransformer

from skood.datasets import load_digits_ood, make_noise
from skood.metrics import make_ood_scorer, ood_roc_auc_score
from skood.model_selection import OODKFold
from skood.training import DecoyClassClassifier
from skood.training._outliers import make_outliers


class Recorder(ClassifierMixin, BaseEstimator):
    """Keeps what it is fitted on, and gives the probabilities that it was constructed with."""

    def __init__(self, proba=None):
        self.proba = proba

    def fit(self, X, y):
        self.X_, self.y_ = X, y
        self.classes_ = np.unique(y)
        return self

    def predict_proba(self, X):
        if self.proba is None:
            return np.full((len(X), len(self.classes_)), 1 / len(self.classes_))
        return np.asarray(self.proba)[: len(X)]


def auroc(known, unknown):
    is_known = np.repeat([1, 0], [len(known), len(unknown)])
    return roc_auc_score(is_known, np.r_[known, unknown])


@pytest.fixture(scope="module")
def blobs():
    """Three classes in the plane, and outliers between them."""
    X, y = make_blobs(150, centers=[[0, 0], [6, 0], [0, 6]], random_state=0)
    outliers = np.random.RandomState(0).uniform(2, 4, size=(30, 2))
    return np.vstack([X, outliers]), np.r_[y, np.full(30, -1)]


@pytest.fixture(scope="module")
def images():
    """Square images of three classes, each with a number of its own in every pixel."""
    rng = np.random.RandomState(0)
    X = rng.uniform(size=(30, 2, 4, 4)).astype(np.float32)
    return X, np.arange(30) % 3


@pytest.fixture(scope="module")
def digits():
    """Training digits, test digits and unknown digits, flat."""
    data = load_digits_ood(held_out=(1, 5))
    X, y = data.data.reshape(len(data.data), -1), data.target
    known = np.random.RandomState(0).permutation(np.flatnonzero(y != -1))
    train, test = known[:900], known[900:]
    return X[train], y[train], X[test], y[test], X[data.digit == 1], X[data.digit == 5]


# What it is trained on.


def test_estimator_is_trained_on_class_numbers_and_one_more_for_outliers(blobs):
    X, y = blobs
    names = np.array(["b", "c", "a"], dtype=object)[y]
    names[y == -1] = -1
    fitted = DecoyClassClassifier(Recorder(), outliers=None, random_state=0).fit(X, names)
    assert_array_equal(fitted.classes_, ["a", "b", "c"])
    number = {"a": 0, "b": 1, "c": 2, -1: 3}
    learnt = zip(fitted.estimator_.X_.tolist(), fitted.estimator_.y_, strict=True)
    expected = zip(X.tolist(), [number[name] for name in names], strict=True)
    assert sorted(learnt) == sorted(expected)
    assert fitted.estimator_.y_.dtype == np.int64
    assert fitted.n_outliers_ == 30


@pytest.mark.parametrize("outliers", ["noise", "mixed", ["noise", "mixed"]], ids=str)
def test_marked_rows_are_decoys_beside_those_that_are_made(blobs, outliers):
    X, y = blobs
    classifier = DecoyClassClassifier(Recorder(), outliers=outliers, random_state=0)
    recorded = classifier.fit(X, y).estimator_
    decoys = recorded.X_[recorded.y_ == 3]
    assert len(decoys) == classifier.n_outliers_ == 30 + 75
    made = classifier.make_outliers(X, y)
    expected = np.vstack([X[y == -1], made])
    assert_array_equal(np.unique(decoys, axis=0), np.unique(expected, axis=0))
    assert not np.isin(made, X[y == -1]).any()


def test_marked_rows_leave_no_trace_in_the_outliers_that_are_made(blobs):
    X, y = blobs
    far = np.where((y == -1)[:, np.newaxis], 1e6, X)
    for kind in ("noise", "mixed"):
        classifier = DecoyClassClassifier(Recorder(), outliers=kind, random_state=0)
        assert_array_equal(classifier.make_outliers(far, y), classifier.make_outliers(X, y))


def test_decoys_are_among_the_rows_not_behind_them(blobs):
    fitted = DecoyClassClassifier(Recorder(), random_state=0).fit(*blobs)
    is_decoy = fitted.estimator_.y_ == 3
    halves = np.array_split(is_decoy, 2)
    assert all(0.2 < half.mean() < 0.8 for half in halves)
    assert np.count_nonzero(np.diff(is_decoy)) > 30


def test_seed_reproduces_outliers_and_order(blobs):
    classifier = DecoyClassClassifier(Recorder(), outliers=["noise", "mixed"], random_state=1)
    first = classifier.fit(*blobs).estimator_
    again = clone(classifier).fit(*blobs).estimator_
    other = clone(classifier).set_params(random_state=2).fit(*blobs).estimator_
    assert_array_equal(first.X_, again.X_)
    assert_array_equal(first.y_, again.y_)
    assert not np.isin(first.X_[first.y_ == 3], other.X_[other.y_ == 3]).all()
    assert (first.y_ != other.y_).any()


def test_global_random_state_is_left_alone(blobs):
    before = repr(np.random.get_state())  # noqa: NPY002
    DecoyClassClassifier(Recorder(), outliers=["noise", "mixed"], random_state=0).fit(*blobs)
    assert repr(np.random.get_state()) == before  # noqa: NPY002


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize("kind", ["noise", "mixed", "rotated"])
def test_estimator_gets_the_dtype_and_shape_of_the_samples(images, kind, dtype):
    X, y = images
    classifier = DecoyClassClassifier(Recorder(), outliers=kind, random_state=0)
    fitted = classifier.fit(X.astype(dtype), y)
    assert fitted.estimator_.X_.dtype == dtype
    assert fitted.estimator_.X_.shape == (45, 2, 4, 4)


@pytest.mark.parametrize(("ratio", "expected"), [(0.001, 1), (0.5, 15), (2, 60)])
def test_ratio_is_of_outliers_to_training_samples(images, ratio, expected):
    classifier = DecoyClassClassifier(Recorder(), outlier_ratio=ratio, random_state=0)
    assert len(classifier.make_outliers(*images)) == expected


# Kinds of outliers.


def test_noise_is_uniform_in_the_range_of_each_feature():
    X = np.array([[0, 5, -3], [1, 5, 7], [0.5, 5, 2]], dtype=np.float32)
    noise = make_outliers(["noise"], X, np.arange(3), 4000, np.random.RandomState(0))
    assert_array_equal(noise[:, 1], 5)
    for column, low, high in ((0, 0, 1), (2, -3, 7)):
        values = (noise[:, column] - low) / (high - low)
        assert values.min() >= 0
        assert values.max() <= 1
        assert_allclose(np.quantile(values, [0.25, 0.5, 0.75]), [0.25, 0.5, 0.75], atol=0.03)
    assert abs(np.corrcoef(noise[:, 0], noise[:, 2])[0, 1]) < 0.05


def test_mixtures_lie_near_the_middle_between_samples_of_different_classes(images):
    X, y = images
    pairs = [(i, j) for i in range(30) for j in range(i) if y[i] != y[j]]
    first, second = (X[list(rows)].reshape(len(pairs), -1) for rows in zip(*pairs, strict=True))
    mixtures = make_outliers(["mixed"], X, y, 40, np.random.RandomState(0)).reshape(40, -1)
    for mixture in mixtures:
        # The weight that comes nearest to the mixture, for each pair.
        along = first - second
        weight = ((mixture - second) * along).sum(axis=1) / (along**2).sum(axis=1)
        distance = np.abs(second + weight[:, np.newaxis] * along - mixture).max(axis=1)
        nearest = distance.argmin()
        assert distance[nearest] < 1e-5
        assert 0.399 < weight[nearest] < 0.601


@given(st.lists(st.integers(0, 4), min_size=2, max_size=12), st.integers(0, 100))
def test_mixtures_of_any_classes_are_of_two_different_ones(labels, seed):
    y = np.array(labels)
    one_hot = np.eye(5)[y]
    if len(set(labels)) == 1:
        with pytest.raises(ValueError, match="different classes"):
            make_outliers(["mixed"], one_hot, y, 3, np.random.RandomState(seed))
        return
    mixtures = make_outliers(["mixed"], one_hot, y, 50, np.random.RandomState(seed))
    assert_array_equal((mixtures > 0).sum(axis=1), 2)
    assert_allclose(mixtures.sum(axis=1), 1)


def test_every_sample_of_another_class_can_be_the_partner():
    X, y = np.diag([1.0, 2, 4, 8, 16]), np.array([2, 0, 2, 1, 0])
    mixtures = make_outliers(["mixed"], X, y, 1000, np.random.RandomState(0))
    met = {tuple(np.flatnonzero(mixture)) for mixture in mixtures}
    assert met == {(i, j) for i in range(5) for j in range(i, 5) if y[i] != y[j]}


@pytest.mark.parametrize("with_channels", [True, False])
def test_rotated_images_are_training_images_turned_by_a_quarter(images, with_channels):
    X = images[0] if with_channels else images[0][:, 0]
    rotated = make_outliers(["rotated"], X, images[1], 200, np.random.RandomState(0))
    turns = {
        name: [
            np.moveaxis(np.rot90(np.moveaxis(x, 0, -1), k), -1, 0)
            if with_channels
            else np.rot90(x, k)
            for x in X
        ]
        for name, k in (("left", 1), ("right", -1))
    }
    found = {
        name: sum(any(np.array_equal(image, turn) for turn in turned) for image in rotated)
        for name, turned in turns.items()
    }
    assert sum(found.values()) == 200
    assert min(found.values()) > 60


def test_function_makes_outliers_of_samples_and_labels(blobs):
    X, y = blobs
    seen = []

    def mirrored(samples, labels, random_state):
        seen.append((samples, labels, random_state.randint(10)))
        return -samples[labels == 1]

    classifier = DecoyClassClassifier(Recorder(), outliers=mirrored, random_state=0)
    made = classifier.make_outliers(X, y)
    samples, labels, _ = seen[0]
    assert_array_equal(samples, X[y != -1])
    assert_array_equal(labels, y[y != -1])
    assert_array_equal(made, -X[y == 1])


def test_kinds_in_a_list_share_the_number(images):
    X, y = images
    kinds = ["rotated", lambda X, y, random_state: np.ones_like(X[:2]), "noise", "mixed"]
    classifier = DecoyClassClassifier(
        Recorder(), outliers=kinds, outlier_ratio=4 / 3, random_state=0
    )
    made = classifier.make_outliers(X, y)
    assert len(made) == 30 + 2
    assert_array_equal(np.flatnonzero((made == 1).all(axis=(1, 2, 3))), [10, 11])
    assert np.isin(made[:10], X).all()
    assert not np.isin(made[12:], X).any()


# What it answers.

JOINT = np.array([[0.5, 0.25, 0.25], [0.1, 0.2, 0.7], [0, 0, 1], [0.2, 0.3, 0.5], [0.9, 0.1, 0]])


@pytest.fixture
def answering():
    X, y = np.arange(10.0).reshape(5, 2), ["yes", "no", "yes", "no", "no"]
    classifier = DecoyClassClassifier(Recorder(JOINT), outliers="noise", random_state=0)
    return classifier.fit(X, y), X


def test_probabilities_of_classes_are_those_given_that_it_is_no_decoy(answering):
    classifier, X = answering
    proba = classifier.predict_proba(X)
    expected = [[2 / 3, 1 / 3], [1 / 3, 2 / 3], [0.5, 0.5], [0.4, 0.6], [0.9, 0.1]]
    assert_allclose(proba, expected, rtol=1e-12)


def test_score_is_one_less_the_probability_of_the_decoy_class(answering):
    classifier, X = answering
    assert_allclose(classifier.decoy_proba(X), JOINT[:, -1])
    assert_allclose(classifier.score_samples(X), 1 - JOINT[:, -1])
    assert_array_equal(classifier.is_ood(X), [False, True, True, False, False])


def test_rejected_samples_get_the_label_that_is_asked_for(answering):
    classifier, X = answering
    assert_array_equal(classifier.predict(X), ["no", "yes", "no", "yes", "no"])
    classifier.set_params(reject_label="unknown")
    assert_array_equal(classifier.predict(X), ["no", "unknown", "unknown", "yes", "no"])
    assert classifier.score(X, ["no", "unknown", "yes", "yes", "yes"]) == 0.6
    classifier.set_params(reject_label=-1)
    assert classifier.predict(X).tolist() == ["no", -1, -1, "yes", "no"]


def test_rounding_below_0_is_no_fault_of_an_estimator():
    proba = np.float32([[0.6, 0.4, -1e-9], [1.0000001, 0, -1e-8], [0.5, 0.5, 0]])
    X, y = np.zeros((3, 1), dtype=np.float32), [0, 1, 0]
    classifier = DecoyClassClassifier(Recorder(proba), outliers="noise", random_state=0).fit(X, y)
    assert classifier.decoy_proba(X).tolist() == [0, 0, 0]
    assert classifier.predict_proba(X).max() <= 1
    faulty = Recorder(np.float32([[0.7, 0.4, -0.1]] * 3))
    with pytest.raises(ValueError, match="must give probabilities"):
        DecoyClassClassifier(faulty, outliers="noise", random_state=0).fit(X, y)


def test_scores_are_not_rounded_off_at_either_end():
    tiny = np.float32([1e-12, 1e-9, 3e-9])
    near_one = np.column_stack([1 - tiny, np.zeros(3, np.float32), tiny])
    proba = np.vstack([near_one, near_one[:, ::-1]]).astype(np.float32)
    X = np.zeros((6, 1), dtype=np.float32)
    classifier = DecoyClassClassifier(Recorder(proba), outliers="noise", random_state=0)
    scores = classifier.fit(X, [0, 1, 0, 1, 0, 1]).score_samples(X)
    assert_allclose(1 - scores[:3], tiny, rtol=1e-3)
    assert_allclose(scores[3:], tiny, rtol=1e-6)


@pytest.mark.parametrize("share", [0.1, 0.5])
def test_false_alarm_rate_is_the_share_of_training_samples_rejected(blobs, share):
    X, y = blobs
    classifier = DecoyClassClassifier(
        LogisticRegression(), outliers="noise", false_alarm_rate=share, random_state=0
    ).fit(X, y)
    assert classifier.is_ood(X[y != -1]).mean() == pytest.approx(share, abs=1 / 150)
    assert classifier.offset_ == np.percentile(classifier.score_samples(X[y != -1]), 100 * share)


def test_one_class_is_told_from_noise():
    X = np.random.RandomState(0).normal(size=(200, 2))
    far = np.array([[2.4, 2.4], [-2.4, 2.4], [2.4, -2.4], [-2.4, -2.4]])
    classifier = DecoyClassClassifier(
        RandomForestClassifier(50, random_state=0), outliers="noise", random_state=0
    ).fit(X, np.ones(200, dtype=int))
    assert_array_equal(classifier.predict_proba(X), np.ones((200, 1)))
    assert classifier.is_ood(far).all()


def test_pickled_classifier_answers_the_same(blobs):
    X, y = blobs
    classifier = DecoyClassClassifier(LogisticRegression(), random_state=0).fit(X, y)
    restored = pickle.loads(pickle.dumps(classifier))
    assert_array_equal(restored.score_samples(X), classifier.score_samples(X))


def test_parameters_of_the_estimator_are_reached_through_it():
    classifier = DecoyClassClassifier(LogisticRegression())
    assert classifier.set_params(estimator__C=3.0).estimator.C == 3.0


@pytest.mark.parametrize("as_kind", [float, np.uint8, str, object])
def test_accuracy_is_counted_whatever_the_labels(as_kind):
    X, y = make_blobs(90, centers=[[0, 0], [6, 0], [0, 6]], random_state=0)
    labels = np.array(["a", "b", "c"])[y] if as_kind is str else y.astype(as_kind)
    for reject_label in (-1, "unknown"):
        classifier = DecoyClassClassifier(
            LogisticRegression(),
            outliers=("noise", "mixed"),
            reject_label=reject_label,
            random_state=0,
        ).fit(X, labels)
        answers = classifier.predict(X)
        expected = np.mean([a == b for a, b in zip(answers, labels, strict=True)])
        assert classifier.score(X, labels) == expected


# What it learns.


def network(**params):
    return MLPClassifier((64,), max_iter=60, random_state=0, **params)


pytestmark = pytest.mark.filterwarnings("ignore::sklearn.exceptions.ConvergenceWarning")


@pytest.fixture(scope="module")
def plain(digits):
    X, y, *_ = digits
    return network().fit(X, y)


@pytest.mark.parametrize("outliers", ["mixed", "noise"])
def test_noise_is_found_better_than_by_the_largest_probability(digits, plain, outliers):
    X, y, X_test, y_test, *_ = digits
    classifier = DecoyClassClassifier(network(), outliers=outliers, random_state=0).fit(X, y)
    assert classifier.score(X_test, y_test) > plain.score(X_test, y_test) - 0.02
    for kind in ("uniform", "blobs"):
        noise = make_noise(kind, (200, 64), random_state=0)
        found = auroc(classifier.score_samples(X_test), classifier.score_samples(noise))
        without = auroc(
            plain.predict_proba(X_test).max(axis=1), plain.predict_proba(noise).max(axis=1)
        )
        assert found > 0.97 > without


def test_what_the_user_marks_is_known_again(digits, plain):
    X, y, X_test, _, ones, _ = digits
    learnt, unseen = ones[:90], ones[90:]
    classifier = DecoyClassClassifier(network(), outliers=None, random_state=0).fit(
        np.vstack([X, learnt]), np.r_[y, np.full(90, -1)]
    )
    found = auroc(classifier.score_samples(X_test), classifier.score_samples(unseen))
    without = auroc(
        plain.predict_proba(X_test).max(axis=1), plain.predict_proba(unseen).max(axis=1)
    )
    assert found > 0.97 > 0.95 > without


def test_search_over_the_ratio_ranks_by_the_scores(blobs):
    X, y = blobs
    classifier = DecoyClassClassifier(
        MLPClassifier((20,), solver="lbfgs", max_iter=300, random_state=0), random_state=0
    )
    ratios = [0.02, 1.0]
    splitter = OODKFold(3)
    search = GridSearchCV(
        classifier,
        {"outlier_ratio": ratios},
        scoring={"auroc": make_ood_scorer(), "fpr": make_ood_scorer("neg_fpr_at_95_tpr_ood")},
        cv=splitter,
        refit=False,
        error_score="raise",
    ).fit(X, y)
    expected = np.mean(
        [
            [
                ood_roc_auc_score(
                    y[test],
                    clone(classifier)
                    .set_params(outlier_ratio=ratio)
                    .fit(X[train], y[train])
                    .score_samples(X[test]),
                )
                for ratio in ratios
            ]
            for train, test in splitter.split(X, y)
        ],
        axis=0,
    )
    assert_allclose(search.cv_results_["mean_test_auroc"], expected)
    assert expected[1] > expected[0]


def test_pipeline_takes_images_that_were_turned(digits):
    X, y, X_test, y_test, *_ = digits
    X, X_test = X.reshape(-1, 1, 8, 8), X_test.reshape(-1, 1, 8, 8)
    flatten = FunctionTransformer(lambda images: images.reshape(len(images), -1))
    classifier = DecoyClassClassifier(
        make_pipeline(flatten, network()), outliers="rotated", random_state=0
    ).fit(X, y)
    assert classifier.score(X_test, y_test) > 0.9
    turned = np.rot90(X_test, axes=(-2, -1))
    assert auroc(classifier.score_samples(X_test), classifier.score_samples(turned)) > 0.97


# What it refuses.


def fit_with(X=None, y=None, **params):
    X = np.arange(12.0).reshape(6, 2) if X is None else X
    y = [0, 1, 2, 0, 1, 2] if y is None else y
    return DecoyClassClassifier(**{"estimator": Recorder(), **params}).fit(X, y)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"outliers": None}, r"outliers=None .* \(y == -1\), but there are none"),
        ({"outliers": "mixed", "y": [4] * 6}, r"different classes, but found one class: 4\."),
        ({"outliers": "rotated"}, r"\(n_samples, channels, n, n\), got \(6, 2\)"),
        ({"outliers": "rotated", "X": np.ones((6, 2, 3))}, r"got \(6, 2, 3\)"),
        ({"outliers": lambda X, y, rng: X[:, :1]}, r"of shape \(2,\), .* got \(1,\)"),
        ({"outliers": lambda X, y, rng: X * np.nan}, "outliers returned contains NaN"),
        ({"outliers": ["noise", "rain"]}, r"\['mixed', 'noise', 'rotated'\], got .*'rain'"),
        ({"outliers": []}, r"got \[\]"),
        ({"outliers": "rain"}, "'outliers' parameter"),
        ({"outlier_ratio": 0}, "'outlier_ratio' parameter"),
        ({"false_alarm_rate": 0.6}, "'false_alarm_rate' parameter"),
        ({"y": [-1] * 6}, "All 6 samples are marked out-of-distribution"),
        ({"y": [0.5, 1.5, 2, 1, 1, 1]}, "Unknown label type"),
        ({"y": [0, 1]}, r"\[6, 2\]"),
        ({"estimator": Recorder(np.ones((9, 3)) / 3)}, r"must have 4 outputs.* shape \(1, 3\)"),
        ({"estimator": Recorder(np.ones((9, 4)))}, "sums from 4 to 4"),
        ({"estimator": Recorder(np.full((9, 4), np.nan))}, "sums from nan to nan"),
        ({"estimator": Recorder([[2, -1, 0, 0]])}, "must give probabilities"),
    ],
)
def test_what_cannot_be_fitted_is_refused(arguments, message):
    with pytest.raises(ValueError, match=message):
        fit_with(**arguments)


def test_sparse_input_is_refused():
    with pytest.raises(TypeError, match=r"[Ss]parse data was passed"):
        fit_with(X=csr_array(np.eye(6)))
