"""Logits of a teacher that is known by its answers only, read from a user's files.

They are kept in the results folder, cut to the images of the trainings, as a bundle:
``given_logits/<digest>/logits.safetensors``. The digest is their name in specs.
"""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq
from numpy.typing import NDArray

from rkd_core.datasets import Dataset
from rkd_core.errors import UserError, first_line, require
from rkd_core.metrics import balanced_accuracy
from rkd_core.storage import bundles, files, tensors
from rkd_core.storage.files import Location
from rkd_core.text.nouns import counted

if TYPE_CHECKING:
    from torch import Tensor

    from rkd_core.results.artifacts import Artifact

__all__ = ["FILE", "FOLDER", "GivenLogits", "answers", "is_kept", "keep", "load", "read"]

FOLDER, FILE = "given_logits", "logits.safetensors"

Part = Literal["train", "val", "test"]

_STEMS: dict[Part, tuple[str, ...]] = {
    "train": ("train",),
    "val": ("validation", "val"),
    "test": ("test",),
}
_NOUNS: dict[Part, str] = {"train": "training", "val": "validation", "test": "test"}
_SUFFIXES = (".parquet", ".npy")
_FLOATS = (np.float16, np.float32, np.float64)
_SUM = 0.01  # distance of a sum of float16 probabilities from 1


@dataclass(frozen=True, eq=False)
class GivenLogits:
    """Logits of a teacher for the images of a dataset.

    Attributes:
        tables: Logits float32 ``(n, classes)`` for ``train``, ``val`` and ``test``, in the order of
            the dataset's images.
        notes: Lines about probable mistakes.
    """

    tables: dict[Part, NDArray[np.float32]]
    notes: tuple[str, ...] = ()

    @property
    def digest(self) -> str:
        """SHA-256 of the logits."""
        found = hashlib.sha256(b"given logits 1")
        for part, table in self.tables.items():
            found.update(f"{part} {table.shape}".encode())
            found.update(np.ascontiguousarray(table, "<f4").data)
        return found.hexdigest()


def read(folder: Path, dataset: Dataset) -> GivenLogits:
    """Read and check the logits in a user's folder.

    For each original split of the data (``train``, and ``validation`` and ``test`` as far as there
    are any), there is one of these files:

    - ``.npy``: floats ``(rows, classes)``, a row for each image of the original split, in order.
    - ``.parquet``: a column ``logits`` of lists of floats, for the same rows or for those that a
      column ``image`` names by their number in the original split. Labels in a column ``label``
      are compared with the data's. Files of ``predictions/`` in a results folder have this form.

    Where the data set is cut, such as a test set that is halved for validation and test, two
    Parquet files with ``image`` may cover its parts.

    Args:
        folder: The folder.
        dataset: Dataset of the trainings.

    Raises:
        UserError: A file is missing, or its content does not fit the data.
    """
    parts_of: dict[Part, list[Part]] = {}
    source = dataset.provenance
    for part in _STEMS:
        split: Part = part
        if part != "train" and source.test is None:
            split = "train"
        elif part == "val" and source.val is None:
            split = "test"
        parts_of.setdefault(split, []).append(part)
    tables: dict[Part, NDArray[np.float32]] = {}
    for split, parts in parts_of.items():
        tables |= _Split(folder, split, parts, dataset).tables()
    return GivenLogits({part: tables[part] for part in _STEMS}, tuple(_notes(tables, dataset)))


def keep(out: Location, given: GivenLogits) -> str:
    """Store logits in a results folder, unless they are there already.

    Returns:
        The value of ``given_logits`` in a ``TrainingSpec``.

    Raises:
        OSError: They cannot be written.
    """
    import torch  # slow, and plans are made without it

    digest = given.digest
    path = out / FOLDER / digest
    if not is_kept(out, digest):
        files.remove(path)
        tables = {str(part): torch.from_numpy(table) for part, table in given.tables.items()}
        tensors.write(path, digest, FILE, tables)
    return digest


def is_kept(out: Location, digest: str) -> bool:
    """Return whether logits are in a results folder, and not damaged."""
    try:
        bundles.check(out / FOLDER / digest, digest, (FILE,))
    except UserError:
        return False
    return True


def load(out: Location, digest: str) -> dict[str, Tensor]:
    """Return the logits of a results folder for ``train``, ``val`` and ``test``.

    Raises:
        UserError: They are missing or damaged.
    """
    return tensors.read(out / FOLDER / digest, digest, FILE, mapped=True)


