"""Folders of saved activations: whole after any kill, read and deleted only where they are ours."""

import copy
import itertools
import json
import multiprocessing
import os
import pickle
import re
import shutil
import signal
import sys
import threading
from pathlib import Path

import joblib
import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from skood import Activations
from skood import _storage as storage
from skood.activations import Column, LinearHead, PackedBits

N_FILES = 7  # the manifest, two layers, logits, classes, weight and bias of the head

needs_fork = pytest.mark.skipif(
    "fork" not in multiprocessing.get_all_start_methods(), reason="kills copies of the process"
)


def marked(number, n_samples=5):
    """Activations of which every value is ``number``."""
    layers = {
        "fc": np.full((n_samples, 3), float(number)),
        "bits": PackedBits.pack(np.full((n_samples, 70), number % 2, dtype=bool)),
    }
    head = LinearHead(np.full((2, 3), float(number)), input_layer="fc")
    logits = np.full((n_samples, 2), float(number))
    return Activations(layers, logits=logits, head=head, classes=["a", "b"])


def mark_of(A):
    """The number that all parts of these activations hold."""
    bits = A["bits"].unpack()
    assert bits.all() if A["fc"][0, 0] % 2 else not bits.any()
    parts = [A["fc"], A.logits, A.head.weight]
    marks = np.unique(np.concatenate([np.ravel(part) for part in parts]))
    assert len(marks) == 1
    assert len(A) == 5 + marks[0] % 3
    return int(marks[0])


def saved(number):
    return marked(number, 5 + number % 3)


def files_in(folder):
    return sorted(path.name for path in folder.rglob("*"))


@pytest.fixture
def no_waiting(monkeypatch):
    """Leave it to the system when it writes to the disk."""
    monkeypatch.setattr(os, "fsync", lambda descriptor: None)


@pytest.fixture
def folder(tmp_path):
    """A folder that holds ``saved(1)``."""
    saved(1).save(tmp_path / "saved")
    return tmp_path / "saved"


def doctor(folder, **changes):
    manifest = json.loads((folder / "manifest.json").read_text())
    (folder / "manifest.json").write_text(json.dumps({**manifest, **changes}))


# Kills

COUNTED = {
    *("open", "fsync", "fcntl.flock"),
    *(f"os.{name}" for name in ("listdir", "scandir", "mkdir", "rename", "remove", "rmdir")),
}


def in_a_process(work, *args):
    """Exit status of work that a copy of this process does; negative where it was killed."""
    process = multiprocessing.get_context("fork").Process(target=work, args=args)
    process.start()
    process.join()
    return process.exitcode


def killed_before(step, work):
    """Do some work, and be killed by the system right before its ``step``-th use of a file."""
    uses = itertools.count(1)

    def count(event, args=()):
        # How much memory is left is looked up from time to time, there.
        is_of_system = event == "open" and str(args[0]).startswith(("/proc/", "/sys/"))
        if event in COUNTED and not is_of_system and next(uses) == step:
            os.kill(os.getpid(), signal.SIGKILL)

    # A kill loses nothing that was written, so that nothing need be waited for.
    os.fsync = lambda descriptor: count("fsync")
    sys.addaudithook(count)
    work()


def contents_after_kills(tmp_path, prepare, work):
    """What a folder holds after a kill before each step of the work, up to a run without one."""
    found = []
    (tmp_path / "prepared").mkdir()
    prepare(tmp_path / "prepared" / "saved")
    for step in itertools.count(1):
        path = tmp_path / str(step) / "saved"
        shutil.copytree(tmp_path / "prepared", path.parent)
        status = in_a_process(killed_before, step, lambda path=path: work(path))
        found.append(mark_of(Activations.load(path)) if path.exists() else None)
        assert_next_save_leaves_no_litter(path)
        if status == 0:
            return found
        assert status == -signal.SIGKILL


def assert_next_save_leaves_no_litter(path):
    saved(4).save(path, overwrite=path.exists())
    assert mark_of(Activations.load(path)) == 4
    assert os.listdir(path.parent) == ["saved"]
    assert len(os.listdir(path)) == N_FILES, files_in(path)


