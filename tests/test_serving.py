"""A monitor behind HTTP, in one process: what requests are answered, and what they cannot do."""

import asyncio
import gc
import io
import json
import logging
import os
import threading
import time
import tracemalloc
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from functools import partial

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from sklearn.exceptions import NotFittedError
from sklearn.neural_network import MLPClassifier, MLPRegressor

from skood import Monitor, make_monitor
from skood.datasets import load_digits_ood
from skood.detectors import KNNDetector
from skood.extraction import ActivationExtractor
from skood.monitoring import DriftMonitor

if pytest.importorskip("fastapi") and pytest.importorskip("httpx"):
    from fastapi.testclient import TestClient

    from skood.serving import create_app

JSON = {"content-type": "application/json"}
NPY = {"content-type": "application/octet-stream"}
LETTERS = np.array(list("abcdefghij"))


def digits():
    X, y = load_digits_ood(return_X_y=True)
    X = X.reshape(len(X), -1).astype(np.float64)
    return X[y != -1], y[y != -1], X[y == -1]


X, Y, UNKNOWN = digits()


@pytest.fixture(scope="module")
def monitor():
    net = MLPClassifier((32,), random_state=0, max_iter=300, tol=1e-3).fit(
        X[:700], LETTERS[Y[:700]]
    )
    return make_monitor(net).fit(X[700:1000], LETTERS[Y[700:1000]]).calibrate(X[1000:])


@pytest.fixture
def client(monitor):
    with TestClient(create_app(monitor, max_batch=100, max_body=100_000)) as client:
        yield client


def as_npy(array, **settings):
    file = io.BytesIO()
    np.save(file, array, **settings)
    return file.getvalue()


def send(client, rows):
    return client.post("/predict", json={"rows": rows.tolist()})


def send_npy(client, rows):
    return client.post("/predict", content=as_npy(rows), headers=NPY)


def columns(answer):
    assert answer.status_code == 200, answer.text
    rows = answer.json()["predictions"]
    return {name: [row[name] for row in rows] for name in rows[0]}


def assert_right(answer, monitor, rows):
    found = columns(answer)
    assert list(found) == ["label", "verdict", "score", "p_value"]
    assert found["label"] == monitor.network.predict(rows).tolist()
    assert found["verdict"] == monitor.predict(rows).tolist()
    np.testing.assert_allclose(found["score"], monitor.score_samples(rows), rtol=1e-9)
    np.testing.assert_allclose(found["p_value"], monitor.p_values(rows), rtol=1e-9)


# What is right


@pytest.mark.parametrize("post", [send, send_npy])
def test_answers_are_what_monitor_and_network_say(client, monitor, post):
    rows = np.vstack([X[:20], UNKNOWN[:20]])
    assert_right(post(client, rows), monitor, rows)
    assert set(columns(post(client, rows))["verdict"]) == {1, -1}
    assert_right(post(client, X[:1]), monitor, X[:1])


def test_rows_need_no_object_around_them(client, monitor):
    answer = client.post("/predict", content=json.dumps(X[:3].tolist()), headers=JSON)
    assert_right(answer, monitor, X[:3])


@pytest.mark.parametrize(
    "rows",
    [
        X[:4].astype(">f4"),
        X[:4].astype(np.float16),
        np.asfortranarray(X[:4]),
        np.round(16 * X[:4]).astype(np.uint8),
        X[:4] > 0.5,
    ],
    ids=["big endian", "half precision", "columns first", "8 bits", "truth values"],
)
def test_arrays_of_all_types_and_orders_are_read(client, monitor, rows):
    assert_right(send_npy(client, rows), monitor, rows)


def test_json_is_read_in_the_type_that_is_asked_for(monitor):
    single = X[:5].astype(np.float32)
    with TestClient(create_app(monitor, dtype="float32")) as client:
        assert_right(send(client, single), monitor, single)
        assert_right(send(client, np.round(single)), monitor, np.round(single))
    with TestClient(create_app(monitor, dtype="int8")) as client:
        assert send(client, X[:2] + 0.5).status_code == 422
        assert_right(send(client, np.ones((1, 64))), monitor, np.ones((1, 64)))


