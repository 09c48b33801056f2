"""The image files that the ``fetch_*`` functions read."""

import string
from collections.abc import Sequence
from dataclasses import dataclass


@dataclass(frozen=True)
class ArchiveFile:
    """One ``.npz`` file, its number of images and the SHA-256 sum of its bytes."""

    name: str
    n_samples: int
    sha256: str


@dataclass(frozen=True)
class Archive:
    """The files of one data set, by subset, and what is to say about it."""

    files: dict[str, ArchiveFile]
    descr: str
    image_shape: tuple[int, ...]
    target_names: Sequence[str] | None = None


_GREY = (28, 28)
_RGB = (32, 32, 3)

ARCHIVES = {
    "mnist": Archive(
        {
            "train": ArchiveFile(
                "mnist_train.npz",
                60_000,
                "40bc4b8d9c4fe50968a68bd17de88328144047926159d18020242f42ba9e907c",
            ),
            "test": ArchiveFile(
                "mnist_test.npz",
                10_000,
                "fbd7022cdec5ed9b43c2a5a85dcd49b6dd87cbd588291119599f45057e1a98c4",
            ),
        },
        "MNIST, handwritten digits (LeCun et al. 1998), complete and in the original order. "
        "Usually given as CC BY-SA 3.0.",
        _GREY,
        tuple(string.digits),
    ),
    "fashion_mnist": Archive(
        {
            "train": ArchiveFile(
                "fashion_mnist_train_subset.npz",
                20_000,
                "f1fdb8875e5384e1b2ee7919b93f26b25d861c04a224afac2b8cac0345aeea34",
            ),
            "test": ArchiveFile(
                "fashion_mnist_test.npz",
                10_000,
                "a8aa5f47dee15dc5e90e1f0848e878a296930038181119fe863bea35485ebf73",
            ),
        },
        "Fashion-MNIST, photographs of garments (Xiao et al. 2017): 2,000 training images of each "
        "class, a third of them, and all test images; shuffled. MIT licence.",
        _GREY,
        (
            "T-shirt/top",
            "trouser",
            "pullover",
            "dress",
            "coat",
            "sandal",
            "shirt",
            "sneaker",
            "bag",
            "ankle boot",
        ),
    ),
    "kmnist": Archive(
        {
            "test": ArchiveFile(
                "kmnist_test.npz",
                10_000,
                "af4f6f397f96ec88a6982855e686c7ea9b703a4cace93e5dbfec416ee206c2b7",
            )
        },
        "Kuzushiji-MNIST, cursive Japanese characters (Clanuwat et al. 2018): all test images, in "
        "the original order. CC BY-SA 4.0.",
        _GREY,
        ("o", "ki", "su", "tsu", "na", "ha", "ma", "ya", "re", "wo"),
    ),
    "notmnist": Archive(
        {
            "all": ArchiveFile(
                "notmnist.npz",
                5_000,
                "529f3ad978c733f1a321868c490c06ad0870a51c9b735bf26a76ab8131766ba3",
            )
        },
        "notMNIST, the letters A to J in many typefaces (Bulatov 2011): 500 of each, shuffled; 82 "
        "images occur more than once, as in the source. The glyphs carry no licence of their own.",
        _GREY,
        tuple("ABCDEFGHIJ"),
    ),
    "usps": Archive(
        {
            "test": ArchiveFile(
                "usps_test.npz",
                2_007,
                "ad2c5bfe113e8f0c91f3dbf5fa26ce13350ba24afa49490131e4f8fdd5a153c4",
            )
        },
        "USPS, digits from envelopes (Hull 1994): all test images, in the original order, enlarged "
        "from 16 x 16 to 28 x 28 pixels. Published for research; no licence stated.",
        _GREY,
        tuple(string.digits),
    ),
    "cifar10": Archive(
        {
            "train": ArchiveFile(
                "cifar10_train_subset.npz",
                10_000,
                "1e255ada97a1d41b25fd3d74b36a064a16e0ceafcacfac3137b0f052e4e9a076",
            ),
            "test": ArchiveFile(
                "cifar10_test.npz",
                10_000,
                "137cf8ebb3a757ce3b79f71739b5b0bd5afbc08c9800e454f31b10e0740c3448",
            ),
        },
        "CIFAR-10, small photographs (Krizhevsky 2009): 1,000 training images of each class, a "
        "fifth of them, and all test images; shuffled. No licence stated; citation asked for.",
        _RGB,
        ("airplane", "automobile", "bird", "cat", "deer", "dog", "frog", "horse", "ship", "truck"),
    ),
    "cifar100": Archive(
        {
            "train": ArchiveFile(
                "cifar100_train_subset.npz",
                5_000,
                "8d4a30f8c073a2293fd9933b0e5249e999436728f30c1f02f770b56807613189",
            ),
            "test": ArchiveFile(
                "cifar100_test_subset.npz",
                5_000,
                "0595c4c5a65e2bbb7f97f109145146871aae21280c76a3f0c06c25281eeeb801",
            ),
        },
        "CIFAR-100, small photographs of 100 classes (Krizhevsky 2009): 50 training and 50 test "
        "images of each class, a tenth and a half of them; shuffled. No licence stated; citation "
        "asked for.",
        _RGB,
    ),
    "tiny_imagenet": Archive(
        {
            "validation": ArchiveFile(
                "tiny_imagenet_val.npz",
                4_000,
                "5b8fcaf277c49e14df228195543bf462ef1ad4b59509a12658438053bc918b73",
            )
        },
        "Tiny ImageNet, photographs of 200 classes of ImageNet (Russakovsky et al. 2015): 20 "
        "validation images of each class, shuffled, reduced from 64 x 64 to 32 x 32 pixels. "
        "ImageNet's terms: non-commercial research.",
        _RGB,
    ),
    "textures": Archive(
        {
            "all": ArchiveFile(
                "textures.npz",
                720,
                "0dcf9c552952bf8a1598a1ae96209cc2d692b48ce6e511de6155de341d1052ec",
            )
        },
        "Describable Textures (Cimpoi et al. 2014): all 120 images of 6 of the 47 classes, "
        "shuffled, reduced to 32 x 32 pixels. Made available for research.",
        _RGB,
        ("banded", "blotchy", "braided", "bubbly", "bumpy", "chequered"),
    ),
    "scenes": Archive(
        {
            "test": ArchiveFile(
                "scenes.npz",
                2_158,
                "a3b5f7f582a7f4907c21974f778a9b05c12782b0d8c3f25c869450b4bf61043e",
            )
        },
        "Intel scene images: 2,158 test images, shuffled, reduced from 100 x 100 to 32 x 32 "
        "pixels. No licence stated.",
        _RGB,
        ("buildings", "forest", "glacier", "mountain", "sea", "street"),
    ),
    "gtsrb": Archive(
        {
            "test": ArchiveFile(
                "gtsrb_test.npz",
                4_000,
                "225951494105132e27c78acc67e43e1da64a832eaaa96db3de817fe6a17c7d34",
            )
        },
        "German traffic signs (Stallkamp et al. 2012): a random 4,000 of the 12,630 test images, "
        "resized to 32 x 32 pixels. Published for research; no licence stated.",
        _RGB,
    ),
    "streetview_chars": Archive(
        {
            "train": ArchiveFile(
                "streetview_chars.npz",
                3_000,
                "4176691cdb2c46befa4d673abed09d0517d235d1f7fae707e21fc6f60915090a",
            )
        },
        "Characters in photographs of streets, from Chars74K (de Campos et al. 2009): a random "
        "3,000, stretched to 32 x 32 pixels. Published for research; no licence stated.",
        _RGB,
        tuple(string.digits + string.ascii_uppercase + string.ascii_lowercase),
    ),
}