@needs_fork
@pytest.mark.filterwarnings("ignore:.*fork.*:DeprecationWarning")
@pytest.mark.parametrize("before", [1, 2], ids=["once saved", "saved twice"])
def test_a_kill_at_any_step_of_a_save_leaves_the_old_or_the_new_content(
    tmp_path, no_waiting, before
):
    def prepare(path):
        for number in range(1, before + 1):
            saved(number).save(path, overwrite=True)

    found = contents_after_kills(
        tmp_path, prepare, lambda path: saved(9).save(path, overwrite=True)
    )
    assert set(found) == {before, 9}
    assert found == sorted(found)
    assert len(found) > 30


@needs_fork
@pytest.mark.filterwarnings("ignore:.*fork.*:DeprecationWarning")
def test_a_kill_at_any_step_of_the_first_save_leaves_nothing_or_all(tmp_path, no_waiting):
    found = contents_after_kills(tmp_path, lambda path: None, lambda path: saved(9).save(path))
    assert set(found) == {None, 9}
    assert found[0] is None
    assert len(found) > 20


@needs_fork
@pytest.mark.filterwarnings("ignore:.*fork.*:DeprecationWarning")
def test_a_save_that_cleans_up_after_a_kill_may_be_killed_as_well(tmp_path, no_waiting):
    def prepare(path):
        saved(1).save(path)
        for step in (12, 15, 18):
            in_a_process(killed_before, step, lambda: saved(2).save(path, overwrite=True))
        assert len(os.listdir(path)) > N_FILES + 10

    found = contents_after_kills(
        tmp_path, prepare, lambda path: saved(9).save(path, overwrite=True)
    )
    assert found == sorted(found)
    assert len(set(found)) == 2


@pytest.mark.skipif(not Path("/proc/self/fd").exists(), reason="asks Linux for names of files")
@pytest.mark.parametrize("first", [True, False])
def test_all_files_are_on_the_disk_before_the_manifest_names_them(tmp_path, monkeypatch, first):
    path, events = tmp_path / "saved", []
    if not first:
        saved(1).save(path)
    monkeypatch.setattr(
        os, "fsync", lambda fd: events.append(Path(os.readlink(f"/proc/self/fd/{fd}")).name)
    )
    for name in ("replace", "rename"):
        move = getattr(Path, name)
        monkeypatch.setattr(
            Path, name, lambda self, to, move=move: (events.append("moved"), move(self, to))
        )
    saved(2).save(path, overwrite=True)
    moved = events.index("moved")
    assert events.count("moved") == 1
    assert {name.split(".")[0] for name in events[:N_FILES]} == {
        *("layer_0", "layer_1", "logits", "classes", "head_weight", "head_bias", "manifest"),
    }
    assert moved == N_FILES + 1  # the folder, which lists the files, was the last before
    assert events[moved + 1 :] == [path.parent.name if first else "saved"]


# Several at once


@needs_fork
@pytest.mark.filterwarnings("ignore:.*fork.*:DeprecationWarning")
def test_saves_at_once_and_loads_between_them_see_one_whole_result(tmp_path, no_waiting):
    path = tmp_path / "saved"
    saved(0).save(path)

    def save_often(first):
        for number in range(first, first + 15):
            saved(number).save(path, overwrite=True)

    context = multiprocessing.get_context("fork")
    others = [context.Process(target=save_often, args=(first,)) for first in (100, 200)]
    others.append(threading.Thread(target=save_often, args=(300,)))
    for other in others:
        other.start()
    seen = set()
    while any(other.is_alive() for other in others):
        for mmap_mode in (None, "r"):
            seen.add(mark_of(Activations.load(path, mmap_mode=mmap_mode)))
    for other in others:
        other.join()
    assert [other.exitcode for other in others[:2]] == [0, 0]
    assert len(seen) > 1
    assert mark_of(Activations.load(path)) in {114, 214, 314}
    assert_next_save_leaves_no_litter(path)


