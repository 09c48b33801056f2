"""What holds for every estimator: scikit-learn's checks, and ours on Activations."""

import pickle
import re

import numpy as np
import pytest
from _estimators import classifiers, construct, detectors, estimator_classes, transformers
from sklearn.base import clone, is_outlier_detector
from sklearn.covariance import LedoitWolf
from sklearn.discriminant_analysis import LinearDiscriminantAnalysis
from sklearn.ensemble import IsolationForest
from sklearn.exceptions import NotFittedError
from sklearn.model_selection import GridSearchCV, KFold
from sklearn.pipeline import make_pipeline
from sklearn.utils.estimator_checks import parametrize_with_checks

from skood import (
    ActivationExtractor,
    Activations,
    ClusterDistanceDetector,
    GroupProgressionDetector,
    HammingNAPDetector,
    NeuronCountDetector,
    PercentileBinarizer,
    PoolingReducer,
)
from skood.activations import LinearHead
from skood.calibration import ConformalDetector, RiskControlledDetector, TemperatureScaler
from skood.detectors import (
    ActivationIntervalDetector,
    EnergyDetector,
    GaussianActivationDetector,
    MahalanobisDetector,
    MaxSoftmaxDetector,
    NCIDetector,
    SHEDetector,
)
from skood.detectors._base_head import BaseHeadDetector
from skood.ensemble import AutoNAPDetector, LayerEnsembleDetector
from skood.model_selection import OODKFold
from skood.preprocessing import LayerSelector
from skood.shaping import ASH
from skood.training import DecoyClassClassifier, DenoisingClassifier

# Random labels, or samples that are all classified correctly, have no best temperature.
pytestmark = pytest.mark.filterwarnings("ignore::sklearn.exceptions.ConvergenceWarning")


def name_of(estimator):
    return type(estimator).__name__


def expected_failures(estimator):
    """Checks that the estimator fails by design, each with the reason."""
    return getattr(estimator, "_expected_failed_checks", dict)()


def variants():
    """Settings that take another path than the defaults."""
    return [
        construct(ConformalDetector, cv=3),
        construct(ConformalDetector, cv=KFold(4), false_alarm_rate=0.1),
        construct(ConformalDetector, guarantee="training-conditional"),
        construct(ConformalDetector, detector=IsolationForest(n_estimators=5, random_state=0)),
        construct(HammingNAPDetector, break_ties=False),
        construct(HammingNAPDetector, tau=0),
        construct(LayerEnsembleDetector, combine="mean"),
        construct(LayerEnsembleDetector, combine="vote"),
        construct(LayerEnsembleDetector, detector=[HammingNAPDetector()]),
        construct(NeuronCountDetector, statistic="coefficient"),
        construct(NeuronCountDetector, statistic="mean_activation_count"),
        construct(NeuronCountDetector, two_sided=True),
        *[
            construct(ActivationIntervalDetector, intervals=intervals)
            for intervals in ("quantile", "levels")
        ],
        *[construct(ASH, variant=variant) for variant in "pb"],
        construct(GaussianActivationDetector, n_threshold_samples=50),
        construct(MahalanobisDetector, relative=True),
        construct(MahalanobisDetector, covariance=LedoitWolf()),
        construct(MahalanobisDetector, normalize=True),
        *[construct(SHEDetector, metric=metric) for metric in ("cosine", "euclidean")],
        construct(PercentileBinarizer, rule="rank"),
        construct(PercentileBinarizer, rule="zero"),
        construct(PoolingReducer, pooling="flatten"),
    ]


@pytest.mark.filterwarnings("ignore::sklearn.exceptions.UndefinedMetricWarning")
@pytest.mark.filterwarnings("ignore:n_neighbors=20, but a sample has only")
@pytest.mark.filterwarnings("ignore:No threshold has an error rate")
@pytest.mark.filterwarnings("ignore:.* calibration row.s. cannot give a false alarm rate")
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


LEARN_FROM_OOD = (AutoNAPDetector, GroupProgressionDetector, MahalanobisDetector)