def test_json_is_read_in_the_type_of_the_rows_of_fit(monitor):
    single = X[:400].astype(np.float32)
    monitor = make_monitor(monitor.network).fit(single[:200], Y[:200]).calibrate(single[200:])
    client = TestClient(create_app(monitor))
    assert_right(send(client, single[:20]), monitor, single[:20])
    assert_right(send(client, np.round(single[:2]).astype(int)), monitor, np.round(single[:2]))


@pytest.mark.parametrize("settings", [{"target": "both"}, {"validation": 0.3}, {}])
def test_answers_of_all_kinds_of_thresholds_are_those_of_the_methods(monitor, settings):
    other = make_monitor(monitor.network, **settings).fit(X[700:1000], LETTERS[Y[700:1000]])
    if "validation" not in settings:
        by = {} if settings else {"group_by": "prediction", "false_alarm_rate": 0.2}
        other.calibrate(X[1000:], LETTERS[Y[1000:]], **by)
    client, rows = TestClient(create_app(other)), np.vstack([X[:20], UNKNOWN[:20]])
    assert_right(send(client, rows), other, rows)
    alone = DriftMonitor(other).update(rows)
    drift = client.get("/health").json()["drift"]
    assert drift["statistic"] == pytest.approx(alone.statistic_)
    assert drift["alarm_rate"] == pytest.approx(alone.alarm_rate_)


def test_without_calibration_there_is_no_p_value_and_no_drift(monitor):
    bare = make_monitor(monitor.network).fit(X[700:], LETTERS[Y[700:]])
    client = TestClient(create_app(bare))
    found = columns(send(client, X[:2]))
    assert found["p_value"] == [None, None]
    assert found["verdict"] == bare.predict(X[:2]).tolist()
    health = client.get("/health").json()
    assert health["calibrated"] is False
    assert health["drift"] is None
    assert health["why_no_drift"] == "the monitor is not calibrated"


def test_a_network_without_classes_has_no_labels():
    net = MLPRegressor(hidden_layer_sizes=(16,), random_state=0, max_iter=300, tol=1e-3).fit(
        X[:300], X[:300, 20]
    )
    steps = [("extract", ActivationExtractor(net)), ("detect", KNNDetector(normalize=False))]
    client = TestClient(create_app(Monitor(steps).fit(X[300:600])))
    assert columns(send(client, X[:2]))["label"] == [None, None]


def test_networks_with_named_inputs_get_them_by_name():
    torch = pytest.importorskip("torch")

    class Two(torch.nn.Module):
        def __init__(self):
            super().__init__()
            self.words, self.out = torch.nn.Embedding(10, 4), torch.nn.Linear(4, 3)

        def forward(self, ids, scale):
            return self.out(torch.relu(self.words(ids).mean(1) * scale))

    rng = np.random.default_rng(0)
    inputs = {"ids": rng.integers(10, size=(80, 5)), "scale": rng.random((80, 1), np.float32)}
    monitor = make_monitor(Two().eval()).fit(inputs, rng.integers(3, size=80))
    client = TestClient(create_app(monitor))
    some = {name: values[:6] for name, values in inputs.items()}
    sent = {name: values.tolist() for name, values in some.items()}
    found = columns(client.post("/predict", json={"rows": sent}))
    np.testing.assert_allclose(found["score"], monitor.score_samples(some), rtol=1e-5)
    sent["ids"] = sent["ids"][:5]
    assert client.post("/predict", json={"rows": sent}).status_code == 422
    assert client.post("/predict", json={"rows": {"ids": sent["ids"]}}).status_code == 422


# What is refused

