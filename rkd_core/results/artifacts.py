"""Artifacts: folders named by run ids, each with a model's weights and its description.

``weights.safetensors``, ``spec.json``, ``model.json``, ``record.parquet``, and usually the
predictions in ``predictions_val.parquet`` and ``predictions_test.parquet``, as a bundle: it
appears complete or not at all, and is checked whenever it is loaded. No pickle is written or read.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from types import MappingProxyType
from typing import TYPE_CHECKING, Any, TypeVar, cast

from rkd_core import plugins, records
from rkd_core.errors import UserError, first_line
from rkd_core.records.predictions import SPLITS, Split
from rkd_core.specs import TrainingSpec, revision
from rkd_core.storage import bundles, tensors
from rkd_core.storage.files import Location
from rkd_core.text import json_text

if TYPE_CHECKING:
    import torch

T = TypeVar("T")

__all__ = [
    "RECORD",
    "Artifact",
    "check",
    "committed_predictions",
    "committed_record",
    "load",
    "predictions_digests",
    "save",
]

_WEIGHTS, _SPEC, _MODEL = "weights.safetensors", "spec.json", "model.json"
RECORD = "record.parquet"
"""The completed record, as it was committed."""
_PREDICTIONS: dict[Split, str] = {split: f"predictions_{split}.parquet" for split in SPLITS}


@dataclass(frozen=True)
class Artifact:
    """A loaded artifact, checked against its manifest."""

    spec: TrainingSpec
    model: dict[str, Any]
    """Arguments of ``rkd_core.models.build``, and the normalization of the inputs."""
    weights: dict[str, torch.Tensor]
    digest: str
    """SHA-256 of the file of weights."""
    out: Location
    """The results folder, which also holds the code of users' networks."""


def save(
    folder: Location,
    spec: TrainingSpec,
    model: dict[str, Any],
    weights: Mapping[str, torch.Tensor],
    row: records.Record,
    predictions: Mapping[Split, bytes] = MappingProxyType({}),
) -> bool:
    """Commit ``<folder>/<run_id>/``, unless it is committed already.

    Args:
        folder: The ``artifacts`` folder; created if it is missing.
        spec: The training's spec.
        model: JSON-ready description of the network and its input normalization.
        weights: State dict.
        row: The run's completed record; its ``run_id`` names the folder.
        predictions: Files of ``rkd_core.records.predictions`` by split.

    Returns:
        Whether this call committed the artifact.
    """
    run_id = str(row["run_id"])
    contents = {
        _WEIGHTS: tensors.serialize(weights),
        _SPEC: spec.model_dump_json(indent=1).encode(),
        _MODEL: json.dumps(model, indent=1, sort_keys=True).encode(),
        RECORD: records.serialize(row),
    } | {_PREDICTIONS[split]: content for split, content in predictions.items()}
    return bundles.write(folder / run_id, run_id, contents)


def load(folder: Location, run_id: str) -> Artifact:
    """Read ``<folder>/<run_id>/`` after comparing its files with the manifest.

    Raises:
        UserError: The artifact is missing or damaged, or its network has another revision; the
            message names the file.
    """
    path = folder / run_id
    contents = bundles.read(path, run_id, (_SPEC, _MODEL, _WEIGHTS))
    plugins.search(folder.parent, again=False)
    spec = _parsed(TrainingSpec.model_validate_json, contents[_SPEC], path / _SPEC)
    model = _parsed(json_text.parse_object, contents[_MODEL], path / _MODEL)
    weights = tensors.parse(contents[_WEIGHTS], path / _WEIGHTS)
    _check_revision(path / _MODEL, model)
    return Artifact(spec, model, weights, bundles.checksums(path, run_id)[_WEIGHTS], folder.parent)


def _parsed(parse: Callable[[bytes], T], content: bytes, path: Location) -> T:
    try:
        return parse(content)
    except ValueError as error:
        raise UserError(f"{path} is of another version: {first_line(error)}") from error


def _check_revision(path: Location, model: dict[str, Any]) -> None:
    """Refuse weights that would give other outputs in the current network."""
    architecture = str(model.get("architecture"))
    found, built = model.get("architecture_revision", 1), revision("architecture", architecture)
    if found != built:
        raise UserError(
            f"{path} holds revision {found} of {architecture}, but this version builds revision "
            f"{built}: train it again, or use the version that trained it"
        )


def committed_record(folder: Location, run_id: str) -> records.Record | None:
    """Return the record inside ``<folder>/<run_id>/``, or None if there is no such artifact.

    Raises:
        UserError: The artifact is damaged; the message names the file.
    """
    path = folder / run_id
    if not bundles.exists(path):
        return None
    content = bundles.read(path, run_id, (RECORD,))[RECORD]
    return cast(records.Record, records.parse(path / RECORD, content).to_pylist()[0])


def predictions_digests(folder: Location, run_id: str) -> dict[Split, str]:
    """Return the SHA-256 of the predictions inside ``<folder>/<run_id>/``, by split; it may be {}.

    Raises:
        UserError: The artifact's manifest is missing or damaged; the message names it.
    """
    sums = bundles.checksums(folder / run_id, run_id)
    return {split: sums[name] for split, name in _PREDICTIONS.items() if name in sums}


def committed_predictions(folder: Location, run_id: str) -> dict[Split, bytes]:
    """Return the predictions inside ``<folder>/<run_id>/``, by split; {} if it has none.

    Raises:
        UserError: The artifact is damaged; the message names the file.
    """
    names = {split: _PREDICTIONS[split] for split in predictions_digests(folder, run_id)}
    contents = bundles.read(folder / run_id, run_id, names.values())
    return {split: contents[name] for split, name in names.items()}


def check(folder: Location, run_id: str) -> None:
    """Compare every file of ``<folder>/<run_id>/`` with the manifest.

    Raises:
        UserError: The artifact is missing or damaged; the message names the file.
    """
    predictions = [_PREDICTIONS[split] for split in predictions_digests(folder, run_id)]
    bundles.check(folder / run_id, run_id, (_WEIGHTS, _SPEC, _MODEL, RECORD, *predictions))
