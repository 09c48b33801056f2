"""fetch_*: public sets of images are read from their original files, and nothing else is."""

import bz2
import gzip
import hashlib
import inspect
import os
import pickle
import re
import struct
import sys
import types
import warnings

import numpy as np
import pytest
from _tiny_originals import (
    COLOUR,
    GREY,
    WRITERS,
    binary_batch,
    draw,
    idx,
    python2_batch,
    python3_batch,
    save_image,
    svmlight,
    write,
    write_idx,
    write_signs,
    write_svhn,
    write_textures,
)
from PIL import Image

from skood import datasets
from skood.datasets import (
    _idx,
    fetch_cifar10,
    fetch_cifar100,
    fetch_fashion_mnist,
    fetch_gtsrb,
    fetch_kmnist,
    fetch_mnist,
    fetch_svhn,
    fetch_textures,
    fetch_usps,
)
from skood.datasets._originals import ORIGINALS

SETS = [
    pytest.param(name, subset, id=f"{name}-{subset}")
    for name, original in ORIGINALS.items()
    for subset in original.subsets
]


@pytest.fixture(autouse=True)
def _no_data_of_the_machine(tmp_path, monkeypatch):
    """Neither its files nor its torchvision."""
    monkeypatch.delenv("SKOOD_DATA", raising=False)
    monkeypatch.setenv("HOME", str(tmp_path / "home"))
    monkeypatch.setenv("USERPROFILE", str(tmp_path / "home"))
    for module in ("torchvision", "torchvision.datasets"):
        monkeypatch.setitem(sys.modules, module, None)


def fetcher(name):
    return getattr(datasets, f"fetch_{name}")


def assert_is(fetched, images, labels):
    """Whether a Bunch holds these uint8 images and these classes."""
    assert fetched.data.dtype == np.float32
    assert fetched.data.flags.c_contiguous
    np.testing.assert_allclose(fetched.data, images / np.float32(255), rtol=0, atol=1e-7)
    assert fetched.target.dtype == np.int64
    np.testing.assert_array_equal(fetched.target, labels)


# --------------------------------------------------------------------------------------
# All data sets
# --------------------------------------------------------------------------------------


def test_every_public_fetcher_has_a_data_set():
    assert {f"fetch_{name}" for name in ORIGINALS} == {
        name for name in datasets.__all__ if name.startswith("fetch_")
    }


@pytest.mark.parametrize(("name", "subset"), SETS)
def test_images_and_classes_are_those_of_the_files(name, subset, tmp_path):
    parts = WRITERS[name](tmp_path)
    assert_is(fetcher(name)(subset=subset, data_home=tmp_path), *parts[subset])


@pytest.mark.parametrize("name", ORIGINALS)
def test_all_is_one_subset_after_the_other(name, tmp_path):
    parts = WRITERS[name](tmp_path)
    expected = [np.concatenate(arrays) for arrays in zip(*parts.values(), strict=True)]
    assert list(parts) == list(ORIGINALS[name].subsets)
    assert_is(fetcher(name)(subset="all", data_home=str(tmp_path)), *expected)


@pytest.mark.parametrize("name", ORIGINALS)
def test_a_bunch_names_the_classes_and_the_source(name, tmp_path):
    WRITERS[name](tmp_path)
    original = ORIGINALS[name]
    fetched = fetcher(name)(data_home=tmp_path)
    assert set(fetched) == {"data", "target", "target_names", "DESCR"}
    assert len(set(fetched.target_names)) == len(original.target_names)
    for text in (original.title, original.page, original.reference):
        assert text in fetched.DESCR


@pytest.mark.parametrize("name", ORIGINALS)
def test_a_tuple_holds_what_the_bunch_does(name, tmp_path):
    WRITERS[name](tmp_path)
    X, y = fetcher(name)(data_home=tmp_path, return_X_y=True)
    fetched = fetcher(name)(data_home=tmp_path)
    np.testing.assert_array_equal(X, fetched.data)
    np.testing.assert_array_equal(y, fetched.target)


@pytest.mark.parametrize(
    ("name", "index", "meaning"),
    [
        ("cifar10", 9, "truck"),
        ("cifar100", 53, "orange"),
        ("emnist_letters", 25, "z"),
        ("fashion_mnist", 8, "bag"),
        ("gtsrb", 14, "stop"),
        ("textures", 5, "chequered"),
    ],
)
def test_classes_have_their_official_numbers(name, index, meaning):
    assert ORIGINALS[name].target_names[index] == meaning


