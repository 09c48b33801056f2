"""Neuron activation coverage against references and brute force."""

import pickle

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy.special import expit, logit, softmax
from sklearn.model_selection import GridSearchCV
from sklearn.pipeline import make_pipeline

from skood import Activations, PoolingReducer
from skood.activations import Column, LinearHead, PackedBits
from skood.detectors import NACDetector, _nac
from skood.model_selection import OODKFold
from skood.preprocessing import LayerSelector


@pytest.fixture
def A():
    """Two layers, the second of which the head reads."""
    rng = np.random.default_rng(0)
    layers = {
        "relu1": np.maximum(rng.normal(size=(90, 5)), 0),
        "relu2": np.maximum(rng.normal(size=(90, 7)), 0),
    }
    head = LinearHead(rng.normal(size=(4, 7)), rng.normal(size=4), "relu2")
    return Activations(layers, logits=head.logits(layers["relu2"]), head=head)


def gradient(layer, values):
    """The column of the gradients with respect to a layer."""
    return Column(values, layer=layer, kind="gradient")


def with_gradients(A, layers=("relu1", "relu2")):
    rng = np.random.default_rng(1)
    gradients = {
        f"{name}:gradient": gradient(name, rng.normal(size=A[name].shape)) for name in layers
    }
    return A.assign(gradients)


def gradients_of_head(A):
    return (softmax(A.logits, axis=1) - 1 / A.logits.shape[1]) @ A.head.weight


# References

SETTINGS = [0, 1, 2]


@pytest.fixture(scope="module")
def reference(golden):
    inputs, expected = golden("inputs"), golden("nac_ue")

    def read(split, n_samples):
        features = inputs[f"features_{split}"][:n_samples]
        return Activations(
            {
                "conv": expected[f"conv_output_{split}"],
                "conv:gradient": gradient("conv", expected[f"conv_grad_{split}"]),
                "fc": features,
                "fc:gradient": gradient("fc", expected[f"grad_features_{split}"]),
            },
            logits=inputs[f"logits_{split}"][:n_samples],
            head=LinearHead(inputs["W"], inputs["b"], "fc"),
        )

    return read("train", 450), read("eval", 40), expected


def published(expected, setting):
    """Parameters of a setting of the reference, by layer."""
    given = {
        "fc": expected["settings_features"][setting],
        "conv": expected["settings_conv"][setting],
    }
    return {
        "n_bins": {name: int(values[0]) - 2 for name, values in given.items()},
        "min_count": {name: int(values[1]) for name, values in given.items()},
        "steepness": {name: values[2] for name, values in given.items()},
    }


@pytest.mark.parametrize("setting", SETTINGS)
def test_scores_of_both_layers_are_those_of_the_reference(reference, setting):
    train, test, expected = reference
    detector = NACDetector(**published(expected, setting)).fit(train)
    found = detector.score_samples(test)
    np.testing.assert_allclose(found, expected["score_both"][setting], atol=2e-3)


@pytest.mark.parametrize("setting", SETTINGS)
@pytest.mark.parametrize(("layer", "name"), [("conv", "score_conv"), ("fc", "score_features")])
def test_scores_of_a_layer_are_those_of_the_reference(reference, setting, layer, name):
    train, test, expected = reference
    names = [layer, f"{layer}:gradient"]
    detector = NACDetector(gradients=True, **published(expected, setting)).fit(train[names])
    found = detector.score_samples(test[names])
    np.testing.assert_allclose(found, expected[name][setting], atol=2e-3)


@pytest.mark.parametrize("setting", SETTINGS)
def test_the_last_layer_needs_no_gradients_from_the_network(reference, setting):
    train, test, expected = reference
    detector = NACDetector(gradients=True, **published(expected, setting)).fit(train[["fc"]])
    found = detector.score_samples(test[["fc"]])
    np.testing.assert_allclose(found, expected["score_features"][setting], atol=2e-3)


