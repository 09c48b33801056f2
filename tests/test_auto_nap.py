"""The published auto-configuration, against the authors' results and against brute force."""

import numpy as np
import pytest
import sklearn
from hypothesis import given
from hypothesis import strategies as st
from sklearn.exceptions import UnsetMetadataPassedError
from sklearn.model_selection import GridSearchCV, ShuffleSplit, cross_validate
from sklearn.pipeline import make_pipeline

from skood import Activations, HammingNAPDetector, PercentileBinarizer, PoolingReducer
from skood.activations import Column, PackedBits
from skood.ensemble import AutoNAPDetector
from skood.ensemble._nap_configuration import (
    choose_layers,
    choose_pooling,
    choose_threshold,
    percentile_weight,
)
from skood.metrics import make_ood_scorer
from skood.model_selection import OODKFold
from skood.preprocessing import LayerSelector

N_ROWS = {"train": 450, "val": 200, "unk": 150, "eval": 40}
POOLINGS = ("max", "avg")


@pytest.fixture(scope="module")
def reference(golden):
    inputs, nap = golden("inputs"), golden("nap")

    def activations(part):
        n_rows = N_ROWS[part]
        layers = {
            f"{layer}:{pooling}": Column(
                inputs[f"{layer}_{pooling}_{part}"], layer=layer, pooling=pooling
            )
            for layer in nap["layer_names"][:-1]
            for pooling in POOLINGS
        }
        layers["fc1"] = inputs[f"features_{part}"][:n_rows]
        return Activations(layers, logits=inputs[f"logits_{part}"][:n_rows])

    parts = {part: activations(part) for part in N_ROWS}
    X = Activations.concatenate([parts["train"], parts["val"], parts["unk"]])
    y = np.concatenate([inputs["y_train"][:450], inputs["y_val"][:200], np.full(150, -1)])
    split = np.repeat([-1, 0], [450, 350])
    return parts, X, y, split, nap


@pytest.fixture(scope="module", params=["cfg1", "cfg2"])
def configured(request, reference):
    parts, X, y, split, nap = reference
    config = {
        name.removeprefix(f"{request.param}_"): nap[name]
        for name in nap
        if name.startswith(request.param)
    }
    _, n_layers, by_accuracy = config["settings"]
    params = {
        "percentiles": tuple(100 * config["p_grid"]),
        "n_layers": int(n_layers),
        "criterion": "accuracy" if by_accuracy else "threshold",
    }
    detectors = {
        combine: AutoNAPDetector(combine=combine, **params).fit(X, y, sample_split=split)
        for combine in ("weighted", "vote")
    }
    return parts, config, detectors, nap


def test_every_setting_has_the_authors_threshold_and_accuracy(configured):
    _, config, detectors, _ = configured
    shape = config["tau_grid"].transpose(1, 0, 2).shape
    results = detectors["weighted"].results_
    np.testing.assert_array_equal(
        results["tau"].reshape(shape), config["tau_grid"].transpose(1, 0, 2)
    )
    np.testing.assert_allclose(
        results["accuracy"].reshape(shape), config["acc_grid"].transpose(1, 0, 2), rtol=1e-12
    )


def test_the_authors_configuration_is_chosen(configured):
    _, config, detectors, nap = configured
    detector, chosen = detectors["weighted"], config["chosen_layers"]
    assert detector.layers_ == nap["layer_names"][chosen].tolist()
    assert detector.poolings_ == [POOLINGS[pool] for pool in config["layer_pool"][chosen]]
    np.testing.assert_allclose(detector.percentiles_ / 100, config["layer_p"][chosen])
    np.testing.assert_array_equal(detector.taus_, config["layer_tau"][chosen])
    np.testing.assert_allclose(detector.accuracies_, config["layer_acc"][chosen], rtol=1e-12)
    np.testing.assert_allclose(detector.weights_, config["layer_multiplier"][chosen], rtol=1e-12)


@pytest.mark.parametrize("part", ["val", "unk", "eval"])
def test_scores_and_votes_are_the_authors(configured, part):
    parts, config, detectors, _ = configured
    scores = config[f"weighted_score_{part}"]
    for detector in detectors.values():
        np.testing.assert_allclose(
            -detector.score_samples(parts[part]), scores, rtol=1e-9, atol=1e-9
        )
    vote = detectors["vote"].predict(parts[part])
    np.testing.assert_array_equal(vote == -1, config[f"vote_{part}"] == 1)
    certain = np.abs(scores) > 1e-9
    verdict = detectors["weighted"].predict(parts[part])
    np.testing.assert_array_equal((verdict == -1)[certain], (scores > 0)[certain])


def test_sums_that_cancel_are_in_distribution(configured):
    parts, config, detectors, _ = configured
    cancelled = np.abs(config["weighted_score_eval"]) < 1e-9
    assert (detectors["weighted"].predict(parts["eval"])[cancelled] == 1).all()