@needs_fork
@pytest.mark.filterwarnings("ignore:.*fork.*:DeprecationWarning")
def test_of_several_first_saves_at_once_one_makes_the_folder(tmp_path, no_waiting):
    context = multiprocessing.get_context("fork")

    def save(path, number, start):
        start.wait()
        saved(number).save(path)

    for trial in range(10):
        path, start = tmp_path / str(trial) / "saved", context.Event()
        others = [context.Process(target=save, args=(path, n, start)) for n in (1, 2, 3)]
        for other in others:
            other.start()
        start.set()
        for other in others:
            other.join()
        succeeded = [n for n, other in enumerate(others, 1) if other.exitcode == 0]
        assert succeeded == [mark_of(Activations.load(path))]
        assert os.listdir(path.parent) == ["saved"]


def test_a_save_that_is_at_work_is_left_alone_by_others(folder):
    class Waiting(np.ndarray):
        def __getitem__(self, rows):
            saved(7).save(folder, overwrite=True)
            assert mark_of(Activations.load(folder)) == 7
            return np.asarray(self)[rows]

    slow = saved(8)
    slow = slow.replace({"fc": slow["fc"].view(Waiting), "bits": slow["bits"]})
    slow[::-1].save(folder, overwrite=True)
    assert mark_of(Activations.load(folder)) == 8
    assert len(os.listdir(folder)) == N_FILES + 1  # and the features that `replace` keeps


def test_who_has_mapped_the_old_files_reads_on(folder):
    mapped = Activations.load(folder, mmap_mode="r")
    saved(5).save(folder, overwrite=True)
    assert mark_of(mapped) == 1


def test_files_that_cannot_be_deleted_are_left_for_a_later_save(folder, monkeypatch):
    unlink = Path.unlink

    def keeps_arrays(path, missing_ok=False):
        if path.suffix == ".npy":
            raise PermissionError("a memory map keeps it")
        unlink(path, missing_ok=missing_ok)

    with monkeypatch.context() as patch:
        patch.setattr(Path, "unlink", keeps_arrays)
        for number in (2, 3):
            saved(number).save(folder, overwrite=True)
            assert mark_of(Activations.load(folder)) == number
    assert len(os.listdir(folder)) > 2 * N_FILES
    assert_next_save_leaves_no_litter(folder)


def test_a_full_disk_raises_and_leaves_the_old_content(folder, monkeypatch):
    def full(array, file):
        file.write(b"half")
        raise OSError("No space left on device")

    monkeypatch.setattr(storage, "_write_array", lambda file, array, rows: full(array, file))
    with pytest.raises(OSError, match="No space left"):
        saved(2).save(folder, overwrite=True)
    with pytest.raises(OSError, match="No space left"):
        saved(2).save(folder.with_name("other"))
    assert mark_of(Activations.load(folder)) == 1
    assert len(files_in(folder.parent)) == 1 + N_FILES


def test_a_link_to_the_folder_stays_one(folder, tmp_path):
    (tmp_path / "link").symlink_to(folder)
    saved(2).save(tmp_path / "link", overwrite=True)
    assert (tmp_path / "link").is_symlink()
    assert mark_of(Activations.load(folder)) == 2


def test_a_link_to_nothing_is_not_replaced(tmp_path):
    (tmp_path / "link").symlink_to(tmp_path / "nothing")
    for overwrite in (False, True):
        with pytest.raises(FileExistsError):
            saved(2).save(tmp_path / "link", overwrite=overwrite)
    assert (tmp_path / "link").is_symlink()


# Foreign files


@pytest.mark.parametrize(
    "name", ["notes.txt", "layer_9.npy", "features.npy", "layer_0.12.npy", "save.lock", ".hidden"]
)
def test_a_file_that_no_save_has_made_is_never_deleted(folder, name):
    for _ in range(2):
        (folder / name).write_text("precious")
        with pytest.raises(FileExistsError, match=f"something else.*{re.escape(name)}"):
            saved(2).save(folder, overwrite=True)
        assert (folder / name).read_text() == "precious"
        assert mark_of(Activations.load(folder)) == 1
        (folder / name).unlink()
        saved(1).save(folder, overwrite=True)


