"""Reader of the tensors in weight files of many tools.

Importing this module does not import torch.
"""

from __future__ import annotations

import contextlib
import hashlib
import io
import json
import pickle
import pickletools
import re
import zipfile
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from rkd_core.errors import UserError, first_line

if TYPE_CHECKING:
    from torch import Tensor

__all__ = ["ENDINGS", "Stored", "listed", "read"]

ENDINGS = (".pth", ".pt", ".pth.tar", ".pt.tar", ".tar", ".ckpt", ".bin", ".th", ".safetensors")
"""Supported endings of file names, in lower case."""

# Formats of other tools, which contain at most a part of a state dict.
_OTHERS = {
    ".pt2": "a torch.export program",
    ".onnx": "an ONNX model",
    ".h5": "a Keras file",
    ".keras": "a Keras file",
    ".pb": "a TensorFlow model",
    ".tflite": "a TensorFlow model",
    ".msgpack": "a Flax file",
    ".gguf": "a GGUF file",
}
_BEGINNINGS = {
    b"version https://git-lfs": "a Git LFS pointer, not the file itself: run git lfs pull",
    b"<!DOCTYPE": "a web page, not the file that it links to",
    b"<html": "a web page, not the file that it links to",
    b"\x1f\x8b": "compressed: unpack it first",
}
_SAVE = (
    "with the tool that wrote it, save only the state dict: "
    "torch.save(model.state_dict(), 'weights.pth')"
)
_DEPTH = 6  # maximum levels of nested mappings
_NAMED = 4  # maximum names that a message lists


@dataclass(frozen=True, eq=False)
class Stored:
    """A tensor in a file.

    Attributes:
        tensor: The tensor as stored.
        folder: Keys of the mappings that contain it, joined by ``.``; empty for the outermost.
        name: Its key in the innermost mapping.
    """

    tensor: Tensor
    folder: str
    name: str


def read(path: Path) -> tuple[str, list[Stored]]:
    """Read a weight file; only tensors and plain values are unpickled.

    Args:
        path: A state dict, or a checkpoint with one or several, of ``torch.save`` or
            safetensors.

    Returns:
        SHA-256 of the file, and all its tensors.

    Raises:
        UserError: The file cannot be read, or is of an unsupported kind, which the message names.
    """
    lower = path.name.lower()
    kind = next((kind for ending, kind in _OTHERS.items() if lower.endswith(ending)), None)
    if kind is not None:
        raise UserError(f"{path} is {kind}, not a weight file: {_SAVE}")
    if lower.endswith(".index.json"):
        raise UserError(f"{path} is {_index(path)}")
    if not lower.endswith(ENDINGS):
        raise UserError(
            f"{path} is not a weight file: its name must end in "
            f"{', '.join(ENDINGS[:-1])} or {ENDINGS[-1]}"
        )
    try:
        if not path.is_file():
            raise UserError(f"{path} does not exist or is not a file: give a weight file")
        content = path.read_bytes()
        found = _loaded(path, content)
    except UserError:
        raise
    except pickle.UnpicklingError as error:  # torch's message suggests running the code anyway
        raise UserError(f"{path} cannot be read as weights: {_refused(content, error)}") from error
    except Exception as error:  # damaged files raise many kinds of errors
        reason = first_line(error)
        raise UserError(f"{path} cannot be read as weights: {reason}") from error
    if not isinstance(found, Mapping):
        raise UserError(f"{path} contains a {type(found).__name__}, not a state dict")
    return hashlib.sha256(content).hexdigest(), list(_tensors(found))


def listed(names: list[str]) -> str:
    """Return a text with the first of several names and the number of the others."""
    more = len(names) - _NAMED
    return ", ".join(names[:_NAMED]) + (f" and {more} more" if more > 0 else "")


