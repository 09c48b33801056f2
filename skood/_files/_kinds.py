"""What may be in a file beside plain numbers and texts: how it is written, and read again."""

from __future__ import annotations

from collections import Counter, OrderedDict, defaultdict, deque
from collections.abc import Callable
from enum import Enum
from pathlib import Path, PurePath, PurePosixPath, PureWindowsPath
from typing import Any

import numpy as np
from numpy.ma import MaskedArray
from numpy.random import BitGenerator, Generator, RandomState, SeedSequence
from numpy.typing import NDArray
from scipy import sparse
from sklearn.utils import Bunch

from .._patterns import OwnedFolder
from .._rows import LazyArray, LazyRows
from ._arrays import is_writable
from ._errors import FileFormatError
from ._foreign_kinds import FOREIGN
from ._names import class_of, function_of, name_of, name_of_function
from ._objects import OBJECT
from ._tree import Decoder, Encoder, Fields, Keep, Kind, text_of

# Containers


def _write_items(value: Any, encoder: Encoder) -> Fields:
    return {"items": encoder.parts(list(value))}


def _read_list(node: Fields, decoder: Decoder, keep: Keep) -> list[Any]:
    made: list[Any] = keep([])
    made.extend(decoder.values(node["items"]))
    return made


def _reader_of(make: Callable[[list[Any]], Any]) -> Callable[[Fields, Decoder, Keep], Any]:
    return lambda node, decoder, keep: make(decoder.values(node["items"]))


def _write_deque(value: deque[Any], encoder: Encoder) -> Fields:
    return {**_write_items(value, encoder), "longest": value.maxlen}


def _read_deque(node: Fields, decoder: Decoder, keep: Keep) -> deque[Any]:
    return deque(decoder.values(node["items"]), node["longest"])


def _write_dict(value: dict[Any, Any], encoder: Encoder) -> Fields:
    return {
        "items": [
            [encoder.part(key, f"[{key!r}] (the key)"), encoder.part(held, f"[{key!r}]")]
            for key, held in value.items()
        ]
    }


def _read_dict_as(make: Callable[[], Any]) -> Callable[[Fields, Decoder, Keep], Any]:
    def read(node: Fields, decoder: Decoder, keep: Keep) -> Any:
        made = keep(make())
        for key, held in node["items"]:
            name = decoder.value(key)  # before what it holds, as it was written
            made[name] = decoder.value(held)
        return made

    return read


def _write_bunch(value: Bunch, encoder: Encoder) -> Fields:
    return _write_dict(dict(value), encoder)


def _write_default(value: defaultdict[Any, Any], encoder: Encoder) -> Fields:
    if value.default_factory not in _FACTORIES.values():
        raise TypeError(f"{encoder.place} makes missing values by code, which is not written.")
    name = next(n for n, factory in _FACTORIES.items() if factory is value.default_factory)
    return {"missing": name, **_write_dict(value, encoder)}


def _read_default(node: Fields, decoder: Decoder, keep: Keep) -> Any:
    factory = _FACTORIES[node["missing"]]
    return _read_dict_as(lambda: defaultdict(factory))(node, decoder, keep)


_SCALAR_TYPES = frozenset(np.sctypeDict.values())
"""Those of NumPy, without the classes that they are derived from."""
_FACTORIES: dict[str, Any] = {"dict": dict, "float": float, "int": int, "list": list, "set": set}
_BUILTIN = {
    kind.__name__: kind
    for kind in (bool, bytes, complex, dict, float, int, list, object, set, str, tuple, type(None))
}

# Plain values


def _write_text(value: str, encoder: Encoder) -> Fields:
    return {"value": value}


def _read_text(node: Fields, decoder: Decoder, keep: Keep) -> str:
    return "".join([*text_of(node, "value")])  # another object


def _write_complex(value: complex, encoder: Encoder) -> Fields:
    return {"parts": encoder.parts([value.real, value.imag])}


def _read_complex(node: Fields, decoder: Decoder, keep: Keep) -> complex:
    return complex(*decoder.values(node["parts"]))


def _write_span(value: Any, encoder: Encoder) -> Fields:
    return {"parts": encoder.parts([value.start, value.stop, value.step])}


