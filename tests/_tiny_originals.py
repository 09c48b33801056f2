"""Public sets of images in their original formats, a few random images of each."""

import bz2
import csv
import gzip
import pickle
import struct

import numpy as np
from PIL import Image
from scipy.io import savemat

N_IMAGES = 5
GREY, COLOUR = (1, 28, 28), (3, 32, 32)


def draw(shape, n_classes, seed=0, n_images=N_IMAGES):
    """Images, channels first, and classes, the last one among them."""
    rng = np.random.default_rng(seed)
    images = rng.integers(256, size=(n_images, *shape), dtype=np.uint8)
    labels = rng.integers(n_classes, size=n_images)
    labels[0] = n_classes - 1
    return images, labels


def write(path, content):
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(content)
    return path


# --------------------------------------------------------------------------------------
# Formats
# --------------------------------------------------------------------------------------


def idx(array):
    """Bytes of an IDX file."""
    header = struct.pack(f">{1 + array.ndim}I", 0x0800 + array.ndim, *array.shape)
    return header + array.astype(np.uint8).tobytes()


def write_idx(folder, stem, images, labels, *, packed=False):
    ending, pack = (".gz", gzip.compress) if packed else ("", bytes)
    write(folder / f"{stem}-images-idx3-ubyte{ending}", pack(idx(images[:, 0])))
    write(folder / f"{stem}-labels-idx1-ubyte{ending}", pack(idx(labels)))


def python2_batch(images, labels, label_key="labels"):
    """A batch as CIFAR's authors pickled it, with Python 2, protocol 2 and an old NumPy."""

    def text(value):
        return b"U" + bytes([len(value)]) + value.encode()

    def number(value):
        return b"J" + struct.pack("<i", value)

    pixels = images.reshape(len(images), -1)
    array = (
        b"cnumpy.core.multiarray\n_reconstruct\ncnumpy\nndarray\nK\x00\x85U\x01b\x87R"
        + b"(K\x01"
        + number(pixels.shape[0])
        + number(pixels.shape[1])
        + b"\x86cnumpy\ndtype\nU\x02u1K\x00K\x01\x87R"
        + b"(K\x03U\x01|NNNJ\xff\xff\xff\xffJ\xff\xff\xff\xffK\x00tb\x89T"
        + struct.pack("<i", pixels.size)
        + pixels.tobytes()
        + b"tb"
    )
    classes = b"](" + b"".join(number(label) for label in labels) + b"e"
    entries = text("batch_label") + text("testing batch 1 of 1") + text(label_key) + classes
    return b"\x80\x02}(" + entries + text("data") + array + b"u."


def python3_batch(images, labels, /, protocol=None, **entries):
    content = {"labels": labels.tolist(), "data": images.reshape(len(images), -1), **entries}
    return pickle.dumps(content, protocol)


def binary_batch(images, *labels):
    """Records of the given labels and the pixels."""
    pixels = images.reshape(len(images), -1)
    return np.column_stack([*labels, pixels]).astype(np.uint8).tobytes()


def write_svhn(path, images, labels):
    path.parent.mkdir(parents=True, exist_ok=True)
    digits = np.where(labels == 0, 10, labels)[:, np.newaxis]
    savemat(path, {"X": images.transpose(2, 3, 1, 0), "y": digits.astype(np.uint8)})


def svmlight(values, labels):
    """Text of USPS: classes from 1, features from 1."""
    rows = [
        " ".join([str(label + 1), *(f"{i}:{value:.9g}" for i, value in enumerate(row, start=1))])
        for row, label in zip(values, labels, strict=True)
    ]
    return ("\n".join(rows) + "\n").encode()


def save_image(path, image):
    """A picture, by its ending: channels first to a file."""
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(image.transpose(1, 2, 0)).save(path)


def write_signs(folder, images, labels):
    """The test images of GTSRB."""
    folder.mkdir(parents=True, exist_ok=True)
    with (folder / "GT-final_test.csv").open("w", newline="") as file:
        table = csv.writer(file, delimiter=";")
        table.writerow(["Filename", "Width", "Height", "ClassId"])
        for i, (image, label) in enumerate(zip(images, labels, strict=True)):
            table.writerow([f"{i:05d}.ppm", image.shape[2], image.shape[1], label])
            save_image(folder / f"GTSRB/Final_Test/Images/{i:05d}.ppm", image)