def _loaded(path: Path, content: bytes) -> Any:
    """Return the content of a file.

    Raises:
        UserError: The file is of an unsupported kind.
    """
    import torch
    from safetensors.torch import load

    kind = next((kind for start, kind in _BEGINNINGS.items() if content.startswith(start)), None)
    if kind is None and content[257:262] == b"ustar":
        kind = "a tar archive: unpack it first"
    if kind is None and content.startswith(b"PK"):
        kind = _kind_of_archive(content)
    if kind is not None:
        raise UserError(f"{path} is {kind}")
    if path.suffix.lower() == ".safetensors" or content[8:10] == b'{"':
        return load(content)
    return torch.load(io.BytesIO(content), map_location="cpu", weights_only=True)


def _kind_of_archive(content: bytes) -> str | None:
    """Describe a zip archive that does not hold tensors; return None for one that does."""
    try:
        with zipfile.ZipFile(io.BytesIO(content)) as archive:
            names = [name.partition("/")[2] or name for name in archive.namelist()]
    except zipfile.BadZipFile:  # torch raises an error with a better message
        return None
    if "constants.pkl" in names:
        return f"a TorchScript archive, not a state dict: {_SAVE}"
    if "archive_format" in names or "serialized_exported_program.json" in names:
        return f"a torch.export program, not a state dict: {_SAVE}"
    if "data.pkl" not in names:
        return "a zip archive that torch.save did not write: unpack it first"
    return None


def _index(path: Path) -> str:
    """Describe an index of weights in several files."""
    try:
        parts = sorted(set(json.loads(path.read_bytes())["weight_map"].values()))
        several = f"an index of {len(parts)} files ({listed([str(part) for part in parts])})"
    except Exception:  # a damaged index or another kind of file is refused as well
        several = "an index of several files"
    return f"{several}: give one file with all tensors; {_SAVE}"


def _refused(content: bytes, error: pickle.UnpicklingError) -> str:
    """Return the reason why a pickle was not loaded, in one line."""
    classes: list[str] = []
    with contextlib.suppress(Exception):  # stop at the first damaged part
        for name in _classes(content):
            classes.append(name)
    if any(name.startswith("torch.nn.modules.") for name in classes):
        own = next(n for n in classes if not n.startswith(("collections.", "builtins.")))
        return f"it is a pickled module ({own}), which can run code: {_SAVE}"
    found = re.search(r"GLOBAL ([\w.]+)", str(error))
    if found is not None:
        return f"it contains {found[1]} besides tensors, which is not loaded: {_SAVE}"
    return f"it is damaged, or contains more than tensors: {_SAVE}"


def _classes(content: bytes) -> Iterator[str]:
    """Yield the names ``module.name`` that the pickles of a file refer to, without unpickling."""
    if content.startswith(b"PK"):
        with zipfile.ZipFile(io.BytesIO(content)) as archive:
            place = next(name for name in archive.namelist() if name.endswith("data.pkl"))
            content = archive.read(place)
    stream = io.BytesIO(content)
    while stream.tell() < len(content):
        texts: list[str] = []
        for opcode, argument, _ in pickletools.genops(stream):
            if opcode.name == "GLOBAL":
                yield str(argument).replace(" ", ".")
            elif opcode.name == "STACK_GLOBAL" and len(texts) >= 2:
                yield ".".join(texts[-2:])
            elif isinstance(argument, str):
                texts.append(argument)


def _tensors(found: Mapping[Any, Any]) -> Iterator[Stored]:
    """Yield all tensors in nested mappings, visiting each mapping once."""
    import torch

    waiting: list[tuple[tuple[str, ...], Mapping[Any, Any]]] = [((), found)]
    seen = {id(found)}
    while waiting:
        keys, mapping = waiting.pop(0)
        for key, value in mapping.items():
            if isinstance(value, torch.Tensor):
                yield Stored(value, ".".join(keys), str(key))
            elif isinstance(value, Mapping) and id(value) not in seen and len(keys) < _DEPTH:
                seen.add(id(value))
                waiting.append(((*keys, str(key)), value))
