"""The cluster distance detector against references and brute force."""

import pickle

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from sklearn.cluster import KMeans, MiniBatchKMeans
from sklearn.datasets import make_blobs
from sklearn.exceptions import NotFittedError
from sklearn.metrics import silhouette_score
from sklearn.utils import resample

from skood import Activations, ClusterDistanceDetector
from skood.activations import PackedBits
from skood.detectors import _cluster_distance


def quick(**params):
    """A detector whose k-means starts once."""
    return ClusterDistanceDetector(**{"kmeans": KMeans(n_init=1), "random_state": 0, **params})


# References


@pytest.fixture(scope="module")
def reference(golden):
    """Reads patterns of a layer with predictions, and what is expected of that layer."""
    groups, clusters = golden("knn_groups"), golden("clusters")
    logits = golden("neuron_statistics")

    def patterns(number, split):
        octets = groups[f"pre_bits{number}_{split}"]
        bits = np.unpackbits(octets, axis=1, count=groups["layer_widths"][number - 1])
        return Activations({"relu": PackedBits.pack(bits)}, logits=logits[f"logits_{split}"])

    def read(number):
        prefix = f"layer{number}_"
        expected = {
            name.removeprefix(prefix): array
            for name, array in clusters.items()
            if name.startswith(prefix)
        }
        return patterns(number, "train"), patterns(number, "eval"), expected

    return read, clusters["k_range"]


@pytest.mark.parametrize("number", range(1, 6))
def test_clusters_of_the_reference_are_found(reference, number, monkeypatch):
    read, k_range = reference
    monkeypatch.setattr(_cluster_distance, "_MOST_CLUSTERS", k_range[-1])
    train, test, expected = read(number)

    class FromReference(KMeans):
        """Which of its local optima k-means ends in depends on the last bits of sums."""

        def fit(self, X, y=None):
            if self.n_clusters == expected["best_k"]:
                self.set_params(init=expected["centres"], n_init=1)
            return super().fit(X)

    detector = ClusterDistanceDetector(kmeans=FromReference(n_init=10), random_state=0).fit(train)

    assert list(detector.silhouettes_) == k_range.tolist()
    silhouettes, references = np.array([*detector.silhouettes_.values()]), expected["silhouette"]
    np.testing.assert_allclose(silhouettes, references, rtol=0.03)
    assert np.isclose(silhouettes, references, rtol=1e-7).sum() > len(references) / 2
    np.testing.assert_allclose(silhouettes.max(), references.max())
    assert detector.n_clusters_ == expected["best_k"]

    # The number that the reference gives to each cluster.
    numbers = expected["labels_train"][detector.center_samples_]
    np.testing.assert_array_equal(numbers[detector.training_labels_], expected["labels_train"])
    np.testing.assert_allclose(
        detector.cluster_centers_, expected["centres"][numbers], rtol=1e-9, atol=1e-12
    )
    np.testing.assert_array_equal(detector.center_samples_, expected["centre_sample"][numbers])
    np.testing.assert_array_equal(detector.dominant_classes_, expected["dominant_class"][numbers])
    np.testing.assert_array_equal(detector.matches(test), expected["matching_eval"])

    # The reference divides by a mean distance that is 0 but for rounding in one cluster.
    mean_distances = expected["mean_member_distance"]
    np.testing.assert_allclose(detector.mean_distances_, mean_distances[numbers], atol=1e-12)
    for X, split in [(train, "train"), (test, "eval")]:
        is_sound = mean_distances[expected[f"labels_{split}"]] > 1e-9
        found = detector.cluster_distance(X)
        np.testing.assert_allclose(found[is_sound], expected[f"cdc_{split}"][is_sound], rtol=1e-9)
        np.testing.assert_array_equal(found[~is_sound], 0)


# Brute force


def brute_coefficient(row, centers, members):
    """CDC of one sample, given the training samples of each cluster."""
    distances = [np.linalg.norm(row - center) for center in centers]
    own = int(np.argmin(distances))
    means = [
        np.mean([np.linalg.norm(member - center) for member in of_cluster])
        for center, of_cluster in zip(centers, members, strict=True)
    ]
    positive = [mean for mean in means if mean > 0]
    return distances[own] / (means[own] or min(positive, default=1))