def _read_slice(node: Fields, decoder: Decoder, keep: Keep) -> slice:
    return slice(*decoder.values(node["parts"]))


def _read_range(node: Fields, decoder: Decoder, keep: Keep) -> range:
    return range(*decoder.values(node["parts"]))


def _write_enum(value: Enum, encoder: Encoder) -> Fields:
    return {"class": _name(type(value), encoder), "name": value.name}


def _read_enum(node: Fields, decoder: Decoder, keep: Keep) -> Any:
    kind = class_of(node["class"])
    if not issubclass(kind, Enum):
        raise FileFormatError(f"{node['class']!r} has no values by name.")
    return kind[text_of(node, "name")]


def _write_class(value: type, encoder: Encoder) -> Fields:
    if value in _SCALAR_TYPES:
        return {"class": f"numpy.{np.dtype(value).name}"}
    if _BUILTIN.get(value.__name__) is value:
        return {"class": f"builtins.{value.__name__}"}
    return {"class": _name(value, encoder)}


def _read_class(node: Fields, decoder: Decoder, keep: Keep) -> type:
    module, _, name = text_of(node, "class").partition(".")
    if module == "builtins":
        return _BUILTIN[name]
    return np.dtype(name).type if module == "numpy" else class_of(node["class"])


def _name(kind: type, encoder: Encoder) -> str:
    if (name := name_of(kind)) is None:
        raise TypeError(
            f"{encoder.place} refers to the class {kind.__module__}.{kind.__qualname__}, which "
            "skood does not write into files."
        )
    return name


def _write_function(value: Any, encoder: Encoder) -> Fields:
    return {"name": name_of_function(value)}


def _read_function(node: Fields, decoder: Decoder, keep: Keep) -> Any:
    return function_of(node["name"])


def _write_ufunc(value: np.ufunc, encoder: Encoder) -> Fields:
    if getattr(np, value.__name__, None) is not value:
        raise TypeError(
            f"{encoder.place} is the function {value.__name__!r} of another library than NumPy, "
            "which skood does not write into files: these hold no code."
        )
    return {"name": value.__name__}


def _read_ufunc(node: Fields, decoder: Decoder, keep: Keep) -> np.ufunc:
    found = getattr(np, text_of(node, "name"), None)
    if not isinstance(found, np.ufunc):
        raise FileFormatError(f"{node['name']!r} is no function of NumPy for each number.")
    return found


# Arrays

_TEXT_TYPE, _TEXT_NAME = np.dtypes.StringDType(), "T"


def _write_array(value: NDArray, encoder: Encoder) -> Fields:
    array = np.asarray(value)
    if not is_writable(array.dtype):
        raise _not_written(array.dtype, encoder)
    # The order of the axes in memory decides how sums are rounded.
    axes = sorted(range(array.ndim), key=lambda axis: (-abs(array.strides[axis]), axis))
    is_plain = axes == list(range(array.ndim))
    key = encoder.files.put(array.transpose(axes))
    return {"key": key} if is_plain else {"key": key, "axes": axes}


def _read_array(node: Fields, decoder: Decoder, keep: Keep) -> NDArray:
    array: NDArray = decoder.files.get(text_of(node, "key"))
    return array.transpose(np.argsort(node["axes"])) if "axes" in node else array


def _not_written(dtype: np.dtype, encoder: Encoder) -> TypeError:
    return TypeError(f"{encoder.place} is an array of the type {dtype!r}, which is not written.")


def _write_objects(value: NDArray, encoder: Encoder) -> Fields:
    return {"shape": list(value.shape), "items": encoder.parts(value.reshape(-1).tolist())}


def _read_objects(node: Fields, decoder: Decoder, keep: Keep) -> NDArray:
    array: NDArray = np.empty(len(node["items"]), dtype=object)
    array = keep(array.reshape(node["shape"]))
    for number, held in enumerate(decoder.values(node["items"])):
        array.reshape(-1)[number] = held
    return array


def _write_texts(value: NDArray, encoder: Encoder) -> Fields:
    if value.dtype != _TEXT_TYPE:  # with something that stands for missing texts
        raise _not_written(value.dtype, encoder)
    return _write_objects(value, encoder)


