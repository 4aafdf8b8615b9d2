"""Reader of datasets of the Hugging Face ``datasets`` library: objects, folders and Hub names."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from rkd_core.datasets.readers.base import Encoded, Images, ImagesInMemory
from rkd_core.datasets.readers.list_columns import arrays_of
from rkd_core.datasets.readers.parquet_columns import (
    Columns,
    Schema,
    class_names_of,
    features_of,
)
from rkd_core.errors import UserError, first_line

__all__ = ["Table", "hub", "is_dataset", "is_saved", "read", "saved"]

PREFIX = "hf:"


@dataclass(frozen=True)
class Table:
    """One split: encoded images or arrays, labels as given, and declared class names."""

    images: Images
    labels: NDArray[Any]
    class_names: tuple[str, ...]


class _Rows(Sequence[Encoded]):
    """Encoded images of a column, read from the dataset when they are needed."""

    def __init__(self, dataset: Any, column: str, where: str) -> None:
        self._dataset, self._column, self._where = dataset, column, where

    def __len__(self) -> int:
        return len(self._dataset)

    def __getitem__(self, row: Any) -> Any:
        cell = self._dataset[row][self._column]
        if isinstance(cell, Mapping):
            content, path = cell.get("bytes"), cell.get("path")
            if content is not None:
                return bytes(content)
            try:
                return b"" if path is None else Path(path).read_bytes()
            except OSError:
                return b""
        return bytes(cell) if cell is not None else b""


def is_dataset(value: Any) -> bool:
    """Return whether a value is a map-style ``datasets.Dataset``."""
    named = hasattr(value, "features") and hasattr(value, "column_names")
    return named and hasattr(value, "cast_column") and hasattr(value, "__len__")


def read(dataset: Any, where: str, columns: Columns) -> Table:
    """Read one split of a dataset; images stay encoded.

    Args:
        dataset: A ``datasets.Dataset``.
        where: Name of the split, for messages.
        columns: Columns that the user chose.

    Raises:
        UserError: There is no column of images or labels, or there are several candidates.
    """
    arrow = dataset.features.arrow_schema
    schema = Schema(arrow, features_of(arrow), where.replace(" images", " split"))
    image, label = schema.image_column(columns.image), schema.label_column(columns.label)
    names = class_names_of(schema.features.get(label, {}))
    plain = dataset.with_format(None)
    if schema.holds_arrays(image):
        lists = plain.with_format("arrow").select_columns([image])[:]
        images: Images = arrays_of(lists[image], f"{where}: {image!r}")
    else:
        if schema.features.get(image, {}).get("_type") == "Image":
            plain = plain.cast_column(image, _undecoded())
        images = ImagesInMemory(_Rows(plain.select_columns([image]), image, where), where)
    labels = plain[label]
    if any(value is None for value in labels):
        raise UserError(f"{where}: labels in {label!r} are missing in some rows")
    return Table(images, np.asarray(labels), names)


def _undecoded() -> Any:
    from datasets import Image

    return Image(decode=False)


def is_saved(folder: Path) -> bool:
    """Return whether ``save_to_disk`` wrote a folder."""
    return (folder / "dataset_dict.json").is_file() or (
        (folder / "state.json").is_file() and (folder / "dataset_info.json").is_file()
    )


def saved(folder: Path) -> Any:
    """Load a dataset that ``save_to_disk`` wrote.

    Raises:
        UserError: The library is not installed, or the folder is damaged.
    """
    library = _library(f"{folder} was written by save_to_disk")
    try:
        return library.load_from_disk(str(folder))
    except Exception as error:
        raise UserError(f"{folder} cannot be read: {first_line(error)}") from error


def hub(reference: str) -> Any:
    """Load ``hf:NAME[:CONFIGURATION][@REVISION]`` from the local cache or the Hub.

    Raises:
        UserError: The library is not installed, or the dataset is not found.
    """
    library = _library(reference)
    name, _, revision = reference.removeprefix(PREFIX).partition("@")
    name, _, configuration = name.partition(":")
    if not name:
        raise UserError(f"{reference}: give hf:NAME, hf:NAME:CONFIGURATION or hf:NAME@REVISION")
    try:
        return library.load_dataset(name, configuration or None, revision=revision or None)
    except Exception as error:  # the library raises many classes
        raise UserError(f"{reference} cannot be loaded: {first_line(error)}") from error


def _library(wanted: str) -> Any:
    try:
        import datasets
    except ImportError as error:
        raise UserError(
            f"{wanted}, which needs the datasets library: pip install datasets"
        ) from error
    return datasets
