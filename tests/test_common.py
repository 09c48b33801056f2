"""What holds for every estimator: scikit-learn's checks, and ours on Activations."""

import pickle

import numpy as np
import pytest
from _estimators import classifiers, construct, detectors, estimator_classes, transformers
from sklearn.base import clone, is_outlier_detector
from sklearn.covariance import LedoitWolf
from sklearn.discriminant_analysis import LinearDiscriminantAnalysis
from sklearn.exceptions import NotFittedError
from sklearn.model_selection import GridSearchCV
from sklearn.pipeline import make_pipeline
from sklearn.utils.estimator_checks import parametrize_with_checks

from skood import Activations, HammingNAPDetector, LayerSelector, LinearHead
from skood.detectors._head_detector import HeadDetector
from skood.ensemble import LayerEnsembleDetector
from skood.model_selection import OODKFold

FEW_PATTERNS = (
    "two neurons have four patterns, all of them stored: without broken ties every training "
    "sample is as near as can be, and no threshold tells some of them apart"
)
FEW_COUNTS = "of two neurons none, one or both are active: no threshold rejects a few samples"
LEFT_OUT = (
    "the threshold rejects the share that is asked for of new samples, and so of training samples "
    "when each is left out; scored as new ones, by what was learnt from them, fewer are rejected"
)
SCORED_LEFT_OUT = {
    "ActivationIntervalDetector",
    "GaussianActivationDetector",
    "GramDetector",
    "KNNDetector",
    "MahalanobisDetector",
    "NACDetector",
}
ABSOLUTE_THRESHOLD = "the user's threshold rejects no training sample, which is at distance 0"


THREE_LABELS = (
    "the check gives three labels to two columns of logits, and a label without a column is no "
    "class of the network"
)

MINUS_ONE_IS_NO_CLASS = "the check takes -1 for the label of a class, which marks outliers here"

# Random labels, or samples that are all classified correctly, have no best temperature.
pytestmark = pytest.mark.filterwarnings("ignore::sklearn.exceptions.ConvergenceWarning")


def name_of(estimator):
    return type(estimator).__name__


def is_coarse(count):
    return count.statistic != "mean_activation_count" and not count.two_sided


def expected_failures(estimator):
    name = name_of(estimator)
    if name in {"LINe", "TemperatureScaler"}:
        return {
            "check_estimators_fit_returns_self": THREE_LABELS,
            "check_estimators_overwrite_params": THREE_LABELS,
            "check_readonly_memmap_input": THREE_LABELS,
        }
    if name == "DecoyClassClassifier":
        return {"check_classifiers_classes": MINUS_ONE_IS_NO_CLASS}
    reason = None
    # The published rules compare whole numbers of bits.
    if name == "AutoNAPDetector" or not getattr(estimator, "break_ties", True):
        reason = FEW_PATTERNS
    elif name == "NeuronCountDetector" and is_coarse(estimator):
        reason = FEW_COUNTS
    elif getattr(estimator, "tau", None) is not None:
        reason = ABSOLUTE_THRESHOLD
    elif name in SCORED_LEFT_OUT and getattr(estimator, "intervals", None) != "quantile":
        reason = LEFT_OUT
    if reason is None:
        return {}
    return {"check_outliers_train": reason, "check_outliers_fit_predict": reason}


