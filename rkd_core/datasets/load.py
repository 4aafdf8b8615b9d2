"""Loading of a dataset by name or folder into training, validation and test sets."""

from __future__ import annotations

import logging
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from rkd_core.datasets import cache
from rkd_core.datasets.array_set import ArraySet
from rkd_core.datasets.image_set import AnySet, Dataset
from rkd_core.datasets.preparation.prepare import Options, Prepared, prepare, prepare_in_memory
from rkd_core.datasets.readers import arrays, digits, hugging_face, in_memory, locate
from rkd_core.datasets.readers.base import (
    SPLIT_ADJECTIVES,
    Inventory,
    Location,
    Provenance,
    Source,
    similar_names,
)
from rkd_core.datasets.readers.image_lists import ImageLists
from rkd_core.datasets.readers.image_lists import display_name as name_of_lists
from rkd_core.datasets.readers.parquet_columns import ANY, Columns
from rkd_core.datasets.readers.paths import Listing, escaped, is_plain, unreadable
from rkd_core.datasets.registry import LONG_TAIL, REGISTRY, default_imbalance, display_name
from rkd_core.datasets.splits import draw_classes, halve, set_aside, training_rows
from rkd_core.errors import UserError
from rkd_core.plugins import call, is_reference, load_object
from rkd_core.plugins import datasets as registered
from rkd_core.specs import DataOptions
from rkd_core.storage.files import expanded
from rkd_core.text.nouns import counted

__all__ = ["from_data", "load"]

logger = logging.getLogger(__name__)

LARGEST_SIDE = 4096
MOST_FILES = 20_000
"""Maximum number of source files that an inventory lists."""

PARTS = ("train", "val", "test")

Rows = NDArray[np.int64]


def load(
    name_or_path: str,
    options: DataOptions,
    *,
    data_dir: Path | None = None,
    train_list: Path | None = None,
    test_list: Path | None = None,
    val_list: Path | None = None,
    columns: Columns = ANY,
    as_arrays: bool = False,
    cache_dir: Path | None = None,
    download: bool = True,
    skip_bad_images: bool = False,
    decode_limit: int = 32 * 2**30,
) -> Dataset:
    """Load a dataset and split it into training, validation and test sets.

    A user's dataset that comes with training, validation and test sets keeps them. With training
    and one other set, validation and test are halves of that one. With a training set alone, shares
    of each class are set aside for them.

    Args:
        name_or_path: A name of ``names()``; a folder of Hugging Face style image Parquet, of tar
            shards, in torchvision's ImageFolder layout or of ``Dataset.save_to_disk``; ``hf:NAME``
            for a dataset of the Hub; an archive ``.npz``; or ``FILE.py:NAME`` or
            ``package.module:NAME`` for data in memory (see ``from_data``), or their function.
        options: Classes, long tail, limit, image size and split. Without an imbalance, a ``-lt``
            name uses its default.
        data_dir: Folder searched first for a named dataset, before ``$RKD_DATA_DIR`` and the
            cache.
        train_list: Text file with ``path label`` on each line, paths relative to the dataset's
            folder: the training images in their order. The dataset is named after it. Requires
            ``test_list``.
        test_list: The same for the original test set.
        val_list: The same for a validation set; without it, the original test set is halved.
        columns: Columns of labels and images in Parquet and Hugging Face datasets, if there are
            several candidates.
        as_arrays: Whether rows of two or three dimensions in memory are float arrays, not images.
        cache_dir: Folder for decoded images and downloads; None for ``$RKD_CACHE_DIR`` or
            the user's cache folder.
        download: Whether CIFAR may be downloaded if it is not found.
        skip_bad_images: Leave out (and count) images that cannot be decoded, rather than stop.
        decode_limit: Maximum bytes of decoded pixels. A larger source of encoded images is
            streamed; a larger source of arrays (CIFAR, digits) is refused.

    Raises:
        UserError: The input is invalid; the message says what would be valid.

    >>> load("digits", DataOptions()).class_counts("train").tolist()
    [100, 100, 100, 100, 100, 100, 100, 100, 100, 100]
    """
    _check_size(options)
    if (train_list is None) != (test_list is None):
        raise UserError("`train_list` and `test_list` go together: give both, or neither")
    if val_list is not None and train_list is None:
        raise UserError("`val_list` goes with `train_list` and `test_list`: give all three")
    name = display_name(name_or_path)
    _check_name(name, "the folder name")
    folder = cache_dir or cache.default_folder()
    location = _locate(
        name_or_path,
        None
        if train_list is None or test_list is None
        else ImageLists(train_list, test_list, val_list),
        columns,
        data_dir,
        folder,
        download,
        as_arrays,
    )
    how = Options(options.image_size, skip_bad_images, decode_limit)
    if isinstance(location, Source):
        prepared = prepare_in_memory(location, how, name_or_path)
    else:
        prepared = prepare(location, how, folder)
    if as_arrays and not isinstance(prepared.splits["train"], ArraySet):
        raise UserError(f"`as_arrays` is for data in memory, and {name_or_path} holds images")
    return _assemble(
        prepared,
        options,
        name if train_list is None else name_of_lists(train_list, name),
        imbalance=default_imbalance(name_or_path),
        files=() if isinstance(location, Source) else location.files,
    )


