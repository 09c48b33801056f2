"""Stores of patterns on disk, in shards, against those in memory; and approximate indices."""

import gc
import os
import pickle
import shutil
import signal
import subprocess
import sys
import textwrap
import weakref
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.testing import assert_array_equal
from sklearn.base import clone
from sklearn.model_selection import cross_val_score

from skood import Activations, HammingNAPDetector
from skood._patterns import (
    PatternRuns,
    PatternStore,
    PatternTable,
    _build,
    _files,
    _index,
    build_stores,
    hamming_neighbors,
    nearest_of_class,
    quantile_bits,
)
from skood._patterns._files import OwnedFolder
from skood._patterns._lists import PatternLists
from skood._patterns._shards import MANIFEST, read_manifest
from skood.activations import PackedBits


@pytest.fixture
def in_pieces(monkeypatch):
    """Runs and shards of few patterns, so that small stores have many of them."""

    def set_sizes(run_bytes, shard_bytes):
        monkeypatch.setattr(_build, "RUN_BYTES", run_bytes)
        monkeypatch.setattr(_build, "SHARD_BYTES", shard_bytes)

    set_sizes(500, 100)
    return set_sizes


def draw_patterns(rng, n_rows, n_bits, n_classes=3, density=0.3):
    bits = PackedBits.pack(rng.random((n_rows, n_bits)) < density)
    predictions = rng.integers(0, n_classes, n_rows)
    return Activations(
        {"a": bits}, logits=np.eye(n_classes + 1)[predictions], predictions=predictions
    )


def assert_same(found, expected, queries, *, n_neighbors=4):
    np.testing.assert_array_equal(found.score_samples(queries), expected.score_samples(queries))
    for mine, theirs in zip(
        found.kneighbors(queries, n_neighbors),
        expected.kneighbors(queries, n_neighbors),
        strict=True,
    ):
        np.testing.assert_array_equal(mine, theirs)
    assert list(found.stores_) == list(expected.stores_)
    for label, store in expected.stores_.items():
        mine = found.stores_[label]
        np.testing.assert_array_equal(mine.patterns.words, store.patterns.words)
        np.testing.assert_array_equal(mine.counts, store.counts)
    assert found.score_error_ == pytest.approx(expected.score_error_)


# Shards


@settings(max_examples=10, deadline=None)
@given(
    n_rows=st.integers(1, 60),
    n_bits=st.sampled_from([1, 3, 8, 64, 70, 200]),
    cuts=st.lists(st.integers(1, 59), max_size=3),
    sizes=st.sampled_from([(1, 1), (200, 60), (3000, 100), (10**6, 10**6)]),
    n_neighbors=st.integers(1, 90),
    seed=st.integers(0, 999),
)
def test_any_shards_and_batches_answer_as_one_store_in_memory(
    tmp_path_factory, n_rows, n_bits, cuts, sizes, n_neighbors, seed
):
    rng = np.random.default_rng(seed)
    # Few bits and many rows: patterns repeat, and distances and counts tie across shards.
    X = draw_patterns(rng, n_rows, n_bits, density=rng.choice([0.05, 0.5]))
    queries = draw_patterns(rng, 20, n_bits, n_classes=3)
    expected = HammingNAPDetector().fit(X)
    folder = tmp_path_factory.mktemp("store")
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(_build, "RUN_BYTES", sizes[0])
        patch.setattr(_build, "SHARD_BYTES", sizes[1])
        patch.setattr("skood._patterns._shards.sync", lambda path: None)
        whole = HammingNAPDetector(store=folder).fit(X)
        batched = HammingNAPDetector(store=folder)
        for rows in np.split(np.arange(n_rows), np.unique(np.minimum(cuts, n_rows)).astype(int)):
            if len(rows):
                batched.partial_fit(X[rows])
    for found in (whole, batched):
        assert_same(found, expected, queries, n_neighbors=n_neighbors)
        np.testing.assert_array_equal(found.training_scores_, expected.training_scores_)
        assert found.offset_ == expected.offset_