BAD = {
    "no body": (b"", JSON, 400, "no body"),
    "no JSON": (b"[[1, 2", JSON, 400, "no JSON: .* column 7"),
    "no UTF-8": (b"\xff\xfe", JSON, 400, "UTF-8"),
    "twice": (b'{"rows": [[1]], "rows": [[2]]}', JSON, 400, "several entries of one name"),
    "nested": (b"[" * 90_000, JSON, 400, "nested|no JSON"),
    "digits": (b"[[" + b"9" * 5000 + b"]]", JSON, 400, "digits"),
    "long integer": (b"[[" + b"9" * 30 + b"]]", JSON, 422, "64 bits"),
    "other object": (b'{"instances": [[1]]}', JSON, 422, r"\['instances'\]"),
    "text": (b'"rows"', JSON, 422, "got a text"),
    "null": (b"null", JSON, 422, "got null"),
    "no rows": (b"[]", JSON, 422, "no rows"),
    "empty rows": (b"[[], []]", JSON, 422, "empty"),
    "no inputs": (b'{"rows": {}}', JSON, 422, "no inputs"),
    "numbers": (b"[1, 2]", JSON, 422, "single numbers"),
    "ragged": (b"[[1, 2], [3]]", JSON, 422, "axis 1, there are 1 to 2 values"),
    "mixed": (b"[[1, [2]]]", JSON, 422, "others are a number"),
    "NaN": (b"[[NaN]]", JSON, 422, "NaN"),
    "infinite": (b"[[1e999]]", JSON, 422, "row 0 holds inf"),
    "beyond 32 bits": (b"[[1, 2], [3, -1e300]]", JSON, 422, "row 1 holds -1e\\+300"),
    "missing value": (b"[[1, null]]", JSON, 422, "null where numbers"),
    "words": (b'[["1"]]', JSON, 422, "a text where numbers"),
    "texts": (b'["some", "texts"]', JSON, 422, r"no rows of texts.* shape \(64,\)"),
    "truth and numbers": (b"[[true, 1]]", JSON, 422, "true or false"),
    "objects in rows": (b"[[{}]]", JSON, 422, "an object where"),
    "other shape": (b"[[1, 2, 3]]", JSON, 422, r"shape \(3,\).* had shape \(64,\)"),
    "named inputs": (b'{"rows": {"x": [[1]]}}', JSON, 422, "'x': shape"),
    "other names": (b'{"rows": {"a": [[1]], "b": [[1], [2]]}}', JSON, 422, "different numbers"),
    "too many rows": (json.dumps([[1]] * 101).encode(), JSON, 413, "101 rows, and at most 100"),
    "too large": (b" " * 100_001, JSON, 413, "larger than 100000 bytes"),
    "no media type": (b"[[1]]", {}, 415, "'nothing'"),
    "other media type": (b"[[1]]", {"content-type": "text/plain"}, 415, "'text/plain'"),
    "charset": (b"[[1]]", {"content-type": "application/json; charset=latin-1"}, 415, "UTF-8"),
    "compressed": (b"[[1]]", JSON | {"content-encoding": "gzip"}, 415, "compressed"),
    "no array": (b"PK\x03\x04", NPY, 400, "no array"),
    "cut": (as_npy(X[:2])[:-1], NPY, 400, "takes 1024 bytes, got 1023"),
    "more": (as_npy(X[:2]) + b"!", NPY, 400, "takes 1024 bytes, got 1025"),
    "objects": (as_npy(np.array([[{}]], object), allow_pickle=True), NPY, 422, "never loaded"),
    "complex": (as_npy(X[:2] + 1j), NPY, 422, "complex128"),
    "array of texts": (as_npy(np.array([["a"]])), NPY, 422, "<U1"),
    "dates": (as_npy(np.zeros((1, 2), "M8[s]")), NPY, 422, "datetime64"),
    "one number": (as_npy(np.array(1.0)), NPY, 422, "single number"),
    "NaN in array": (as_npy(np.full((2, 64), np.nan)), NPY, 422, "row 0 holds nan"),
    "array of no rows": (as_npy(X[:0]), NPY, 422, "no rows"),
    "array of other shape": (as_npy(np.ones((2, 8, 8))), NPY, 422, r"shape \(8, 8\)"),
}


@pytest.mark.parametrize(("body", "headers", "status", "reason"), BAD.values(), ids=BAD)
def test_bad_requests_are_answered_by_a_reason(client, monitor, body, headers, status, reason):
    answer = client.post("/predict", content=body, headers=headers)
    assert answer.status_code == status
    assert list(answer.json()) == ["detail"]
    assert pytest.importorskip("re").search(reason, answer.json()["detail"])
    assert_right(send(client, X[:2]), monitor, X[:2])
    assert client.get("/health").json()["answers"] == {"200": 1, str(status): 1}


