"""Extraction into folders: whole after any kill, gone on with, refused where they are not ours."""

import itertools
import json
import multiprocessing
import os
import shutil
import signal
import subprocess
import sys
from functools import partial

import numpy as np
import pytest
import torch
from numpy.testing import assert_array_equal
from sklearn.neural_network import MLPClassifier
from torch import nn
from torch.utils.data import DataLoader, Dataset, TensorDataset

from skood import ActivationExtractor, Activations, PoolingReducer
from skood import _row_table as row_table
from skood import _store as store
from skood._rows import is_on_disk
from skood.extraction._mode import Mode
from skood.preprocessing import PercentileBinarizer

pyarrow = pytest.importorskip("pyarrow")

N, BATCH = 23, 4


@pytest.fixture(scope="module")
def inputs():
    return np.random.default_rng(0).normal(size=(N, 1, 6, 6)).astype(np.float32)


@pytest.fixture(scope="module")
def network():
    torch.manual_seed(0)
    layers = nn.Conv2d(1, 3, 3), nn.ReLU(), nn.Flatten(), nn.Linear(48, 5), nn.ReLU()
    return nn.Sequential(*layers, nn.Linear(5, 3)).eval()


@pytest.fixture(scope="module")
def extractor(network, inputs):
    return ActivationExtractor(network, batch_size=BATCH).fit(inputs)


@pytest.fixture(scope="module")
def in_memory(extractor, inputs):
    return extractor.transform(inputs)


@pytest.fixture(autouse=True)
def small_blocks(monkeypatch):
    """Blocks of two batches."""
    monkeypatch.setattr(row_table, "_BYTES_OF_BLOCK", 1200)


@pytest.fixture
def counted(monkeypatch):
    """Numbers of samples that passed the network, by batch."""
    sizes, run = [], Mode.run

    def count(self, adapter, batch, *args, **kwargs):
        sizes.append(len(batch))
        return run(self, adapter, batch, *args, **kwargs)

    monkeypatch.setattr(Mode, "run", count)
    return sizes


def assert_same(A, B):
    assert A.layer_names == B.layer_names
    for name in A.layer_names:
        assert A[name].dtype == B[name].dtype
        assert_array_equal(np.asarray(A[name]), np.asarray(B[name]))
    for part in ("logits", "predictions", "features", "labels", "mask", "classes"):
        assert_array_equal(getattr(A, part), getattr(B, part))
    assert (A.head is None) == (B.head is None)
    if A.head is not None:
        assert_array_equal(A.head.weight, B.head.weight)
        assert A.head.input_layer == B.head.input_layer


def killed_after(extractor, X, folder, n_batches):
    """Begin an extraction that ends with an error after some batches."""

    def fail(self, *args, number, **kwargs):
        if number == n_batches:
            raise KeyboardInterrupt
        return run(self, *args, number=number, **kwargs)

    run = Mode.run
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(Mode, "run", fail)
        with pytest.raises(KeyboardInterrupt):
            extractor.transform(X, out=folder)


def test_folder_holds_what_memory_would(extractor, inputs, in_memory, tmp_path):
    A = extractor.transform(inputs, out=tmp_path / "a" / "store")
    loaded = Activations.load(tmp_path / "a" / "store")
    for found in (A, loaded):
        assert all(is_on_disk(column.array) for column in found.columns)
        assert_same(found, in_memory)
        assert_same(found[::-3], in_memory[::-3])
    assert_same(extractor.fit_transform(inputs, out=str(tmp_path / "b")), in_memory)
    assert not list(tmp_path.rglob("*.new")) + list(tmp_path.rglob("*.lock"))


def test_blocks_are_files_that_arrow_reads(extractor, inputs, in_memory, tmp_path):
    extractor.transform(inputs, out=tmp_path / "store")
    files = sorted((tmp_path / "store").glob("*.arrow"))
    assert len(files) == 3
    tables = [pyarrow.ipc.open_file(file).read_all() for file in files]
    assert [len(table) for table in tables] == [8, 8, 7]
    conv = tables[1]["layers/1"].combine_chunks()
    assert_array_equal(conv.to_numpy_ndarray(), in_memory["1"][8:16])