def test_a_store_is_cut_into_shards_that_are_counted_across_batches(in_pieces, tmp_path):
    rng = np.random.default_rng(0)
    bits = PackedBits.pack(rng.random((60, 6)) < 0.5)
    rows = np.arange(60)
    runs = PatternRuns.of(tmp_path, bits[:20], np.zeros(20, int), rows[:20], 20)
    for start in (20, 40):
        batch = bits[start : start + 20]
        runs = runs.merge(PatternRuns.of(tmp_path, batch, np.zeros(20, int), rows[:20], 20))
    store = runs.build()[0]
    plain = PatternStore(bits, rows)
    assert len(list(tmp_path.glob("patterns-*/shard-*.words.npy"))) > 2
    assert len(list(tmp_path.glob("run-*"))) > 0
    assert store.n_rows == 60
    assert store.n_patterns == plain.n_patterns == len(np.unique(bits.unpack(), axis=0))
    np.testing.assert_array_equal(store.counts, plain.counts)
    np.testing.assert_array_equal(store.patterns.words, plain.patterns.words)
    queries = PackedBits.pack(rng.random((30, 6)) < 0.5)
    for found, expected in zip(store.nearest(queries), plain.nearest(queries), strict=True):
        np.testing.assert_array_equal(found, expected)


def test_a_pattern_of_more_rows_than_are_held_keeps_them_in_order(in_pieces, tmp_path):
    in_pieces(160, 100)
    X = np.ones((300, 4))
    X[::7, 0] = 0
    detector = HammingNAPDetector(store=tmp_path)
    for start in range(0, 300, 50):
        detector.partial_fit(X[start : start + 50])
    distances, rows = detector.kneighbors([[1, 1, 1, 1], [0, 1, 1, 1]], 300)
    ones = np.flatnonzero(X[:, 0] == 1)
    np.testing.assert_array_equal(rows[0], [*ones, *np.arange(0, 300, 7)])
    np.testing.assert_array_equal(rows[1], [*np.arange(0, 300, 7), *ones])
    assert (distances[0] == np.repeat([0, 1], [len(ones), 300 - len(ones)])).all()


@pytest.mark.parametrize("group_by", ["label", "correct"])
def test_classes_by_label_and_rows_that_are_not_stored(in_pieces, tmp_path, group_by):
    rng = np.random.default_rng(1)
    X = draw_patterns(rng, 80, 9)
    y = np.where(rng.random(80) < 0.6, X.predictions, rng.integers(-1, 3, 80))
    expected = HammingNAPDetector(group_by=group_by).fit(X, y)
    found = HammingNAPDetector(group_by=group_by, store=tmp_path)
    for rows in np.split(np.arange(80), [30, 31]):
        found.partial_fit(X[rows], y[rows])
    assert_same(found, expected, draw_patterns(rng, 40, 9))
    examples, others = (d.nearest_examples(X[:9], 3) for d in (found, expected))
    np.testing.assert_array_equal(examples.labels, others.labels)
    np.testing.assert_array_equal(examples.layers["a"], others.layers["a"])


def test_classes_may_be_texts_but_not_texts_and_numbers(in_pieces, tmp_path):
    X = np.eye(4)
    named = Activations({"a": X}, predictions=np.array(["cat", "dog", "cat", "emu"]))
    found = HammingNAPDetector(store=tmp_path).fit(named)
    assert_same(found, HammingNAPDetector().fit(named), named)


def test_merged_detectors_answer_as_one(in_pieces, tmp_path):
    X = draw_patterns(np.random.default_rng(2), 90, 8)
    first, second = (
        HammingNAPDetector(store=tmp_path).fit(X[rows]) for rows in (range(50), range(50, 90))
    )
    kept = second.score_samples(X)
    assert_same(first.merge(second), HammingNAPDetector().fit(X), X)
    np.testing.assert_array_equal(second.score_samples(X), kept)


def test_patterns_in_memory_and_on_disk_are_not_mixed(tmp_path):
    X = draw_patterns(np.random.default_rng(0), 20, 8)
    for first, later in ((None, tmp_path), (tmp_path, None)):
        detector = HammingNAPDetector(store=first).fit(X).set_params(store=later)
        with pytest.raises(ValueError, match="set the parameter 'store' as it was"):
            detector.partial_fit(X)


