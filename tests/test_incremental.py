"""What holds for every detector that learns in batches."""

import numpy as np
import pytest
from _estimators import detectors
from sklearn.base import clone
from sklearn.exceptions import NotFittedError

from skood import Activations
from skood.activations import LinearHead

INCREMENTAL = {type(d).__name__: d for d in detectors() if hasattr(d, "partial_fit")}
every_detector = pytest.mark.parametrize("name", INCREMENTAL)


@pytest.fixture(scope="module")
def data():
    rng = np.random.default_rng(0)
    y = np.arange(90) % 3
    y[::7] = -1
    layer = np.maximum(rng.normal(size=(3, 12))[y] + 0.4 * rng.normal(size=(90, 12)), 0)
    predictions = np.where(rng.random(90) < 0.8, np.abs(y), (y + 1) % 3)
    return with_outputs(layer, predictions=predictions), y


def with_outputs(layer, n_classes=3, seed=1, **parts):
    """Activations of one layer, which the head of a network reads."""
    weight = np.random.default_rng(seed).normal(size=(n_classes, layer.shape[1]))
    head = LinearHead(weight, input_layer="relu")
    return Activations({"relu": layer}, logits=head.logits(layer), head=head, **parts)


def without_outputs(A):
    return Activations(dict(A.items()), predictions=A.predictions)


def unfitted(name, **params):
    detector = clone(INCREMENTAL[name]).set_params(**params)
    return detector.set_params(n_neighbors=5) if hasattr(detector, "n_neighbors") else detector


def needs_outputs(name):
    """Whether a detector reads logits, and not the layers that were selected."""
    layer = np.random.default_rng(0).normal(size=(20, 3))
    try:
        unfitted(name).fit(Activations({"relu": layer}))
    except ValueError as error:
        return "logits" in str(error) or "head" in str(error)
    return False


def reads_the_head(name):
    return hasattr(unfitted(name).fit(np.random.default_rng(0).normal(size=(20, 3))), "head_")


every_reader_of_layers = pytest.mark.parametrize(
    "name", [name for name in INCREMENTAL if not needs_outputs(name)]
)


def assert_learnt_alike(found, expected, A):
    np.testing.assert_allclose(found.score_samples(A), expected.score_samples(A), rtol=1e-9)
    np.testing.assert_allclose(found.training_scores_, expected.training_scores_, rtol=1e-9)
    np.testing.assert_array_equal(found.training_rows_, expected.training_rows_)
    assert found.offset_ == pytest.approx(expected.offset_)
    assert found.n_samples_seen_ == expected.n_samples_seen_


def test_all_of_them_are_found():
    assert set(INCREMENTAL) == {
        "EnergyDetector",
        "EntropyDetector",
        "FDBDDetector",
        "GENDetector",
        "GaussianActivationDetector",
        "GradNormDetector",
        "HammingNAPDetector",
        "KLMatchingDetector",
        "KNNDetector",
        "MCDropoutDetector",
        "MaxLogitDetector",
        "MaxSoftmaxDetector",
        "NCIDetector",
        "NNGuideDetector",
        "SHEDetector",
    }


@every_detector
def test_batches_and_merges_are_one_fit(name, data):
    A, y = data
    expected = unfitted(name).fit(A, y)
    batches = [slice(0, 20), slice(20, 21), slice(21, 90)]
    detector = unfitted(name)
    for batch in batches:
        detector.partial_fit(A[batch], y[batch])
    assert_learnt_alike(detector, expected, A)
    first, *others = (unfitted(name).fit(A[rows], y[rows]) for rows in np.split(np.arange(90), 3))
    for other in others:
        before = other.score_samples(A)
        assert first.merge(other) is first
        np.testing.assert_array_equal(other.score_samples(A), before)
    assert_learnt_alike(first, expected, A)