def test_validation_accuracies_are_the_authors(configured):
    parts, config, detectors, _ = configured
    both = Activations.concatenate([parts["val"], parts["unk"]])
    outside = np.repeat([False, True], [200, 150])
    accuracies = [
        ((detectors[combine].predict(both) == -1) == outside).mean()
        for combine in ("vote", "weighted")
    ]
    np.testing.assert_allclose(accuracies, config["valid_accuracy"], rtol=1e-12)


def test_thresholds_of_the_edge_cases_are_the_authors(golden):
    cases = golden("edge_cases")
    for number, (tau, accuracy) in enumerate(
        zip(cases["threshold_tau"], cases["threshold_accuracy"], strict=True)
    ):
        inside = cases[f"threshold_known_{number:02}"]
        outside = cases[f"threshold_unknown_{number:02}"]
        assert choose_threshold(inside, outside) == (tau, pytest.approx(accuracy))


distances = st.lists(st.integers(0, 12), min_size=1, max_size=20).map(np.array)


@given(distances, distances)
def test_threshold_is_the_smallest_best_one_of_the_range_scanned(inside, outside):
    def n_right(tau):
        return (inside <= tau).sum() + (outside > tau).sum()

    tau, accuracy = choose_threshold(inside, outside)
    assert accuracy == pytest.approx(n_right(tau) / (len(inside) + len(outside)))
    cap = int(np.percentile(inside, 95))
    assert tau <= cap
    if tau < cap:
        first = max(inside.min(), outside.min()) - 1
        right = [n_right(t) for t in range(first, 14)]
        assert tau == first + int(np.argmax(right))


def test_ties_choose_the_later_pooling_and_the_earlier_layer():
    assert choose_pooling([3, 3], [0.9, 0.9], "accuracy") == 1
    assert choose_pooling([3, 4], [0.9, 0.9], "threshold") == 0
    assert choose_layers(np.array([0.7, 0.9, 0.8, 0.9, 0.8]), 3).tolist() == [1, 2, 3]


def test_middle_percentiles_weigh_least():
    np.testing.assert_allclose(percentile_weight([10, 50, 90]), np.sqrt([10, 2, 10]))


@pytest.fixture(scope="module")
def maps():
    rng = np.random.default_rng(0)
    label = np.arange(120) % 2
    conv = rng.normal(size=(160, 12, 3, 3))
    conv[:120] += 2 * rng.normal(size=(2, 12, 1, 1))[label]
    fc = rng.normal(size=(160, 30))
    fc[:120] += 2 * rng.normal(size=(2, 30))[label]
    predictions = np.r_[label, rng.integers(0, 2, 40)]
    A = Activations({"conv": conv, "fc": fc}, predictions=predictions)
    return A, np.r_[label, np.full(40, -1)], -(np.arange(160) % 3 > 0).astype(int)


def test_maps_and_layers_pooled_before_give_the_same(maps):
    A, y, split = maps
    pooled = PoolingReducer(pooling=POOLINGS).fit_transform(A)
    raw = AutoNAPDetector().fit(A, y, sample_split=split)
    before = AutoNAPDetector().fit(pooled, y, sample_split=split)
    assert raw.layers_ == before.layers_ == ["conv", "fc"]
    assert raw.poolings_ == before.poolings_
    np.testing.assert_array_equal(raw.score_samples(A), before.score_samples(pooled))


@pytest.mark.parametrize("kind", ["gradient", "pass"])
def test_gradients_and_passes_are_not_read(maps, kind):
    A, y, split = maps
    extra = Column(np.random.default_rng(1).normal(size=(160, 4, 2)), layer="conv", kind=kind)
    more = A.assign({"extra": extra})
    expected = AutoNAPDetector().fit(A, y, sample_split=split)
    found = AutoNAPDetector().fit(more, y, sample_split=split)
    assert set(found.results_["layer"]) == {"conv", "fc"}
    np.testing.assert_array_equal(found.score_samples(more), expected.score_samples(A))
    with pytest.raises(ValueError, match=r"\['extra'\], none of which holds activations"):
        AutoNAPDetector().fit(more[["extra"]], y, sample_split=split)


def test_one_setting_is_a_hamming_detector_with_that_threshold(maps):
    A, y, split = maps
    auto = AutoNAPDetector(n_layers=1).fit(A, y, sample_split=split)
    stored = np.flatnonzero((y != -1) & (split == -1))
    chain = [
        PoolingReducer(pooling=auto.poolings_[0]),
        PercentileBinarizer(percentile=auto.percentiles_[0]),
        HammingNAPDetector(tau=auto.taus_[0], group_by="label", break_ties=False),
    ]
    one = A[auto.layers_]
    train, test = one[stored], one
    for step in chain[:-1]:
        train, test = step.fit(train).transform(train), step.transform(test)
    np.testing.assert_array_equal(auto.predict(A), chain[-1].fit(train, y[stored]).predict(test))


