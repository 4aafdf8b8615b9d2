"""Predictions of a trained model, one row per image, in one Parquet file per run and split.

``predictions/val/<run id>.parquet`` and ``predictions/test/<run id>.parquet``. Their metadata name
the run and the data, and hold a SHA-256 of every column, so that each column can be checked alone.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any, Literal, get_args

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from numpy.typing import NDArray

from rkd_core.errors import UserError, first_line
from rkd_core.storage import files
from rkd_core.storage.files import Location
from rkd_core.text import json_text

__all__ = [
    "FOLDER",
    "SPLITS",
    "Kept",
    "Predictions",
    "Split",
    "bytes_per_run",
    "file_of",
    "form",
    "parse",
    "publish",
    "serialize",
]

Split = Literal["val", "test"]
Kept = Literal["full", "top", "none"]
"""Logits to keep: all of each image, the largest ones, or no predictions at all."""

FOLDER = "predictions"
SPLITS: tuple[Split, ...] = get_args(Split)

_FULL = 2_000_000  # maximum number of logits of a split that are all kept by default
_TOP = 5
_CHUNK = 2_000_000  # logits that are converted at a time
_ROW_GROUP = 1 << 17
_OVERHEAD = 4_000  # bytes of metadata in a file
_HEAD, _SUM = b"predictions", b"sha256"  # in the metadata of a file
_ENCODINGS = {
    "image": "DELTA_BINARY_PACKED",
    "label_log_probability": "BYTE_STREAM_SPLIT",
    "predicted_log_probability": "BYTE_STREAM_SPLIT",
}
_DICTIONARIES = ["label", "predicted", "top_classes.list.element"]

Array = NDArray[Any]


@dataclass(frozen=True, eq=False)
class Predictions:
    """Predictions of one run on one split.

    Attributes:
        run_id: The run.
        split: ``val`` or ``test``.
        data_fingerprint: Fingerprint of the data, as in the record of the run.
        classes: Number of classes.
        columns: Columns by name, all of the same length: ``image`` (row of the image in the
            original split), ``label``, ``predicted`` (predicted label), ``label_log_probability``
            and ``predicted_log_probability`` (of these two labels), and either ``logits``, float16
            ``(images, classes)``, or ``top_logits`` and ``top_classes``, the largest logits of each
            image in descending order and their classes.
        digests: SHA-256 of every column of the file by name, including those that were not read.
    """

    run_id: str
    split: Split
    data_fingerprint: str
    classes: int
    columns: Mapping[str, Array]
    digests: Mapping[str, str]


def form(requested: Kept | None, images: int, classes: int) -> Kept:
    """Return which logits of a split to keep; None asks for all up to two million, else the top."""
    return requested or ("full" if images * classes <= _FULL else "top")


def bytes_per_run(requested: Kept | None, images: Mapping[Split, int], classes: int) -> int:
    """Return the approximate size of the files of one run, given the images of each split."""
    top = min(_TOP, classes)
    row = {"full": 10 + 2 * classes, "top": 10 + 4 * top}
    forms = [(form(requested, count, classes), count) for count in images.values()]
    sizes = (_OVERHEAD + count * row[name] for name, count in forms if name != "none")
    return 2 * sum(sizes)  # in the artifact, and published from there


def file_of(out: Location, split: Split, run_id: str) -> Location:
    """Return the file of a run's predictions in a results folder."""
    return out / FOLDER / split / f"{run_id}.parquet"


def publish(out: Location, run_id: str, contents: Mapping[Split, bytes]) -> None:
    """Write the files of a run's predictions, except for those that exist."""
    for split, content in contents.items():
        files.create(file_of(out, split, run_id), content)


