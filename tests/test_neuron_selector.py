"""Neurons that matter for classes: by the head, by gradients, and by importances of one's own."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from sklearn.base import clone
from sklearn.exceptions import NotFittedError
from sklearn.model_selection import GridSearchCV
from sklearn.neural_network import MLPClassifier
from sklearn.pipeline import make_pipeline

from skood import ActivationExtractor, Activations, HammingNAPDetector, PercentileBinarizer
from skood.activations import Column, LinearHead, PackedBits
from skood.detectors import ViMDetector
from skood.model_selection import OODKFold
from skood.preprocessing import LayerSelector, NeuronSelector

WEIGHT = np.array([[2.0, 0.9, -1.0, 0.0], [0.0, 0.1, 0.5, -1.0], [0.0, -4.0, 0.0, 1.0]])


@pytest.fixture
def A():
    rng = np.random.default_rng(0)
    layers = {"conv": rng.normal(size=(12, 2, 3, 3)), "fc": rng.normal(size=(12, 4))}
    head = LinearHead(WEIGHT, [0.0, 1.0, 2.0], "fc")
    return Activations(layers, logits=head.logits(layers["fc"]), head=head)


@pytest.fixture(scope="module")
def network_outputs():
    """A perceptron that tells three clusters, with gradients, and samples from elsewhere."""
    rng = np.random.default_rng(0)
    y = np.arange(400) % 4 - 1
    X = 4 * rng.normal(size=(4, 8))[y] + 0.7 * rng.normal(size=(400, 8))
    X[y == -1] = 3 * rng.normal(size=(100, 8))
    net = MLPClassifier((20,), random_state=0, max_iter=2000).fit(X[y != -1], y[y != -1])
    return ActivationExtractor(net, gradients=True).fit_transform(X), y


def brute_support(importance, threshold, rows):
    """Numbers of the units that matter for one of the rows."""
    kept = set()
    for row in rows:
        largest = max(abs(value) for value in importance[row])
        kept |= {
            j for j, value in enumerate(importance[row]) if not abs(value) <= threshold * largest
        }
    return sorted(kept)


# Which units


@pytest.mark.parametrize(
    ("classes", "kept"),
    [(0, [0, 2]), (1, [2, 3]), ([2], [1]), ([1, 2], [1, 2, 3]), (None, [0, 1, 2, 3])],
)
def test_units_stay_that_matter_for_one_of_the_classes(A, classes, kept):
    selector = NeuronSelector(classes=classes).fit(A)
    np.testing.assert_array_equal(selector.get_support(indices=True), kept)
    selected = selector.transform(A)
    np.testing.assert_array_equal(selected["fc"], A["fc"][:, kept])


def test_a_weight_of_just_the_threshold_is_ignored(A):
    # 0.9 is 0.45 times 2, and 0.5 half of 1.
    assert not NeuronSelector(classes=0, threshold=0.45).fit(A).get_support()[1]
    assert NeuronSelector(classes=0, threshold=0.44).fit(A).get_support()[1]
    assert not NeuronSelector(classes=1, threshold=0.5).fit(A).get_support()[2]


@given(
    seed=st.integers(0, 2**32 - 1),
    threshold=st.sampled_from([0.0, 0.25, 0.45, 0.5, 0.99]),
    n_classes=st.integers(1, 4),
    n_units=st.integers(1, 6),
)
def test_support_is_that_of_a_brute_force(seed, threshold, n_classes, n_units):
    rng = np.random.default_rng(seed)
    weight = rng.integers(-4, 5, (n_classes, n_units)) / 4
    weight[:, 0] = 1.0
    chosen = rng.permutation(n_classes)[: rng.integers(1, n_classes + 1)]
    A = Activations({"fc": rng.normal(size=(3, n_units))}, head=LinearHead(weight))
    selector = NeuronSelector(classes=chosen, threshold=threshold).fit(A)
    expected = brute_support(weight, threshold, chosen)
    np.testing.assert_array_equal(selector.get_support("fc", indices=True), expected)
    np.testing.assert_array_equal(selector.transform(A)["fc"], A["fc"][:, expected])


def test_classes_go_by_their_labels(A):
    named = Activations(
        dict(A.items()), logits=A.logits, head=A.head, classes=np.array(["cat", "dog", "emu"])
    )
    expected = NeuronSelector(classes=1).fit(A).get_support()
    np.testing.assert_array_equal(NeuronSelector(classes="dog").fit(named).get_support(), expected)
    np.testing.assert_array_equal(
        NeuronSelector(classes=["dog"]).fit(named).get_support(), expected
    )


def test_importances_of_ones_own_take_the_place_of_weights(A):
    importance = {"fc": -np.abs(WEIGHT[::-1])}
    selector = NeuronSelector(classes=0, importance=importance).fit(A)
    np.testing.assert_array_equal(selector.get_support(), [False, True, False, False])
    np.testing.assert_array_equal(selector.importances_["fc"], np.abs(WEIGHT[::-1]))


def test_importances_may_be_given_for_several_layers():
    rng = np.random.default_rng(0)
    A = Activations({"a": rng.normal(size=(5, 3)), "b": rng.normal(size=(5, 2))})
    selector = NeuronSelector(importance={"b": [[0, 1]], "a": [[1, 0, 1]]}).fit(A)
    assert selector.transform(A).layer_shapes == {"a": (2,), "b": (1,)}
    assert selector.n_features_in_ == 5
    np.testing.assert_array_equal(selector.get_support("a", indices=True), [0, 2])
    with pytest.raises(ValueError, match=r"one of \['a', 'b'\], got None"):
        selector.get_support()


# Gradients


def test_gradients_are_averaged_over_the_samples_predicted_as_a_class():
    gradient = np.array([[1.0, -0.1, 0.0], [-3.0, 0.3, 0.0], [0.0, 0.0, 5.0], [0.0, 9.0, 0.0]])
    layers = {
        "fc": np.arange(12.0).reshape(4, 3),
        "fc:gradient": Column(gradient, layer="fc", kind="gradient"),
        "out": np.ones((4, 2)),
    }
    A = Activations(layers, predictions=[0, 0, 1, 1])
    selector = NeuronSelector(importance="gradient").fit(A, [0, 0, 1, -1])
    np.testing.assert_allclose(selector.importances_["fc"], [[2, 0.2, 0], [0, 0, 5]])
    selected = selector.transform(A)
    assert selected.layer_names == A.layer_names
    np.testing.assert_array_equal(selected["fc"], A["fc"][:, [0, 2]])
    np.testing.assert_array_equal(selected["fc:gradient"], gradient[:, [0, 2]])
    assert selected["out"] is A["out"]
    without = selector.transform(A[["fc"]])
    np.testing.assert_array_equal(without["fc"], selected["fc"])


@pytest.mark.parametrize(
    ("group_by", "expected"),
    [
        ("prediction", [[2, 0.2, 0], [0, 4.5, 2.5]]),
        ("label", [[1, 0.1, 0], [1.5, 0.15, 2.5]]),
        ("correct", [[1, 0.1, 0], [0, 0, 5]]),
    ],
)
def test_group_by_chooses_the_class_of_a_training_sample(group_by, expected):
    gradient = np.array([[1.0, -0.1, 0.0], [-3.0, 0.3, 0.0], [0.0, 0.0, 5.0], [0.0, 9.0, 0.0]])
    layers = {
        "fc": np.ones((4, 3)),
        "fc:gradient": Column(gradient, layer="fc", kind="gradient"),
    }
    A = Activations(layers, predictions=[0, 0, 1, 1])
    # The second sample is misclassified; the last one is left out where labels count.
    y = [0, 1, 1, 1] if group_by == "prediction" else [0, 1, 1, -1]
    selector = NeuronSelector(importance="gradient", group_by=group_by).fit(A, y)
    np.testing.assert_allclose(selector.importances_["fc"], expected)
    if group_by != "prediction":
        with pytest.raises(ValueError, match="NeuronSelector needs the class labels y, got None"):
            selector.fit(A)


def test_gradients_of_sure_predictions_are_weights_less_their_mean_over_classes(network_outputs):
    A, y = network_outputs
    net_weight = A.head.weight
    layer = A.head.input_layer
    probabilities = np.exp(A.logits - A.logits.max(axis=1, keepdims=True))
    sure = probabilities.max(axis=1) / probabilities.sum(axis=1) > 0.9999
    selector = NeuronSelector(importance="gradient").fit(A[sure], y[sure])
    found = selector.importances_[layer]
    for number in np.unique(A[sure].predictions):
        expected = np.abs(net_weight[number] - net_weight.mean(axis=0))
        np.testing.assert_allclose(found[number], expected, atol=1e-3)


def test_a_class_without_samples_has_no_unit_that_matters():
    gradient = Column(np.ones((2, 2)), layer="fc", kind="gradient")
    A = Activations({"fc": np.ones((2, 2)), "slope": gradient}, logits=[[3.0, 0.0], [1.0, 0.0]])
    selector = NeuronSelector(importance="gradient").fit(A)
    np.testing.assert_array_equal(selector.class_support_["fc"], [[True, True], [False, False]])
    with pytest.raises(ValueError, match=r"No unit of layer 'fc' matters for the classes \[1\]"):
        NeuronSelector(classes=1, importance="gradient").fit(A)


# Output


def test_what_the_network_said_stays_and_the_head_goes(A):
    selected = NeuronSelector(classes=0).fit_transform(A)
    assert selected.layer_names == A.layer_names
    np.testing.assert_array_equal(selected.logits, A.logits)
    np.testing.assert_array_equal(selected.predictions, A.predictions)
    np.testing.assert_array_equal(selected.features, A["fc"])
    assert selected.head is None
    with pytest.raises(ValueError, match="needs the head of the network"):
        ViMDetector().fit(selected[["fc"]])


def test_where_every_unit_stays_the_head_does_too(A):
    assert NeuronSelector().fit_transform(A) is A


def test_the_head_stays_where_another_layer_is_cut(A):
    A = Activations({"a": np.ones((12, 2)), "fc": A["fc"]}, logits=A.logits, head=A.head)
    selected = NeuronSelector(importance={"a": [[1, 0]] * 3}).fit_transform(A)
    assert selected.layer_shapes == {"a": (1,), "fc": (4,)}
    assert selected.head is A.head


def test_other_layers_are_not_read(A, tmp_path):
    A.save(tmp_path / "A")
    stored = Activations.load(tmp_path / "A", mmap_mode="r")
    broken = stored.assign({"conv": np.full((12, 2, 3, 3), np.nan)})
    selector = NeuronSelector(classes=0).fit(broken)
    assert isinstance(selector.transform(stored)["conv"], np.memmap)
    view = selector.transform(stored[3:9])
    assert np.shares_memory(view["conv"], stored["conv"])
    np.testing.assert_array_equal(view["fc"], A["fc"][3:9][:, [0, 2]])


def test_packed_bits_stay_packed(A):
    bits = PercentileBinarizer(rule="zero").fit_transform(A[["fc"]])
    cut_later = NeuronSelector(classes=0).fit(A).transform(bits)
    cut_first = PercentileBinarizer(rule="zero").fit_transform(
        NeuronSelector(classes=0).fit_transform(A)[["fc"]]
    )
    assert isinstance(cut_later["fc"], PackedBits)
    np.testing.assert_array_equal(cut_later["fc"].unpack(), cut_first["fc"].unpack())


@pytest.mark.parametrize("pack", [False, True])
def test_by_prediction_sets_the_units_of_other_classes_to_zero(A, pack):
    selector = NeuronSelector(classes=[0, 1], by_prediction=True).fit(A)
    kept = [0, 2, 3]
    own = np.abs(WEIGHT) > 0.45 * np.abs(WEIGHT).max(axis=1, keepdims=True)
    expected = (A["fc"] * own[A.predictions])[:, kept]
    if pack:
        A, expected = A.assign({"fc": PackedBits.pack(A["fc"] > 0)}), expected > 0
    selected = selector.transform(A)
    np.testing.assert_array_equal(np.asarray(selected["fc"]), expected)
    assert selected.head is None


def test_by_prediction_needs_predictions_of_known_classes(A):
    selector = NeuronSelector(by_prediction=True).fit(A)
    with pytest.raises(ValueError, match="needs predictions of the network"):
        selector.transform(Activations(dict(A.items())))
    with pytest.raises(ValueError, match=r"among the classes \[0, 1, 2\], got \[5\]"):
        selector.transform(Activations(dict(A.items()), predictions=[5] * 12))


@pytest.mark.parametrize("dtype", [np.float32, np.float64, np.int64, bool])
def test_an_array_is_logits_or_has_importances_of_its_own(dtype):
    X = np.arange(12).reshape(4, 3).astype(dtype)
    np.testing.assert_array_equal(NeuronSelector(classes=[0, 2]).fit_transform(X), X[:, [0, 2]])
    importance = [[5, 1, 0], [0, 1, 5]]
    selector = NeuronSelector(classes=1, importance=importance).fit(X)
    assert selector.transform(X).dtype == dtype
    np.testing.assert_array_equal(selector.transform(X), X[:, [2]])
    assert selector.get_feature_names_out(["a", "b", "c"]).tolist() == ["c"]


def test_support_that_is_handed_out_is_a_copy(A):
    selector = NeuronSelector(classes=0).fit(A)
    selector.get_support()[:] = True
    assert selector.transform(A)["fc"].shape == (12, 2)


# Composition


def monitor(**params):
    return make_pipeline(
        NeuronSelector(**params),
        LayerSelector(layers="*"),
        PercentileBinarizer(rule="zero"),
        HammingNAPDetector(tau=1, group_by="correct"),
    )


def test_a_monitor_of_one_class_compares_its_neurons_only(network_outputs):
    A, y = network_outputs
    layer = A.head.input_layer
    A = A[[layer]]
    found = monitor(classes=1, threshold=0.6).fit(A, y)
    kept = found[0].get_support(indices=True)
    assert 0 < len(kept) < A.shape[1]
    by_hand = monitor()[1:].fit(A.replace({layer: A[layer][:, kept]}), y)
    expected = by_hand.score_samples(A.replace({layer: A[layer][:, kept]}))
    np.testing.assert_array_equal(found.score_samples(A), expected)


@pytest.mark.parametrize("importance", ["weight", "gradient"])
def test_the_threshold_can_be_searched(network_outputs, importance):
    A, y = network_outputs
    search = GridSearchCV(
        monitor(importance=importance).set_params(layerselector__layers=[A.layer_names[0]]),
        {"neuronselector__threshold": [0.0, 0.45, 0.9]},
        cv=OODKFold(3),
        error_score="raise",
    ).fit(A, y)
    assert np.isfinite(search.cv_results_["mean_test_score"]).all()
    assert len(set(search.cv_results_["mean_test_score"])) > 1


# Errors


def test_unknown_classes_are_refused_and_the_known_ones_listed(A):
    with pytest.raises(ValueError, match=r"among \[0, 1, 2\].*got \[7\]"):
        NeuronSelector(classes=[1, 7]).fit(A)
    with pytest.raises(ValueError, match=r"among \[0, 1, 2\].*got \['1'\]"):
        NeuronSelector(classes="1").fit(A)


def test_what_tells_the_importance_has_to_be_there(A):
    with pytest.raises(ValueError, match="needs the head of the network"):
        NeuronSelector().fit(Activations(dict(A.items())))
    with pytest.raises(ValueError, match=r"needs layers with their gradients.*\['conv', 'fc'\]"):
        NeuronSelector(importance="gradient").fit(A)
    with pytest.raises(ValueError, match=r"needs layers with their gradients.*\[\]"):
        NeuronSelector(importance="gradient").fit(np.ones((3, 2)))
    gradient = Column(np.ones((3, 2)), layer="fc", kind="gradient")
    named = Activations({"fc": np.ones((3, 2)), "fc:gradient": np.ones((3, 2))})
    with pytest.raises(ValueError, match="needs layers with their gradients"):
        NeuronSelector(importance="gradient").fit(named)
    bare = Activations({"fc": np.ones((3, 2)), "fc:gradient": gradient})
    with pytest.raises(ValueError, match="needs predictions"):
        NeuronSelector(importance="gradient").fit(bare)


@pytest.mark.parametrize(
    ("importance", "message"),
    [
        ({"fc": WEIGHT[:, :3]}, r"'fc' must have shape \(3, 4\).*got \(3, 3\)"),
        ({"fc": WEIGHT[:2]}, r"'fc' must have shape \(3, 4\).*got \(2, 4\)"),
        ({"other": WEIGHT}, r"no layers \['other'\]; it has \['conv', 'fc'\]"),
        ({"conv": WEIGHT[:, :2]}, "pool it first"),
        ({"fc": WEIGHT[0]}, "Expected 2D array"),
        ({"fc": WEIGHT * np.nan}, "importance of 'fc' contains NaN"),
        (WEIGHT, "must be a dict of layer name to array"),
        ({}, "importance names no layer"),
    ],
    ids=["units", "classes", "layer", "maps", "flat", "nan", "array", "empty"],
)
def test_importances_that_do_not_fit_are_refused(A, importance, message):
    with pytest.raises(ValueError, match=message):
        NeuronSelector(importance=importance).fit(A)


def test_importances_that_are_all_zero_keep_no_unit(A):
    with pytest.raises(ValueError, match="No unit of layer 'fc' matters"):
        NeuronSelector(importance={"fc": np.zeros((3, 4))}).fit(A)


@pytest.mark.parametrize(
    "params",
    [{"threshold": 1.0}, {"threshold": -0.1}, {"importance": "head"}, {"by_prediction": "yes"}],
    ids=str,
)
def test_parameters_out_of_range_are_refused(A, params):
    with pytest.raises(ValueError, match=next(iter(params))):
        NeuronSelector(**params).fit(A)


def test_another_layer_or_shape_than_in_fit_is_refused(A):
    selector = NeuronSelector(classes=0).fit(A)
    with pytest.raises(ValueError, match=r"no layers \['fc'\]"):
        selector.transform(A[["conv"]])
    with pytest.raises(ValueError, match="was fitted on"):
        selector.transform(Activations({"fc": A["fc"][:, :3]}))
    with pytest.raises(ValueError, match="was fitted on Activations"):
        selector.transform(A["fc"])
    with pytest.raises(ValueError, match="fitted on an array"):
        NeuronSelector().fit(A["fc"]).transform(A)
    with pytest.raises(NotFittedError):
        clone(selector).transform(A)
