"""Predictions of many runs for the same images, as one matrix per column.

Validation and test predictions are in two types that do not refer to each other. Selection receives
only ``Predictions``; ``HeldOutPredictions`` is for reports.

A hidden file beside the predictions caches each matrix, so that it is mapped into memory rather
than read from one file per run. Rows of runs whose file has changed are read again; a cache that is
missing, damaged or not writable costs only time.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import Any, Literal, get_args

import numpy as np
import pyarrow.compute as pc
from numpy.typing import NDArray

from analysis.runs.loading import planned
from rkd_core import records
from rkd_core.errors import UserError
from rkd_core.records import predictions
from rkd_core.records.predictions import Split
from rkd_core.storage import files
from rkd_core.storage.files import Location
from rkd_core.text import json_text

__all__ = ["Column", "HeldOutPredictions", "Predictions", "load", "load_held_out", "load_outcomes"]

Column = Literal["correct", "predicted", "label_log_probability", "predicted_log_probability"]

_Kind = Column | Literal["outcomes"]
_TYPES: dict[_Kind, str] = {
    "outcomes": "|u1",
    "correct": "|b1",
    "predicted": "<i4",
    "label_log_probability": "<f4",
    "predicted_log_probability": "<f4",
}
_VERSION = 1
_AT_ONCE = 8  # files that are parsed at a time
_IMAGES = 1 << 17  # images that are shifted at a time
_PREFIX = 16  # bytes of the length of a cache's head


@dataclass(frozen=True, eq=False)
class Predictions:
    """One column of the validation predictions of many runs."""

    run_ids: tuple[str, ...]
    image: NDArray[np.int64]
    """Row of each image in the original split, shape ``(images,)``."""
    label: NDArray[np.int32]
    """True label of each image, shape ``(images,)``."""
    values: NDArray[Any]
    """The column, shape ``(runs, images)``; read-only."""


@dataclass(frozen=True, eq=False)
class HeldOutPredictions:
    """One column of the test predictions of many runs; see ``Predictions`` for the attributes."""

    run_ids: tuple[str, ...]
    image: NDArray[np.int64]
    label: NDArray[np.int32]
    values: NDArray[Any]


@dataclass(frozen=True, eq=False)
class _Matrix:
    """Rows of runs with the state of the files that they were read from.

    Attributes:
        stamps: Identity of each run's file (``rkd_core.storage.files.identities``) and fingerprint
            of its data, by run id in the order of the rows.
        digests: SHA-256 of the columns ``image`` and ``label``, which all runs share.
        image: Row of each image in the original split.
        label: Label of each image.
        values: ``(runs, images)``.
    """

    stamps: dict[str, tuple[str, str]]
    digests: tuple[str, ...]
    image: NDArray[np.int64]
    label: NDArray[np.int32]
    values: NDArray[Any]


def load(
    results: Location, run_ids: Iterable[str] | None = None, column: Column = "correct"
) -> Predictions:
    """Return one column of the validation predictions of completed runs.

    Args:
        results: A results folder.
        run_ids: The runs; None for the completed ones of ``plan.json``, or all completed ones if
            there is no plan.
        column: ``correct`` (whether the predicted label is the true one, bool), ``predicted``
            (int32), or ``label_log_probability`` or ``predicted_log_probability`` (float32).

    Returns:
        The runs in the given order, or ordered by run id if none is given.

    Raises:
        UserError: A run is not completed or has no predictions, or they are damaged or of other
            images than those of the other runs.
    """
    order, matrix = _load(results, "val", run_ids, column)
    return Predictions(*_selected(order, matrix))


def load_outcomes(
    results: Location, run_ids: Iterable[str], shifts: Mapping[str, NDArray[np.float32]]
) -> Predictions:
    """Return whether students are correct on validation images, shifted and not, as bits.

    The lowest bit is that of the student itself, and each further one that of a shift of its
    logits, fitted to all images. If only the largest logits of an image are kept, its shifted
    prediction is the best among those.

    Args:
        results: A results folder.
        run_ids: Completed students.
        shifts: Shifts by run id, ``(strengths, classes)``; a student may have none.

    Raises:
        UserError: As in ``load``.
    """
    order, matrix = _load(results, "val", run_ids, "outcomes", shifts)
    return Predictions(*_selected(order, matrix))


def load_held_out(
    results: Location, run_ids: Iterable[str] | None = None, column: Column = "correct"
) -> HeldOutPredictions:
    """Return one column of the test predictions of completed runs; see ``load``."""
    order, matrix = _load(results, "test", run_ids, column)
    return HeldOutPredictions(*_selected(order, matrix))


def _load(
    results: Location,
    split: Split,
    run_ids: Iterable[str] | None,
    column: _Kind,
    shifts: Mapping[str, NDArray[np.float32]] | None = None,
) -> tuple[list[str], _Matrix]:
    """Return the requested runs, and a matrix that has all of them."""
    if column not in _TYPES:
        columns = ", ".join(get_args(Column))
        raise UserError(f"predictions have no column {column}; there are {columns}")
    wanted = _completed(results, run_ids)
    folder = results / predictions.FOLDER / split
    present = files.identities(folder)
    if shifts is not None:
        sums = {f"{r}.parquet": hashlib.sha256(s.tobytes()).hexdigest() for r, s in shifts.items()}
        present = {name: i and f"{i} {sums.get(name, '')}" for name, i in present.items()}
    for run_id in wanted:
        path = folder / f"{run_id}.parquet"
        if path.name not in present:
            again = f"compute it with: python -m sweeps.predict {results}"
            raise UserError(f"{path} is missing; {again}")
    stamps = {run_id: (present[f"{run_id}.parquet"], mark) for run_id, mark in wanted.items()}
    matrix = _read_cache(folder / f".{column}", column)
    new = [r for r, stamp in stamps.items() if not stamp[0] or matrix.stamps.get(r) != stamp]
    if new:
        others = {r: s for r, s in matrix.stamps.items() if present.get(f"{r}.parquet") == s[0]}
        reader = _Reader(folder, column, shifts or {})
        matrix = reader.extended(matrix, others, stamps, new)
        _write_cache(folder / f".{column}", column, matrix)
    return list(wanted), matrix


def _completed(results: Location, run_ids: Iterable[str] | None) -> dict[str, str]:
    """Return the fingerprint of the data of the requested runs, by run id."""
    given = None if run_ids is None else list(dict.fromkeys(run_ids))
    wanted = planned(results / "plan.json") if given is None else given
    table = records.read(results / "records", wanted)
    table = table.filter(pc.equal(table["status"], "completed"))
    names, marks = (table[name].to_pylist() for name in ("run_id", "data_fingerprint"))
    found = dict(zip(names, marks, strict=True))
    if missing := [run_id for run_id in given or () if run_id not in found]:
        raise UserError(f"{results / 'records'} has no completed run {missing[0]}")
    if not found:
        raise UserError(f"{results / 'records'} has no completed runs; run the sweep first")
    return found if given is None else {run_id: found[run_id] for run_id in given}


def _selected(
    run_ids: Sequence[str], matrix: _Matrix
) -> tuple[tuple[str, ...], NDArray[np.int64], NDArray[np.int32], NDArray[Any]]:
    """Return the attributes of the public types; the values are copied unless all rows are used."""
    values = matrix.values
    if list(matrix.stamps) != list(run_ids):
        place = {run_id: row for row, run_id in enumerate(matrix.stamps)}
        values = values[[place[run_id] for run_id in run_ids]]
        values.flags.writeable = False
    return tuple(run_ids), matrix.image, matrix.label, values


@dataclass(frozen=True)
class _Reader:
    """Reader of one column from the files of a folder."""

    folder: Location
    column: _Kind
    shifts: Mapping[str, NDArray[np.float32]]

    def extended(
        self,
        matrix: _Matrix,
        others: Mapping[str, tuple[str, str]],
        stamps: Mapping[str, tuple[str, str]],
        new: Sequence[str],
    ) -> _Matrix:
        """Return a matrix with new rows and, if their images are the same, the former ones.

        Args:
            matrix: The cached rows.
            others: Stamps of its rows whose files are unchanged.
            stamps: Stamps of the requested runs, which the result has.
            new: Requested runs that must be read.
        """
        first = self._read(new[0], stamps[new[0]][1], None)
        sums = tuple(first.digests[name] for name in ("image", "label"))
        kept = [r for r in others if r not in {*new}]
        if sums != matrix.digests:
            kept, new = [], [new[0], *(r for r in stamps if r != new[0])]
        run_ids = sorted({*kept, *new})
        all_stamps = {**others, **stamps}
        image, label = first.columns["image"], first.columns["label"]
        values = np.empty((len(run_ids), len(image)), _TYPES[self.column])
        place = {run_id: row for row, run_id in enumerate(run_ids)}
        if kept:
            former = {run_id: row for row, run_id in enumerate(matrix.stamps)}
            values[[place[r] for r in kept]] = matrix.values[[former[r] for r in kept]]

        def fill(run_id: str) -> None:
            found = self._read(run_id, stamps[run_id][1], sums)
            values[place[run_id]] = self._values(found, label)

        values[place[new[0]]] = self._values(first, label)
        with ThreadPoolExecutor(_AT_ONCE, "predictions") as pool:
            for _ in pool.map(fill, new[1:]):
                pass
        values.flags.writeable = False
        return _Matrix({r: all_stamps[r] for r in run_ids}, sums, image, label, values)

    def _values(self, found: predictions.Predictions, label: NDArray[np.int32]) -> NDArray[Any]:
        if self.column not in ("correct", "outcomes"):
            return found.columns[self.column]
        correct = found.columns["predicted"] == label
        return correct if self.column == "correct" else correct | self._shifted(found, label)

    def _shifted(
        self, found: predictions.Predictions, label: NDArray[np.int32]
    ) -> NDArray[np.uint8]:
        """Return the bits of the shifts."""
        bits = np.zeros(len(label), np.uint8)
        for place, shift in enumerate(self.shifts.get(found.run_id, ())):
            for begun in range(0, len(label), _IMAGES):
                part = slice(begun, begun + _IMAGES)
                if "logits" in found.columns:
                    named = (found.columns["logits"][part] + shift).argmax(axis=1)
                else:
                    classes = found.columns["top_classes"][part]
                    best = (found.columns["top_logits"][part] + shift[classes]).argmax(axis=1)
                    named = classes[np.arange(len(classes)), best]
                bits[part] |= (named == label[part]).astype(np.uint8) << (place + 1)
        return bits

    def _read(
        self, run_id: str, fingerprint: str, sums: tuple[str, ...] | None
    ) -> predictions.Predictions:
        """Read a file and check that it has these images; without ``sums``, read them, too."""
        path = self.folder / f"{run_id}.parquet"
        names: list[str] = [self.column]
        if self.column in ("correct", "outcomes"):
            names = ["predicted"]
        try:
            content = files.read(path)
        except OSError as error:
            raise UserError(f"{path} cannot be read ({error})") from error
        if run_id in self.shifts:
            kept = predictions.parse(path, content, ()).digests
            names += ["logits"] if "logits" in kept else ["top_logits", "top_classes"]
        found = predictions.parse(path, content, [*names, *(() if sums else ("image", "label"))])
        if found.data_fingerprint != fingerprint:
            raise UserError(f"{path} holds predictions for another data set; move it away")
        if sums and tuple(found.digests[name] for name in ("image", "label")) != sums:
            raise UserError(f"{path} has other images than the predictions of the other runs")
        return found


def _read_cache(path: Location, column: _Kind) -> _Matrix:
    """Return a cached matrix; one without runs if there is none to use."""
    try:
        local = files.local_path(path)
        content = (
            np.frombuffer(files.read(path), np.uint8)
            if local is None
            else np.memmap(local, np.uint8, "r")
        )
        length = int(bytes(content[:_PREFIX]))
        head = json_text.parse_object(bytes(content[_PREFIX : _PREFIX + length]))
        body = content[_PREFIX + length :]
        about, images, stamps = head["about"], head["images"], head["stamps"]
        if about != [_VERSION, column] or head["sha256"] != _seal(head, body):
            raise ValueError("damaged, or of another version")
        values = body[12 * images :].view(_TYPES[column]).reshape(len(stamps), images)
        image, label = body[: 8 * images].view("<i8"), body[8 * images : 12 * images].view("<i4")
        by_run = {run_id: (identity, mark) for run_id, identity, mark in stamps}
    except (OSError, ValueError, KeyError, TypeError):
        empty = np.empty(0, np.int64), np.empty(0, np.int32), np.empty((0, 0))
        return _Matrix({}, (), *empty)
    return _Matrix(by_run, tuple(head["digests"]), image, label, values)


def _write_cache(path: Location, column: _Kind, matrix: _Matrix) -> None:
    """Replace a cached matrix, unless it cannot be written."""
    body = b"".join(
        array.astype(type_, copy=False).tobytes()
        for array, type_ in (
            (matrix.image, "<i8"),
            (matrix.label, "<i4"),
            (matrix.values, _TYPES[column]),
        )
    )
    head: dict[str, object] = {
        "about": [_VERSION, column],
        "images": len(matrix.image),
        "digests": matrix.digests,
        "stamps": [[run_id, *stamp] for run_id, stamp in matrix.stamps.items()],
    }
    head["sha256"] = _seal(head, body)
    text = json.dumps(head).encode()
    text += b" " * (-(len(text) + _PREFIX) % 64)  # aligns the arrays
    try:
        files.replace_file(path, f"{len(text):{_PREFIX}}".encode() + text + body)
    except OSError:
        return


def _seal(head: Mapping[str, object], body: Any) -> str:
    """Return the SHA-256 of a cache."""
    stated = {name: value for name, value in head.items() if name != "sha256"}
    digest = hashlib.sha256(json.dumps(stated).encode())
    digest.update(body)
    return digest.hexdigest()