def without_chance(detector):
    """A perceptron depends on the order of samples; it is slow to fit, too.

    So is k-means for many numbers of clusters.
    """
    if isinstance(detector, ClusterDistanceDetector):
        return detector.set_params(n_clusters=3)
    if isinstance(detector, GroupProgressionDetector):
        return detector.set_params(estimator=LinearDiscriminantAnalysis())
    return detector


def fit_params(detector, n_samples):
    """A fixed split for the detector that would draw one, so that runs can be compared."""
    if isinstance(detector, AutoNAPDetector):
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
    found = set(estimator_classes().values())
    assert found >= {
        ActivationExtractor,
        AutoNAPDetector,
        ClusterDistanceDetector,
        ConformalDetector,
        DecoyClassClassifier,
        DenoisingClassifier,
        EnergyDetector,
        GroupProgressionDetector,
        HammingNAPDetector,
        LayerEnsembleDetector,
        LayerSelector,
        MaxSoftmaxDetector,
        NeuronCountDetector,
        PercentileBinarizer,
        PoolingReducer,
        RiskControlledDetector,
        TemperatureScaler,
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
    if isinstance(detector, LEARN_FROM_OOD):
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


def same_network(A, **parts):
    """The same layers with other parts, of which those that are left out are those of ``A``."""
    kept = {"logits": A.logits, "head": A.head}
    return Activations(**{"layers": dict(A.items()), **kept, **parts})


def refused_or_scored(refusal, score):
    """The scores, or None where they are refused by a ValueError with such a message."""
    try:
        return score()
    except ValueError as error:
        if not re.search(refusal, str(error)):
            raise
        return None


@every_detector
@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf])
def test_no_class_is_predicted_by_logits_that_are_not_finite(detector, data, value):
    A, y = data
    logits = A.logits.copy()
    logits[[5, 9], 1] = value
    broken = same_network(A, logits=logits)
    refusal = r"logits'? contains (NaN|infinity) in 2 of \d+ rows, the first of them row 5"
    usual = fitted(detector, A, y)
    for scored in (
        refused_or_scored(refusal, lambda: fitted(detector, broken, y).score_samples(broken)),
        refused_or_scored(refusal, lambda: usual.score_samples(broken)),
    ):
        # What is scored does not read them at all.
        if scored is not None:
            np.testing.assert_array_equal(scored, usual.score_samples(A))


def other_networks(A):
    texts = np.array(["a", "b", "c"])
    head = LinearHead(A.head.weight[:2], A.head.bias[:2], "relu2")
    return {
        "names": same_network(A, classes=texts),
        "other numbers": same_network(A, classes=[0, 1, 3]),
        "another order": same_network(A, classes=[2, 1, 0]),
        "fewer": same_network(A, logits=A.logits[:, :2], head=head),
        "predicted names": same_network(A, logits=None, predictions=texts[A.predictions]),
    }


@pytest.mark.parametrize("other", ["names", "other numbers", "another order", "fewer"])
@every_detector
def test_other_classes_than_those_of_fit_are_refused(detector, data, other):
    A, y = data
    detector = fitted(detector, A, y)
    with pytest.raises(
        ValueError,
        match=r"fitted on (one with the classes \[0, 1, 2\]|.*: \(3,\))|of 3 classes, .* but got 2",
    ):
        detector.score_samples(other_networks(A)[other])


@pytest.mark.parametrize("with_logits", [True, False])
@pytest.mark.parametrize(
    "detector",
    [
        ActivationIntervalDetector(),
        GaussianActivationDetector(),
        HammingNAPDetector(),
        SHEDetector(),
    ],
    ids=name_of,
)
def test_an_unseen_prediction_is_rejected_and_one_of_another_kind_refused(
    detector, data, with_logits
):
    A, y = data
    layers, predictions = dict(A.items()), A.predictions
    detector = clone(detector).fit(
        A if with_logits else Activations(layers, predictions=predictions), y
    )
    mixed = np.where(np.arange(len(predictions)) % 2, predictions + 7, predictions)
    unseen = detector.predict(Activations(layers, predictions=mixed))[1::2]
    np.testing.assert_array_equal(unseen, -1)
    with pytest.raises(ValueError, match="must be of one kind: those of X are text"):
        detector.score_samples(Activations(layers, predictions=predictions.astype(str)))


