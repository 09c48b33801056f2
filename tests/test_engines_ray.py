"""Ray: batches of its data sets, and its backend of joblib, on one cluster of two processes."""

import os
import sys
import warnings
from collections import Counter

import joblib
import numpy as np
import pytest
from _networks import trained_perceptron
from sklearn.base import clone
from sklearn.exceptions import NotFittedError
from sklearn.model_selection import GridSearchCV
from test_od_test_runs import assert_same, parts, small

from skood import ActivationExtractor, Monitor
from skood.detectors import KNNDetector
from skood.engines import RayScorer
from skood.model_selection import OODKFold, od_test

KNN = KNNDetector(n_neighbors=5, normalize=False)


def batch_of(n_rows, n_features=20):
    X = np.random.default_rng(0).normal(size=(n_rows, n_features)).astype(np.float32)
    return {"x": X, "id": np.arange(n_rows)}


@pytest.fixture(scope="module")
def detector():
    return KNNDetector(n_neighbors=5).fit(batch_of(200)["x"])


def test_a_batch_gets_scores_and_verdicts_beside_what_it_holds(detector):
    batch = batch_of(30)
    scored = RayScorer(detector, "x")(batch)
    assert list(scored) == ["id", "score", "prediction"]
    np.testing.assert_array_equal(scored["score"], detector.score_samples(batch["x"]))
    np.testing.assert_array_equal(scored["prediction"], detector.predict(batch["x"]))
    only = RayScorer(detector, outputs={"margin": "decision_function"})({"x": batch["x"]})
    assert list(only) == ["margin"]
    kept = RayScorer(detector, "x", keep=["x"])(batch)
    assert list(kept) == ["x", "score", "prediction"]


def test_columns_of_lists_become_a_matrix(detector):
    X = batch_of(30)["x"]
    lists = np.empty(30, object)
    lists[:] = list(X)
    scored = RayScorer(detector, "x")({"x": lists})
    np.testing.assert_array_equal(scored["score"], detector.score_samples(X))
    lists[3] = X[3, :5]
    with pytest.raises(ValueError, match=r"column 'x' need one shape, got \(5,\) and \(20,\)"):
        RayScorer(detector, "x")({"x": lists})


def test_columns_of_numbers_become_a_matrix(detector):
    X = batch_of(30)["x"]
    batch = {f"unit_{number}": X[:, number] for number in range(20)}
    scored = RayScorer(detector, list(batch))(batch)
    np.testing.assert_array_equal(scored["score"], detector.score_samples(X))


@pytest.mark.parametrize("columns", ["bac", "ab", "abcd", "abx"])
def test_columns_of_a_data_frame_keep_their_names(columns):
    pd = pytest.importorskip("pandas")
    frame = pd.DataFrame(batch_of(60, 4)["x"], columns=list("abcd"))
    fitted = clone(KNN).fit(frame[list("abc")])
    batch = {name: frame[name].to_numpy() for name in frame}
    scored = RayScorer(fitted, list("abc"))(batch)
    np.testing.assert_array_equal(scored["score"], fitted.score_samples(frame[list("abc")]))
    with pytest.raises(ValueError, match=r"feature names should match|no columns \['x'\]"):
        RayScorer(fitted, list(columns))(batch)


def test_a_network_with_several_inputs_gets_them_by_name():
    torch = pytest.importorskip("torch")

    class Sum(torch.nn.Module):
        def __init__(self):
            super().__init__()
            self.linear = torch.nn.Linear(20, 3)

        def forward(self, left, right):
            return self.linear(torch.relu(left + right))

    torch.manual_seed(0)
    X = batch_of(60)["x"]
    inputs = {"left": X, "right": X[::-1].copy()}
    monitor = Monitor([("extract", ActivationExtractor(Sum())), ("detect", KNN)]).fit(inputs)
    scored = RayScorer(monitor, {"left": "a", "right": "b"})(
        {"a": inputs["left"], "b": inputs["right"]}
    )
    np.testing.assert_array_equal(scored["score"], monitor.score_samples(inputs))


def test_batches_without_rows_have_columns_of_the_same_kinds(detector):
    scored = RayScorer(detector, "x")({name: v[:0] for name, v in batch_of(5).items()})
    assert {name: values.dtype for name, values in scored.items()} == {
        "id": np.int64,
        "score": np.float64,
        "prediction": np.int64,
    }