def answers(artifact: Artifact) -> dict[str, Tensor]:
    """Return the logits of a teacher for ``train``, ``val`` and ``test``, with its shift.

    Raises:
        UserError: They are missing in the results folder, or damaged.
    """
    shift = artifact.weights["shift"]
    given = load(artifact.out, str(artifact.spec.given_logits))
    if not shift.any():
        return given
    return {part: logits + shift for part, logits in given.items()}


@dataclass(frozen=True, eq=False)
class _Content:
    """Content of a file: logits of any float type, and rows and labels if the file has them."""

    path: Path
    logits: NDArray[np.floating]
    images: NDArray[np.int64] | None = None
    labels: NDArray[np.int64] | None = None


class _Split:
    """Files of an original split that serves one or more parts of a dataset."""

    def __init__(self, folder: Path, split: Part, parts: Sequence[Part], dataset: Dataset) -> None:
        self._folder, self._parts, self._dataset = folder, parts, dataset
        self._name = f"{'original ' if len(parts) > 1 else ''}{_NOUNS[split]} set"
        stems = dict.fromkeys(stem for part in (split, *parts) for stem in _STEMS[part])
        self._names = [f"{stem}{suffix}" for stem in stems for suffix in _SUFFIXES]
        self._rows = dataset.source_rows[split]

    def tables(self) -> dict[Part, NDArray[np.float32]]:
        """Return the logits of each part."""
        contents = [_read(path, self._dataset.classes) for path in self._files()]
        for content in contents:
            self._check_rows(content, alone=len(contents) == 1)
        images = np.concatenate(
            [np.arange(self._rows) if c.images is None else c.images for c in contents]
        )
        order = np.argsort(images, kind="stable")
        ascending = images[order]
        twice = ascending[1:][ascending[1:] == ascending[:-1]]
        names = " and ".join(str(content.path) for content in contents)
        if len(twice):
            raise UserError(f"{names}: image {twice[0]} has logits twice")
        first = np.cumsum([0, *(len(content.logits) for content in contents)])
        found: dict[Part, NDArray[np.float32]] = {}
        for part in self._parts:
            wanted = getattr(self._dataset, f"{part}_indices")
            places = np.searchsorted(ascending, wanted)
            absent = wanted[ascending[np.minimum(places, len(ascending) - 1)] != wanted]
            if len(absent):
                raise UserError(
                    f"{names}: {len(absent)} of {counted(len(wanted), f'{_NOUNS[part]} image')} "
                    f"have no logits, the first of them image {absent[0]} of the {self._name}"
                )
            found[part] = np.empty((len(wanted), self._dataset.classes), np.float32)
            for content, begin in zip(contents, first, strict=False):
                places_here = order[places] - begin
                here = (places_here >= 0) & (places_here < len(content.logits))
                found[part][here] = self._values(content, places_here[here], wanted[here])
                self._check_labels(content, part, here, places_here[here])
        return found

    def _files(self) -> list[Path]:
        try:
            paths = [self._folder / name for name in self._names]
            found = [path for path in paths if path.exists()]
        except OSError as error:
            raise UserError(f"{self._folder} cannot be read: {error.strerror}") from error
        if not found:
            first, *more = self._names
            names = f"{', '.join([first, *more][:-1])} or {more[-1]}"
            raise UserError(
                f"{self._folder} has no logits of the {self._name} of {self._dataset.name} "
                f"({counted(self._rows, 'image')}): give {names}"
            )
        return found

    def _check_rows(self, content: _Content, alone: bool) -> None:
        path, rows = content.path, len(content.logits)
        if content.images is None:
            require(
                alone,
                f"{path} is one of several files of the {self._name}: give one file with a row for "
                "each of its images, or Parquet files with a column `image`",
            )
            key = (
                "" if path.suffix == ".npy" else "; a column `image` would say which rows these are"
            )
            require(
                rows == self._rows,
                f"{path} has {counted(rows, 'row')}, but the {self._name} of {self._dataset.name} "
                f"has {counted(self._rows, 'image')}{key}",
            )
            return
        wrong = content.images[(content.images < 0) | (content.images >= self._rows)]
        if len(wrong):
            raise UserError(
                f"{path}: there is no image {wrong[0]} in the {self._name} of "
                f"{self._dataset.name}, which has the images 0 to {self._rows - 1}"
            )

    def _values(
        self, content: _Content, rows: NDArray[np.int64], images: NDArray[np.int64]
    ) -> NDArray[np.float32]:
        """Return checked logits of a file."""
        with np.errstate(over="ignore"):  # a float64 beyond float32 becomes infinite
            values = content.logits[rows].astype(np.float32)
        bad = images[~np.isfinite(values).all(axis=1)]
        if len(bad):
            raise UserError(
                f"{content.path}: image {bad[0]} has logits that are not finite in float32"
            )
        shares = len(values) and values.min() >= 0 and values.max() <= 1
        require(
            not shares or not np.allclose(values.sum(axis=1, dtype=np.float64), 1, atol=_SUM),
            f"{content.path} has probabilities: give logits, such as "
            "numpy.log(numpy.maximum(probabilities, 1e-12))",
        )
        return values

    def _check_labels(
        self, content: _Content, part: Part, here: NDArray[np.bool_], rows: NDArray[np.int64]
    ) -> None:
        if content.labels is None:
            return
        labels, given = getattr(self._dataset, part).labels[here], content.labels[rows]
        wrong = np.flatnonzero(labels != given)
        if len(wrong):
            image = getattr(self._dataset, f"{part}_indices")[here][wrong[0]]
            raise UserError(
                f"{content.path}: image {image} has label {given[wrong[0]]}, but "
                f"{labels[wrong[0]]} in the {self._name} of {self._dataset.name}: images or "
                "classes are in another order"
            )