def test_counts_are_those_of_the_reference(reference):
    train, _, expected = reference
    detector = NACDetector(**published(expected, 0)).fit(train)
    for layer, name in (("fc", "counts_features_0"), ("conv", "counts_conv_0")):
        np.testing.assert_array_equal(detector.counts_[layer].T, expected[name][:48])
        assert not expected[name][48].any()


@pytest.mark.parametrize("n_edges", [50, 200, 500])
def test_edges_are_those_of_the_authors(golden, n_edges):
    stored = golden("nac_ue")[f"edges_M{n_edges}"]
    # The authors put the last edge beyond 1, and one more after it.
    found = _nac._edges(n_edges - 2)
    np.testing.assert_allclose(found[:-1], stored[:-2], atol=1e-15)


def test_states_on_edges_are_covered_as_in_the_reference(golden):
    edge = golden("edge_cases")

    def layers(states):
        signals = np.clip(logit(states.astype(np.float64)), -1e6, 1e6)
        return Activations({"fc": signals, "slope": gradient("fc", np.ones_like(signals))})

    detector = NACDetector(n_bins=48, min_count=2, steepness=1).fit(layers(edge["nac_states"]))
    np.testing.assert_array_equal(detector.counts_["fc"].T, edge["nac_counts"][:48])
    found = detector.score_samples(layers(edge["nac_query"]))
    np.testing.assert_allclose(found, edge["nac_score"], atol=1e-6)


# Brute force


def brute_coverage(train, query, edges, enough):
    """Of the states of one sample, unit by unit."""
    covered = []
    for unit, state in enumerate(query):
        position = next(
            i for i in range(len(edges) - 1) if state < edges[i + 1] or i + 2 == len(edges)
        )
        low, high = edges[position], edges[position + 1]
        is_last = position + 2 == len(edges)
        count = sum(low <= other and (other < high or is_last) for other in train[:, unit])
        covered.append(min(count / enough, 1))
    return np.mean(covered)


shapes = st.tuples(st.integers(2, 20), st.integers(1, 4), st.integers(0, 1000))


@given(shape=shapes, n_bins=st.integers(2, 9), enough=st.integers(1, 5))
def test_coverage_with_gradients_is_that_of_a_brute_force(shape, n_bins, enough):
    n_samples, n_units, seed = shape
    rng = np.random.default_rng(seed)

    def draw(n_samples):
        values = np.maximum(rng.normal(size=(n_samples, n_units)), 0)
        slope = gradient("fc", rng.normal(size=values.shape))
        return Activations({"fc": values, "fc:gradient": slope})

    def states(X):
        return expit(2.5 * X["fc"] * X["fc:gradient"])

    train, queries = draw(n_samples), draw(4)
    detector = NACDetector(n_bins=n_bins, min_count=enough, steepness=2.5).fit(train)
    edges = _nac._edges(n_bins)
    expected = [brute_coverage(states(train), row, edges, enough) for row in states(queries)]
    np.testing.assert_allclose(detector.score_samples(queries), expected, rtol=1e-12)


@given(shape=shapes, n_bins=st.integers(2, 9), enough=st.integers(1, 5))
def test_coverage_without_gradients_is_that_of_a_brute_force(shape, n_bins, enough):
    n_samples, n_units, seed = shape
    rng = np.random.default_rng(seed)
    train, queries = rng.normal(size=(n_samples, n_units)), 2 * rng.normal(size=(4, n_units))

    def states(X):
        # Two samples are at -1 and 1, which may be edges.
        return expit((X - train.mean(axis=0)) / train.std(axis=0) + 1e-9)

    detector = NACDetector(n_bins=n_bins, min_count=enough).fit(train)
    edges = np.linspace(0, 1, n_bins + 1)
    expected = [brute_coverage(states(train), row, edges, enough) for row in states(queries)]
    np.testing.assert_allclose(detector.score_samples(queries), expected, rtol=1e-12)