def test_outputs_that_a_monitor_is_not_ready_for_are_refused_at_once():
    X = batch_of(400)["x"]
    net = trained_perceptron(X, np.arange(400) % 3)
    monitor = Monitor([("extract", ActivationExtractor(net)), ("detect", KNN)]).fit(X[:200])
    with pytest.raises(NotFittedError, match="calibrate"):
        RayScorer(monitor, "x", outputs={"p": "p_values"})
    monitor.calibrate(X[200:])
    scored = RayScorer(monitor, outputs={"p": "p_values"})({"x": X[:30]})
    np.testing.assert_allclose(scored["p"], monitor.p_values(X[:30]))
    with pytest.raises(ValueError, match=r"compares all rows with each other.*'p_values'"):
        RayScorer(monitor, "x", outputs={"kept": "select"})


def test_what_cannot_be_read_is_refused(detector):
    with pytest.raises(ValueError, match=r"name those with the inputs"):
        RayScorer(detector)(batch_of(5))
    with pytest.raises(ValueError, match=r"no columns \['y'\]; it has \['x', 'id'\]"):
        RayScorer(detector, "y")(batch_of(5))
    with pytest.raises(ValueError, match="no method 'p_values'"):
        RayScorer(detector, outputs={"p": "p_values"})
    with pytest.raises(ValueError, match=r"columns \['id'\] already"):
        RayScorer(detector, "x", outputs={"id": "predict"})(batch_of(5))
    with pytest.raises(ValueError, match=r"kneighbors of KNNDetector gives .* \(2, 5, 3\) for 5 "):
        RayScorer(
            clone(KNN).set_params(n_neighbors=3).fit(batch_of(9)["x"]),
            "x",
            outputs={"n": "kneighbors"},
        )(batch_of(5))
    with pytest.raises(TypeError, match="batch_format='numpy'"):
        RayScorer(detector)([1, 2])


@pytest.fixture(scope="module")
def ray():
    ray = pytest.importorskip("ray")
    with warnings.catch_warnings(), pytest.MonkeyPatch.context() as patch:
        warnings.simplefilter("ignore")
        # Its workers are started by other processes, which do not know where the tests lie.
        patch.setenv("PYTHONPATH", os.pathsep.join(filter(None, sys.path)))
        # It would put a function of its own in the place of `print`, for good.
        patch.setenv("RAY_TQDM_PATCH_PRINT", "0")
        ray.init(
            num_cpus=2,
            include_dashboard=False,
            object_store_memory=100 * 2**20,
            logging_level="error",
            log_to_driver=False,
        )
        yield ray
        ray.shutdown()


def test_each_actor_gets_the_network_once(ray, tmp_path):
    torch = pytest.importorskip("torch")
    from _counting_network import CountingNetwork

    torch.manual_seed(0)
    net = CountingNetwork(tmp_path / "log").eval()
    batch = batch_of(400)
    steps = [("extract", ActivationExtractor(net)), ("detect", KNN)]
    monitor = Monitor(steps).fit(batch["x"])
    (tmp_path / "log").write_text("", encoding="utf-8")
    items = [{"x": x, "id": i} for x, i in zip(*batch.values(), strict=True)]
    rows = ray.data.from_items(items, override_num_blocks=8)
    scored = rows.map_batches(
        RayScorer, fn_constructor_args=(monitor, "x"), concurrency=2, batch_size=25
    ).to_pandas()
    scored = scored.sort_values("id")
    np.testing.assert_allclose(scored["score"], monitor.score_samples(batch["x"]), rtol=1e-6)
    np.testing.assert_array_equal(scored["prediction"], monitor.predict(batch["x"]))
    lines = (tmp_path / "log").read_text(encoding="utf-8").splitlines()
    unpacked = Counter(line.split()[1] for line in lines if line.startswith("unpacked"))
    assert set(unpacked.values()) == {1}
    assert len(unpacked) <= 2


def test_searches_run_on_its_workers(ray):
    from ray.util.joblib import register_ray

    register_ray()
    A, y, _ = small()
    y = np.where(np.arange(len(y)) % 3 == 0, -1, y)
    search = GridSearchCV(KNN, {"n_neighbors": [1, 5]}, cv=OODKFold(3))
    one = clone(search).fit(A["fc"], y)
    with joblib.parallel_config("ray", n_jobs=2):
        processes = joblib.Parallel()(joblib.delayed(os.getpid)() for _ in range(2))
        far = clone(search).fit(A["fc"], y)
    assert os.getpid() not in processes
    np.testing.assert_array_equal(
        far.cv_results_["mean_test_score"], one.cv_results_["mean_test_score"]
    )


def test_tables_of_od_test_run_on_its_workers(ray, tmp_path):
    from ray.util.joblib import register_ray

    register_ray()
    A, y, sets = small()
    expected = od_test(parts(), A, sets, y=y, target="both")
    with joblib.parallel_config("ray", n_jobs=2):
        table = od_test(parts(), A, sets, y=y, target="both", results=tmp_path)
    assert_same(table, expected)