@pytest.mark.parametrize(
    ("changes", "reason"),
    [({"version": 3}, "version 3; expected"), ({"n_samples": -1}, "n_samples must be")],
)
def test_why_a_folder_is_not_overwritten_is_said(folder, changes, reason):
    doctor(folder, **changes)
    with pytest.raises(FileExistsError, match=f"not overwritten, as .*something else.*{reason}"):
        saved(2).save(folder, overwrite=True)


@pytest.mark.parametrize("kind", ["folder", "link"])
def test_what_is_no_file_is_never_deleted(folder, kind):
    logits = folder / "logits.npy"
    logits.rename(folder.parent / "elsewhere.npy")
    if kind == "link":
        logits.symlink_to(folder.parent / "elsewhere.npy")
    else:
        logits.mkdir()
    with pytest.raises(FileExistsError, match=r"something else.*logits\.npy"):
        saved(2).save(folder, overwrite=True)
    assert (folder.parent / "elsewhere.npy").exists()


@pytest.mark.parametrize(
    "key", ["layers", "parts", "replaces", "save_id"], ids="a doctored {}".format
)
def test_a_manifest_that_names_foreign_files_has_none_deleted(folder, key):
    manifest = json.loads((folder / "manifest.json").read_text())
    (folder / "x.npy").write_text("precious")
    (folder.parent / "x.npy").write_text("precious")
    layers = [{**layer, "file": "../x.npy"} for layer in manifest["layers"]]
    change = {
        "layers": {"layers": layers},
        "parts": {"parts": [*manifest["parts"], "x", "../x"]},
        "replaces": {"replaces": ["x.npy", "../x.npy"], "save_id": "0" * 16},
        "save_id": {"save_id": "../x"},
    }
    doctor(folder, **change[key])
    with pytest.raises(FileExistsError, match="something else"):
        saved(2).save(folder, overwrite=True)
    with pytest.raises(ValueError, match=r"manifest\.json was not written by `save`"):
        Activations.load(folder)
    assert (folder / "x.npy").exists()
    assert (folder.parent / "x.npy").exists()


def test_scratch_of_another_folder_is_left_alone(folder):
    foreign = folder.parent / ".saved-more-0123456789abcdef"
    foreign.mkdir()
    saved(2).save(folder, overwrite=True)
    assert foreign.exists()


# Manifests that lie