@pytest.mark.parametrize("kind", ["array", "tensor", "dataset", "loader", "pairs", "iterator"])
def test_any_kind_of_input_is_gone_on_with(kind, extractor, inputs, in_memory, counted, tmp_path):
    tensor, labels = torch.from_numpy(inputs), torch.arange(N)
    make = {
        "array": lambda: inputs,
        "tensor": lambda: tensor,
        "dataset": lambda: TensorDataset(tensor, labels),
        "loader": lambda: DataLoader(TensorDataset(tensor), batch_size=BATCH),
        "pairs": lambda: DataLoader(TensorDataset(tensor, labels), batch_size=BATCH),
        "iterator": lambda: (inputs[i : i + BATCH] for i in range(0, N, BATCH)),
    }[kind]
    killed_after(extractor, make(), tmp_path / "store", n_batches=5)
    counted.clear()
    with pytest.raises(ValueError, match="not complete, but holds the first 16 samples"):
        Activations.load(tmp_path / "store")
    A = extractor.transform(make(), out=tmp_path / "store")
    assert counted == [4, 3]
    assert_array_equal(A.labels, np.arange(N) if kind in ("dataset", "pairs") else None)
    assert_same(A.assign(labels=np.zeros(N)), in_memory.assign(labels=np.zeros(N)))
    counted.clear()
    if kind != "iterator":
        assert_same(extractor.transform(make(), out=tmp_path / "store"), A)
    assert counted == []


class Counted(Dataset):
    def __init__(self, X):
        self.X, self.read = X, []

    def __len__(self):
        return len(self.X)

    def __getitem__(self, row):
        self.read.append(row)
        return self.X[row]


def test_finished_samples_of_data_sets_are_not_read(extractor, inputs, tmp_path):
    killed_after(extractor, Counted(inputs), tmp_path / "store", n_batches=4)
    dataset = Counted(inputs)
    extractor.transform(dataset, out=tmp_path / "store")
    # But for the first ones of the four finished batches, by which they are told from others.
    assert dataset.read == [0, 4, 8, 12, *range(16, N)]


def test_finished_blocks_are_not_written_again(extractor, inputs, tmp_path):
    killed_after(extractor, inputs, tmp_path / "store", n_batches=4)
    before = {file: file.stat() for file in (tmp_path / "store").glob("*.arrow")}
    assert len(before) == 2
    extractor.transform(inputs, out=tmp_path / "store")
    assert {file: file.stat() for file in before} == before


# Kills by the system

needs_fork = pytest.mark.skipif(
    "fork" not in multiprocessing.get_all_start_methods(), reason="kills copies of the process"
)
COUNTED = {"open", "fsync", "os.rename", "os.mkdir", "os.remove", "fcntl.flock"}


def killed_before(step, work):
    """Do some work, and be killed by the system right before its ``step``-th use of a file."""
    uses = itertools.count(1)

    def count(event, args=()):
        if event in COUNTED and next(uses) == step:
            os.kill(os.getpid(), signal.SIGKILL)

    os.fsync = lambda descriptor: count("fsync")
    sys.addaudithook(count)
    work()