def _read_texts(node: Fields, decoder: Decoder, keep: Keep) -> NDArray:
    texts = np.array(decoder.values(node["items"]), dtype=_TEXT_TYPE)
    return texts.reshape(node["shape"])


def _write_masked(value: MaskedArray, encoder: Encoder) -> Fields:
    held = {"data": value.data, "mask": np.ma.getmask(value), "fill": value.fill_value}
    held["mask"] = None if held["mask"] is np.ma.nomask else held["mask"]
    parts = {name: encoder.part(part, f".{name}") for name, part in held.items()}
    return {**parts, "hard": True} if value.hardmask else parts


def _read_masked(node: Fields, decoder: Decoder, keep: Keep) -> MaskedArray:
    data, mask, fill = (decoder.value(node[name]) for name in ("data", "mask", "fill"))
    mask = np.ma.nomask if mask is None else mask
    return MaskedArray(data, mask, fill_value=fill, hard_mask=bool(node.get("hard", False)))


def _write_scalar(value: np.generic, encoder: Encoder) -> Fields:
    return {"dtype": value.dtype.str, "hex": value.tobytes().hex()}


def _read_scalar(node: Fields, decoder: Decoder, keep: Keep) -> Any:
    # NumPy reads no items without octets, such as an empty text.
    octets, dtype = bytes.fromhex(node["hex"]), _plain_dtype(node["dtype"])
    return np.frombuffer(octets, dtype)[0] if dtype.itemsize else dtype.type()


def _write_dtype(value: np.dtype, encoder: Encoder) -> Fields:
    if value == _TEXT_TYPE:
        return {"value": _TEXT_NAME}
    if value.kind == "T" or value.names or value.subdtype is not None or value.metadata:
        raise TypeError(
            f"{encoder.place} is the type {value!r}, which is not written: plain types are, and "
            "none of records, with metadata or with something that stands for missing texts."
        )
    return {"value": value.str}


def _read_dtype(node: Fields, decoder: Decoder, keep: Keep) -> np.dtype:
    text = text_of(node, "value")
    return _TEXT_TYPE if text == _TEXT_NAME else np.dtype(text)


def _plain_dtype(text: str) -> np.dtype:
    dtype = np.dtype(text)
    if dtype.hasobject:
        raise FileFormatError(f"A number of the type {text!r} would need pickle.")
    return dtype


def _write_lazy(value: LazyArray, encoder: Encoder) -> Fields:
    """Rows that lie elsewhere, with their values."""
    _, (array, *rows) = value._by_content()
    return {
        "array": encoder.part(array, ".array"),
        "rows": encoder.part(rows[0] if rows else None, ".rows"),
    }


def _read_lazy(node: Fields, decoder: Decoder, keep: Keep) -> Any:
    array, rows = decoder.value(node["array"]), decoder.value(node["rows"])
    return array if rows is None else LazyRows(array, rows)


# Random numbers

_LARGEST_POOL = 2**16
_BIT_GENERATORS = {
    name: getattr(np.random, name) for name in ("MT19937", "PCG64", "PCG64DXSM", "Philox", "SFC64")
}


def _write_random_state(value: RandomState, encoder: Encoder) -> Fields:
    state = value.get_state(legacy=False)
    if state["bit_generator"] not in _BIT_GENERATORS:
        raise TypeError(
            f"{encoder.place} draws from a {state['bit_generator']}, which is none of "
            f"{list(_BIT_GENERATORS)}."
        )
    return {"state": encoder.part(state, ".state")}


def _read_random_state(node: Fields, decoder: Decoder, keep: Keep) -> RandomState:
    state = decoder.value(node["state"])
    made = RandomState(_BIT_GENERATORS[state["bit_generator"]](0))
    made.set_state(state)
    return made


def _write_bit_generator(value: BitGenerator, encoder: Encoder) -> Fields:
    name = type(value).__name__
    if _BIT_GENERATORS.get(name) is not type(value):
        raise TypeError(f"{encoder.place} is a {name}, which is none of {list(_BIT_GENERATORS)}.")
    seeds = value.seed_seq if isinstance(value.seed_seq, SeedSequence) else None
    held = ["entropy", "spawn_key", "pool_size", "n_children_spawned"]
    seed = None if seeds is None else {key: getattr(seeds, key) for key in held}
    return {
        "generator": name,
        "state": encoder.part(value.state, ".state"),
        "seed": encoder.part(seed, ".seed_seq"),
    }