@pytest.mark.parametrize("name", ORIGINALS)
def test_fetchers_are_functions_of_their_own_name_and_parameters(name):
    fetch = fetcher(name)
    assert fetch.__name__ == fetch.__qualname__ == f"fetch_{name}"
    assert pickle.loads(pickle.dumps(fetch)) is fetch
    expected = ["subset", "data_home", "download_if_missing", "return_X_y"]
    if name in {"gtsrb", "textures"}:
        expected.insert(1, "image_size")
    parameters = inspect.signature(fetch).parameters
    assert list(parameters) == expected
    assert {parameter.kind for parameter in parameters.values()} == {inspect.Parameter.KEYWORD_ONLY}
    assert len(fetch.__doc__.splitlines()) > 50
    assert max(map(len, fetch.__doc__.splitlines())) <= 96


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"subset": "validation"}, "'subset' parameter of fetch_mnist must be a str among"),
        ({"data_home": 3}, "'data_home' parameter of fetch_mnist"),
        ({"download_if_missing": "no"}, "'download_if_missing' parameter of fetch_mnist"),
        ({"return_X_y": 2}, "'return_X_y' parameter of fetch_mnist"),
    ],
)
def test_other_values_of_parameters_are_refused(options, message):
    with pytest.raises(ValueError, match=message):
        fetch_mnist(**options)


@pytest.mark.parametrize("image_size", [0, -1, 2.5, None])
def test_impossible_sizes_of_images_are_refused(image_size):
    with pytest.raises(ValueError, match="'image_size' parameter of fetch_textures"):
        fetch_textures(image_size=image_size)


# --------------------------------------------------------------------------------------
# Where the files are
# --------------------------------------------------------------------------------------


@pytest.fixture
def one_image(tmp_path):
    """Folder with one test image of MNIST."""
    write_idx(tmp_path / "data/MNIST/raw", "t10k", *draw(GREY, 10, n_images=1))
    return tmp_path / "data"


def test_the_environment_variable_names_the_folder(one_image, monkeypatch):
    monkeypatch.setenv("SKOOD_DATA", str(one_image))
    assert len(fetch_mnist(subset="test").data) == 1


def test_the_argument_wins_over_the_environment_variable(one_image, monkeypatch):
    monkeypatch.setenv("SKOOD_DATA", str(one_image / "nowhere"))
    assert len(fetch_mnist(subset="test", data_home=one_image).data) == 1


@pytest.mark.parametrize("variable", [None, ""])
def test_the_default_folder_is_in_the_home_directory(variable, one_image, tmp_path, monkeypatch):
    if variable is not None:
        monkeypatch.setenv("SKOOD_DATA", variable)
    (tmp_path / "home").mkdir()
    one_image.rename(tmp_path / "home/skood_data")
    assert len(fetch_mnist(subset="test").data) == 1


def test_a_tilde_is_the_home_directory(one_image, tmp_path):
    one_image.rename(tmp_path / "home")
    assert len(fetch_mnist(subset="test", data_home="~").data) == 1


@pytest.mark.parametrize("folder", ["MNIST/raw", "MNIST", "."])
@pytest.mark.parametrize("packed", [False, True])
def test_idx_files_are_read_packed_or_not_with_or_without_folders(folder, packed, tmp_path):
    part = draw(GREY, 10)
    write_idx(tmp_path / folder, "t10k", *part, packed=packed)
    assert_is(fetch_mnist(subset="test", data_home=tmp_path), *part)


@pytest.mark.parametrize("folder", ["cifar-10-batches-bin", "."])
def test_binary_batches_of_cifar10_are_read(folder, tmp_path):
    images, labels = draw(COLOUR, 10, n_images=10)
    for i in range(5):
        rows = slice(2 * i, 2 * i + 2)
        path = tmp_path / folder / f"data_batch_{i + 1}.bin"
        write(path, binary_batch(images[rows], labels[rows]))
    assert_is(fetch_cifar10(data_home=tmp_path), images, labels)


def test_binary_batches_of_cifar100_are_read_with_their_fine_classes(tmp_path):
    images, labels = draw(COLOUR, 100)
    coarse = np.zeros_like(labels)
    write(tmp_path / "cifar-100-binary/test.bin", binary_batch(images, coarse, labels))
    assert_is(fetch_cifar100(subset="test", data_home=tmp_path), images, labels)


@pytest.mark.parametrize("name", ["usps.t.bz2", "usps.t", "usps/usps.t.bz2"])
def test_usps_is_read_packed_or_not_with_or_without_folder(name, tmp_path):
    images, labels = draw((1, 16, 16), 10)
    text = svmlight(images.reshape(len(images), -1) / 127.5 - 1, labels)
    write(tmp_path / name, bz2.compress(text) if name.endswith("bz2") else text)
    assert_is(fetch_usps(subset="test", data_home=tmp_path), images, labels)


def test_zeros_that_usps_leaves_out_are_grey(tmp_path):
    write(tmp_path / "usps.t", b"3 1:-1 256:1\n")
    X, y = fetch_usps(subset="test", data_home=tmp_path, return_X_y=True)
    assert X[0, 0, 0, 0] == 0
    assert X[0, 0, 15, 15] == 1
    assert np.all(X.ravel()[1:-1] == 0.5)
    np.testing.assert_array_equal(y, [2])


