"""Forms in tensors of the less common detectors and transformers, and of their parameters."""

import numpy as np
import pytest
from _estimators import construct, estimator_classes
from sklearn.decomposition import PCA
from sklearn.discriminant_analysis import LinearDiscriminantAnalysis
from sklearn.ensemble import IsolationForest, RandomForestClassifier
from sklearn.frozen import FrozenEstimator
from sklearn.linear_model import LogisticRegression
from sklearn.model_selection import GridSearchCV
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import MaxAbsScaler, MinMaxScaler, RobustScaler, StandardScaler

from skood import (
    Activations,
    ClusterDistanceDetector,
    GroupProgressionDetector,
    HammingNAPDetector,
    NeuronCountDetector,
    PercentileBinarizer,
    PoolingReducer,
)
from skood.activations import Column, LinearHead
from skood.calibration import TemperatureScaler
from skood.detectors import (
    ActivationIntervalDetector,
    BaseDetector,
    COREDetector,
    EnergyDetector,
    GaussianActivationDetector,
    GENDetector,
    GradNormDetector,
    GramDetector,
    KLMatchingDetector,
    KNNDetector,
    MCDropoutDetector,
    NACDetector,
    NCIDetector,
    NNGuideDetector,
    OpenMaxDetector,
    SHEDetector,
    ViMDetector,
)
from skood.ensemble import AutoNAPDetector
from skood.model_selection import DetectorSearchCV, OODKFold
from skood.preprocessing import LayerSelector, NeuronSelector
from skood.shaping import ASH, DICE, SCALE, VRA, LINe, ReAct

torch = pytest.importorskip("torch")
from test_export_detectors import (  # noqa: E402
    OfTensors,
    assert_same_scores,
    samples,
    small,
    tensors,
)
from torch.utils._python_dispatch import TorchDispatchMode  # noqa: E402

from skood.export import ExportError, TensorActivations, form  # noqa: E402
from skood.export._registry import forms  # noqa: E402


def in_double(A):
    """The same samples in double precision, where both sides compute the same to rounding."""
    head = LinearHead(A.head.weight, A.head.bias, A.head.input_layer)
    layers = {name: np.asarray(layer, dtype=np.float64) for name, layer in A.items()}
    return Activations(layers, logits=head.logits(layers["fc"]), head=head)


TRAIN, NEW = in_double(samples(120)), in_double(samples(30, seed=1))
MARKED = np.where(np.arange(120) % 5 == 0, -1, TRAIN.predictions)
OF_TWO_CLASSES = TRAIN[np.flatnonzero(TRAIN.predictions != 1)]


def with_text_classes(A):
    """The same samples of a network whose classes are texts, not in the order of the alphabet."""
    layers = {name: np.asarray(layer) for name, layer in A.items()}
    return Activations(layers, logits=A.logits, head=A.head, classes=["dog", "cat", "bird"])


VARIANTS = [
    *(ActivationIntervalDetector(intervals=i) for i in ("quantile", "levels")),
    AutoNAPDetector(poolings=("sum",), n_layers=1, random_state=0),
    ClusterDistanceDetector(n_clusters=20, random_state=0),
    ClusterDistanceDetector(n_clusters=4, reject_mismatch=True, random_state=0),
    GENDetector(gamma=0.37, n_largest=2),
    GENDetector(n_largest=1),
    GradNormDetector(temperature=1.7),
    GramDetector(powers=(2, 5)),
    *(
        GroupProgressionDetector(n_neighbors=20, features=features, random_state=0)
        for features in ("distance", "matching")
    ),
    GroupProgressionDetector(n_neighbors=1, estimator=LinearDiscriminantAnalysis()),
    GroupProgressionDetector(
        n_neighbors=9, estimator=make_pipeline(StandardScaler(), LogisticRegression())
    ),
    GroupProgressionDetector(n_neighbors=9, estimator=KNNDetector(n_neighbors=3)),
    KNNDetector(n_neighbors=1, normalize=False),
    KNNDetector(n_neighbors=95),
    KNNDetector(n_neighbors=9, max_samples=40),
    NACDetector(gradients=False, min_fraction=0.1, n_bins=7),
    NACDetector(min_count={"relu": 3, "fc": 9}, steepness=3.3),
    NCIDetector(alpha=0.37),
    *(NeuronCountDetector(statistic=s) for s in ("coefficient", "mean_activation_count")),
    NeuronCountDetector(statistic="coefficient", two_sided=True),
    NNGuideDetector(n_neighbors=3, bank_fraction=0.3, random_state=0),
    OpenMaxDetector(cosine_weight=0.3, n_revised=2),
    OpenMaxDetector(cosine_weight=1, n_revised=9, tail_size=3),
    *(SHEDetector(metric=metric) for metric in ("cosine", "euclidean")),
    *(ViMDetector(n_components=n) for n in (0, 8)),
]


