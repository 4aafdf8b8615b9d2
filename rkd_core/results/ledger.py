"""The ledger of a results folder: what is finished, and how a finished run is committed.

A run is committed by one rename: its artifact folder, which holds its record too, appears (in an
object store by one conditional write, of its manifest). The file in ``records/`` is published from
there, so a death between the two loses nothing, and of two processes that finish the same run one
wins and both report the winner's figures.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from rkd_core import records
from rkd_core.results import artifacts
from rkd_core.specs import TrainingSpec
from rkd_core.storage import files

if TYPE_CHECKING:
    import torch

__all__ = ["commit", "find", "set_aside"]


def find(out: Path, run_id: str) -> dict[str, Any] | None:
    """The completed record of a run in a results folder, or None.

    A record of another status, such as a failure that a later run may mend, does not count.
    """
    rows = records.read(out / "records", [run_id]).to_pylist()
    if rows and rows[0]["status"] == "completed":
        return dict(rows[0])
    row = artifacts.committed_record(out / "artifacts", run_id)
    if row is not None:
        records.write(out / "records", row)
    return row


def set_aside(out: Path, run_id: str) -> None:
    """Take a run whose artifact is damaged out of the ledger, so that it is trained again.

    What is left of it stays in the results folder under hidden names, which nothing reads.
    """
    for path in (out / "records" / f"{run_id}.parquet", out / "artifacts" / run_id):
        files.set_aside(path)


def commit(
    out: Path,
    spec: TrainingSpec,
    model: dict[str, Any],
    weights: Mapping[str, torch.Tensor],
    row: dict[str, Any],
) -> dict[str, Any]:
    """Commit a completed run and return the row that stands for it, this one or an earlier one."""
    if artifacts.save(out / "artifacts", spec, model, weights, row):
        standing = row
    else:
        standing = artifacts.committed_record(out / "artifacts", row["run_id"]) or row
    records.write(out / "records", standing)
    return standing