def test_a_zero_of_svhn_is_class_zero(tmp_path):
    images, _ = draw(COLOUR, 10, n_images=3)
    write_svhn(tmp_path / "svhn/test_32x32.mat", images, np.array([0, 9, 1]))
    assert_is(fetch_svhn(subset="test", data_home=tmp_path), images, [0, 9, 1])


def test_training_signs_of_the_competition_are_read(tmp_path):
    images, _ = draw(COLOUR, 43, n_images=2)
    for image, label in zip(images, ["00000", "00042"], strict=True):
        folder = tmp_path / "GTSRB/Final_Training/Images" / label
        save_image(folder / "00000_00000.ppm", image)
        write(folder / f"GT-{label}.csv", b"Filename;ClassId\n")
    assert_is(fetch_gtsrb(data_home=tmp_path), images, [0, 42])


# --------------------------------------------------------------------------------------
# Resizing
# --------------------------------------------------------------------------------------


def test_signs_are_stretched_to_the_size(tmp_path):
    wide = np.zeros((3, 20, 40), dtype=np.uint8)
    wide[:, :, 20:] = 255
    write_signs(tmp_path, [wide], [7])
    X, _ = fetch_gtsrb(subset="test", image_size=8, data_home=tmp_path, return_X_y=True)
    assert X.shape == (1, 3, 8, 8)
    assert np.all(X[..., :3] == 0)
    assert np.all(X[..., 5:] == 1)


def test_textures_keep_their_proportions_and_lose_what_is_outside_the_middle(tmp_path):
    wide = np.zeros((3, 20, 60), dtype=np.uint8)
    wide[:, :, :15] = 255  # none of it is near the middle square
    wide[0, :10] = 255
    write_textures(tmp_path, "test", [wide], ["dotted"])
    X, _ = fetch_textures(subset="test", image_size=10, data_home=tmp_path, return_X_y=True)
    assert X.shape == (1, 3, 10, 10)
    assert np.all(X[0, 1:] == 0)
    assert np.all(X[0, 0, :4] == 1)
    assert np.all(X[0, 0, 6:] == 0)


def test_reduced_images_are_averages_without_aliasing(tmp_path):
    stripes = np.zeros((3, 64, 64), dtype=np.uint8)
    stripes[:, :, ::2] = 200
    write_textures(tmp_path, "test", [stripes], ["striped"])
    X, _ = fetch_textures(subset="test", image_size=8, data_home=tmp_path, return_X_y=True)
    np.testing.assert_allclose(X[..., 1:-1] * 255, 100, atol=2)


def test_grey_pictures_get_three_equal_channels(tmp_path):
    write(tmp_path / "labels/test1.txt", b"woven/a.png\n")
    (tmp_path / "images/woven").mkdir(parents=True)
    Image.new("L", (40, 40), 51).save(tmp_path / "images/woven/a.png")
    X, _ = fetch_textures(subset="test", data_home=tmp_path, return_X_y=True)
    assert X.shape == (1, 3, 32, 32)
    np.testing.assert_allclose(X, 0.2)


# --------------------------------------------------------------------------------------
# Missing files, and torchvision as their downloader
# --------------------------------------------------------------------------------------


@pytest.fixture
def torchvision(monkeypatch):
    """A torchvision that notes its calls and runs a function of the test instead of a download."""
    calls = []
    module = types.ModuleType("torchvision.datasets")

    def offer(name, download):
        def construct(**arguments):
            calls.append((name, arguments))
            download()

        setattr(module, name, construct)

    module.calls, module.offer = calls, offer
    monkeypatch.setitem(sys.modules, "torchvision", types.ModuleType("torchvision"))
    monkeypatch.setitem(sys.modules, "torchvision.datasets", module)
    return module


OPTIONS = {
    ("cifar10", "train"): ("CIFAR10", {"train": True}),
    ("cifar10", "test"): ("CIFAR10", {"train": False}),
    ("cifar100", "train"): ("CIFAR100", {"train": True}),
    ("cifar100", "test"): ("CIFAR100", {"train": False}),
    ("emnist_letters", "train"): ("EMNIST", {"split": "letters", "train": True}),
    ("emnist_letters", "test"): ("EMNIST", {"split": "letters", "train": False}),
    ("fashion_mnist", "train"): ("FashionMNIST", {"train": True}),
    ("fashion_mnist", "test"): ("FashionMNIST", {"train": False}),
    ("gtsrb", "train"): ("GTSRB", {"split": "train"}),
    ("gtsrb", "test"): ("GTSRB", {"split": "test"}),
    ("kmnist", "train"): ("KMNIST", {"train": True}),
    ("kmnist", "test"): ("KMNIST", {"train": False}),
    ("mnist", "train"): ("MNIST", {"train": True}),
    ("mnist", "test"): ("MNIST", {"train": False}),
    ("svhn", "train"): ("SVHN", {"split": "train"}),
    ("svhn", "test"): ("SVHN", {"split": "test"}),
    ("svhn", "extra"): ("SVHN", {"split": "extra"}),
    ("textures", "train"): ("DTD", {"split": "train"}),
    ("textures", "validation"): ("DTD", {"split": "val"}),
    ("textures", "test"): ("DTD", {"split": "test"}),
    ("usps", "train"): ("USPS", {"train": True}),
    ("usps", "test"): ("USPS", {"train": False}),
}


