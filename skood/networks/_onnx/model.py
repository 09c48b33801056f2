"""ONNX models from files, sessions, bytes and protos, run with any of their values as outputs.

Nothing that the user gives is changed. Models stay loaded in this process, the last ones that were
used: an extractor asks for its network in each call.
"""

from __future__ import annotations

import hashlib
import os
import threading
import zlib
from abc import ABC, abstractmethod
from collections import OrderedDict
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import suppress
from functools import cached_property
from pathlib import Path
from typing import Any, TypeVar

import numpy as np
import onnxruntime as ort
from numpy.typing import NDArray
from onnx import GraphProto, ModelProto, TensorProto, ValueInfoProto, numpy_helper
from onnx.external_data_helper import load_external_data_for_model

from .._fingerprint import Fingerprint
from .graph import Graph, read_graph, tensors_of

_N_MODELS, _N_SESSIONS = 8, 4
_FOLDER = "session.model_external_initializers_file_folder_path"
_CHUNK = 1 << 24
_FATAL_ONLY = 4  # what fails raises an error
_OPTIONS = (
    "enable_cpu_mem_arena",
    "enable_mem_pattern",
    "enable_mem_reuse",
    "execution_mode",
    "execution_order",
    "graph_optimization_level",
    "inter_op_num_threads",
    "intra_op_num_threads",
    "use_deterministic_compute",
)

Stamp = tuple[Any, ...]
_Key = TypeVar("_Key")
_Value = TypeVar("_Value")


class Recent(OrderedDict[_Key, _Value]):
    """The values that were asked for last, at most a number of them."""

    def __init__(self, n_kept: int) -> None:
        super().__init__()
        self._n_kept = n_kept
        self._lock = threading.RLock()

    def recall(
        self, key: _Key, make: Callable[[], _Value], fits: Callable[[_Value], bool] = lambda v: True
    ) -> _Value:
        """The value of a key, made where there is none that fits."""
        with self._lock:
            value = self.pop(key, None)
            self[key] = value = value if value is not None and fits(value) else make()
            while len(self) > self._n_kept:
                self.popitem(last=False)
            return value


class Source(ABC):
    """Where a model comes from."""

    folder: Path | None = None
    """Folder of the files that weights may lie in."""
    key: Any
    """Equal for sources of which one is not to be loaded twice."""

    @abstractmethod
    def read(self) -> bytes:
        """The serialised model."""

    @abstractmethod
    def stamp(self, weight_files: Sequence[str] = ()) -> Stamp:
        """Something cheap that changes with the model."""


class _File(Source):
    def __init__(self, path: str | os.PathLike[str]) -> None:
        self._path = Path(path).absolute()
        if not self._path.is_file():
            raise FileNotFoundError(f"There is no ONNX model at the path {os.fspath(path)!r}.")
        self.folder = self._path.parent
        self.key = str(self._path)

    def read(self) -> bytes:
        return self._path.read_bytes()

    def stamp(self, weight_files: Sequence[str] = ()) -> Stamp:
        stats = [
            os.stat(path) for path in (self._path, *map(self._path.parent.joinpath, weight_files))
        ]
        return tuple((s.st_mtime_ns, s.st_size, s.st_ino) for s in stats)


class _Bytes(Source):
    def __init__(self, octets: bytes) -> None:
        self.key = self._octets = octets

    def read(self) -> bytes:
        return self._octets

    def stamp(self, weight_files: Sequence[str] = ()) -> Stamp:
        return (len(self._octets), hash(self._octets))  # which the object keeps


class _Proto(Source):
    def __init__(self, proto: ModelProto) -> None:
        self._proto = proto
        self.key = ("proto", id(proto))

    def read(self) -> bytes:
        try:
            return self._proto.SerializeToString()
        except Exception as error:
            raise ValueError(
                "This ModelProto cannot be serialised, as those beyond 2 GB: save it by "
                "onnx.save(model, path, save_as_external_data=True) and pass the path."
            ) from error

    def stamp(self, weight_files: Sequence[str] = ()) -> Stamp:
        # To serialise all would cost several times what it costs to read the weights.
        size = checksum = 0
        for octets in _contents(self._proto):
            size, checksum = size + len(octets), zlib.crc32(octets, checksum)
        return (size, checksum)


