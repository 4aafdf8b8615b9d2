"""Preparation of the image sets of a source: decoded once if they are small enough, else streamed.

The cache stores a source in one of four forms, which the ``meta.json`` of the entry names:

- ``arrays``: the decoded pixels, which are memory-mapped;
- ``packed``: the encoded images of a Parquet source that is too large to decode;
- ``files``: only the labels, for image files that are streamed from the source folder;
- ``shards``: the labels and the places of the images in tar files that are streamed.
"""

from __future__ import annotations

import dataclasses
import hashlib
import json
import logging
from collections.abc import Mapping
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any, cast

import numpy as np
from numpy.typing import NDArray

from rkd_core.datasets import cache
from rkd_core.datasets.array_set import ArraySet
from rkd_core.datasets.image_set import AnySet, ImageSet
from rkd_core.datasets.preparation import fingerprint
from rkd_core.datasets.preparation.decode_image import BadImageError, is_gray, open_image
from rkd_core.datasets.preparation.decode_source import ArraySink, FileSink, decode_source
from rkd_core.datasets.preparation.leakage import shared_images
from rkd_core.datasets.preparation.packed import PackedImages, pack
from rkd_core.datasets.preparation.pixel_scales import AS_THEY_ARE, Decoding
from rkd_core.datasets.preparation.shard_index import load_index, save_indices
from rkd_core.datasets.preparation.survey import survey
from rkd_core.datasets.readers import arrays
from rkd_core.datasets.readers.arrays import FloatArrays
from rkd_core.datasets.readers.base import (
    ImagesInMemory,
    Location,
    Provenance,
    Source,
    check_labels,
)
from rkd_core.datasets.readers.image_folder import FileImages
from rkd_core.datasets.readers.tar_shards import TarImages
from rkd_core.datasets.streamed_set import DEFAULT_SIDE, StreamedImageSet
from rkd_core.errors import UserError
from rkd_core.text import json_text

__all__ = ["Options", "Prepared", "prepare", "prepare_in_memory"]

logger = logging.getLogger(__name__)

FORMAT = 2
"""Format of cache entries, raised when older entries must not be read. Version 2 turns images
upright, shows transparency over white, and determines the scale of deep gray values per
dataset."""

SAMPLE = 256
"""Number of images whose headers are read to decide whether a source is too large to decode."""


@dataclass(frozen=True)
class Options:
    """Options for the preparation of a source.

    Attributes:
        side: Side in pixels to which images are resized and cropped; None keeps their size.
        skip: Whether to leave out images that cannot be decoded.
        limit: Maximum bytes of decoded pixels; a larger source is streamed.
    """

    side: int | None
    skip: bool
    limit: int


@dataclass(frozen=True)
class Prepared:
    """The splits of a source, and information about them.

    Attributes:
        class_names: Class names in label order.
        splits: ``train``, and ``val`` and ``test`` as far as the source has them.
        fingerprint: SHA-256 of the content.
        skipped: Rows of the source that were left out as undecodable, by split.
        decoding: Rules of decoding, and counts of images that they apply to.
        provenance: Origin of the splits.
    """

    class_names: tuple[str, ...]
    splits: dict[str, AnySet]
    fingerprint: str
    skipped: dict[str, list[int]]
    decoding: Decoding
    provenance: Provenance


def prepare(location: Location, options: Options, cache_folder: Path) -> Prepared:
    """Prepare a source through the cache, or in memory if the cache cannot be written.

    Raises:
        UserError: The source is invalid, or can only be streamed through the cache.
    """
    if location.holds_arrays:
        return prepare_in_memory(location.read(), options, str(location.root))
    key = cache.key_of(location, FORMAT, options.side, options.skip, options.limit)
    try:
        return cache.open_or_build(
            cache_folder,
            key,
            location,
            partial(_open, location),
            partial(_build, location, options),
        )
    except OSError as error:
        logger.warning("the cache folder %s cannot be used: %s", cache_folder, error)
        return prepare_in_memory(location.read(), options, str(location.root))


