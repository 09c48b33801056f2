"""Data to try a monitor on: in-distribution images, OOD images and noise.

``load_*`` comes with scikit-learn, ``make_*`` draws random images, and ``fetch_*`` reads public
sets of images, which torchvision downloads where they are missing.
"""

from ._digits import load_digits_ood
from ._digits_network import load_digits_network
from ._fetch import (
    fetch_cifar10,
    fetch_cifar100,
    fetch_emnist_letters,
    fetch_fashion_mnist,
    fetch_gtsrb,
    fetch_kmnist,
    fetch_mnist,
    fetch_svhn,
    fetch_textures,
    fetch_usps,
)
from ._noise import make_noise
from ._triangles import make_triangles

__all__ = [
    "fetch_cifar10",
    "fetch_cifar100",
    "fetch_emnist_letters",
    "fetch_fashion_mnist",
    "fetch_gtsrb",
    "fetch_kmnist",
    "fetch_mnist",
    "fetch_svhn",
    "fetch_textures",
    "fetch_usps",
    "load_digits_network",
    "load_digits_ood",
    "make_noise",
    "make_triangles",
]