@pytest.mark.parametrize(("name", "subset"), SETS)
def test_missing_files_are_downloaded_by_torchvision_and_read(name, subset, tmp_path, torchvision):
    class_name, options = OPTIONS[name, subset]
    parts = {}
    torchvision.offer(class_name, lambda: parts.update(WRITERS[name](tmp_path)))
    fetched = fetcher(name)(subset=subset, data_home=tmp_path)
    assert_is(fetched, *parts[subset])
    arguments = {"root": str(tmp_path), "download": True, **options}
    assert torchvision.calls == [(class_name, arguments)]


def test_downloads_go_to_the_folder_of_the_environment_variable(tmp_path, monkeypatch, torchvision):
    monkeypatch.setenv("SKOOD_DATA", str(tmp_path / "of_env"))
    torchvision.offer("USPS", lambda: WRITERS["usps"](tmp_path / "of_env"))
    fetch_usps()
    assert torchvision.calls[0][1]["root"] == str(tmp_path / "of_env")


def test_files_that_are_there_are_not_downloaded_again(tmp_path, torchvision):
    WRITERS["cifar10"](tmp_path)
    fetch_cifar10(subset="all", data_home=tmp_path)
    assert torchvision.calls == []


def test_one_missing_file_of_many_is_enough_for_a_download(tmp_path, torchvision):
    WRITERS["cifar10"](tmp_path)
    (tmp_path / "cifar-10-batches-py/data_batch_3").unlink()
    torchvision.offer("CIFAR10", lambda: WRITERS["cifar10"](tmp_path))
    assert len(fetch_cifar10(data_home=tmp_path).data) == 10
    assert len(torchvision.calls) == 1


@pytest.mark.parametrize("name", ORIGINALS)
def test_nothing_is_downloaded_if_that_is_not_wanted(name, tmp_path, torchvision):
    with pytest.raises(FileNotFoundError, match="download_if_missing=True") as error:
        fetcher(name)(data_home=tmp_path, download_if_missing=False)
    assert ORIGINALS[name].title in str(error.value)
    assert torchvision.calls == []
    assert not [*tmp_path.iterdir()]


def test_without_torchvision_the_error_names_both_ways_to_get_the_files(tmp_path):
    with pytest.raises(FileNotFoundError) as error:
        fetch_mnist(data_home=tmp_path)
    message = str(error.value)
    for part in (
        "'train-images-idx3-ubyte[.gz]', 'train-labels-idx1-ubyte[.gz]'",
        f"'{tmp_path / 'MNIST' / 'raw'}'",
        "http://yann.lecun.com/exdb/mnist/",
        "data_home",
        "SKOOD_DATA",
        "needs torchvision, which is not installed",
    ):
        assert part in message
    assert isinstance(error.value.__cause__, ImportError)


def test_the_error_names_only_what_is_missing_where_most_of_it_is(tmp_path):
    folder = tmp_path / "cifar-10-batches-bin"
    for i in (1, 2, 4, 5):
        write(folder / f"data_batch_{i}.bin", b"x")
    with pytest.raises(FileNotFoundError) as error:
        fetch_cifar10(data_home=tmp_path)
    assert f"missing: 'data_batch_3.bin' in '{folder}' (or" in str(error.value)


def test_a_download_that_fails_says_why_and_what_else_to_do(tmp_path, torchvision):
    def fail():
        raise RuntimeError("no server answers")

    torchvision.offer("KMNIST", fail)
    with pytest.raises(OSError, match="could not download KMNIST: no server answers") as error:
        fetch_kmnist(data_home=tmp_path)
    assert "https://codh.rois.ac.jp/kmnist/" in str(error.value)


def test_a_download_that_brings_nothing_is_an_error(tmp_path, torchvision):
    torchvision.offer("SVHN", lambda: None)
    with pytest.raises(FileNotFoundError, match="torchvision has not downloaded them"):
        fetch_svhn(data_home=tmp_path)


def test_all_files_are_found_before_any_is_read(tmp_path):
    write_idx(tmp_path, "train", *draw(GREY, 10))
    (tmp_path / "train-images-idx3-ubyte").write_bytes(b"damaged")
    with pytest.raises(FileNotFoundError, match="t10k-images"):
        fetch_mnist(subset="all", data_home=tmp_path)