def test_a_header_that_asks_for_memory_gets_none(client):
    body = as_npy(np.zeros((1, 64)))
    for claim in (b"(10000000000000, )", b"(-1, -64)", b"(1, 64, 10**9)"):
        changed = body.replace(b"(1, 64)".ljust(len(claim)), claim)
        if claim not in changed:
            changed = body.replace(b"(1, 64), }" + b" " * (len(claim) - 7), claim + b", }")
        assert claim in changed
        assert client.post("/predict", content=changed, headers=NPY).status_code in (400, 422)


def damaged(body):
    """A body in which bytes are exchanged, left out, or put in."""
    change = st.tuples(st.integers(0, len(body)), st.integers(0, 3), st.binary(max_size=4))
    return st.lists(change, min_size=1, max_size=4).map(partial(_apply, body))


def _apply(body, changes):
    for place, n_lost, added in changes:
        body = body[:place] + added + body[place + n_lost :]
    return body


@given(
    body=st.one_of(
        st.binary(max_size=200),
        damaged(as_npy(X[:1])),
        damaged(json.dumps(X[:1].tolist()).encode()),
    ),
    headers=st.sampled_from([JSON, NPY]),
)
def test_no_body_breaks_the_service(shared_client, body, headers):
    answer = shared_client.post("/predict", content=body, headers=headers)
    assert answer.status_code in (200, 400, 413, 422), answer.text
    assert "detail" in answer.json() or "predictions" in answer.json()


@pytest.fixture(scope="module")
def shared_client(monitor):
    with TestClient(create_app(monitor), raise_server_exceptions=True) as client:
        yield client


def test_bodies_without_a_length_are_limited_too(client, monitor):
    body, read = json.dumps(X[:1].tolist()).encode(), []

    def parts(content, n_parts):
        for _ in range(n_parts):
            read.append(len(content))
            yield content

    answer = client.post("/predict", content=parts(body, 1), headers=JSON)
    assert "content-length" not in answer.request.headers
    assert_right(answer, monitor, X[:1])
    answer = client.post("/predict", content=parts(b" " * 60_000, 2), headers=JSON)
    assert answer.status_code == 413


def test_a_body_that_does_not_come_is_not_waited_for(monitor):
    app, answers = create_app(monitor, timeout=0.2), []
    headers = [(b"content-type", b"application/json"), (b"content-length", b"1000")]
    scope = {"type": "http", "method": "POST", "path": "/predict", "headers": headers}
    scope |= {"query_string": b"", "root_path": "", "scheme": "http", "http_version": "1.1"}
    parts = iter([{"type": "http.request", "body": b"[[", "more_body": True}])

    async def receive():
        for part in parts:
            return part
        await asyncio.sleep(60)

    async def send_on(message):
        answers.append(message)

    asyncio.run(app(scope, receive, send_on))
    start = answers[0]
    assert start["status"] == 408
    assert (b"connection", b"close") in [(k.lower(), v) for k, v in start["headers"]]
    assert b"within 0.2 s" in answers[1]["body"]
    assert send(TestClient(app), X[:1]).status_code == 200


def test_there_are_two_endpoints_and_no_more(client):
    for path in ("/", "/docs", "/redoc", "/openapi.json", "/predict/", "/metrics"):
        assert client.post(path).status_code == 404
        assert client.get(path).status_code == 404
    assert client.get("/predict").status_code == 405
    assert client.post("/health").status_code == 405


def test_rows_of_ever_other_shapes_take_no_more_memory():
    torch = pytest.importorskip("torch")
    torch.manual_seed(0)
    pooled = (torch.nn.AdaptiveAvgPool2d(1), torch.nn.Flatten(), torch.nn.Linear(4, 3))
    network = torch.nn.Sequential(torch.nn.Conv2d(1, 4, 3), torch.nn.ReLU(), *pooled).eval()
    X = np.random.default_rng(0).normal(size=(100, 1, 8, 8)).astype(np.float32)
    with TestClient(create_app(make_monitor(network, validation=0.3).fit(X))) as client:

        def grown_by(sizes):
            tracemalloc.start()
            for size in sizes:
                rows = np.zeros((1, 1, size, 200), np.float32)
                assert send_npy(client, rows).status_code == 200
            gc.collect()
            found = tracemalloc.get_traced_memory()[0]
            tracemalloc.stop()
            return found

        grown_by(range(200, 230))
        assert grown_by(range(230, 330)) < 6e6  # of 18 MB


