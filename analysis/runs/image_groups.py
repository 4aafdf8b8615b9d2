"""Groups of images beyond classes, from a file or as a results folder keeps them."""

from __future__ import annotations

import csv
import io
from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from numpy.typing import NDArray

from analysis.runs.columns import IntArray
from analysis.runs.option_files import read_option_file
from rkd_core.errors import UserError, unknown_name
from rkd_core.records.predictions import SPLITS, Split
from rkd_core.storage import files
from rkd_core.storage.files import Location
from rkd_core.text.numbers import plural

__all__ = ["NAME", "ImageGroups", "kept", "read", "write"]

NAME = "image_groups.parquet"
"""File in a results folder."""
_COLUMNS = "image", "group", "split"
_SPLIT_HINT = "add a column split with val or test"


@dataclass(frozen=True, eq=False)
class ImageGroups:
    """Group of each image by the row of the image in the original split.

    Attributes:
        what: The file, for messages.
        names: Names of the groups, sorted.
        images: Rows of images by split, ascending.
        groups: Index into ``names`` of each of them, or -1 if the group is left out.
        of_both: Whether the file does not name splits, so that a row is of either split.
    """

    what: str
    names: tuple[str, ...]
    images: Mapping[Split, IntArray]
    groups: Mapping[Split, IntArray]
    of_both: bool = False

    def of(self, split: Split, images: NDArray[Any]) -> IntArray:
        """Return the group of each image, ``(images,)``; -1 if its group is left out.

        Raises:
            UserError: An image has no group.
        """
        known = self.images[split]
        place = np.searchsorted(known, images)
        found = np.append(known, -1)[place] == images
        if not found.all():
            missing = plural(int((~found).sum()), "image")
            raise UserError(
                f"{self.what} lacks {missing} of {split}, such as row {images[~found][0]}"
            )
        return np.asarray(self.groups[split][place])

    def only(self, images: Mapping[Split, NDArray[Any]]) -> ImageGroups:
        """Return the groups of the images of validation and test alone.

        Raises:
            UserError: An image has no group, or a row is an image of both splits.
        """
        shared = np.intersect1d(images["val"], images["test"])
        if self.of_both and shared.size:
            raise UserError(
                f"{self.what}: row {shared[0]} is an image of validation and one of test; "
                f"{_SPLIT_HINT}"
            )
        rows = {split: np.sort(np.asarray(images[split], dtype=np.int64)) for split in SPLITS}
        groups = {split: self.of(split, rows[split]) for split in SPLITS}
        used = np.unique(np.concatenate([*groups.values()]))
        place = np.searchsorted(used, np.arange(len(self.names)))
        names = tuple(self.names[group] for group in used.tolist())
        return replace(
            self,
            names=names,
            images=rows,
            groups={split: place[found] for split, found in groups.items()},
            of_both=False,
        )

    def without_small(self, least: int) -> tuple[ImageGroups, list[str]]:
        """Leave out the groups with fewer validation images; return their names, too.

        Raises:
            UserError: No group is left.
        """
        counts = np.bincount(self.groups["val"] + 1, minlength=len(self.names) + 1)[1:]
        kept = counts >= max(least, 1)
        if not kept.any():
            raise UserError(
                f"--min-group {least}: the largest group has {counts.max()} validation images"
            )
        place = np.where(kept, np.cumsum(kept) - 1, -1)
        left_out = [name for name, stays in zip(self.names, kept, strict=True) if not stays]
        names = tuple(name for name, stays in zip(self.names, kept, strict=True) if stays)
        groups = {split: np.append(place, -1)[found] for split, found in self.groups.items()}
        return replace(self, names=names, groups=groups), left_out


def read(path: Path, column: str | None = None) -> ImageGroups:
    """Read groups of images from CSV, Parquet or a NumPy array.

    A table has the columns ``image`` (row in the original split), ``group`` and perhaps ``split``
    (``val`` or ``test``). Without a column ``image`` of whole numbers, and in an array, the groups
    are those of the rows in order.

    Args:
        path: The file.
        column: Column of the groups; None for ``group``.

    Raises:
        UserError: It cannot be read, or gives an image no group or two.
    """
    readers = {".csv": _csv, ".parquet": _parquet, ".npy": _npy}
    what, ending, content = read_option_file("--image-groups", path, [*readers])
    try:
        columns = readers[ending](content, column, what)
    except (ValueError, csv.Error, EOFError, pa.ArrowException) as error:
        if isinstance(error, UserError):
            raise
        raise UserError(f"{what} cannot be read: {error}") from None
    groups = columns["group"]
    if not groups:
        raise UserError(f"{what} has no rows")
    empty = [row for row, name in enumerate(groups) if name is None or not str(name).strip()]
    if empty:
        raise UserError(f"{what}: row {empty[0]} has no group")
    images = _whole_numbers(columns.get("image"), len(groups), what)
    names, group = np.unique([str(name) for name in groups], return_inverse=True)
    splits = columns.get("split")
    if splits is None:
        one = _sorted(images, group, names, what)
        both = dict.fromkeys(SPLITS, one)
    else:
        unknown = next((name for name in splits if name not in SPLITS), None)
        if unknown is not None:
            raise UserError(f"{what}: split must be val or test, not {unknown!r}")
        of = np.array(splits)
        both = {s: _sorted(images[of == s], group[of == s], names, what) for s in SPLITS}
    return ImageGroups(
        what,
        tuple(names.tolist()),
        {split: pair[0] for split, pair in both.items()},
        {split: pair[1] for split, pair in both.items()},
        of_both=splits is None,
    )


