"""The images of the experiments, and that no other files are read in their place."""

import hashlib
import os
from pathlib import Path

import numpy as np
import pytest

from experiments._common import image_sets
from experiments._common.image_sets import IMAGE_SETS, read_images

FILES = [
    pytest.param(file, id=f"{name}-{subset}")
    for name, files in IMAGE_SETS.items()
    for subset, file in files.items()
]


def sha256(path):
    return hashlib.sha256(path.read_bytes()).hexdigest()


@pytest.fixture
def small_archives(tmp_path, monkeypatch):
    """Write a few images for every set and make their sums the expected ones."""
    rng = np.random.default_rng(0)
    for name, files in IMAGE_SETS.items():
        small = {}
        for subset, file in files.items():
            path = tmp_path / file.name
            x = rng.integers(256, size=(5, *file.shape[1:]), dtype=np.uint8)
            np.savez(path, x=x, y=rng.integers(3, size=5))
            small[subset] = file._replace(sha256=sha256(path))
        monkeypatch.setitem(IMAGE_SETS, name, small)
    return tmp_path


@pytest.mark.parametrize("name", IMAGE_SETS)
def test_images_come_channels_first_from_zero_to_one(name, small_archives):
    subset, file = next(iter(IMAGE_SETS[name].items()))
    with np.load(small_archives / file.name) as source:
        x, y = source["x"], source["y"]
    X, classes = read_images(name, subset, small_archives)

    assert X.dtype == np.float32
    assert X.flags.c_contiguous
    assert X.shape[1] == (1 if x.ndim == 3 else 3)
    np.testing.assert_allclose(np.moveaxis(X, 1, -1).reshape(x.shape) * 255, x, rtol=1e-6)
    np.testing.assert_array_equal(classes, y)


@pytest.mark.parametrize("name", ["mnist", "fashion_mnist", "cifar10", "cifar100"])
def test_all_is_the_training_images_and_then_the_test_images(name, small_archives):
    parts = [read_images(name, subset, small_archives) for subset in ("train", "test")]
    X, y = read_images(name, folder=small_archives)
    np.testing.assert_array_equal(X, np.concatenate([images for images, _ in parts]))
    np.testing.assert_array_equal(y, np.concatenate([classes for _, classes in parts]))


def test_a_missing_file_says_where_it_was_looked_for_and_what_it_must_hold(tmp_path):
    with pytest.raises(FileNotFoundError) as error:
        read_images("notmnist", folder=tmp_path)
    message = str(error.value)
    for part in ("notmnist.npz", str(tmp_path), "SKOOD_DATA", "(5000, 28, 28)"):
        assert part in message


def test_a_file_with_another_checksum_is_refused_by_both_sums(small_archives):
    path = small_archives / "notmnist.npz"
    expected = sha256(path)
    path.write_bytes(path.read_bytes() + b"x")
    with pytest.raises(OSError, match=f"its SHA-256 sum is {sha256(path)}, not {expected}"):
        read_images("notmnist", folder=small_archives)


def test_a_file_that_was_replaced_is_checked_again(small_archives):
    path = small_archives / "notmnist.npz"
    read_images("notmnist", folder=small_archives)
    content = bytearray(path.read_bytes())
    content[-1] ^= 1
    path.write_bytes(content)
    os.utime(path, ns=(0, 0))
    with pytest.raises(OSError, match="SHA-256"):
        read_images("notmnist", folder=small_archives)


def test_a_file_is_summed_up_once(small_archives, monkeypatch):
    read_images("notmnist", folder=small_archives)
    monkeypatch.setattr(image_sets.hashlib, "file_digest", pytest.fail)
    read_images("notmnist", folder=small_archives)


@pytest.mark.parametrize("file", FILES)
def test_the_real_files_are_those_of_the_table(file):
    path = Path(os.environ.get("SKOOD_DATA", ""), file.name)
    if not path.is_file():
        pytest.skip(f"SKOOD_DATA names no folder with {file.name}")

    assert sha256(path) == file.sha256
    with np.load(path) as archive:
        y = archive["y"]
    assert len(y) == file.shape[0]
    classes = np.unique(y)
    np.testing.assert_array_equal(classes, np.arange(len(classes)))