few_rows = st.tuples(st.integers(1, 12), st.integers(1, 3), st.integers(0, 99)).map(
    lambda args: np.random.default_rng(args[2]).integers(0, 3, size=args[:2])
)


@given(X=few_rows, n_clusters=st.sampled_from(["auto", 1, 2, 5]))
def test_clusters_and_distances_are_those_of_a_brute_force(X, n_clusters):
    predictions = X.sum(axis=1) % 3
    A = Activations({"relu": X}, predictions=predictions)
    detector = quick(n_clusters=n_clusters).fit(A)
    labels = detector.training_labels_
    assert 1 <= detector.n_clusters_ <= min(len(np.unique(X, axis=0)), len(X))
    members = [X[labels == cluster] for cluster in range(detector.n_clusters_)]
    for cluster, of_cluster in enumerate(members):
        center = detector.cluster_centers_[cluster]
        distances = np.linalg.norm(of_cluster - center, axis=1)
        np.testing.assert_allclose(detector.mean_distances_[cluster], distances.mean(), atol=1e-12)
        nearest = detector.center_samples_[cluster]
        assert labels[nearest] == cluster
        np.testing.assert_allclose(np.linalg.norm(X[nearest] - center), distances.min())
        votes = np.bincount(predictions[labels == cluster])
        assert detector.dominant_classes_[cluster] == votes.argmax()
    query = np.vstack([X, X[:1] + 1, X[:1] * 100])
    found = detector.cluster_distance(query_like(A, query))
    assert np.isfinite(found).all()
    expected = [brute_coefficient(row, detector.cluster_centers_, members) for row in query]
    np.testing.assert_allclose(found, expected, atol=1e-12)


def query_like(A, rows):
    """Other samples of the one layer of A, without predictions."""
    return Activations({A.layer_names[0]: rows})


@given(few_rows)
def test_auto_takes_the_smallest_number_with_the_best_silhouette(X):
    detector = quick().fit(X)
    expected = {}
    n_distinct = len(np.unique(X, axis=0))
    for k in range(2, min(n_distinct, len(X) - 1) + 1) if n_distinct > 2 else ():
        labels = KMeans(k, n_init=1, random_state=0).fit_predict(X.astype(float))
        expected[k] = silhouette_score(X, labels)
    assert detector.silhouettes_ == pytest.approx(expected)
    best = [k for k, value in expected.items() if value == max(expected.values())]
    assert detector.n_clusters_ == min(best, default=1)


# Clusters


@pytest.fixture(scope="module")
def blobs():
    """Three well-separated classes, which the network predicts."""
    X, y = make_blobs(180, n_features=6, centers=3, random_state=0)
    return Activations({"fc": X}, predictions=y)


def test_auto_finds_the_number_of_classes(blobs):
    detector = quick().fit(blobs)
    assert detector.n_clusters_ == 3
    assert detector.matches(blobs).all()
    assert sorted(detector.dominant_classes_) == [0, 1, 2]
    assert list(detector.silhouettes_) == list(range(2, 33))


def test_of_many_samples_silhouettes_are_those_of_a_part(blobs, monkeypatch):
    monkeypatch.setattr(_cluster_distance, "_SILHOUETTE_SAMPLES", 40)
    detector = quick().fit(blobs)
    part = resample(blobs["fc"], replace=False, n_samples=40, random_state=0)
    for k in (2, 3, 32):
        labels = KMeans(k, n_init=1, random_state=0).fit_predict(part)
        assert detector.silhouettes_[k] == pytest.approx(silhouette_score(part, labels))
    # The clusters themselves are those of all samples.
    assert len(detector.training_labels_) == 180
    expected = quick(n_clusters=3).fit(blobs)
    np.testing.assert_array_equal(detector.cluster_centers_, expected.cluster_centers_)