def variants():
    """Settings that take another path than the defaults."""
    classes = estimator_classes()
    return [
        construct(classes["HammingNAPDetector"], break_ties=False),
        construct(classes["HammingNAPDetector"], tau=0),
        construct(classes["LayerEnsembleDetector"], combine="mean"),
        construct(classes["LayerEnsembleDetector"], combine="vote"),
        construct(classes["LayerEnsembleDetector"], detector=[HammingNAPDetector()]),
        construct(classes["NeuronCountDetector"], statistic="coefficient"),
        construct(classes["NeuronCountDetector"], statistic="mean_activation_count"),
        construct(classes["NeuronCountDetector"], two_sided=True),
        *[
            construct(classes["ActivationIntervalDetector"], intervals=intervals)
            for intervals in ("quantile", "levels")
        ],
        *[construct(classes["ASH"], variant=variant) for variant in "pb"],
        construct(classes["GaussianActivationDetector"], threshold_samples=50),
        construct(classes["MahalanobisDetector"], relative=True),
        construct(classes["MahalanobisDetector"], covariance=LedoitWolf()),
        construct(classes["MahalanobisDetector"], normalize=True),
        *[construct(classes["SHEDetector"], metric=metric) for metric in ("cosine", "euclidean")],
        construct(classes["PercentileBinarizer"], rule="rank"),
        construct(classes["PercentileBinarizer"], rule="zero"),
        construct(classes["PoolingReducer"], pooling="flatten"),
    ]


@pytest.mark.filterwarnings("ignore::sklearn.exceptions.UndefinedMetricWarning")
@pytest.mark.filterwarnings("ignore:n_neighbors=20, but a sample has only")
@parametrize_with_checks(
    [*detectors(), *transformers(), *classifiers(), *variants()],
    expected_failed_checks=expected_failures,
)
def test_scikit_learn_checks(estimator, check):
    check(estimator)


N_INSIDE, N_OUTSIDE = 240, 40


@pytest.fixture(scope="module")
def data():
    """Three classes with patterns of their own in two layers, and samples with none of them.

    These activate more neurons, too, but less. The head tells the classes by their means.
    """
    rng = np.random.default_rng(0)
    label = np.arange(N_INSIDE) % 3
    layers = {}
    for name, width in {"relu1": 24, "relu2": 70}.items():
        centers = rng.normal(size=(3, width))
        inside = centers[label] + 0.5 * rng.normal(size=(N_INSIDE, width))
        outside = 0.6 * (0.7 + rng.normal(size=(N_OUTSIDE, width)))
        layers[name] = np.maximum(np.vstack([inside, outside]), 0).astype(np.float32)
    means = np.stack([layers["relu2"][:N_INSIDE][label == c].mean(axis=0) for c in range(3)])
    weight = 0.3 * (means - means.mean(axis=0))
    head = LinearHead(weight, -(weight * means).sum(axis=1) / 2, "relu2")
    A = Activations(layers, logits=head.logits(layers["relu2"]), head=head)
    return A, np.r_[label, np.full(N_OUTSIDE, -1)]


LEARN_FROM_OOD = {"AutoNAPDetector", "GroupProgressionDetector", "MahalanobisDetector"}


def without_chance(detector):
    """A perceptron depends on the order of samples; it is slow to fit, too."""
    if name_of(detector) == "GroupProgressionDetector":
        return detector.set_params(estimator=LinearDiscriminantAnalysis())
    return detector


def fit_params(detector, n_samples):
    """A fixed split for the detector that would draw one, so that runs can be compared."""
    if name_of(detector) == "AutoNAPDetector":
        return {"sample_split": -(np.arange(n_samples) % 4 != 0).astype(int)}
    return {}


def fitted(detector, A, y):
    return clone(detector).fit(A, y, **fit_params(detector, len(A)))


every_detector = pytest.mark.parametrize(
    "detector", [without_chance(detector) for detector in detectors()], ids=name_of
)
every_transformer = pytest.mark.parametrize(
    "transformer",
    [t for t in transformers() if hasattr(t, "transform") and not hasattr(t, "network")],
    ids=name_of,
)


def test_discovery_finds_the_core_estimators():
    found = set(estimator_classes())
    assert found >= {
        "ActivationExtractor",
        "AutoNAPDetector",
        "ClusterDistanceDetector",
        "DecoyClassClassifier",
        "DenoisingClassifier",
        "EnergyDetector",
        "GroupProgressionDetector",
        "HammingNAPDetector",
        "LayerEnsembleDetector",
        "LayerSelector",
        "MaxSoftmaxDetector",
        "NeuronCountDetector",
        "PercentileBinarizer",
        "PoolingReducer",
        "TemperatureScaler",
    }