@pytest.mark.parametrize("name", ["gtsrb", "textures"])
def test_pictures_need_pillow_and_say_so(name, tmp_path, monkeypatch):
    WRITERS[name](tmp_path)
    monkeypatch.setitem(sys.modules, "PIL.Image", None)
    with pytest.raises(
        ImportError, match="Reading folders of images needs pillow, which is not installed"
    ):
        fetcher(name)(data_home=tmp_path)


# --------------------------------------------------------------------------------------
# Damaged and foreign files
# --------------------------------------------------------------------------------------


@pytest.fixture
def mnist_files(tmp_path):
    write_idx(tmp_path, "t10k", *draw(GREY, 10))
    return tmp_path


IMAGES, LABELS = "t10k-images-idx3-ubyte", "t10k-labels-idx1-ubyte"
FIVE_IMAGES = idx(np.zeros((5, 28, 28)))


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        (IMAGES, b"\x89PNG\r\n", "begins with 89504e47, expected 00000803"),
        (IMAGES, b"", "begins with nothing, expected 00000803"),
        (IMAGES, idx(np.zeros(5)), "begins with 00000801, expected 00000803"),
        (LABELS, FIVE_IMAGES, "begins with 00000803, expected 00000801"),
        # Of 4-byte integers.
        (LABELS, b"\x00\x00\x0c\x01" + bytes(24), "begins with 00000c01"),
        (IMAGES, FIVE_IMAGES[:10], "ends within its header of 16 bytes"),
        (IMAGES, FIVE_IMAGES[:-1], r"holds 3935 bytes, expected 3936: .* shape \(5, 28, 28\)"),
        (IMAGES, FIVE_IMAGES + b"x", "holds 3937 bytes, expected 3936"),
        # The axes in the other order of bytes.
        (IMAGES, FIVE_IMAGES[:4] + struct.pack("<3I", 5, 28, 28) + FIVE_IMAGES[16:], "announces"),
        # A header that announces more than any memory holds.
        (IMAGES, FIVE_IMAGES[:4] + b"\xff" * 12 + FIVE_IMAGES[16:], "expected 79228162"),
        (IMAGES, idx(np.zeros((5, 32, 28))), "images of 32 x 28 pixels, expected 28 x 28"),
        (LABELS, idx(np.zeros(4)), "5 images and 4 labels"),
        (IMAGES, idx(np.zeros((0, 28, 28))), "0 images and 5 labels"),
        (LABELS, idx(np.full(5, 10)), "10 classes of MNIST: 5 of 5 are out of range"),
    ],
)
def test_idx_files_that_are_not_those_of_mnist_are_refused(name, content, message, mnist_files):
    write(mnist_files / name, content)
    with pytest.raises(ValueError, match=message) as error:
        fetch_mnist(subset="test", data_home=mnist_files)
    assert str(mnist_files / name) in str(error.value)


@pytest.mark.parametrize(
    "content",
    [b"not packed", gzip.compress(FIVE_IMAGES)[:-9], gzip.compress(FIVE_IMAGES)[:12]],
    # A compressed file tells when it was made, which would be part of the name of the test.
    ids=["not packed", "cut off", "header alone"],
)
def test_damaged_gzip_files_are_refused(content, mnist_files):
    (mnist_files / IMAGES).unlink()
    path = write(mnist_files / f"{IMAGES}.gz", content)
    with pytest.raises(ValueError, match=f"'{re.escape(str(path))}' is no whole gzip file"):
        fetch_mnist(subset="test", data_home=mnist_files)


def test_idx_files_without_images_are_refused(mnist_files):
    write(mnist_files / IMAGES, idx(np.zeros((0, 28, 28))))
    write(mnist_files / LABELS, idx(np.zeros(0)))
    with pytest.raises(ValueError, match="There are no images in") as error:
        fetch_mnist(subset="test", data_home=mnist_files)
    assert str(mnist_files / IMAGES) in str(error.value)


@pytest.mark.parametrize("name", [IMAGES, f"{IMAGES}.gz"])
def test_folders_in_the_place_of_idx_files_are_named(name, mnist_files):
    (mnist_files / IMAGES).unlink()
    (mnist_files / name).mkdir()
    with pytest.raises(OSError, match=re.escape(str(mnist_files / name))):
        fetch_mnist(subset="test", data_home=mnist_files)


def test_files_of_another_set_with_the_same_names_are_refused(mnist_files, monkeypatch):
    labels = (mnist_files / LABELS).read_bytes()
    monkeypatch.setitem(_idx._OWNERS, hashlib.sha256(labels).hexdigest(), "Fashion-MNIST")
    with pytest.raises(ValueError, match="labels of Fashion-MNIST, expected those of MNIST"):
        fetch_mnist(subset="test", data_home=mnist_files)
    assert len(fetch_fashion_mnist(subset="test", data_home=mnist_files).data) == 5


