"""The detector of the default monitor: layers and head, weighed by what the layers know."""

import pickle

import numpy as np
import pytest
from sklearn.base import clone
from sklearn.exceptions import NotFittedError
from sklearn.preprocessing import normalize

from skood import Activations, HammingNAPDetector
from skood._logits import MissingLogitsError
from skood._monitor_view import memory_of
from skood.activations import LinearHead
from skood.detectors import EnergyDetector, KNNDetector, MahalanobisDetector, forget_batches
from skood.ensemble import AdaptiveEnsembleDetector, LayerEnsembleDetector
from skood.ensemble._calibrations import TailCalibration
from skood.ensemble._combination import informed_sum
from skood.inspection import explain

TARGETS = pytest.mark.parametrize("target", ["ood", "misclassified"])


def network(n_rows=240, n_classes=3, n_layers=3, width=12, noise=0.8, seed=0, dtype=np.float32):
    """Layers that know more of the classes the later they are, and the head on the last."""
    rng = np.random.default_rng(seed)
    centers = np.random.default_rng(42).normal(size=(n_classes, width))
    label = np.arange(n_rows) % n_classes
    layers = {}
    for number in range(n_layers):
        spread = noise * (n_layers - number)
        values = centers[label] + spread * rng.normal(size=(n_rows, width))
        layers[f"relu{number}"] = np.maximum(values, 0).astype(dtype)
    head = LinearHead(centers - centers.mean(axis=0), input_layer=f"relu{n_layers - 1}")
    return with_head(layers, head)


def with_head(layers, head):
    logits = np.asarray(layers[head.input_layer], dtype=float) @ head.weight.T
    return Activations(layers, logits=logits, head=head)


def far_from(A, n_rows=40):
    rng = np.random.default_rng(7)
    layers = {
        name: np.abs(8 * rng.normal(size=(n_rows, *layer.shape[1:]))).astype(layer.dtype)
        for name, layer in A.items()
    }
    return with_head(layers, A.head)