def serialize(
    run_id: str,
    split: Split,
    data_fingerprint: str,
    images: Array,
    labels: Array,
    logits: NDArray[np.float32],
    predicted: Array,
    kept: Kept,
) -> bytes:
    """Return predictions as the content of a Parquet file.

    Args:
        run_id: The run.
        split: ``val`` or ``test``.
        data_fingerprint: Fingerprint of the data.
        images: Row of each image in the original split, integers ``(n,)``.
        labels: True labels, integers ``(n,)``.
        logits: float32 ``(n, classes)``.
        predicted: Predicted labels, integers ``(n,)``.
        kept: ``full`` or ``top``.
    """
    count, classes = logits.shape
    top = min(_TOP, classes)
    of_label = np.empty(count, np.float32)
    of_predicted = np.empty(count, np.float32)
    values = np.empty((count, classes if kept == "full" else top), np.float16)
    indices = np.empty((0 if kept == "full" else count, top), np.int32)
    step = max(_CHUNK // classes, 1)  # bounds the memory of a million images
    largest = float(np.finfo(np.float16).max)
    for start in range(0, count, step):
        part = slice(start, start + step)
        scores = logits[part]
        normalizer = _log_sum_exp(scores)
        of_label[part] = _at(scores, labels[part]) - normalizer
        of_predicted[part] = _at(scores, predicted[part]) - normalizer
        if kept == "top":
            indices[part] = _largest(scores, predicted[part], top)
            scores = np.take_along_axis(scores, indices[part], axis=1)
        values[part] = scores.clip(-largest, largest)
    columns: dict[str, Array] = {
        "image": images.astype(np.int64),
        "label": labels.astype(np.int32),
        "predicted": predicted.astype(np.int32),
        "label_log_probability": of_label,
        "predicted_log_probability": of_predicted,
    }
    columns |= {"logits": values} if kept == "full" else {"top_logits": values}
    columns |= {} if kept == "full" else {"top_classes": indices}
    head = {
        "run_id": run_id,
        "split": split,
        "data_fingerprint": data_fingerprint,
        "classes": classes,
        "sha256": {name: _digest(column) for name, column in columns.items()},
    }
    return _content(columns, json.dumps(head).encode())


def _content(columns: Mapping[str, Array], head: bytes) -> bytes:
    table = pa.table({name: _arrow(column) for name, column in columns.items()})
    sum_of_head = hashlib.sha256(head).hexdigest().encode()
    table = table.replace_schema_metadata({_HEAD: head, _SUM: sum_of_head})
    sink = pa.BufferOutputStream()
    pq.write_table(
        table,
        sink,
        row_group_size=_ROW_GROUP,
        compression="zstd",
        use_dictionary=_DICTIONARIES,
        column_encoding=_ENCODINGS,
        write_statistics=False,
    )
    return bytes(sink.getvalue().to_pybytes())


def parse(path: Location, content: bytes, names: Iterable[str] | None = None) -> Predictions:
    """Return the content of a file of predictions, all columns or the named ones.

    Args:
        path: The file, named after its run in a folder named after its split.
        content: All of the file.
        names: Columns to read and to compare with their checksums; None for all.

    Raises:
        UserError: It is damaged, holds other predictions, or lacks a column; the message names it.
    """
    try:
        file = pq.ParquetFile(pa.BufferReader(content))
        metadata = file.schema_arrow.metadata or {}
        if _HEAD not in metadata:
            raise UserError(f"{path} does not hold predictions of this program")
        head = metadata[_HEAD]
        if hashlib.sha256(head).hexdigest().encode() != metadata.get(_SUM):
            raise ValueError("the SHA-256 of its metadata differs")
        stated = json_text.parse_object(head)
        sums: Mapping[str, str] = stated["sha256"]
        if (stated["run_id"], stated["split"]) != (path.stem, path.parent.name):
            raise UserError(f"{path} holds the predictions of another run or split; move it away")
        wanted = list(sums if names is None else names)
        if missing := [name for name in wanted if name not in sums]:
            raise UserError(f"{path} has no column {missing[0]}; it has {', '.join(sums)}")
        table = file.read(wanted, use_threads=False)
        columns = {name: _numpy(table.column(name)) for name in wanted}
        for name, column in columns.items():
            if _digest(column) != sums[name]:
                raise ValueError(f"the SHA-256 of column {name} differs")
    except UserError:
        raise
    except (OSError, ValueError, KeyError, TypeError, pa.ArrowException) as error:
        raise UserError(f"{path} is damaged: {first_line(error)}") from error
    fingerprint, classes = stated["data_fingerprint"], stated["classes"]
    return Predictions(path.stem, stated["split"], fingerprint, classes, columns, sums)


def _log_sum_exp(scores: Array) -> NDArray[np.float64]:
    peak = scores.max(axis=1, keepdims=True)
    sums = np.exp((scores - peak).astype(np.float64)).sum(axis=1)
    return np.asarray(peak[:, 0] + np.log(sums))


def _at(scores: Array, labels: Array) -> NDArray[np.float64]:
    return scores[np.arange(len(scores)), labels].astype(np.float64)


def _largest(scores: Array, predicted: Array, top: int) -> Array:
    """Return the classes of the largest scores in descending order, the predicted one first."""
    raised = scores.copy()
    raised[np.arange(len(scores)), predicted] = np.inf  # first among equals
    found = np.argpartition(-raised, top - 1, axis=1)[:, :top]
    order = np.argsort(-np.take_along_axis(raised, found, axis=1), axis=1, kind="stable")
    return np.take_along_axis(found, order, axis=1)


def _digest(column: Array) -> str:
    little = column.astype(column.dtype.newbyteorder("<"), copy=False)
    return hashlib.sha256(np.ascontiguousarray(little).data).hexdigest()


def _arrow(column: Array) -> pa.Array:
    flat = pa.array(column.reshape(-1))
    if column.ndim == 1:
        return flat
    return pa.FixedSizeListArray.from_arrays(flat, column.shape[1])


def _numpy(column: pa.ChunkedArray) -> Array:
    whole = column.combine_chunks()
    if isinstance(whole, pa.ChunkedArray):  # of no rows
        whole = pa.concat_arrays(whole.chunks or [pa.array([], whole.type)])
    if not pa.types.is_fixed_size_list(whole.type):
        return np.asarray(whole.to_numpy(zero_copy_only=False))
    width = whole.type.list_size
    return np.asarray(whole.flatten().to_numpy(zero_copy_only=False)).reshape(-1, width)