def layer(**changes):
    plain = {"layer": "fc", "kind": "value", "pooling": None, "unit_axis": 1}
    return {"name": "fc", "file": "layer_0.npy", "n_bits": None, **plain, **changes}


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"n_samples": 5}, r"layer_0\.npy .*shape \(6, 3\).*5 samples"),
        ({"n_samples": "6"}, "n_samples must be an integer"),
        ({"n_samples": 6.0}, "n_samples must be an integer"),
        ({"n_samples": True}, "n_samples must be an integer"),
        ({"n_samples": -1}, "n_samples must be an integer"),
        ({"n_samples": float("nan")}, "n_samples must be an integer"),
        ({"layers": None}, "layers must be a list"),
        ({"layers": {"fc": "layer_0.npy"}}, "layers must be a list"),
        ({"layers": ["fc"]}, "a layer must have the keys"),
        ({"layers": [{"name": "fc"}]}, "a layer must have the keys"),
        ({"layers": []}, "at least one layer"),
        ({"layers": [layer(name=3)]}, "name of a layer must be a string"),
        ({"layers": [layer(name=["fc"])]}, "name of a layer must be a string"),
        ({"layers": [layer(), layer(file="layer_1.npy")]}, "occurs twice"),
        ({"layers": [layer(file="../layer_0.npy")]}, r"must be \['layer_0\.npy'\]"),
        ({"layers": [layer(file="/etc/passwd")]}, r"must be \['layer_0\.npy'\]"),
        ({"layers": [layer(file="layer_1.npy")]}, r"must be \['layer_0\.npy'\]"),
        ({"layers": [layer(file=None)]}, r"must be \['layer_0\.npy'\]"),
        ({"layers": [layer(file="layer_0.npy\n")]}, r"must be \['layer_0\.npy'\]"),
        ({"layers": [layer(n_bits=3)]}, "3 bits need words"),
        ({"layers": [layer(n_bits=-64)]}, "n_bits of layer 'fc'"),
        ({"layers": [layer(n_bits=True)]}, "n_bits of layer 'fc'"),
        ({"layers": [layer(n_bits=3.0)]}, "n_bits of layer 'fc'"),
        ({"layers": [layer(n_bits="3")]}, "n_bits of layer 'fc'"),
        ({"layers": [layer(), layer(name="b", file="layer_1.npy", n_bits=10**30)]}, "bits need"),
        ({"layers": [layer(), layer(name="b", file="layer_1.npy", n_bits=129)]}, "bits need"),
        ({"layers": [layer(), layer(name="b", file="layer_1.npy", n_bits=65)]}, "padding"),
        ({"layers": [layer(kind="values")]}, "layer 'fc': kind of a column must be among"),
        ({"layers": [layer(kind=["value"])]}, "layer 'fc': kind of a column must be among"),
        ({"layers": [layer(unit_axis=0)]}, "layer 'fc': unit_axis of a column"),
        ({"layers": [layer(unit_axis=1.0)]}, "layer 'fc': unit_axis of a column"),
        ({"layers": [layer(unit_axis=2)]}, "unit_axis=2 of layer 'fc' is no axis"),
        ({"layers": [layer(layer=3)]}, "layer 'fc': layer of a column must be a string"),
        ({"layers": [layer(pooling={})]}, "layer 'fc': pooling of a column must be a string"),
        ({"layers": [layer(role="logits")]}, "a layer must have the keys .* no others"),
        ({"parts": None}, "parts must be a list"),
        ({"parts": "logits"}, "parts must be a list"),
        ({"parts": ["logits", "../x"]}, "parts must be among"),
        ({"parts": [["logits"]]}, "parts must be among"),
        ({"parts": ["logits", 3]}, "parts must be among"),
        ({"parts": ["logits", "logits"]}, "occurs twice"),
        ({"parts": ["head_weight"]}, "a head needs"),
        ({"parts": []}, "a head needs"),
        ({"head_input_layer": 3}, "a head needs"),
        ({"head_input_layer": ["fc"]}, "a head needs"),
        ({"head_input_layer": "bits"}, "reads 3 units"),
        ({"save_id": "0"}, "save_id must be"),
        ({"save_id": None}, "save_id must be"),
        ({"save_id": "../0123456789abc"}, "save_id must be"),
        ({"replaces": ["logits.npy"]}, "replaces must name"),
        ({"replaces": [3]}, "replaces must name"),
        ({"version": "1"}, "expected"),
        ({"version": None}, "expected"),
        ({"version": 0}, "expected"),
        ({"version": 1}, "version 1; expected 'skood.Activations' version 2"),
        ({"version": 3}, "expected"),
        ({"version": []}, "expected"),
        ({"version": 2.0}, r"version 2\.0; expected"),
        ({"version": True}, "version True; expected"),
    ],
    ids=repr,
)
def test_a_manifest_that_is_not_right_is_refused(tmp_path, changes, message):
    saved(1).save(tmp_path / "saved")
    doctor(tmp_path / "saved", **changes)
    for mmap_mode in (None, "r"):
        with pytest.raises(ValueError, match=message):
            Activations.load(tmp_path / "saved", mmap_mode=mmap_mode)


