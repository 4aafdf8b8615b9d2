"""Reader of tar shards as the WebDataset library writes them: ``train-000000.tar`` and so on.

A sample is a run of members with the same name up to the first dot of the file name: an image
(``KEY.jpg``), and its label as text (``KEY.cls``) or as a field of ``KEY.json``. Labels are
integers, or text, in which case the classes are the sorted distinct texts of the training split.
"""

from __future__ import annotations

import os
import re
import tarfile
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np
from numpy.typing import NDArray

from rkd_core.datasets.readers.base import Encoded, Source, spread
from rkd_core.datasets.readers.formats import endings
from rkd_core.datasets.readers.parquet_columns import LABEL_NAMES, Columns
from rkd_core.datasets.readers.paths import is_ignored
from rkd_core.datasets.readers.split_names import SplitRule, spelling
from rkd_core.datasets.readers.tables import HIDDEN, Labels, Table, read_splits
from rkd_core.errors import UserError, first_line, unknown_name
from rkd_core.text import json_text

__all__ = ["TarImages", "find_folder", "read"]

SUBFOLDERS = ("", "data")
"""Subfolders in which Hugging Face repositories keep their files."""

_SHARD = re.compile(r"(?:.*[-_.])?(?P<split>[A-Za-z]+)(?:[-_.]?(?P<part>\d+)(?:-of-\d+)?)?")
_COMPRESSED = (".tar.gz", ".tgz", ".tar.bz2", ".tar.xz", ".tar.zst", ".tar.zstd", ".tar.lz4")
_BLOCK = tarfile.BLOCKSIZE
_PADDING = 2**20  # maximum bytes of zeros at the end of a tar file
_INTEGER = re.compile(r"[+-]?[0-9]{1,18}")


@dataclass(frozen=True, eq=False)
class TarImages:
    """Images in tar files, in the order of the files and of their members. Can be pickled.

    Attributes:
        files: The shards.
        members: int64 ``(n, 3)``: number of the shard, first byte and size of each image.
    """

    files: tuple[Path, ...]
    members: NDArray[np.int64]

    def __len__(self) -> int:
        return len(self.members)

    def __iter__(self) -> Iterator[Encoded]:
        for number, file in enumerate(self.files):
            first, last = np.searchsorted(self.members[:, 0], (number, number + 1)).tolist()
            with _opened(file) as handle:
                for row in range(first, last):
                    yield self._content(handle, row)

    def describe(self, row: int) -> str:
        """Return the file of an image and the name of the member."""
        shard, start, _ = self.members[row].tolist()
        with _opened(self.files[shard]) as file:
            header = os.pread(file.fileno(), _BLOCK, start - _BLOCK)
        try:
            name = tarfile.TarInfo.frombuf(header, "utf-8", "replace").name
        except tarfile.HeaderError:
            name = f"member at byte {start}"
        return f"{self.files[shard]} {name}"

    def sample(self, count: int) -> list[Encoded]:
        """Return evenly spaced images."""
        return [self.read(row) for row in spread(len(self), count).tolist()]

    def read(self, row: int) -> bytes:
        """Return the encoded bytes of an image."""
        with _opened(self.files[self.members[row, 0]]) as file:
            return self._content(file, row)

    def _content(self, file: BinaryIO, row: int) -> bytes:
        _, start, size = self.members[row].tolist()
        content = os.pread(file.fileno(), size, start)
        if len(content) < size:
            raise UserError(f"{file.name} is shorter than when it was indexed")
        return content


def _opened(file: Path) -> BinaryIO:
    try:
        return file.open("rb")
    except OSError as error:
        raise UserError(f"{file} cannot be read: {error.strerror}") from error


def find_folder(root: Path) -> Path | None:
    """Return the folder at or below ``root`` that holds shards for training, if there is one.

    Raises:
        UserError: Shards are compressed.
    """
    for name in SUBFOLDERS:
        folder = root / name
        if folder.is_dir() and spelling("train", _split_files(folder)):
            return folder
    return None


def read(folder: Path, rule: SplitRule, columns: Columns) -> Source:
    """Read the headers and labels of shards; images are read when they are needed.

    Args:
        folder: Folder with ``train-000000.tar`` and so on, or with a folder ``train`` of shards.
        rule: Choice of the test and validation splits.
        columns: Endings of images and field of labels that the user chose.

    Raises:
        UserError: A file is damaged or compressed, a sample lacks its image or its label, or has
            several.
    """
    there = _split_files(folder)

    def table(split: str, may_lack_labels: bool) -> Table:
        return _table(there[split], columns, may_lack_labels)

    return read_splits(folder, [*there], rule, "-000000.tar", table)


