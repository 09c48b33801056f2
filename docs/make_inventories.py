"""Write the lists of other libraries' objects, by which the site links to their documentation.

``python docs/make_inventories.py`` reads the public names of the installed libraries and writes
``docs/inventories``, in the format that Sphinx reads. So that building the site needs no network,
these files are kept beside its sources. Run it again for names that newer releases bring.
"""

from __future__ import annotations

import builtins
import importlib
import inspect
import zlib
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

import numpy

# Without it, scikit-learn hides searches that its pages describe.
from sklearn.experimental import enable_halving_search_cv  # noqa: F401

FOLDER = Path(__file__).parent / "inventories"


@dataclass(frozen=True)
class Library:
    """Where the pages of a library's public names are, below the root of its site.

    ``page`` is where a name has a page of its own, and ``page_of_module`` a module; ``shared``
    names the pages of modules, and of single objects, that describe several. ``terms`` are words of
    its glossary.
    """

    modules: tuple[str, ...]
    page: str = ""
    page_of_module: str = ""
    shared: dict[str, str] = field(default_factory=dict)
    terms: dict[str, str] = field(default_factory=dict)

    def page_of(self, name: str, module: str) -> str:
        return self.shared.get(name) or self.shared.get(module) or self.page.format(name=name)


SKLEARN_MODULES = [
    "base",
    "calibration",
    "cluster",
    "compose",
    "covariance",
    "datasets",
    "decomposition",
    "discriminant_analysis",
    "dummy",
    "ensemble",
    "exceptions",
    "feature_extraction.text",
    "feature_selection",
    "frozen",
    "inspection",
    "isotonic",
    "linear_model",
    "manifold",
    "metrics",
    "metrics.pairwise",
    "mixture",
    "model_selection",
    "multiclass",
    "multioutput",
    "naive_bayes",
    "neighbors",
    "neural_network",
    "pipeline",
    "preprocessing",
    "random_projection",
    "svm",
    "tree",
    "utils",
    "utils.estimator_checks",
    "utils.validation",
]
STANDARD_LIBRARY = [
    "abc",
    "collections",
    "collections.abc",
    "concurrent.futures",
    "contextlib",
    "copy",
    "csv",
    "dataclasses",
    "enum",
    "functools",
    "io",
    "itertools",
    "json",
    "logging",
    "multiprocessing",
    "os",
    "pathlib",
    "pickle",
    "random",
    "statistics",
    "tempfile",
    "threading",
    "time",
    "typing",
    "urllib.request",
    "warnings",
    "weakref",
    "zipfile",
]
SCIPY_MODULES = [
    "cluster.hierarchy",
    "linalg",
    "optimize",
    "sparse",
    "spatial",
    "spatial.distance",
    "special",
    "stats",
]
TORCH_MODULES = ["export", "nn", "nn.functional", "onnx", "optim", "utils.data"]
TYPES = ["bytes", "dict", "frozenset", "list", "range", "set", "str", "tuple"]
NUMPY_SCALARS = [
    f"numpy.{name}"
    for name, member in vars(numpy).items()
    if inspect.isclass(member) and issubclass(member, numpy.generic)
]
EXCEPTIONS = [
    name
    for name, member in vars(builtins).items()
    if inspect.isclass(member) and issubclass(member, BaseException)
]