def _read(path: Path, classes: int) -> _Content:
    """Return the content of a file.

    Raises:
        UserError: It cannot be read, or is not of the expected form.
    """
    try:
        content = _read_npy(path) if path.suffix == ".npy" else _read_parquet(path)
    except OSError as error:
        raise UserError(f"{path} cannot be read: {error.strerror or first_line(error)}") from error
    shape, kind = content.logits.shape, content.logits.dtype
    require(
        kind.newbyteorder("=") in _FLOATS, f"{path} has {kind}: give float16, float32 or float64"
    )
    require(len(shape) == 2, f"{path} has the shape {shape}: give (images, classes)")
    require(
        shape[1] == classes,
        f"{path} has {counted(shape[1], 'logit')} per image, but the data have "
        f"{counted(classes, 'class', 'classes')}",
    )
    return content


def _read_npy(path: Path) -> _Content:
    try:
        return _Content(path, np.lib.format.open_memmap(path, mode="r"))
    except (ValueError, OverflowError) as error:  # such as objects, which would be unpickled
        raise UserError(f"{path} is not a .npy file of floats: {first_line(error)}") from error


def _read_parquet(path: Path) -> _Content:
    try:
        schema = pq.read_schema(path)
        require("logits" in schema.names, f"{path} has no column `logits`, a list of floats")
        columns = [name for name in ("logits", "image", "label") if name in schema.names]
        for name in columns:
            require(schema.names.count(name) == 1, f"{path} has two columns `{name}`")
        table = pq.read_table(path, columns=columns, partitioning=None)
    except pa.ArrowException as error:
        raise UserError(f"{path} is not a Parquet file: {first_line(error)}") from error
    kind = table.schema.field("logits").type
    lists = pa.types.is_list, pa.types.is_large_list, pa.types.is_fixed_size_list
    require(
        any(test(kind) for test in lists) and pa.types.is_floating(kind.value_type),
        f"{path}: `logits` is {kind}: give a list of float16, float32 or float64",
    )
    column = table["logits"]
    values = pc.list_flatten(column)
    require(not column.null_count and not values.null_count, f"{path}: `logits` has missing values")
    lengths = pc.unique(pc.list_value_length(column)).to_pylist()
    require(
        len(lengths) == 1,
        f"{path} has no rows"
        if not lengths
        else f"{path}: `logits` has lists of {lengths[0]} and {lengths[-1]} values",
    )
    logits = values.to_numpy().reshape(-1, lengths[0])
    return _Content(path, logits, _integers(table, "image", path), _integers(table, "label", path))


def _integers(table: Any, name: str, path: Path) -> NDArray[np.int64] | None:
    """Return a column of integers; None if there is none."""
    if name not in table.column_names:
        return None
    column = table[name]
    require(
        pa.types.is_integer(column.type) and not column.null_count,
        f"{path}: `{name}` must be integers, "
        + ("rows of the original split" if name == "image" else "labels of the data"),
    )
    found: NDArray[np.int64] = column.to_numpy().astype(np.int64)
    return found


def _notes(tables: dict[Part, NDArray[np.float32]], dataset: Dataset) -> list[str]:
    """Return a line if the logits predict the training labels no better than chance."""
    labels, classes = dataset.train.labels, dataset.classes
    right = labels[tables["train"].argmax(axis=1) == labels]
    counts = np.bincount(right, minlength=classes)
    accuracy = float(balanced_accuracy(counts, dataset.class_counts("train")))
    chance = 1 / classes
    if accuracy > chance + 3 * np.sqrt(chance * (1 - chance) / len(labels)):
        return []
    return [
        f"predicts {100 * accuracy:.1f}% of the training images of an average class correctly, "
        "about as many as chance: images or classes may be in another order"
    ]