@pytest.mark.parametrize("detector", VARIANTS, ids=repr)
def test_parameters_are_heard(detector):
    assert_same_scores(detector.fit(TRAIN, MARKED), NEW)


LEARN_BY_CLASS = [
    ActivationIntervalDetector(),
    AutoNAPDetector(random_state=0),
    ClusterDistanceDetector(n_clusters=3, reject_mismatch=True, random_state=0),
    COREDetector(),
    GaussianActivationDetector(),
    GramDetector(),
    GroupProgressionDetector(n_neighbors=20),
    KLMatchingDetector(),
    OpenMaxDetector(tail_size=5),
    SHEDetector(),
]


@pytest.mark.parametrize("detector", LEARN_BY_CLASS, ids=repr)
def test_classes_that_nothing_was_learnt_of(detector):
    assert np.any(NEW.predictions == 1)
    assert_same_scores(detector.fit(OF_TWO_CLASSES, OF_TWO_CLASSES.predictions), NEW)


@pytest.mark.parametrize("detector", LEARN_BY_CLASS, ids=repr)
def test_classes_are_found_by_the_columns_of_their_logits(detector):
    train, new = with_text_classes(TRAIN), with_text_classes(NEW)
    assert_same_scores(detector.fit(train, train.predictions), new)


OF_ARRAYS = [
    name
    for name, cls in estimator_classes().items()
    if issubclass(cls, BaseDetector) and cls in forms() and name != "MCDropoutDetector"
]


@pytest.mark.filterwarnings("ignore:The counts of")
@pytest.mark.parametrize("name", OF_ARRAYS)
def test_ordinary_arrays(name):
    logits, more = (np.random.default_rng(seed).normal(size=(80, 6)) for seed in (0, 1))
    detector = small(estimator_classes()[name])
    if name == "ClusterDistanceDetector":  # which compares all numbers of clusters
        detector.set_params(n_clusters=3)
    detector.fit(logits)
    found = form(detector)(TensorActivations({"X": torch.as_tensor(more)})).numpy()
    np.testing.assert_allclose(found, detector.score_samples(more), rtol=1e-9, atol=1e-12)


@pytest.mark.parametrize("name", ["KNNDetector", "NNGuideDetector", "GramDetector", "SHEDetector"])
def test_single_precision(name):
    train, new = samples(120), samples(30, seed=1)
    detector = construct(estimator_classes()[name]).fit(train, train.predictions)
    assert_same_scores(detector, new)


@pytest.mark.parametrize("normalize", [True, False])
@pytest.mark.parametrize(("shift", "scale"), [(0, 1), (1e6, 1), (0, 1e-100), (0, 1e100)])
def test_neighbours_of_any_size(shift, scale, normalize):
    rng = np.random.default_rng(0)
    rows, new = (shift + scale * rng.normal(size=(n, 6)) for n in (200, 30))
    new[0], new[1] = rows[3], 0
    detector = KNNDetector(n_neighbors=5, normalize=normalize).fit(rows)
    found = form(detector)(TensorActivations({"X": torch.as_tensor(new)})).numpy()
    np.testing.assert_allclose(found, detector.score_samples(new), rtol=1e-9)


def test_a_stored_sample_is_at_no_distance_from_itself():
    detector = KNNDetector(n_neighbors=1).fit(TRAIN)
    assert (form(detector)(tensors(TRAIN)).numpy() == 0).all()


def test_equally_near_patterns_and_centres_are_taken_in_order():
    rows = np.repeat([[0.0, 0, 0, 1], [0, 1, 0, 0], [1, 0, 0, 0], [2, 0, 0, 2]], 10, axis=0)
    A = Activations({"relu": rows}, logits=np.eye(3)[np.arange(40) % 3])
    between = Activations({"relu": [[1.0, 1, 1, 1], [0.0, 0, 0, 0]]}, logits=np.eye(3)[:2])
    groups = GroupProgressionDetector(n_neighbors=7).fit(A)
    assert_same_scores(groups, between)
    assert_same_scores(ClusterDistanceDetector(n_clusters=4, random_state=0).fit(A), between)


