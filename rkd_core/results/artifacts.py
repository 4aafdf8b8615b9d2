"""Artifacts: a folder named by the run id, with a model's weights and how to rebuild it.

``weights.safetensors``, ``spec.json``, ``model.json`` and ``record.parquet``, as a bundle: it
appears complete or not at all, and is checked whenever it is loaded. No pickle is ever written
or read.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from rkd_core import records
from rkd_core.errors import UserError, first_line
from rkd_core.specs import TrainingSpec, revision
from rkd_core.storage import bundles
from rkd_core.text import json_text

if TYPE_CHECKING:
    import torch

__all__ = ["RECORD", "Artifact", "check", "committed_record", "load", "save"]

_WEIGHTS, _SPEC, _MODEL = "weights.safetensors", "spec.json", "model.json"
RECORD = "record.parquet"
"""The completed record, as it was committed."""


@dataclass(frozen=True)
class Artifact:
    """A loaded artifact, checked against its manifest."""

    spec: TrainingSpec
    model: dict[str, Any]
    """What ``rkd_core.models.build`` needs, and the normalisation of its inputs."""
    weights: dict[str, torch.Tensor]
    digest: str
    """SHA-256 of the weights' file."""


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
    tensors = {name: tensor.detach().cpu().contiguous() for name, tensor in weights.items()}
    files = {
        _WEIGHTS: serialize(tensors),
        _SPEC: spec.model_dump_json(indent=1).encode(),
        _MODEL: json.dumps(model, indent=1, sort_keys=True).encode(),
        RECORD: records.serialize(row),
    }
    return bundles.write(folder / run_id, run_id, files)


def load(folder: Path, run_id: str) -> Artifact:
    """Read ``<folder>/<run_id>/`` after checking every file it uses against the manifest.

    Raises:
        UserError: The artifact is missing or damaged, or its network has another revision; the
            line names the file.
    """
    from safetensors import SafetensorError
    from safetensors.torch import load as deserialize

    readers: dict[str, Callable[[bytes], Any]] = {
        _SPEC: TrainingSpec.model_validate_json,
        _MODEL: json_text.parse_object,
        _WEIGHTS: deserialize,
    }
    contents = bundles.read(folder / run_id, run_id, readers)
    read: dict[str, Any] = {}
    for name, reader in readers.items():
        try:
            read[name] = reader(contents[name])
        except (ValueError, SafetensorError) as error:
            reason = first_line(error)
            raise UserError(f"{folder / run_id / name} is of another version: {reason}") from error
    _check_revision(folder / run_id / _MODEL, read[_MODEL])
    digest = bundles.checksums(folder / run_id, run_id)[_WEIGHTS]
    return Artifact(read[_SPEC], read[_MODEL], read[_WEIGHTS], digest)


def _check_revision(path: Path, model: dict[str, Any]) -> None:
    """Refuse weights that would give other outputs in the current network."""
    architecture = str(model.get("architecture"))
    found, built = model.get("architecture_revision", 1), revision("architecture", architecture)
    if found != built:
        raise UserError(
            f"{path} holds revision {found} of {architecture}, but this version builds revision "
            f"{built}: train it again, or use the version that trained it"
        )


def committed_record(folder: Path, run_id: str) -> dict[str, Any] | None:
    """The record inside ``<folder>/<run_id>/``, or None if there is no such artifact.

    Raises:
        UserError: The artifact is damaged; the line names the file.
    """
    path = folder / run_id
    if not bundles.exists(path):
        return None
    content = bundles.read(path, run_id, (RECORD,))[RECORD]
    row: dict[str, Any] = records.parse(path / RECORD, content).to_pylist()[0]
    return row


def check(folder: Path, run_id: str) -> None:
    """Compare every file of ``<folder>/<run_id>/`` with the manifest.

    Raises:
        UserError: The artifact is missing or damaged; the line names the file.
    """
    bundles.check(folder / run_id, run_id, (_WEIGHTS, _SPEC, _MODEL, RECORD))
