"""Functions that commit runs in a process of their own, which tests kill or race."""

from __future__ import annotations

import itertools
import os
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow.dataset
import torch

from rkd_core import records
from rkd_core.records import predictions
from rkd_core.results import ledger
from rkd_core.specs import Recipe, TrainingSpec, run_id

__all__ = ["commit", "commit_from", "keep_reading", "key"]

DATA = "fingerprint"
MODEL = {"architecture": "digits_cnn", "classes": 10}
WEIGHTS = {"weight": torch.arange(6000.0).reshape(60, 100), "bias": torch.ones(100)}


def spec(n: int) -> TrainingSpec:
    return TrainingSpec(
        stage="teacher",
        dataset="digits",
        architecture="digits_cnn",
        objective="standard",
        seed=n,
        recipe=Recipe(epochs=1),
    )


def key(n: int) -> str:
    """Return the run id of the n-th training."""
    return run_id(spec(n), DATA)


def commit(out: Path, n: int, who: str) -> dict[str, Any]:
    """Commit the n-th training under a host's name and return the row that stands."""
    row = records.identity(spec(n), key(n), DATA) | {"status": "completed", "host": who}
    weights = WEIGHTS | {"who": torch.tensor([hash(who) % 1000])}
    logits = np.full((20, 10), hash(who) % 1000, np.float32)
    where = np.arange(20)
    predicted = {
        split: predictions.serialize(
            key(n), split, DATA, where, where % 10, logits, where % 10, "full"
        )
        for split in predictions.SPLITS
    }
    return ledger.commit(out, spec(n), MODEL, weights, row, predicted)


def commit_from(out: Path, first: int, who: str, pipe: Any) -> None:
    """Commit one training after the other until killed; send each row that stands to the pipe."""
    for n in itertools.count(first):
        pipe.send((n, commit(out, n, who)["host"]))


def commit_each(out: Path, count: int, barrier: Any, pipe: Any) -> None:
    """Commit that many trainings, each at the same moment as the other processes."""
    said = []
    for n in range(count):
        barrier.wait(600)
        said.append(commit(out, n, str(os.getpid()))["host"])
    pipe.send((os.getpid(), said))


def keep_reading(out: Path, stop: Any, pipe: Any) -> None:
    """Read all records until told to stop; send the number of reads, or the error."""
    seen: dict[str, dict[str, Any]] = {}
    reads = 0
    try:
        while not stop.is_set():
            for table in (
                pyarrow.dataset.dataset(out / "records", format="parquet").to_table(),
                records.read(out / "records"),
            ):
                rows = {row["run_id"]: row for row in table.to_pylist()}
                missing = set(seen) - set(rows)
                assert not missing, f"{missing} have gone"
                for identity, row in seen.items():
                    assert rows[identity] == row, f"{identity} has changed"
                seen = rows
            reads += 1
    except BaseException as error:
        pipe.send(f"{type(error).__name__}: {error}")
        raise
    pipe.send(reads)