# The folder


def test_the_folder_goes_with_the_detector(in_pieces, tmp_path):
    X = draw_patterns(np.random.default_rng(0), 60, 8)
    detector = HammingNAPDetector(store=tmp_path).fit(X)
    (first,) = tmp_path.glob("patterns-*")
    detector.fit(X)
    assert len(list(tmp_path.glob("patterns-*"))) == 1
    assert not first.exists()
    cross_val_score(HammingNAPDetector(store=tmp_path), X, np.arange(60) % 2 * 2 - 1, cv=2)
    assert len(list(tmp_path.glob("patterns-*"))) == 1
    twin = clone(detector)
    del detector
    gc.collect()
    assert not list(tmp_path.iterdir())
    assert twin.store == tmp_path


def test_what_was_pickled_stays_and_may_be_moved(in_pieces, tmp_path):
    X = draw_patterns(np.random.default_rng(0), 60, 8)
    detector = HammingNAPDetector(store=tmp_path / "here").fit(X[:50])
    expected = HammingNAPDetector().fit(X[:50])
    saved = pickle.dumps(detector)
    assert len(saved) < 20_000
    del detector
    gc.collect()
    shutil.move(tmp_path / "here", tmp_path / "there")
    _files.mapped.cache_clear()  # as in another process
    loaded = pickle.loads(saved)
    with pytest.raises(FileNotFoundError, match=r"here.*is missing.*set the parameter 'store'"):
        loaded.score_samples(X)
    loaded.set_params(store=tmp_path / "there")
    assert_same(loaded, expected, X)
    # It also goes on learning there; what others may hold is left.
    n_before = len(list((tmp_path / "there").glob("patterns-*")))
    assert_same(loaded.partial_fit(X[50:]), HammingNAPDetector().fit(X), X)
    assert len(list((tmp_path / "there").glob("patterns-*"))) == n_before + 1


def test_a_process_that_is_forked_deletes_nothing(tmp_path):
    (tmp_path / "x").mkdir()
    folder = OwnedFolder(tmp_path, "x")
    if not hasattr(os, "fork"):
        pytest.skip("no fork here")
    if os.fork() == 0:
        del folder
        gc.collect()
        os._exit(0)
    os.wait()
    assert (tmp_path / "x").exists()


KILLED = """
import sys, time
import numpy as np
from skood import HammingNAPDetector
from skood._patterns import _build, _shards
_build.RUN_BYTES, _build.SHARD_BYTES = 2000, 400
save = _shards.np.save
def slowly(file, array):
    save(file, array)
    if "shard-00003" in str(file):
        print("building", flush=True)
        time.sleep(60)
_shards.np.save = slowly
X = np.random.default_rng(0).random((500, 40)) < 0.5
HammingNAPDetector(store=sys.argv[1]).fit(X)
"""


@pytest.mark.skipif(not hasattr(signal, "SIGKILL"), reason="no kill -9 here")
def test_a_killed_build_leaves_nothing_that_reads_as_whole(tmp_path):
    X = draw_patterns(np.random.default_rng(0), 60, 8)
    before = HammingNAPDetector(store=tmp_path).fit(X)
    command = [sys.executable, "-c", textwrap.dedent(KILLED), str(tmp_path)]
    process = subprocess.Popen(command, stdout=subprocess.PIPE, text=True)
    assert process.stdout.readline() == "building\n"
    process.kill()
    process.wait()
    process.stdout.close()
    whole = [path.parent for path in tmp_path.glob(f"*/{MANIFEST}")]
    assert len(whole) == 1  # that of the detector here
    (under_work,) = tmp_path.glob("*.work")
    assert len(list(under_work.iterdir())) > 3
    with pytest.raises(FileNotFoundError, match="no whole store of patterns"):
        read_manifest(under_work)
    before.score_samples(X)
    HammingNAPDetector(store=tmp_path).fit(X)
    assert not list(tmp_path.glob("*.work*"))


