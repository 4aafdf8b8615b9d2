"""Reader of Hugging Face style image Parquet: ``train.parquet`` and a test split, or shards.

The image column holds ``{bytes, path}`` or plain bytes. Its name, the class names and the label
column are taken from the ``huggingface`` metadata of the schema if present. Labels are integers,
or text, in which case the classes are the sorted distinct texts of the training split.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from numpy.typing import NDArray

from rkd_core.datasets.readers.base import Encoded, Images, Source, spread
from rkd_core.datasets.readers.list_columns import arrays_of
from rkd_core.datasets.readers.parquet_columns import (
    Columns,
    Schema,
    class_names_of,
    features_of,
    labels_of,
)
from rkd_core.datasets.readers.paths import is_ignored
from rkd_core.datasets.readers.split_names import SplitRule, spelling
from rkd_core.datasets.readers.tables import HIDDEN, Labels, Table, joined, read_splits
from rkd_core.errors import UserError, first_line
from rkd_core.text.nouns import counted

__all__ = ["ParquetImages", "find_folder", "holds_arrays", "read"]

SUBFOLDERS = ("", "plain_text", "data", "cifar100", "default")
"""Subfolders in which Hugging Face repositories keep their files."""

SHARD = re.compile(r"(?P<split>.+)-(?P<part>\d{5})-of-(?P<parts>\d{5})(-[0-9a-f]{16})?")
"""Names of shards; older ones on the Hub end in a digest of the content."""

BATCH_ROWS = 512


@dataclass(frozen=True)
class ParquetImages:
    """The image column of a split's files, read in order.

    Attributes:
        folder: Folder that ``path`` is relative to if the ``bytes`` of an image are null.
        files: Shards of the split.
        rows: Number of rows of each shard.
        column: Name of the image column.
    """

    folder: Path
    files: tuple[Path, ...]
    rows: tuple[int, ...]
    column: str

    def __len__(self) -> int:
        return sum(self.rows)

    def __iter__(self) -> Iterator[Encoded]:
        for file, rows in zip(self.files, self.rows, strict=True):
            yield from self._read(file, rows, np.arange(rows))

    def describe(self, row: int) -> str:
        """Return the file and row of an image."""
        for file, rows in zip(self.files, self.rows, strict=True):
            if row < rows:
                return f"{file} row {row}"
            row -= rows
        raise IndexError(row)

    def sample(self, count: int) -> list[Encoded]:
        """Return evenly spaced images; only row groups that contain them are read."""
        wanted = spread(len(self), count)
        found: list[Encoded] = []
        for file, rows in zip(self.files, self.rows, strict=True):
            found += self._read(file, rows, _between(wanted, 0, rows))
            wanted = wanted - rows
        return found

    def _read(self, file: Path, rows: int, wanted: NDArray[np.int64]) -> Iterator[Encoded]:
        """Yield the images at the rows ``wanted`` of one file, in ascending order."""
        try:
            with pq.ParquetFile(file) as source:
                metadata, start = source.metadata, 0
                if metadata.num_rows != rows:
                    raise UserError(
                        f"{file} changed while it was read: {metadata.num_rows} rows, not {rows}"
                    )
                for group in range(metadata.num_row_groups):
                    end = start + metadata.row_group(group).num_rows
                    if len(_between(wanted, start, end)) == 0:
                        start = end
                        continue
                    for batch in source.iter_batches(
                        BATCH_ROWS, row_groups=[group], columns=[self.column]
                    ):
                        here = _between(wanted, start, start + len(batch))
                        column = batch.column(self.column)  # take() does not support views
                        for row in here.tolist():
                            yield self._encoded(column[row - start].as_py(), f"{file} row {row}")
                        start += len(batch)
        except (OSError, UnicodeDecodeError, pa.ArrowException) as error:
            raise _unreadable(file, error) from error

    def _encoded(self, value: bytes | dict[str, Any] | None, where: str) -> bytes:
        if not isinstance(value, dict):
            return value or b""
        if value.get("bytes") is not None:
            return bytes(value["bytes"])
        if not value.get("path"):
            return b""
        if not isinstance(value["path"], str) or "\0" in value["path"]:
            raise UserError(f"{where}: {value['path']!r} is no path of a file in {self.folder}")
        path = self.folder / value["path"]
        if not path.resolve().is_relative_to(self.folder.resolve()):
            raise UserError(f"{where}: the path {value['path']!r} leads out of {self.folder}")
        return path.read_bytes() if path.is_file() else b""


def _between(rows: NDArray[np.int64], start: int, end: int) -> NDArray[np.int64]:
    """Return those of the ascending ``rows`` that lie between ``start`` and ``end - 1``."""
    first, last = np.searchsorted(rows, (start, end))
    return rows[first:last]


def find_folder(root: Path) -> Path | None:
    """Return the folder at or below ``root`` that holds a training split, if there is one."""
    for name in SUBFOLDERS:
        if (root / name).is_dir() and spelling("train", _split_files(root / name)):
            return root / name
    return None


def holds_arrays(folder: Path, columns: Columns) -> bool:
    """Return whether the training split holds lists of numbers rather than images."""
    there = _split_files(folder)
    try:
        schema = pq.read_schema(there[spelling("train", there) or "train"][0])
        found = Schema(schema, {}, folder)
        return found.holds_arrays(found.image_column(columns.image))
    except (
        OSError,
        UnicodeDecodeError,
        pa.ArrowException,
        UserError,
    ):  # said when the split is read
        return False


def read(folder: Path, rule: SplitRule, columns: Columns) -> Source:
    """Read labels and class names; images are read when they are iterated over.

    Args:
        folder: Folder with ``train.parquet``, ``train-00000-of-00002.parquet`` and so on, or with
            a folder ``train`` of Parquet files.
        rule: Choice of the test and validation splits.
        columns: Columns that the user chose.

    Raises:
        UserError: A file is damaged or missing, a column is missing or must be chosen, or labels
            are null or neither integers nor text.
    """
    there = _split_files(folder)

    def table(split: str, may_lack_labels: bool) -> Table:
        return _table(folder, split, there[split], columns, may_lack_labels)

    return read_splits(folder, [*there], rule, ".parquet", table)


def _split_files(folder: Path) -> dict[str, tuple[Path, ...]]:
    """Return the sorted files of each split: one file, shards, or the files of a folder."""
    found: dict[str, tuple[Path, ...]] = {}
    folders = []
    for path in sorted(folder.iterdir()):
        if is_ignored(path.name):
            continue
        if path.suffix == ".parquet" and path.is_file():
            match = SHARD.fullmatch(path.stem)
            split = match["split"] if match else path.stem
            found[split] = (*found.get(split, ()), path)
        elif path.is_dir():
            folders.append(path)
    if spelling("train", found) is None:
        for path in folders:
            inside = tuple(sorted(p for p in path.glob("*.parquet") if not is_ignored(p.name)))
            if inside:
                found.setdefault(path.name, inside)
    return found


def _check_whole(folder: Path, split: str, files: tuple[Path, ...]) -> None:
    """Refuse a split that exists in two forms or has missing shards."""
    shards = [match for path in files if (match := SHARD.fullmatch(path.stem))]
    if not shards:
        return
    if len(shards) < len(files):
        whole = next(path for path in files if SHARD.fullmatch(path.stem) is None)
        raise UserError(f"{folder} has both {whole.name} and {shards[0][0]}.parquet: keep one form")
    parts = int(shards[0]["parts"])
    if [int(match["part"]) for match in shards] != list(range(parts)):
        raise UserError(
            f"{folder} has {counted(len(shards), 'file')} for the {counted(parts, 'shard')} of "
            f"{split}; all must be there, once"
        )


def _table(
    folder: Path, split: str, files: tuple[Path, ...], columns: Columns, may_lack_labels: bool
) -> Table:
    """Read the labels of a split; labels may be hidden if ``may_lack_labels`` is set."""
    _check_whole(folder, split, files)
    image = label = ""
    names: tuple[str, ...] = ()
    remarks: tuple[str, ...] = ()
    parts: list[Labels] = []
    chunks: list[pa.Array] = []
    for file in files:
        try:
            with pq.ParquetFile(file) as source:
                schema = source.schema_arrow
                if file is files[0]:
                    found = Schema(schema, features_of(schema), file)
                    image = found.image_column(columns.image)
                    lacks = may_lack_labels and not found.may_have_labels(columns.label)
                    label = "" if lacks else found.label_column(columns.label)
                    names = class_names_of(found.features.get(label, {}))
                    remarks = found.remarks(image, label, columns)
                for column in filter(None, (image, label)):
                    if (times := schema.names.count(column)) == 0:
                        raise UserError(f"{file} has no column {column!r}, unlike {files[0].name}")
                    if times > 1:
                        raise UserError(f"{file} has {times} columns {column!r}: keep one")
                if found.holds_arrays(image):
                    chunks += source.read(columns=[image])[image].chunks
                if not label:
                    parts.append(np.full(source.metadata.num_rows, HIDDEN))
                    continue
                # Select by name, because columns=['label'] also reads 'label.x'.
                values = source.read(columns=[label])[label]
                parts.append(labels_of(values, label, file, may_lack_labels))
        except (OSError, UnicodeDecodeError, pa.ArrowException) as error:
            raise _unreadable(file, error) from error
    images: Images = ParquetImages(folder, files, tuple(map(len, parts)), image)
    if found.holds_arrays(image):
        kind = found.schema.field(image).type
        images = arrays_of(pa.chunked_array(chunks, kind), f"{files[0]}: {image!r}")
    return Table(
        images, joined(parts, f"{folder}: labels in {label!r}"), files[0], label, names, remarks
    )


def _unreadable(file: Path, error: Exception) -> UserError:
    reason = first_line(error)
    return UserError(f"{file} cannot be read as Parquet: {reason}")
