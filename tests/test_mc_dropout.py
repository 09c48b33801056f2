"""Uncertainty over passes with dropout."""

from decimal import Decimal, localcontext

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays as np_arrays
from numpy.testing import assert_allclose, assert_array_equal
from scipy.special import softmax

from skood import Activations
from skood.detectors import EntropyDetector, MCDropoutDetector

STATISTICS = ["entropy", "mutual_information", "variation_ratio", "variance"]


def uncertainty(statistic, passes):
    """The statistic of logits of shape (n_samples, n_passes, n_classes)."""
    A = Activations({"passes": passes})
    return -MCDropoutDetector(statistic=statistic).fit(A).score_samples(A)


def entropy(p, axis=-1):
    return -(p * np.log(p)).sum(axis=axis)


BRUTE_FORCE = {
    "entropy": lambda p: entropy(p.mean(axis=0)),
    "mutual_information": lambda p: entropy(p.mean(axis=0)) - entropy(p).mean(),
    "variation_ratio": lambda p: 1 - np.bincount(p.argmax(axis=1)).max() / len(p),
    "variance": lambda p: p.var(axis=0, ddof=1).mean(),
}


@pytest.fixture
def passes():
    return 2 * np.random.default_rng(0).normal(size=(30, 7, 4))


@pytest.mark.parametrize("statistic", STATISTICS)
def test_statistics_are_those_of_the_definitions(passes, statistic):
    expected = [BRUTE_FORCE[statistic](softmax(sample, axis=1)) for sample in passes]
    assert_allclose(uncertainty(statistic, passes), expected, rtol=1e-9)


@pytest.mark.parametrize(
    ("statistic", "name"),
    [
        ("entropy", "predictive_entropy"),
        ("mutual_information", "mutual_information"),
        ("variation_ratio", "mode_vote_ratio"),
        ("variance", "pytorch_ood_var"),
    ],
)
def test_reference_values(golden, statistic, name):
    reference = golden("mc_dropout")
    probabilities = reference["probabilities"].astype(np.float64)
    with np.errstate(divide="ignore"):
        logits = np.maximum(np.log(probabilities), -1000)
    found = uncertainty(statistic, logits.swapaxes(0, 1))
    assert_allclose(found, reference[name], rtol=1e-6, atol=1e-7)


def test_mutual_information_of_the_edge_cases(golden):
    reference = golden("edge_cases")
    with np.errstate(divide="ignore"):
        logits = np.maximum(np.log(reference["mi_probabilities"]), -1000).swapaxes(0, 1)
    found = uncertainty("mutual_information", logits)
    assert_allclose(found, reference["mi_expected"], rtol=1e-9, atol=1e-15)


def exact_mutual_information(passes):
    with localcontext(prec=60):
        powers = [[Decimal(float(z)).exp() for z in row] for row in passes]
        p = [[power / sum(row) for power in row] for row in powers]
        mean = [sum(column) / len(p) for column in zip(*p, strict=True)]

        def exact_entropy(row):
            return -sum(value * value.ln() for value in row)

        return float(exact_entropy(mean) - sum(map(exact_entropy, p)) / len(p))


@pytest.mark.parametrize("scale", [1e-3, 1e-5, 1e-7])
def test_mutual_information_is_accurate_where_the_passes_nearly_agree(scale):
    rng = np.random.default_rng(0)
    passes = rng.normal(size=(1, 1, 4)) + scale * rng.normal(size=(1, 5, 4))
    found = uncertainty("mutual_information", passes)
    assert_allclose(found, exact_mutual_information(passes[0]), rtol=1e-6)


@pytest.mark.parametrize("certainty", [50.0, 300.0])
def test_confident_samples_keep_their_order(certainty):
    passes = np.array([[[certainty, 0, 1], [certainty + 1, 0, 3]], [[certainty, 0, 2]] * 2])
    expected = exact_mutual_information(passes[0])
    assert_allclose(uncertainty("mutual_information", passes), [expected, 0], rtol=1e-9)
    assert len(np.unique(uncertainty("entropy", passes))) == 2


