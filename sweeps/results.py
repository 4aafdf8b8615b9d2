"""The results folder of a sweep: whose it is, what was asked for, and how the data were split."""

from __future__ import annotations

import json
import os
import shutil
import time
import uuid
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from rkd_core import datasets
from rkd_core.errors import UserError
from sweeps.plan import Plan

__all__ = ["check_folder", "check_space", "open_folder", "write_plan"]

_OWNER = "dataset.json"


def check_folder(out: Path, name: str, dataset: datasets.Dataset) -> None:
    """Refuse a folder that is not, or cannot become, the results of this data set.

    Raises:
        UserError: It is a file, holds something else, or holds results of other data.
    """
    if not out.exists():
        return
    if not out.is_dir():
        raise UserError(f"--out {out} is a file; give a folder")
    try:
        owner = json.loads((out / _OWNER).read_bytes())
        fingerprint, owned = str(owner["fingerprint"]), str(owner["dataset"])
    except FileNotFoundError:
        strangers = sorted(p.name for p in out.iterdir() if not p.name.startswith("."))
        if strangers:
            raise UserError(
                f"--out {out} holds other files ({strangers[0]}); give an empty or a new folder"
            ) from None
        return
    except (ValueError, KeyError, TypeError) as error:
        raise UserError(f"{out / _OWNER} is damaged; give another --out") from error
    registered = datasets.names()
    renamed = owned != name and owned in registered and name in registered
    if fingerprint != dataset.fingerprint or renamed:
        raise UserError(
            f"--out {out} holds results of another data set ({owned}); give another folder"
        )


def check_space(out: Path, needed: int) -> None:
    """Refuse to begin what the disk has no room for.

    Raises:
        UserError: Less than ``needed`` bytes are free, or the folder cannot be written.
    """
    existing = next(p for p in (out.absolute(), *out.absolute().parents) if p.exists())
    if not os.access(existing, os.W_OK):
        raise UserError(f"--out {out}: {existing} cannot be written; give another folder")
    free = shutil.disk_usage(existing).free
    if free < needed:
        raise UserError(
            f"--out {out}: {free / 1e6:,.0f} MB are free where about {needed / 1e6:,.0f} MB are "
            "needed; make room or give another folder"
        )


def open_folder(out: Path, name: str, dataset: datasets.Dataset) -> None:
    """Make the folder, say whose it is, and store the indices of the splits."""
    try:
        out.mkdir(parents=True, exist_ok=True)
        owner = {"dataset": name, "fingerprint": dataset.fingerprint}
        if not (out / _OWNER).exists():
            write_json(out / _OWNER, owner)
        splits = out / "splits.npz"
        hidden = out / f".splits.{uuid.uuid4().hex}.npz"
        np.savez_compressed(
            hidden,
            train=dataset.train_indices,
            val=dataset.val_indices,
            test=dataset.test_indices,
        )
        hidden.replace(splits)
    except OSError as error:
        raise UserError(f"--out {out} cannot be written: {error.strerror}") from error


def write_plan(out: Path, plan: Plan, command: Sequence[str], settings: dict[str, Any]) -> None:
    """Store what was asked for last; selection goes by its run ids."""
    content = {
        "command": list(command),
        "written_at": time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime()),
        "settings": settings,
        "run_ids": [run.run_id for run in plan.runs],
    }
    write_json(out / "plan.json", content)


def write_json(path: Path, content: dict[str, Any]) -> None:
    """Write a JSON file whole or not at all."""
    hidden = path.with_name(f".{path.name}.{uuid.uuid4().hex}")
    hidden.write_text(json.dumps(content, indent=1) + "\n")
    hidden.replace(path)
