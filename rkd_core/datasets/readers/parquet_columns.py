"""Choice of the image and label columns of a Parquet file, and conversion of labels."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa

from rkd_core.datasets.readers.list_columns import holds_lists
from rkd_core.datasets.readers.tables import HIDDEN, Labels
from rkd_core.errors import UserError, unknown_name
from rkd_core.text import json_text
from rkd_core.text.nouns import counted

__all__ = [
    "ANY",
    "Columns",
    "Schema",
    "class_names_of",
    "features_of",
    "labels_of",
]

IMAGE_NAMES = ("img", "image")
ARRAY_NAMES = ("embedding", "embeddings", "features")
LABEL_NAMES = ("label", "labels", "fine_label")


@dataclass(frozen=True)
class Columns:
    """Columns that the user chose; None for columns to be found in the schema.

    Attributes:
        label: Name of the label column.
        image: Name of the image column.
    """

    label: str | None = None
    image: str | None = None


def features_of(schema: pa.Schema) -> dict[str, dict[str, Any]]:
    """Return the Hugging Face description of the columns; empty if there is none."""
    try:
        features = json_text.parse((schema.metadata or {})[b"huggingface"])["info"]["features"]
        return {name: value for name, value in features.items() if isinstance(value, dict)}
    except (KeyError, ValueError, TypeError, AttributeError):
        return {}


def class_names_of(feature: dict[str, Any]) -> tuple[str, ...]:
    """Return the class names of a column; empty if they are not listed."""
    names = feature.get("names")
    if not isinstance(names, list) or not all(isinstance(name, str) for name in names):
        return ()
    return tuple(names)


ANY = Columns()
"""No choice of columns: both are found in the schema."""


@dataclass(frozen=True)
class Schema:
    """Columns of a file, and their Hugging Face description."""

    schema: pa.Schema
    features: dict[str, dict[str, Any]]
    file: Path | str

    def image_column(self, chosen: str | None) -> str:
        """Return the name of the image column: the chosen one, or else the one in the schema.

        Without a column of images, it is one of lists of numbers, which are float arrays.
        """
        shaped = [field.name for field in self.schema if _holds_bytes(field.type)]
        lists = [field.name for field in self.schema if holds_lists(field.type)]
        if chosen is not None:
            self._check_present(chosen, "`columns.image`")
            if chosen not in (*shaped, *lists):
                kind = self.schema.field(chosen).type
                raise UserError(
                    f"{self.file}: column {chosen!r} holds {kind}, not the bytes of images "
                    "or lists of numbers"
                )
            return chosen
        declared = self._declared("Image", shaped)
        for candidates in (declared, shaped, lists):
            for name in (*IMAGE_NAMES, *ARRAY_NAMES):
                if name in candidates:
                    return name
            if len(candidates) == 1:
                return candidates[0]
            if candidates:
                what = "lists of numbers" if candidates is lists else "images"
                raise self._ambiguous(what, candidates, "`columns.image`")
        raise UserError(
            f"{self.file} has no image column (img or image, holding bytes) and no column of lists "
            f"of numbers; it has {self._all()}"
        )

    def holds_arrays(self, column: str) -> bool:
        """Return whether a column holds lists of numbers."""
        return holds_lists(self.schema.types[self.schema.names.index(column)])

    def label_column(self, chosen: str | None) -> str:
        """Return the name of the label column: the chosen one, or else the one in the schema."""
        if chosen is not None:
            self._check_present(chosen, "`columns.label`")
            return chosen
        declared = self._declared("ClassLabel", self.schema.names)
        for candidates in (declared, self.schema.names):
            for name in LABEL_NAMES:
                if name in candidates:
                    return name
        if len(declared) == 1:
            return declared[0]
        if declared:
            raise self._ambiguous("class labels", declared, "`columns.label`")
        raise UserError(
            f"{self.file} has no label column ({', '.join(LABEL_NAMES)}); it has {self._all()}: "
            "name one of these with `columns.label`"
        )

    def may_have_labels(self, chosen: str | None) -> bool:
        """Return whether a column has the chosen name, or else a common name for labels."""
        names = self.schema.names
        if chosen is not None:
            return chosen in names
        return bool({*names} & {*LABEL_NAMES} or self._declared("ClassLabel", names))

    def remarks(self, image: str, label: str, chosen: Columns) -> tuple[str, ...]:
        """Return remarks on other candidate columns, if the user chose none."""
        images = self._declared("Image", [f.name for f in self.schema if _holds_bytes(f.type)])
        labels = self._declared("ClassLabel", self.schema.names)
        lines = []
        for what, column, others, choice, option in (
            ("images", image, images, chosen.image, "`columns.image`"),
            ("labels", label, labels, chosen.label, "`columns.label`"),
        ):
            rest = [name for name in others if name != column]
            if choice is None and rest:
                lines.append(
                    f"{what}: column {column!r}; there is {' and '.join(map(repr, rest))}, too "
                    f"({option})"
                )
        return tuple(lines)

    def _declared(self, kind: str, among: Sequence[str]) -> list[str]:
        return [name for name in among if self.features.get(name, {}).get("_type") == kind]

    def _all(self) -> str:
        return ", ".join(self.schema.names) or "no columns"

    def _check_present(self, name: str, option: str) -> None:
        if name not in self.schema.names:
            raise UserError(f"{self.file}: {unknown_name(option, name, self.schema.names)}")

    def _ambiguous(self, what: str, names: Sequence[str], option: str) -> UserError:
        shown = f"{', '.join(names[:-1])} and {names[-1]}"
        return UserError(
            f"{self.file} has {len(names)} columns of {what}, {shown}: choose one with {option}"
        )


def _holds_bytes(kind: pa.DataType) -> bool:
    if pa.types.is_struct(kind):
        index = kind.get_field_index("bytes")
        if index < 0:
            return False
        kind = kind.field(index).type
    if pa.types.is_dictionary(kind):
        kind = kind.value_type
    return any(
        is_kind(kind)
        for is_kind in (
            pa.types.is_binary,
            pa.types.is_large_binary,
            pa.types.is_binary_view,
            pa.types.is_fixed_size_binary,
        )
    )


def labels_of(column: pa.ChunkedArray, name: str, file: Path, may_lack: bool) -> Labels:
    """Return the labels of a file.

    Args:
        column: A column of integers, booleans or text.
        name: Name of the column.
        file: File name for messages.
        may_lack: Whether a column of nulls counts as labels that are not published.

    Raises:
        UserError: Labels are null, of another type, or too large.
    """
    if may_lack and column.null_count == len(column) > 0:
        return np.full(len(column), HIDDEN)
    kind = column.type.value_type if pa.types.is_dictionary(column.type) else column.type
    text = any(is_kind(kind) for is_kind in _TEXT)
    if not (text or pa.types.is_integer(kind) or pa.types.is_boolean(kind)):
        raise UserError(f"{file}: labels in {name!r} must be integers or text, not {column.type}")
    if column.null_count:
        verb = "is" if column.null_count == 1 else "are"
        raise UserError(f"{file}: {counted(column.null_count, 'label')} in {name!r} {verb} null")
    if text:
        return [str(value) for value in column.to_pylist()]
    if pa.types.is_dictionary(column.type):
        column = column.cast(kind)
    values = np.asarray(column.to_numpy())
    if (highest := int(values.max(initial=0))) > np.iinfo(np.int64).max:
        raise UserError(f"{file}: label {highest} in {name!r}; labels must run from 0 without gaps")
    return values.astype(np.int64)


_TEXT = (pa.types.is_string, pa.types.is_large_string, pa.types.is_string_view)