@pytest.mark.parametrize(("n_samples", "default"), [(100, KMeans), (101, MiniBatchKMeans)])
def test_many_samples_are_clustered_in_mini_batches(n_samples, default, monkeypatch):
    monkeypatch.setattr(_cluster_distance, "_KMEANS_SAMPLES", 100)
    X = np.random.default_rng(0).random((n_samples, 5))
    found = ClusterDistanceDetector(n_clusters=8, random_state=0).fit(X).training_labels_
    for kmeans in (KMeans(n_init=3), MiniBatchKMeans(n_init=3)):
        given = quick(n_clusters=8, kmeans=kmeans).fit(X).training_labels_
        assert np.array_equal(found, given) == isinstance(kmeans, default)


def test_the_given_kmeans_is_cloned():
    X = np.random.default_rng(0).random((60, 3))
    kmeans = KMeans(5, init="random", n_init=2, random_state=7)
    found = quick(n_clusters=4, kmeans=kmeans).fit(X).training_labels_
    expected = KMeans(4, init="random", n_init=2, random_state=0).fit(X).labels_
    np.testing.assert_array_equal(found, expected)
    assert kmeans.get_params()["n_clusters"] == 5
    assert kmeans.get_params()["random_state"] == 7
    assert not hasattr(kmeans, "labels_")


class FixedKMeans(KMeans):
    """Puts the samples 0, 1, 10, 11 into clusters, one of which is nobody's nearest."""

    def fit(self, X, y=None, sample_weight=None):
        self.labels_ = np.array([0, 1, 2, 0])
        return self


def test_clusters_that_are_nearest_to_no_sample_are_dropped():
    detector = quick(n_clusters=3, kmeans=FixedKMeans()).fit([[0.0], [1.0], [10.0], [11.0]])
    assert detector.n_clusters_ == 2
    np.testing.assert_array_equal(detector.cluster_centers_, [[1.0], [10.0]])
    np.testing.assert_array_equal(detector.training_labels_, [0, 0, 1, 1])
    np.testing.assert_array_equal(detector.mean_distances_, [0.5, 0.5])
    np.testing.assert_array_equal(detector.center_samples_, [1, 2])


def test_batches_do_not_show(blobs, hold_at_most):
    expected = quick(n_clusters=3).fit(blobs).score_samples(blobs)
    hold_at_most(20)
    detector = quick(n_clusters=3).fit(blobs)
    np.testing.assert_array_equal(detector.score_samples(blobs), expected)


@pytest.mark.parametrize("n_distinct", [3, 900, 1500])
def test_there_are_no_more_clusters_than_distinct_samples(n_distinct):
    X = np.resize(np.arange(n_distinct), 2500)[:, np.newaxis].astype(float)
    for at_most in (2, 1000, 3000):
        found = _cluster_distance._count_distinct(X, at_most=at_most)
        assert found == min(n_distinct, at_most)


# Distances


def test_a_sample_on_its_centre_is_at_no_distance():
    # Three times 0.1 divided by three is not 0.1.
    X = np.array([[0.1, 0.7]] * 3 + [[5.0, 5.0], [7.0, 5.0]])
    detector = quick(n_clusters=2).fit(X)
    np.testing.assert_array_equal(detector.cluster_distance(X), [0, 0, 0, 1, 1])
    assert sorted(detector.mean_distances_) == [0, 1]
    # Divided by the mean distance of the other cluster, which is 1.
    np.testing.assert_allclose(detector.cluster_distance([[0.1, 1.7]]), [1])


@pytest.mark.parametrize("n_clusters", ["auto", 1, 3])
@pytest.mark.parametrize("n_samples", [1, 2, 9])
def test_samples_that_are_all_the_same_are_one_cluster(n_clusters, n_samples):
    detector = quick(n_clusters=n_clusters).fit(np.full((n_samples, 2), 0.3))
    assert detector.n_clusters_ == 1
    np.testing.assert_allclose(detector.score_samples([[0.3, 0.3], [0.3, 2.3]]), [0, -2])


def test_scores_do_not_depend_on_the_other_samples():
    rng = np.random.default_rng(0)
    X = (rng.random((200, 5)) < 0.5).astype(float)
    detector = quick(n_clusters=4).fit(X)
    one_by_one = [detector.score_samples(row[np.newaxis])[0] for row in X]
    np.testing.assert_array_equal(detector.score_samples(X), one_by_one)
    np.testing.assert_array_equal(detector.training_scores_, one_by_one)