def test_health_answers_head_as_it_does_get(client):
    answer = client.head("/health")
    assert answer.status_code == 200
    assert answer.content == b""


# Who may ask


def test_both_endpoints_ask_for_the_token(monitor):
    client = TestClient(create_app(monitor, token="open-sesame"))
    for given_token in (None, "Bearer", "Bearer open", "Bearer open-sesame2", "Basic open-sesame"):
        headers = {} if given_token is None else {"authorization": given_token}
        for answer in (
            client.get("/health", headers=headers),
            client.post("/predict", content=b" " * 10**6, headers=headers),
        ):
            assert answer.status_code == 401
            assert answer.headers["www-authenticate"] == "Bearer"
            assert "sesame" not in answer.text
    for right in ("Bearer open-sesame", "bearer open-sesame"):
        client.headers["authorization"] = right
        assert client.get("/health").status_code == 200
        assert_right(send(client, X[:1]), monitor, X[:1])
    del client.headers["authorization"]
    beyond = [(b"Authorization", b"Bearer \xe9\xff")]
    assert client.get("/health", headers=beyond).status_code == 401


@pytest.mark.parametrize("token", ["", " ", "two words", "tab\t", "süß", "line\n"])
def test_tokens_that_no_header_carries_are_refused(monitor, token):
    with pytest.raises(ValueError, match="token"):
        create_app(monitor, token=token)


@pytest.mark.parametrize(
    "wrong",
    [
        {"max_batch": 0},
        {"max_body": 1.5},
        {"timeout": 0},
        {"threads": 0},
        {"max_waiting": -1},
        {"token": 5},
        {"drift": "always"},
        {"dtype": "U5"},
    ],
)
def test_parameters_are_checked(monitor, wrong):
    with pytest.raises(ValueError, match=next(iter(wrong))):
        create_app(monitor, **wrong)


def test_only_fitted_monitors_are_served(monitor):
    with pytest.raises(NotFittedError):
        create_app(make_monitor(monitor.network))
    with pytest.raises(ValueError, match="'monitor' parameter"):
        create_app(monitor.network)


# Networks that are slow, that fail, or that are another one by now


@pytest.fixture(scope="module")
def gated():
    """A monitor whose network waits for an event, or fails, at rows that ask for it."""
    torch = pytest.importorskip("torch")

    class Gated(torch.nn.Module):
        def __init__(self):
            super().__init__()
            self.hidden, self.out = torch.nn.Linear(8, 6), torch.nn.Linear(6, 3)

        def forward(self, x):
            if not torch.compiler.is_compiling():
                act_on(x.detach().reshape(-1)[0].item())
            return self.out(torch.relu(self.hidden(x)))

    torch.manual_seed(0)
    rows = np.random.default_rng(0).random((200, 8), np.float32)
    # The gate is a part of the network that changes.
    monitor = make_monitor(Gated().eval()).set_params(extract__changed_network="ignore")
    return monitor.fit(rows, np.arange(200) % 3).calibrate(rows[:0:-1] / 2)


GATE = threading.Event()
WAIT, FAIL = 77.0, 88.0
ONES = np.ones((1, 8), np.float32)


def act_on(value):
    if value == WAIT:
        assert GATE.wait(20)
    if value == FAIL:
        raise RuntimeError("weights of /srv/secret/weights.pt are gone")


def until(holds):
    deadline = time.monotonic() + 10
    while not holds():
        assert time.monotonic() < deadline
        time.sleep(0.01)


@contextmanager
def serving(monitor, **settings):
    GATE.clear()
    try:
        with TestClient(create_app(monitor, **settings)) as client:
            yield client
            GATE.set()
    finally:
        GATE.set()


def test_a_request_that_takes_too_long_is_answered_and_the_next_one_too(gated):
    with serving(gated, timeout=0.3) as client:
        slow = send(client, WAIT * ONES)
        assert slow.status_code == 504
        assert "0.3 s" in slow.json()["detail"]
        GATE.set()
        assert columns(send(client, ONES))["verdict"] == gated.predict(ONES).tolist()
        assert client.get("/health").json()["ready"] is True