@every_detector
def test_predicted_names_for_numbers_are_refused(detector, data):
    A, y = data
    with pytest.raises(ValueError, match=r"must be of one kind|needs logits|no layer 'passes'"):
        fitted(detector, A, y).score_samples(other_networks(A)["predicted names"])


@every_transformer
def test_transformers_refuse_other_classes_than_those_of_fit(transformer, data):
    if isinstance(transformer, LayerSelector):
        pytest.skip("reads nothing but the names of layers")
    A, y = data
    transformer = clone(transformer).fit(A, y)
    with pytest.raises(ValueError, match=r"fitted on one with the classes \[0, 1, 2\]"):
        transformer.transform(other_networks(A)["names"])


UNREADABLE = {
    "complex": lambda layer: layer + 1j,
    "datetime": lambda layer: layer.astype(int).astype("datetime64[s]"),
    "object": lambda layer: layer.astype(object),
    "text": lambda layer: layer.astype(str),
    "timedelta": lambda layer: layer.astype(int).astype("timedelta64[s]"),
}


@pytest.mark.parametrize("kind", UNREADABLE)
@every_detector
def test_layers_that_are_no_numbers_are_refused(detector, data, kind):
    A, _ = data
    broken = UNREADABLE[kind](A["relu2"])
    with pytest.raises(ValueError, match=r"relu2' must be an array of numbers, got .* of dtype"):
        same_network(A, layers={"relu1": A["relu1"], "relu2": broken})
    if kind == "object":  # of numbers, which scikit-learn converts
        return
    with pytest.raises((ValueError, TypeError)):
        clone(detector).fit(broken)
    with pytest.raises((ValueError, TypeError)):
        clone(detector).fit(A["relu2"]).score_samples(broken)


@every_detector
def test_masked_values_are_refused(detector, data):
    A, y = data
    masked = np.ma.masked_greater(A["relu2"], 1.0)
    with pytest.raises(ValueError, match="X is a masked array with"):
        clone(detector).fit(masked)
    for part in ({"layers": {"relu2": masked}}, {"logits": np.ma.masked_greater(A.logits, 1.0)}):
        with pytest.raises(ValueError, match="is a masked array with"):
            same_network(A, **part)
    with pytest.raises(ValueError, match="y must hold a label for every row, but some are masked"):
        fitted(detector, A, np.ma.masked_equal(y, -1))


@every_detector
def test_missing_labels_are_refused(detector, data):
    A, y = data
    labels = y.astype(object)
    labels[7] = None
    with pytest.raises(ValueError, match=r"y contains .* no label at all in some rows \(None\)"):
        fitted(detector, A, labels)


def test_layers_without_units_are_refused(data):
    A, _ = data
    with pytest.raises(ValueError, match="layer 'empty' has no units"):
        same_network(A, layers={**dict(A.items()), "empty": np.zeros((len(A), 0))})


@pytest.mark.parametrize(
    ("dtype", "factor"),
    [("f2", 8e3), ("f4", 3e37), ("f8", 1e-140), ("f8", 1e140), (np.longdouble, 1)],
)
@every_detector
def test_activations_of_any_size_and_precision_are_scored_right(detector, data, dtype, factor):
    A, y = data
    layers = {name: (layer.astype(float) * factor).astype(dtype) for name, layer in A.items()}
    scaled = same_network(A, layers=layers)
    if isinstance(detector, NCIDetector):  # adds a length to a cosine
        detector = detector.set_params(alpha=0)
    assert fitted(detector, scaled, y).score(scaled, y) > 0.9