def prepare_in_memory(source: Source, options: Options, where: str) -> Prepared:
    """Prepare a source without the cache.

    Raises:
        UserError: The source is invalid, or is Parquet that is too large to decode.
    """
    if isinstance(source.train.images, FloatArrays):
        return _prepare_arrays(source, options, where)
    names = source.class_names
    form, channels = _form(source, options, where)
    if form == "packed":
        raise UserError(
            f"{where} is too large to decode into memory, and streaming it from Parquet "
            "needs a writable cache folder"
        )
    if form in ("files", "shards"):
        value, decoding, skipped = _surveyed(source, options.skip, channels)
        channels = 3 if decoding.late_color else channels
        splits = _streamed_files(source, skipped, _streamed_shape(options, channels), decoding)
        return Prepared(names, splits, value, skipped, decoding, source.provenance)
    decoded = decode_source(source, options.side, options.skip, ArraySink)
    check_labels(decoded.labels, names, where)
    sets: dict[str, AnySet] = {
        name: ImageSet(images, decoded.labels[name]) for name, images in decoded.images.items()
    }
    provenance = _with_shared(source.provenance, decoded.images)
    return Prepared(names, sets, decoded.fingerprint, decoded.skipped, decoded.decoding, provenance)


def _prepare_arrays(source: Source, options: Options, where: str) -> Prepared:
    """Prepare a source of float arrays, which are kept as they are."""
    labels = {name: split.labels for name, split in source.splits.items()}
    check_labels(labels, source.class_names, where)
    if options.side is not None:
        raise UserError(f"`image_size` is for images, and {where} holds float arrays: leave it out")
    values = {
        name: split.images.values
        for name, split in source.splits.items()
        if isinstance(split.images, FloatArrays)
    }
    sets: dict[str, AnySet] = {name: ArraySet(values[name], labels[name]) for name in values}
    provenance = _with_shared(source.provenance, values)
    skipped: dict[str, list[int]] = {name: [] for name in sets}
    value = arrays.fingerprint(source)
    return Prepared(source.class_names, sets, value, skipped, AS_THEY_ARE, provenance)


def _build(location: Location, options: Options, folder: Path) -> tuple[str, cache.Notes]:
    """Fill the folder of a new entry; return the name of the entry and the origin of the splits."""
    source = location.read()
    where = str(location.root)
    form, channels = _form(source, options, where)
    provenance, place = source.provenance, list[str]()
    if form == "arrays":
        decoded = decode_source(source, options.side, options.skip, partial(FileSink, folder))
        value, skipped, decoding = decoded.fingerprint, decoded.skipped, decoded.decoding
        provenance = _with_shared(provenance, decoded.images)
    elif form == "packed":
        decoding, skipped = survey(source, options.skip, channels)
        content = fingerprint.Fingerprint(source.class_names)
        for name, split in source.splits.items():
            pack(content.reading(split), folder / f"{name}.bin", skipped[name])
        value = content.value(skipped, decoding.changes())
    else:
        value, decoding, skipped = _surveyed(source, options.skip, channels)
        place = save_indices(source, location.root, folder)
    channels = 3 if decoding.late_color and form != "arrays" else channels
    labels = {name: np.delete(s.labels, skipped[name]) for name, s in source.splits.items()}
    check_labels(labels, source.class_names, where)
    for name, array in labels.items():
        np.save(folder / f"{name}_labels.npy", array)
    meta = {
        "format": FORMAT,
        "form": form,
        "class_names": source.class_names,
        "fingerprint": value,
        "skipped": skipped,
        "decoding": decoding.as_json(),
        "shape": _streamed_shape(options, channels),
        "labels": {name: _checksum(array) for name, array in labels.items()},
    }
    (folder / "meta.json").write_text(json.dumps(meta), encoding="utf-8")
    way = json.dumps([FORMAT, form, options.side, channels, *place])
    digest = hashlib.sha256(way.encode()).hexdigest()
    return f"{value[:32]}-{digest[:8]}", dataclasses.asdict(provenance)


def _surveyed(
    source: Source, skip: bool, channels: int
) -> tuple[str, Decoding, dict[str, list[int]]]:
    """Inspect image files or shards that are streamed from where they are.

    Returns:
        Fingerprint, decoding, and the rows of each split that are left out.
    """
    if not isinstance(source.train.images, TarImages):
        decoding, skipped = survey(source, skip, channels)
        return fingerprint.of_listing(source, skipped, decoding.changes()), decoding, skipped
    content = fingerprint.Fingerprint(source.class_names)
    decoding, skipped = survey(source, skip, channels, content.reading)
    # The order of the training depends on the shards.
    shards = {"shards": np.bincount(source.train.images.members[:, 0]).tolist()}
    return content.value(skipped, decoding.changes() | shards), decoding, skipped


