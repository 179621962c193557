"""One file, one model: weights, spec, card and reference statistics.

A ``.safetensors`` file holds the tensors ``weights/NAME`` and ``reference/HEAD/DEPTH``;
its metadata holds JSON: ``format_version``, ``spec``, ``card`` and the sha256 of the
tensors. Nothing is ever unpickled.
"""

import hashlib
import json
import struct
from collections.abc import Mapping
from dataclasses import asdict, fields
from difflib import get_close_matches
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from .errors import (
    ChecksumMismatch,
    CorruptWeights,
    FutureFormat,
    UnknownModel,
    UnsafeWeights,
)
from .io.atomic import atomic_write
from .types import Checkpoint, ModelSpec

FORMAT_VERSION = 1
SUFFIX = ".safetensors"
_MAX_HEADER = 4 * 2**20  # bytes; ours need less than 1 MiB
_MAX_TENSORS = 20_000  # ours have 2,000
_MAX_SPEC = 2**20  # letters; ours have 2,000
_PICKLES = (b"\x80\x02", b"\x80\x03", b"\x80\x04", b"\x80\x05", b"PK\x03\x04")

Arrays = Mapping[str, NDArray[Any]]


def digest(tensors: Arrays) -> str:
    """Sha256 over names, types, shapes and bytes of tensors, in the order of names.

    Parameters
    ----------
    tensors : mapping of str to ndarray
        For instance ``checkpoint.weights``.

    Returns
    -------
    str
        64 hexadecimal digits.
    """
    sha = hashlib.sha256()
    for name in sorted(tensors):
        value = np.asarray(tensors[name])
        sha.update(f"{name}|{value.dtype.str}|{value.shape}|".encode())
        sha.update(np.ascontiguousarray(value).tobytes())
    return sha.hexdigest()


def save_checkpoint(
    checkpoint: Checkpoint, path: str | Path, *, overwrite: bool = False
) -> None:
    """Write a model to one file, atomically.

    Parameters
    ----------
    checkpoint : Checkpoint
        Its weights are written in the type they have.
    path : path
        Ends in ``.safetensors``.
    overwrite : bool
        Whether an existing file may be replaced.

    Raises
    ------
    CorruptWeights
        If a weight is not a finite number: such a model is never saved.
    SaveError
        If the file exists, the folder cannot be written, or the disk is full.
    """
    from safetensors.numpy import save

    for name, value in checkpoint.weights.items():
        if value.dtype.kind == "f" and not np.isfinite(value).all():
            raise CorruptWeights(
                f"The weights {name} hold values that are no numbers; not saved."
            )
    tensors = _tensors(checkpoint)
    spec = json.dumps(asdict(checkpoint.spec), sort_keys=True)
    card = json.dumps(dict(checkpoint.card), sort_keys=True)
    metadata = {
        "format_version": str(FORMAT_VERSION),
        "spec": spec,
        "card": card,
        "sha256": digest(tensors),
        "sha256_text": _text_digest(spec, card),
    }
    content = save(tensors, metadata)
    atomic_write(Path(path), lambda stream: stream.write(content), overwrite=overwrite)


def load_checkpoint(path: str | Path) -> Checkpoint:
    """Read a model file; nothing in it can run code.

    Parameters
    ----------
    path : path
        A file that `save_checkpoint` wrote.

    Returns
    -------
    Checkpoint
        The weights in the type they were saved in; bfloat16, which NumPy has not, as
        float32.

    Raises
    ------
    UnknownModel
        If there is no such file.
    UnsafeWeights
        If the file is a pickle (a legacy ``.pt`` file).
    CorruptWeights
        If the file is damaged; `ChecksumMismatch` if its tensors are not those that
        were saved.
    FutureFormat
        If a newer version wrote it.
    """
    from safetensors import SafetensorError, deserialize

    file = Path(path)
    metadata = read_metadata(file)
    try:
        found = deserialize(file.read_bytes())  # type: ignore[no-untyped-call]  # it is Rust
        tensors = {name: _array(entry) for name, entry in found}
    except (SafetensorError, ValueError, TypeError) as error:
        raise _corrupt(file) from error
    if digest(tensors) != metadata["sha256"]:
        raise ChecksumMismatch(
            f"{file.name} is not the model that was saved: sha256 "
            f"{digest(tensors)[:8]} instead of {metadata['sha256'][:8]}.",
            "Get the model file again.",
        )
    weights, reference = _split(tensors)
    return Checkpoint(metadata["spec"], weights, metadata["card"], reference)