def passes(seed, scale=5.0):
    rng = np.random.default_rng(seed)
    values = Column(scale * rng.normal(size=(40, 6, 4)), layer="passes", kind="pass")
    return Activations({"passes": values}, logits=rng.normal(size=(40, 4)))


@pytest.mark.parametrize("scale", [1e-3, 5.0, 3000.0])
@pytest.mark.parametrize(
    "statistic", ["entropy", "mutual_information", "variation_ratio", "variance"]
)
def test_passes_that_a_layer_holds(statistic, scale):
    detector = MCDropoutDetector(statistic=statistic).fit(passes(0, scale))
    assert_same_scores(detector, passes(1, scale))


def test_gradients_that_a_layer_holds():
    def with_gradients(A, seed):
        slopes = np.random.default_rng(seed).normal(size=A["relu"].shape)
        return A.assign({"relu:gradient": Column(slopes, layer="relu", kind="gradient")})

    detector = NACDetector(min_count=5).fit(with_gradients(TRAIN, 0))
    assert set(detector.gradient_layers_) == {"relu", "fc"}
    assert_same_scores(detector, with_gradients(NEW, 1))


def maps(seed):
    rng = np.random.default_rng(seed)
    tokens = Column(rng.normal(size=(40, 5, 7)), layer="tokens", unit_axis=2)
    layers = {"maps": rng.normal(size=(40, 6, 4, 3)), "tokens": tokens}
    return Activations(layers, logits=rng.normal(size=(40, 4)))


def test_gram_matrices_of_maps_and_tokens():
    assert_same_scores(GramDetector().fit(maps(0)), maps(1))


@pytest.mark.parametrize("combine", ["weighted", "vote"])
def test_maps_that_the_auto_configuration_pools(combine):
    detector = AutoNAPDetector(combine=combine, random_state=0).fit(maps(0), maps(0).predictions)
    assert_same_scores(detector, maps(1))
    is_accepted = form(detector).judge(tensors(maps(1))).is_accepted.numpy()
    np.testing.assert_array_equal(np.where(is_accepted, 1, -1), detector.predict(maps(1)))


SHAPERS = [
    ReAct(),
    ReAct(threshold=0.3),
    VRA(),
    *(ASH(variant=variant, percentile=50) for variant in "spb"),
    *(ASH(percentile=percentile) for percentile in (0, 100)),
    SCALE(),
    SCALE(percentile=100),
    DICE(sparsity=50),
    LINe(),
    LINe(clip=None, activation_percentile=None, weight_percentile=None),
]
TRANSFORMERS = [
    *SHAPERS,
    TemperatureScaler(),
    *(LayerSelector(layers=layers) for layers in ("all", -1, ["relu"])),
    NeuronSelector(),
    NeuronSelector(by_prediction=True),
    NeuronSelector(threshold=0),
    NeuronSelector(classes=1, importance={"relu": np.arange(210.0).reshape(3, 70)}),
    *(PercentileBinarizer(rule=rule, percentile=30) for rule in ("quantile", "rank", "zero")),
    PoolingReducer(),
]


def with_ties(A):
    """The same samples with features that are whole numbers, of which many are equal."""
    layers = {"relu": A["relu"], "fc": np.round(A["fc"])}
    return Activations(layers, logits=A.logits, head=A.head)


def assert_same_activations(found, expected):
    for name, layer in expected.items():
        np.testing.assert_allclose(found.layers[name].numpy(), np.asarray(layer), rtol=1e-12)
    assert list(found.layers) == list(expected.layer_names)
    np.testing.assert_allclose(found.logits.numpy(), expected.logits, rtol=1e-9, atol=1e-12)
    np.testing.assert_array_equal(found.predictions.numpy(), expected.predictions)
    if expected.features is not None:
        np.testing.assert_allclose(found.read_by_head().numpy(), expected.features)
    assert (found.head is None) == (expected.head is None)
    if expected.head is not None:
        np.testing.assert_array_equal(found.head.weight.numpy(), expected.head.weight)


@pytest.mark.parametrize("new", [NEW, with_ties(NEW), NEW[:1]], ids=["plain", "ties", "one row"])
@pytest.mark.parametrize("transformer", TRANSFORMERS, ids=repr)
def test_activations_of_a_form_are_those_of_the_transformer(transformer, new):
    # Labels in another order, as all that are right would have no best temperature.
    transformer.fit(TRAIN, TRAIN.predictions[::-1])
    assert_same_activations(form(transformer)(tensors(new)), transformer.transform(new))