def from_data(
    data: Any,
    options: DataOptions = DataOptions(),  # noqa: B008  (immutable)
    *,
    name: str = "data",
    class_names: Sequence[str] | None = None,
    columns: Columns = ANY,
    as_arrays: bool = False,
    skip_bad_images: bool = False,
    decode_limit: int = 32 * 2**30,
) -> Dataset:
    """Split data in memory into training, validation and test sets.

    Validation and test sets that the data bring are used as they are. With training and one other
    set, that one is halved; with a training set alone, shares of each class are set aside. Pixels
    are kept with 8 bits. The fingerprint is that of the content.

    Args:
        data: Arrays, tensors, map-style datasets or datasets of Hugging Face, in a form that
            ``rkd_core.datasets.readers.in_memory.read`` describes.
        options: Classes, long tail, limit, image size and split.
        name: Name of the data in records and reports.
        class_names: Class names in label order; None for those that the data declare, else the
            labels.
        columns: Columns of a dataset of Hugging Face, if there are several candidates.
        as_arrays: Whether rows of two or three dimensions are float arrays, too, not images.
        skip_bad_images: Leave out (and count) images that cannot be decoded, rather than stop.
        decode_limit: Maximum bytes of decoded pixels.

    Raises:
        UserError: The data are invalid; the message says what would be valid.

    >>> images, labels = np.zeros((8, 4, 4, 3), np.uint8), np.arange(8) % 2
    >>> from_data((images, labels, images, labels)).class_counts("train").tolist()
    [4, 4]
    """
    _check_size(options)
    _check_name(name, "the name")
    source = in_memory.read(data, name, class_names, columns, as_arrays)
    how = Options(options.image_size, skip_bad_images, decode_limit)
    return _assemble(prepare_in_memory(source, how, name), options, name)


def _check_size(options: DataOptions) -> None:
    if options.image_size is not None and options.image_size > LARGEST_SIDE:
        raise UserError(
            f"`image_size` {options.image_size} is too large: at most {LARGEST_SIDE} pixels a side"
        )


def _check_name(name: str, what: str) -> None:
    if not is_plain(name):
        raise UserError(
            f"`name_or_path`: {what} {escaped(name)} has bytes that are not UTF-8, or control "
            "characters: rename it"
        )


