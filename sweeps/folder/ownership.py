"""Results folder of a sweep: its data set, its plan and the split of the data."""

from __future__ import annotations

import dataclasses
import hashlib
import io
import json
import time
from collections.abc import Sequence
from typing import Any

import numpy as np

from rkd_core import datasets
from rkd_core.errors import UserError
from rkd_core.records import predictions
from rkd_core.specs import DataOptions
from rkd_core.storage import files
from rkd_core.storage.files import Location, replace_file
from rkd_core.text import json_text
from sweeps.folder import inventory, lease
from sweeps.planning.plan import Plan
from sweeps.planning.settings import Settings

__all__ = ["check_folder", "check_space", "open_folder", "write_plan"]

_OWNER = "dataset.json"
_LATER = ("val_fraction", "test_fraction")
"""Data options that the first results folders did not have."""


def check_folder(out: Location, name: str, dataset: datasets.Dataset) -> None:
    """Check that a folder holds, or can hold, the results of this data set.

    Raises:
        UserError: It is a file, holds other files, or holds results of other data.
    """
    try:
        _check_owner(out, name, dataset)
    except OSError as error:
        raise UserError(f"--out {out} cannot be read: {error.strerror or error}") from error


def _check_owner(out: Location, name: str, dataset: datasets.Dataset) -> None:
    if not files.exists(out):
        return
    if not files.is_folder(out):
        raise UserError(f"--out {out} is a file; give a folder")
    for folder in ("records", "artifacts", predictions.FOLDER):
        if files.exists(out / folder) and not files.is_folder(out / folder):
            raise UserError(f"{out / folder} is a file; give another --out")
    try:
        owner = json_text.parse(files.read(out / _OWNER))
        fingerprint, owned = str(owner["fingerprint"]), str(owner["dataset"])
    except FileNotFoundError:
        names = files.names(out)
        ours = (name for name in names if name.startswith(lease.FILES) or files.is_leftover(name))
        strangers = sorted({*names} - {*ours})
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
        raise _other_data(out, owned, name, dataset)


def _other_data(out: Location, owned: str, name: str, dataset: datasets.Dataset) -> UserError:
    """Return the error for a folder of another data set, or of an earlier state of this one."""
    differences = inventory.changes(out, dataset) if owned == name else None
    if differences:
        how = f": {'; '.join(differences)}"
    elif owned == name:
        how = " (its inventory was not stored)"
    else:
        return UserError(
            f"--out {out} holds results of another data set ({owned}); give another folder"
        )
    return UserError(
        f"--out {out} holds results of an earlier state of {owned}; the data set has changed "
        f"since{how}. Give another --out, or restore the data"
    )


def check_space(out: Location, needed: int) -> None:
    """Check that a folder can be written and has enough free space; an object store always has.

    Raises:
        UserError: Less than ``needed`` bytes are free, the folder cannot be written, or the object
            store has no exclusive writes.
    """
    storage = files.storage_of(out)
    try:
        storage.check_writable(out)
        free = storage.free_bytes(out)
    except UserError as error:
        raise UserError(f"--out {error}") from error
    except OSError as error:
        raise UserError(f"--out {out} cannot be written: {error}") from error
    if free < needed:
        raise UserError(
            f"--out {out}: {free / 1e6:,.0f} MB are free where about {needed / 1e6:,.0f} MB are "
            "needed; make room or give another folder"
        )


def open_folder(
    out: Location, dataset: datasets.Dataset, plan: Plan, settings: Settings, command: Sequence[str]
) -> None:
    """Create the folder, and store its data set, the split of the images, and the plan.

    ``splits/<digest>.npz`` has int64 rows of the source (``train`` of its training set, ``val`` of
    its validation set if it has one, else of its test set, ``test`` of its test set) for the
    options in the JSON file of the same name. ``plan.json`` has the command, its settings, the
    origin and images of each split, and the run ids that can be selected.

    Raises:
        UserError: The folder cannot be written.
    """
    try:
        files.make_folder(out)
        if not files.exists(out / _OWNER):
            owner = {"dataset": dataset.name, "fingerprint": dataset.fingerprint}
            _write_json(out / _OWNER, owner)
        inventory.write(out, dataset.inventory)
        _write_splits(out / "splits", dataset, settings.data)
        write_plan(out, plan, settings, command, dataset)
    except OSError as error:
        raise UserError(f"--out {out} cannot be written: {error}") from error


def _write_splits(folder: Location, dataset: datasets.Dataset, options: DataOptions) -> None:
    files.make_folder(folder)
    content = io.BytesIO()
    np.savez_compressed(
        content, train=dataset.train_indices, val=dataset.val_indices, test=dataset.test_indices
    )
    # Fields that were added later are left out at their defaults, so that names stay.
    defaults = DataOptions()
    left_out = {name for name in _LATER if getattr(options, name) == getattr(defaults, name)}
    text = options.model_dump_json(exclude=left_out)
    digest = hashlib.sha256(text.encode()).hexdigest()[:20]
    replace_file(folder / f"{digest}.npz", content.getvalue())
    replace_file(folder / f"{digest}.json", options.model_dump_json(indent=1).encode())


def write_plan(
    out: Location,
    plan: Plan,
    settings: Settings,
    command: Sequence[str],
    dataset: datasets.Dataset,
) -> None:
    """Store ``plan.json``, see ``open_folder``."""
    resolved = dataclasses.asdict(settings)
    resolved["teacher_recipe"] = settings.teaching
    for name in ("data", "recipe", "multipliers", "teacher_recipe"):
        resolved[name] = resolved[name].model_dump(mode="json")
    content = {
        "command": list(command),
        "written_at": time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime()),
        "settings": resolved,
        "splits": {
            split: {
                "from": origin,
                "images": dict(
                    zip(dataset.class_names, dataset.class_counts(split).tolist(), strict=True)
                ),
            }
            for split, origin in dataset.origins.items()
        },
        "run_ids": [run.run_id for run in plan.runs],
    }
    _write_json(out / "plan.json", content)


def _write_json(path: Location, content: dict[str, Any]) -> None:
    replace_file(path, (json.dumps(content, indent=1) + "\n").encode())
