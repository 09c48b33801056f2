"""The manifest of a folder of saved activations: which files it holds, and what they are."""

from __future__ import annotations

import json
import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any

from numpy.typing import NDArray

from ._column import PARTS, Column
from ._linear_head import LinearHead
from ._patterns import PackedBits

FORMAT = "skood.Activations"
FORMAT_VERSION = 2
MANIFEST = "manifest.json"
ROW_PARTS = tuple(PARTS)
"""Parts beside the layers that have a row for each sample."""
ALL_PARTS = (*ROW_PARTS, "classes", "head_weight", "head_bias")
SAVE_ID = r"[0-9a-f]{16}"
_STEM = rf"(?:layer_\d+|{'|'.join(ALL_PARTS)})"
FIRST_FILE = re.compile(rf"{_STEM}\.npy")
"""Names of the arrays of the save that made a folder."""
LATER_FILE = re.compile(
    rf"(?=.*\.({SAVE_ID})\.)(?:{_STEM}\.\1\.npy|manifest\.\1\.json|save\.\1\.lock)"
)
"""Names of all files of the saves that came after it."""


@dataclass(frozen=True)
class StoredLayer:
    """What a layer is."""

    name: str
    n_bits: int | None
    """Number of bits a sample, where it is packed."""
    metadata: dict[str, Any]
    """Keywords of its :class:`Column`."""

    @classmethod
    def of(cls, column: Column) -> StoredLayer:
        n_bits = column.shape[1] if column.is_packed else None
        return cls(str(column.name), n_bits, column.metadata())

    def column(self, array: NDArray) -> Column:
        """The column of this layer with the array of its file."""
        values = array if self.n_bits is None else PackedBits(array, self.n_bits)
        return Column(values, **self.metadata)


@dataclass(frozen=True)
class Manifest:
    """What the files of a folder are."""

    n_samples: int
    layers: tuple[StoredLayer, ...]
    parts: tuple[str, ...]
    head_input_layer: str | None
    save_id: str = ""
    """In the names of the files; empty for the save that made the folder."""
    replaces: tuple[str, ...] = ()
    """Files of the save that made the folder, which the next one may delete."""

    @classmethod
    def of(
        cls,
        columns: Iterable[Column],
        n_samples: int,
        head: LinearHead | None,
        classes: NDArray | None,
    ) -> Manifest:
        """The manifest of what Activations hold."""
        columns = list(columns)
        layers = tuple(StoredLayer.of(column) for column in columns if column.role == "layer")
        parts = [str(column.name) for column in columns if column.role != "layer"]
        parts += [] if classes is None else ["classes"]
        parts += [] if head is None else ["head_weight", "head_bias"]
        return cls(n_samples, layers, tuple(parts), None if head is None else head.input_layer)

    @property
    def layer_stems(self) -> tuple[str, ...]:
        """First part of the name of the file of each layer."""
        return tuple(f"layer_{number}" for number in range(len(self.layers)))

    @property
    def column_stems(self) -> tuple[str, ...]:
        """First part of the name of the file of each layer, and each part with a row a sample."""
        return (*self.layer_stems, *(part for part in self.parts if part in ROW_PARTS))

    @property
    def files(self) -> dict[str, str]:
        """Names of all files, by their first part."""
        return {stem: self.file_of(stem) for stem in (*self.layer_stems, *self.parts)}

    def file_of(self, stem: str) -> str:
        """Name of the file of ``layer_0``, ``layer_1`` and so on, or of a part."""
        return f"{stem}.{self.save_id}.npy" if self.save_id else f"{stem}.npy"

    def to_json(self) -> str:
        """The text of the file."""
        files = self.files
        layers = [
            {"name": layer.name, "file": files[stem], "n_bits": layer.n_bits} | layer.metadata
            for stem, layer in zip(self.layer_stems, self.layers, strict=True)
        ]
        content = {
            "format": FORMAT,
            "version": FORMAT_VERSION,
            "n_samples": self.n_samples,
            "layers": layers,
            "parts": self.parts,
            "head_input_layer": self.head_input_layer,
            "save_id": self.save_id,
            "replaces": self.replaces,
        }
        return json.dumps(content, indent=2)

    @classmethod
    def from_json(cls, text: str) -> Manifest:
        """Read the text of the file.

        Raises
        ------
        ValueError
            If it is not JSON, or not what ``to_json`` makes.
        """
        try:
            content = json.loads(text)
        except (ValueError, RecursionError) as error:
            raise ValueError(f"it is not JSON, or only a piece of it: {error}") from error
        _check_version(content)
        _check_keys(content)
        _check_no_name_twice([layer["name"] for layer in content["layers"]])
        manifest = cls(
            content["n_samples"],
            tuple(_read_layer(layer) for layer in content["layers"]),
            tuple(content["parts"]),
            content["head_input_layer"],
            content["save_id"],
            tuple(content["replaces"]),
        )
        _check_parts(manifest)
        _check_files(manifest, [layer["file"] for layer in content["layers"]])
        return manifest


