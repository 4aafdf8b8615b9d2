"""Artifacts: a folder named by the run id, with a model's weights and how to rebuild it.

``weights.safetensors``, ``spec.json``, ``model.json``, ``record.parquet`` and ``manifest.json``,
which holds the size and SHA-256 of every other file. A folder appears complete or not at all,
and is checked against its manifest whenever it is loaded. No pickle is ever written or read.
"""

from __future__ import annotations

import hashlib
import json
import shutil
import uuid
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from pydantic import ValidationError

from rkd_core import records
from rkd_core.errors import UserError
from rkd_core.files import sync, write_synced
from rkd_core.specs import TrainingSpec

if TYPE_CHECKING:
    import torch

__all__ = ["Artifact", "check", "committed_record", "load", "save"]

_WEIGHTS, _SPEC, _MODEL = "weights.safetensors", "spec.json", "model.json"
_RECORD, _MANIFEST = "record.parquet", "manifest.json"


@dataclass(frozen=True)
class Artifact:
    """A loaded artifact, checked against its manifest."""

    spec: TrainingSpec
    model: dict[str, Any]
    """What ``rkd_core.models.build`` needs, and the normalisation of its inputs."""
    weights: dict[str, torch.Tensor]


def save(
    folder: Path,
    spec: TrainingSpec,
    model: dict[str, Any],
    weights: Mapping[str, torch.Tensor],
    row: Mapping[str, Any],
) -> bool:
    """Commit ``<folder>/<run_id>/``, put-if-absent; the one that is there already wins.

    Args:
        folder: The ``artifacts`` folder; made if it is missing.
        spec: The training's spec.
        model: JSON-ready description of the network and its input normalisation.
        weights: State dict.
        row: The run's completed record; its ``run_id`` names the folder.

    Returns:
        Whether this call committed the artifact.
    """
    from safetensors.torch import save as serialize

    run_id = str(row["run_id"])
    final = folder / run_id
    hidden = folder / f".{run_id}.{uuid.uuid4().hex}"
    hidden.mkdir(parents=True)
    try:
        tensors = {name: tensor.detach().cpu().contiguous() for name, tensor in weights.items()}
        files = {
            _WEIGHTS: serialize(tensors),
            _SPEC: spec.model_dump_json(indent=1).encode(),
            _MODEL: json.dumps(model, indent=1, sort_keys=True).encode(),
            _RECORD: records.serialize(row),
        }
        manifest = {name: {"bytes": len(b), "sha256": _sha256(b)} for name, b in files.items()}
        files[_MANIFEST] = json.dumps({"run_id": run_id, "files": manifest}, indent=1).encode()
        for name, content in files.items():
            write_synced(hidden / name, content)
        sync(hidden)
        try:
            hidden.rename(final)  # fails where a folder of that name holds files
        except OSError:
            if not (final / _MANIFEST).exists():
                raise
            return False
        sync(folder)
        return True
    finally:
        shutil.rmtree(hidden, ignore_errors=True)


def load(folder: Path, run_id: str) -> Artifact:
    """Read ``<folder>/<run_id>/`` after checking every file it uses against the manifest.

    Raises:
        UserError: The artifact is missing or damaged; the line names the file.
    """
    from safetensors.torch import load as deserialize

    contents = _checked(folder / run_id, run_id, (_WEIGHTS, _SPEC, _MODEL))
    try:
        spec = TrainingSpec.model_validate_json(contents[_SPEC])
    except ValidationError as error:
        reason = f"{error.error_count()} of its fields are unknown or out of range"
        raise UserError(f"{folder / run_id / _SPEC} is of another version: {reason}") from error
    return Artifact(spec, json.loads(contents[_MODEL]), deserialize(contents[_WEIGHTS]))


def committed_record(folder: Path, run_id: str) -> dict[str, Any] | None:
    """The record inside ``<folder>/<run_id>/``, or None if there is no such artifact.

    Raises:
        UserError: The artifact is damaged; the line names the file.
    """
    path = folder / run_id
    if not path.is_dir():
        return None
    _checked(path, run_id, (_RECORD,))
    row: dict[str, Any] = records.read_one(path / _RECORD).to_pylist()[0]
    return row


def check(folder: Path, run_id: str) -> None:
    """Compare every file of ``<folder>/<run_id>/`` with the manifest.

    Raises:
        UserError: The artifact is missing or damaged; the line names the file.
    """
    _checked(folder / run_id, run_id, (_WEIGHTS, _SPEC, _MODEL, _RECORD))


def _checked(path: Path, run_id: str, names: tuple[str, ...]) -> dict[str, bytes]:
    try:
        manifest = json.loads((path / _MANIFEST).read_bytes())
        sums = {str(name): str(entry["sha256"]) for name, entry in manifest["files"].items()}
        if manifest["run_id"] != run_id:
            raise UserError(f"{path / _MANIFEST} is the manifest of run {manifest['run_id']}")
    except FileNotFoundError:
        raise UserError(f"{path} is not a complete artifact: {_MANIFEST} is missing") from None
    except UserError:
        raise
    except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:
        raise UserError(f"{path / _MANIFEST} is damaged ({error})") from error
    contents: dict[str, bytes] = {}
    for name in names:
        try:
            contents[name] = (path / name).read_bytes()
        except OSError as error:
            raise UserError(f"{path / name} cannot be read ({error})") from error
        if _sha256(contents[name]) != sums.get(name):
            raise UserError(f"{path / name} is damaged: its SHA-256 differs")
    return contents


def _sha256(content: bytes) -> str:
    return hashlib.sha256(content).hexdigest()