@every_detector
@pytest.mark.parametrize("group_by", ["label", "correct"])
def test_batches_count_for_the_classes_that_fit_finds(name, data, group_by):
    A, y = data
    if not hasattr(INCREMENTAL[name], "group_by"):
        pytest.skip("learns from all samples alike")
    expected = unfitted(name, group_by=group_by).fit(A, y)
    merged = unfitted(name, group_by=group_by).fit(A[:40], y[:40])
    merged.merge(unfitted(name, group_by=group_by).fit(A[40:], y[40:]))
    assert_learnt_alike(merged, expected, A)


@every_detector
def test_a_refused_merge_changes_nothing(name, data):
    A, y = data
    detector = unfitted(name).fit(A, y)
    before = dict(vars(detector))
    wider = with_outputs(np.hstack([A["relu"], A["relu"]]), n_classes=4)
    for other, error, message in (
        (unfitted(name, false_alarm_rate=0.2).fit(A, y), ValueError, "same parameters"),
        (unfitted(name).fit(wider), ValueError, "same layers"),
        (unfitted(name), NotFittedError, "not fitted yet"),
        (A, TypeError, f"Only another {name}"),
    ):
        with pytest.raises(error, match=message):
            detector.merge(other)
    assert vars(detector) == before


@every_reader_of_layers
def test_predictions_of_another_kind_or_none_are_refused(name, data):
    A, y = data
    A = without_outputs(A)
    detector = unfitted(name).fit(A, y)
    before = dict(vars(detector))
    others = Activations({"other": A["relu"]}, predictions=A.predictions)
    texts = Activations({"relu": A["relu"]}, predictions=A.predictions.astype(str))
    for other, message in (
        (unfitted(name).fit(others, y), "same layers"),
        (unfitted(name).fit(Activations(dict(A.items()))), "same use of predictions"),
        (unfitted(name).fit(texts), "Class labels must be of one kind"),
    ):
        if hasattr(detector, "group_by") or "kind" not in message:
            with pytest.raises(ValueError, match=message):
                detector.merge(other)
    assert vars(detector) == before


@pytest.mark.parametrize("name", [name for name in INCREMENTAL if reads_the_head(name)])
def test_detectors_of_another_head_are_not_merged(name, data):
    A, y = data
    detector = unfitted(name).fit(A, y)
    before = dict(vars(detector))
    others = with_outputs(A["relu"], seed=2)
    with pytest.raises(ValueError, match=f"The other {name} .* another head.* than this {name}"):
        detector.merge(unfitted(name).fit(others, y))
    with pytest.raises(ValueError, match=f"X .* another head.* than this {name}"):
        detector.partial_fit(others, y)
    assert vars(detector) == before
    # A batch that comes without a head is read by the one that is known.
    detector.partial_fit(Activations({"relu": A["relu"]}, logits=A.logits), y)


def of_network(classes, rows=slice(None), **parts):
    """Activations of a network with three classes; of another one for other classes."""
    layer = np.random.default_rng(0).normal(size=(60, 12))
    return with_outputs(layer, classes=classes, **parts)[rows]


NETWORKS = {
    "texts": (
        ["a", "b", "c"],
        ["d", "e", "f"],
        r"classes \['d', 'e', 'f'\], but .*\['a', 'b', 'c'\]",
    ),
    "numbers": ([0, 1, 2], [10, 11, 12], r"classes \[10, 11, 12\], but .*\[0, 1, 2\]"),
    "one class more": ([0, 1, 2], [0, 1, 3], r"classes \[0, 1, 3\], but .*\[0, 1, 2\]"),
    "another order": (["a", "b", "c"], ["b", "a", "c"], r"classes \['b', 'a', 'c'\], but"),
    "texts and numbers": (
        ["a", "b", "c"],
        [0, 1, 2],
        r"classes \[0, 1, 2\], but .*\['a', 'b', 'c'\]",
    ),
}