def _contents(proto: Any) -> Iterator[bytes]:
    """All that a model, a graph or a tensor holds, as it lies in memory where it is large."""
    for declared, value in proto.ListFields():
        yield declared.name.encode()
        if declared.name == "graph":
            yield from _contents(value)
        elif declared.name == "initializer":
            for tensor in value:
                yield from _contents(tensor) if tensor.HasField("raw_data") else _serialised(tensor)
        elif isinstance(value, bytes):
            yield value
        else:
            yield from _serialised(value)


def _serialised(value: Any) -> Iterator[bytes]:
    """A value of a field: a message, several, or plain values."""
    if hasattr(value, "SerializeToString"):
        yield value.SerializeToString()
    elif isinstance(value, str | int | float):
        yield repr(value).encode()
    else:
        for one in value:
            yield from _serialised(one)


class Model:
    """A model, its graph, and sessions that yield values of it."""

    def __init__(self, source: Source) -> None:
        self.source = source
        self._files: list[str] = []
        before = source.stamp()
        model = _parse(source.read())
        self._inlined = _inline(model) if model.functions else None
        self._files = _weight_files(model)
        self._check_files()
        self.graph: Graph = read_graph(self._inlined or model)
        self._given = {*self.graph.outputs, *(declared.name for declared in self.graph.inputs)}
        self.stamp = source.stamp(self._files)
        if self.stamp[: len(before)] != before:
            raise ValueError("The ONNX model was written while it was read: try again.")
        self._sessions: Recent[tuple[Any, ...], Any] = Recent(_N_SESSIONS)

    def is_current(self) -> bool:
        """Whether the model seems to be the one that was read."""
        with suppress(OSError):
            return self.source.stamp(self._files) == self.stamp
        return False

    def stamp_of(self, network: Any) -> Stamp:
        """What the stamp of a network is now that was this model; empty where it is gone."""
        with suppress(OSError):
            return _source_of(network).stamp(self._files)
        return ()

    def _check_files(self) -> None:
        if not self._files:
            return
        folder = self.source.folder
        if folder is None:
            raise ValueError(
                f"The weights of this ONNX model lie in other files, {self._files}, whose folder "
                "is not known: pass the path of the model, or a ModelProto with its weights, as "
                "onnx.load(path) returns it."
            )
        if missing := [name for name in self._files if not (folder / name).is_file()]:
            raise FileNotFoundError(f"The weights of the ONNX model are missing: {missing}.")

    @cached_property
    def fingerprint(self) -> Fingerprint:
        """Hash of the content, the same wherever the model comes from, and of its parts."""
        model = _parse(self.source.read())
        tensors: dict[str, bytes] = {}
        for tensor in _all_tensors(model):
            content = hashlib.blake2b(digest_size=16)
            content.update(f"{tensor.name} {tensor.data_type} {list(tensor.dims)}".encode())
            for chunk in self._data_of(tensor):
                content.update(chunk)
            tensors[f"{len(tensors)} {tensor.name}"] = content.digest()
            for part in ("raw_data", "external_data", "data_location", *_TYPED):
                tensor.ClearField(part)
        graph = model.SerializeToString(deterministic=True)
        settings = {"graph": hashlib.blake2b(graph, digest_size=16).digest()}
        versions = {"onnxruntime": ort.__version__}
        said = f"{sorted(versions.items())} {list(tensors.items())} {settings}"
        digest = hashlib.blake2b(said.encode(), digest_size=16).hexdigest()
        return Fingerprint(digest, [], tensors, settings, versions)

    def whole(self) -> bytes:
        """The serialised model with its weights, also where these lie in other files.

        Raises
        ------
        ValueError
            If it is beyond what one file may hold.
        """
        if not self._files:
            return self.source.read()
        model = _parse(self.source.read())
        load_external_data_for_model(model, str(self._folder))
        return _Proto(model).read()

    def _data_of(self, tensor: TensorProto) -> Iterator[bytes]:
        if tensor.data_location != TensorProto.EXTERNAL:
            yield tensor.raw_data if tensor.HasField("raw_data") else _octets(tensor)
            return
        place = {entry.key: entry.value for entry in tensor.external_data}
        with open(self._folder / place["location"], "rb") as file:
            file.seek(int(place.get("offset", 0)))
            left = int(place["length"]) if "length" in place else os.fstat(file.fileno()).st_size
            while left > 0 and (chunk := file.read(min(left, _CHUNK))):
                left -= len(chunk)
                yield chunk

    @property
    def _folder(self) -> Path:
        assert self.source.folder is not None
        return self.source.folder

    def run(self, inputs: dict[str, NDArray], session: Any) -> dict[str, NDArray]:
        """The inputs, and all tensors that a session yields.

        Raises
        ------
        ValueError
            If ONNX Runtime fails.
        """
        names = [o.name for o in session.get_outputs() if o.type.startswith("tensor(")]
        try:
            return {**inputs, **dict(zip(names, session.run(names, inputs), strict=True))}
        except Exception as error:
            shapes = {name: array.shape for name, array in inputs.items()}
            raise ValueError(
                f"ONNX Runtime fails on inputs of the shapes {shapes}: {_in_one_line(error)} Where "
                "the model was exported for batches of one size without saying so, export it with "
                "a dynamic first axis."
            ) from error

    def session(self, values: Iterable[str], place: Place) -> Any:
        """A session with these values among its outputs, kept for the next time."""
        more = frozenset(values) - self._given
        return self._sessions.recall((more, place.key), lambda: self.open(more, place))

    def open(self, values: Iterable[str], place: Place) -> Any:
        """A new session with these values among its outputs.

        Raises
        ------
        ValueError
            If ONNX Runtime cannot run the model.
        """
        more = sorted(set(values) - self._given)
        model = self.source.read() if self._inlined is None else self._inlined.SerializeToString()
        # A serialised message followed by another is both in one: weights are copied only once.
        outputs = GraphProto(output=[ValueInfoProto(name=value) for value in more])
        model += ModelProto(graph=outputs).SerializeToString()
        options = place.options(self._folder if self._files else None)
        try:
            return ort.InferenceSession(model, options, providers=place.providers)
        except Exception as error:
            raise ValueError(
                f"ONNX Runtime cannot run this model: {_in_one_line(error)}"
            ) from error