def _open(location: Location, folder: Path, notes: cache.Notes) -> Prepared:
    """Open an entry; raise ``DamagedError``, ``OSError`` or ``ValueError`` if it is damaged."""
    meta: dict[str, Any] = json_text.parse((folder / "meta.json").read_text(encoding="utf-8"))
    if meta["format"] != FORMAT:
        raise cache.DamagedError(folder)
    names, value, skipped = tuple(meta["class_names"]), meta["fingerprint"], meta["skipped"]
    height, width, channels = meta["shape"]
    decoding = Decoding.parse(meta["decoding"])
    provenance = Provenance.from_json(notes)
    if meta["form"] == "files":
        shape = height, width, channels
        splits = _streamed_files(location.read(), skipped, shape, decoding)
        return Prepared(names, splits, value, skipped, decoding, provenance)
    sets: dict[str, AnySet] = {}
    for name, checksum in meta["labels"].items():
        labels = np.load(folder / f"{name}_labels.npy")
        if _checksum(labels) != checksum:
            raise cache.DamagedError(folder)
        if meta["form"] == "arrays":
            sets[name] = ImageSet(_mapped(folder / f"{name}.npy", len(labels)), labels)
            continue
        images: PackedImages | TarImages
        if meta["form"] == "shards":
            images = load_index(location.root, folder, name)
            rows = np.delete(np.arange(len(images)), skipped[name])
        else:
            images = PackedImages(folder / f"{name}.bin", np.load(folder / f"{name}.offsets.npy"))
            rows = np.arange(len(images))
            if images.path.stat().st_size != images.offsets[-1]:
                raise cache.DamagedError(folder)
        if len(rows) != len(labels):
            raise cache.DamagedError(folder)
        shape = height, width, channels
        sets[name] = StreamedImageSet(images, rows, labels, shape, decoding.scales)
    return Prepared(names, sets, value, skipped, decoding, provenance)


def _with_shared(provenance: Provenance, images: Mapping[str, NDArray[Any]]) -> Provenance:
    """Return a provenance with warnings about images that occur in two splits."""
    warnings = (*provenance.warnings, *shared_images(images))
    return dataclasses.replace(provenance, warnings=warnings)


def _mapped(path: Path, count: int) -> NDArray[np.uint8]:
    array: np.memmap[Any, np.dtype[np.uint8]] = np.load(path, mmap_mode="r")
    if len(array) != count or path.stat().st_size != array.offset + array.nbytes:
        raise cache.DamagedError(path)
    # A plain array: NumPy pickles a memmap by value, but passes the buffer of an array to Ray's
    # object store without a copy, and all workers share it there.
    return array.view(np.ndarray)


def _checksum(labels: NDArray[np.int64]) -> str:
    return hashlib.sha256(labels.astype("<i8").tobytes()).hexdigest()


def _form(source: Source, options: Options, where: str) -> tuple[str, int]:
    """Return the form of the entry and the number of channels for streaming, from a sample.

    Raises:
        UserError: The labels are invalid, or the source is too large and cannot be streamed.
    """
    splits = source.splits
    check_labels({name: s.labels for name, s in splits.items()}, source.class_names, where)
    if source.provenance.test is not None:
        logger.info("%s: the original test set is its split %s", where, source.provenance.test)
    areas: list[int] = []
    gray = True
    for encoded in source.train.images.sample(SAMPLE):
        try:
            image = open_image(encoded)
        except BadImageError:
            continue
        gray &= is_gray(image)
        areas.append(image.width * image.height)
    channels = 1 if gray else 3
    area = options.side**2 if options.side else np.mean(areas or [0])
    count = sum(len(split.labels) for split in splits.values())
    if count * area * channels <= options.limit:
        return "arrays", 0
    if isinstance(source.train.images, ImagesInMemory):
        size = f"`image_size` {options.side}" if options.side else "its original size"
        raise UserError(
            f"{where} at {size} takes {count * area * channels / 2**30:.1f} GiB, more than the "
            f"{options.limit / 2**30:.1f} GiB that may be decoded, and cannot be streamed"
        )
    forms = {FileImages: "files", TarImages: "shards"}
    return forms.get(type(source.train.images), "packed"), channels


def _streamed_shape(options: Options, channels: int) -> tuple[int, int, int]:
    side = options.side or DEFAULT_SIDE
    return side, side, channels


def _streamed_files(
    source: Source, skipped: dict[str, list[int]], shape: tuple[int, int, int], decoding: Decoding
) -> dict[str, AnySet]:
    sets: dict[str, AnySet] = {}
    for name, split in source.splits.items():
        rows = np.delete(np.arange(len(split.labels)), skipped[name])
        images = cast(FileImages | TarImages, split.images)
        sets[name] = StreamedImageSet(images, rows, split.labels[rows], shape, decoding.scales)
    return sets