@every_detector
def test_scores_of_a_subset_are_a_subset_of_the_scores(detector, data):
    A, y = data
    detector = fitted(detector, A, y)
    rows = np.array([250, 3, 17, 3, 120])
    expected = detector.score_samples(A)[rows]
    np.testing.assert_allclose(detector.score_samples(A[rows]), expected, rtol=1e-12)


@every_detector
def test_order_of_training_samples_does_not_matter(detector, data):
    A, y = data
    order = np.random.default_rng(1).permutation(len(A))
    params = {name: value[order] for name, value in fit_params(detector, len(A)).items()}
    shuffled = clone(detector).fit(A[order], y[order], **params)
    expected = fitted(detector, A, y).score_samples(A)
    # Sums in another order are rounded otherwise, which shows where a score is near 0.
    np.testing.assert_allclose(shuffled.score_samples(A), expected, rtol=1e-12, atol=1e-12)


@every_detector
def test_rows_marked_ood_are_not_learnt_from(detector, data):
    if name_of(detector) in LEARN_FROM_OOD:
        pytest.skip("learns from rows marked out-of-distribution, as its description says")
    A, y = data
    inside = np.flatnonzero(y != -1)
    with_ood, without = fitted(detector, A, y), fitted(detector, A[inside], y[inside])
    np.testing.assert_array_equal(with_ood.score_samples(A), without.score_samples(A))
    assert with_ood.offset_ == without.offset_


@every_detector
def test_predictions_are_respected_or_not_needed(detector, data):
    A, y = data
    detector = fitted(detector, A, y)
    scores = detector.score_samples(A)
    layers = dict(A.items())
    others = Activations(layers, logits=A.logits, predictions=(A.predictions + 1) % 3)
    if np.array_equal(detector.score_samples(others), scores):
        return
    assert scores[:N_INSIDE].mean() > detector.score_samples(others)[:N_INSIDE].mean()
    with pytest.raises(ValueError, match="predictions"):
        detector.score_samples(Activations(layers))


@every_detector
def test_wrong_layers_are_refused(detector, data):
    A, y = data
    detector = fitted(detector, A, y)
    wrong = Activations({"other": A["relu1"]}, logits=A.logits[:, :2])
    with pytest.raises(ValueError, match="layers"):
        detector.score_samples(wrong)
    with pytest.raises(ValueError, match="Activations"):
        detector.score_samples(A.logits)


@every_detector
def test_pickled_detector_scores_alike(detector, data):
    A, y = data
    detector = fitted(detector, A, y)
    copy = pickle.loads(pickle.dumps(detector))
    np.testing.assert_array_equal(copy.score_samples(A), detector.score_samples(A))


@every_detector
def test_input_is_left_alone(detector, data):
    A, y = data
    before = pickle.dumps((A, y))
    fitted(detector, A, y).predict(A)
    assert pickle.dumps((A, y)) == before


@every_detector
@pytest.mark.parametrize("value", [np.nan, np.inf])
def test_values_that_are_not_finite_are_refused(detector, data, value):
    A, y = data
    layers = {name: array.copy() for name, array in A.items()}
    layers["relu2"][5, 5] = value
    logits = A.logits.copy()
    logits[5, 1] = value
    broken = Activations(layers, logits=logits, predictions=A.predictions, head=A.head)
    with pytest.raises(ValueError, match=r"layer '(relu2|logits)' contains (NaN|infinity)"):
        fitted(detector, broken, y)
    with pytest.raises(ValueError, match="layer"):
        fitted(detector, A, y).score_samples(broken)


@every_detector
def test_no_samples_are_refused(detector, data):
    A, y = data
    with pytest.raises(ValueError, match="0 samples"):
        fitted(detector, A[:0], y[:0])
    with pytest.raises(ValueError, match="0 samples"):
        fitted(detector, A, y).predict(A[:0])