def _read_bit_generator(node: Fields, decoder: Decoder, keep: Keep) -> Any:
    state, seed = decoder.value(node["state"]), decoder.value(node["seed"])
    if seed is not None and seed["pool_size"] > _LARGEST_POOL:
        raise FileFormatError(f"A pool of {seed['pool_size']} numbers of seeds is too large.")
    made = _BIT_GENERATORS[node["generator"]](None if seed is None else SeedSequence(**seed))
    made.state = state
    return made


def _write_generator(value: Generator, encoder: Encoder) -> Fields:
    return {"of": encoder.part(value.bit_generator, ".bit_generator")}


def _read_generator(node: Fields, decoder: Decoder, keep: Keep) -> Generator:
    return Generator(decoder.value(node["of"]))


# Networks, folders and places


def _write_folder(value: OwnedFolder, encoder: Encoder) -> Fields:
    return {"name": encoder.files.put_folder(value)}


def _read_folder(node: Fields, decoder: Decoder, keep: Keep) -> OwnedFolder:
    return decoder.files.get_folder(text_of(node, "name"))


def _write_network(value: Any, encoder: Encoder) -> Fields:
    return {"number": encoder.files.put_network(value)}


def _read_network(node: Fields, decoder: Decoder, keep: Keep) -> Any:
    return decoder.files.get_network(node["number"])


NETWORK = Kind("network", _write_network, _read_network)


def _write_torch(value: Any, encoder: Encoder) -> Fields:
    return {"name": str(value).removeprefix("torch.")}


def _read_device(node: Fields, decoder: Decoder, keep: Keep) -> Any:
    import torch

    return torch.device(text_of(node, "name"))


def _read_torch_dtype(node: Fields, decoder: Decoder, keep: Keep) -> Any:
    import torch

    found = getattr(torch, text_of(node, "name"), None)
    if not isinstance(found, torch.dtype):
        raise FileFormatError(f"{node['name']!r} is no type of tensors.")
    return found


def _write_path(value: PurePath, encoder: Encoder) -> Fields:
    return {"value": str(value)}


def _write_bytes(value: bytes | bytearray, encoder: Encoder) -> Fields:
    return {"hex": bytes(value).hex()}


def _read_hex(node: Fields, decoder: Decoder, keep: Keep) -> bytes:
    return bytes.fromhex(text_of(node, "hex"))


def _reader_of_path(kind: type[PurePath]) -> Callable[[Fields, Decoder, Keep], PurePath]:
    return lambda node, decoder, keep: kind(text_of(node, "value"))


def _read_ellipsis(node: Fields, decoder: Decoder, keep: Keep) -> Any:
    return ...


def _write_nothing(value: Any, encoder: Encoder) -> Fields:
    return {}


_LIST = Kind("list", _write_items, _read_list)
_TUPLE = Kind("tuple", _write_items, _reader_of(tuple))
_DICT = Kind("dict", _write_dict, _read_dict_as(dict))
_CLASS = Kind("class", _write_class, _read_class)
_ENUM = Kind("enum", _write_enum, _read_enum)
_FUNCTION = Kind("function", _write_function, _read_function)
_ARRAY = Kind("array", _write_array, _read_array)
_OBJECTS = Kind("objects", _write_objects, _read_objects)
_TEXTS = Kind("texts", _write_texts, _read_texts)
_DTYPE = Kind("dtype", _write_dtype, _read_dtype)
_SCALAR = Kind("scalar", _write_scalar, _read_scalar)
_LAZY = Kind("rows", _write_lazy, _read_lazy)
_BITS = Kind("bit generator", _write_bit_generator, _read_bit_generator)
_UFUNC = Kind("ufunc", _write_ufunc, _read_ufunc)

_OF_TORCH = {
    "device": Kind("torch device", _write_torch, _read_device),
    "dtype": Kind("torch dtype", _write_torch, _read_torch_dtype),
}
"""By names of classes, since torch need not be there."""

