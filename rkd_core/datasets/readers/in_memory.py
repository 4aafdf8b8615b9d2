"""Reader of data in memory: arrays, tensors, map-style datasets and datasets of Hugging Face."""

from __future__ import annotations

import io
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from rkd_core.datasets.readers import arrays, hugging_face
from rkd_core.datasets.readers.arrays import FloatArrays
from rkd_core.datasets.readers.base import (
    SPLIT_ADJECTIVES,
    Encoded,
    Images,
    ImagesInMemory,
    Provenance,
    Source,
    Split,
    check_class_names,
    spread,
)
from rkd_core.datasets.readers.parquet_columns import ANY, Columns
from rkd_core.datasets.readers.split_names import OWN, spelling
from rkd_core.errors import UserError
from rkd_core.text.nouns import counted

__all__ = ["read"]

_FORMS = (
    "(train_images, train_labels, test_images, test_labels), the same with validation in the "
    'middle, or {"train": ..., "val": ..., "test": ...} with (images, labels) or a map-style '
    "dataset for each split"
)
_TWICE = 16  # items of a map-style dataset that are read twice
_LEVELS = 255
_NO_IMAGES = "give `as_arrays`"


@dataclass(frozen=True)
class _Labeled:
    """Images of a split, their labels as given, and class names if the data declare them."""

    images: Images
    labels: NDArray[Any]
    class_names: tuple[str, ...] = ()


def read(
    data: Any,
    name: str,
    class_names: Sequence[str] | None = None,
    columns: Columns = ANY,
    as_arrays: bool = False,
) -> Source:
    """Read data in memory as a source of images, or of float arrays.

    Args:
        data: One of these forms:

            - ``(train_images, train_labels, test_images, test_labels)``, or six of these with
              validation between training and test, or only the first two;
            - a mapping from ``train``, ``val`` and ``test`` to ``(images, labels)``, a map-style
              dataset of ``(image, label)``, or a dataset of Hugging Face;
            - one map-style dataset or dataset of Hugging Face, for training.

            Rows of one dimension (vectors), or of four and more, are float arrays of any shape.
            Arrays and tensors of images are ``(n, height, width, channels)`` or
            ``(n, height, width)``, uint8 or floats in [0, 1], which are rounded to 8 bits. Items of
            a map-style dataset are PIL images, arrays ``(height, width[, channels])`` or tensors
            ``([channels, ]height, width)``. Labels are integers from 0 without gaps, or text.
        name: Name of the data, for messages.
        class_names: Class names in label order; None for those that the data declare, else the
            sorted labels.
        columns: Columns of a dataset of Hugging Face, if there are several candidates.
        as_arrays: Whether rows of two or three dimensions are float arrays, too, not images.

    Raises:
        UserError: The data have another form, shape, type or range of values; the message says
            which and what would be right.
    """
    parts = _splits(data, name)
    if "train" not in parts:
        raise UserError(f"{name} has no training split; data are {_FORMS}")
    given: dict[str, _Labeled] = {}
    for split, part in parts.items():
        where = f"{name} {SPLIT_ADJECTIVES[split]} images"
        given[split] = _labeled(part, where, columns, as_arrays)
    arrays.check_shapes({split: part.images for split, part in given.items()}, name)
    names = _class_names(given["train"], class_names, name)
    check_class_names(names, name)
    read_splits = {
        split: Split(part.images, _numbers(part.labels, names, f"{name} {SPLIT_ADJECTIVES[split]}"))
        for split, part in given.items()
    }
    train, val, test = (read_splits.get(split) for split in ("train", "val", "test"))
    assert train is not None
    if test is None:
        test, val = val, None
        provenance = Provenance("train", None if test is None else "val", None)
    else:
        provenance = Provenance("train", "test", None if val is None else "val")
    return Source(names, train, test, val, provenance)


def _splits(data: Any, name: str) -> dict[str, Any]:
    """Return the parts of the data by split: ``train``, ``val`` and ``test``."""
    if isinstance(data, Mapping):
        return _named_splits(data, name)
    if isinstance(data, tuple | list):
        parts = list(data)
        if len(parts) in (2, 4, 6) and all(_is_array(part) for part in parts[::2]):
            pairs = [(parts[k], parts[k + 1]) for k in range(0, len(parts), 2)]
        elif len(parts) in (2, 3) and all(_is_dataset(part) for part in parts):
            pairs = parts
        else:
            kinds = ", ".join(type(part).__name__ for part in parts[:6])
            raise UserError(f"{name} has {len(parts)} parts ({kinds}); data are {_FORMS}")
        order = ("train", "test") if len(pairs) < 3 else ("train", "val", "test")
        return dict(zip(order, pairs, strict=False))
    return {"train": data}


