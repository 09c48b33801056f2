"""Files that are not whole, not ours, or made to harm: each is refused in words."""

import hashlib
import json
import os
import random
import re
import shutil
import signal
import subprocess
import sys
import warnings
import zipfile
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from sklearn.neural_network import MLPClassifier
from sklearn.tree import DecisionTreeRegressor

import skood
from skood import ActivationExtractor, Activations, FileFormatError, Monitor
from skood.detectors import HammingNAPDetector, KNNDetector

pytestmark = pytest.mark.filterwarnings("ignore::sklearn.exceptions.ConvergenceWarning")


@pytest.fixture(scope="module")
def X():
    return np.random.default_rng(0).normal(size=(60, 4))


@pytest.fixture(scope="module")
def whole(X, tmp_path_factory):
    """A folder, and the scores of what is in it."""
    net = MLPClassifier((5,), random_state=0, max_iter=5).fit(X, np.arange(60) % 2)
    steps = [("extract", ActivationExtractor(net)), ("detect", KNNDetector(n_neighbors=3))]
    monitor = Monitor(steps).fit(X[:40], np.arange(40) % 2).calibrate(X[40:])
    folder = tmp_path_factory.mktemp("whole") / "saved"
    monitor.save(folder)
    return folder, monitor.score_samples(X)


@pytest.fixture
def copy(whole, tmp_path):
    return shutil.copytree(whole[0], tmp_path / "copy")


def files_of(folder):
    return sorted(path for path in folder.rglob("*") if path.is_file())


def data_of(folder):
    return folder / json.loads((folder / "manifest.json").read_text())["data"]


def sign(folder, **changes):
    """Write the checksums anew, as whoever makes a file on purpose would."""
    file = folder / "manifest.json"
    manifest = {**json.loads(file.read_text()), **changes}
    for name in manifest["files"]:
        path = folder / manifest["data"] / name
        if path.is_file():
            octets = path.read_bytes()
            digest = hashlib.sha256(octets).hexdigest()
            manifest["files"][name] = {"sha256": digest, "size": len(octets)}
    manifest.pop("checksum")
    text = json.dumps(manifest, sort_keys=True)
    manifest["checksum"] = hashlib.sha256(text.encode()).hexdigest()
    file.write_text(json.dumps(manifest))


def refused(folder, match):
    with pytest.raises(FileFormatError, match=match) as caught:
        skood.load(folder)
    return str(caught.value)


def test_a_copy_is_whole(copy, whole, X):
    np.testing.assert_array_equal(skood.load(copy).score_samples(X), whole[1])
    sign(copy)
    np.testing.assert_array_equal(skood.load(str(copy)).score_samples(X), whole[1])