def _assemble(
    prepared: Prepared,
    options: DataOptions,
    name: str,
    *,
    imbalance: float | None = None,
    files: Listing = (),
) -> Dataset:
    """Cut prepared splits into the sets that the options ask for.

    Args:
        prepared: Splits of the source.
        options: Classes, long tail, limit and split.
        name: Name of the dataset.
        imbalance: Imbalance ratio if the options give none.
        files: Files of the source.
    """
    chosen = draw_classes(len(prepared.class_names), options.classes, options.class_seed)
    label_of = np.full(len(prepared.class_names), -1)
    label_of[chosen] = np.arange(len(chosen))
    labels = {split: label_of[images.labels] for split, images in prepared.splits.items()}
    parts = _parts(labels, options, name)
    of_train, rows = parts["train"]
    kept = training_rows(
        labels[of_train][rows],
        len(chosen),
        imbalance=imbalance if options.imbalance is None else options.imbalance,
        profile=options.profile,
        limit=options.limit_train,
        seed=options.subset_seed,
    )
    parts["train"] = of_train, rows[kept]

    def cut(part: str) -> AnySet:
        split, rows = parts[part]
        return replace(prepared.splits[split].subset(rows), labels=labels[split][rows])

    def in_source(part: str) -> Rows:
        split, rows = parts[part]
        skipped = prepared.skipped[split]
        return np.delete(np.arange(len(labels[split]) + len(skipped)), skipped)[rows]

    dataset = Dataset(
        name=name,
        class_names=tuple(prepared.class_names[label] for label in chosen),
        train=cut("train"),
        val=cut("val"),
        test=cut("test"),
        fingerprint=prepared.fingerprint,
        skipped_images=sum(map(len, prepared.skipped.values())),
        train_indices=in_source("train"),
        val_indices=in_source("val"),
        test_indices=in_source("test"),
        decoding=prepared.decoding,
        provenance=_explained(prepared.provenance, options),
        inventory=_inventory(prepared, files),
        source_rows={
            split: len(images) + len(prepared.skipped[split])
            for split, images in prepared.splits.items()
        },
    )
    _warn(dataset)
    return dataset


def _explained(provenance: Provenance, options: DataOptions) -> Provenance:
    """Return a provenance that says how a training set alone is split."""
    if provenance.test is not None:
        return provenance
    remark = (
        f"of each class, {options.val_fraction:.0%} are set aside for validation and "
        f"{options.test_fraction:.0%} for test (`val_fraction`, `test_fraction`)"
    )
    return replace(provenance, remarks=(*provenance.remarks, remark))


def _inventory(prepared: Prepared, files: Listing) -> Inventory:
    classes = len(prepared.class_names)
    counts = {
        split: tuple(np.bincount(images.labels, minlength=classes).tolist())
        for split, images in prepared.splits.items()
    }
    return Inventory(prepared.class_names, counts, files if len(files) <= MOST_FILES else ())


def _parts(
    labels: Mapping[str, Rows], options: DataOptions, name: str
) -> dict[str, tuple[str, Rows]]:
    """Return the split of the source, and the rows of it, of each of the three sets.

    Raises:
        UserError: There are too few images, or an option is for a source with other splits.
    """
    train = np.flatnonzero(labels["train"] >= 0)
    fractions = options.val_fraction, options.test_fraction
    if "test" not in labels:
        only = f"{name} has a training set only, which is split by class"
        _refuse_halving("`stratified`", options.stratified, only)
        parts = set_aside(labels["train"], *fractions, options.split_seed)
        return {part: ("train", rows) for part, rows in zip(PARTS, parts, strict=True)}
    for option, share in zip(("`val_fraction`", "`test_fraction`"), fractions, strict=True):
        if share != DataOptions.model_fields[option.strip("`")].default:
            raise UserError(
                f"{option} is for data with a training set only, and {name} has a test set: leave "
                f"{option} out"
            )
    tested = np.flatnonzero(labels["test"] >= 0)
    if "val" not in labels:
        val, test = halve(labels["test"][tested], options.split_seed, options.stratified)
        halves = {"val": ("test", tested[val]), "test": ("test", tested[test])}
        return {"train": ("train", train)} | halves
    own = f"{name} has a validation set of its own"
    _refuse_halving("`stratified`", options.stratified, own)
    _refuse_halving("`split_seed`", options.split_seed != 0, own)
    validated = np.flatnonzero(labels["val"] >= 0)
    for split, rows in (("val", validated), ("test", tested)):
        if len(rows) == 0:
            raise UserError(
                f"{name}: the {SPLIT_ADJECTIVES[split]} split has no image of the chosen classes"
            )
    return {"train": ("train", train), "val": ("val", validated), "test": ("test", tested)}