def test_a_process_all_of_whose_threads_hang_says_so_until_they_go_on(gated):
    with serving(gated, timeout=0.2) as client:
        assert send(client, WAIT * ONES).status_code == 504
        assert send(client, ONES).status_code == 504
        health = client.get("/health")
        assert health.status_code == 503
        assert "every thread" in health.json()["why_not_ready"]
        GATE.set()
        until(lambda: client.get("/health").status_code == 200)
        assert send(client, ONES).status_code == 200


def test_no_more_requests_wait_than_may(gated):
    with (
        serving(gated, timeout=15, max_waiting=1) as client,
        ThreadPoolExecutor(2) as others,
    ):
        waiting = [others.submit(send, client, WAIT * ONES) for _ in range(2)]
        until(lambda: client.get("/health").json()["process"]["open_requests"] == 2)
        answer = send(client, ONES)
        assert answer.status_code == 503
        assert answer.headers["retry-after"] == "1"
        GATE.set()
        assert {answer.result().status_code for answer in waiting} == {200}
        assert send(client, ONES).status_code == 200


def test_errors_of_the_network_stay_in_the_log(gated, caplog):
    with serving(gated) as client, caplog.at_level(logging.ERROR, "skood.serving"):
        assert send(client, ONES).status_code == 200
        failed = send(client, FAIL * ONES)
        assert failed.status_code == 500
        for told in ("secret", "weights", "Traceback", ".py", "RuntimeError"):
            assert told not in failed.text
        assert "/srv/secret/weights.pt" in caplog.text
        assert send(client, ONES).status_code == 200
        assert send(client, np.ones((1, 7), np.float32)).status_code == 422


def test_a_network_that_was_changed_serves_no_more(caplog):
    torch = pytest.importorskip("torch")
    net = torch.nn.Sequential(torch.nn.Linear(8, 6), torch.nn.ReLU(), torch.nn.Linear(6, 3)).eval()
    rows = np.random.default_rng(0).random((100, 8), np.float32)
    client = TestClient(create_app(make_monitor(net).fit(rows, np.arange(100) % 3)))
    assert send(client, rows[:1]).status_code == 200
    with torch.no_grad():
        net[0].weight += 1
    answer = send(client, rows[:1])
    assert answer.status_code == 500
    assert "not ready" in answer.json()["detail"]
    assert client.get("/health").status_code == 503
    assert "The network is not what it was" in caplog.text


# What a process has seen


def test_health_tells_versions_network_and_counts(client, monitor):
    send(client, X[:3])
    client.post("/predict", content=b"[", headers=JSON)
    health = client.get("/health").json()
    assert health["ready"] is True
    assert health["versions"]["scikit-learn"]
    assert health["network"] == {
        "kind": "MLPClassifier",
        "fingerprint": monitor["extract"].fingerprint_,
    }
    assert health["process"]["id"] == os.getpid()
    assert "this process alone" in health["process"]["scope"]
    assert health["answers"] == {"200": 1, "400": 1}
    assert health["rows"] == 3
    assert health["alarms"] == int((monitor.predict(X[:3]) == -1).sum())


def test_the_stream_of_rows_is_watched(monitor):
    alone = DriftMonitor(monitor)
    client = TestClient(create_app(monitor))
    for rows in np.split(0.7 * X[700:900], 4):
        send(client, rows)
        alone.update(rows)
    client.post("/predict", content=b"[[NaN]]", headers=JSON)
    drift = client.get("/health").json()["drift"]
    assert drift["rows"] == 200
    assert drift["alarm"] is True
    assert drift["alarm_time"] == alone.alarm_time_
    assert drift["alarm_cause"] == alone.alarm_cause_
    assert drift["statistic"] == pytest.approx(alone.statistic_)


