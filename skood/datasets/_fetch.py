"""The ``fetch_*`` functions, which read public sets of images."""

import os
from collections.abc import Callable
from numbers import Integral
from typing import Any, Literal, Protocol, TypeAlias, cast, overload

import numpy as np
from numpy.typing import NDArray
from sklearn.utils import Bunch

from .._sklearn import Interval, StrOptions, validate_params
from ._arrays import Images, ImagesAndTarget, Labels
from ._docstring import describe
from ._files import Found, find_files, resolve_data_home
from ._originals import ORIGINALS, Original

PathName: TypeAlias = str | os.PathLike[str]


class Fetcher(Protocol):
    """A function that loads a data set."""

    __name__: str

    @overload
    def __call__(
        self,
        *,
        subset: str = ...,
        data_home: PathName | None = ...,
        download_if_missing: bool = ...,
        return_X_y: Literal[False] = ...,
    ) -> Bunch: ...

    @overload
    def __call__(
        self,
        *,
        subset: str = ...,
        data_home: PathName | None = ...,
        download_if_missing: bool = ...,
        return_X_y: Literal[True],
    ) -> ImagesAndTarget: ...

    @overload
    def __call__(
        self,
        *,
        subset: str = ...,
        data_home: PathName | None = ...,
        download_if_missing: bool = ...,
        return_X_y: bool,
    ) -> Bunch | ImagesAndTarget: ...


class ResizingFetcher(Protocol):
    """A function that loads a data set with images of many sizes."""

    __name__: str

    @overload
    def __call__(
        self,
        *,
        subset: str = ...,
        image_size: int = ...,
        data_home: PathName | None = ...,
        download_if_missing: bool = ...,
        return_X_y: Literal[False] = ...,
    ) -> Bunch: ...

    @overload
    def __call__(
        self,
        *,
        subset: str = ...,
        image_size: int = ...,
        data_home: PathName | None = ...,
        download_if_missing: bool = ...,
        return_X_y: Literal[True],
    ) -> ImagesAndTarget: ...

    @overload
    def __call__(
        self,
        *,
        subset: str = ...,
        image_size: int = ...,
        data_home: PathName | None = ...,
        download_if_missing: bool = ...,
        return_X_y: bool,
    ) -> Bunch | ImagesAndTarget: ...


def _make_fetcher(dataset: str) -> Fetcher:
    original = ORIGINALS[dataset]

    def fetch(
        *,
        subset: str = "train",
        data_home: PathName | None = None,
        download_if_missing: bool = True,
        return_X_y: bool = False,
    ) -> Bunch | ImagesAndTarget:
        return _load(original, subset, data_home, download_if_missing, return_X_y)

    return cast(Fetcher, _publish(fetch, dataset))


def _make_resizing_fetcher(dataset: str) -> ResizingFetcher:
    original = ORIGINALS[dataset]

    def fetch(
        *,
        subset: str = "train",
        image_size: int = 32,
        data_home: PathName | None = None,
        download_if_missing: bool = True,
        return_X_y: bool = False,
    ) -> Bunch | ImagesAndTarget:
        return _load(
            original, subset, data_home, download_if_missing, return_X_y, image_size=image_size
        )

    return cast(ResizingFetcher, _publish(fetch, dataset))


def _publish(fetch: Callable[..., Any], dataset: str) -> Callable[..., Any]:
    """Give a function its public name, its docstring and the validation of its parameters."""
    fetch.__name__ = fetch.__qualname__ = f"fetch_{dataset}"
    fetch.__doc__ = describe(dataset)
    constraints: dict[str, Any] = {
        "subset": [StrOptions({*ORIGINALS[dataset].subsets, "all"})],
        "data_home": [str, os.PathLike, None],
        "download_if_missing": ["boolean"],
        "return_X_y": ["boolean"],
    }
    if ORIGINALS[dataset].resizing:
        constraints["image_size"] = [Interval(Integral, 1, None, closed="left")]
    return validate_params(constraints, prefer_skip_nested_validation=True)(fetch)


def _load(
    original: Original,
    subset: str,
    data_home: PathName | None,
    download_if_missing: bool,
    return_X_y: bool,
    **options: Any,
) -> Bunch | ImagesAndTarget:
    home = resolve_data_home(data_home)
    names = list(original.subsets) if subset == "all" else [subset]
    # All files are found before the first one is read.
    found = [
        find_files(original, original.subsets[name], home, download_if_missing=download_if_missing)
        for name in names
    ]
    parts = [_read(original, files, options) for files in found]
    data = _scale(np.concatenate([images for images, _ in parts]))
    target = np.concatenate([labels for _, labels in parts])
    if return_X_y:
        return data, target
    descr = f"{original.title}, {original.summary}.\n\n{original.description}\n\n{original.page}\n"
    return Bunch(
        data=data,
        target=target,
        target_names=list(original.target_names),
        DESCR=f"{descr}{original.licence}\n\n{original.reference}\n",
    )


def _read(original: Original, found: Found, options: dict[str, Any]) -> tuple[Images, Labels]:
    images, labels = found.layout.read(found.paths, **options)
    files = ", ".join(f"'{path}'" for path in found.paths)
    if len(images) != len(labels):
        raise ValueError(f"There are {len(images)} images and {len(labels)} labels in {files}.")
    if len(images) == 0:
        raise ValueError(f"There are no images in {files}.")
    n_classes = len(original.target_names)
    is_foreign = (labels < 0) | (labels >= n_classes)
    if is_foreign.any():
        raise ValueError(
            f"The labels in {files} are not those of the {n_classes} classes of {original.title}: "
            f"{np.count_nonzero(is_foreign)} of {len(labels)} are out of range."
        )
    return images, labels


def _scale(images: Images) -> NDArray[np.float32]:
    """Values from 0 to 1, in the order of the axes."""
    if images.dtype == np.uint8:
        return np.divide(images, 255, dtype=np.float32, order="C")
    return images.astype(np.float32, order="C")


fetch_cifar10 = _make_fetcher("cifar10")
fetch_cifar100 = _make_fetcher("cifar100")
fetch_emnist_letters = _make_fetcher("emnist_letters")
fetch_fashion_mnist = _make_fetcher("fashion_mnist")
fetch_gtsrb = _make_resizing_fetcher("gtsrb")
fetch_kmnist = _make_fetcher("kmnist")
fetch_mnist = _make_fetcher("mnist")
fetch_svhn = _make_fetcher("svhn")
fetch_textures = _make_resizing_fetcher("textures")
fetch_usps = _make_fetcher("usps")