@pytest.mark.skipif(not hasattr(os, "fork"), reason="no fork here")
def test_finished_folders_of_killed_processes_are_deleted(in_pieces, tmp_path):
    X = draw_patterns(np.random.default_rng(0), 60, 8)
    alive = HammingNAPDetector(store=tmp_path).fit(X)
    ours = set(tmp_path.iterdir())
    if os.fork() == 0:
        detector = HammingNAPDetector(store=tmp_path).partial_fit(X)
        pickled = HammingNAPDetector(store=tmp_path).fit(X)
        (tmp_path / "pickled").write_bytes(pickle.dumps(pickled))
        os.kill(os.getpid(), signal.SIGKILL if detector else 0)
    os.wait()
    left = {path for path in tmp_path.glob("*-*") if path.is_dir()} - ours
    HammingNAPDetector(store=tmp_path).fit(X)
    gc.collect()
    kept = {path for path in tmp_path.glob("*-*") if path.is_dir()} - ours
    assert 0 < len(kept) < len(left)
    with open(tmp_path / "pickled", "rb") as file:
        assert_same(pickle.load(file), alive, X)
    assert len(list(tmp_path.glob("*.lock"))) == 1
    del alive
    gc.collect()
    assert {path for path in tmp_path.iterdir() if path.is_dir()} == kept


def test_a_file_is_no_store(tmp_path):
    (tmp_path / "file").write_text("mine")
    for place in (tmp_path / "file", tmp_path / "file" / "below"):
        with pytest.raises(OSError, match=r"store='.*file.*' is no folder.*choose another place"):
            HammingNAPDetector(store=place).fit(np.eye(3))


def test_an_error_in_a_build_leaves_nothing(in_pieces, tmp_path, monkeypatch):
    X = draw_patterns(np.random.default_rng(0), 60, 8)

    def fail(*_):
        raise OSError("disk full")

    monkeypatch.setattr("skood._patterns._shards.sync", fail)
    with pytest.raises(OSError, match="disk full"):
        HammingNAPDetector(store=tmp_path).fit(X)
    gc.collect()
    assert not [path for path in tmp_path.iterdir() if not path.name.startswith("run-")]


def test_a_short_write_says_where_space_is_missing(in_pieces, tmp_path, monkeypatch):
    def fail(*_):
        raise OSError("30 requested and 7 written")  # as NumPy does, on a full disk

    monkeypatch.setattr("skood._patterns._shards.sync", fail)
    with pytest.raises(OSError, match=f"into {tmp_path} .30 requested .*is there space left"):
        HammingNAPDetector(store=tmp_path).fit(np.eye(3))


@pytest.mark.parametrize("name", ["words", "counts", "firsts"])
def test_shards_that_are_cut_short_or_of_another_store_are_refused(in_pieces, tmp_path, name):
    X = draw_patterns(np.random.default_rng(0), 60, 8)
    detector = HammingNAPDetector(store=tmp_path / "own").fit(X)
    (file,) = (tmp_path / "own").glob(f"*/shard-00000.{name}.npy")
    whole = file.read_bytes()
    file.write_bytes(whole[:-1])
    _files.mapped.cache_clear()
    with pytest.raises(ValueError, match=rf"shard-00000\.{name}\.npy is damaged.*fit the detector"):
        detector.kneighbors(X)
    # That of a store of longer patterns, or of fewer.
    other = np.load(file.with_name(f"shard-00001.{name}.npy"))
    np.save(file, np.hstack([other, other]) if name == "words" else other[:-1])
    with pytest.raises(ValueError, match=r"or of another store: expected .* rows or more"):
        detector.kneighbors(X)


def test_another_version_is_refused(in_pieces, tmp_path):
    detector = HammingNAPDetector(store=tmp_path).fit(np.eye(3))
    (file,) = tmp_path.glob(f"*/{MANIFEST}")
    file.write_text(file.read_text().replace('"version": 1', '"version": 7'))
    with pytest.raises(ValueError, match="of version 7, expected"):
        read_manifest(file.parent)
    assert detector.store == tmp_path