@needs_fork
def test_killed_processes_lose_no_finished_block(tmp_path, monkeypatch, counted):
    rng = np.random.default_rng(0)
    X = rng.normal(size=(7, 4))
    mlp = MLPClassifier((6,), max_iter=5, random_state=0)
    with pytest.warns(match="converge"):
        mlp.fit(X, np.arange(7) % 3)
    monkeypatch.setattr(row_table, "_BYTES_OF_BLOCK", 1)
    extractor = ActivationExtractor(mlp, batch_size=4).fit(X)
    expected, fork = extractor.transform(X), multiprocessing.get_context("fork")
    extractor.transform(X, out=tmp_path / "whole")  # imports what it needs
    for step in itertools.count(1):
        folder = tmp_path / f"{step}"
        work = partial(extractor.transform, X, out=folder)
        process = fork.Process(target=killed_before, args=(step, work))
        process.start()
        process.join()
        if process.exitcode != -signal.SIGKILL:
            break
        journal = folder / store.JOURNAL
        n_finished = len(journal.read_bytes().splitlines()) if journal.exists() else 0
        counted.clear()
        assert_same(extractor.transform(X, out=folder), expected)
        assert counted == [4, 3][n_finished:]
        shutil.rmtree(folder)
    assert process.exitcode == 0
    assert step > 25


def test_torn_line_of_the_journal_is_no_block(extractor, inputs, in_memory, counted, tmp_path):
    killed_after(extractor, inputs, tmp_path / "store", n_batches=4)
    journal = tmp_path / "store" / store.JOURNAL
    journal.write_bytes(journal.read_bytes()[:-20])
    counted.clear()
    assert_same(extractor.transform(inputs, out=tmp_path / "store"), in_memory)
    assert sum(counted) == N - 8


# Refusals


def test_loader_that_shuffles_cannot_go_on(extractor, inputs, tmp_path):
    def loader():
        dataset = TensorDataset(torch.from_numpy(inputs), torch.arange(N))
        return DataLoader(dataset, batch_size=BATCH, shuffle=True)

    killed_after(extractor, loader(), tmp_path / "store", n_batches=3)
    with pytest.raises(ValueError, match=r"order of its own.*RandomSampler.*shuffle=False"):
        extractor.transform(loader(), out=tmp_path / "store")
    A = extractor.transform(loader(), out=tmp_path / "other")
    assert_array_equal(np.sort(A.labels), np.arange(N))
    assert_array_equal(A["1"], extractor.transform(inputs[A.labels])["1"])


def test_folder_of_another_extraction_is_refused(extractor, network, inputs, tmp_path):
    folder = tmp_path / "store"
    killed_after(extractor, inputs, folder, n_batches=4)
    other = nn.Sequential(*network[:-1], nn.Linear(5, 3)).eval()
    make = partial(ActivationExtractor, batch_size=BATCH)
    cases = {
        "network": (make(other), inputs, {}),
        "layers": (make(network, ["1"]), inputs, {}),
        "reducer": (make(network, reducer=PoolingReducer()), inputs, {}),
        "dtype": (make(network), inputs, {"dtype": "float16"}),
        "number of samples": (make(network), inputs[:-1], {}),
        "inputs": (make(network), np.flip(inputs, 0), {}),
        "gradients": (make(network, gradients=True), inputs, {}),
    }
    for what, (changed, X, params) in cases.items():
        changed.fit(X)
        with pytest.raises(ValueError, match=f"another extraction.*{what}.* delete this one"):
            changed.transform(X, out=folder, **params)
    extractor.transform(inputs, out=folder)
    with pytest.raises(ValueError, match=r"these differ: dtype \(None there, float16 here\)"):
        extractor.transform(inputs, out=folder, dtype="float16")


def test_loader_with_other_inputs_is_refused(extractor, inputs, tmp_path):
    def batches(X, size=BATCH):
        return iter([X[i : i + size] for i in range(0, len(X), size)])

    killed_after(extractor, batches(inputs), tmp_path / "store", n_batches=4)
    changed = inputs.copy()
    changed[5] += 1
    for other in (batches(changed), batches(inputs, 3), batches(inputs[:10])):
        with pytest.raises(ValueError, match=r"others from sample \d on"):
            extractor.transform(other, out=tmp_path / "store")


KINDS = ["dataset", "loader", "pairs", "iterator", "activations", "array"]