@pytest.mark.parametrize(
    "key", ["format", "version", "n_samples", "layers", "parts", "head_input_layer", "save_id"]
)
def test_a_manifest_without_a_key_is_refused(folder, key):
    manifest = json.loads((folder / "manifest.json").read_text())
    del manifest[key]
    (folder / "manifest.json").write_text(json.dumps(manifest))
    with pytest.raises(ValueError, match=rf"lacks \['{key}'\]|{key} None"):
        Activations.load(folder)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", "not JSON"),
        ('{"format": "skood.Act', "not JSON"),
        ("[" * 100_000, "not JSON"),
        ("[]", "object, got list"),
        ("null", "object, got NoneType"),
        ('"skood.Activations"', "object, got str"),
        ("{}", "expected 'skood.Activations'"),
    ],
    ids=range(7),
)
def test_a_manifest_that_is_no_manifest_is_refused(folder, text, message):
    (folder / "manifest.json").write_text(text)
    with pytest.raises(ValueError, match=message):
        Activations.load(folder)


def test_a_manifest_says_what_the_layers_are(tmp_path):
    layers = {"slope": Column(np.ones((3, 4, 2)), layer="relu", kind="gradient", unit_axis=2)}
    Activations({"relu": np.ones((3, 2)), **layers}, labels=[0, 1, 2]).save(tmp_path / "saved")
    manifest = json.loads((tmp_path / "saved" / "manifest.json").read_text())
    assert manifest["version"] == 2
    assert manifest["layers"] == [
        {
            **{"name": "relu", "file": "layer_0.npy", "n_bits": None},
            **{"layer": "relu", "kind": "value", "pooling": None, "unit_axis": 1},
        },
        {
            **{"name": "slope", "file": "layer_1.npy", "n_bits": None},
            **{"layer": "relu", "kind": "gradient", "pooling": None, "unit_axis": 2},
        },
    ]
    assert manifest["parts"] == ["labels"]
    assert np.load(tmp_path / "saved" / "labels.npy").tolist() == [0, 1, 2]


@pytest.mark.parametrize("key", ["name", "file", "n_bits", "layer", "kind", "pooling", "unit_axis"])
def test_a_layer_without_a_key_is_refused(tmp_path, key):
    slope = Column(np.ones((3, 4, 2)), layer="relu", kind="gradient", pooling="max", unit_axis=2)
    Activations({"slope": slope}).save(tmp_path / "saved")
    manifest = json.loads((tmp_path / "saved" / "manifest.json").read_text())
    del manifest["layers"][0][key]
    doctor(tmp_path / "saved", **manifest)
    with pytest.raises(ValueError, match=rf"must have the keys \[.*'{key}'.*\] and no others"):
        Activations.load(tmp_path / "saved")


def test_labels_of_another_length_are_refused(folder):
    saved(1).assign(labels=np.arange(6)).save(folder, overwrite=True)
    save_id = json.loads((folder / "manifest.json").read_text())["save_id"]
    np.save(folder / f"labels.{save_id}.npy", np.arange(5))
    with pytest.raises(ValueError, match=r"labels\..*\(5,\).*6 samples"):
        Activations.load(folder)


def test_a_manifest_in_another_encoding_is_refused(folder):
    (folder / "manifest.json").write_bytes(b"\xff\xfe{}")
    with pytest.raises(ValueError, match="not JSON"):
        Activations.load(folder)


def test_a_folder_without_a_manifest_and_a_file_are_refused(tmp_path):
    (tmp_path / "file").write_text("text")
    for path in (tmp_path, tmp_path / "file"):
        with pytest.raises(ValueError, match=r"holds no manifest\.json"):
            Activations.load(path)


# Files that lie


@pytest.mark.parametrize("mmap_mode", [None, "r", "c"])
@pytest.mark.parametrize("stem", ["layer_0", "layer_1", "logits", "classes", "head_bias"])
def test_a_missing_file_is_told(folder, stem, mmap_mode):
    (folder / f"{stem}.npy").unlink()
    with pytest.raises(FileNotFoundError, match=rf"not complete: {stem}\.npy"):
        Activations.load(folder, mmap_mode=mmap_mode)


