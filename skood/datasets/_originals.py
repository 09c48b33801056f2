"""The public sets of images: what they hold, how their files are laid out, where they come from."""

import string
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any, TypeAlias

from ._arrays import Images, Labels
from ._cifar import read_cifar_binaries, read_cifar_pickles
from ._idx import read_idx
from ._image_folders import read_listed_signs, read_listed_textures, read_sign_folders
from ._svhn import read_svhn
from ._usps import read_usps

Reader: TypeAlias = Callable[..., tuple[Images, Labels]]


@dataclass(frozen=True)
class Layout:
    """Files that a subset can be read from, all of them in one of some folders."""

    folders: Sequence[str]
    """Below ``data_home``, the one that torchvision uses first."""
    names: Sequence[str]
    read: Reader
    """Called with the paths of the files."""
    endings: Sequence[str] = ("",)
    """What may follow a name."""

    def find(self, folder: Path) -> list[Path | None]:
        """Path of each file that is there; None for one that is not."""
        return [
            next((path for end in self.endings if (path := folder / (name + end)).exists()), None)
            for name in self.names
        ]


@dataclass(frozen=True)
class Subset:
    """A part of a data set that has files of its own."""

    n_samples: int
    layouts: Sequence[Layout]
    """Tried in order."""
    download_options: Mapping[str, Any]
    """Arguments of torchvision's class that make it download the files."""


@dataclass(frozen=True)
class Original:
    """A data set, as its authors published it."""

    title: str
    summary: str
    description: str
    shape: tuple[int | str, int | str, int | str]
    """Channels, height and width, as numbers or by the name of the parameter that sets them."""
    target: str
    """What ``target`` counts."""
    target_names: Sequence[str]
    subsets: Mapping[str, Subset]
    torchvision_class: str
    page: str
    licence: str
    reference: str
    resizing: str = field(default="", kw_only=True)
    """How the images are resized, where they come in many sizes."""


def _idx_subset(
    title: str,
    n_samples: int,
    folder: str,
    stem: str,
    download_options: dict[str, Any],
    **options: Any,
) -> Subset:
    layout = Layout(
        folders=(f"{folder}/raw", folder, ""),
        names=(f"{stem}-images-idx3-ubyte", f"{stem}-labels-idx1-ubyte"),
        read=partial(read_idx, title=title, **options),
        endings=("", ".gz"),
    )
    return Subset(n_samples, (layout,), download_options)


def _mnist_like(title: str, folder: str) -> dict[str, Subset]:
    return {
        "train": _idx_subset(title, 60_000, folder, "train", {"train": True}),
        "test": _idx_subset(title, 10_000, folder, "t10k", {"train": False}),
    }


def _emnist_letters(subset: str, n_samples: int) -> Subset:
    return _idx_subset(
        "EMNIST letters",
        n_samples,
        "EMNIST",
        f"emnist-letters-{subset}",
        {"split": "letters", "train": subset == "train"},
        first_label=1,
        is_transposed=True,
    )


def _cifar10(n_samples: int, names: Sequence[str], *, is_train: bool) -> Subset:
    pickled = Layout(
        ("cifar-10-batches-py", ""), names, partial(read_cifar_pickles, label_key="labels")
    )
    binary = Layout(
        ("cifar-10-batches-bin", ""),
        [f"{name}.bin" for name in names],
        partial(read_cifar_binaries, n_labels=1, label_column=0),
    )
    return Subset(n_samples, (pickled, binary), {"train": is_train})


def _cifar100(n_samples: int, name: str) -> Subset:
    pickled = Layout(
        ("cifar-100-python", ""), (name,), partial(read_cifar_pickles, label_key="fine_labels")
    )
    # The first of the two labels is the class of classes.
    binary = Layout(
        ("cifar-100-binary", ""),
        (f"{name}.bin",),
        partial(read_cifar_binaries, n_labels=2, label_column=1),
    )
    return Subset(n_samples, (pickled, binary), {"train": name == "train"})


def _svhn(subset: str, n_samples: int) -> Subset:
    layout = Layout(("", "svhn", "SVHN"), (f"{subset}_32x32.mat",), read_svhn)
    return Subset(n_samples, (layout,), {"split": subset})