@pytest.mark.parametrize("is_whole", [True, False])
@pytest.mark.parametrize("kind", KINDS)
def test_other_inputs_are_refused_by_folders(
    kind, is_whole, extractor, inputs, in_memory, tmp_path
):
    labels = np.arange(N)

    def make(X, y=labels, kind=kind):
        arrays = [X] if kind == "loader" else [X, y[: len(X)]]
        data = TensorDataset(*map(torch.from_numpy, arrays))
        return {
            "dataset": lambda: data,
            "loader": lambda: DataLoader(data, batch_size=BATCH),
            "pairs": lambda: DataLoader(data, batch_size=BATCH),
            "iterator": lambda: ((X[i : i + 4], y[i : i + 4]) for i in range(0, len(X), 4)),
            "activations": lambda: extractor.transform(X).assign(labels=y[: len(X)]),
            "array": lambda: X,
        }[kind]()

    folder = tmp_path / "store"
    if kind == "activations" or is_whole:
        extractor.transform(make(inputs), out=folder)
    else:
        killed_after(extractor, make(inputs), folder, n_batches=4)
    wrong, swapped = inputs + np.float32(1), labels[::-1].copy()
    others = [make(wrong), make(wrong[:10])]
    others += [make(inputs, swapped)] if kind not in ("array", "loader") else []
    others += [make(wrong, kind=other) for other in KINDS if other != kind]
    for other in others:
        with pytest.raises(ValueError, match=r"inputs are others|another extraction"):
            extractor.transform(other, out=folder)
    assert len(extractor.transform(make(inputs), out=folder)) == N


def test_other_inputs_are_found_beyond_the_first_batch(extractor, inputs, tmp_path):
    extractor.transform(TensorDataset(torch.from_numpy(inputs)), out=tmp_path / "store")
    changed = inputs.copy()
    changed[20] += 1  # the first one of the last batch
    with pytest.raises(ValueError, match="others: the inputs of sample 20 differ"):
        extractor.transform(TensorDataset(torch.from_numpy(changed)), out=tmp_path / "store")
    with pytest.raises(ValueError, match="others: the labels of sample 0 differ"):
        extractor.transform(
            TensorDataset(torch.from_numpy(inputs), torch.arange(N)), out=tmp_path / "store"
        )


def test_other_reducer_of_activations_is_refused(network, inputs, in_memory, tmp_path):
    make = partial(ActivationExtractor, network, "1", batch_size=BATCH)
    make(reducer=PoolingReducer(pooling="max")).fit(inputs).transform(
        in_memory, out=tmp_path / "store"
    )
    mean = make(reducer=PoolingReducer(pooling="avg")).fit(inputs)
    with pytest.raises(ValueError, match="these differ: reducer"):
        mean.transform(in_memory, out=tmp_path / "store")


def test_foreign_folders_are_left_alone(extractor, inputs, in_memory, tmp_path):
    (tmp_path / "foreign").mkdir()
    (tmp_path / "foreign" / "thesis.tex").write_text("mine")
    in_memory.save(tmp_path / "saved")
    (tmp_path / "file").write_text("mine")
    for name, what in {
        "foreign": "'thesis.tex'",
        "saved": "something else",
        "file": "no folder",
    }.items():
        with pytest.raises(FileExistsError, match=what):
            extractor.transform(inputs, out=tmp_path / name)
    assert (tmp_path / "foreign" / "thesis.tex").read_text() == "mine"
    extractor.transform(inputs, out=tmp_path / "store")
    with pytest.raises(FileExistsError, match="not overwritten"):
        in_memory.save(tmp_path / "store", overwrite=True)


