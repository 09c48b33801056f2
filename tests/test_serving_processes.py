"""A monitor behind HTTP, in processes of its own: under load, with slow clients, until it ends."""

import json
import os
import re
import shutil
import signal
import socket
import subprocess
import sys
import textwrap
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager, suppress
from copy import deepcopy
from pathlib import Path

import numpy as np
import pytest
from sklearn.neural_network import MLPClassifier

import skood
from skood import make_monitor
from skood.datasets import load_digits_ood

pytest.importorskip("fastapi")
httpx = pytest.importorskip("httpx")
pytest.importorskip("uvicorn")
from skood.serving._command import TOKEN, Settings, _parser, is_loopback, main  # noqa: E402

PROC = Path("/proc")
JSON = {"content-type": "application/json"}
N_SECONDS = 3
N_CLIENTS = 6

X, y = load_digits_ood(return_X_y=True)
X, Y = X.reshape(len(X), -1)[y != -1].astype(np.float64), y[y != -1]


@pytest.fixture(scope="module")
def monitor():
    net = MLPClassifier((16,), random_state=0, max_iter=300, tol=1e-3).fit(X[:700], Y[:700])
    return make_monitor(net).fit(X[700:1000], Y[700:1000]).calibrate(X[1000:])


# Rows that a percentile is the very value of lie on this or that side of it by rounding, which is
# not the same in batches of all sizes: those that the monitor has learnt from are not asked for.
NEW = np.r_[:700, 1000 : len(X)]


@pytest.fixture(scope="module")
def folder(monitor, tmp_path_factory):
    folder = tmp_path_factory.mktemp("serving") / "monitor"
    monitor.save(folder)
    return folder


class Server:
    """The command in a process, and the address it listens at."""

    def __init__(self, process, log):
        self.process, self.log = process, log
        self.url = self._wait_for(r"running on (http://127\.0\.0\.1:\d+)")

    def _wait_for(self, pattern):
        deadline = time.monotonic() + 60
        while time.monotonic() < deadline and self.process.poll() is None:
            if found := re.search(pattern, self.log.read_text()):
                return found[1]
            time.sleep(0.05)
        raise AssertionError(self.log.read_text())

    def client(self, **settings):
        return httpx.Client(base_url=self.url, timeout=30, trust_env=False, **settings)

    def workers(self, n_workers):
        """What each of the processes says of itself, by its number."""
        states, deadline = {}, time.monotonic() + 60
        while len(states) < n_workers and time.monotonic() < deadline:
            # Each connection may be another process; there is none before the first one listens.
            with self.client() as client, suppress(httpx.ConnectError):
                state = client.get("/health").json()
                states[state["process"]["id"]] = state
                continue
            time.sleep(0.05)
        return states

    def end(self):
        self.process.send_signal(signal.SIGTERM)
        return self.process.wait(30)


@contextmanager
def serving(folder, log, *options):
    environment = {k: v for k, v in os.environ.items() if k != TOKEN} | {"OMP_NUM_THREADS": "1"}
    command = [sys.executable, "-m", "skood.serving", str(folder), "--port", "0", *options]
    with log.open("wb") as output:
        process = subprocess.Popen(command, stderr=output, stdout=output, env=environment)
        try:
            yield Server(process, log)
        finally:
            process.kill()
            process.wait(30)


def ask(client, rows):
    return client.post("/predict", json={"rows": rows.tolist()})


def load(server, expected, seed, until):
    """Ask for scores, and in between for what is refused; the number of rows that were scored."""
    rng, n_rows = np.random.default_rng(seed), 0
    with server.client() as client:
        while time.monotonic() < until:
            rows = rng.choice(NEW, rng.integers(1, 6))
            answer = ask(client, X[rows])
            if answer.status_code == 503:  # all places are taken
                continue
            found = [row["score"] for row in answer.json()["predictions"]]
            np.testing.assert_allclose(found, expected[rows], rtol=1e-9)
            n_rows += len(rows)
            bad = client.post("/predict", content=(b"[[1", b"[[NaN]]")[rows[0] % 2], headers=JSON)
            assert bad.status_code in (400, 422)
            if rows[0] % 20 == 0:
                leave_early(server.url)
    return n_rows


def leave_early(url):
    """Announce a body, send a part of it, and go."""
    with connect(url, 1000) as connection:
        connection.sendall(b"[[")


def connect(url, length):
    host, port = url.removeprefix("http://").split(":")
    connection = socket.create_connection((host, int(port)), timeout=30)
    connection.sendall(
        b"POST /predict HTTP/1.1\r\nHost: x\r\nContent-Type: application/json\r\n"
        + f"Content-Length: {length}\r\n\r\n".encode()
    )
    return connection