def test_bits_are_zeros_and_ones():
    bits = np.random.default_rng(0).random((60, 70)) < 0.5
    expected = quick(n_clusters=3).fit(bits.astype(float)).score_samples(bits.astype(float))
    for layer in (bits, bits.astype(np.int8), PackedBits.pack(bits)):
        X = Activations({"relu": layer})
        np.testing.assert_array_equal(quick(n_clusters=3).fit(X).score_samples(X), expected)


def test_layers_are_put_side_by_side():
    rng = np.random.default_rng(0)
    bits, values = rng.random((60, 70)) < 0.5, rng.normal(size=(60, 4))
    together = np.hstack([bits, values])
    expected = quick(n_clusters=3).fit(together)
    X = Activations({"relu1": PackedBits.pack(bits), "relu2": values})
    found = quick(n_clusters=3).fit(X)
    np.testing.assert_array_equal(found.cluster_centers_, expected.cluster_centers_)
    np.testing.assert_array_equal(found.score_samples(X), expected.score_samples(together))


def test_single_precision_costs_no_precision_of_the_scores(blobs):
    single = blobs["fc"].astype(np.float32)
    detector = quick().fit(single)
    expected = quick().fit(single.astype(np.float64))
    np.testing.assert_allclose(
        detector.score_samples(single), expected.score_samples(single), rtol=1e-12
    )


# Classes


@given(
    X=few_rows,
    false_alarm_rate=st.floats(0.01, 0.5),
    n_clusters=st.integers(1, 3),
    seed=st.integers(0, 99),
)
def test_mismatching_samples_are_rejected_whatever_their_distance(
    X, false_alarm_rate, n_clusters, seed
):
    predictions = np.random.default_rng(seed).integers(0, 3, len(X))
    A = Activations({"relu": X}, predictions=predictions)
    params = {"n_clusters": n_clusters, "false_alarm_rate": false_alarm_rate}
    detector = quick(**params, reject_mismatch=True).fit(A)
    matching, rejected = detector.matches(A), detector.predict(A) == -1
    assert rejected[~matching].all()
    if np.mean(~matching) >= false_alarm_rate:
        np.testing.assert_array_equal(rejected, ~matching)
    else:
        assert np.mean(rejected) <= false_alarm_rate + 1 / len(X)
        if false_alarm_rate * (len(X) - 1) >= np.sum(~matching):
            # Of equal scores, the percentile may be off by rounding, and the offset is not.
            percentile = np.percentile(detector.training_scores_, 100 * false_alarm_rate)
            assert detector.offset_ == pytest.approx(percentile, rel=1e-12)
    # Not even a centre itself passes under a class that is not the dominant one.
    centers = Activations(
        {"relu": detector.cluster_centers_}, predictions=detector.dominant_classes_ + 1
    )
    np.testing.assert_array_equal(detector.predict(centers), -1)


def test_scores_of_matching_samples_do_not_change(blobs):
    predictions = blobs.predictions.copy()
    predictions[:4] = (predictions[:4] + 1) % 3
    A = Activations(dict(blobs.items()), predictions=predictions)
    plain, strict = (quick(n_clusters=3, reject_mismatch=r).fit(A) for r in (False, True))
    difference = plain.score_samples(A) - strict.score_samples(A)
    np.testing.assert_array_equal(difference[4:], 0)
    largest = plain.cluster_distance(A)[4:].max()
    np.testing.assert_allclose(difference[:4], 1 + largest)
    np.testing.assert_array_equal(strict.cluster_distance(A), plain.cluster_distance(A))


def test_the_lowest_of_equally_frequent_classes_is_dominant():
    A = Activations({"a": np.zeros((5, 2))}, predictions=["dog", "cat", "dog", "cat", "emu"])
    detector = quick().fit(A)
    assert detector.dominant_classes_.tolist() == ["cat"]
    np.testing.assert_array_equal(detector.matches(A), [False, True, False, True, False])