def read_metadata(path: str | Path) -> dict[str, Any]:
    """Read spec and card of a model file without its tensors.

    Parameters
    ----------
    path : path
        A model file.

    Returns
    -------
    dict
        ``{"format_version", "spec": ModelSpec, "card", "sha256"}``.

    Raises
    ------
    WeightsError
        As in `load_checkpoint`.
    """
    file = Path(path)
    header = _header(file)
    try:
        found = json.loads(header, object_pairs_hook=_once)
        if len(found) > _MAX_TENSORS:
            raise _corrupt(file)
        metadata = found["__metadata__"]
        version = int(metadata["format_version"])
        if version > FORMAT_VERSION:
            raise FutureFormat(
                f"{file.name} has format {version}; this version reads up to "
                f"{FORMAT_VERSION}.",
                "Upgrade napari-hydraseg.",
            )
        if version < 1 or not _text_is_whole(metadata):
            raise _corrupt(file)
        return {
            "format_version": version,
            "spec": _spec(metadata["spec"], file),
            "card": json.loads(metadata["card"]),
            "sha256": str(metadata["sha256"]),
        }
    except (ValueError, KeyError, TypeError, AttributeError, RecursionError) as error:
        raise _corrupt(file) from error


def _header(file: Path) -> bytes:
    """Read the JSON at the head of a file, once its length has been found possible."""
    if not file.is_file():
        raise UnknownModel(f"{file.name} is no model file.", "Choose a model file.")
    with file.open("rb") as stream:
        first = stream.read(8)
        if first.startswith(_PICKLES):
            raise UnsafeWeights(
                f"{file.name} is a pickle, which could run code when opened.",
                "Try `hydraseg convert`, which reads tensors and nothing else.",
            )
        if len(first) < 8:
            raise _corrupt(file)
        (length,) = struct.unpack("<Q", first)
        if not 2 <= length <= min(_MAX_HEADER, file.stat().st_size - 8):
            raise _corrupt(file)
        return stream.read(length)


def _tensors(checkpoint: Checkpoint) -> dict[str, NDArray[Any]]:
    tensors = {f"weights/{k}": v for k, v in checkpoint.weights.items()}
    for head, entries in checkpoint.reference.items():
        tensors |= {f"reference/{head}/{k}": v for k, v in entries.items()}
    # not ascontiguousarray, which turns a scalar into a list of one
    return {name: np.asarray(value, order="C") for name, value in tensors.items()}


def _split(
    tensors: Arrays,
) -> tuple[dict[str, NDArray[Any]], dict[str, dict[str, NDArray[Any]]]]:
    weights: dict[str, NDArray[Any]] = {}
    reference: dict[str, dict[str, NDArray[Any]]] = {}
    for name, value in tensors.items():
        room, _, rest = name.partition("/")
        if room == "weights":
            weights[rest] = value
        else:
            head, _, depth = rest.rpartition("/")
            reference.setdefault(head, {})[depth] = value
    return weights, reference


def _once(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    """Refuse a key that stands twice, of which every reader may take another."""
    found = dict(pairs)
    if len(found) != len(pairs):
        raise ValueError("a key stands twice")
    return found


def _text_digest(spec: str, card: str) -> str:
    return hashlib.sha256(f"{spec}\n{card}".encode()).hexdigest()


def _text_is_whole(metadata: Mapping[str, str]) -> bool:
    """Tell whether spec and card are as saved; the earliest files cannot say."""
    said = metadata.get("sha256_text")
    return said in (None, _text_digest(metadata["spec"], metadata["card"]))


def _array(found: Mapping[str, Any]) -> NDArray[Any]:
    kind, content = found["dtype"], found["data"]
    if kind == "BF16":  # the upper half of a float32
        upper = np.frombuffer(content, "<u2").astype(np.uint32)
        values: NDArray[Any] = (upper << np.uint32(16)).view(np.float32)
    else:
        name = "?" if kind == "BOOL" else f"<{kind[0].lower()}{int(kind[1:]) // 8}"
        values = np.frombuffer(content, name)
    return values.reshape(found["shape"])


def _spec(text: str, file: Path) -> ModelSpec:
    if len(text) > _MAX_SPEC:
        raise ValueError("no spec is that long")
    said = json.loads(text, object_pairs_hook=_once, parse_constant=_no_number)
    known = [one.name for one in fields(ModelSpec)]
    for key in said:
        if key not in known:
            near = get_close_matches(key, known, 1)
            meant = f"; {near[0]} is meant?" if near else "."
            raise CorruptWeights(
                f"{file.name}: its spec has an unknown entry, {key[:30]!a}{meant}",
                "Upgrade napari-hydraseg, or mend the entry.",
            )
    return ModelSpec(
        **{
            **said,
            "channels": tuple(said["channels"]),
            "heads": {k: tuple(v) for k, v in said["heads"].items()},
            "patch": tuple(said["patch"]),
            "largest": tuple(said.get("largest", ())),
            "mirror": tuple(said.get("mirror", ())),
        }
    )


def _no_number(word: str) -> Any:
    raise ValueError(f"{word} is no number of JSON")


def _corrupt(file: Path) -> CorruptWeights:
    return CorruptWeights(
        f"{file.name} is damaged or no model of ours.", "Get the model file again."
    )