@pytest.mark.parametrize("transformer", SHAPERS, ids=repr)
def test_transformers_of_ordinary_arrays(transformer):
    logits, more = (np.random.default_rng(seed).normal(size=(80, 6)) for seed in (0, 1))
    transformer.fit(logits, logits[::-1].argmax(axis=1))
    found = form(transformer)(TensorActivations({"X": torch.as_tensor(more)}))
    np.testing.assert_allclose(found.layers["X"].numpy(), transformer.transform(more), rtol=1e-9)


def test_shaped_features_keep_their_precision():
    train, new = samples(120), samples(30, seed=1)
    found = form(ReAct().fit(train))(tensors(new))
    assert found.layers["fc"].dtype == torch.float32
    np.testing.assert_array_equal(
        found.layers["fc"].numpy(), ReAct().fit(train).transform(new)["fc"]
    )


@pytest.mark.parametrize("pooling", ["max", "avg", "sum", "flatten"])
def test_pooling_of_maps_and_tokens(pooling):
    reducer = PoolingReducer(pooling=pooling).fit(maps(0))
    found, expected = form(reducer)(tensors(maps(1))), reducer.transform(maps(1))
    for name, layer in expected.items():
        np.testing.assert_allclose(found.layers[name].numpy(), layer)


@pytest.mark.parametrize("pooling", ["first", "last"])
def test_one_token_of_batches_of_any_size(pooling):
    reducer = PoolingReducer(pooling=pooling).fit(maps(0)[["tokens"]])

    class OfTokens(torch.nn.Module):
        def __init__(self):
            super().__init__()
            self.pool = form(reducer)

        def forward(self, tokens):
            return self.pool(TensorActivations({"tokens": tokens})).layers["tokens"]

    tokens = torch.as_tensor(maps(1)["tokens"])
    n_rows = {0: torch.export.Dim("n_rows")}
    with torch.no_grad():
        program = torch.export.export(OfTokens(), (tokens[:7],), dynamic_shapes=(n_rows,))
        found = program.module()(tokens).numpy()
    expected = tokens.numpy()[:, 0 if pooling == "first" else -1]
    np.testing.assert_array_equal(found, expected)


SCALERS = [
    StandardScaler(),
    StandardScaler(with_mean=False, with_std=False),
    RobustScaler(),
    MaxAbsScaler(),
    MinMaxScaler((0, 2), clip=True),
    PCA(5),
    PCA(5, whiten=True),
]


@pytest.mark.parametrize("scaler", SCALERS, ids=repr)
def test_steps_of_scikit_learn(scaler):
    pipeline = make_pipeline(LayerSelector(layers="relu"), scaler, KNNDetector(n_neighbors=3))
    assert_same_scores(pipeline.fit(TRAIN), NEW)
    X = np.asarray(NEW["relu"])
    np.testing.assert_allclose(
        form(pipeline[1])(torch.as_tensor(X)).numpy(), pipeline[1].transform(X), atol=1e-12
    )


def test_what_has_no_form_is_named():
    forest = RandomForestClassifier(n_estimators=2)
    groups = GroupProgressionDetector(n_neighbors=9, estimator=forest)
    with pytest.raises(ExportError, match="RandomForestClassifier cannot be exported as the class"):
        form(groups.fit(TRAIN, MARKED))
    with pytest.raises(ExportError, match="IsolationForest cannot be exported"):
        form(make_pipeline(LayerSelector(layers=-1), IsolationForest(n_estimators=2)).fit(TRAIN))


# A monitor is what is exported, an extractor its beginning; the others train networks.
NO_STEP = {"ActivationExtractor", "Monitor", "DecoyClassClassifier", "DenoisingClassifier"}


def test_every_estimator_has_a_form():
    assert set(estimator_classes()) - NO_STEP <= {cls.__name__ for cls in forms()}


def test_searches_and_frozen_estimators_are_what_they_hold():
    grid = {"n_neighbors": [1, 3]}
    search = GridSearchCV(KNNDetector(), grid, cv=OODKFold(2)).fit(TRAIN, MARKED)
    assert_same_scores(search, NEW)
    assert_same_scores(FrozenEstimator(search), NEW)
    named = [("energy", EnergyDetector()), ("nearest", KNNDetector(n_neighbors=3))]
    assert_same_scores(DetectorSearchCV(named).fit(TRAIN, MARKED), NEW)


class Each(torch.nn.Module):
    """The results of several forms for the same samples."""

    def __init__(self, estimators):
        super().__init__()
        self.forms = torch.nn.ModuleList(map(form, estimators))

    def forward(self, A):
        return torch.stack([module(A) for module in self.forms], dim=1)


