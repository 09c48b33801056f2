"""Arrays and trees of SciPy and scikit-learn that are no plain objects."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy import sparse

from ._errors import FileFormatError
from ._names import COMPILED, class_of, name_of
from ._tree import Decoder, Encoder, Fields, Keep, Kind

_COMPRESSED = ("csr", "csc", "bsr")


def _write_sparse(value: Any, encoder: Encoder) -> Fields:
    if value.format not in (*_COMPRESSED, "coo"):
        raise TypeError(
            f"{encoder.place} is a sparse array of the format {value.format!r}, which is not "
            f"written: convert it to one of {[*_COMPRESSED, 'coo']}."
        )
    is_coo = value.format == "coo"
    places = value.coords if is_coo else (value.indices, value.indptr)
    return {
        "format": value.format,
        "is_matrix": isinstance(value, sparse.spmatrix),
        "shape": list(value.shape),
        "parts": encoder.parts([value.data, *places]),
    }


def _read_sparse(node: Fields, decoder: Decoder, keep: Keep) -> Any:
    kind = getattr(sparse, f"{_format(node)}_{'matrix' if node['is_matrix'] else 'array'}")
    data, *places = decoder.values(node["parts"])
    if _format(node) == "coo":
        return kind((data, tuple(places)), shape=tuple(node["shape"]))
    made = kind((data, *places), shape=tuple(node["shape"]))
    made.check_format(full_check=True)  # places beyond the ends would be read from elsewhere
    return made


def _format(node: Fields) -> str:
    if node["format"] not in (*_COMPRESSED, "coo"):
        raise FileFormatError(f"{node['format']!r} is no format of sparse arrays.")
    return str(node["format"])


def _write_tree(value: Any, encoder: Encoder) -> Fields:
    _, (n_features, n_classes, n_outputs), state = value.__reduce__()
    return {
        "n_features": int(n_features),
        "n_classes": encoder.part(n_classes, ".n_classes"),
        "n_outputs": int(n_outputs),
        "state": encoder.part(state, ""),
    }


def _read_tree(node: Fields, decoder: Decoder, keep: Keep) -> Any:
    state = decoder.value(node["state"])
    _check_nodes(state["nodes"], node["n_features"])
    n_classes = np.ascontiguousarray(decoder.value(node["n_classes"]), dtype=np.intp)
    if n_classes.shape != (node["n_outputs"],) or (n_classes < 1).any():
        raise FileFormatError("A decision tree says of how many classes it is in another way.")
    made = class_of("sklearn.state.Tree")(node["n_features"], n_classes, node["n_outputs"])
    made.__setstate__(state)
    return made


def _check_nodes(nodes: NDArray, n_features: int) -> None:
    """Raise where a walk through a tree would leave it, which compiled code does not check."""
    left, right, feature = (nodes[name] for name in ("left_child", "right_child", "feature"))
    is_inner = left != -1
    places = np.arange(len(nodes))[is_inner]
    for children in (left[is_inner], right[is_inner]):
        if (children <= places).any() or (children >= len(nodes)).any():
            raise FileFormatError("A decision tree has branches that lead nowhere.")
    if (feature[is_inner] < 0).any() or (feature[is_inner] >= n_features).any():
        raise FileFormatError(f"A decision tree asks for features beyond its {n_features}.")


_METRICS = {
    "ChebyshevDistance": "chebyshev",
    "EuclideanDistance": "euclidean",
    "ManhattanDistance": "manhattan",
    "MinkowskiDistance": "minkowski",
}


def _write_neighbors(value: Any, encoder: Encoder) -> Fields:
    """What a tree of neighbours was made of, which makes the same one again."""
    _, _, _, _, leaf_size, *_, metric, weights = value.__getstate__()
    name = _METRICS.get(type(metric).__name__.removesuffix("64"))
    if name is None or weights is not None:
        raise TypeError(
            f"{encoder.place} is a {type(value).__name__} with weights or the distance "
            f"{type(metric).__name__}, which is not written: set algorithm='brute'."
        )
    return {
        "class": name_of(type(value)),
        "data": encoder.part(np.asarray(value.data), ".data"),
        "leaf_size": int(leaf_size),
        "metric": name,
        "p": encoder.part(float(metric.__getstate__()[0]), ".p"),
    }


def _read_neighbors(node: Fields, decoder: Decoder, keep: Keep) -> Any:
    if node["class"] not in COMPILED or node["metric"] not in _METRICS.values():
        raise FileFormatError(f"{node['class']!r} is no tree of neighbours.")
    more = {"p": decoder.value(node["p"])} if node["metric"] == "minkowski" else {}
    data = decoder.value(node["data"])
    make: Any = class_of(node["class"])
    return make(data, leaf_size=node["leaf_size"], metric=node["metric"], **more)


_NEIGHBORS = Kind("tree of neighbors", _write_neighbors, _read_neighbors)

FOREIGN = {
    "BallTree": _NEIGHBORS,
    "KDTree": _NEIGHBORS,
    "sparse": Kind("sparse", _write_sparse, _read_sparse),
    "Tree": Kind("tree", _write_tree, _read_tree),
}
"""Kinds by name; those of classes by the name of the class."""