def _usps(name: str, n_samples: int, *, is_train: bool) -> Subset:
    layout = Layout(("", "usps", "USPS"), (name,), read_usps, endings=(".bz2", ""))
    return Subset(n_samples, (layout,), {"train": is_train})


def _signs(subset: str, n_samples: int, reader: Reader, *alternatives: Sequence[str]) -> Subset:
    layouts = [Layout(("gtsrb", ""), names, reader) for names in alternatives]
    return Subset(n_samples, layouts, {"split": subset})


def _textures(subset: str) -> Subset:
    layout = Layout(
        ("dtd/dtd", "dtd", ""),
        (f"labels/{subset}1.txt", "images"),
        partial(read_listed_textures, classes=_TEXTURES),
    )
    return Subset(1_880, (layout,), {"split": subset})


_GARMENTS = (
    "T-shirt/top", "trouser", "pullover", "dress", "coat",
    "sandal", "shirt", "sneaker", "bag", "ankle boot",
)  # fmt: skip
_CIFAR10 = (
    "airplane", "automobile", "bird", "cat", "deer", "dog", "frog", "horse", "ship", "truck",
)  # fmt: skip
_CIFAR100 = (
    "apple", "aquarium_fish", "baby", "bear", "beaver", "bed", "bee", "beetle", "bicycle", "bottle",
    "bowl", "boy", "bridge", "bus", "butterfly", "camel", "can", "castle", "caterpillar", "cattle",
    "chair", "chimpanzee", "clock", "cloud", "cockroach", "couch", "crab", "crocodile", "cup",
    "dinosaur", "dolphin", "elephant", "flatfish", "forest", "fox", "girl", "hamster", "house",
    "kangaroo", "keyboard", "lamp", "lawn_mower", "leopard", "lion", "lizard", "lobster", "man",
    "maple_tree", "motorcycle", "mountain", "mouse", "mushroom", "oak_tree", "orange", "orchid",
    "otter", "palm_tree", "pear", "pickup_truck", "pine_tree", "plain", "plate", "poppy",
    "porcupine", "possum", "rabbit", "raccoon", "ray", "road", "rocket", "rose", "sea", "seal",
    "shark", "shrew", "skunk", "skyscraper", "snail", "snake", "spider", "squirrel", "streetcar",
    "sunflower", "sweet_pepper", "table", "tank", "telephone", "television", "tiger", "tractor",
    "train", "trout", "tulip", "turtle", "wardrobe", "whale", "willow_tree", "wolf", "woman",
    "worm",
)  # fmt: skip
_SIGNS = (
    "speed limit 20", "speed limit 30", "speed limit 50", "speed limit 60", "speed limit 70",
    "speed limit 80", "end of speed limit 80", "speed limit 100", "speed limit 120", "no passing",
    "no passing for lorries", "right of way at next crossing", "priority road", "yield", "stop",
    "no vehicles", "no lorries", "no entry", "danger", "bend to the left", "bend to the right",
    "double bend", "bumpy road", "slippery road", "road narrows", "road works", "traffic lights",
    "pedestrians", "children", "bicycles", "ice or snow", "wild animals", "end of all limits",
    "turn right ahead", "turn left ahead", "ahead only", "ahead or right", "ahead or left",
    "keep right", "keep left", "roundabout", "end of no passing", "end of no passing for lorries",
)  # fmt: skip
_TEXTURES = (
    "banded", "blotchy", "braided", "bubbly", "bumpy", "chequered", "cobwebbed", "cracked",
    "crosshatched", "crystalline", "dotted", "fibrous", "flecked", "freckled", "frilly", "gauzy",
    "grid", "grooved", "honeycombed", "interlaced", "knitted", "lacelike", "lined", "marbled",
    "matted", "meshed", "paisley", "perforated", "pitted", "pleated", "polka-dotted", "porous",
    "potholed", "scaly", "smeared", "spiralled", "sprinkled", "stained", "stratified", "striped",
    "studded", "swirly", "veined", "waffled", "woven", "wrinkled", "zigzagged",
)  # fmt: skip

_GREY, _COLOUR = (1, 28, 28), (3, 32, 32)