def _split_files(folder: Path) -> dict[str, tuple[Path, ...]]:
    """Return the sorted shards of each split: by the names of files, or of folders of shards."""
    found: dict[str, tuple[Path, ...]] = {}
    for path in _shards(folder):
        if split := _split_of(path):
            found[split] = (*found.get(split, ()), path)
    if spelling("train", found) is None:
        for path in sorted(folder.iterdir()):
            if not is_ignored(path.name) and path.is_dir() and (inside := _shards(path)):
                found.setdefault(path.name, inside)
    if spelling("train", found):
        compressed = (p for paths in found.values() for p in paths if p.suffix.lower() != ".tar")
        if (first := next(compressed, None)) is not None:
            raise UserError(
                f"{first} is compressed, so that single samples cannot be read: decompress it"
            )
    return found


def _shards(folder: Path) -> tuple[Path, ...]:
    """Return the sorted tar files of a folder, compressed or not."""
    return tuple(
        sorted(
            path
            for path in folder.iterdir()
            if path.name.lower().endswith((".tar", *_COMPRESSED))
            and not is_ignored(path.name)
            and path.is_file()
        )
    )


def _split_of(path: Path) -> str | None:
    match = _SHARD.fullmatch(_stem(path))
    return None if match is None else match["split"]


def _stem(path: Path) -> str:
    ending = next(e for e in (".tar", *_COMPRESSED) if path.name.lower().endswith(e))
    return path.name[: -len(ending)]


def _table(files: tuple[Path, ...], columns: Columns, may_lack_labels: bool) -> Table:
    """Index the shards of a split."""
    members: list[tuple[int, int, int]] = []
    labels: list[object] = []
    for number, file in enumerate(files):
        with _opened(file) as handle:
            for sample in _samples(file, handle):
                members.append((number, *sample.image(columns.image)))
                labels.append(sample.label(handle, columns.label))
    if not members:
        raise UserError(f"{files[0]} has no sample: no {_some(endings())} with a .cls or .json")
    images = TarImages(files, np.asarray(members, dtype=np.int64))
    found = [label for label in labels if label is not None]
    column = columns.label or "cls"
    if not found and may_lack_labels:
        return Table(images, np.full(len(labels), HIDDEN), files[0], "")
    if len(found) < len(labels):
        where = images.describe(next(row for row, one in enumerate(labels) if one is None))
        wanted = f"field {columns.label!r} in a .json" if columns.label else ".cls or .json"
        raise UserError(
            f"{where} has no label: a sample has an image and a {wanted}; other archives "
            "of images have to be unpacked"
        )
    return Table(images, _labels(found), files[0], column, warnings=_gaps(files))


def _labels(found: Sequence[object]) -> Labels:
    """Return labels as integers if all are, else as text."""
    if all(isinstance(label, int) or _INTEGER.fullmatch(str(label)) for label in found):
        return np.asarray([int(str(label)) for label in found], dtype=np.int64)
    return [str(label) for label in found]


def _gaps(files: Sequence[Path]) -> tuple[str, ...]:
    """Return a warning if numbered shards have gaps."""
    matches = [_SHARD.fullmatch(_stem(file)) for file in files]
    numbers = [int(match["part"]) for match in matches if match and match["part"]]
    absent = sorted({*range(max(numbers, default=-1) + 1)} - {*numbers})
    if not absent or len({*numbers}) < len(files):
        return ()
    shown = ", ".join(map(str, absent[:5])) + (", ..." if len(absent) > 5 else "")
    return (f"{files[0].parent}: shards like {files[0].name} lack the numbers {shown}",)