SOME = [
    GENDetector(),
    GroupProgressionDetector(n_neighbors=9),
    KNNDetector(n_neighbors=3),
    NACDetector(min_count=5),
    OpenMaxDetector(tail_size=5, n_revised=2),
    make_pipeline(LINe(), EnergyDetector()),
]


@pytest.mark.filterwarnings("ignore::FutureWarning:copyreg", "ignore:.isinstance.treespec")
def test_onnxruntime_gives_the_same_scores():
    onnxruntime = pytest.importorskip("onnxruntime")
    pytest.importorskip("onnxscript")
    detectors = [d.fit(TRAIN, TRAIN.predictions) for d in SOME]
    some, new = tensors(TRAIN[:7]), tensors(NEW)
    arguments = [*some.layers.values()], some.logits, some.predictions
    n_rows = {0: torch.export.Dim.DYNAMIC}
    program = torch.onnx.export(
        OfTensors(Each(detectors), TRAIN).eval(),
        arguments,
        dynamo=True,
        dynamic_shapes=([n_rows] * len(some.layers), n_rows, n_rows),
        verbose=False,
    )
    session = onnxruntime.InferenceSession(program.model_proto.SerializeToString())
    names = [given.name for given in session.get_inputs()]
    for rows in (slice(None), slice(1)):
        values = [v.numpy()[rows] for v in (*new.layers.values(), new.logits, new.predictions)]
        (found,) = session.run(None, dict(zip(names, values, strict=True)))
        for detector, scores in zip(detectors, found.T, strict=True):
            expected = detector.score_samples(NEW[rows])
            np.testing.assert_allclose(
                scores, expected, rtol=1e-6, atol=1e-6, err_msg=repr(detector)
            )


@pytest.mark.parametrize("rule", ["quantile", "zero"])
@pytest.mark.parametrize("name", [name for name in OF_ARRAYS if name != "AutoNAPDetector"])
def test_bits_stay_as_they_are(name, rule):
    binarizer = PercentileBinarizer(percentile=40, rule=rule)
    pipeline = make_pipeline(binarizer, small(estimator_classes()[name]))
    is_searching = name == "DetectorSearchCV"
    pipeline.fit(TRAIN, MARKED if is_searching else TRAIN.predictions)
    assert_same_scores(pipeline, NEW)


class LargestTensor(TorchDispatchMode):
    """Notes how many numbers the largest tensor has that is made."""

    n_numbers = 0

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):
        made = func(*args, **(kwargs or {}))
        for value in made if isinstance(made, tuple | list) else [made]:
            self.n_numbers = max(self.n_numbers, getattr(value, "numel", int)())
        return made


MANY, SOME_NEW = samples(1200), samples(30, seed=1)
IN_PARTS = [
    (HammingNAPDetector(break_ties=True), "_patterns._MOST_NUMBERS", 60_000),
    (AutoNAPDetector(), "_patterns._MOST_NUMBERS", 60_000),
    (GroupProgressionDetector(n_neighbors=9), "_patterns._MOST_NUMBERS", 60_000),
    (KNNDetector(n_neighbors=3), "_neighbors._MOST_ROWS", 200),
    (NNGuideDetector(n_neighbors=3, bank_fraction=1.0), "_neighbors._MOST_ROWS", 200),
]


@pytest.mark.parametrize(("detector", "name", "bound"), IN_PARTS, ids=repr)
def test_what_is_stored_is_gone_through_in_parts(detector, name, bound, monkeypatch):
    train, new = MANY, SOME_NEW
    if isinstance(detector, KNNDetector):
        train, new = (Activations({"fc": A["fc"]}) for A in (train, new))
    labels = np.where(np.arange(1200) % 5 == 0, -1, MANY.predictions)
    is_marked = isinstance(detector, GroupProgressionDetector)
    detector.fit(train, labels if is_marked else MANY.predictions)
    expected, largest = detector.score_samples(new), []
    for most in (2**25, bound):
        monkeypatch.setattr(f"skood.export.{name}", most)
        module = form(detector)
        with torch.no_grad(), LargestTensor() as mode:
            scores = module(tensors(new)).numpy()
        np.testing.assert_allclose(scores, expected, rtol=1e-6)
        largest.append(mode.n_numbers)
    # Distances of 30 samples to all of them are what groups are made from.
    assert largest[1] <= (36_000 if is_marked else 20_000)
    assert largest[1] < largest[0] / 1.5
