"""Hugging Face style image Parquet: ``train.parquet`` with a test split beside it, or shards.

The image column holds ``{bytes, path}`` or plain bytes; its name, the class names and the label
column are taken from the ``huggingface`` metadata of the schema where it is there.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from numpy.typing import NDArray

from rkd_core import json_text
from rkd_core.datasets.sources import Encoded, Source, Split, spread
from rkd_core.datasets.wording import counted
from rkd_core.errors import UserError

__all__ = ["ParquetImages", "find_folder", "read"]

SUBFOLDERS = ("", "plain_text", "data", "cifar100")
"""Where Hugging Face's repositories keep their files, below the folder of the dataset."""

IMAGE_NAMES = ("img", "image")
LABEL_NAMES = ("label", "labels", "fine_label")
SHARD = re.compile(r"(?P<split>.+)-(?P<part>\d{5})-of-(?P<parts>\d{5})(-[0-9a-f]{16})?")
"""A shard's name; the Hub's older ones end in a digest of the content."""

HIDDEN = -1
"""The label of every image of a split whose labels are not published."""

BATCH_ROWS = 512


@dataclass(frozen=True)
class ParquetImages:
    """The image column of a split's files, read in order.

    Attributes:
        folder: Where ``path`` is looked for when an image's ``bytes`` are null.
        files: The split's shards.
        rows: Rows of each shard.
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
        """File and row."""
        for file, rows in zip(self.files, self.rows, strict=True):
            if row < rows:
                return f"{file} row {row}"
            row -= rows
        raise IndexError(row)

    def sample(self, count: int) -> list[Encoded]:
        """Images at even distances; only the row groups that they lie in are read."""
        wanted = spread(len(self), count)
        found: list[Encoded] = []
        for file, rows in zip(self.files, self.rows, strict=True):
            found += self._read(file, rows, _between(wanted, 0, rows))
            wanted = wanted - rows
        return found

    def _read(self, file: Path, rows: int, wanted: NDArray[np.int64]) -> Iterator[Encoded]:
        """The images at ``wanted`` rows of one file, ascending."""
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
                        values = batch.column(self.column).take(pa.array(here - start)).to_pylist()
                        for row, value in zip(here.tolist(), values, strict=True):
                            yield self._encoded(value, f"{file} row {row}")
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
    """Those of ascending rows that are from ``start`` to ``end - 1``."""
    first, last = np.searchsorted(rows, (start, end))
    return rows[first:last]


def find_folder(root: Path) -> Path | None:
    """The folder at or below ``root`` that holds a training split, if there is one."""
    for name in SUBFOLDERS:
        if _files(root / name, "train"):
            return root / name
    return None


def read(folder: Path, test_names: Sequence[str]) -> Source:
    """Read labels and class names; images are read when they are iterated over.

    Args:
        folder: Holds ``train.parquet`` or ``train-00000-of-00002.parquet`` and so on.
        test_names: Names of the test split, the preferred one first.

    Raises:
        UserError: A file is damaged or missing, a column is missing, or labels are null or not
            integers.
    """
    present = [name for name in test_names if _files(folder, name)]
    wanted = " or ".join(f"{name}.parquet" for name in test_names if name not in present)
    if not present:
        raise UserError(f"{folder} has a training split but no test split: add {wanted}")
    train_split, names = _read_split(folder, "train")
    for test in present:
        test_split, test_class_names = _read_split(folder, test)
        if len(test_split.labels) == 0 or np.any(test_split.labels != HIDDEN):
            break
    else:
        add = f": add {wanted} with labels" if wanted else ""
        raise UserError(f"{folder}: all labels of {' and '.join(present)} are hidden (-1){add}")
    if names and test_class_names and names != test_class_names:
        raise UserError(f"{folder}: the class names of train and {test} differ")
    if not names:
        highest = int(train_split.labels.max(initial=-1))
        if highest >= len(train_split.labels):
            raise UserError(
                f"{folder}: label {highest} among "
                f"{counted(len(train_split.labels), 'training image')}; "
                "labels must run from 0 without gaps"
            )
        names = tuple(str(label) for label in range(highest + 1))
    return Source(names, train_split, test_split, test)


def _files(folder: Path, split: str) -> tuple[Path, ...]:
    """The files of a split in order: one file, or all of its shards."""
    whole = folder / f"{split}.parquet"
    shards = []
    for path in sorted(folder.iterdir()) if folder.is_dir() else ():
        match = SHARD.fullmatch(path.stem) if path.suffix == ".parquet" else None
        if match and match["split"] == split:
            shards.append((path, int(match["part"]), int(match["parts"])))
    if not shards:
        return (whole,) if whole.is_file() else ()
    if whole.is_file():
        raise UserError(f"{folder} has both {whole.name} and {shards[0][0].name}: keep one form")
    if [part for _, part, _ in shards] != list(range(shards[0][2])):
        raise UserError(
            f"{folder} has {counted(len(shards), 'file')} for the {counted(shards[0][2], 'shard')} "
            f"of {split}; all must be there, once"
        )
    return tuple(path for path, _, _ in shards)


def _read_split(folder: Path, split: str) -> tuple[Split, tuple[str, ...]]:
    files = _files(folder, split)
    image = label = ""
    names: tuple[str, ...] = ()
    labels: list[NDArray[np.int64]] = []
    for file in files:
        try:
            with pq.ParquetFile(file) as source:
                schema = source.schema_arrow
                if file is files[0]:
                    features = _features(schema)
                    image = _image_column(schema, features, file)
                    label = _label_column(schema, features, file)
                    names = _names(features.get(label, {}))
                for column in (image, label):
                    if (times := schema.names.count(column)) == 0:
                        raise UserError(f"{file} has no column {column!r}, unlike {files[0].name}")
                    if times > 1:
                        raise UserError(f"{file} has {times} columns {column!r}: keep one")
                # By name, since Parquet reads 'label.x' too where 'label' is asked for.
                labels.append(_integers(source.read(columns=[label])[label], label, file))
        except (OSError, UnicodeDecodeError, pa.ArrowException) as error:
            raise _unreadable(file, error) from error
    images = ParquetImages(folder, files, tuple(map(len, labels)), image)
    return Split(images, np.concatenate(labels)), names


def _features(schema: pa.Schema) -> dict[str, dict[str, Any]]:
    """Hugging Face's description of the columns; empty where there is none."""
    try:
        features = json_text.parse((schema.metadata or {})[b"huggingface"])["info"]["features"]
        return {name: value for name, value in features.items() if isinstance(value, dict)}
    except (KeyError, ValueError, TypeError, AttributeError):
        return {}


