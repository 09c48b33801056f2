"""Data to try a monitor on: in-distribution images, OOD images and noise.

Nothing here uses the network: ``load_*`` ships with scikit-learn, ``make_*`` draws random data,
``fetch_*`` reads files that are on the disk already.
"""

from ._cifar import fetch_cifar10, fetch_cifar100
from ._colour import (
    fetch_gtsrb,
    fetch_scenes,
    fetch_streetview_chars,
    fetch_textures,
    fetch_tiny_imagenet,
)
from ._digits import load_digits_ood
from ._grey import (
    fetch_fashion_mnist,
    fetch_kmnist,
    fetch_mnist,
    fetch_notmnist,
    fetch_usps,
)
from ._noise import make_noise
from ._triangles import make_triangles

__all__ = [
    "fetch_cifar10",
    "fetch_cifar100",
    "fetch_fashion_mnist",
    "fetch_gtsrb",
    "fetch_kmnist",
    "fetch_mnist",
    "fetch_notmnist",
    "fetch_scenes",
    "fetch_streetview_chars",
    "fetch_textures",
    "fetch_tiny_imagenet",
    "fetch_usps",
    "load_digits_ood",
    "make_noise",
    "make_triangles",
]