@pytest.mark.parametrize("enough", [1, 3, 1000])
def test_a_training_sample_does_not_count_itself(A, enough):
    detector = NACDetector(gradients=True, n_bins=10, min_count=enough).fit(A[["relu2"]])
    for row in (0, 50):
        others = A[["relu2"]][np.arange(90) != row]
        expected = NACDetector(gradients=True, n_bins=10, min_count=enough).fit(others)
        score = expected.score_samples(A[["relu2"]][[row]])[0]
        assert detector.training_scores_[row] == pytest.approx(score, rel=1e-12)


# Bins


@pytest.mark.parametrize("n_bins", [2, 3, 50, 501])
def test_bins_of_gradients_share_the_states_among_them(n_bins):
    edges = _nac._edges(n_bins)
    widths = np.diff(edges)
    assert len(widths) == n_bins
    assert (edges[0], edges[-1]) == (0, 1)
    assert (widths > 0).all()
    assert 0.5 in edges
    assert widths.argmax() in (0, n_bins - 1)
    assert widths.argmin() in (n_bins // 2 - 1, n_bins // 2)


def test_states_that_saturate_are_in_the_outer_bins(A):
    huge = with_gradients(A).assign({"relu1": 1e100 * (A["relu1"] + 1)})
    detector = NACDetector(n_bins=4).fit(huge)
    assert detector.counts_["relu1"][:, 1:3].sum() == 0
    assert detector.counts_["relu1"].sum(axis=1).tolist() == [90] * 5


# Which gradients


def test_gradients_of_another_width_are_refused(A):
    X = A.assign({"relu2:gradient": gradient("relu2", np.ones((len(A), 2)))})
    message = r"a gradient for each unit, but layer 'relu2' .* gradients 'relu2:gradient' \(2,\)"
    with pytest.raises(ValueError, match=message):
        NACDetector().fit(X)


def test_gradients_of_the_layer_that_the_head_reads_are_computed(A):
    explicit = A.assign({"relu2:gradient": gradient("relu2", gradients_of_head(A))}, head=None)
    expected = NACDetector().fit(explicit)
    detector = NACDetector().fit(A)
    assert detector.gradient_layers_ == expected.gradient_layers_ == ("relu2",)
    np.testing.assert_array_equal(detector.score_samples(A), expected.score_samples(explicit))
    assert detector.head_.input_layer == "relu2"
    assert not hasattr(expected, "head_")


def test_logits_that_are_missing_are_computed(A):
    expected = NACDetector().fit(A)
    bare = Activations(dict(A.items()), head=A.head)
    found = NACDetector().fit(bare)
    np.testing.assert_array_equal(found.training_scores_, expected.training_scores_)
    np.testing.assert_array_equal(expected.score_samples(bare), expected.score_samples(A))


def test_gradients_of_the_network_come_first(A):
    X = with_gradients(A)
    detector = NACDetector().fit(X)
    assert detector.gradient_layers_ == ("relu1", "relu2")
    assert not hasattr(detector, "head_")
    assert list(detector.counts_) == ["relu1", "relu2"]
    assert list(detector.layer_shapes_) == list(X.layer_names)
    with pytest.raises(ValueError, match=r"fitted on.*relu1:gradient"):
        detector.score_samples(A)


def test_gradients_of_pooled_layers_belong_to_them(A):
    rng = np.random.default_rng(0)
    maps = {name: rng.normal(size=(90, 5, 3, 3)) for name in ("conv", "conv:gradient")}
    poolings = make_pipeline(
        PoolingReducer(pooling=["sum", "max"]), NACDetector(gradients=True)
    ).fit(Activations({**maps, "conv:gradient": gradient("conv", maps["conv:gradient"])}))
    assert poolings[-1].gradient_layers_ == ("conv:sum", "conv:max")
    summed = {name: values.sum(axis=(2, 3)) for name, values in maps.items()}
    summed["conv:gradient"] = gradient("conv", summed["conv:gradient"])
    expected = NACDetector(gradients=True).fit(Activations(summed))
    np.testing.assert_array_equal(poolings[-1].counts_["conv:sum"], expected.counts_["conv"])


def test_names_do_not_make_gradients(A):
    """A layer that is called like a gradient is a layer, and a gradient may have any name."""
    values = np.random.default_rng(0).normal(size=(90, 5))
    named = A.assign({"relu1:gradient": values}, head=None)
    assert NACDetector().fit(named).gradient_layers_ == ()
    assert list(NACDetector().fit(named).counts_) == ["relu1", "relu2", "relu1:gradient"]
    expected = NACDetector().fit(A.assign({"relu1:gradient": gradient("relu1", values)}))
    renamed = NACDetector().fit(A.assign({"slope": gradient("relu1", values)}))
    assert renamed.gradient_layers_ == ("relu1", "relu2")
    np.testing.assert_array_equal(renamed.training_scores_, expected.training_scores_)


def test_two_gradients_of_a_layer_are_refused(A):
    X = with_gradients(A).assign({"other": gradient("relu1", A["relu1"])})
    with pytest.raises(ValueError, match=r"Both 'relu1:gradient' and 'other' are gradients"):
        NACDetector().fit(X)
    assert NACDetector(gradients=False).fit(X).gradient_layers_ == ()


def test_gradients_can_be_left_alone(A):
    expected = NACDetector().fit(A.assign(head=None))
    assert expected.gradient_layers_ == ()
    for X in (A, with_gradients(A)):
        detector = NACDetector(gradients=False).fit(X)
        assert detector.gradient_layers_ == ()
        np.testing.assert_array_equal(detector.training_scores_, expected.training_scores_)


def test_gradients_that_are_insisted_on_have_to_be_there(A):
    NACDetector(gradients=True).fit(with_gradients(A))
    NACDetector(gradients=True).fit(with_gradients(A, ["relu1"]))
    for X, missing in ((A, "relu1"), (A[["relu1"]], "relu1"), (A["relu1"], "X")):
        with pytest.raises(ValueError, match=rf"of all layers, but X has none of \['{missing}'\]"):
            NACDetector(gradients=True).fit(X)


def test_a_head_that_reads_something_else_gives_no_gradients(A):
    elsewhere = A.assign(head=LinearHead(np.ones((4, 28)), input_layer="flattened"))
    unclear = A.assign(head=LinearHead(A.head.weight, A.head.bias))
    for X in (elsewhere, unclear):
        assert NACDetector().fit(X).gradient_layers_ == ()
    alone = NACDetector().fit(unclear[["relu2"]])
    assert alone.gradient_layers_ == ("relu2",)


def test_gradients_without_layers_are_refused(A):
    with pytest.raises(ValueError, match="needs a layer beside gradients"):
        NACDetector().fit(with_gradients(A)[["relu1:gradient"]])


def test_logits_that_do_not_fit_the_head_are_refused(A):
    detector = NACDetector().fit(A)
    with pytest.raises(ValueError, match="new logits must have 4 classes"):
        detector.score_samples(A.assign(logits=A.logits[:, :3]))
    with pytest.raises(ValueError, match="layer 'logits' contains NaN"):
        detector.score_samples(A.assign(logits=A.logits * np.nan))


def test_extracted_gradients_cover_as_those_of_the_head():
    torch = pytest.importorskip("torch")
    from skood import ActivationExtractor

    torch.manual_seed(0)
    network = torch.nn.Sequential(torch.nn.Linear(6, 9), torch.nn.ReLU(), torch.nn.Linear(9, 3))
    X = np.random.default_rng(0).normal(size=(60, 6)).astype(np.float32)
    extractor = ActivationExtractor(network, layers=["1"], gradients=True)
    A = extractor.fit_transform(X)
    extracted = NACDetector(gradients=True, min_count=5).fit(A)
    closed = NACDetector(gradients=True, min_count=5).fit(A[["1"]])
    # A state next to an edge may fall on its other side.
    assert np.abs(extracted.counts_["1"] - closed.counts_["1"]).sum() <= 4


# Activations alone


def test_the_scale_of_a_unit_does_not_matter(A):
    expected = NACDetector(gradients=False).fit(A)
    scaled = A.assign({"relu1": A["relu1"] * [8, 0.25, 1, 2, 64]})
    found = NACDetector(gradients=False).fit(scaled)
    np.testing.assert_array_equal(found.counts_["relu1"], expected.counts_["relu1"])


def test_values_on_an_edge_are_in_one_bin_whatever_the_order_of_samples():
    values = np.repeat([0.1, 0.2, 0.3], 33)[:, np.newaxis] * [1, 7, 0.3]
    for seed in range(10):
        shuffled = np.random.default_rng(seed).permutation(values)
        counts = NACDetector(n_bins=2).fit(shuffled).counts_["X"]
        np.testing.assert_array_equal(counts, [[33, 66]] * 3)


def test_activations_that_are_unusually_large_are_not_covered(A):
    detector = NACDetector(gradients=False, min_count=20).fit(A)
    large = A.assign({"relu1": A["relu1"] + 8})
    assert (detector.score_samples(large) < detector.score_samples(A)).mean() > 0.9


@pytest.mark.parametrize("activation", [1e-3, -1e-3])
def test_a_unit_that_is_silent_in_training_covers_one_state(activation):
    train = np.c_[np.random.default_rng(0).normal(size=70), np.zeros(70)]
    detector = NACDetector(min_count=10).fit(train)
    assert (detector.counts_["X"][1] > 0).sum() == 1
    others = train[:20] + np.array([0.0, activation])
    np.testing.assert_allclose(
        detector.score_samples(train[:20]) - detector.score_samples(others), np.full(20, 0.5)
    )


def test_a_silent_layer_is_covered():
    detector = NACDetector(min_count=3).fit(np.zeros((5, 4)))
    assert detector.training_scores_.tolist() == [1] * 5
    assert detector.score_samples(np.full((1, 4), 1e-3)).tolist() == [0]


def test_bits_count_as_the_numbers_they_stand_for(A):
    bits = A["relu1"] > 0.5
    expected = NACDetector().fit(Activations({"relu": bits.astype(float)}))
    for values in (bits, PackedBits.pack(bits)):
        found = NACDetector().fit(Activations({"relu": values}))
        np.testing.assert_array_equal(found.training_scores_, expected.training_scores_)


def test_an_array_has_activations_alone(A):
    detector = NACDetector().fit(A["relu1"])
    assert detector.gradient_layers_ == ()
    expected = NACDetector().fit(A[["relu1"]].assign(head=None))
    np.testing.assert_array_equal(detector.counts_["X"], expected.counts_["relu1"])


# Settings


def test_a_share_of_the_training_samples_may_be_enough(A):
    share = NACDetector(min_fraction=0.1).fit(A)
    np.testing.assert_array_equal(
        share.training_scores_, NACDetector(min_count=9).fit(A).training_scores_
    )
    # It does not depend on how many samples there are, but for the sample itself.
    doubled = NACDetector(min_fraction=0.1).fit(A[np.r_[:90, :90]])
    np.testing.assert_allclose(doubled.score_samples(A), share.score_samples(A))


def test_settings_may_differ_between_layers(A):
    X = with_gradients(A)
    detector = NACDetector(
        n_bins={"relu1": 4, "relu2": 9, "other": 3},
        min_fraction={"relu1": 0.1, "relu2": 0.2},
        steepness={"relu1": 1, "relu2": 0.01},
    ).fit(X)
    by_layer = [
        NACDetector(n_bins=n_bins, min_count=enough, steepness=steepness).fit(
            X[[name, f"{name}:gradient"]]
        )
        for name, n_bins, enough, steepness in (("relu1", 4, 9, 1), ("relu2", 9, 18, 0.01))
    ]
    expected = np.mean([part.training_scores_ for part in by_layer], axis=0)
    np.testing.assert_allclose(detector.training_scores_, expected)


@pytest.mark.parametrize(
    ("params", "message"),
    [
        ({"n_bins": 1}, "n_bins"),
        ({"n_bins": {"relu1": 1, "relu2": 5}}, r"n_bins\['relu1'\]"),
        ({"n_bins": {"relu1": 5}}, r"n_bins has no value for \['relu2'\]; it has \['relu1'\]"),
        ({"min_count": 0}, "min_count"),
        ({"min_count": 1.0}, "min_count"),
        ({"min_count": {"relu1": 5, "relu2": 1.5}}, r"min_count\['relu2'\]"),
        ({"min_fraction": 1.0}, "min_fraction"),
        ({"min_fraction": {"relu1": 0.5, "relu2": 2}}, r"min_fraction\['relu2'\]"),
        ({"min_fraction": {"relu1": 0.5}}, r"min_fraction has no value for \['relu2'\]"),
        ({"steepness": 0}, "steepness"),
        ({"steepness": {}}, r"steepness has no value for \['relu1', 'relu2'\]"),
        ({"gradients": "yes"}, "gradients"),
    ],
    ids=str,
)
def test_settings_out_of_range_are_refused(A, params, message):
    with pytest.raises(ValueError, match=message):
        NACDetector(**params).fit(A)


def test_maps_have_to_be_pooled_first():
    with pytest.raises(ValueError, match="pool it first"):
        NACDetector().fit(Activations({"conv": np.ones((3, 2, 4, 4))}))


# As a detector


@pytest.mark.parametrize("gradients", ["auto", False])
def test_batches_do_not_show(A, gradients, hold_at_most):
    expected = NACDetector(gradients=gradients).fit(A)
    hold_at_most(40)
    found = NACDetector(gradients=gradients).fit(A)
    np.testing.assert_array_equal(found.training_scores_, expected.training_scores_)
    np.testing.assert_array_equal(found.score_samples(A), expected.score_samples(A))


def test_out_of_distribution_rows_are_not_counted(A):
    y = np.where(np.arange(90) % 3, 0, -1)
    for gradients in ("auto", False):
        detector = NACDetector(gradients=gradients, min_fraction=0.1).fit(A, y)
        expected = NACDetector(gradients=gradients, min_fraction=0.1).fit(A[y == 0])
        np.testing.assert_array_equal(detector.training_scores_, expected.training_scores_)


def test_a_refit_equals_a_fresh_fit(A):
    refitted = NACDetector(min_count=3).fit(A)
    refitted.set_params(gradients=False, n_bins=9, steepness=1.0).fit(A["relu1"])
    fresh = NACDetector(gradients=False, n_bins=9, min_count=3, steepness=1.0).fit(A["relu1"])
    assert vars(refitted).keys() == vars(fresh).keys()
    np.testing.assert_array_equal(
        refitted.score_samples(A["relu1"]), fresh.score_samples(A["relu1"])
    )
    assert refitted.offset_ == fresh.offset_


@pytest.mark.parametrize(
    "parameter", ["n_bins", "min_count", "min_fraction", "steepness", "gradients"]
)
def test_settings_can_be_searched(A, parameter):
    values = {
        "n_bins": [3, 40],
        "min_count": [2, 40],
        "min_fraction": [None, 0.9],
        "steepness": [0.1, 9],
        "gradients": ["auto", False],
    }
    y = np.where(np.arange(90) % 3, 0, -1)
    search = GridSearchCV(
        make_pipeline(LayerSelector(layers="relu2"), NACDetector(min_count=9)),
        {f"nacdetector__{parameter}": values[parameter]},
        cv=OODKFold(3),
        error_score="raise",
    ).fit(A, y)
    assert len(set(search.cv_results_["mean_test_score"])) == 2


def test_the_input_is_left_as_it_was(A):
    counts = {"relu1": 3, "relu2": 40}
    before = pickle.dumps((A, counts))
    NACDetector(min_count=counts).fit(A).predict(A)
    assert pickle.dumps((A, counts)) == before