@every_detector
def test_ood_samples_alone_are_refused(detector, data):
    A, _ = data
    with pytest.raises(ValueError, match="none is left"):
        fitted(detector, A, np.full(len(A), -1))


@every_detector
def test_labels_of_another_length_are_refused(detector, data):
    A, y = data
    with pytest.raises(ValueError, match=r"280 samples, but .* 279"):
        clone(detector).fit(A, y[:-1])


@every_detector
def test_unfitted_detector_says_so(detector, data):
    A, _ = data
    with pytest.raises(NotFittedError, match="not fitted yet"):
        clone(detector).score_samples(A)


@every_detector
def test_detector_is_one_and_tells_the_samples_apart(detector, data):
    A, y = data
    detector = fitted(detector, A, y)
    assert is_outlier_detector(detector)
    assert detector.score(A, y) > 0.9
    np.testing.assert_array_equal(
        detector.predict(A), np.where(detector.decision_function(A) >= 0, 1, -1)
    )


@every_detector
def test_dead_neurons_do_no_harm(detector, data):
    A, y = data
    layers = {name: array.copy() for name, array in A.items()}
    layers["relu1"][:] = 0
    layers["relu2"][:, :60] = 0
    dead = Activations(layers, logits=A.logits, head=A.head)
    assert np.isfinite(fitted(detector, dead, y).score_samples(dead)).all()


@every_detector
def test_detector_can_be_searched_as_it_stands(detector, data):
    A, y = data
    supervised = name_of(detector) in LEARN_FROM_OOD
    choices = ["relu2", "all"] if isinstance(detector, HeadDetector) else ["relu1", "relu2", "all"]
    search = GridSearchCV(
        make_pipeline(LayerSelector(), detector),
        {"layerselector__layers": choices},
        cv=OODKFold(3, ood_in_train=supervised),
        error_score="raise",
    ).fit(A, y)
    assert search.best_score_ > 0.9


@every_transformer
def test_transform_of_a_subset_is_a_subset_of_the_transform(transformer, data):
    A, y = data
    transformer = clone(transformer).fit(A, y)
    rows = np.array([7, 2, 100])
    whole, part = transformer.transform(A), transformer.transform(A[rows])
    assert whole.layers == part.layers == A.layers
    for name, array in part.items():
        np.testing.assert_array_equal(np.asarray(array), np.asarray(whole[name][rows]))
    np.testing.assert_array_equal(part.predictions, A.predictions[rows])
    np.testing.assert_allclose(part.logits, whole.logits[rows], rtol=1e-5)


@every_transformer
def test_transformer_refuses_wrong_layers_and_survives_pickling(transformer, data):
    A, y = data
    transformer = pickle.loads(pickle.dumps(clone(transformer).fit(A, y)))
    np.testing.assert_array_equal(
        np.asarray(transformer.transform(A)), np.asarray(clone(transformer).fit_transform(A, y))
    )
    with pytest.raises(ValueError, match="layers"):
        transformer.transform(Activations({"other": A["relu1"]}))


@every_transformer
@pytest.mark.parametrize("library", ["pandas", "polars"])
def test_set_output_wraps_arrays_and_not_activations(transformer, library, data):
    pytest.importorskip(library)
    A, y = data
    transformer = clone(transformer).set_output(transform=library)
    assert isinstance(transformer.fit_transform(A, y), Activations)
    frame = transformer.fit_transform(A["relu1"], A.predictions)
    assert list(frame.columns)[:2] == ["x0", "x1"]


def test_two_detectors_on_the_same_activations_do_not_disturb_each_other(data):
    A, y = data
    first = HammingNAPDetector().fit(A, y)
    scores = first.score_samples(A)
    LayerEnsembleDetector(HammingNAPDetector()).fit(A[::2], y[::2])
    HammingNAPDetector().fit(A[::3], y[::3])
    np.testing.assert_array_equal(first.score_samples(A), scores)