def test_out_of_distribution_rows_are_left_out(blobs):
    y = np.where(np.arange(180) < 30, -1, blobs.predictions)
    detector = quick(n_clusters=3).fit(blobs, y)
    assert (detector.center_samples_ >= 30).all()
    assert len(detector.training_labels_) == 150
    rows = detector.center_samples_
    np.testing.assert_array_equal(blobs.predictions[rows], detector.dominant_classes_)
    np.testing.assert_array_equal(
        detector.training_labels_[np.searchsorted(detector.training_rows_, rows)], range(3)
    )


# Life of a detector


def test_fit_forgets_what_was_fitted_before(blobs):
    detector = quick().fit(blobs)
    detector.set_params(n_clusters=2).fit(blobs["fc"])
    assert not hasattr(detector, "silhouettes_")
    assert not hasattr(detector, "dominant_classes_")


def test_a_random_state_is_drawn_from(blobs):
    X = np.random.default_rng(0).random((60, 3))
    runs = [quick(n_clusters=9, random_state=np.random.RandomState(5)).fit(X) for _ in range(2)]
    np.testing.assert_array_equal(runs[0].training_labels_, runs[1].training_labels_)
    other = quick(n_clusters=9, random_state=6).fit(X)
    assert not np.array_equal(runs[0].training_labels_, other.training_labels_)


def test_the_input_is_left_as_it_was(blobs):
    before = pickle.dumps(blobs)
    quick(n_clusters=3, reject_mismatch=True).fit(blobs).predict(blobs)
    assert pickle.dumps(blobs) == before


# Errors


def test_predictions_are_needed_where_matches_are_asked_for(blobs):
    with pytest.raises(ValueError, match="reject_mismatch=True needs predictions"):
        quick(reject_mismatch=True).fit(blobs["fc"])
    bare = Activations(dict(blobs.items()))
    with pytest.raises(ValueError, match="fitted on X that carried no predictions"):
        quick(n_clusters=2).fit(bare).matches(blobs)
    detector = quick(n_clusters=2, reject_mismatch=True).fit(blobs)
    for call in (detector.matches, detector.score_samples):
        with pytest.raises(ValueError, match="X carries no predictions"):
            call(bare)
    assert len(detector.cluster_distance(bare)) == len(bare)


@pytest.mark.parametrize(
    "params",
    [
        {"n_clusters": 0},
        {"n_clusters": 2.0},
        {"n_clusters": "best"},
        {"kmeans": "minibatch"},
        {"reject_mismatch": "yes"},
        {"false_alarm_rate": 0.6},
        {"random_state": "none"},
    ],
    ids=str,
)
def test_parameters_out_of_range_are_refused(blobs, params):
    with pytest.raises(ValueError, match=next(iter(params))):
        ClusterDistanceDetector(**params).fit(blobs)


def test_an_unfitted_detector_says_so(blobs):
    for call in (quick().cluster_distance, quick().matches):
        with pytest.raises(NotFittedError):
            call(blobs)


@pytest.mark.parametrize("offset", [1e4, 1e8])
def test_silhouettes_far_from_the_origin_are_those_near_it(offset):
    X = np.random.default_rng(0).normal(size=(60, 3)) + 20 * (np.arange(60) % 3)[:, np.newaxis]
    near = quick().fit(X)
    far = quick().fit(X + offset)
    assert far.n_clusters_ == near.n_clusters_ == 3
    assert far.silhouettes_[3] == pytest.approx(near.silhouettes_[3], rel=1e-5)


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_nearly_equal_rows_have_the_clusters_of_their_differences(dtype):
    steps = np.repeat([0, 2000, 4000], 20) + np.random.default_rng(0).integers(0, 100, 60)
    X = (1 + np.finfo(dtype).eps * steps[:, np.newaxis]).astype(dtype)
    detector = quick().fit(X)
    assert detector.n_clusters_ == 3
    assert np.isfinite(detector.score_samples(X)).all()


@pytest.mark.parametrize("factor", [1e-40, 3e37])
def test_single_precision_that_k_means_cannot_square_is_clustered(factor):
    X = np.random.default_rng(0).normal(size=(60, 3)) + 20 * (np.arange(60) % 3)[:, np.newaxis]
    X /= np.abs(X).max()
    assert quick().fit((factor * X).astype(np.float32)).n_clusters_ == 3