def _in_one_line(error: Exception) -> str:
    return " ".join(str(error).split())


class Place:
    """Where and how to run: providers and options, those of a given session where there is one."""

    def __init__(self, device: Any, given: Any = None) -> None:
        self._given = None if given is None else given.get_session_options()
        self.providers = _providers(str(device), given)
        # The options themselves, so that no others get their address.
        self.key = (repr(self.providers), self._given)

    def options(self, folder: Path | None) -> Any:
        """Options of a new session, with the folder of files of weights."""
        given = self._given
        writes = given is not None and (given.enable_profiling or given.optimized_model_filepath)
        if given is not None and not writes and folder is None:
            return given  # only read, with all that it may hold, such as libraries of operators
        options = ort.SessionOptions()
        options.log_severity_level = _FATAL_ONLY
        for name in _OPTIONS:
            if given is not None and hasattr(given, name):
                setattr(options, name, getattr(given, name))
        if given is None and (n_threads := os.environ.get("OMP_NUM_THREADS", "")).isdigit():
            options.intra_op_num_threads = int(n_threads)
        if folder is not None:
            options.add_session_config_entry(_FOLDER, str(folder))
        return options


def _providers(device: str, given: Any) -> list[Any]:
    if device == "auto" and given is not None:
        options = given.get_provider_options()
        return [(name, options.get(name, {})) for name in given.get_providers()]
    kind, _, number = device.partition(":")
    if kind in ("auto", "cpu"):
        return ["CPUExecutionProvider"]
    if kind != "cuda" or not (number or "0").isdigit():
        raise ValueError(f"device must be 'auto', 'cpu' or 'cuda' for ONNX models, got {device!r}.")
    if "CUDAExecutionProvider" not in ort.get_available_providers():
        raise ValueError(
            f"device={device!r} needs ONNX Runtime with its CUDA provider, as the package "
            "onnxruntime-gpu brings it; this one has only "
            f"{ort.get_available_providers()}."
        )
    return [("CUDAExecutionProvider", {"device_id": number or "0"}), "CPUExecutionProvider"]


