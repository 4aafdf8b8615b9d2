"""Inventory of the data set of a results folder, and changes since it was stored."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence

from rkd_core import datasets
from rkd_core.datasets.readers.base import Inventory
from rkd_core.storage import files
from rkd_core.storage.files import Location
from rkd_core.text import json_text
from rkd_core.text.nouns import counted

__all__ = ["changes", "write"]

_FILE = "inventory.json"
_SHOWN = 3  # classes or files that a message lists


def write(out: Location, inventory: Inventory) -> None:
    """Store an inventory in a results folder, once.

    Raises:
        OSError: It cannot be written.
    """
    if not files.exists(out / _FILE):
        content = {
            "class_names": inventory.class_names,
            "counts": dict(inventory.counts),
            "files": [[file.path, file.size, file.mtime_ns] for file in inventory.files],
        }
        files.replace_file(out / _FILE, json.dumps(content).encode())


def changes(out: Location, dataset: datasets.Dataset) -> list[str] | None:
    """Describe how a data set differs from the one that a results folder was made from.

    Returns:
        Clauses; None if the folder has no inventory, or one without any of the present classes.

    Raises:
        OSError: The inventory cannot be read.
    """
    now, noun = dataset.inventory, dataset.noun
    try:
        before = json_text.parse_object(files.read(out / _FILE))
        names, counts, listed = before["class_names"], before["counts"], before["files"]
        old_files = {path: (size, changed) for path, size, changed in listed}
        if {*names}.isdisjoint(now.class_names):
            return None
        return [
            *_of_classes(names, now.class_names),
            *_of_counts(names, counts, now, noun),
            *_of_files(old_files, now),
        ] or [f"the numbers of {noun}s are the same, but not their content, labels or order"]
    except (FileNotFoundError, ValueError, KeyError, TypeError, AttributeError):
        return None


def _of_classes(before: Sequence[str], now: Sequence[str]) -> list[str]:
    new = [name for name in now if name not in {*before}]
    gone = [name for name in before if name not in {*now}]
    lines = []
    if new:
        lines.append(f"new {'class' if len(new) == 1 else 'classes'} {_some(new)}")
    if gone:
        lines.append(f"without the {'class' if len(gone) == 1 else 'classes'} {_some(gone)}")
    return lines


def _of_counts(
    names: Sequence[str], before: Mapping[str, Sequence[int]], now: Inventory, noun: str
) -> list[str]:
    lines = []
    for split in ("train", "val", "test"):
        old, new = before.get(split), now.counts.get(split)
        if old is None and new is not None:
            lines.append(f"the validation set of {counted(sum(new), noun)} was not used then")
        elif new is None and old is not None:
            lines.append(f"no validation set now, {counted(sum(old), noun)} then")
        elif old is not None and new is not None:
            was = dict(zip(names, old, strict=True))
            by_class = zip(now.class_names, new, strict=True)
            different = [
                f"{name} {count}, not {was[name]}"
                for name, count in by_class
                if was.get(name, count) != count
            ]
            if different:
                lines.append(
                    f"{split} has {counted(sum(new), noun)}, not {sum(old)} ({_some(different)})"
                )
    return lines


def _of_files(before: Mapping[str, tuple[int, int]], now: Inventory) -> list[str]:
    present: dict[str, tuple[int, int]] = {f.path: (f.size, f.mtime_ns) for f in now.files}
    if not before or not present:
        return []
    new = sorted(present.keys() - before.keys())
    gone = sorted(before.keys() - present.keys())
    common = sorted(before.keys() & present.keys())
    resized = [path for path in common if before[path][0] != present[path][0]]
    touched = [path for path in common if before[path][1] != present[path][1]]
    # A copy of the data has new times everywhere, so times count only if nothing else differs.
    changed = resized or ([] if new or gone else touched)
    return [
        f"{word} {_some(paths)}"
        for word, paths in (("new:", new), ("missing:", gone), ("changed:", changed))
        if paths
    ]


def _some(names: Sequence[str]) -> str:
    more = f" and {len(names) - _SHOWN} more" if len(names) > _SHOWN else ""
    return ", ".join(names[:_SHOWN]) + more