@every_detector
@pytest.mark.parametrize(("mine", "theirs", "message"), NETWORKS.values(), ids=list(NETWORKS))
def test_detectors_of_other_networks_are_not_merged(name, mine, theirs, message):
    detector = unfitted(name).fit(of_network(mine))
    before = dict(vars(detector))
    with pytest.raises(ValueError, match=f"The other {name} comes from a network.*{message}"):
        detector.merge(unfitted(name).fit(of_network(theirs)))
    # Batches of such a network are refused in the same words.
    with pytest.raises(ValueError, match=f"X comes from a network.*{message}"):
        detector.partial_fit(of_network(theirs))
    assert vars(detector) == before


@every_reader_of_layers
@pytest.mark.parametrize("way", ["merge", "partial_fit"])
def test_classes_of_a_later_batch_are_known_from_then_on(name, way):
    A = of_network(["a", "b", "c"])
    detector = unfitted(name).fit(without_outputs(A))
    if way == "merge":
        detector.merge(unfitted(name).fit(A))
    else:
        detector.partial_fit(A)
    with pytest.raises(ValueError, match=r"classes \['a', 'b', 'd'\], but .*\['a', 'b', 'c'\]"):
        detector.merge(unfitted(name).fit(of_network(["a", "b", "d"])))
    with pytest.raises(ValueError, match=r"classes \['a', 'b', 'd'\], but .*\['a', 'b', 'c'\]"):
        detector.score_samples(of_network(["a", "b", "d"]))


def as_logits(layer, rows):
    """Activations of which a detector of outputs reads what it reads of an array."""
    head = LinearHead(np.eye(rows.shape[1]), input_layer=layer)
    return Activations({layer: rows}, logits=rows, predictions=np.zeros(len(rows), int), head=head)


@every_detector
def test_arrays_and_tables_are_merged_with_their_like_only(name, data):
    pd = pytest.importorskip("pandas")
    rows = data[0]["relu"]
    table = pd.DataFrame(rows, columns=list("abcdefghijkl"))
    detector = unfitted(name).fit(rows)
    expected = unfitted(name).fit(np.concatenate([rows[:50], rows[50:]]))
    assert_learnt_alike(
        unfitted(name).fit(rows[:50]).merge(unfitted(name).fit(rows[50:])), expected, rows
    )
    for other, message in (
        (unfitted(name).fit(rows[:, 1:]), "same layers"),
        (unfitted(name).fit(as_logits("relu", rows)), "same layers"),
        (unfitted(name).fit(as_logits("X", rows)), "same layers"),
        (unfitted(name).fit(table), "same feature names"),
    ):
        with pytest.raises(ValueError, match=message):
            detector.merge(other)
        with pytest.raises(ValueError, match=message):
            other.merge(detector)
    with pytest.raises(ValueError, match="same feature names"):
        unfitted(name).fit(table).merge(unfitted(name).fit(table.rename(columns={"a": "z"})))


@every_detector
def test_every_parameter_has_to_be_the_same(name, data):
    A, y = data
    detector = unfitted(name).fit(A, y)
    others = {"prediction": "label", None: 2, 0: 1, 1: 0}
    for parameter, value in detector.get_params().items():
        other = unfitted(name).fit(A, y)
        changed = value / 2 if isinstance(value, int | float) else f"not {value}"
        changed = others.get(value, changed)
        with pytest.raises(ValueError, match=f"same parameters.*{parameter}"):
            detector.merge(other.set_params(**{parameter: changed}))


@every_detector
def test_merging_before_fit_is_refused(name, data):
    A, y = data
    with pytest.raises(NotFittedError):
        unfitted(name).merge(unfitted(name).fit(A, y))


@every_detector
def test_a_batch_of_ood_rows_alone_teaches_nothing(name, data):
    A, y = data
    detector = unfitted(name).fit(A, y)
    scores, offset = detector.score_samples(A), detector.offset_
    detector.partial_fit(A[:5], np.full(5, -1))
    np.testing.assert_array_equal(detector.score_samples(A), scores)
    assert detector.offset_ == offset
    assert detector.n_samples_seen_ == 95