def held_by(process):
    """Threads, open files and MiB of memory of a process."""
    status = (PROC / str(process) / "status").read_text()
    n_threads = int(re.search(r"Threads:\s+(\d+)", status)[1])
    memory = int(re.search(r"VmRSS:\s+(\d+)", status)[1]) / 1024
    return n_threads, len(list((PROC / str(process) / "fd").iterdir())), memory


@pytest.mark.skipif(not PROC.exists(), reason="reads what Linux says of processes")
def test_two_processes_under_load_score_right_leak_nothing_and_end(folder, monitor, tmp_path):
    log, expected = tmp_path / "log", monitor.score_samples(X)
    options = ["--workers", "2", "--threads", "2", "--timeout", "20", "--max-body", "100000"]
    with serving(folder, log, *options) as server, ThreadPoolExecutor(N_CLIENTS) as clients:

        def run(seconds):
            until = time.monotonic() + seconds
            tasks = [
                clients.submit(load, server, expected, seed, until) for seed in range(N_CLIENTS)
            ]
            return sum(task.result() for task in tasks)

        server.workers(2)
        n_rows = run(1)
        before = {process: held_by(process) for process in server.workers(2)}
        n_rows += run(N_SECONDS)
        _answers_a_body_that_is_too_large(server)
        states = server.workers(2)
        after = {process: held_by(process) for process in states}
        assert before.keys() == after.keys()  # none of them had to be started anew
        assert sum(state["rows"] for state in states.values()) == n_rows + 1 > 100
        assert all(state["drift"]["rows"] == state["rows"] for state in states.values())
        assert all(state["process"]["open_requests"] == 0 for state in states.values())
        for process, (n_threads, n_files, memory) in after.items():
            assert n_threads <= before[process][0] + 1
            assert n_files <= before[process][1] + N_CLIENTS
            assert memory <= before[process][2] + 20
        _ends_in_the_midst_of_requests(server, clients, expected)
        assert not any((PROC / str(process)).exists() for process in states)
    assert "Traceback" not in log.read_text(), log.read_text()


def _answers_a_body_that_is_too_large(server):
    with server.client() as client:
        parts = (b" " * 50_000 for _ in range(4))
        assert client.post("/predict", content=parts, headers=JSON).status_code == 413
        big = client.post("/predict", content=b" " * 700_000, headers=JSON)
        assert big.status_code == 413
        assert ask(client, X[:1]).status_code == 200


def _ends_in_the_midst_of_requests(server, clients, expected):
    """Every answer that still comes is right; connections are refused afterwards."""
    ended = threading.Event()

    def ask_on():
        with server.client() as client:
            while not ended.is_set():
                try:
                    answer = ask(client, X[:3])
                except httpx.TransportError:
                    return
                if answer.status_code == 200:
                    found = [row["score"] for row in answer.json()["predictions"]]
                    np.testing.assert_allclose(found, expected[:3], rtol=1e-9)

    tasks = [clients.submit(ask_on) for _ in range(3)]
    time.sleep(0.2)
    start = time.monotonic()
    assert server.end() in (0, -signal.SIGTERM)
    assert time.monotonic() - start < 15
    ended.set()
    for task in tasks:
        task.result()


@pytest.mark.skipif(not PROC.exists(), reason="not all systems have this signal")
def test_a_signal_lets_the_processes_load_the_monitor_anew(folder, monitor, tmp_path):
    served = shutil.copytree(folder, tmp_path / "served")
    other = deepcopy(monitor).calibrate(X[1000:1100])
    with serving(served, tmp_path / "log", "--workers", "2") as server:
        before = server.workers(2)
        skood.save(other, served)
        server.process.send_signal(signal.SIGHUP)
        deadline = time.monotonic() + 60
        while (now := server.workers(2)).keys() & before.keys() and time.monotonic() < deadline:
            time.sleep(0.1)
        assert not now.keys() & before.keys()
        with server.client() as client:
            found = [row["p_value"] for row in ask(client, X[:5]).json()["predictions"]]
        assert server.end() in (0, -signal.SIGTERM)
    np.testing.assert_array_equal(found, other.p_values(X[:5]))
    assert (other.p_values(X[:5]) != monitor.p_values(X[:5])).any()


@pytest.mark.parametrize(
    ("options", "reason"),
    [
        (["--host", "0.0.0.0"], "0.0.0.0 can be reached by other machines"),
        (["--network", "json"], "--network has the form module:name"),
        (["--network", "json:nothing"], "has no attribute 'nothing'"),
        (["--network", "no_such_module:make"], "no_such_module"),
        (["--token-file", "no_such_file"], "no_such_file"),
        (["--dtype", "U3"], "type of numbers"),
        (["--threads", "0"], "threads"),
    ],
)
def test_what_cannot_be_served_is_said(folder, capsys, monkeypatch, options, reason):
    monkeypatch.delenv(TOKEN, raising=False)
    with pytest.raises(SystemExit) as ended:
        main([str(folder), *options])
    assert ended.value.code == 1
    assert reason in capsys.readouterr().err


