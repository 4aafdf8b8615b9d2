"""Results folders with shifts of their students."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path

import numpy as np
import pyarrow as pa

from rkd_core.metrics.shift_family import ALPHAS
from rkd_core.records import shifts
from tests.analysis import worlds


def shift_rows(row: worlds.Row, gain: int = 2) -> list[worlds.Row]:
    """Rows of a file of shifts: the first class gains images, the last one loses them."""
    rows = []
    for strength in ALPHAS:
        found: worlds.Row = {
            "run_id": f"{row['run_id']}-{strength:g}",
            "base_run_id": row["run_id"],
            "version": 1,
            "alpha": strength,
            "shift": [0.5] + [0.0] * (len(row["val_class_total"]) - 2) + [-0.5],
        }
        for split in ("val", "test"):
            total = np.array(row[f"{split}_class_total"])
            moved = np.zeros_like(total)
            moved[0], moved[-1] = gain * (1 + strength), -gain * strength
            correct = np.clip(row[f"{split}_class_correct"] + moved, 0, total)
            found |= {
                f"{split}_class_total": total.tolist(),
                f"{split}_class_correct": correct.tolist(),
            }
        found["val_class_correct_in_sample"] = found["val_class_total"]
        rows.append(found)
    return rows


def write(out: Path, rows: Iterable[worlds.Row], gain: int = 2) -> Path:
    """Write records, and shifts of the students."""
    rows = list(rows)
    worlds.write(out, rows)
    for row in rows:
        if row["stage"] == "student":
            shifts.write(out, pa.Table.from_pylist(shift_rows(row, gain), shifts.SCHEMA))
    return out