@settings(
    max_examples=40, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
@given(data=st.data())
def test_flipped_bytes_are_found(data, whole, X, tmp_path):
    folder, expected = whole
    copy = shutil.copytree(folder, tmp_path / "copy", dirs_exist_ok=True)
    path = data.draw(st.sampled_from(files_of(copy)))
    octets = bytearray(path.read_bytes())
    for _ in range(data.draw(st.integers(1, 3))):
        octets[data.draw(st.integers(0, len(octets) - 1))] ^= data.draw(st.integers(1, 255))
    path.write_bytes(octets)
    try:
        loaded = skood.load(copy)
    except FileFormatError:
        return
    np.testing.assert_array_equal(loaded.score_samples(X), expected)


def test_cut_files_are_found(whole, tmp_path):
    for number, path in enumerate(files_of(whole[0])):
        for share in (0, 0.3, 0.99):
            copy = shutil.copytree(whole[0], tmp_path / f"{number} {share}")
            cut = copy / path.relative_to(whole[0])
            octets = path.read_bytes()
            cut.write_bytes(octets[: int(share * len(octets))])
            refused(copy, path.name)


SCRAMBLED = [
    None,
    -1,
    10**30,
    "x",
    [],
    {},
    {"type": "list", "items": 3},
    {"type": "same", "as": 1},
    {"type": "array", "key": "nowhere"},
    {"type": "objects", "shape": [10**12], "items": []},
    {"type": "range", "parts": [0, 10**18, 1]},
    {"type": "object", "class": "skood.detectors.KNNDetector"},
    {"type": "network", "number": 7},
    {"type": "ufunc", "name": "loadtxt"},
]


def places_in(value):
    if isinstance(value, dict | list):
        for key in value if isinstance(value, dict) else range(len(value)):
            yield value, key
            yield from places_in(value[key])


def test_any_other_tree_is_refused_or_loads(copy):
    """With right checksums: what is read is a tree of known types, or it is refused."""
    file = data_of(copy) / "state.json"
    tree = json.loads(file.read_text())
    chance = random.Random(0)
    n_refused = 0
    for _ in range(80):
        changed = json.loads(json.dumps(tree))
        holder, key = chance.choice(list(places_in(changed)))
        holder[key] = chance.choice(SCRAMBLED)
        file.write_text(json.dumps(changed))
        sign(copy)
        try:
            skood.load(copy)
        except FileFormatError:
            n_refused += 1
    assert n_refused > 40


@pytest.mark.parametrize(
    "name", ["os.system", "builtins.eval", "subprocess.Popen", "skood._files._save.save", "", None]
)
@pytest.mark.parametrize("kind", ["object", "class", "enum", "function"])
def test_nothing_is_looked_up_but_in_the_table(name, kind, copy):
    file = data_of(copy) / "state.json"
    node = {"type": kind, "class": name, "name": name, "arguments": ["touch harm"]}
    file.write_text(json.dumps({"estimator": node, "networks": []}))
    sign(copy, networks=[])
    refused(copy, "cannot be read|holds a|refers to a function|must be a text")


def test_nodes_in_nodes_without_end_are_refused(copy):
    file = data_of(copy) / "state.json"
    for n_deep in (300, 100_000):
        opening = '{"type":"list","items":[' * n_deep
        file.write_text(f'{{"networks":[],"estimator":{opening}1{"]}" * n_deep}}}')
        sign(copy, networks=[])
        refused(copy, "beyond all measure|RecursionError")


def write_arrays(copy, octets, compression=zipfile.ZIP_STORED, n_arrays=200):
    with zipfile.ZipFile(data_of(copy) / "arrays.npz", "w", compression) as archive:
        for number in range(n_arrays):
            archive.writestr(f"{number}.npy", octets)
    sign(copy)


def npy(descr, shape, values=b""):
    header = f"{{'descr': {descr!r}, 'fortran_order': False, 'shape': {shape}}}".ljust(117) + "\n"
    return b"\x93NUMPY\x01\x00" + len(header).to_bytes(2, "little") + header.encode() + values


@pytest.mark.parametrize(
    ("octets", "match"),
    [
        (npy("<f8", (10**12, 10**12)), "shape"),
        (npy("<f8", (3,), b"12345678"), "but holds 8 bytes"),
        (npy("|O", (1,), b"cos\nsystem\n(S'touch harm'\ntR."), "pickle"),
        (npy("<f8", (-1,)), "cannot be read|shape"),
        (npy("<f8", "__import__('os').system('touch harm')"), "cannot be read"),
        (b"cos\nsystem\n(S'touch harm'\ntR.", "cannot be read"),
        (b"", "cannot be read"),
    ],
    ids=["huge", "short", "objects", "negative", "code", "pickle", "empty"],
)
def test_arrays_that_are_none_are_refused(octets, match, copy, monkeypatch):
    monkeypatch.chdir(copy.parent)
    write_arrays(copy, octets)
    refused(copy, match)
    assert not Path("harm").exists()


def test_compressed_arrays_are_refused_before_they_are_read(copy):
    write_arrays(copy, bytes(10**7), zipfile.ZIP_DEFLATED, 1)
    refused(copy, "compressed")


def test_numbers_that_arrays_belie_ask_for_no_memory(copy, whole, X, tmp_path):
    state = data_of(copy) / "state.json"
    text = state.read_text()
    assert text.count('"n_layers_":3') == 1
    state.write_text(text.replace('"n_layers_":3', f'"n_layers_":{2**40}'))
    sign(copy)
    np.testing.assert_array_equal(skood.load(copy).score_samples(X), whole[1])
    skood.save(HammingNAPDetector().fit(X > 0), tmp_path / "patterns")
    state = data_of(tmp_path / "patterns") / "state.json"
    text, n_found = re.subn(r'"n_patterns":\d+', f'"n_patterns":{2**40}', state.read_text())
    assert n_found == 1
    state.write_text(text)
    sign(tmp_path / "patterns")
    refused(tmp_path / "patterns", f"patterns are said to be {2**40}")


def test_branches_of_trees_that_lead_nowhere_are_refused(X, tmp_path):
    tree = DecisionTreeRegressor(max_depth=2).fit(X, X[:, 0])
    skood.save(tree, tmp_path / "saved")
    np.testing.assert_array_equal(skood.load(tmp_path / "saved").predict(X), tree.predict(X))
    for name, value in {"left_child": 10**6, "feature": 77}.items():
        nodes = tree.tree_.__getstate__()["nodes"].copy()
        nodes[name][0] = value
        folder = shutil.copytree(tmp_path / "saved", tmp_path / name)
        exchange_array(folder, nodes)
        refused(folder, "decision tree")


@pytest.mark.parametrize("name", ["sklearn.state.Tree", "sklearn.neighbors.KDTree"])
def test_compiled_trees_are_not_made_of_anything(name, copy):
    file = data_of(copy) / "state.json"
    node = {"type": "object", "class": name, "arguments": [2, 3, 4]}
    file.write_text(json.dumps({"estimator": node, "networks": []}))
    sign(copy, networks=[])
    refused(copy, "not made of attributes")


def exchange_array(folder, array):
    """Put another array of records into a file in place of the one that is there."""
    path = data_of(folder) / "arrays.npz"
    arrays = dict(np.load(path))
    key = next(key for key, held in arrays.items() if held.dtype == array.dtype)
    np.savez(path, **{**arrays, key: array})
    sign(folder)


# Folders


def test_there_is_no_folder(tmp_path):
    with pytest.raises(FileNotFoundError, match="no folder"):
        skood.load(tmp_path / "nowhere")


def test_foreign_folders(tmp_path, X):
    refused(tmp_path, "no manifest.json")
    file = tmp_path / "a file"
    file.write_text("text")
    refused(file, "no folder")
    Activations({"a": X}).save(tmp_path / "activations")
    refused(tmp_path / "activations", r"Activations\.load")
    other = tmp_path / "other"
    other.mkdir()
    for text, match in {"[1]": "something else", "no JSON": "cannot be read", "{}": "else"}.items():
        (other / "manifest.json").write_text(text)
        refused(other, match)


def test_files_of_a_newer_version(copy):
    sign(copy, version=2, skood="9.1")
    assert "9.1" in refused(copy, "version 2 of the format")
    sign(copy, version=True)
    refused(copy, "no version")


def test_missing_files(whole, tmp_path):
    for number, path in enumerate(files_of(whole[0])):
        copy = shutil.copytree(whole[0], tmp_path / str(number))
        (copy / path.relative_to(whole[0])).unlink()
        refused(copy, f"{path.name}.* is missing|has no {path.name}")
    shutil.rmtree(data_of(shutil.copytree(whole[0], tmp_path / "without")))
    refused(tmp_path / "without", "is missing")


def test_files_that_were_not_saved(copy):
    extra = data_of(copy) / "more.txt"
    extra.write_text("")
    refused(copy, r"more\.txt is not named")
    extra.unlink()
    (copy / "notes.txt").write_text("")
    refused(copy, r"'notes\.txt' beside")


@pytest.mark.skipif(not hasattr(os, "symlink"), reason="needs symbolic links")
def test_symbolic_links(copy, tmp_path):
    for path in (data_of(copy) / "state.json", copy / "manifest.json", data_of(copy)):
        moved = path.rename(tmp_path / path.name)
        path.symlink_to(moved)
        refused(copy, "symbolic link")
        path.unlink()
        moved.rename(path)
    skood.load(copy)


@pytest.mark.parametrize(
    "changes",
    [
        {"data": ".."},
        {"data": "/"},
        {"files": {"../manifest.json": {}}},
        {"files": {"/etc/passwd": {}}},
        {"files": {"a/b/c": {}}},
        {"files": {"..": {}}},
        {"files": [1]},
        {"files": None},
        {"networks": "x"},
    ],
    ids=str,
)
def test_names_that_lead_out_of_the_folder(changes, copy):
    file = copy / "manifest.json"
    manifest = {**json.loads(file.read_text()), **changes}
    manifest.pop("checksum")
    text = json.dumps(manifest, sort_keys=True)
    manifest["checksum"] = hashlib.sha256(text.encode()).hexdigest()
    file.write_text(json.dumps(manifest))
    refused(copy, "manifest")


def test_what_is_something_else_is_not_overwritten(tmp_path, copy):
    detector = KNNDetector()
    (tmp_path / "file").write_text("mine")
    (tmp_path / "folder").mkdir()
    (tmp_path / "folder" / "mine.txt").write_text("mine")
    (copy / "mine.txt").write_text("mine")
    for name in ("file", "folder", "copy"):
        before = sorted(tmp_path.rglob("*"))
        with pytest.raises(FileExistsError, match=r"is there|not overwritten"):
            skood.save(detector, tmp_path / name)
        assert sorted(tmp_path.rglob("*")) == before
    (tmp_path / "empty").mkdir()
    skood.save(detector, tmp_path / "empty")
    assert isinstance(skood.load(tmp_path / "empty"), KNNDetector)


def test_a_save_replaces_another_as_a_whole(copy, X):
    skood.save(KNNDetector(n_neighbors=7), copy)
    assert skood.load(copy).n_neighbors == 7
    assert len(list(copy.iterdir())) == 2
    with pytest.raises(TypeError):
        skood.save(KNNDetector(n_neighbors=print), copy)
    assert skood.load(copy).n_neighbors == 7
    assert [path.name for path in copy.parent.iterdir()] == ["copy"]


def killed_at(n_syncs, detector, folder):
    """Whether another process, that saves, is killed when it has waited so often for the disk."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)  # of threads, which the copy lacks
        process = os.fork()
    if process:
        return os.waitpid(process, 0)[1] != 0
    calls = iter(range(n_syncs))
    os.fsync = lambda descriptor: next(calls, None) is None and os.kill(os.getpid(), signal.SIGKILL)
    try:
        skood.save(detector, folder)
    finally:
        os._exit(0)


@pytest.mark.skipif(not hasattr(os, "fork"), reason="needs fork")
@pytest.mark.parametrize("is_new", [True, False])
def test_a_process_that_is_killed_leaves_a_whole_save(is_new, tmp_path):
    folder = tmp_path / "saved"
    detector = KNNDetector(n_neighbors=2)
    detector.extra_ = np.zeros(1000)
    for n_syncs in range(20):
        if is_new and folder.exists():
            shutil.rmtree(folder)
        elif not is_new:
            skood.save(KNNDetector(n_neighbors=1), folder)
        was_killed = killed_at(n_syncs, detector, folder)
        if folder.exists():
            assert found(folder) in ((2,) if is_new else (1, 2))
        assert is_new or folder.exists()
        if not was_killed:
            break
    assert n_syncs > 5
    assert found(folder) == 2
    skood.save(KNNDetector(n_neighbors=3), folder)
    # What the killed ones have left is gone.
    assert [path.name for path in tmp_path.iterdir()] == ["saved"]
    assert len(list(folder.iterdir())) == 2


@pytest.mark.skipif(sys.platform == "win32", reason="needs locks of folders")
def test_a_folder_is_read_whole_while_others_write_it(tmp_path):
    folder, n_saves = tmp_path / "saved", 25
    skood.save(KNNDetector(n_neighbors=1), folder)

    def save(n_neighbors):
        detector = KNNDetector(n_neighbors=n_neighbors)
        detector.extra_ = np.full(1000, n_neighbors)
        for _ in range(n_saves):
            skood.save(detector, folder)

    with ThreadPoolExecutor(2) as pool:
        writers = [pool.submit(save, n_neighbors) for n_neighbors in (2, 3)]
        while not all(writer.done() for writer in writers):
            loaded = skood.load(folder)
            assert np.all(getattr(loaded, "extra_", 1) == loaded.n_neighbors)
    assert [writer.result() for writer in writers] == [None, None]
    assert len(list(folder.iterdir())) == 2


WITHOUT_ROOM = """
import resource, signal, sys
import numpy as np
import skood
from skood.detectors import KNNDetector

signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
detector = KNNDetector(n_neighbors=7)
detector.extra_ = np.zeros(10**6)
resource.setrlimit(resource.RLIMIT_FSIZE, (2**21, 2**21))
try:
    skood.save(detector, sys.argv[1])
except OSError:
    sys.exit(3)
"""


@pytest.mark.skipif(sys.platform == "win32", reason="needs limits of processes")
def test_a_save_that_finds_no_room_leaves_the_old_one(copy):
    command = [sys.executable, "-W", "ignore", "-c", WITHOUT_ROOM, str(copy)]
    ended = subprocess.run(command, capture_output=True, text=True, check=False)
    assert (ended.returncode, ended.stderr) == (3, "")
    assert isinstance(skood.load(copy), Monitor)
    assert len(list(copy.iterdir())) == 2


def found(folder):
    return skood.load(folder).n_neighbors


@pytest.mark.parametrize("networks", [[1], [None], [{}], [{"kept": "state", "kind": "MLP"}]])
def test_entries_of_networks_that_are_none(networks, copy):
    sign(copy, networks=networks)
    refused(copy, "what networks there are")


def test_a_folder_in_the_place_of_a_file(copy):
    file = data_of(copy) / "state.json"
    file.unlink()
    file.mkdir()
    refused(copy, "state.json is missing")