def test_a_folder_that_holds_no_monitor_is_refused(tmp_path, capsys, monkeypatch):
    monkeypatch.delenv(TOKEN, raising=False)
    with pytest.raises(SystemExit) as ended:
        main([str(tmp_path / "nothing")])
    assert ended.value.code == 1
    assert "nothing" in capsys.readouterr().err
    for option, value in (("--workers", "0"), ("--port", "99999"), ("--port", "-1")):
        with pytest.raises(SystemExit) as ended:
            main([str(tmp_path), option, value])
        assert ended.value.code == 2
        assert f"argument {option}: {value} is" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("host", "is_own"),
    [
        ("127.0.0.1", True),
        ("127.8.9.1", True),
        ("::1", True),
        ("localhost", True),
        ("0.0.0.0", False),
        ("::", False),
        ("192.0.2.1", False),
        ("2001:db8::1", False),
    ],
)
def test_addresses_of_the_machine_itself_are_known(host, is_own):
    assert is_loopback(host) is is_own


def test_the_token_comes_from_a_file_or_the_environment(folder, tmp_path, monkeypatch):
    from fastapi.testclient import TestClient

    monkeypatch.setenv(TOKEN, "of-the-environment")
    file = tmp_path / "token"
    file.write_text("of-the-file\n")
    for token_file, right in ((None, "of-the-environment"), (str(file), "of-the-file")):
        client = TestClient(Settings(str(folder), None, token_file, {}).app())
        assert client.get("/health").status_code == 401
        headers = {"authorization": f"Bearer {right}"}
        assert client.get("/health", headers=headers).status_code == 200
    file.write_text("\n")
    with pytest.raises(ValueError, match="token"):
        Settings(str(folder), None, str(file), {}).app()


def make_net():
    torch = pytest.importorskip("torch")
    torch.manual_seed(0)
    return torch.nn.Sequential(torch.nn.Linear(64, 8), torch.nn.ReLU(), torch.nn.Linear(8, 3))


def test_a_network_is_given_by_what_makes_it(tmp_path):
    from fastapi.testclient import TestClient

    rows = X[:200].astype(np.float32)
    monitor = make_monitor(make_net()).fit(rows, np.arange(200) % 3)
    monitor.save(tmp_path / "monitor")
    settings = Settings(str(tmp_path / "monitor"), f"{__name__}:make_net", None, {})
    answer = ask(TestClient(settings.app()), rows[:5])
    found = [row["score"] for row in answer.json()["predictions"]]
    np.testing.assert_allclose(found, monitor.score_samples(rows[:5]), rtol=1e-6)


FORKS = """
import json, os, sys, warnings
warnings.simplefilter("ignore")
from fastapi.testclient import TestClient
from skood import load
from skood.serving import create_app
app = create_app(load(sys.argv[1]))
rows = {"rows": [[0.0] * 64]}
with TestClient(app) as client:
    assert client.post("/predict", json=rows).status_code == 200
    if not os.fork():
        answers = [TestClient(app).post("/predict", json=rows), TestClient(app).get("/health")]
        print(json.dumps([[a.status_code, a.json()["detail"]] for a in answers]), flush=True)
        try:
            with TestClient(app):
                print("started", flush=True)
        except BaseException as error:
            print(type(error).__name__, flush=True)
        os._exit(0)
    os.wait()
    assert client.post("/predict", json=rows).status_code == 200
"""


@pytest.mark.skipif(not hasattr(os, "fork"), reason="needs a system that forks")
def test_a_forked_process_refuses_to_serve(folder):
    run = subprocess.run(
        [sys.executable, "-c", textwrap.dedent(FORKS), str(folder)],
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert run.returncode == 0, run.stderr
    answers, started = run.stdout.splitlines()
    for status, reason in json.loads(answers):
        assert status == 503
        assert "forked" in reason
    assert started == "RefusalError"


CONTAINER = Path(__file__).parents[1] / "examples" / "service" / "Containerfile"


@pytest.mark.skipif(not CONTAINER.exists(), reason="the examples are not installed")
def test_the_container_has_exact_versions_no_rights_and_no_secrets():
    text = CONTAINER.read_text(encoding="utf-8")
    assert re.search(r"^FROM \S+/python:3\.\d+\.\d+-\S+$", text, flags=re.MULTILINE)
    assert "-c /source/constraints.txt" in text
    user = re.findall(r"^USER (\d+)$", text, flags=re.MULTILINE)
    assert int(user[-1]) > 0
    assert text.rindex("USER") < text.index("ENTRYPOINT")
    assert not re.search(r"^(ENV|ARG) .*TOKEN", text, flags=re.MULTILINE)
    command = json.loads(re.search(r"^ENTRYPOINT (.+)$", text, flags=re.MULTILINE)[1])
    assert command[:3] == ["python", "-m", "skood.serving"]
    assert vars(_parser().parse_args(command[3:]))["host"] == "0.0.0.0"