def test_letters_of_emnist_with_a_label_of_no_letter_are_refused(tmp_path):
    images, labels = draw(GREY, 26)
    write_idx(tmp_path, "emnist-letters-test", images, labels * 0)
    with pytest.raises(ValueError, match="26 classes of EMNIST letters"):
        datasets.fetch_emnist_letters(subset="test", data_home=tmp_path)


def read_cifar10(folder, content):
    path = write(folder / "test_batch", content)
    with pytest.raises(ValueError, match=re.escape(f"'{path}'")) as error:
        fetch_cifar10(subset="test", data_home=folder)
    return str(error.value)


BATCH = draw(COLOUR, 10)


def test_a_batch_of_python_2_is_what_other_unpicklers_take_it_for():
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        content = pickle.loads(python2_batch(*BATCH), encoding="latin1")
    np.testing.assert_array_equal(content["data"].reshape(BATCH[0].shape), BATCH[0])
    np.testing.assert_array_equal(content["labels"], BATCH[1])


@pytest.mark.parametrize("protocol", range(pickle.HIGHEST_PROTOCOL + 1))
def test_batches_that_were_pickled_anew_are_read(protocol, tmp_path):
    images, labels = BATCH
    write(tmp_path / "test_batch", python3_batch(images, labels, protocol=protocol))
    assert_is(fetch_cifar10(subset="test", data_home=tmp_path), images, labels)


def test_batches_with_keys_of_bytes_and_an_array_of_labels_are_read(tmp_path):
    images, labels = BATCH
    content = {b"data": images.reshape(len(images), -1), b"labels": labels}
    write(tmp_path / "test_batch", pickle.dumps(content))
    assert_is(fetch_cifar10(subset="test", data_home=tmp_path), images, labels)


class Call:
    """Pickled as a call of a function."""

    def __init__(self, function, *arguments):
        self.call = function, arguments

    def __reduce__(self):
        return self.call


@pytest.mark.parametrize("key", ["filenames", "data", "labels"])
@pytest.mark.parametrize("protocol", [0, 2, 4, 5])
def test_a_batch_that_calls_a_function_is_refused_and_the_function_not_run(key, protocol, tmp_path):
    victim = tmp_path / "made_by_the_pickle"
    content = {"data": BATCH[0].reshape(5, -1), "labels": [0] * 5, key: Call(os.mkdir, str(victim))}
    message = read_cifar10(tmp_path, pickle.dumps(content, protocol))
    assert f"asks for {os.mkdir.__module__}.mkdir, which no batch needs" in message
    assert not victim.exists()


@pytest.mark.parametrize(
    "call",
    [
        Call(eval, "1"),
        Call(getattr, "text", "format"),
        Call(np.load, "x"),
        Call(np.frombuffer, b"x"),
        Call(type(BATCH), (1,)),
    ],
    ids=lambda call: call.call[0].__name__,
)
def test_no_other_name_is_looked_up_not_even_of_numpy(call, tmp_path):
    message = read_cifar10(tmp_path, pickle.dumps({"data": call, "labels": []}))
    assert "which no batch needs" in message


def test_no_codec_but_that_of_bytes_is_looked_up(tmp_path):
    batch = b"c_codecs\nencode\n(Vabc\nVrot13\ntR."
    assert "asks for the codec 'rot13'" in read_cifar10(tmp_path, batch)


def test_arrays_of_objects_are_refused(tmp_path):
    content = {"data": np.array([None]), "labels": [1]}
    assert "asks for an array of object" in read_cifar10(tmp_path, pickle.dumps(content))


@pytest.mark.parametrize(
    "batch",
    [
        # Calls numpy.ndarray, whose memory holds anything.
        b"(dS'data'\ncnumpy\nndarray\n((I3\nI3072\ntS'u1'\ntRsS'labels'\n(lI1\naI2\naI3\nas.",
        # The same as a new object of that class.
        b"\x80\x02}(U\x04datacnumpy\nndarray\nK\x03M\x00\x0c\x86\x85\x81U\x06labels]u.",
    ],
    ids=["called", "made"],
)
def test_arrays_without_their_values_are_refused(batch, tmp_path):
    assert "no pickled batch of CIFAR, or a damaged one" in read_cifar10(tmp_path, batch)


def test_an_array_that_gets_no_values_has_none(tmp_path):
    start = b"cnumpy.core.multiarray\n_reconstruct\n(cnumpy\nndarray\n(I3\nI3072\ntS'b'\ntR"
    batch = b"(dS'data'\n" + start + b"sS'labels'\n(lI1\naI2\naI3\nas."
    assert "got uint8 of shape (0,)" in read_cifar10(tmp_path, batch)


