"""How labels are read everywhere: which rows are marked, and which networks take no marks."""

from decimal import Decimal
from fractions import Fraction

import numpy as np
import pandas as pd
import pytest
from _networks import trained_perceptron
from matplotlib.figure import Figure
from sklearn.ensemble import IsolationForest
from sklearn.linear_model import LogisticRegression
from sklearn.model_selection import GridSearchCV
from sklearn.pipeline import make_pipeline

from skood import ActivationExtractor, Activations, make_monitor
from skood._marks import plain_labels, read_labels
from skood.calibration import ReliabilityDisplay, TemperatureScaler
from skood.detectors import (
    ActivationIntervalDetector,
    ClusterDistanceDetector,
    GaussianActivationDetector,
    HammingNAPDetector,
    KNNDetector,
    MaxSoftmaxDetector,
    OpenMaxDetector,
    SHEDetector,
)
from skood.ensemble import AutoNAPDetector, LayerEnsembleDetector
from skood.inspection import (
    NeuronStatistics,
    OODRocCurveDisplay,
    explain,
    neuron_accuracy,
)
from skood.metrics import (
    detection_accuracy_score,
    fpr_at_tpr_score,
    make_ood_scorer,
    ood_average_precision_score,
    ood_roc_auc_score,
)
from skood.model_selection import OODKFold, OODPredefinedSplit, OODShuffleSplit
from skood.shaping import ReAct
from skood.training import DecoyClassClassifier
from skood.training._rejection import encode_classes, infer_classes

N_IN, N_OOD = 60, 12