def test_a_stream_may_be_given_or_not_be_watched(monitor):
    before = DriftMonitor(monitor).update(X[:50])
    client = TestClient(create_app(monitor, drift=before))
    send(client, X[50:60])
    assert client.get("/health").json()["drift"]["rows"] == 60
    client = TestClient(create_app(monitor, drift=None))
    assert client.get("/health").json()["why_no_drift"] == "it was not asked for"
    other = make_monitor(monitor.network).fit(X[700:1000]).calibrate(X[1000:])
    with pytest.raises(ValueError, match="another detector"):
        create_app(monitor, drift=DriftMonitor(other))


def test_a_stream_that_cannot_go_on_leaves_the_verdicts(monitor, caplog):
    drift = DriftMonitor(monitor, alpha=0.1).update(X[:5])
    client = TestClient(create_app(monitor, drift=drift))
    drift.set_params(alpha=0.01)
    assert_right(send(client, X[:2]), monitor, X[:2])
    health = client.get("/health").json()
    assert health["drift"] is None
    assert "error" in health["why_no_drift"]
    assert "A parameter was set" in caplog.text


# Threads


def test_many_clients_at_once_get_their_own_answers(monitor):
    """No score of another request, and no row lost: four threads score what eight clients send."""
    expected = monitor.score_samples(X)

    def ask(client, seed):
        rng = np.random.default_rng(seed)
        for number in range(10):
            # Rows that it has learnt from may be equal to a percentile but for rounding.
            rows = rng.integers(700, size=rng.integers(1, 9))
            answer = (send, send_npy)[number % 2](client, X[rows])
            np.testing.assert_allclose(columns(answer)["score"], expected[rows], rtol=1e-9)
        return number + 1

    with (
        TestClient(create_app(monitor, threads=4)) as client,
        ThreadPoolExecutor(8) as clients,
    ):
        assert sum(clients.map(partial(ask, client), range(8))) == 80
        health = client.get("/health").json()
    assert health["answers"] == {"200": 80}
    assert health["drift"]["rows"] == health["rows"]


def own_threads():
    return [thread for thread in threading.enumerate() if "skood-serving" in thread.name]


def test_threads_end_with_the_application(monitor):
    with TestClient(create_app(monitor, threads=3)) as client:
        before = own_threads()
        send(client, X[:1])
        assert len(before) >= 3
    until(lambda: not set(before[-3:]) & set(own_threads()))
    known = set(own_threads())
    forgotten = create_app(monitor, threads=3)
    send(TestClient(forgotten), X[:1])
    new = set(own_threads()) - known
    assert len(new) == 3
    del forgotten
    until(lambda: gc.collect() is not None and not new & set(own_threads()))


def test_the_monitor_is_open_while_it_serves(gated):
    torch = pytest.importorskip("torch")

    def hooks():
        modules = gated.network.modules()
        return sum(len(m._forward_hooks) + len(m._forward_pre_hooks) for m in modules)

    with serving(gated) as client:
        assert send(client, ONES).status_code == 200
        assert isinstance(gated.network, torch.nn.Module)
        assert hooks() > 0
    assert hooks() == 0
    forgotten = create_app(gated)
    send(TestClient(forgotten), ONES)
    assert hooks() > 0
    del forgotten
    until(lambda: gc.collect() is not None and hooks() == 0)


def test_an_application_may_be_started_again(monitor):
    app = create_app(monitor)
    for _ in range(2):
        with TestClient(app) as client:
            assert_right(send(client, X[:2]), monitor, X[:2])


def test_values_that_the_network_cannot_take_are_the_fault_of_the_request():
    torch = pytest.importorskip("torch")
    nn = torch.nn

    class Texts(nn.Module):
        def __init__(self):
            super().__init__()
            self.words, self.hidden = nn.Embedding(20, 8), nn.Linear(8, 10)
            self.head = nn.Linear(10, 3)

        def forward(self, x):
            return self.head(torch.relu(self.hidden(self.words(x).mean(1))))

    tokens = np.random.default_rng(0).integers(0, 20, (60, 7))
    app = create_app(make_monitor(Texts()).fit(tokens))
    with TestClient(app, raise_server_exceptions=False) as client:
        answers = [
            client.post("/predict", json=rows).status_code
            for rows in (tokens[:2].tolist(), [[25] * 7], [[0.5] * 7], tokens[:2].tolist())
        ]
    assert answers == [200, 422, 422, 200]