def _refuse_halving(option: str, given: bool, reason: str) -> None:
    if given:
        raise UserError(f"{option} is for halving a test set, and {reason}: leave {option} out")


def _locate(
    name_or_path: str,
    image_lists: ImageLists | None,
    columns: Columns,
    data_dir: Path | None,
    cache_folder: Path,
    download: bool,
    as_arrays: bool,
) -> Location | Source:
    """Return the location of the data, or data that need no cache."""
    name = name_or_path.removesuffix(LONG_TAIL)
    try:
        if data_dir is not None and not expanded(data_dir).is_dir():
            raise UserError(f"`data_dir` {data_dir} is not a folder")
        if columns != ANY and (image_lists is not None or name == "digits"):
            raise UserError("`columns` are for Parquet, tar shards and Hugging Face datasets")
        if image_lists is not None:
            if default_imbalance(name_or_path) is not None:
                raise UserError(
                    f"{name_or_path} is cut to a long tail of its own: with an image list, "
                    f"give `name_or_path` {name}"
                )
            return locate.listed(name_or_path, image_lists, data_dir, cache_folder)
        if name == "digits":
            return digits.read()
        if name in REGISTRY:
            return locate.named(name, data_dir, cache_folder, download, columns)
        data, class_names = _objects(name_or_path)
        if data is not None:
            return in_memory.read(data, name_or_path, class_names, columns, as_arrays)
        return locate.path(name_or_path, columns)
    except OSError as error:
        raise unreadable(error, name_or_path) from error


def _objects(name_or_path: str) -> tuple[Any, Sequence[str] | None]:
    """Return the objects of a name and their class names if it states them; None for other names.

    It names a plug-in, a dataset of the Hub, a saved one, NumPy files, or an object of Python code.
    """
    if name_or_path in registered.names() or not Path(name_or_path).exists():
        make = registered.get(name_or_path)
        if make is not None:
            return call(make, name_or_path), None
    if name_or_path.startswith(hugging_face.PREFIX):
        return hugging_face.hub(name_or_path), None
    if name_or_path and arrays.is_numpy(expanded(name_or_path)):
        return arrays.read_numpy(expanded(name_or_path))
    if is_reference(name_or_path) and not Path(name_or_path).exists():
        given = load_object(name_or_path)
        return call(given, name_or_path) if callable(given) else given, None
    if name_or_path and hugging_face.is_saved(folder := expanded(name_or_path)):
        return hugging_face.saved(folder), None
    return None, None


def _warn(dataset: Dataset) -> None:
    for line in (*dataset.provenance.warnings, *similar_names(dataset.class_names)):
        logger.warning("%s: %s", dataset.name, line)
    if dataset.skipped_images:
        skipped = counted(dataset.skipped_images, "undecodable image")
        logger.warning("%s: %s skipped", dataset.name, skipped)
    if (constant := dataset.decoding.constant_images()) is not None:
        logger.warning("%s: %s", dataset.name, constant)
    for split in ("val", "test"):
        absent = np.flatnonzero(dataset.class_counts(split) == 0)
        if len(absent):
            logger.warning(
                "%s: %d of %s (the first is %s) %s no %s in %s, so its accuracy there is unknown",
                dataset.name,
                len(absent),
                counted(dataset.classes, "class", "classes"),
                dataset.class_names[absent[0]],
                *("has" if len(absent) == 1 else "have", dataset.noun, split),
            )