def _names(feature: dict[str, Any]) -> tuple[str, ...]:
    """The class names of a column; none where there is no list of them."""
    names = feature.get("names")
    if not isinstance(names, list) or not all(isinstance(name, str) for name in names):
        return ()
    return tuple(names)


def _image_column(schema: pa.Schema, features: dict[str, dict[str, Any]], file: Path) -> str:
    shaped = [field.name for field in schema if _holds_bytes(field.type)]
    declared = [name for name in shaped if features.get(name, {}).get("_type") == "Image"]
    for candidates in (declared, shaped):
        for name in IMAGE_NAMES:
            if name in candidates:
                return name
        if len(candidates) == 1:
            return candidates[0]
    raise UserError(
        f"{file} has no image column (img or image, holding bytes); "
        f"it has {', '.join(schema.names) or 'no columns'}"
    )


def _holds_bytes(kind: pa.DataType) -> bool:
    if pa.types.is_struct(kind):
        index = kind.get_field_index("bytes")
        if index < 0:
            return False
        kind = kind.field(index).type
    return bool(pa.types.is_binary(kind) or pa.types.is_large_binary(kind))


def _label_column(schema: pa.Schema, features: dict[str, dict[str, Any]], file: Path) -> str:
    declared = [
        name for name in schema.names if features.get(name, {}).get("_type") == "ClassLabel"
    ]
    for candidates in (declared, schema.names):
        for name in LABEL_NAMES:
            if name in candidates:
                return name
    if len(declared) == 1:
        return declared[0]
    raise UserError(
        f"{file} has no label column ({', '.join(LABEL_NAMES)}); "
        f"it has {', '.join(schema.names) or 'no columns'}"
    )


def _integers(column: pa.ChunkedArray, name: str, file: Path) -> NDArray[np.int64]:
    if not pa.types.is_integer(column.type):
        raise UserError(f"{file}: labels in {name!r} must be integers, not {column.type}")
    if column.null_count:
        verb = "is" if column.null_count == 1 else "are"
        raise UserError(f"{file}: {counted(column.null_count, 'label')} in {name!r} {verb} null")
    values = np.asarray(column.to_numpy())
    if (highest := int(values.max(initial=0))) > np.iinfo(np.int64).max:
        raise UserError(f"{file}: label {highest} in {name!r}; labels must run from 0 without gaps")
    return values.astype(np.int64)


def _unreadable(file: Path, error: Exception) -> UserError:
    reason = (str(error).splitlines() or [type(error).__name__])[0]
    return UserError(f"{file} cannot be read as Parquet: {reason}")