@pytest.mark.parametrize("mmap_mode", [None, "r"])
@pytest.mark.parametrize("stem", ["layer_0", "logits"])
@pytest.mark.parametrize("content", ["cut", "empty", "text", "zip", "pickle"])
def test_a_file_that_is_no_whole_array_is_refused(folder, content, stem, mmap_mode):
    file = folder / f"{stem}.npy"
    whole = file.read_bytes()
    if content == "zip":
        np.savez(folder.parent / "z.npz", whole)
        file.write_bytes((folder.parent / "z.npz").read_bytes())
    elif content == "pickle":
        np.save(file, np.array([object()] * 6), allow_pickle=True)
    else:
        file.write_bytes({"cut": whole[:-1], "empty": b"", "text": b"1, 2, 3"}[content])
    with pytest.raises(ValueError, match=rf"{stem}\.npy holds no array that can be read"):
        Activations.load(folder, mmap_mode=mmap_mode)


@pytest.mark.parametrize(
    ("stem", "array", "message"),
    [
        ("layer_0", np.ones((7, 3)), r"layer_0.*\(7, 3\).*6 samples"),
        ("layer_0", np.float64(3), r"layer_0.*\(\).*6 samples"),
        ("layer_0", np.array(["a"] * 6), "'fc' must be an array of numbers"),
        ("layer_0", np.ones((6, 4)), "head reads 3 units"),
        ("layer_1", np.zeros((6, 2)), "dtype uint64"),
        ("layer_1", np.zeros((6, 2), dtype=">u8"), "dtype uint64"),
        ("layer_1", np.full((6, 2), 2**64 - 1, dtype=np.uint64), "padding"),
        ("logits", np.ones((6, 3)), "logits have 3 classes"),
        ("logits", np.ones((5, 2)), r"logits.*6 samples"),
        ("classes", np.array(["a", "a"]), "different from one another"),
        ("head_weight", np.ones((3, 3)), "3 classes"),
    ],
    ids=lambda value: getattr(value, "shape", None) and str(value.dtype),
)
def test_arrays_that_do_not_fit_are_refused(folder, stem, array, message):
    np.save(folder / f"{stem}.npy", array)
    for mmap_mode in (None, "r"):
        with pytest.raises(ValueError, match=message):
            Activations.load(folder, mmap_mode=mmap_mode)


@pytest.mark.parametrize("name", ["layer_0.npy", "logits.npy", "manifest.json"])
def test_links_are_not_followed(folder, name):
    (folder / name).rename(folder.parent / name)
    (folder / name).symlink_to(folder.parent / name)
    with pytest.raises(ValueError, match=rf"{re.escape(name)} is a symbolic link"):
        Activations.load(folder)


# Round trips


@st.composite
def activations(draw):
    """Activations of any kind that the format knows."""
    n_samples = draw(st.integers(0, 4))
    rng = np.random.default_rng(draw(st.integers(0, 99)))
    numbers = st.sampled_from(["f2", "f4", "f8", "i1", "u8", "?"])
    layers = {}
    for name in draw(st.lists(st.text(max_size=3), min_size=1, max_size=3, unique=True)):
        shape = (n_samples, *draw(st.lists(st.integers(1, 3), min_size=1, max_size=3)))
        layer = rng.integers(0, 2, shape).astype(draw(numbers))
        packed = draw(st.booleans()) and layer.ndim == 2
        layers[name] = Column(
            PackedBits.pack(layer) if packed else layer,
            layer=draw(st.none() | st.text(max_size=2)),
            kind=draw(st.sampled_from(["value", "gradient", "pass"])),
            pooling=draw(st.none() | st.text(max_size=2)),
            unit_axis=draw(st.integers(1, layer.ndim - 1)),
        )
    n_classes = draw(st.integers(1, 3))
    classes = draw(st.sampled_from([None, np.arange(n_classes) * 2, np.array(list("xyz"))]))
    classes = None if classes is None else classes[:n_classes]
    known = np.arange(n_classes) if classes is None else classes
    logits = draw(st.sampled_from([None, rng.normal(size=(n_samples, n_classes))]))
    predictions = draw(st.sampled_from([None, rng.choice(known, n_samples)]))
    features = draw(st.sampled_from([None, rng.normal(size=(n_samples, 2))]))
    labels = draw(
        st.sampled_from([None, rng.random(n_samples), np.array(["é", "b"] * 2)[:n_samples]])
    )
    head = draw(st.sampled_from([None, LinearHead(rng.normal(size=(n_classes, 2)))]))
    return Activations(
        layers,
        logits=logits,
        predictions=predictions,
        features=features,
        head=head,
        classes=classes,
        labels=labels,
    )


