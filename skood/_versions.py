"""The version of skood, and what a bug report needs to know about the machine."""

from __future__ import annotations

import platform
import sys
from collections.abc import Iterator
from importlib.metadata import PackageNotFoundError, version

from threadpoolctl import threadpool_info

__version__ = "0.1.0"

_NEEDED = ("numpy", "scipy", "scikit-learn", "joblib", "threadpoolctl", "tqdm")
_OPTIONAL = (
    "torch",
    "skorch",
    "onnxruntime",
    "faiss-cpu",
    "fastapi",
    "uvicorn",
    "matplotlib",
    "pandas",
    "pyarrow",
    "torchvision",
    "pillow",
)
_MISSING = "not installed"
# The same library under other names: builds for GPUs, and those of conda.
_ALSO_CALLED = {"faiss-cpu": ("faiss-gpu", "faiss-gpu-cu12", "faiss")}


def show_versions() -> None:
    """Print the versions of skood, of Python and of the packages that skood uses.

    A bug report should contain what it prints. Versions of packages are those that the installer
    wrote down, so that no optional package is imported. BLAS and OpenMP libraries are listed where
    they are loaded, with their number of threads: those of torch appear after ``import torch``.

    Examples
    --------
    >>> import skood
    >>> skood.show_versions()
    System
      python ...
      machine ...
    Packages
      skood         0.1.0
      numpy ...
    """
    for title, entries in {
        "System": _system(),
        "Packages": _packages(),
        "Thread pools": list(_thread_pools()),
    }.items():
        width = max((len(name) for name, _ in entries), default=0)
        print(title, *(f"  {name:<{width}} {value}" for name, value in entries), sep="\n")


def _system() -> list[tuple[str, str]]:
    return [
        ("python", " ".join(sys.version.split())),
        ("executable", sys.executable),
        ("machine", platform.platform()),
    ]


def _packages() -> list[tuple[str, str]]:
    others = [(name, _installed(name)) for name in (*_NEEDED, *_OPTIONAL)]
    return [("skood", __version__), *others]


def installed_versions() -> dict[str, str]:
    """Versions of Python and of the packages that are there, by name."""
    packages = {name: found for name, found in _packages() if found != _MISSING}
    return {"python": platform.python_version(), **packages}


def _installed(distribution: str) -> str:
    """Version of a distribution; with its name, where it is installed under another one."""
    for name in (distribution, *_ALSO_CALLED.get(distribution, ())):
        try:
            return version(name) if name == distribution else f"{version(name)} ({name})"
        except PackageNotFoundError:
            continue
    return _MISSING


def _thread_pools() -> Iterator[tuple[str, str]]:
    """BLAS and OpenMP libraries that are loaded, and their paths."""
    for pool in threadpool_info():
        name = " ".join(filter(None, [pool["internal_api"], pool["version"]]))
        yield f"{name}, {pool['num_threads']} threads", pool["filepath"]