MEASURED = """
import sys, tracemalloc
from pathlib import Path
import numpy as np
from skood._patterns import PatternRuns, _build
from skood.activations import PackedBits

def resident():
    return int(open("/proc/self/status").read().split("RssAnon:")[1].split()[0]) // 1024

_build.RUN_BYTES, _build.SHARD_BYTES = 2**18, 2**18
rng = np.random.default_rng(0)
runs = None
PackedBits.pack(np.ones((1, 128)))
before = resident()
tracemalloc.start()
for start in range(0, 300_000, 20_000):
    words = rng.integers(0, 2**63, (20_000, 2), dtype=np.uint64)
    rows = np.arange(20_000)
    part = PatternRuns.of(Path(sys.argv[1]), PackedBits(words, 128), 0 * rows, rows, 20_000)
    runs = part if runs is None else runs.merge(part)
store = runs.build()[0]
queries = PackedBits(words[:5], 128)
distances, _ = store.nearest(queries)
assert (distances == 0).all() and store.n_patterns == 300_000
print(tracemalloc.get_traced_memory()[1] // 2**20, resident() - before)
"""


@pytest.mark.skipif(not Path("/proc/self/status").exists(), reason="reads /proc")
def test_a_store_is_neither_built_nor_read_in_memory(tmp_path):
    # The patterns and the numbers of their rows, in runs and shards, are 18 MiB.
    command = [sys.executable, "-c", textwrap.dedent(MEASURED), str(tmp_path)]
    output = subprocess.check_output(command, text=True)
    traced, resident = map(int, output.split())
    assert traced < 6
    assert resident < 12


# Approximate indices


@pytest.fixture
def indexed(monkeypatch):
    pytest.importorskip("faiss")
    monkeypatch.setattr("skood.detectors._hamming.MIN_PATTERNS", 500)
    monkeypatch.setattr(_index, "_N_HELD_OUT", 200)


@pytest.fixture(scope="module")
def clustered():
    """Patterns near to some centres, as those of a class are; then such as are not."""
    rng = np.random.default_rng(0)
    centres = rng.random((40, 96)) < 0.5
    label = rng.integers(0, 40, 4000)
    bits = centres[label] ^ (rng.random((4000, 96)) < 0.08)
    predictions = np.where(np.arange(4000) % 20 == 0, 1, 0)
    A = Activations({"a": PackedBits.pack(bits)}, predictions=predictions)
    return A[:3600], A[3600:]


@pytest.mark.parametrize("kind", ["ivf", "hnsw"])
@pytest.mark.parametrize("on_disk", [False, True])
def test_the_recall_of_an_index_is_what_it_says(
    indexed, in_pieces, clustered, kind, on_disk, tmp_path
):
    in_pieces(10_000, 8_000)
    X, queries = clustered
    exact = HammingNAPDetector().fit(X)
    found = HammingNAPDetector(index=kind, store=tmp_path if on_disk else None).fit(X)
    assert exact.recall_ == 1
    distances, others = (np.ceil(-d.score_samples(queries)) for d in (exact, found))
    assert (others >= distances).all()
    # Class 1 has too few patterns for an index.
    np.testing.assert_array_equal(
        others[queries.predictions == 1], distances[queries.predictions == 1]
    )
    recall = (others == distances).mean()
    assert 0.85 < found.recall_ <= 1
    assert recall == pytest.approx(found.recall_, abs=0.06)
    assert abs(found.offset_ - exact.offset_) <= 1
    again = pickle.loads(pickle.dumps(found))
    np.testing.assert_array_equal(again.score_samples(queries), found.score_samples(queries))
    for mine, theirs in zip(
        found.kneighbors(queries, 3), exact.kneighbors(queries, 3), strict=True
    ):
        np.testing.assert_array_equal(mine, theirs)


def test_an_index_that_looks_everywhere_is_exact_with_the_same_ties(
    indexed, clustered, monkeypatch
):
    monkeypatch.setattr(_index, "RECALL", 1.01)
    X, queries = clustered
    X = Activations.concatenate([X, X[:300]])  # patterns that are more common than others
    exact, found = (HammingNAPDetector(index=kind).fit(X) for kind in ("flat", "ivf"))
    assert found.recall_ == 1
    np.testing.assert_array_equal(found.score_samples(queries), exact.score_samples(queries))
    np.testing.assert_array_equal(found.training_scores_, exact.training_scores_)