def _named_splits(data: Mapping[Any, Any], name: str) -> dict[str, Any]:
    known = {"train": "train", **dict.fromkeys(OWN.names, "val"), "test": "test"}
    found: dict[str, Any] = {}
    for key, part in data.items():
        split = next((known[own] for own in known if spelling(own, [str(key)])), None)
        if split is None or split in found:
            problem = "is not a split" if split is None else f"is a second {split} split"
            raise UserError(f"{name}: {key!r} {problem}; the splits are train, val and test")
        found[split] = part
    return found


def _is_array(value: Any) -> bool:
    return hasattr(value, "shape") and hasattr(value, "dtype")


def _is_dataset(value: Any) -> bool:
    return hasattr(value, "__getitem__") and hasattr(value, "__len__") and not _is_array(value)


def _labeled(part: Any, where: str, columns: Columns, as_arrays: bool) -> _Labeled:
    """Return the images or arrays, and the labels, of one split."""
    if isinstance(part, tuple | list) and len(part) == 2 and _is_array(part[0]):
        rows, labels = _array(part[0], where), _array(part[1], where)
        images = _images(rows, where, as_arrays)
        _check_lengths(images, labels, where)
        return _Labeled(images, labels)
    if hugging_face.is_dataset(part):
        table = hugging_face.read(part, where, columns)
        return _Labeled(table.images, table.labels, table.class_names)
    if not _is_dataset(part):
        raise UserError(
            f"{where}: data of type {type(part).__name__} cannot be read twice or by row; give "
            "arrays or a map-style dataset, which has __len__ and __getitem__"
        )
    return _items(part, where, as_arrays)


def _images(rows: NDArray[Any], where: str, as_arrays: bool) -> Images:
    """Return rows as float arrays if they cannot be images or are declared not to be."""
    if as_arrays or (rows.ndim > 1 and arrays.is_surely_array(rows.ndim)):
        where = where.replace("images", "arrays")
        return FloatArrays(arrays.values_of(rows, where), where)
    return ImagesInMemory(_pixels(rows, where), where)


def _check_lengths(images: Images, labels: NDArray[Any], where: str) -> None:
    if labels.shape != (len(images),):
        noun = "image"
        if isinstance(images, FloatArrays):
            noun, where = "row", where.replace("images", "arrays")
        hint = ", one-hot labels as their argmax" if labels.ndim == 2 else ""
        raise UserError(
            f"{where}: {counted(len(images), noun)} and labels of shape {labels.shape}; give one "
            f"label for each {noun}{hint}"
        )


def _array(values: Any, where: str) -> NDArray[Any]:
    """Return an array of a tensor, an array or a sequence."""
    if hasattr(values, "detach"):  # a tensor, perhaps on a GPU
        values = values.detach().cpu().numpy()
    try:
        return np.asarray(values)
    except ValueError as error:
        raise UserError(f"{where}: rows differ in shape ({error})") from error


def _pixels(images: NDArray[Any], where: str) -> NDArray[np.uint8]:
    """Return images as uint8 ``(n, height, width, channels)``."""
    array = images
    if array.ndim == 3:
        array = array[..., None]
    if array.ndim != 4 or array.shape[3] not in (1, 3):
        first = array.ndim == 4 and array.shape[1] in (1, 3)
        hint = "; move the channels to the end: numpy.moveaxis(images, 1, -1)" if first else ""
        raise UserError(
            f"{where} have shape {array.shape}; images are (n, height, width, channels) with 1 or "
            f"3 channels, or (n, height, width){hint}; for data that are not images, {_NO_IMAGES}"
        )
    return np.ascontiguousarray(_bytes(array, where))


def _bytes(array: NDArray[Any], where: str) -> NDArray[np.uint8]:
    """Return values as uint8: integers from 0 to 255 as they are, floats times 255, rounded."""
    if array.dtype == np.uint8 or not array.size:
        return array.astype(np.uint8)
    if array.dtype.kind not in "iuf":
        raise UserError(f"{where} hold {array.dtype}; pixels are uint8 or floats in [0, 1]")
    if array.dtype.kind == "f" and not np.isfinite(array).all():
        row = int(np.flatnonzero(~np.isfinite(array.reshape(len(array), -1)).all(axis=1))[0])
        raise UserError(f"{where}: row {row} has values that are not finite")
    low, high = array.min(), array.max()
    largest = 1 if array.dtype.kind == "f" else _LEVELS
    if low < 0 or high > largest:
        raise UserError(
            f"{where} have values from {low:g} to {high:g}; pixels are uint8 from 0 to 255 or "
            f"floats in [0, 1], not normalized: recipes normalize; for data that are not images, "
            f"{_NO_IMAGES}"
        )
    if array.dtype.kind == "f":
        array = np.rint(array * _LEVELS)
    return array.astype(np.uint8)