_MODELS: Recent[Any, Model] = Recent(_N_MODELS)


def open_model(network: Any) -> Model:
    """The model of a path, a session, serialised bytes or a proto.

    Raises
    ------
    FileNotFoundError
        If there is no such file.
    TypeError
        If it is none of these.
    ValueError
        If it is no ONNX model, or the model of a session is not known.
    """
    source = _source_of(network)
    # Of bytes, and of files that have not changed, nothing is read again.
    return _MODELS.recall(source.key, lambda: Model(source), lambda known: _still(known, source))


def _still(known: Model, source: Source) -> bool:
    known.source = source
    return known.is_current()


def _source_of(network: Any) -> Source:
    if isinstance(network, ort.InferenceSession):
        return _source_of_session(network)
    if isinstance(network, ModelProto):
        return _Proto(network)
    if isinstance(network, bytes):
        return _Bytes(network)
    if isinstance(network, str | os.PathLike):
        return _File(network)
    raise TypeError(
        "An ONNX network is the path of a model, an onnxruntime.InferenceSession, an "
        f"onnx.ModelProto or its serialised bytes; got {type(network).__name__}."
    )


def _source_of_session(session: Any) -> Source:
    octets, path = (getattr(session, name, None) for name in ("_model_bytes", "_model_path"))
    if octets:
        return _Bytes(bytes(octets))
    if not path:
        raise ValueError(
            "This session does not tell which model it runs: pass the path of the model."
        )
    if not os.path.isfile(path):
        raise FileNotFoundError(
            f"The session was made from the file {os.fspath(path)!r}, which is not there any more, "
            f"or was named relative to another folder than {os.getcwd()!r}: pass the full path of "
            "the model."
        )
    return _File(path)


def _parse(octets: bytes) -> ModelProto:
    model = ModelProto()
    try:
        model.ParseFromString(octets)
    except Exception as error:
        raise ValueError(f"This is no ONNX model, or not a whole one: {error}.") from error
    if not model.graph.output:
        raise ValueError("This is no ONNX model: it has no graph with an output.")
    return model


def _inline(model: ModelProto) -> ModelProto:
    from onnx import inliner

    return inliner.inline_local_functions(model)


def _all_tensors(model: ModelProto) -> Iterator[TensorProto]:
    yield from tensors_of(model.graph)
    for function in model.functions:
        yield from tensors_of(GraphProto(node=function.node))


def _weight_files(model: ModelProto) -> list[str]:
    """Files beside the model that hold its weights."""
    found: dict[str, None] = {}
    for tensor in tensors_of(model.graph):
        if tensor.data_location == TensorProto.EXTERNAL:
            places = {entry.key: entry.value for entry in tensor.external_data}
            found[places["location"]] = None
    return list(found)


_TYPED = ("float_data", "int32_data", "string_data", "int64_data", "double_data", "uint64_data")


def _octets(tensor: TensorProto) -> bytes:
    array = numpy_helper.to_array(tensor)
    if array.dtype.hasobject:
        return repr(array.tolist()).encode()
    return np.ascontiguousarray(array).tobytes()