@pytest.mark.parametrize("kind", ["ivf", "hnsw"])
def test_without_faiss_an_index_is_refused(kind, monkeypatch):
    monkeypatch.setitem(sys.modules, "faiss", None)
    with pytest.raises(ImportError, match=r"approximate index of patterns needs faiss"):
        HammingNAPDetector(index=kind).fit(np.eye(3))


# Search by class


@given(
    n_classes=st.integers(1, 30),
    n_bits=st.sampled_from([1, 5, 64, 130, 300, 520]),
    n_rows=st.integers(1, 300),
    seed=st.integers(0, 99),
    at_once=st.sampled_from([1, 50, 2**17]),
    n_bits_in_lists=st.sampled_from([0, 2**25]),
)
def test_classes_are_searched_together_as_each_alone(
    n_classes, n_bits, n_rows, seed, at_once, n_bits_in_lists
):
    rng = np.random.default_rng(seed)
    X = draw_patterns(rng, n_rows, n_bits, n_classes)
    queries = draw_patterns(rng, 40, n_bits, n_classes)
    stores = build_stores(X["a"], X.predictions, np.arange(n_rows))
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("skood._patterns._search._DISTANCES_AT_ONCE", at_once)
        patch.setattr("skood._patterns._search._PATTERNS_AT_ONCE", at_once)
        patch.setattr("skood._patterns._lookup._BITS_IN_LISTS", n_bits_in_lists)
        distances, shares = nearest_of_class(stores, queries["a"], queries.predictions)
    bits, asked = X["a"].unpack(), queries["a"].unpack()
    for query, label, distance, share in zip(
        asked, queries.predictions, distances, shares, strict=True
    ):
        own = bits[X.predictions == label]
        if not len(own):
            assert (distance, share) == (n_bits, 0)
            continue
        apart = (own != query).sum(axis=1)
        nearest = own[apart == apart.min()]
        count = max((own == pattern).all(axis=1).sum() for pattern in nearest)
        assert distance == apart.min()
        assert share == count / (len(own) + 1)


@pytest.fixture
def counted_lists(monkeypatch):
    """The lists that are made, as weak references."""
    pytest.importorskip("faiss")
    made = []

    class Counted(PatternLists):
        def __init__(self, *args):
            super().__init__(*args)
            made.append(weakref.ref(self))

    monkeypatch.setattr("skood._patterns._lookup.PatternLists", Counted)
    return made


def test_lists_are_made_once_for_the_same_stores_and_go_with_them(counted_lists):
    rng = np.random.default_rng(0)
    X, queries = draw_patterns(rng, 90, 70), draw_patterns(rng, 30, 70)
    stores = build_stores(X["a"], X.predictions, np.arange(90))
    before = nearest_of_class(stores, queries["a"], queries.predictions)
    nearest_of_class(stores, queries["a"], queries.predictions)
    assert len(counted_lists) == 1
    stores[2] = build_stores(X["a"], np.full(90, 2), np.arange(90))[2]
    after = nearest_of_class(stores, queries["a"], queries.predictions)
    assert len(counted_lists) == 2
    is_other = queries.predictions == 2
    for old, new in zip(before, after, strict=True):
        np.testing.assert_array_equal(new[~is_other], old[~is_other])
    expected = HammingNAPDetector().fit(X["a"].unpack()).score_samples(queries["a"].unpack())
    np.testing.assert_array_equal((after[1] - after[0])[is_other], expected[is_other])
    del stores
    gc.collect()
    assert not any(lists() for lists in counted_lists)


def test_lists_are_not_part_of_a_detector(counted_lists):
    rng = np.random.default_rng(0)
    X, queries = draw_patterns(rng, 90, 70), draw_patterns(rng, 30, 70)
    detector = HammingNAPDetector().fit(X)
    size = len(pickle.dumps(detector))
    scores = detector.score_samples(queries)
    assert len(counted_lists) == 1
    assert len(pickle.dumps(detector)) == size
    copy = pickle.loads(pickle.dumps(detector))
    np.testing.assert_array_equal(copy.score_samples(queries), scores)