ORIGINALS = {
    "mnist": Original(
        title="MNIST",
        summary="handwritten digits",
        description="The usual in-distribution data for small networks.",
        shape=_GREY,
        target="The digit in each image.",
        target_names=tuple(string.digits),
        subsets=_mnist_like("MNIST", "MNIST"),
        torchvision_class="MNIST",
        page="http://yann.lecun.com/exdb/mnist/",
        licence="Usually given as CC BY-SA 3.0.",
        reference=(
            'Y. LeCun, L. Bottou, Y. Bengio and P. Haffner, "Gradient-based learning applied to '
            'document recognition", Proceedings of the IEEE 86(11), 1998. doi:10.1109/5.726791.'
        ),
    ),
    "fashion_mnist": Original(
        title="Fashion-MNIST",
        summary="photographs of garments",
        description="Images of the size of MNIST's that show no digits.",
        shape=_GREY,
        target="The kind of garment in each image.",
        target_names=_GARMENTS,
        subsets=_mnist_like("Fashion-MNIST", "FashionMNIST"),
        torchvision_class="FashionMNIST",
        page="https://github.com/zalandoresearch/fashion-mnist",
        licence="MIT licence.",
        reference=(
            'H. Xiao, K. Rasul and R. Vollgraf, "Fashion-MNIST: a novel image dataset for '
            'benchmarking machine learning algorithms", 2017. arXiv:1708.07747.'
        ),
    ),
    "kmnist": Original(
        title="KMNIST",
        summary="cursive Japanese characters",
        description="Kuzushiji-MNIST: images of the size of MNIST's that show no digits.",
        shape=_GREY,
        target="The character in each image.",
        target_names=("o", "ki", "su", "tsu", "na", "ha", "ma", "ya", "re", "wo"),
        subsets=_mnist_like("KMNIST", "KMNIST"),
        torchvision_class="KMNIST",
        page="https://codh.rois.ac.jp/kmnist/",
        licence="CC BY-SA 4.0.",
        reference=(
            'T. Clanuwat, M. Bober-Irizar, A. Kitamoto, A. Lamb, K. Yamamoto and D. Ha, "Deep '
            'learning for classical Japanese literature", 2018. arXiv:1812.01718.'
        ),
    ),
    "emnist_letters": Original(
        title="EMNIST letters",
        summary="handwritten letters",
        description=(
            "The letters of EMNIST, made from the same forms as MNIST, capital and small ones in "
            "one class: out-of-distribution, and near, for a network of digits. The images are "
            "turned upright; their files hold them column by column."
        ),
        shape=_GREY,
        target="The letter in each image, 0 for a.",
        target_names=tuple(string.ascii_lowercase),
        subsets={
            "train": _emnist_letters("train", 124_800),
            "test": _emnist_letters("test", 20_800),
        },
        torchvision_class="EMNIST",
        page="https://www.nist.gov/itl/products-and-services/emnist-dataset",
        licence="Work of the United States government.",
        reference=(
            'G. Cohen, S. Afshar, J. Tapson and A. van Schaik, "EMNIST: extending MNIST to '
            'handwritten letters", IJCNN 2017. arXiv:1702.05373.'
        ),
    ),
    "usps": Original(
        title="USPS",
        summary="digits from envelopes",
        description="The classes of MNIST under another scanner: other inputs, no new classes.",
        shape=(1, 16, 16),
        target="The digit in each image.",
        target_names=tuple(string.digits),
        subsets={
            "train": _usps("usps", 7_291, is_train=True),
            "test": _usps("usps.t", 2_007, is_train=False),
        },
        torchvision_class="USPS",
        page="https://www.csie.ntu.edu.tw/~cjlin/libsvmtools/datasets/multiclass.html",
        licence="Published for research; no licence stated.",
        reference=(
            'J. J. Hull, "A database for handwritten text recognition research", IEEE '
            "Transactions on Pattern Analysis and Machine Intelligence 16(5), 1994. "
            "doi:10.1109/34.291440."
        ),
    ),
    "cifar10": Original(
        title="CIFAR-10",
        summary="small photographs of 10 classes",
        description="The usual in-distribution data for published comparisons.",
        shape=_COLOUR,
        target="The class of each image.",
        target_names=_CIFAR10,
        subsets={
            "train": _cifar10(50_000, [f"data_batch_{i}" for i in range(1, 6)], is_train=True),
            "test": _cifar10(10_000, ["test_batch"], is_train=False),
        },
        torchvision_class="CIFAR10",
        page="https://www.cs.toronto.edu/~kriz/cifar.html",
        licence="No licence stated; the authors request a citation.",
        reference=(
            'A. Krizhevsky, "Learning multiple layers of features from tiny images", technical '
            "report, University of Toronto, 2009."
        ),
    ),
    "cifar100": Original(
        title="CIFAR-100",
        summary="small photographs of 100 classes",
        description="None of its classes is one of CIFAR-10, but many are near to them.",
        shape=_COLOUR,
        target="The class of each image: the fine classes, in alphabetical order.",
        target_names=_CIFAR100,
        subsets={"train": _cifar100(50_000, "train"), "test": _cifar100(10_000, "test")},
        torchvision_class="CIFAR100",
        page="https://www.cs.toronto.edu/~kriz/cifar.html",
        licence="No licence stated; the authors request a citation.",
        reference=(
            'A. Krizhevsky, "Learning multiple layers of features from tiny images", technical '
            "report, University of Toronto, 2009."
        ),
    ),
    "svhn": Original(
        title="SVHN",
        summary="digits of house numbers in photographs of streets",
        description=(
            "The Street View House Numbers, cropped: far from CIFAR-10, or in-distribution data "
            'of its own. The subset "extra" is large: 6.5 GB as ``float32``.'
        ),
        shape=_COLOUR,
        target="The digit in the middle of each image.",
        target_names=tuple(string.digits),
        subsets={
            "train": _svhn("train", 73_257),
            "test": _svhn("test", 26_032),
            "extra": _svhn("extra", 531_131),
        },
        torchvision_class="SVHN",
        page="http://ufldl.stanford.edu/housenumbers/",
        licence="For non-commercial use.",
        reference=(
            'Y. Netzer, T. Wang, A. Coates, A. Bissacco, B. Wu and A. Y. Ng, "Reading digits in '
            'natural images with unsupervised feature learning", NIPS workshop on deep learning, '
            "2011."
        ),
    ),
    "gtsrb": Original(
        title="GTSRB",
        summary="German traffic signs",
        description=(
            "Photographs of 43 signs from a moving car. The training images are those that "
            "torchvision takes; the 39,209 of the competition's final phase are read, too, in "
            "``GTSRB/Final_Training/Images``."
        ),
        shape=(3, "image_size", "image_size"),
        target="The sign in each image, in the official numbering.",
        target_names=_SIGNS,
        subsets={
            # torchvision's files, and those of the competition.
            "train": _signs(
                "train",
                26_640,
                read_sign_folders,
                ("GTSRB/Training",),
                ("GTSRB/Final_Training/Images",),
            ),
            "test": _signs(
                "test",
                12_630,
                read_listed_signs,
                ("GT-final_test.csv", "GTSRB/Final_Test/Images"),
            ),
        },
        torchvision_class="GTSRB",
        page="https://benchmark.ini.rub.de/",
        licence="Published for research; no licence stated.",
        reference=(
            'J. Stallkamp, M. Schlipsing, J. Salmen and C. Igel, "Man vs. computer: benchmarking '
            'machine learning algorithms for traffic sign recognition", Neural Networks 32, 2012. '
            "doi:10.1016/j.neunet.2012.02.016."
        ),
        resizing="stretched to this size",
    ),
    "textures": Original(
        title="DTD",
        summary="the Describable Textures",
        description=(
            "Photographs of 47 kinds of texture, out-of-distribution for most networks. Subsets "
            "are those of the first of the ten partitions of the data; published comparisons take "
            "all images."
        ),
        shape=(3, "image_size", "image_size"),
        target="The kind of texture in each image.",
        target_names=_TEXTURES,
        subsets={
            "train": _textures("train"),
            "validation": _textures("val"),
            "test": _textures("test"),
        },
        torchvision_class="DTD",
        page="https://www.robots.ox.ac.uk/~vgg/data/dtd/",
        licence="Made available for research.",
        reference=(
            'M. Cimpoi, S. Maji, I. Kokkinos, S. Mohamed and A. Vedaldi, "Describing textures in '
            'the wild", CVPR 2014. arXiv:1311.3618.'
        ),
        resizing="reduced to this length of its shorter side and cropped to the middle square",
    ),
}