def _check_version(content: Any) -> None:
    if not isinstance(content, dict):
        raise ValueError(f"it must hold an object, got {type(content).__name__}.")
    version = content.get("version")
    # Neither 2.0 nor True, which equal integers.
    is_ours = content.get("format") == FORMAT and _is_integer(version)
    if not is_ours or version != FORMAT_VERSION:
        raise ValueError(
            f"it holds format {content.get('format')!r} version {version!r}; "
            f"expected {FORMAT!r} version {FORMAT_VERSION}."
        )


def _check_keys(content: dict[str, Any]) -> None:
    keys = ["n_samples", "layers", "parts", "head_input_layer", "save_id", "replaces"]
    if missing := [key for key in keys if key not in content]:
        raise ValueError(f"it lacks {missing}.")
    for key in ("layers", "parts", "replaces"):
        if not isinstance(content[key], list):
            raise ValueError(f"{key} must be a list, got {content[key]!r}.")
    for layer in content["layers"]:
        _check_layer(layer)


_OF_FILE = ("name", "file", "n_bits")
_OF_COLUMN = tuple(Column(None).metadata())


def _check_layer(layer: Any) -> None:
    # A key that is missing is no default: a gradient would be read as a value.
    keys = (*_OF_FILE, *_OF_COLUMN)
    if not isinstance(layer, dict) or set(layer) != set(keys):
        raise ValueError(f"a layer must have the keys {list(keys)} and no others, got {layer!r}.")
    name, n_bits = layer["name"], layer["n_bits"]
    if not isinstance(name, str):
        raise ValueError(f"the name of a layer must be a string, got {name!r}.")
    if n_bits is not None and not (_is_integer(n_bits) and n_bits >= 0):
        raise ValueError(
            f"n_bits of layer {name!r} must be null or an integer of at least 0, got {n_bits!r}."
        )


def _read_layer(layer: dict[str, Any]) -> StoredLayer:
    name = layer["name"]
    try:
        column = Column(None, **{key: layer[key] for key in _OF_COLUMN})
    except (TypeError, ValueError) as error:
        raise ValueError(f"layer {name!r}: {error}") from error
    return StoredLayer(name, layer["n_bits"], column.metadata())


def _check_no_name_twice(names: Sequence[str]) -> None:
    if len(set(names)) < len(names):
        raise ValueError(f"a name occurs twice in {list(names)}.")


def _check_parts(manifest: Manifest) -> None:
    n_samples, reads = manifest.n_samples, manifest.head_input_layer
    if not _is_integer(n_samples) or n_samples < 0:
        raise ValueError(f"n_samples must be an integer of at least 0, got {n_samples!r}.")
    if unknown := [part for part in manifest.parts if part not in ALL_PARTS]:
        raise ValueError(f"parts must be among {list(ALL_PARTS)}, got {unknown}.")
    _check_no_name_twice(manifest.parts)
    heads = {"head_weight", "head_bias"}.intersection(manifest.parts)
    if len(heads) == 1 or not (reads is None or (isinstance(reads, str) and heads)):
        raise ValueError(
            "a head needs head_weight and head_bias among the parts, and null or a string as "
            f"head_input_layer; got {sorted(heads)} and {reads!r}."
        )


def _check_files(manifest: Manifest, layer_files: Sequence[Any]) -> None:
    """Check that all files have names of our making."""
    save_id, replaced = manifest.save_id, manifest.replaces
    if not isinstance(save_id, str) or not re.fullmatch(rf"(?:{SAVE_ID})?", save_id):
        raise ValueError(f"save_id must be 16 hexadecimal digits or empty, got {save_id!r}.")
    if layer_files != (expected := [manifest.file_of(stem) for stem in manifest.layer_stems]):
        raise ValueError(f"the files of the layers must be {expected}, got {layer_files}.")
    ours = all(isinstance(name, str) and FIRST_FILE.fullmatch(name) for name in replaced)
    if not ours or (replaced and not save_id):
        raise ValueError(f"replaces must name files of an earlier save, got {list(replaced)}.")


def _is_integer(value: Any) -> bool:
    return isinstance(value, int) and not isinstance(value, bool)