def test_rows_that_set_thresholds_store_no_pattern(maps):
    A, y, split = maps
    changed = {name: array.copy() for name, array in A.items()}
    setting = np.flatnonzero((split == 0) & (y != -1))
    detector = AutoNAPDetector().fit(A, y, sample_split=split)
    np.testing.assert_array_equal(detector.training_rows_, setting)
    for array in changed.values():
        array[setting] = 0
    other = AutoNAPDetector().fit(A.replace(changed), y, sample_split=split)
    same = [
        np.array_equal(mine.stores[0].patterns.words, theirs.stores[0].patterns.words)
        for mine, theirs in zip(detector._members, other._members, strict=False)
        if (mine.source, mine.percentile) == (theirs.source, theirs.percentile)
    ]
    assert all(same)


def test_validation_takes_a_share_or_a_splitter(maps):
    A, y, _ = maps
    share = AutoNAPDetector(validation=0.25, random_state=0).fit(A, y)
    assert len(share.training_rows_) == 30
    again = AutoNAPDetector(validation=0.25, random_state=0).fit(A, y)
    np.testing.assert_array_equal(share.training_rows_, again.training_rows_)
    splitter = ShuffleSplit(1, test_size=50, random_state=0)
    assert len(AutoNAPDetector(validation=splitter).fit(A, y).training_rows_) == 50


def test_a_split_is_routed_to_the_rows_of_each_fold(maps):
    A, y, split = maps
    with sklearn.config_context(enable_metadata_routing=True):
        detector = AutoNAPDetector(n_layers=1).set_fit_request(sample_split=True)
        result = cross_validate(
            make_pipeline(LayerSelector(), detector),
            A,
            y,
            cv=OODKFold(3, ood_in_train=True),
            params={"sample_split": split},
            scoring=make_ood_scorer(),
            return_estimator=True,
            return_indices=True,
            error_score="raise",
        )
    for pipeline, rows in zip(result["estimator"], result["indices"]["train"], strict=True):
        sets_thresholds = (split[rows] == 0) & (y[rows] != -1)
        np.testing.assert_array_equal(pipeline[-1].training_rows_, np.flatnonzero(sets_thresholds))


def test_a_split_is_routed_through_a_search_only_if_requested(maps):
    A, y, split = maps
    detector = AutoNAPDetector()
    pipeline = make_pipeline(LayerSelector(), detector)
    grid = {"autonapdetector__n_layers": [1, 2]}
    search = GridSearchCV(
        pipeline,
        grid,
        scoring=make_ood_scorer(),
        cv=OODKFold(2, ood_in_train=True),
        error_score="raise",
    )
    with sklearn.config_context(enable_metadata_routing=True):
        with pytest.raises(UnsetMetadataPassedError, match="sample_split"):
            search.fit(A, y, sample_split=split)
        detector.set_fit_request(sample_split=True)
        search.fit(A, y, sample_split=split)
    n_layers = search.best_params_["autonapdetector__n_layers"]
    direct = AutoNAPDetector(n_layers=n_layers).fit(A, y, sample_split=split)
    np.testing.assert_array_equal(search.score_samples(A), direct.score_samples(A))


def test_stand_ins_configure_it_without_ood_samples(maps):
    A, y, _ = maps
    inside = y != -1
    detector = AutoNAPDetector(random_state=0).fit(A[inside], y[inside])
    assert detector.score(A, y) > 0.9
    assert (detector.accuracies_ > 0.5).all()


def test_what_cannot_be_fitted_is_refused(maps):
    A, y, split = maps
    with pytest.raises(ValueError, match="sample_split has 159"):
        AutoNAPDetector().fit(A, y, sample_split=split[1:])
    with pytest.raises(ValueError, match=r"-1 .* or 0 .* got \[1\.0\]"):
        AutoNAPDetector().fit(A, y, sample_split=np.ones(len(A)))
    with pytest.raises(ValueError, match="0 set thresholds"):
        AutoNAPDetector().fit(A, y, sample_split=np.full(len(A), -1))
    with pytest.raises(ValueError, match="needs the class labels"):
        AutoNAPDetector().fit(A)
    with pytest.raises(ValueError, match="use group_by='prediction'"):
        AutoNAPDetector().fit(A, np.where(y == -1, -1, 1))
    with pytest.raises(ValueError, match="packed bits"):
        AutoNAPDetector().fit(Activations({"p": PackedBits.pack(A["fc"] > 0)}), y)
    with pytest.raises(ValueError, match="strictly between 0 and 100"):
        AutoNAPDetector(percentiles=(0, 50)).fit(A, y)
    with pytest.raises(ValueError, match="poolings must be among"):
        AutoNAPDetector(poolings=("median",)).fit(A, y)


def test_labels_of_plus_and_minus_one_do_with_predicted_classes(maps):
    A, y, split = maps
    detector = AutoNAPDetector(group_by="prediction")
    detector.fit(A, np.where(y == -1, -1, 1), sample_split=split)
    assert detector.score(A, y) > 0.9