LIBRARIES = {
    "python": Library(
        modules=("builtins", *STANDARD_LIBRARY),
        page="library/functions.html",
        shared={module: f"library/{module}.html" for module in STANDARD_LIBRARY}
        | dict.fromkeys(TYPES, "library/stdtypes.html")
        | dict.fromkeys(EXCEPTIONS, "library/exceptions.html"),
        terms={"iterable": "glossary.html", "generator": "glossary.html"},
    ),
    "sklearn": Library(
        modules=("sklearn", *(f"sklearn.{module}" for module in SKLEARN_MODULES)),
        page="modules/generated/{name}.html",
        page_of_module="api/{name}.html",
        terms=dict.fromkeys(
            ("array-like", "estimator", "outlier detector", "transformer"), "glossary.html"
        ),
    ),
    "numpy": Library(
        modules=("numpy", "numpy.linalg", "numpy.random", "numpy.typing", "numpy.lib.format"),
        page="reference/generated/{name}.html",
        shared={
            "numpy.typing": "reference/typing.html",
            "numpy.random.BitGenerator": "reference/random/bit_generators/index.html",
            "numpy.random.Generator": "reference/random/generator.html",
            "numpy.random.RandomState": "reference/random/legacy.html",
        }
        | dict.fromkeys(NUMPY_SCALARS, "reference/arrays.scalars.html"),
        terms={"array_like": "glossary.html"},
    ),
    "scipy": Library(
        modules=tuple(f"scipy.{module}" for module in SCIPY_MODULES),
        page="reference/generated/{name}.html",
    ),
    "torch": Library(
        modules=("torch", *(f"torch.{module}" for module in TORCH_MODULES)),
        page="generated/{name}.html",
        shared={
            "torch.Tensor": "tensors.html",
            "torch.device": "tensor_attributes.html",
            "torch.dtype": "tensor_attributes.html",
            "torch.export": "export/api_reference.html",
            "torch.onnx": "onnx_export.html",
            "torch.utils.data": "data.html",
        },
    ),
    "pandas": Library(modules=("pandas",), page="reference/api/{name}.html"),
    "joblib": Library(modules=("joblib",), page="generated/{name}.html"),
    "matplotlib": Library(
        modules=("matplotlib.artist", "matplotlib.axes", "matplotlib.figure", "matplotlib.lines"),
        page="api/_as_gen/{name}.html",
        shared={
            "matplotlib.artist": "api/artist_api.html",
        },
    ),
    "skorch": Library(
        modules=("skorch.classifier", "skorch.regressor", "skorch.net"),
        shared={
            f"skorch.{module}": f"{module}.html" for module in ("classifier", "regressor", "net")
        },
    ),
}


def entries(library: Library) -> Iterator[str]:
    """One line of an inventory for each module, public class and function, and each term."""
    for module_name in library.modules:
        module = importlib.import_module(module_name)
        if library.page_of_module:
            page = library.page_of_module.format(name=module_name)
            yield f"{module_name} py:module 0 {page}#module-$ -"
        for name in getattr(module, "__all__", None) or dir(module):
            member = getattr(module, name, None)
            if callable(member) and not name.startswith("_") and is_of(member, module_name):
                full = name if module_name == "builtins" else f"{module_name}.{name}"
                yield f"{full} py:{role_of(member)} 1 {library.page_of(full, module_name)}#$ -"
    for term, page in library.terms.items():
        yield f"{term} std:term -1 {page}#term-{term.replace(' ', '-')} -"


def is_of(member: object, module: str) -> bool:
    """Whether the library defines it, and does not only import it, as ``typing.Any``."""
    of_library = (getattr(member, "__module__", None) or module).split(".")[0]
    return of_library in (module.split(".")[0], "builtins") or module in STANDARD_LIBRARY


def role_of(member: object) -> str:
    if not inspect.isclass(member):
        return "function"
    return "exception" if issubclass(member, BaseException) else "class"


def write(name: str, library: Library) -> None:
    header = f"# Sphinx inventory version 2\n# Project: {name}\n# Version:\n"
    header += "# The remainder of this file is compressed using zlib.\n"
    body = "".join(f"{entry}\n" for entry in sorted(set(entries(library))))
    FOLDER.mkdir(exist_ok=True)
    (FOLDER / f"{name}.inv").write_bytes(header.encode() + zlib.compress(body.encode(), 9))


if __name__ == "__main__":
    for name, library in LIBRARIES.items():
        write(name, library)
