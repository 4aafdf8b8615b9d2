"""Splits whose labels are integers or text, and the choice among them, for Parquet and shards."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from rkd_core.datasets.readers.arrays import check_shapes
from rkd_core.datasets.readers.base import Images, Provenance, Source, Split
from rkd_core.datasets.readers.split_names import SplitRule, spelling
from rkd_core.errors import UserError
from rkd_core.text.nouns import counted

__all__ = ["HIDDEN", "Labels", "Table", "joined", "read_splits"]

HIDDEN = -1
"""Label of all images in a split whose labels are not published."""

Labels = NDArray[np.int64] | list[str]


@dataclass(frozen=True)
class Table:
    """Images and labels of a split as its files have them.

    Attributes:
        images: The images or arrays.
        labels: Labels, as integers or text.
        file: First file of the split.
        column: Name of the label column.
        names: Class names that the files declare; empty if they do not.
        remarks: Remarks on other columns that the user might mean.
        warnings: Warnings about probable mistakes.
    """

    images: Images
    labels: Labels
    file: Path
    column: str
    names: tuple[str, ...] = ()
    remarks: tuple[str, ...] = ()
    warnings: tuple[str, ...] = ()

    @property
    def is_hidden(self) -> bool:
        """Whether there are images but none has a label."""
        return (
            isinstance(self.labels, np.ndarray)
            and len(self.labels) > 0
            and bool(np.all(self.labels == HIDDEN))
        )

    def class_names(self) -> tuple[str, ...]:
        """Return the class names in label order, from the files or from the labels."""
        if self.names:
            return self.names
        if isinstance(self.labels, list):
            return tuple(sorted({*self.labels}))
        highest = int(self.labels.max(initial=-1))
        if highest >= len(self.labels):
            raise UserError(
                f"{self.file.parent}: label {highest} among "
                f"{counted(len(self.labels), 'training image')}; "
                "labels must run from 0 without gaps"
            )
        return tuple(str(label) for label in range(highest + 1))

    def split(self, training: Table) -> Split:
        """Return images and labels, with text labels replaced by indices of class names.

        Args:
            training: The training split.
        """
        class_names = training.class_names()
        if not isinstance(self.labels, list):
            if isinstance(training.labels, list) and not training.names:
                raise UserError(
                    f"{self.file}: labels in {self.column!r} are integers, and those of the "
                    f"training split are text, such as {class_names[0]!r}"
                )
            return Split(self.images, self.labels)
        label_of = {name: label for label, name in enumerate(class_names)}
        unknown = next((text for text in self.labels if text not in label_of), None)
        if unknown is not None:
            known = ", ".join(class_names[:10]) + (", ..." if len(class_names) > 10 else "")
            raise UserError(
                f"{self.file}: label {unknown!r} in {self.column!r} is none of the classes {known}"
            )
        labels = [label_of[text] for text in self.labels]
        return Split(self.images, np.asarray(labels, dtype=np.int64))


def read_splits(
    folder: Path,
    there: Sequence[str],
    rule: SplitRule,
    ending: str,
    read: Callable[[str, bool], Table],
) -> Source:
    """Choose among the splits of a folder, and read those that are used.

    Args:
        folder: The folder, for messages.
        there: Names of its splits.
        rule: Choice of the test and validation splits.
        ending: Ending of the names of files, for messages.
        read: Function that reads a split, given its name and whether it may lack labels.

    Raises:
        UserError: There is no test split that has labels, or the splits do not fit together.
    """
    train_name = spelling("train", there) or "train"
    present = {name: actual for name in rule.names if (actual := spelling(name, there))}
    wanted = " or ".join(f"{name}{ending}" for name in rule.names if name not in present)
    if not present and not rule.all_three:
        raise UserError(f"{folder} has a training split but no test split: add {wanted}")
    train = read(train_name, False)
    names = train.class_names()
    train_split = train.split(train)
    if not present:
        provenance = _provenance(there, [train], train_name, None, None)
        return Source(names, train_split, None, None, provenance)
    tables: dict[str, Table] = {}
    seen: list[Table] = []
    for name, actual in present.items():
        table = read(actual, True)
        if train.names and table.names and train.names != table.names:
            raise UserError(f"{folder}: the class names of {train_name} and {actual} differ")
        seen.append(table)
        if not table.is_hidden:
            tables[name] = table
            if not rule.all_three:
                break
    if not tables:
        add = f": add {wanted} with labels" if wanted else ""
        hidden = " and ".join(present.values())
        missing = all(table.column == "" for table in seen)
        how = "missing" if missing else "hidden (-1)"
        raise UserError(f"{folder}: all labels of {hidden} are {how}{add}")
    test_name, val_name = rule.choose([*tables])
    check_shapes(
        {name: table.images for name, table in (("train", train), *tables.items())}, folder
    )
    test, val = tables[test_name], tables[val_name] if val_name else None
    used = [train, test] if val is None else [train, val, test]
    provenance = _provenance(
        there, used, train_name, present[test_name], present[val_name] if val_name else None
    )
    return Source(
        names,
        train_split,
        test.split(train),
        None if val is None else val.split(train),
        provenance,
    )


def _provenance(
    there: Sequence[str], used: Sequence[Table], train: str, test: str | None, val: str | None
) -> Provenance:
    unused = sorted({*there} - {train, test, val})
    remarks = (*used[0].remarks, *([f"not used: {', '.join(unused)}"] if unused else []))
    warnings = tuple(line for table in used for line in table.warnings)
    return Provenance(train, test, val, remarks, warnings)


def joined(parts: Sequence[Labels], what: str) -> Labels:
    """Return the labels of all files of a split."""
    arrays = [part for part in parts if isinstance(part, np.ndarray)]
    texts = [part for part in parts if isinstance(part, list)]
    if arrays and texts:
        raise UserError(f"{what} are integers in some files and text in others")
    if texts:
        return [text for part in texts for text in part]
    return np.concatenate(arrays)