def log_p(calibration, scores):
    """By the words of the documentation, one score at a time."""
    # Means of standardised numbers of bits are equal but for rounding.
    ascending, scores = np.round(np.sort(calibration), 10), np.round(scores, 10)
    n = len(ascending)
    edge = ascending[n // 10]
    excess = (edge - ascending[ascending < edge]).mean()
    apart = int(np.ceil(np.sqrt(n) / 4))
    of_step = {at: (ascending == ascending[at]).sum() >= apart for at in range(n)}
    levels = {}
    for at in range(n // 10, n):
        value = ascending[at]
        before_step = at < n - 1 and value < ascending[at + 1] and of_step[at + 1]
        too_near = any(
            of_step[i] and value < ascending[i] for i in range(at, min(at + apart + 1, n))
        )
        is_due = (at - n // 10) % apart == 0 and (at == n // 10 or not too_near)
        if of_step[at]:
            levels[value] = (ascending <= value).sum() + 1
        elif before_step or is_due or at == n - 1:
            levels[value] = at + 2
    levels, ranks = list(levels), list(levels.values())
    n_below = (ascending < edge).sum() if (ascending == edge).sum() >= apart else n // 10
    foot = ascending[max(n_below - apart, 0)]
    tail = np.log(0.1) - (edge - np.append(scores, foot)) / excess
    found = []
    for score, below in zip(scores, tail, strict=False):
        if score < foot:
            value = below
        elif score < levels[0]:
            ends = [tail[-1], np.log(ranks[0] / (n + 1))]
            value = np.interp(score, [foot, levels[0]], ends)
        else:
            value = np.log(np.interp(score, levels, ranks) / (n + 1))
        found.append(value if value >= -30 else -30 - np.log1p(-30 - value))
    return np.array(found)


def brute_force(detector, A):
    """The score made of the public parts alone."""
    knowledge, share = detector.knowledge_, detector.layer_share_
    watched = A[detector.layers_]
    parts = {}
    for name, member in detector.named_estimators_.items():
        if name == "features":
            read = Activations({"features": A.features}, predictions=A.predictions)
        else:
            read = watched if name in ("distances", "patterns", "norms") else A
        if isinstance(member, LayerEnsembleDetector):
            members = zip(member.estimators_, member.layers_, strict=True)
            columns = [
                log_p(of_layer.training_scores_, of_layer.score_samples(read[[layer]]))
                for of_layer, layer in members
            ]
            total = sum(
                k * c + (1 - k) * np.minimum(c - np.log(0.01), 0)
                for k, c in zip(knowledge, columns, strict=True)
            )
            scores = total / knowledge.sum()
            np.testing.assert_allclose(scores, member.score_samples(read), rtol=1e-7)
        else:
            scores = member.score_samples(read)
        parts[name] = log_p(member.training_scores_, scores)
    of_layers = parts["distances"] + parts["patterns"]
    if detector.target == "misclassified":
        return parts["softmax"] + share**4 * of_layers
    watching = [parts["distances"], parts["patterns"], parts["features"]]
    beyond = sum(np.minimum(part - np.log(0.1), 0) for part in watching)
    of_head = parts["boundaries"] + parts["energy"]
    far = np.minimum(parts["norms"] - np.log(0.01), 0)
    return share * of_layers + (1 - share) * (of_head + beyond) + far


@TARGETS
def test_score_is_made_of_public_parts_as_documented(target):
    A = network()
    detector = AdaptiveEnsembleDetector(target=target).fit(A)
    assert 0.1 < detector.layer_share_ < 0.9
    assert detector.layer_share_ == pytest.approx(detector.knowledge_.mean() ** 2)
    for new in (network(seed=1), far_from(A)):
        # Softmax scores next to 1 are equal but for rounding, and one level.
        np.testing.assert_allclose(
            detector.score_samples(new),
            brute_force(detector, new),
            atol=0 if target == "ood" else 1e-4,
        )


@TARGETS
def test_contributions_add_up_to_the_score(target):
    A = network()
    detector = AdaptiveEnsembleDetector(target=target).fit(A)
    new = far_from(A)
    added = detector.contributions(new)
    assert list(added) == list(detector.named_estimators_)
    np.testing.assert_allclose(sum(added.values()), detector.score_samples(new))
    with pytest.raises(NotFittedError):
        clone(detector).contributions(new)


def test_contributions_of_scaled_samples_are_those_of_the_norms():
    A = network(noise=0.2)
    detector = AdaptiveEnsembleDetector().fit(parts_of(A))
    scaled = parts_of(A, layers={name: 8 * layer for name, layer in A.items()})
    added, usual = detector.contributions(scaled), detector.contributions(parts_of(A))
    np.testing.assert_allclose(added["distances"], usual["distances"])
    assert np.mean(usual["norms"] == 0) > 0.95
    assert (added["norms"] < added["distances"] - 10).mean() > 0.95


def test_knowledge_is_the_share_nearest_to_the_mean_of_their_class():
    A = network(n_rows=60)
    knowledge = AdaptiveEnsembleDetector().fit(A).knowledge_
    for known, name in zip(knowledge, A.layer_names, strict=True):
        is_right = []
        for row in range(len(A)):
            others = np.delete(np.arange(len(A)), row)
            part = MahalanobisDetector(normalize=True, shrinkage=0.1, group_by="prediction")
            part.fit(A[others][[name]])
            unit = A[name][row] / np.linalg.norm(A[name][row])
            steps = unit - part.class_means_[name]
            distances = np.einsum("ci,ij,cj->c", steps, part.precision_[name], steps)
            is_right.append(part.class_labels_[distances.argmin()] == A.predictions[row])
        # The mean variance that the covariance shrinks to keeps the sample that is left out.
        assert known == pytest.approx((np.mean(is_right) - 1 / 3) / (2 / 3), abs=0.05)
    assert knowledge[0] < knowledge[2]


def test_tail_by_hand():
    # Of 20 scores, levels are every other one from 2 on, and those next to ties. Ranks from
    # 4 on are those of the bulk; below the edge, 2, lie 1 and 0, on average 1.5 deep.
    calibration = TailCalibration(np.array([0.0, 1, 2, 3, 4, 5, 7, *range(7, 20)])[:, np.newaxis])
    scores = np.array([19.0, 9.0, 6.5, 2.0, 1.0, 0.0, -1.0, -1000.0])
    found = calibration.log_p_values(scores[:, np.newaxis])
    lowest = np.log(0.1) - 1002 / 1.5
    expected = [
        0,
        np.log(11 / 21),
        np.log(8.5 / 21),
        np.log(4 / 21),
        (np.log(4 / 21) + np.log(0.1) - 2 / 1.5) / 2,
        np.log(0.1) - 2 / 1.5,
        np.log(0.1) - 2,
        -30 - np.log1p(-30 - lowest),
    ]
    np.testing.assert_allclose(found[:, 0], expected)


@pytest.mark.parametrize("kind", ["normal", "heavy", "whole numbers", "two peaks", "few"])
def test_log_p_values_rise_with_scores_and_do_not_jump(kind):
    rng = np.random.default_rng(0)
    scores = {
        "normal": lambda: 100 + rng.normal(size=3000),
        "heavy": lambda: rng.standard_cauchy(3000),
        "whole numbers": lambda: rng.poisson(3, 3000).astype(float),
        "two peaks": lambda: np.append(rng.normal(0, 1e-3, 1000), rng.normal(1, 0.1, 2000)),
        "few": lambda: rng.normal(size=7),
    }[kind]()
    calibration = TailCalibration(scores[:, np.newaxis])
    new = np.sort(np.concatenate([scores, rng.choice(scores, 3000) + rng.normal(0, 0.1, 3000)]))
    found = calibration.log_p_values(new[:, np.newaxis])[:, 0]
    assert (np.diff(found) >= 0).all()
    shifted = new + 3e-7 * np.maximum(np.median(np.abs(scores)), np.abs(new))
    moved = calibration.log_p_values(shifted[:, np.newaxis])[:, 0] - found
    # A rank is 1 / 300 of log p there where it is most.
    assert moved.max() < {"normal": 1e-4, "two peaks": 1e-3}.get(kind, 1e-5)
    inside = scores[scores >= np.quantile(scores, 0.15)]
    p = (1 + np.searchsorted(np.sort(scores), inside, side="right")) / (1 + len(scores))
    found = np.exp(calibration.log_p_values(inside[:, np.newaxis])[:, 0])
    np.testing.assert_allclose(found, p, atol=0.005)


def test_informed_sum_by_hand():
    log_p = np.log([[0.5, 0.5], [0.5, 0.001], [0.001, 0.5]])
    found = informed_sum(log_p, np.array([1.0, 0.25]))
    log_half, log_milli, beyond = np.log(0.5), np.log(0.001), np.log(0.1)
    expected = [
        1.25 * log_half,
        log_half + 0.25 * log_milli + 0.75 * beyond,
        log_milli + 0.25 * log_half,
    ]
    np.testing.assert_allclose(found, np.array(expected) / 1.25)
    # Layers that know nothing count alike.
    np.testing.assert_allclose(informed_sum(log_p, np.zeros(2)), log_p.mean(axis=1))


@TARGETS
def test_order_of_rows_and_layers_and_batches_does_not_matter(target):
    A, new = network(), far_from(network())
    detector = AdaptiveEnsembleDetector(target=target).fit(A)
    scores = detector.score_samples(new)
    order = np.random.default_rng(0).permutation(len(A))
    shuffled = clone(detector).fit(A[order])
    np.testing.assert_allclose(shuffled.score_samples(new), scores)
    np.testing.assert_allclose(shuffled.training_scores_, detector.training_scores_[order])
    names = list(A.layer_names)[::-1]
    np.testing.assert_allclose(clone(detector).fit(A[names]).score_samples(new[names]), scores)
    halves = [detector.score_samples(new[rows]) for rows in (slice(0, 1), slice(1, None))]
    np.testing.assert_allclose(np.concatenate(halves), scores)


@TARGETS
def test_copies_and_further_fits_score_alike(target):
    A, new = network(), network(seed=1)
    detector = AdaptiveEnsembleDetector(target=target).fit(A)
    scores = detector.score_samples(new)
    for other in (pickle.loads(pickle.dumps(detector)), clone(detector).fit(A)):
        np.testing.assert_array_equal(other.score_samples(new), scores)
    detector.fit(network(n_layers=1)).fit(A)
    np.testing.assert_array_equal(detector.score_samples(new), scores)
    assert list(detector.left_out_) == []


def parts_of(A, *kept, layers=None):
    given = {name: getattr(A, name) for name in kept}
    return Activations(dict(A.items()) if layers is None else layers, **given)


@pytest.mark.parametrize(
    ("kept", "members", "left_out"),
    [
        ([], ["distances", "patterns", "norms"], ["features", "boundaries", "energy"]),
        (["predictions"], ["distances", "patterns", "norms"], ["features", "boundaries", "energy"]),
        (["logits"], ["distances", "patterns", "norms", "energy"], ["features", "boundaries"]),
        (["head"], ["distances", "patterns", "features", "norms", "boundaries"], ["energy"]),
    ],
)
def test_parts_that_a_network_has_not_are_left_out_with_the_reason(kept, members, left_out):
    A = network(noise=0.2)
    detector = AdaptiveEnsembleDetector().fit(parts_of(A, *kept))
    assert list(detector.named_estimators_) == members
    assert list(detector.left_out_) == left_out
    assert all(detector.left_out_.values())
    assert detector.score_samples(parts_of(far_from(A), *kept)).max() < detector.offset_
    if not {"logits", "head"} & set(kept):
        assert detector.layer_share_ == 1


@pytest.mark.parametrize("factor", [1 / 8, 8])
def test_ordinary_activations_but_for_a_factor_are_found_by_their_norms(factor):
    A = network(noise=0.2)
    scaled = with_head({name: layer * factor for name, layer in A.items()}, A.head)
    detector = AdaptiveEnsembleDetector().fit(A)
    assert (detector.predict(scaled) == -1).all()
    blind = AdaptiveEnsembleDetector(joint_detectors=[]).fit(parts_of(A))
    assert np.mean(blind.predict(parts_of(scaled)) == -1) < 0.2


def test_norms_that_never_vary_are_left_out():
    A = network(noise=0.2)
    layers = {name: normalize(layer) for name, layer in A.items()}
    detector = AdaptiveEnsembleDetector().fit(parts_of(A, layers=layers))
    assert "are the same in every layer" in detector.left_out_["norms"]
    assert list(detector.named_estimators_) == ["distances", "patterns"]


def test_errors_need_logits():
    with pytest.raises(MissingLogitsError):
        AdaptiveEnsembleDetector(target="misclassified").fit(parts_of(network(), "predictions"))


def test_head_on_a_layer_that_is_not_there_is_left_out():
    A = network()
    detector = AdaptiveEnsembleDetector().fit(A[["relu0", "relu1"]])
    assert list(detector.named_estimators_) == ["distances", "patterns", "norms", "energy"]
    assert list(detector.left_out_) == ["features", "boundaries"]


def test_samples_may_come_without_the_head_of_fit():
    A = network()
    detector = AdaptiveEnsembleDetector().fit(A)
    expected = detector.score_samples(A)
    np.testing.assert_allclose(
        detector.score_samples(parts_of(A, "logits", "predictions")), expected
    )
    with pytest.raises(ValueError, match="predictions"):
        detector.score_samples(parts_of(A))


@TARGETS
@pytest.mark.parametrize("n_layers", [1, 3, 120])
def test_any_number_of_layers(target, n_layers):
    A = network(n_rows=120, n_layers=n_layers, noise=0.8 / n_layers)
    detector = AdaptiveEnsembleDetector(target=target).fit(A)
    n_watched = min(n_layers, 24)
    assert len(detector.layers_) == len(detector.knowledge_) == n_watched
    assert detector.layers_[-1] == A.layer_names[-1]
    assert len([name for name in detector.left_out_ if name in A]) == n_layers - n_watched
    new = network(n_rows=120, n_layers=n_layers, noise=0.8 / n_layers, seed=1)
    assert np.mean(detector.predict(new) == 1) > 0.7


@TARGETS
@pytest.mark.parametrize("n_rows", [12, 30, 300])
def test_few_training_samples_do_not_reject_all_others(target, n_rows):
    detector = AdaptiveEnsembleDetector(target=target).fit(network(n_rows=n_rows))
    assert np.mean(detector.predict(network(n_rows=300, seed=1)) == 1) > 0.5


@TARGETS
def test_classes_never_seen_are_not_rejected_where_there_are_few_samples_of_each(target):
    A = network(n_rows=1300, n_classes=1000, width=48, noise=0.2)
    drawn = np.random.default_rng(0).permutation(1300)
    seen, unseen = A[drawn[:300]], A[drawn[300:]]
    detector = AdaptiveEnsembleDetector(target=target).fit(seen)
    is_new = ~np.isin(unseen.predictions, seen.predictions)
    assert is_new.mean() > 0.5
    assert np.mean(detector.predict(unseen[np.flatnonzero(is_new)]) == 1) > 0.7


def test_class_never_seen_is_rejected_where_there_are_many_samples_of_each():
    A = network(noise=0.2)
    detector = AdaptiveEnsembleDetector().fit(A[np.flatnonzero(A.predictions != 2)])
    of_third = A[np.flatnonzero(A.predictions == 2)]
    assert (detector.score_samples(of_third) == detector.unknown_class_score_).all()
    assert (detector.predict(of_third) == -1).all()


@TARGETS
def test_one_predicted_class_and_names_of_classes(target):
    A = network()
    of_one = A[np.flatnonzero(A.predictions == 1)]
    detector = AdaptiveEnsembleDetector(target=target).fit(of_one)
    assert detector.knowledge_.tolist() == [1, 1, 1]
    assert np.isfinite(detector.score_samples(of_one)).all()
    classes = ["cat", "dog", "eel"]
    named = Activations(dict(A.items()), logits=A.logits, head=A.head, classes=classes)
    np.testing.assert_allclose(
        AdaptiveEnsembleDetector(target=target).fit(named).training_scores_,
        AdaptiveEnsembleDetector(target=target).fit(A).training_scores_,
    )


@TARGETS
@pytest.mark.parametrize("constant", [0, 1])
def test_constant_layers_are_left_out_and_dead_units_do_no_harm(target, constant):
    A = network()
    layers = {name: np.array(layer) for name, layer in A.items()}
    layers["relu0"][:] = constant
    layers["relu1"][:, 3:6] = constant
    detector = AdaptiveEnsembleDetector(target=target).fit(with_head(layers, A.head))
    assert detector.layers_ == ["relu1", "relu2"]
    assert "same values" in detector.left_out_["relu0"]
    single = with_head({"one": layers["relu2"][:, :1] + 1, **layers}, A.head)
    assert "one" in AdaptiveEnsembleDetector(target=target).fit(single).left_out_


@TARGETS
@pytest.mark.parametrize("dtype", ["f2", "f4", "f8", "i4", "u1", np.longdouble])
def test_layers_of_any_type(target, dtype):
    A = network(noise=0.2, dtype=dtype)
    detector = AdaptiveEnsembleDetector(target=target).fit(A)
    assert np.isfinite(detector.score_samples(far_from(A))).all()
    assert np.mean(detector.predict(A) == 1) > 0.9


def test_unpooled_maps_are_refused_with_the_way_out():
    A = network()
    maps = A.assign({"relu0": np.ones((len(A), 2, 3, 3), dtype=np.float32)})
    with pytest.raises(ValueError, match=r"layer 'relu0' has shape .*PoolingReducer"):
        AdaptiveEnsembleDetector().fit(maps)


def test_of_many_rows_a_part_is_learnt_from_and_all_set_the_threshold():
    A = network(n_rows=1000)
    detector = AdaptiveEnsembleDetector(max_samples=200).fit(A)
    assert len(detector.training_scores_) == 1000
    assert np.mean(detector.training_scores_ < detector.offset_) == pytest.approx(0.05, abs=0.002)
    distances = detector.named_estimators_["distances"]
    assert distances.calibration_scores_.shape == (200, 3)
    again = AdaptiveEnsembleDetector(max_samples=200).fit(A)
    np.testing.assert_array_equal(again.training_scores_, detector.training_scores_)


def test_given_detectors_take_the_place_of_the_defaults():
    A = network()
    detector = AdaptiveEnsembleDetector(
        layer_detectors=[("nap", HammingNAPDetector())],
        head_detectors=[],
        feature_detectors=[],
        joint_detectors=[],
    )
    detector.fit(A.replace({name: layer > 0 for name, layer in A.items()}))
    assert list(detector.named_estimators_) == ["nap"]
    assert detector.layer_share_ == 1


@TARGETS
def test_explanation_of_a_far_sample_names_neurons_and_training_samples(target):
    A = network(noise=0.3)
    detector = AdaptiveEnsembleDetector(target=target).fit(A)
    far = far_from(A)[:3]
    found = explain(detector, far, X_train=A, n_neighbors=2)
    assert (A.predictions[found.neighbors] == far.predictions[:, np.newaxis]).all()
    for name in A.layer_names:
        assert (found.neuron_weights[name] != 0).any(axis=1).all()
    if target == "ood":
        assert found.alarms.all()
        assert (found.layer_weights["relu2"] > 0).all()


def test_explanation_of_an_informed_ensemble_keeps_its_weights():
    A = network()
    ensemble = LayerEnsembleDetector(
        MahalanobisDetector(shrinkage=0.1), combine="informed", knowledge=[1, 0.5, 0]
    ).fit(A)
    far = far_from(A)[:1]
    found = explain(ensemble, far, X_train=A, n_neighbors=1)
    for name in A.layer_names:
        nearby = far.assign({name: A[name][found.neighbors[0]]})
        rise = ensemble.score_samples(nearby) - ensemble.score_samples(far)
        np.testing.assert_allclose(found.layer_weights[name], rise)


@TARGETS
@pytest.mark.parametrize(("n_layers", "width", "n_classes"), [(3, 12, 3), (3, 150, 20), (1, 12, 3)])
def test_memory_is_bounded_as_documented(target, n_layers, width, n_classes):
    n_learnt, n_rows = 1000, 1500
    A = network(n_rows, n_classes, n_layers, width)
    detector = AdaptiveEnsembleDetector(target=target, max_samples=n_learnt).fit(A)
    of_distances = 8 * width * (min(width, 2048) + 3 * n_classes)
    of_distances *= 2 if target == "misclassified" else 1
    for_each = of_distances + (width + 350) * n_learnt
    bound = (n_layers + 1) * for_each + 16 * n_rows + n_layers * 4 * 8 * 1024
    of_samples = n_rows * (4 * n_layers * width + 8 * n_classes + 8 + 16)
    assert 0.25 * bound < memory_of(detector) - of_samples < bound
    forget_batches(detector)
    assert 0.25 * bound < memory_of(detector) < bound


@pytest.mark.parametrize(
    "lists",
    [
        {"layer_detectors": [KNNDetector()]},
        {"layer_detectors": [("a", KNNDetector())], "head_detectors": [("a", EnergyDetector())]},
        {"layer_detectors": [("energy", KNNDetector())]},
        {
            "layer_detectors": [],
            "head_detectors": [],
            "feature_detectors": [],
            "joint_detectors": [],
        },
    ],
)
def test_lists_of_detectors_are_checked(lists):
    X = Activations({"relu": np.random.default_rng(0).random((30, 3))})
    with pytest.raises(ValueError, match="each name once"):
        AdaptiveEnsembleDetector(**lists).fit(X)