@pytest.mark.parametrize("n_queries", [1, 4, 5, 40])
def test_fewer_samples_than_classes_find_the_same(n_queries):
    rng = np.random.default_rng(0)
    X, queries = draw_patterns(rng, 90, 70), draw_patterns(rng, 40, 70, n_classes=5)
    stores = build_stores(X["a"], X.predictions, np.arange(90))
    every = nearest_of_class(stores, queries["a"], queries.predictions)
    some = nearest_of_class(stores, queries["a"][:n_queries], queries.predictions[:n_queries])
    for found, expected in zip(some, every, strict=True):
        np.testing.assert_array_equal(found, expected[:n_queries])


def test_text_is_no_class_where_classes_are_numbers():
    bits = PackedBits.pack(np.eye(20, 70) > 0)
    stores = build_stores(bits, np.repeat([1, 2], 10), np.arange(20))
    distances, shares = nearest_of_class(stores, bits, np.repeat(["1", "2"], 10))
    assert (distances == 70).all()
    assert (shares == 0).all()


@pytest.mark.parametrize("n_patterns", [5, 40, 41])
def test_tiles_of_patterns_find_the_earlier_one_first_on_ties(n_patterns, monkeypatch):
    pytest.importorskip("faiss")
    monkeypatch.setattr("skood._patterns._search._PATTERNS_IN_A_LIST", 8)
    rng = np.random.default_rng(0)
    stored, queries = (rng.integers(0, 3, (n, 8), dtype=np.uint64) for n in (n_patterns, 50))
    every = np.bitwise_count(queries[:, np.newaxis] ^ stored).sum(axis=2)
    distances, indices = hamming_neighbors(queries, stored, 1)
    np.testing.assert_array_equal(distances[:, 0], every.min(axis=1))
    np.testing.assert_array_equal(indices[:, 0], every.argmin(axis=1))


def test_threads_find_what_one_finds(monkeypatch):
    faiss = pytest.importorskip("faiss")
    rng = np.random.default_rng(0)
    X, queries = draw_patterns(rng, 500, 70), draw_patterns(rng, 300, 70)
    detector = HammingNAPDetector().fit(X)
    expected = detector.score_samples(queries)
    monkeypatch.setattr("skood._faiss._WORDS_PER_THREAD", 10)
    monkeypatch.setattr(faiss, "omp_get_max_threads", lambda: 3)
    monkeypatch.setattr("skood._patterns._search._DISTANCES_AT_ONCE", 10_000)
    np.testing.assert_array_equal(detector.score_samples(queries), expected)
    np.testing.assert_array_equal(
        HammingNAPDetector().fit(X).training_scores_, detector.training_scores_
    )


def test_a_table_finds_what_each_store_finds():
    rng = np.random.default_rng(0)
    widths = {"narrow": 20, "word": 64, "wide": 300}
    draw = lambda n: {  # noqa: E731
        name: np.maximum(rng.normal(size=(n, width)), -0.2).astype(np.float32)
        for name, width in widths.items()
    }
    layers, labels = draw(60), rng.integers(0, 4, 60)
    entries, of_each = [], []
    for name, width in widths.items():
        for percentile in (30, 70):
            (bits,) = quantile_bits(layers[name], [percentile])
            rows = np.flatnonzero((labels != 3) | (name != "word"))
            stores = build_stores(PackedBits.pack(bits)[rows], labels[rows], rows)
            entries.append((name, width, percentile, stores, percentile == 70))
            of_each.append(stores)
    new = draw(6)
    for name, values in new.items():
        values[0] = layers[name][0]
    lookup = np.array([labels[0], 1, 2, 3, 0, 9])
    expected = []
    for (name, _, percentile, _, breaks_ties), stores in zip(entries, of_each, strict=True):
        (bits,) = quantile_bits(new[name], [percentile])
        distances, shares = nearest_of_class(stores, PackedBits.pack(bits), lookup)
        expected.append(shares * breaks_ties - distances)
    table = PatternTable(entries)
    for _ in range(2):
        assert_array_equal(table.similarities(new, lookup), np.column_stack(expected))