@dataclass(frozen=True)
class _Sample:
    """Members of a shard with the same key: first byte and size by ending."""

    where: str
    parts: Mapping[str, tuple[int, int]]

    def image(self, chosen: str | None) -> tuple[int, int]:
        """Return first byte and size of the image."""
        if chosen is not None:
            ending = chosen.lower().removeprefix(".")
            if ending not in self.parts:
                raise UserError(
                    f"{self.where}: {unknown_name('`columns.image`', ending, [*self.parts])}"
                )
            return self.parts[ending]
        images = [ending for ending in self.parts if f".{ending}" in endings()]
        if not images:
            raise UserError(
                f"{self.where} has no image (it has {_some([*self.parts])}); the endings of images "
                f"are {', '.join(endings())}"
            )
        if len(images) > 1:
            raise UserError(
                f"{self.where} has {len(images)} images, {_some(images)}: choose one with "
                "`columns.image`"
            )
        return self.parts[images[0]]

    def label(self, file: BinaryIO, field: str | None) -> object:
        """Return the label, an integer or text; None if there is none."""
        if field is None and "cls" in self.parts:
            try:
                text = self._content(file, "cls").decode().strip()
            except UnicodeDecodeError as error:
                raise UserError(f"{self.where}.cls is not UTF-8 text") from error
            if not text:
                raise UserError(f"{self.where}.cls is empty")
            return text
        if "json" not in self.parts:
            return None
        try:
            fields = json_text.parse(self._content(file, "json").decode())
        except ValueError as error:
            raise UserError(f"{self.where}.json cannot be read: {first_line(error)}") from error
        return self._field(fields, field)

    def _field(self, fields: object, chosen: str | None) -> object:
        if not isinstance(fields, dict):
            raise UserError(f"{self.where}.json is a {type(fields).__name__}, not fields")
        candidates = [chosen] if chosen else [name for name in LABEL_NAMES if name in fields]
        if not candidates or candidates[0] not in fields:
            raise UserError(
                f"{self.where}.json has no field {chosen or ' or '.join(LABEL_NAMES)} (it has "
                f"{_some([*map(str, fields)])}): name one of these with `columns.label`"
            )
        label: Any = fields[candidates[0]]
        if label is None or not isinstance(label, int | str):
            raise UserError(
                f"{self.where}.json: {candidates[0]} is {label!r}; labels are integers or text"
            )
        return int(label) if isinstance(label, int) else label.strip()

    def _content(self, file: BinaryIO, ending: str) -> bytes:
        start, size = self.parts[ending]
        return os.pread(file.fileno(), size, start)


def _samples(path: Path, file: BinaryIO) -> Iterator[_Sample]:
    """Yield the samples of a shard."""
    key, parts = "", dict[str, tuple[int, int]]()
    seen: set[str] = set()
    for name, start, size in _members(path, file):
        folder, slash, base = name.rpartition("/")
        stem, dot, ending = base.partition(".")
        if is_ignored(base) or not dot:
            continue
        if (this := f"{folder}{slash}{stem}") != key and parts:
            yield _Sample(f"{path} {key}", parts)
            parts = {}
        if not parts and this in seen:
            raise UserError(f"{path}: members of {this} are not next to each other, or it repeats")
        key = this
        seen.add(key)
        if (ending := ending.lower()) in parts:
            raise UserError(f"{path} has {key}.{ending} twice")
        parts[ending] = start, size
    if parts:
        yield _Sample(f"{path} {key}", parts)


def _members(path: Path, file: BinaryIO) -> Iterator[tuple[str, int, int]]:
    """Yield name, first byte and size of the files in a tar file.

    Raises:
        UserError: The file is damaged or compressed, or a member is a link.
    """
    try:
        with tarfile.open(fileobj=file, mode="r:", errors="surrogateescape") as archive:
            kept: list[tarfile.TarInfo] = vars(archive)["members"]
            while (member := archive.next()) is not None:
                kept.clear()  # they would fill the memory
                if member.isdir():
                    continue
                if not member.isreg() or member.issparse():
                    raise UserError(f"{path}: {member.name} is not a plain file")
                yield member.name, member.offset_data, member.size
            end = archive.offset
    except tarfile.TarError as error:
        kind = _compression(file)
        problem = (
            f"is compressed ({kind}), and parts of it cannot be read alone: decompress it"
            if kind
            else f"is not a whole tar file: {first_line(error)}"
        )
        raise UserError(f"{path} {problem}") from error
    # tarfile takes a damaged header, and the end of a first archive, for the end of the file.
    if any(os.pread(file.fileno(), _PADDING, end)) or os.fstat(file.fileno()).st_size > (
        end + _PADDING
    ):
        raise UserError(
            f"{path} is damaged at byte {end}, or has a second archive there: write it again"
        )


def _compression(file: BinaryIO) -> str | None:
    marks = {b"\x1f\x8b": "gzip", b"BZh": "bzip2", b"\xfd7zXZ": "xz", b"\x28\xb5\x2f\xfd": "zstd"}
    start = os.pread(file.fileno(), 6, 0)
    return next((kind for mark, kind in marks.items() if start.startswith(mark)), None)


def _some(names: Sequence[str]) -> str:
    return ", ".join(names[:5]) + (", ..." if len(names) > 5 else "")