def text_labels():
    return ["cat", "dog"] * (N_IN // 2) + [-1] * N_OOD


WRITTEN = {
    "list": text_labels(),
    "tuple": tuple(text_labels()),
    "array of texts": np.array(text_labels()),
    "array of bytes": np.array(text_labels()).astype("S"),
    "array of objects": np.array(text_labels(), dtype=object),
    "variable width": np.array(text_labels()).astype(np.dtypes.StringDType()),
    "list of texts": [str(label) for label in text_labels()],
    "spaces": [f" {label} " for label in text_labels()],
    "fractions": [str(label).replace("-1", "-1.0") for label in text_labels()],
    "series": pd.Series(text_labels()),
    "string series": pd.Series([str(label) for label in text_labels()], dtype="string"),
    "categorical": pd.Series(text_labels()).astype("category"),
    "numbers": pd.Series([0, 1] * (N_IN // 2) + [-1] * N_OOD, dtype="Int64"),
    "text numbers": np.array([0, 1] * (N_IN // 2) + [-1] * N_OOD).astype(str),
    "mixed numbers": [0, 1.0] * (N_IN // 2) + ["-1"] * N_OOD,
}
every_way = pytest.mark.parametrize("y", WRITTEN.values(), ids=WRITTEN)


@pytest.fixture(scope="module")
def X():
    rows = np.random.default_rng(0).normal(size=(N_IN + N_OOD, 3))
    rows[N_IN:] += 30
    return rows


@pytest.fixture(scope="module")
def A(X):
    """A network that names cats and dogs, and is right on most of them."""
    logits = np.random.default_rng(1).normal(size=(len(X), 2))
    logits[np.arange(len(X)), np.arange(len(X)) % 2] += 2
    return Activations({"fc": np.abs(X)}, logits=logits, classes=["cat", "dog"])


# Reading


@every_way
def test_rows_marked_in_whatever_way_are_never_learnt_from(y, X):
    for detector in (
        KNNDetector(n_neighbors=3, normalize=False),
        LayerEnsembleDetector(IsolationForest(random_state=0)),
    ):
        detector.fit(X, y)
        np.testing.assert_array_equal(detector.training_rows_, np.arange(N_IN))
        assert (detector.predict(X[N_IN:]) == -1).all()


@every_way
def test_metrics_and_splitters_find_the_marked_rows(y, X):
    scores = np.arange(len(X))[::-1]
    assert ood_roc_auc_score(y, scores) == 1
    assert ood_average_precision_score(y, scores) == 1
    assert fpr_at_tpr_score(y, scores) == 0
    assert detection_accuracy_score(y, scores) == 1
    test_fold = np.arange(len(X)) % 2
    for splitter in (
        OODKFold(3),
        OODShuffleSplit(2, random_state=0),
        OODPredefinedSplit(test_fold),
    ):
        for train, test in splitter.split(X, y):
            assert train.max() < N_IN <= test.max()


@every_way
def test_scorers_and_curves_find_the_marked_rows(y, X):
    detector = KNNDetector(n_neighbors=3, normalize=False).fit(X, y)
    assert make_ood_scorer()(detector, X, y) == 1
    assert make_ood_scorer(lambda y, scores: np.mean(y == -1))(detector, X, y) == N_OOD / len(X)
    assert detector.score(X, y) == 1
    display = OODRocCurveDisplay.from_estimator(detector, X, y, ax=Figure().subplots())
    assert display.roc_auc["KNNDetector"] == 1


@every_way
def test_classifiers_train_on_marked_rows_as_decoys_alone(y, X):
    classifier = DecoyClassClassifier(
        LogisticRegression(), outliers=None, reject_label=-1, random_state=0
    )
    classifier.fit(X, y)
    assert classifier.n_outliers_ == N_OOD
    assert len(classifier.classes_) == 2
    assert classifier.is_ood(X[N_IN:]).all()
    assert (classifier.predict(X[N_IN:]) == -1).all()
    assert len(classifier.set_params(outliers="noise").make_outliers(X, y)) == N_IN // 2


@pytest.mark.parametrize("name", ["list", "array of texts", "array of bytes", "text numbers"])
def test_images_that_are_marked_are_left_out_of_training(name):
    images, y = np.arange(float(N_IN + N_OOD)), WRITTEN[name]
    classes = infer_classes(y, len(images))
    kept, codes = encode_classes(images, y, classes)
    assert classes.tolist() in (["cat", "dog"], ["0", "1"])
    np.testing.assert_array_equal(kept, images[:N_IN])
    np.testing.assert_array_equal(codes, np.arange(N_IN) % 2)


def test_two_classes_of_which_one_is_the_mark_are_refused_for_images():
    with pytest.raises(ValueError, match=r"got \[1\] beside rows marked -1.*such as 0 and 1"):
        infer_classes([1, -1, 1], 3)


@pytest.mark.parametrize("reject", [True, False])
def test_a_rejected_sample_is_right_where_it_is_marked(X, reject):
    y = np.array(text_labels())
    classifier = DecoyClassClassifier(
        LogisticRegression(),
        outliers=None,
        reject_label=-1 if reject else None,
        random_state=0,
    ).fit(X, y)
    assert classifier.score(X[N_IN:], y[N_IN:]) == reject


BY_LABEL = [
    HammingNAPDetector(group_by="label"),
    HammingNAPDetector(group_by="correct"),
    GaussianActivationDetector(group_by="label"),
    ActivationIntervalDetector(group_by="label"),
    SHEDetector(),
    ClusterDistanceDetector(random_state=0),
    AutoNAPDetector(group_by="label", validation=0.5, random_state=0),
    OpenMaxDetector(tail_size=5),
]
OF_NAMES = [
    name for name in WRITTEN if name not in ("spaces", "numbers", "text numbers", "mixed numbers")
]


@pytest.mark.parametrize("name", OF_NAMES)
def test_detectors_that_read_class_labels_are_the_same_for_all_ways(name, A):
    expected = np.array(text_labels(), dtype=object)
    for detector in BY_LABEL:
        scores = detector.fit(A, expected).score_samples(A)
        np.testing.assert_array_equal(detector.fit(A, WRITTEN[name]).score_samples(A), scores)


@pytest.mark.parametrize("name", OF_NAMES)
def test_what_else_reads_class_labels_leaves_marked_rows_out(name, A):
    y = WRITTEN[name]
    inside, labels = A[:N_IN], text_labels()[:N_IN]
    scaler = TemperatureScaler()
    assert scaler.fit(A, y).temperature_ == scaler.fit(inside, labels).temperature_
    found = neuron_accuracy(A, y)["fc"]
    np.testing.assert_array_equal(found, neuron_accuracy(inside, labels)["fc"])
    assert NeuronStatistics.from_activations(A, y)["support"].max() <= N_IN
    bins = ReliabilityDisplay.from_activations(A, y, ax=Figure().subplots()).bins
    assert bins.counts.sum() == N_IN
    scorer = make_ood_scorer(target="misclassified")
    detector = MaxSoftmaxDetector().fit(A)
    assert scorer(detector, A, y) == scorer(detector, inside, labels)
    explanation = explain(GaussianActivationDetector().fit(inside), A[-1:], X_train=A, y_train=y)
    assert explanation.neighbors.max() < N_IN


@pytest.mark.parametrize(
    ("label", "is_mark"),
    [
        ("-1", True),
        ("\N{MINUS SIGN}1", True),
        ("-1.00", True),
        ("-1e0", True),
        (b" -1", True),
        (-1.0, True),
        (np.int8(-1), True),
        (Fraction(-1), True),
        (Decimal(-1), True),
        ("1", False),
        ("-1.5", False),
        ("-11", False),
        ("class -1", False),
        ("", False),
        (True, False),
        (-2, False),
    ],
    ids=repr,
)
def test_what_reads_as_the_number_is_the_mark(label, is_mark):
    labels = read_labels(np.array([label, "cat"], dtype=object))
    assert (labels[0] == -1) == is_mark
    assert labels[1] == "cat"


def test_labels_without_marks_keep_their_dtype():
    for y in (["a", "b"], np.array(["a", "b"]), [0, 1], [0.5], [True]):
        assert read_labels(y).dtype == np.asarray(y).dtype


MISSING = {
    "None": ["cat", None, -1],
    "NaN in a list": ["cat", np.nan, -1],
    "NaN as text": np.array(["cat", np.nan, -1]),
    "NaN": [0, np.nan, -1],
    "infinity": [0, np.inf, -1],
    "infinite object": np.array([0, np.inf, "-1"], dtype=object),
    "Int64": pd.Series([0, None, -1], dtype="Int64"),
    "string": pd.Series(["cat", None, "-1"], dtype="string"),
    "categorical": pd.Series(["cat", None, "-1"], dtype="category"),
    "masked": np.ma.array([0, 1, -1], mask=[False, True, False]),
    "dates": np.array(["2024-01-01"] * 3, dtype="M8[D]"),
    "pairs": pd.Series([("cat", 1), ("dog", 2), -1]),
    "NaT": np.array([0, np.datetime64("NaT"), -1], dtype=object),
    "Decimal": np.array([Decimal(0), Decimal("nan"), -1], dtype=object),
    "lists": np.array([[0], [1, 2], -1], dtype=object),
    "2-D": [[0, 1], [1, 0], [-1, -1]],
}


@pytest.mark.parametrize("y", MISSING.values(), ids=MISSING)
def test_missing_labels_and_what_is_no_label_are_refused(y):
    X = np.arange(6.0).reshape(3, 2)
    for use in (KNNDetector(n_neighbors=1).fit, lambda X, y: next(OODKFold(2).split(X, y))):
        with pytest.raises(ValueError, match=r"[Ll]abel|NaN|1d array"):
            use(X, y)


def test_texts_beside_numbers_are_refused_where_labels_are_learnt(X):
    y = np.array([0, "cat"] * (N_IN // 2) + [-1] * N_OOD, dtype=object)
    with pytest.raises(ValueError, match=r"all texts or all numbers, got \[0, 'cat'\]"):
        KNNDetector(n_neighbors=1).fit(X, y)
    with pytest.raises(ValueError, match="all texts or all numbers"):
        next(OODKFold(2).split(X, y))


def test_plain_labels_have_the_dtype_that_they_have_alone():
    assert plain_labels(np.array(["a", "bc"], dtype=object)).dtype == "<U2"
    assert plain_labels(np.array([0, 1], dtype=object)).dtype.kind == "i"


def test_polars_labels_are_read():
    polars = pytest.importorskip("polars")
    assert read_labels(polars.Series(["cat", "-1"])).tolist() == ["cat", -1]
    assert read_labels(polars.Series([0, -1])).tolist() == [0, -1]
    with pytest.raises(ValueError, match="no label at all"):
        read_labels(polars.Series(["cat", None]))


# Networks with a class -1


@pytest.fixture(scope="module")
def halves():
    """Two blobs that are coded as -1 and 1, and a network of this coding."""
    rng = np.random.default_rng(0)
    y = np.repeat([-1, 1], 40)
    rows = rng.normal(size=(80, 3)) + 2 * y[:, np.newaxis]
    net = trained_perceptron(rows, y, (6,), n_steps=100, learning_rate_init=0.01)
    return rows, y, net, ActivationExtractor(net).fit_transform(rows)


WANTED = r"class -1 among .*marks out-of-distribution.*0 and 1.*y=None"


@pytest.mark.parametrize(
    "detector",
    [
        HammingNAPDetector(),
        KNNDetector(),
        SHEDetector(),
        MaxSoftmaxDetector(),
        AutoNAPDetector(),
        LayerEnsembleDetector(KNNDetector()),
        ReAct(),
        TemperatureScaler(),
    ],
    ids=lambda detector: type(detector).__name__,
)
def test_labels_of_a_network_with_a_class_that_is_the_mark_are_refused(detector, halves):
    _, y, _, A = halves
    with pytest.raises(ValueError, match=WANTED):
        detector.fit(A, y)
    with pytest.raises(ValueError, match=WANTED):
        detector.fit(A, np.ones(len(y), dtype=int))


@pytest.mark.parametrize("classes", [["-1", "1"], np.array([-1.0, 1.0])], ids=repr)
def test_it_does_not_matter_how_the_class_is_written(classes, halves):
    _, y, _, A = halves
    named = Activations({"a": A["hidden_0"]}, logits=np.eye(2)[(y + 1) // 2], classes=classes)
    with pytest.raises(ValueError, match=WANTED):
        KNNDetector().fit(named, y)
    only_predicted = Activations({"a": A["hidden_0"]}, predictions=named.predictions)
    with pytest.raises(ValueError, match=WANTED):
        KNNDetector().fit(only_predicted, y)


def test_without_labels_such_a_network_is_monitored(halves):
    X, y, net, A = halves
    monitor = make_monitor(net).fit(X)
    assert (monitor.predict(X) == -1).mean() < 0.15
    assert len(monitor[-1].training_rows_) == len(X)
    with pytest.raises(ValueError, match=WANTED):
        monitor.fit(X, y)
    batch = KNNDetector().fit(A)
    with pytest.raises(ValueError, match=WANTED):
        batch.partial_fit(A, y)


def test_other_labels_for_the_same_classes_are_welcome(halves):
    _, y, _, A = halves
    recoded = Activations(
        {"a": A["hidden_0"]}, logits=np.eye(2)[(y + 1) // 2], classes=["down", "up"]
    )
    labels = np.where(y == 1, "up", "down")
    assert len(HammingNAPDetector(group_by="correct").fit(recoded, labels).training_rows_) == len(y)


def test_judging_such_a_network_is_refused_too(halves):
    X, y, net, A = halves
    detector = KNNDetector().fit(A)
    monitor = make_pipeline(ActivationExtractor(net), KNNDetector()).fit(X)
    for judge in (
        lambda: detector.score(A, y),
        lambda: monitor.score(X, y),
        lambda: make_ood_scorer()(detector, A, y),
        lambda: make_ood_scorer("f1")(monitor, X, y),
        lambda: make_ood_scorer(target="misclassified")(detector, A, y),
        lambda: OODRocCurveDisplay.from_estimator(detector, A, y),
        lambda: ReliabilityDisplay.from_activations(A, y),
        lambda: neuron_accuracy(A, y),
        lambda: explain(GaussianActivationDetector().fit(A), A[:1], X_train=A, y_train=y),
        lambda: next(OODKFold(2).split(A, y)),
        lambda: next(OODShuffleSplit(2, random_state=0).split(A, y)),
        lambda: next(OODPredefinedSplit(np.arange(80) % 2).split(A, y)),
    ):
        with pytest.raises(ValueError, match=WANTED):
            judge()
    search = GridSearchCV(monitor, {"knndetector__n_neighbors": [1, 2]}, cv=OODKFold(2))
    with pytest.raises(ValueError, match=r"All the 4 fits failed[\s\S]*class -1 among"):
        search.fit(X, y)


def test_a_decoy_class_for_half_of_a_two_class_coding_is_warned_about(halves):
    X, y, _, _ = halves
    classifier = DecoyClassClassifier(LogisticRegression(), outliers=None, random_state=0)
    with pytest.warns(UserWarning, match=r"labels 1 and -1 alone.*such as 0 and 1"):
        classifier.fit(X, y)


@pytest.mark.parametrize("coded", [[-1, 1], ["-1", "1"]])
def test_two_classes_coded_as_minus_one_and_one_are_warned_about(coded):
    """The network counts them as 0 and 1, so that only agreement tells."""
    rng = np.random.default_rng(0)
    predicted = rng.integers(0, 2, 200)
    A = Activations({"a": rng.normal(size=(200, 4))}, logits=np.eye(2)[predicted])
    y = np.array(coded)[np.where(rng.random(200) < 0.06, 1 - predicted, predicted)]
    with pytest.warns(UserWarning, match="is -1 the label of that class.* 0 and 1, or pass y=None"):
        KNNDetector(n_neighbors=3).fit(A, y)


@pytest.mark.parametrize("share", [0.05, 0.5])
def test_marked_rows_of_both_classes_are_no_reason_to_warn(share):
    rng = np.random.default_rng(0)
    A = Activations({"a": rng.normal(size=(200, 4))}, logits=rng.normal(size=(200, 2)))
    KNNDetector(n_neighbors=3).fit(A, np.where(rng.random(200) < share, -1, 1))
    one_class = Activations({"a": A["a"]}, logits=np.eye(2)[np.zeros(200, dtype=int)])
    KNNDetector(n_neighbors=3).fit(one_class, np.where(rng.random(200) < share, -1, 1))
