"""Hugging Face style image Parquet: ``train.parquet`` with a test split beside it, or shards.

The image column holds ``{bytes, path}`` or plain bytes; its name, the class names and the label
column are taken from the ``huggingface`` metadata of the schema where it is there.
"""

from __future__ import annotations

import itertools
import json
import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from numpy.typing import NDArray

from rkd_core.datasets.sources import Encoded, Source, Split
from rkd_core.errors import UserError

__all__ = ["ParquetImages", "find_folder", "read"]

SUBFOLDERS = ("", "plain_text", "data", "cifar100")
"""Where Hugging Face's repositories keep their files, below the folder of the dataset."""

IMAGE_NAMES = ("img", "image")
LABEL_NAMES = ("label", "labels", "fine_label")
SHARD = re.compile(r"(?P<split>.+)-(?P<part>\d{5})-of-(?P<parts>\d{5})")
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
            seen = 0
            try:
                with pq.ParquetFile(file) as source:
                    for batch in source.iter_batches(BATCH_ROWS, columns=[self.column]):
                        for value in batch.column(0).to_pylist():
                            yield self._encoded(value, f"{file} row {seen}")
                            seen += 1
            except (OSError, pa.ArrowException) as error:
                raise _unreadable(file, error) from error
            if seen != rows:
                raise UserError(f"{file} changed while it was read: {seen} rows, not {rows}")

    def describe(self, row: int) -> str:
        """File and row."""
        for file, rows in zip(self.files, self.rows, strict=True):
            if row < rows:
                return f"{file} row {row}"
            row -= rows
        raise IndexError(row)

    def sample(self, count: int) -> list[Encoded]:
        """The first images."""
        return list(itertools.islice(self, count))

    def _encoded(self, value: bytes | dict[str, Any] | None, where: str) -> bytes:
        if not isinstance(value, dict):
            return value or b""
        if value.get("bytes") is not None:
            return bytes(value["bytes"])
        if not value.get("path"):
            return b""
        path = self.folder / value["path"]
        if not path.resolve().is_relative_to(self.folder.resolve()):
            raise UserError(f"{where}: the path {value['path']!r} leads out of {self.folder}")
        return path.read_bytes() if path.is_file() else b""


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
    test = next((name for name in test_names if _files(folder, name)), None)
    if test is None:
        wanted = " or ".join(f"{name}.parquet" for name in test_names)
        raise UserError(f"{folder} has a training split but no test split: add {wanted}")
    train_split, names = _read_split(folder, "train")
    test_split, test_class_names = _read_split(folder, test)
    if names and test_class_names and names != test_class_names:
        raise UserError(f"{folder}: the class names of train and {test} differ")
    if not names:
        highest = int(train_split.labels.max(initial=-1))
        if highest >= len(train_split.labels):
            raise UserError(
                f"{folder}: label {highest} among {len(train_split.labels)} training images; "
                "labels must run from 0 without gaps"
            )
        names = tuple(str(label) for label in range(highest + 1))
    return Source(names, train_split, test_split)


def _files(folder: Path, split: str) -> tuple[Path, ...]:
    """The files of a split in order: one file, or all of its shards."""
    whole = folder / f"{split}.parquet"
    shards = []
    for path in sorted(folder.glob(f"{split}-*.parquet")):
        match = SHARD.fullmatch(path.stem)
        if match and match["split"] == split:
            shards.append((path, int(match["part"]), int(match["parts"])))
    if not shards:
        return (whole,) if whole.is_file() else ()
    if whole.is_file():
        raise UserError(f"{folder} has both {whole.name} and {shards[0][0].name}: keep one form")
    if [part for _, part, _ in shards] != list(range(shards[0][2])):
        raise UserError(
            f"{folder} has {len(shards)} of the {shards[0][2]} shards of {split}; "
            f"all must be there, once"
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
                    names = tuple(features.get(label, {}).get("names") or ())
                for column in {image, label} - set(schema.names):
                    raise UserError(f"{file} has no column {column!r}, unlike {files[0].name}")
                labels.append(_integers(source.read(columns=[label]).column(0), label, file))
        except (OSError, pa.ArrowException) as error:
            raise _unreadable(file, error) from error
    images = ParquetImages(folder, files, tuple(map(len, labels)), image)
    return Split(images, np.concatenate(labels)), names


def _features(schema: pa.Schema) -> dict[str, dict[str, Any]]:
    """Hugging Face's description of the columns; empty where there is none."""
    try:
        features = json.loads((schema.metadata or {})[b"huggingface"])["info"]["features"]
        return {name: value for name, value in features.items() if isinstance(value, dict)}
    except (KeyError, ValueError, TypeError, AttributeError):
        return {}


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
        return index >= 0 and _holds_bytes(kind.field(index).type)
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
        raise UserError(f"{file}: {column.null_count} labels in {name!r} are null")
    return np.asarray(column.to_numpy()).astype(np.int64)


def _unreadable(file: Path, error: Exception) -> UserError:
    reason = (str(error).splitlines() or [type(error).__name__])[0]
    return UserError(f"{file} cannot be read as Parquet: {reason}")