def damage_middle(file):
    octets = bytearray(file.read_bytes())
    octets[len(octets) // 2] ^= 1
    file.write_bytes(octets)


@pytest.mark.parametrize(
    ("damage", "error", "message"),
    [
        (damage_middle, ValueError, "block_000001.arrow is damaged.*checksum"),
        (lambda file: os.truncate(file, 1000), ValueError, "damaged: it has 1000 bytes instead of"),
        (lambda file: file.unlink(), FileNotFoundError, "block_000001.arrow.* is missing"),
        (
            lambda file: shutil.copy(file.with_name("block_000000.arrow"), file),
            ValueError,
            "block_000001.arrow is damaged.*checksum",
        ),
    ],
)
def test_damaged_blocks_are_named(damage, error, message, extractor, inputs, tmp_path):
    extractor.transform(inputs, out=tmp_path / "store")
    damage(tmp_path / "store" / "block_000001.arrow")

    def read():
        A = Activations.load(tmp_path / "store")
        for name in A.layer_names:
            A[9:11][name]

    with pytest.raises(error, match=message):
        read()


def test_damaged_journal_and_manifest_are_named(extractor, inputs, tmp_path):
    extractor.transform(inputs, out=tmp_path / "store")
    journal, manifest = (tmp_path / "store" / name for name in (store.JOURNAL, store.MANIFEST))
    lines, content = journal.read_bytes(), json.loads(manifest.read_text())
    journal.write_bytes(lines[: lines.index(b"\n") + 1])
    with pytest.raises(ValueError, match="should name 3 blocks of 23 samples, but names 1"):
        Activations.load(tmp_path / "store")
    journal.write_bytes(b"{}\n" + lines)
    with pytest.raises(ValueError, match=r"journal.jsonl is damaged: KeyError"):
        Activations.load(tmp_path / "store")
    manifest.write_text(json.dumps({**content, "version": 2}))
    with pytest.raises(ValueError, match="holds version 2"):
        Activations.load(tmp_path / "store")


def test_second_process_is_told_that_one_writes(extractor, inputs, in_memory, tmp_path):
    with (
        store.begin_store(tmp_path / "store", {"network": "x"}),
        pytest.raises(BlockingIOError, match="Another process writes"),
    ):
        extractor.transform(inputs, out=tmp_path / "store")
    shutil.rmtree(tmp_path / "store")
    assert_same(extractor.transform(inputs, out=tmp_path / "store"), in_memory)


def test_pyarrow_is_asked_for_where_it_is_needed(extractor, inputs, tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "pyarrow", None)
    with pytest.raises(ImportError, match=r"out=\.\.\.\) needs pyarrow.*extra 'store'"):
        extractor.transform(inputs, out=tmp_path / "store")
    assert not (tmp_path / "store").exists()


def test_reading_needs_no_package(extractor, inputs, in_memory, tmp_path):
    extractor.transform(inputs, out=tmp_path / "store")
    code = (
        "import sys; sys.modules['pyarrow'] = None; from skood import Activations; "
        f"print(Activations.load({str(tmp_path / 'store')!r})['1'].sum())"
    )
    run = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert float(run.stdout) == pytest.approx(float(in_memory["1"].sum()))


# What is stored


def test_half_precision_on_demand(extractor, network, inputs, in_memory, tmp_path):
    A = extractor.transform(inputs, out=tmp_path / "store", dtype="float16")
    assert {A[name].dtype for name in A.layer_names} == {np.dtype(np.float16)}
    assert_array_equal(A["1"], in_memory["1"].astype(np.float16))
    assert_array_equal(A.logits, in_memory.logits)
    assert A.head is not None
    assert_same(extractor.transform(inputs, dtype=np.float16), A)
    large = nn.Sequential(network[0], nn.ReLU(), nn.Flatten(), nn.Linear(48, 3)).eval()
    X = inputs.copy()
    X[9] *= 1e6
    with pytest.raises(
        ValueError, match=r"Layer '1' holds .* in sample 9, beyond .* float16, 6.55e\+04"
    ):
        ActivationExtractor(large, batch_size=BATCH).fit_transform(X, dtype="float16")
    with pytest.raises(ValueError, match="dtype must be float16, float32 or float64, got 'int8'"):
        extractor.transform(inputs, dtype="int8")


def test_packed_layers_stay_packed(network, inputs, tmp_path):
    extractor = ActivationExtractor(network, "4", reducer=PercentileBinarizer()).fit(inputs)
    A = extractor.transform(inputs, out=tmp_path / "store")
    assert A.columns[0].is_packed
    assert_same(A, extractor.transform(inputs))
    assert_array_equal(A[[5, 2]]["4"].words, extractor.transform(inputs)["4"].words[[5, 2]])


def test_extracted_activations_are_stored(extractor, network, inputs, in_memory, tmp_path):
    pooling = ActivationExtractor(network, reducer=PoolingReducer(), batch_size=BATCH).fit(inputs)
    A = pooling.transform(in_memory, out=tmp_path / "store")
    assert_same(A, pooling.transform(in_memory))
    assert_same(Activations.load(tmp_path / "store")[[3, 1]], pooling.transform(in_memory)[[3, 1]])


class Tokens(nn.Module):
    def __init__(self):
        super().__init__()
        self.embedding, self.relu, self.out = nn.Embedding(9, 4), nn.ReLU(), nn.Linear(4, 3)

    def forward(self, tokens, attention_mask):
        hidden = self.relu(self.embedding(tokens))
        weights = attention_mask[..., None] / attention_mask.sum(1)[:, None, None]
        return self.out((hidden * weights).sum(1))


def test_sequences_of_different_lengths_are_padded(tmp_path):
    torch.manual_seed(0)
    network, rng = Tokens().eval(), np.random.default_rng(0)

    def batches():
        for length in (5, 3, 7, 4):
            mask = np.arange(length) < rng.integers(1, length + 1, size=(BATCH, 1))
            yield {"tokens": rng.integers(9, size=(BATCH, length)), "attention_mask": mask * 1}

    found = list(batches())
    extractor = ActivationExtractor(network, "relu").fit(found[0])
    expected = extractor.transform(iter(found))
    killed_after(extractor, iter(found), tmp_path / "store", n_batches=3)
    A = extractor.transform(iter(found), out=tmp_path / "store")
    assert A["relu"].shape == (4 * BATCH, 7, 4)
    assert_same(A, expected)
    assert_same(A[[13, 1]], expected[[13, 1]])


def test_text_labels_and_predictions(tmp_path):
    rng = np.random.default_rng(0)
    X = rng.normal(size=(N, 4))
    names = np.array(["ä", "long name", "b"])[np.arange(N) % 3]
    mlp = MLPClassifier((6,), max_iter=5, random_state=0)
    with pytest.warns(match="converge"):
        mlp.fit(X, names)
    loader = [(X[i : i + BATCH], list(names[i : i + BATCH])) for i in range(0, N, BATCH)]
    extractor = ActivationExtractor(mlp).fit(X)
    A = extractor.transform(iter(loader), out=tmp_path / "store")
    assert_same(A, extractor.transform(iter(loader)))
    assert_array_equal(A.labels, names)
    assert_array_equal(A.predictions, mlp.predict(X))


def test_false_head_is_found_in_all_blocks(inputs, tmp_path):
    class Clipping(nn.Linear):
        def forward(self, x):
            return super().forward(x.clamp(max=50))

    network = nn.Sequential(nn.Flatten(), nn.ReLU(), Clipping(36, 3)).eval()
    X = inputs.copy()
    X[2] *= 1e4
    extractor = ActivationExtractor(network, batch_size=BATCH).fit(inputs)
    killed_after(extractor, X, tmp_path / "store", n_batches=4)
    with pytest.warns(UserWarning, match="not yield the logits of 1 of 23 samples"):
        A = extractor.transform(X, out=tmp_path / "store")
    assert A.head is None
    assert "1 of 23" in Activations.load(tmp_path / "store").why_missing["head"]


def test_passes_go_on_with_the_numbers_of_their_batch(inputs, tmp_path):
    network = nn.Sequential(
        nn.Flatten(), nn.Linear(36, 5), nn.ReLU(), nn.Dropout(), nn.Linear(5, 3)
    )
    extractor = ActivationExtractor(network, n_passes=3, random_state=0, batch_size=BATCH)
    expected = extractor.fit(inputs).transform(inputs)
    killed_after(extractor, inputs, tmp_path / "store", n_batches=4)
    assert_same(extractor.transform(inputs, out=tmp_path / "store"), expected)
    random = ActivationExtractor(network, n_passes=3, batch_size=BATCH).fit(inputs)
    killed_after(random, inputs, tmp_path / "random", n_batches=4)
    with pytest.raises(ValueError, match="perturbation, gradients and passes"):
        random.transform(inputs, out=tmp_path / "random")


# Temporary files


def test_what_memory_does_not_hold_goes_to_temporary_files(
    extractor, inputs, in_memory, monkeypatch
):
    n_bytes = sum(column.nbytes for column in in_memory.columns)
    tensor = torch.from_numpy(inputs)
    for X in (inputs, DataLoader(TensorDataset(tensor), batch_size=BATCH), iter([inputs, inputs])):
        for allowed in (n_bytes - 1, n_bytes // 3, 10 * n_bytes):
            monkeypatch.setattr(row_table, "block_bytes", lambda allowed=allowed: allowed)
            if not hasattr(X, "__next__"):
                A = extractor.transform(X)
                assert {is_on_disk(c.array) for c in A.columns} == {allowed < n_bytes}
                assert_same(A, in_memory)
    monkeypatch.setattr(row_table, "block_bytes", lambda: n_bytes)
    A = extractor.transform(iter(np.array_split(np.concatenate([inputs] * 3), 20)))
    assert all(is_on_disk(c.array) for c in A.columns)
    assert_array_equal(A["1"][N : 2 * N], A["1"][:N])
    np.testing.assert_allclose(A["1"][:N], in_memory["1"], rtol=1e-5, atol=1e-6)


def test_cache_does_not_keep_temporary_files(network, inputs, in_memory, tmp_path, monkeypatch):
    extractor = ActivationExtractor(network, batch_size=BATCH, memory=str(tmp_path)).fit(inputs)
    monkeypatch.setattr(row_table, "block_bytes", lambda: 1000)
    with pytest.warns(UserWarning, match="larger than memory and are not put into the cache"):
        assert_same(extractor.transform(inputs), in_memory)
    monkeypatch.undo()
    assert_same(extractor.transform(inputs), in_memory)


@needs_fork
def test_temporary_files_of_killed_processes_are_swept(extractor, inputs, tmp_path, monkeypatch):
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path))
    monkeypatch.setattr(row_table, "block_bytes", lambda: 1000)

    def killed():
        A = extractor.transform(inputs)
        assert is_on_disk(A.columns[0].array)
        os.kill(os.getpid(), signal.SIGKILL)

    process = multiprocessing.get_context("fork").Process(target=killed)
    process.start()
    process.join()
    (left,) = tmp_path.glob(".skood-rows-*[!k]")
    A = extractor.transform(inputs)
    assert not left.exists()
    del A
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("reducer", [PoolingReducer(), PercentileBinarizer()])
def test_transformers_go_through_in_blocks(
    extractor, inputs, in_memory, reducer, tmp_path, monkeypatch
):
    A = extractor.transform(inputs, out=tmp_path / "store")
    if isinstance(reducer, PercentileBinarizer):
        A, in_memory = A[["4"]], in_memory[["4"]]
    expected = reducer.fit_transform(in_memory)
    import skood.activations as module

    monkeypatch.setattr(module, "rows_of_block", lambda n_values: 5)
    lengths, transform = [], type(reducer)._transform

    def note(self, X):
        lengths.append(len(X))
        return transform(self, X)

    monkeypatch.setattr(type(reducer), "_transform", note)
    assert_same(reducer.fit(A).transform(A), expected)
    assert lengths == [5, 5, 5, 5, 3]
