"""What `sys.getsizeof` tells of a container, by which schedulers send it once or with each task."""

import pickle
import sys

import joblib
import numpy as np
import pytest

from skood import Activations
from skood.activations import LinearHead, PackedBits

N_SAMPLES = 400
ROW_BYTES = {"conv": 4 * 12, "fc": 8 * 50, "bits": 8 * 2, "logits": 8 * 10, "predictions": 8}
HEAD_BYTES = 8 * 10 * 50 + 8 * 10


def build(**parts):
    rng = np.random.default_rng(0)
    layers = {
        "conv": rng.normal(size=(N_SAMPLES, 3, 2, 2)).astype(np.float32),
        "fc": rng.normal(size=(N_SAMPLES, 50)),
        "bits": PackedBits.pack(rng.random((N_SAMPLES, 70)) < 0.5),
    }
    head = LinearHead(rng.normal(size=(10, 50)), np.ones(10), "fc")
    logits = rng.normal(size=(N_SAMPLES, 10))
    return Activations(layers, logits=logits, predictions=logits.argmax(axis=1), head=head, **parts)


def overhead(thing, expected):
    """What is counted beyond the arrays."""
    return sys.getsizeof(thing) - expected


@pytest.mark.parametrize(
    ("rows", "n_rows"),
    [
        (slice(None), N_SAMPLES),
        (slice(10, 20), 10),
        (slice(None, None, -2), N_SAMPLES // 2),
        (np.array([3, 3, 3]), 3),
        (np.arange(N_SAMPLES) < 7, 7),
        (slice(0), 0),
    ],
    ids=str,
)
def test_a_view_counts_its_own_rows_and_the_head(rows, n_rows):
    view = build()[rows]
    expected = n_rows * sum(ROW_BYTES.values()) + HEAD_BYTES
    assert 0 < overhead(view, expected) < 500
    assert abs(len(pickle.dumps(view)) - expected) < 3000
    assert 0 < overhead(view.assign(), expected) < 500


def test_classes_and_features_count_and_what_is_derived_does_not():
    layers = {"fc": np.ones((5, 3))}
    plain = sys.getsizeof(Activations(layers))
    assert sys.getsizeof(Activations(layers, classes=[0, 1])) - plain == 16
    assert sys.getsizeof(Activations(layers, features=np.ones((5, 2)))) - plain == 80
    assert sys.getsizeof(Activations(layers, logits=np.ones((5, 2)))) - plain == 80
    assert sys.getsizeof(Activations({**layers, "b": np.ones((5, 4))})[["fc"]]) == plain


def test_values_that_are_not_held_count_as_they_are_sent():
    A = Activations({"fc": np.broadcast_to(np.ones(50), (1000, 50))})
    assert 0 < overhead(A, 8 * 50 * 1000) < 500


def test_nothing_is_read_to_be_counted(tmp_path):
    class Guarded(np.ndarray):
        def __getitem__(self, item):
            raise AssertionError("read")

    A = Activations({"fc": np.ones((50, 20)).view(Guarded)}, logits=np.ones((50, 2)).view(Guarded))
    assert 0 < overhead(A[[1, 2, 3]], 3 * 8 * 22) < 500
    build().save(tmp_path / "saved")
    mapped = Activations.load(tmp_path / "saved", mmap_mode="r")
    assert sys.getsizeof(mapped[::3]) == sys.getsizeof(build()[::3])


def test_parts_count_their_arrays_too():
    assert 0 < overhead(PackedBits.pack(np.ones((100, 65))), 1600) < 200
    assert 0 < overhead(LinearHead(np.ones((3, 5), np.float32)), 4 * 18) < 200


def test_dask_sends_activations_once_and_not_with_each_task():
    distributed = pytest.importorskip("distributed")
    A = build()
    sent = []
    dumps = Activations.__getstate__

    def counted(self):
        sent.append(len(self))
        return dumps(self)

    with (
        pytest.MonkeyPatch.context() as patch,
        distributed.LocalCluster(
            n_workers=2, threads_per_worker=1, dashboard_address=":0"
        ) as cluster,
        distributed.Client(cluster),
        joblib.parallel_config(backend="dask"),
    ):
        patch.setattr(Activations, "__getstate__", counted)
        means = joblib.Parallel()(joblib.delayed(mean_of)(A, "fc") for _ in range(8))
    assert means == [A["fc"].mean()] * 8
    assert sent == [N_SAMPLES]


def mean_of(A, layer):
    return A[layer].mean()
