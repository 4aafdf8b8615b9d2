"""Ledger of a results folder, which commits runs and finds committed ones.

A run is committed by one rename of its artifact folder, which also holds its record; in an object
store by one conditional write of the manifest. The files in ``predictions/`` and then that in
``records/`` are published from there, so a crash in between loses nothing, and a completed record
is never without its predictions. If two processes finish the same run, one wins and both report its
figures.
"""

from __future__ import annotations

from collections.abc import Mapping
from types import MappingProxyType
from typing import TYPE_CHECKING, Any, cast

from rkd_core import records
from rkd_core.records import predictions, shifts
from rkd_core.records.predictions import SPLITS, Split
from rkd_core.results import artifacts
from rkd_core.specs import TrainingSpec
from rkd_core.storage import files
from rkd_core.storage.files import Location

if TYPE_CHECKING:
    import torch

__all__ = ["commit", "find", "publish_predictions", "set_aside"]


def find(out: Location, run_id: str) -> records.Record | None:
    """Return the completed record of a run in a results folder; None if there is none.

    A record of another status, such as a failure that a later run may resolve, does not count.
    """
    rows = records.read(out / "records", [run_id]).to_pylist()
    if rows and rows[0]["status"] == "completed":
        return cast(records.Record, rows[0])
    row = artifacts.committed_record(out / "artifacts", run_id)
    if row is not None:
        publish_predictions(out, run_id)
        records.write(out / "records", row)
    return row


def publish_predictions(out: Location, run_id: str) -> None:
    """Write the predictions that a committed run has in its artifact and lacks elsewhere.

    Raises:
        UserError: The artifact is damaged; the message names the file.
    """
    predictions.publish(out, run_id, artifacts.committed_predictions(out / "artifacts", run_id))


def set_aside(out: Location, run_id: str) -> None:
    """Remove a run with a damaged artifact from the ledger, so that it is trained again.

    Its files stay in the results folder under hidden names, which are never read.
    """
    for path in (
        out / "records" / f"{run_id}.parquet",
        *(predictions.file_of(out, split, run_id) for split in SPLITS),
        out / "artifacts" / run_id,
        shifts.path_of(out, run_id),
    ):
        files.set_aside(path)


def commit(
    out: Location,
    spec: TrainingSpec,
    model: dict[str, Any],
    weights: Mapping[str, torch.Tensor],
    row: records.Record,
    predicted: Mapping[Split, bytes] = MappingProxyType({}),
) -> records.Record:
    """Commit a completed run and return its record, this one or an earlier one.

    Args:
        out: Results folder.
        spec: Spec of the run.
        model: Description of the network and its input normalization.
        weights: State dict.
        row: Completed record.
        predicted: Predictions by split, from ``rkd_core.records.predictions.serialize``.
    """
    if artifacts.save(out / "artifacts", spec, model, weights, row, predicted):
        standing = row
        predictions.publish(out, row["run_id"], predicted)
    else:
        standing = artifacts.committed_record(out / "artifacts", row["run_id"]) or row
        publish_predictions(out, row["run_id"])
    records.write(out / "records", standing)
    return standing