def assert_equal(A, B):
    assert (A.layer_names, A.layer_shapes, len(A)) == (B.layer_names, B.layer_shapes, len(B))
    for (name, a), (_, b) in zip(A.items(), B.items(), strict=True):
        assert type(a) is type(b) or {type(a), type(b)} <= {np.ndarray, np.memmap}
        np.testing.assert_array_equal(np.asarray(a), np.asarray(b), name, strict=True)
    for a, b in zip(A.columns[: len(A.layer_names)], B.columns, strict=False):
        assert (a.name, a.role, a.metadata()) == (b.name, b.role, b.metadata())
    for part in ("logits", "predictions", "classes", "features", "labels"):
        a, b = getattr(A, part), getattr(B, part)
        assert (a is None) == (b is None)
        if a is not None:
            np.testing.assert_array_equal(a, b, part, strict=True)
    assert (A.head is None) == (B.head is None)
    if A.head is not None:
        np.testing.assert_array_equal(A.head.weight, B.head.weight, strict=True)
        assert A.head.input_layer == B.head.input_layer


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    A=activations(),
    rows=st.sampled_from([slice(None), slice(None, None, -1), slice(1, 3), slice(0)]),
    mmap_mode=st.sampled_from([None, "r", "c"]),
)
def test_what_was_saved_over_and_over_comes_back(tmp_path, no_waiting, A, rows, mmap_mode):
    view = A[rows]
    view.save(tmp_path / "saved", overwrite=True)
    loaded = Activations.load(tmp_path / "saved", mmap_mode=mmap_mode)
    assert_equal(loaded, view)
    assert_equal(pickle.loads(pickle.dumps(loaded)), view)
    assert_equal(copy.deepcopy(loaded[:]), view)
    assert_equal(Activations.concatenate([view[:1], loaded[1:]]), view)
    assert joblib.hash(loaded) == joblib.hash(view)


def test_what_only_looks_like_scratch_is_not_deleted(tmp_path):
    A = Activations({"a": np.ones((3, 2))})
    theirs = tmp_path / ".here-0123456789abcdef"
    theirs.mkdir()
    (theirs / "precious.txt").write_text("x")
    A.save(tmp_path / ".here-00112233445566aa")
    A.save(tmp_path / "here")
    A.save(tmp_path / "here", overwrite=True)
    assert (theirs / "precious.txt").exists()
    assert len(Activations.load(tmp_path / ".here-00112233445566aa")) == 3


@pytest.mark.parametrize("name", ["manifest.{}.npy", "save.{}.npy", "layer_0.{}.lock"])
def test_names_that_no_save_makes_are_foreign(name, tmp_path):
    A = Activations({"a": np.ones((3, 2))})
    A.save(tmp_path / "here")
    foreign = tmp_path / "here" / name.format("0123456789abcdef")
    foreign.write_text("x")
    with pytest.raises(FileExistsError, match="something else"):
        A.save(tmp_path / "here", overwrite=True)
    assert foreign.exists()


@pytest.mark.parametrize("shape", [(3, 10**13), (3, -5)])
@pytest.mark.parametrize("mmap_mode", [None, "r"])
def test_an_array_of_an_impossible_shape_is_refused(shape, mmap_mode, tmp_path):
    Activations({"a": np.ones((3, 2))}).save(tmp_path / "here")
    with open(tmp_path / "here" / "layer_0.npy", "wb") as file:
        header = {"descr": "<f8", "fortran_order": False, "shape": shape}
        np.lib.format.write_array_header_1_0(file, header)
    with pytest.raises(ValueError, match=r"holds no array that can be read|has no units"):
        Activations.load(tmp_path / "here", mmap_mode=mmap_mode)