@given(
    np_arrays(
        np.float32,
        st.tuples(*[st.integers(1, 4)] * 2, st.integers(2, 4)),
        elements=st.floats(-(2.0**20), 2.0**20, width=32),
    )
)
def test_statistics_stay_within_their_bounds(passes):
    n_passes, n_classes = passes.shape[1:]
    found = {statistic: uncertainty(statistic, passes) for statistic in STATISTICS}
    for values in found.values():
        assert (values >= 0).all()
    assert (found["entropy"] <= np.log(n_classes) + 1e-12).all()
    assert (found["mutual_information"] <= np.log(n_passes) + 1e-12).all()
    assert (found["mutual_information"] <= found["entropy"] + 1e-12).all()
    assert (found["variation_ratio"] <= 1 - 1 / min(n_passes, n_classes) + 1e-12).all()


@pytest.mark.parametrize("statistic", STATISTICS[1:])
def test_equal_passes_have_no_uncertainty_between_them(passes, statistic):
    equal = np.repeat(passes[:, :1], 7, axis=1)
    assert_array_equal(uncertainty(statistic, equal), 0)


@pytest.mark.parametrize("statistic", STATISTICS)
def test_order_of_passes_and_of_classes_does_not_matter(passes, statistic):
    expected = uncertainty(statistic, passes)
    assert_allclose(uncertainty(statistic, passes[:, ::-1, ::-1]), expected, rtol=1e-9)


@pytest.mark.parametrize("statistic", STATISTICS)
def test_batches_make_no_difference(passes, statistic):
    many = np.tile(passes, (100, 1, 1))
    assert_array_equal(uncertainty(statistic, many), np.tile(uncertainty(statistic, passes), 100))


def test_a_single_pass_has_the_entropy_of_its_softmax(passes):
    logits = passes[:, 0]
    expected = EntropyDetector().fit(logits).score_samples(logits)
    A = Activations({"fc": np.zeros((30, 2))}, logits=logits)
    assert_allclose(MCDropoutDetector().fit(A).score_samples(A), expected, rtol=1e-12)
    assert_allclose(MCDropoutDetector().fit(logits).score_samples(logits), expected, rtol=1e-12)
    assert_allclose(uncertainty("entropy", passes[:, :1]), -expected, rtol=1e-12)


@pytest.mark.parametrize("statistic", STATISTICS[1:])
def test_a_single_pass_does_not_differ_from_itself(passes, statistic):
    logits = passes[:, 0]
    assert_array_equal(MCDropoutDetector(statistic=statistic).fit(logits).score_samples(logits), 0)


@pytest.mark.parametrize("statistic", STATISTICS[1:])
def test_logits_do_not_stand_for_passes_that_must_disagree(passes, statistic):
    A = Activations({"fc": np.zeros((30, 2))}, logits=passes[:, 0])
    with pytest.raises(ValueError, match=r"no layer 'passes' .* n_passes"):
        MCDropoutDetector(statistic=statistic).fit(A)


def test_logits_do_not_stand_for_passes_seen_in_fit(passes):
    A = Activations({"passes": passes}, logits=passes[:, 0])
    without = Activations({"fc": np.zeros((30, 2))}, logits=passes[:, 0])
    with pytest.raises(ValueError, match="was fitted on"):
        MCDropoutDetector().fit(A).score_samples(without)


def test_layer_of_another_name_and_other_layers(passes):
    A = Activations({"conv": np.zeros((30, 2, 3, 3)), "draws": passes})
    detector = MCDropoutDetector(statistic="variance", layer="draws").fit(A)
    assert_allclose(-detector.score_samples(A), uncertainty("variance", passes))
    assert detector.layer_shapes_ == {"draws": (7, 4)}


def test_neither_passes_nor_logits_are_refused():
    with pytest.raises(ValueError, match="no layer 'passes'"):
        MCDropoutDetector().fit(Activations({"fc": np.zeros((3, 2))}))


def test_layer_without_an_axis_of_passes_is_refused():
    with pytest.raises(ValueError, match=r"n_passes, n_classes\), got \(3, 2\)"):
        MCDropoutDetector().fit(Activations({"passes": np.zeros((3, 2))}))


def test_ordinary_array_of_passes_is_refused(passes):
    with pytest.raises(ValueError, match="dim 3"):
        MCDropoutDetector().fit(passes)


def test_disagreement_is_found_where_the_mean_is_the_same():
    uncertain = np.zeros((20, 2, 2))
    contradicting = np.tile([[9.0, 0], [0, 9.0]], (20, 1, 1))
    A, y = Activations({"passes": np.concatenate([uncertain, contradicting])}), [0] * 20 + [-1] * 20
    assert MCDropoutDetector(statistic="mutual_information").fit(A, y).score(A, y) == 1
    assert_allclose(uncertainty("entropy", A["passes"]), np.log(2), rtol=1e-6)