def write_textures(folder, subset, images, classes):
    """One list of the Describable Textures, as lossless images."""
    names = [f"{name}/{name}_{i:04d}_{subset}.png" for i, name in enumerate(classes)]
    for name, image in zip(names, images, strict=True):
        save_image(folder / "images" / name, image)
    write(folder / f"labels/{subset}1.txt", "\n".join(names).encode())


# --------------------------------------------------------------------------------------
# Data sets, as torchvision lays them out
# --------------------------------------------------------------------------------------


def write_mnist_like(folder):
    def write_set(home):
        parts = {"train": draw(GREY, 10, 1), "test": draw(GREY, 10, 2)}
        write_idx(home / folder / "raw", "train", *parts["train"])
        write_idx(home / folder / "raw", "t10k", *parts["test"], packed=True)
        return parts

    return write_set


def write_emnist(home):
    parts = {"train": draw(GREY, 26, 3), "test": draw(GREY, 26, 4)}
    for subset, (images, labels) in parts.items():
        stem = f"emnist-letters-{subset}"
        write_idx(home / "EMNIST/raw", stem, images.swapaxes(2, 3), labels + 1)
    return parts


def write_usps(home):
    parts = {}
    for subset, name in [("train", "usps.bz2"), ("test", "usps.t.bz2")]:
        images, labels = draw((1, 16, 16), 10, len(name))
        values = images.reshape(len(images), -1) / 127.5 - 1
        write(home / name, bz2.compress(svmlight(values, labels)))
        parts[subset] = images, labels
    return parts


def write_cifar10(home):
    train, test = draw(COLOUR, 10, 5, 10), draw(COLOUR, 10, 6)
    folder = home / "cifar-10-batches-py"
    for number in range(5):
        rows = slice(2 * number, 2 * number + 2)
        batch = python2_batch(train[0][rows], train[1][rows])
        write(folder / f"data_batch_{number + 1}", batch)
    write(folder / "test_batch", python2_batch(*test))
    return {"train": train, "test": test}


def write_cifar100(home):
    parts = {"train": draw(COLOUR, 100, 7), "test": draw(COLOUR, 100, 8)}
    for subset, part in parts.items():
        batch = python2_batch(*part, label_key="fine_labels")
        write(home / "cifar-100-python" / subset, batch)
    return parts


def write_all_svhn(home):
    parts = {}
    for seed, subset in enumerate(["train", "test", "extra"]):
        images, labels = draw(COLOUR, 10, seed)
        labels[-1] = 0
        write_svhn(home / f"{subset}_32x32.mat", images, labels)
        parts[subset] = images, labels
    return parts


def write_gtsrb(home):
    train, test = draw(COLOUR, 43, 9), draw(COLOUR, 43, 10)
    # The images of a folder have an order of their own.
    train = train[0][np.argsort(train[1])], np.sort(train[1])
    for i, (image, label) in enumerate(zip(*train, strict=True)):
        save_image(home / f"gtsrb/GTSRB/Training/{label:05d}/00000_{i:05d}.ppm", image)
    write_signs(home / "gtsrb", *test)
    return {"train": train, "test": test}


def write_dtd(home):
    names = {
        "train": ["banded", "zigzagged"],
        "val": ["banded", "woven"],
        "test": ["dotted", "woven"],
    }
    numbers = {"banded": 0, "dotted": 10, "woven": 44, "zigzagged": 46}
    parts = {}
    for seed, (subset, classes) in enumerate(names.items()):
        images, _ = draw(COLOUR, 47, seed, 2)
        write_textures(home / "dtd/dtd", subset, images, classes)
        parts[subset] = images, np.array([numbers[name] for name in classes])
    return {"train": parts["train"], "validation": parts["val"], "test": parts["test"]}


WRITERS = {
    "cifar10": write_cifar10,
    "cifar100": write_cifar100,
    "emnist_letters": write_emnist,
    "fashion_mnist": write_mnist_like("FashionMNIST"),
    "gtsrb": write_gtsrb,
    "kmnist": write_mnist_like("KMNIST"),
    "mnist": write_mnist_like("MNIST"),
    "svhn": write_all_svhn,
    "textures": write_dtd,
    "usps": write_usps,
}
"""By data set: writes it into a folder and returns, by subset, its images and classes."""