def _sorted(
    images: IntArray, groups: IntArray, names: NDArray[Any], what: str
) -> tuple[IntArray, IntArray]:
    """Return distinct images in order with their groups."""
    order = np.argsort(images, kind="stable")
    images, groups = images[order], groups[order]
    twice = np.flatnonzero((np.diff(images) == 0) & (np.diff(groups) != 0))
    if twice.size:
        one, other = names[groups[twice[0]]], names[groups[twice[0] + 1]]
        raise UserError(f"{what}: image {images[twice[0]]} is in two groups, {one} and {other}")
    first = np.r_[True, np.diff(images) != 0][: len(images)]
    return images[first], groups[first]


def _whole_numbers(values: list[Any] | None, count: int, what: str) -> IntArray:
    if values is None:
        return np.arange(count)
    try:
        found = [int(value) for value in values]
        wrong = next(
            (v for v, n in zip(values, found, strict=True) if n < 0 or n != float(v)), None
        )
    except (ValueError, TypeError):
        wrong = next(v for v in values if not str(v).strip().isdecimal())
    if wrong is not None:
        raise UserError(f"{what}: image must be the row of an image, such as 17, not {wrong}")
    return np.array(found, dtype=np.int64)


def _csv(content: bytes, column: str | None, what: str) -> dict[str, list[Any]]:
    text = io.StringIO(content.decode("utf-8-sig"), newline="")
    rows = list(csv.DictReader(text, strict=True, skipinitialspace=True))
    names = list(rows[0]) if rows else []
    return _chosen({name: [row[name] for row in rows] for name in names}, column, what)


def _parquet(content: bytes, column: str | None, what: str) -> dict[str, list[Any]]:
    file = pq.ParquetFile(pa.BufferReader(content))
    schema = file.schema_arrow
    wanted = [
        name for name in dict.fromkeys((*_COLUMNS, column or "group")) if name in schema.names
    ]
    if "image" in wanted and not pa.types.is_integer(schema.field("image").type):
        wanted.remove("image")  # the picture itself: groups are by row
    table = file.read(wanted, use_threads=False)
    named = {name: table[name].to_pylist() for name in wanted}
    others: dict[str, list[Any]] = {name: [] for name in schema.names if name not in wanted}
    return _chosen({**others, **named}, column, what)


def _npy(content: bytes, column: str | None, what: str) -> dict[str, list[Any]]:
    values = np.load(io.BytesIO(content), allow_pickle=False)
    if values.ndim != 1:
        raise UserError(f"{what} must have one axis, not {values.ndim}")
    return {"group": values.tolist()}


def _chosen(columns: dict[str, list[Any]], column: str | None, what: str) -> dict[str, list[Any]]:
    name = column or "group"
    if name not in columns:
        if not columns:
            raise UserError(f"{what} has no rows")
        raise unknown_name(f"column of {what}", name, columns)
    found = {"group": columns[name]}
    found |= {one: columns[one] for one in ("image", "split") if columns.get(one)}
    return found


def write(results: Location, groups: ImageGroups) -> None:
    """Keep groups in a results folder, where later commands find them.

    Raises:
        OSError: The file cannot be written.
    """
    names = np.array(groups.names)
    columns: dict[str, list[Any]] = {"split": [], "image": [], "group": []}
    for split in SPLITS:
        columns["split"] += [split] * len(groups.images[split])
        columns["image"] += groups.images[split].tolist()
        columns["group"] += names[groups.groups[split]].tolist()
    sink = pa.BufferOutputStream()
    pq.write_table(pa.table(columns), sink, compression="zstd")
    files.replace_file(results / NAME, sink.getvalue().to_pybytes())


def kept(results: Location) -> ImageGroups | None:
    """Return the groups that a results folder keeps; None if there are none.

    Raises:
        UserError: The file is damaged.
    """
    path = results / NAME
    try:
        content = files.read(path)
    except FileNotFoundError:
        return None
    except OSError as error:
        raise UserError(f"{path} cannot be read: {error}") from None
    try:
        table = pq.read_table(pa.BufferReader(content), use_threads=False)
        splits, images, groups = (table[name].to_pylist() for name in ("split", "image", "group"))
        names, group = np.unique(groups, return_inverse=True)
        of, rows = np.array(splits), np.array(images, dtype=np.int64)
        both = {s: _sorted(rows[of == s], group[of == s], names, str(path)) for s in SPLITS}
    except (ValueError, KeyError, TypeError, pa.ArrowException) as error:
        raise UserError(f"{path} is damaged: give --image-groups again") from error
    return ImageGroups(
        str(path),
        tuple(names.tolist()),
        {split: pair[0] for split, pair in both.items()},
        {split: pair[1] for split, pair in both.items()},
    )