def _items(dataset: Any, where: str, as_arrays: bool) -> _Labeled:
    """Read every item of a map-style dataset once, and some twice.

    Raises:
        UserError: An item is not an image and a label, or differs when it is read again.
    """
    images: list[Any] = []
    labels: list[Any] = []
    for row in range(len(dataset)):
        image, label = _item(dataset, row, where, as_arrays)
        images.append(image)
        labels.append(label)
    for row in spread(len(images), _TWICE).tolist() if images else ():
        again, label = _item(dataset, row, where, as_arrays)
        if not _same(again, images[row]) or label != labels[row]:
            raise UserError(
                f"{where}: row {row} differs when it is read again; remove random transforms: "
                "recipes augment"
            )
    names = getattr(dataset, "classes", ())  # as in torchvision
    listed = isinstance(names, list | tuple) and all(isinstance(name, str) for name in names)
    declared = tuple(names) if listed else ()
    if images and _is_value(images[0], as_arrays):
        shapes = {np.shape(image) for image in images}
        if len(shapes) > 1:
            raise UserError(f"{where}: rows have shapes {' and '.join(map(str, sorted(shapes)))}")
        return _Labeled(_images(np.stack(images), where, True), np.asarray(labels), declared)
    return _Labeled(ImagesInMemory(images, where), np.asarray(labels), declared)


def _is_value(item: Any, as_arrays: bool) -> bool:
    """Return whether an item is a float array rather than an image."""
    return _is_array(item) and (as_arrays or arrays.is_surely_array(item.ndim + 1))


def _same(one: Any, other: Any) -> bool:
    if isinstance(one, bytes) or isinstance(other, bytes):
        return isinstance(one, bytes) and isinstance(other, bytes) and one == other
    return np.array_equal(one, other)


def _item(dataset: Any, row: int, where: str, as_arrays: bool) -> tuple[Any, Any]:
    """Return an image or a float array, and its label."""
    try:
        item = dataset[row]
    except Exception as error:
        kind = type(error).__name__
        raise UserError(f"{where}: row {row} cannot be read: {kind}: {error}") from error
    if not isinstance(item, tuple | list) or len(item) != 2:
        raise UserError(f"{where}: row {row} is a {type(item).__name__}; items are (image, label)")
    image, label = item
    if hasattr(label, "item") and getattr(label, "ndim", 0) == 0:
        label = label.item()
    if not isinstance(label, int | str):
        raise UserError(
            f"{where}: the label of row {row} is a {type(label).__name__}; labels are integers or "
            "text"
        )
    if _is_value(image, as_arrays):
        return _array(image, where), label
    return _image(image, f"{where}: row {row}"), label


def _image(image: Any, where: str) -> Encoded:
    """Return one image as pixels, or as an encoded file where decoding has to choose a scale."""
    if hasattr(image, "save") and hasattr(image, "mode"):  # a PIL image
        if image.mode in ("L", "RGB"):
            array = np.asarray(image)
            return array[..., None] if array.ndim == 2 else array
        file = io.BytesIO()
        image.save(file, "PNG" if image.mode != "CMYK" else "TIFF")
        return file.getvalue()
    if not _is_array(image):
        raise UserError(
            f"{where} is a {type(image).__name__}; images are PIL images, arrays (height, width, "
            "channels) or tensors (channels, height, width)"
        )
    array = _array(image, where)
    if hasattr(image, "detach") and array.ndim == 3:
        array = np.moveaxis(array, 0, -1)
    return _pixels(array[None], where)[0]


def _class_names(train: _Labeled, class_names: Sequence[str] | None, name: str) -> tuple[str, ...]:
    """Return the class names in label order."""
    labels = train.labels
    if not len(labels):
        raise UserError(f"{name}: the training split is empty")
    if class_names is not None:
        names = tuple(str(one) for one in class_names)
        if len({*names}) < len(names):
            raise UserError(f"{name}: class names repeat")
        return names
    if train.class_names:
        return train.class_names
    if labels.dtype.kind in "US":
        return tuple(sorted({str(label) for label in labels}))
    return tuple(str(label) for label in range(int(labels.max()) + 1)) if _whole(labels) else ()


def _whole(labels: NDArray[Any]) -> bool:
    return labels.dtype.kind in "iub"


def _numbers(labels: NDArray[Any], names: tuple[str, ...], where: str) -> NDArray[np.int64]:
    """Return labels as class numbers."""
    if labels.dtype.kind == "U":
        number = {name: label for label, name in enumerate(names)}
        unknown = sorted({str(label) for label in labels} - {*number})
        if unknown:
            raise UserError(f"{where} labels: {unknown[0]!r} is not one of the training classes")
        return np.array([number[str(label)] for label in labels], dtype=np.int64)
    if not _whole(labels) and len(labels):
        raise UserError(f"{where} labels are {labels.dtype}; labels are integers or text")
    return labels.astype(np.int64)