_BY_TYPE: dict[type, Kind] = {
    list: _LIST,
    tuple: _TUPLE,
    dict: _DICT,
    set: Kind("set", _write_items, _reader_of(set)),
    frozenset: Kind("frozenset", _write_items, _reader_of(frozenset)),
    deque: Kind("deque", _write_deque, _read_deque),
    Counter: Kind("counter", _write_dict, _read_dict_as(Counter)),
    OrderedDict: Kind("ordered dict", _write_dict, _read_dict_as(OrderedDict)),
    defaultdict: Kind("default dict", _write_default, _read_default),
    Bunch: Kind("bunch", _write_bunch, _read_dict_as(Bunch)),
    str: Kind("text", _write_text, _read_text),
    bytes: Kind("bytes", _write_bytes, _read_hex),
    complex: Kind("complex", _write_complex, _read_complex),
    slice: Kind("slice", _write_span, _read_slice),
    range: Kind("range", _write_span, _read_range),
    type(...): Kind("ellipsis", _write_nothing, _read_ellipsis),
    RandomState: Kind("random state", _write_random_state, _read_random_state),
    Generator: Kind("generator", _write_generator, _read_generator),
    OwnedFolder: Kind("folder", _write_folder, _read_folder),
    MaskedArray: Kind("masked array", _write_masked, _read_masked),
    # Of the system that it is read on.
    type(Path()): Kind("path", _write_path, _reader_of_path(Path)),
    PurePosixPath: Kind("posix path", _write_path, _reader_of_path(PurePosixPath)),
    PureWindowsPath: Kind("windows path", _write_path, _reader_of_path(PureWindowsPath)),
    np.ufunc: _UFUNC,
}
_BY_PARENT: tuple[tuple[type, Kind], ...] = (
    (LazyArray, _LAZY),
    (np.generic, _SCALAR),
    (np.dtype, _DTYPE),
    (BitGenerator, _BITS),
    (sparse.sparray, FOREIGN["sparse"]),
    (sparse.spmatrix, FOREIGN["sparse"]),
)
_BY_NAME = {
    kind.name: kind
    for kind in (
        *_BY_TYPE.values(),
        *(kind for _, kind in _BY_PARENT),
        *FOREIGN.values(),
        *_OF_TORCH.values(),
        _ARRAY,
        _CLASS,
        _ENUM,
        _FUNCTION,
        _OBJECTS,
        _TEXTS,
        NETWORK,
        OBJECT,
    )
}


class AllKinds:
    """Every kind of value that a file may hold.

    Parameters
    ----------
    is_network : callable
        Whether a value that is of no other kind is a network.
    """

    def __init__(self, is_network: Callable[[Any], bool]) -> None:
        self._is_network = is_network

    def of(self, value: Any) -> Kind | None:
        """The kind of a value; None where values of its type are not written."""
        kind = _BY_TYPE.get(type(value)) or _kind_of_array(value) or _kind_by_parent(value)
        if kind is not None:
            return kind
        if isinstance(value, type):
            return _CLASS
        if callable(value) and name_of_function(value) is not None:
            return _FUNCTION
        if name_of(type(value)) is not None:
            return FOREIGN.get(type(value).__name__) or _kind_of_object(value)
        is_part = type(value).__module__ == "torch"  # of networks, and none itself
        return NETWORK if not is_part and self._is_network(value) else None

    def named(self, name: str) -> Kind | None:
        """The kind of nodes of a type; None where there is none."""
        return _BY_NAME.get(name)


def _kind_of_array(value: Any) -> Kind | None:
    if type(value) not in (np.ndarray, np.memmap):
        return None
    if value.dtype.kind == "T":
        return _TEXTS
    return _OBJECTS if value.dtype == object else _ARRAY


_LIBRARIES = {"numpy", "scipy", "skood"}


def _kind_by_parent(value: Any) -> Kind | None:
    if type(value).__module__ == "torch":
        return _OF_TORCH.get(type(value).__name__)
    kind = next((kind for parent, kind in _BY_PARENT if isinstance(value, parent)), None)
    if kind is _SCALAR and (value.dtype.hasobject or value.dtype.names or value.dtype == "V0"):
        return None
    is_of_library = type(value).__module__.partition(".")[0] in _LIBRARIES
    return kind if is_of_library else None  # a class of the user may hold more


def _kind_of_object(value: Any) -> Kind:
    return _ENUM if isinstance(value, Enum) else OBJECT