def test_a_pickle_cannot_change_what_it_is_given(tmp_path):
    # Takes the defaults from the function that stands in for numpy.dtype.
    batch = b"\x80\x02cnumpy\ndtype\nN}(U\x0c__defaults__)u\x86b."
    read_cifar10(tmp_path, batch)
    write(tmp_path / "test_batch", python2_batch(*BATCH))
    assert_is(fetch_cifar10(subset="test", data_home=tmp_path), *BATCH)
    write(tmp_path / "test_batch", b"\x80\x02cnumpy\ndtype\nU\x02u1\x85R.")
    with pytest.raises(ValueError, match="holds UInt8DType"):
        fetch_cifar10(subset="test", data_home=tmp_path)


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"", "no pickled batch of CIFAR, or a damaged one"),
        (b"no pickle", "no pickled batch of CIFAR, or a damaged one"),
        (python2_batch(*BATCH)[:-20], "no pickled batch of CIFAR, or a damaged one"),
        (python3_batch(*BATCH)[:-1], "no pickled batch of CIFAR, or a damaged one"),
        (pickle.dumps([1, 2]), "holds list, expected a dictionary with 'data' and 'labels'"),
        (pickle.dumps({}), "holds dict, expected a dictionary"),
        (
            python2_batch(*BATCH, label_key="fine_labels"),
            "holds ['batch_label', 'data', 'fine_labels'], expected a dictionary with 'data' and "
            "'labels'",
        ),
        (
            python3_batch(*BATCH, data="text"),
            "shape (n_samples, 3072) with at least one sample, got str",
        ),
        (python3_batch(*draw(GREY, 10)), "got uint8 of shape (5, 784)"),
        (python3_batch(*BATCH, data=np.zeros((5, 3072), int)), "got int64 of shape (5, 3072)"),
        (python3_batch(*BATCH, labels=[1, 2]), "'labels' in"),
        (
            python3_batch(*BATCH, data=np.empty((0, 3072), np.uint8), labels=[]),
            "least one sample, got uint8 of shape (0, 3072)",
        ),
        (python3_batch(*BATCH, labels=["1"] * 5), "must be a list of 5 integers"),
        (python3_batch(*BATCH, labels=[True] * 5), "must be a list of 5 integers"),
        (python3_batch(*BATCH, labels=[10] * 5), "10 classes of CIFAR-10: 5 of 5"),
        (python3_batch(*BATCH, labels=[-1] * 5), "must be a list of 5 integers from 0 to 255"),
        (python3_batch(*BATCH, labels=[2**70] * 5), "must be a list of 5 integers"),
    ],
)
def test_batches_that_are_damaged_or_of_something_else_are_refused(content, message, tmp_path):
    assert message in read_cifar10(tmp_path, content)


def test_binary_batches_of_another_size_are_refused(tmp_path):
    images, labels = draw(COLOUR, 100)
    path = tmp_path / "cifar-100-binary/test.bin"
    for content in (b"", binary_batch(images, labels), binary_batch(images, labels, labels)[1:]):
        write(path, content)
        with pytest.raises(ValueError, match="expected a multiple of 3074") as error:
            fetch_cifar100(subset="test", data_home=tmp_path)
        assert str(path) in str(error.value)


def refuse_svhn(folder, message, **variables):
    from scipy.io import savemat

    path = folder / "test_32x32.mat"
    savemat(path, variables)
    with pytest.raises(ValueError, match=message) as error:
        fetch_svhn(subset="test", data_home=folder)
    assert str(path) in str(error.value)


X = np.zeros((32, 32, 3, 4), dtype=np.uint8)
Y = np.ones((4, 1), dtype=np.uint8)


@pytest.mark.parametrize(
    ("variables", "message"),
    [
        ({"data": X, "y": Y}, r"holds \['data', 'y'\], expected 'X' and 'y'"),
        ({"X": X}, r"holds \['X'\], expected 'X' and 'y'"),
        ({"X": X[:28], "y": Y}, r"must be uint8 of shape \(32, 32, 3, n_samples\), got uint8"),
        ({"X": X.astype(float), "y": Y}, "got float64 of shape"),
        ({"X": X, "y": Y[:3]}, r"integers of shape \(4, 1\), got uint8 of shape \(3, 1\)"),
        ({"X": X, "y": Y / 2}, "got float64"),
        ({"X": X, "y": Y * 0}, "y in .* must be from 1 to 10"),
        ({"X": X, "y": Y * 11}, "y in .* must be from 1 to 10"),
    ],
)
def test_matlab_files_of_something_else_are_refused(variables, message, tmp_path):
    refuse_svhn(tmp_path, message, **variables)