@pytest.mark.parametrize("factor", [1e300, 1e-300])
@every_detector
def test_activations_whose_squares_leave_the_range_are_scored_right_or_refused(
    detector, data, factor
):
    A, y = data
    scaled = same_network(A, layers={n: layer.astype(float) * factor for n, layer in A.items()})
    usual, refusal = fitted(detector, A, y), "whose squares leave the range"
    if isinstance(detector, NCIDetector):
        detector = detector.set_params(alpha=0)
    auroc = refused_or_scored(refusal, lambda: fitted(detector, scaled, y).score(scaled, y))
    assert auroc is None or auroc > 0.9
    scores = refused_or_scored(refusal, lambda: usual.score_samples(scaled))
    assert scores is None or np.isfinite(scores).all()


def state_of(estimator):
    return dict(vars(estimator))


def is_unchanged(estimator, state):
    now = vars(estimator)
    return now.keys() == state.keys() and all(now[name] is state[name] for name in state)


@pytest.mark.parametrize(
    "estimator",
    [
        e
        for e in [*detectors(), *transformers()]
        if not isinstance(e, (LayerSelector, RiskControlledDetector))
    ],
    ids=name_of,
)
def test_a_failed_fit_changes_nothing(estimator, data):
    A, y = data
    estimator = clone(without_chance(estimator))
    X = A["relu2"] if hasattr(estimator, "network") else A
    labels = y if hasattr(estimator, "offset_") or not hasattr(estimator, "predict_proba") else None
    broken = with_nan_in_the_last_layer(A) if X is A else np.zeros((3, 0))
    new = state_of(estimator)
    with pytest.raises(ValueError, match=r"NaN|0 feature"):
        estimator.fit(broken, labels)
    assert is_unchanged(estimator, new)
    estimator.fit(X, labels)
    earlier = state_of(estimator)
    with pytest.raises(ValueError, match=r"NaN|0 feature"):
        estimator.fit(broken, labels)
    assert is_unchanged(estimator, earlier)
    for partial_fit in filter(None, [getattr(estimator, "partial_fit", None)]):
        with pytest.raises(ValueError, match="NaN"):
            partial_fit(broken, labels)
        assert is_unchanged(estimator, earlier)


def with_nan_in_the_last_layer(A):
    broken = A["relu2"].copy()
    broken[3, 3] = np.nan
    logits = A.logits.copy()
    logits[3, 1] = np.nan
    return same_network(A, layers={"relu1": A["relu1"], "relu2": broken}, logits=logits)


def by_class():
    """The detectors that learn nothing of a class that is predicted but is never right."""
    for detector in detectors():
        if hasattr(detector, "group_by") and detector._looks_up_classes:
            yield detector.set_params(group_by="correct")


def test_detectors_that_learn_by_class_are_found():
    assert {type(detector) for detector in by_class()} >= {
        ActivationIntervalDetector,
        GaussianActivationDetector,
        GroupProgressionDetector,
        HammingNAPDetector,
    }


@pytest.mark.parametrize("detector", list(by_class()), ids=name_of)
def test_a_class_that_is_never_right_is_rejected_whatever_its_share(detector, data):
    A, y = data
    inside = np.flatnonzero(y != -1)
    A = A[inside]
    labels = np.where(A.predictions == 2, 0, A.predictions)
    is_wrong = A.predictions == 2
    assert is_wrong.mean() > 0.3
    detector = fitted(detector, A, labels)
    np.testing.assert_array_equal(detector.predict(A[is_wrong]), -1)
    assert (detector.predict(A[~is_wrong]) == 1).mean() > 0.9
    # Nor is the threshold so low that no sample of the other classes can be rejected.
    assert detector.offset_ > detector.score_samples(A[is_wrong]).max()


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


@pytest.mark.filterwarnings("ignore:Layer 'relu1' does not vary")
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
    supervised = isinstance(detector, LEARN_FROM_OOD)
    choices = (
        ["relu2", "all"] if isinstance(detector, BaseHeadDetector) else ["relu1", "relu2", "all"]
    )
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
    assert whole.layer_names == part.layer_names == A.layer_names
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