def test_damaged_matlab_files_are_refused(tmp_path):
    write_svhn(tmp_path / "test_32x32.mat", *draw(COLOUR, 10))
    whole = (tmp_path / "test_32x32.mat").read_bytes()
    for content in (b"", b"text", whole[:300], whole[:-4000]):
        path = write(tmp_path / "test_32x32.mat", content)
        with pytest.raises(ValueError, match="is no MATLAB file, or a damaged one") as error:
            fetch_svhn(subset="test", data_home=tmp_path)
        assert str(path) in str(error.value)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        (b"1 1:2\n", "must be from -1 to 1"),
        (b"1 1:nan\n", "must be from -1 to 1"),
        (b"0 1:0.5\n", "must be the integers 1 to 10"),
        (b"11 1:0.5\n", "must be the integers 1 to 10"),
        (b"1.5 1:0.5\n", "must be the integers 1 to 10"),
        (b"", "There are no images in"),
        (b"1 257:0.5\n", "no file of 256 features in the svmlight format"),
        (b"1 0:0.5\n", "no file of 256 features in the svmlight format"),
        (b"\x00\x01\x02\x03 x", "no file of 256 features in the svmlight format"),
    ],
)
def test_usps_files_of_something_else_are_refused(text, message, tmp_path):
    path = write(tmp_path / "usps.t", text)
    with pytest.raises(ValueError, match=message) as error:
        fetch_usps(subset="test", data_home=tmp_path)
    assert str(path) in str(error.value)


def test_damaged_bzip2_files_are_refused(tmp_path):
    images, labels = draw((1, 16, 16), 10)
    whole = bz2.compress(svmlight(images.reshape(len(images), -1) / 127.5 - 1, labels))
    for content in (b"not packed", whole[: len(whole) // 2]):
        write(tmp_path / "usps.t.bz2", content)
        with pytest.raises(ValueError, match=r"usps\.t\.bz2' is no file of 256 features"):
            fetch_usps(subset="test", data_home=tmp_path)


def test_pictures_that_are_damaged_are_refused_by_name(tmp_path):
    write_signs(tmp_path, *draw(COLOUR, 43))
    path = tmp_path / "GTSRB/Final_Test/Images/00003.ppm"
    for content in (b"", b"no picture", path.read_bytes()[:-10]):
        write(path, content)
        with pytest.raises(ValueError, match=r"00003\.ppm' is no image, or a damaged one"):
            fetch_gtsrb(subset="test", data_home=tmp_path)


@pytest.mark.parametrize(
    ("table", "message"),
    [
        ("", "must be a table with the columns"),
        ("Filename,ClassId\n00000.ppm,1\n", "must be a table with the columns"),
        ("Filename;ClassId\n00000.ppm;one\n", "is of the class 'one', expected an integer"),
        ("\xff\n", "is no text in UTF-8"),
        ("Filename;ClassId\n00000.ppm;43\n", "43 classes of GTSRB: 1 of 1 are out of range"),
    ],
)
def test_tables_of_signs_that_make_no_sense_are_refused(table, message, tmp_path):
    write_signs(tmp_path, *draw(COLOUR, 43))
    write(tmp_path / "GT-final_test.csv", table.encode("latin1"))
    with pytest.raises(ValueError, match=message) as error:
        fetch_gtsrb(subset="test", data_home=tmp_path)
    assert str(tmp_path / "GT-final_test.csv") in str(error.value)


def test_a_picture_that_is_listed_and_missing_is_named(tmp_path):
    write_signs(tmp_path, *draw(COLOUR, 43))
    (tmp_path / "GTSRB/Final_Test/Images/00002.ppm").unlink()
    with pytest.raises(FileNotFoundError, match=r"lists '00002\.ppm', which is not in"):
        fetch_gtsrb(subset="test", data_home=tmp_path)


def test_folders_without_pictures_or_of_no_class_are_refused(tmp_path):
    folder = tmp_path / "GTSRB/Training"
    folder.mkdir(parents=True)
    with pytest.raises(ValueError, match="holds no images"):
        fetch_gtsrb(data_home=tmp_path)
    save_image(folder / "stop/1.ppm", draw(COLOUR, 43)[0][0])
    with pytest.raises(ValueError, match="is of the class 'stop', expected an integer"):
        fetch_gtsrb(data_home=tmp_path)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        (b"\n", "lists no images"),
        (b"\xff\xfe", r"labels/test1\.txt' is no text in UTF-8"),
        (b"marbles/1.jpg\n", "holds the line 'marbles/1.jpg', expected 'class/file'"),
    ],
)
def test_lists_of_textures_that_make_no_sense_are_refused(text, message, tmp_path):
    write_textures(tmp_path, "test", draw(COLOUR, 47, n_images=1)[0], ["woven"])
    write(tmp_path / "labels/test1.txt", text)
    with pytest.raises(ValueError, match=message):
        fetch_textures(subset="test", data_home=tmp_path)
