"""The entrance: a name or a folder in, training, validation and test sets out."""

from __future__ import annotations

import logging
from dataclasses import replace
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from rkd_core.datasets import cache, digits, find, lists
from rkd_core.datasets.names import LONG_TAIL, REGISTRY, default_imbalance, display_name
from rkd_core.datasets.paths import unreadable
from rkd_core.datasets.prepare import Options, Prepared, prepare, prepare_in_memory
from rkd_core.datasets.sets import Dataset
from rkd_core.datasets.splits import draw_classes, halve, training_rows
from rkd_core.datasets.wording import counted
from rkd_core.errors import UserError
from rkd_core.files import expanded
from rkd_core.specs import DataOptions

__all__ = ["load"]

logger = logging.getLogger(__name__)

LARGEST_SIDE = 4096


def load(
    name_or_path: str,
    options: DataOptions,
    *,
    data_dir: Path | None = None,
    train_list: Path | None = None,
    test_list: Path | None = None,
    cache_dir: Path | None = None,
    download: bool = True,
    skip_bad_images: bool = False,
    decode_limit: int = 32 * 2**30,
) -> Dataset:
    """Load a dataset and cut it into training, validation and test.

    Args:
        name_or_path: A name of ``names()``, or a folder: of Hugging Face style image Parquet, or
            in torchvision's ImageFolder layout.
        options: Classes, long tail, limit, image size and split. Without an imbalance, a ``-lt``
            name takes its default.
        data_dir: Where to look for a named dataset first, before ``$RKD_DATA_DIR`` and the cache.
        train_list: A text file with ``path label`` on each line, paths from the dataset's folder:
            the training set is that, in its order, and named after it. Goes with ``test_list``.
        test_list: The same of the original test set.
        cache_dir: Where decoded images and downloads are kept; None for ``$RKD_CACHE_DIR`` or
            the user's cache folder.
        download: Whether CIFAR may be fetched if it is nowhere.
        skip_bad_images: Leave out (and count) images that cannot be decoded, rather than stop.
        decode_limit: Most bytes of decoded pixels; a larger source of encoded images is
            streamed, a larger one of arrays (CIFAR, digits) refused.

    Raises:
        UserError: Any bad input; the line says what would be right.

    >>> load("digits", DataOptions()).class_counts("train").tolist()
    [100, 100, 100, 100, 100, 100, 100, 100, 100, 100]
    """
    if options.image_size is not None and options.image_size > LARGEST_SIDE:
        raise UserError(
            f"--image-size {options.image_size} is too large: at most {LARGEST_SIDE} pixels a side"
        )
    if (train_list is None) != (test_list is None):
        raise UserError("--train-list and --test-list go together: give both, or neither")
    prepared = _prepare(
        name_or_path,
        None if train_list is None or test_list is None else (train_list, test_list),
        Options(options.image_size, skip_bad_images, decode_limit),
        data_dir,
        cache_dir or cache.default_folder(),
        download,
    )
    name = display_name(name_or_path)
    chosen = draw_classes(len(prepared.class_names), options.classes, options.class_seed)
    label_of = np.full(len(prepared.class_names), -1)
    label_of[chosen] = np.arange(len(chosen))
    train_labels, test_labels = label_of[prepared.train.labels], label_of[prepared.test.labels]
    of_chosen, tested = np.flatnonzero(train_labels >= 0), np.flatnonzero(test_labels >= 0)
    imbalance = options.imbalance
    kept = training_rows(
        train_labels[of_chosen],
        len(chosen),
        imbalance=default_imbalance(name_or_path) if imbalance is None else imbalance,
        profile=options.profile,
        limit=options.limit_train,
        seed=options.subset_seed,
    )
    kept = of_chosen[kept]
    val, test = halve(test_labels[tested], options.split_seed, options.stratified)
    val, test = tested[val], tested[test]
    dataset = Dataset(
        name=name if train_list is None else lists.display_name(train_list, name),
        class_names=tuple(prepared.class_names[label] for label in chosen),
        train=replace(prepared.train.subset(kept), labels=train_labels[kept]),
        val=replace(prepared.test.subset(val), labels=test_labels[val]),
        test=replace(prepared.test.subset(test), labels=test_labels[test]),
        fingerprint=prepared.fingerprint,
        skipped_images=sum(map(len, prepared.skipped.values())),
        train_indices=_rows_of_source(kept, prepared.skipped["train"], len(train_labels)),
        val_indices=_rows_of_source(val, prepared.skipped["test"], len(prepared.test)),
        test_indices=_rows_of_source(test, prepared.skipped["test"], len(prepared.test)),
        decoding=prepared.decoding,
    )
    _warn(dataset)
    return dataset


def _prepare(
    name_or_path: str,
    image_lists: tuple[Path, Path] | None,
    options: Options,
    data_dir: Path | None,
    cache_folder: Path,
    download: bool,
) -> Prepared:
    name = name_or_path.removesuffix(LONG_TAIL)
    try:
        if data_dir is not None and not expanded(data_dir).is_dir():
            raise UserError(f"--data-dir {data_dir} is not a folder")
        if image_lists is not None:
            if default_imbalance(name_or_path) is not None:
                raise UserError(
                    f"{name_or_path} is cut to a long tail of its own: with an image list, "
                    f"say --dataset {name}"
                )
            location = find.listed(name_or_path, *image_lists, data_dir, cache_folder)
        elif name == "digits":
            return prepare_in_memory(digits.read(), options, name)
        elif name in REGISTRY:
            location = find.named(name, data_dir, cache_folder, download)
        else:
            location = find.path(name_or_path)
    except OSError as error:
        raise unreadable(error, name_or_path) from error
    return prepare(location, options, cache_folder)


def _rows_of_source(rows: NDArray[np.int64], skipped: list[int], kept: int) -> NDArray[np.int64]:
    """Rows in the source, given rows among those of its images that were not skipped."""
    return np.delete(np.arange(kept + len(skipped)), skipped)[rows]


def _warn(dataset: Dataset) -> None:
    if dataset.skipped_images:
        skipped = counted(dataset.skipped_images, "undecodable image")
        logger.warning("%s: %s skipped", dataset.name, skipped)
    if (constant := dataset.decoding.constant_images()) is not None:
        logger.warning("%s: %s", dataset.name, constant)
    for split in ("val", "test"):
        absent = np.flatnonzero(dataset.class_counts(split) == 0)
        if len(absent):
            logger.warning(
                "%s: %d of %s (the first is %s) %s no image in %s, so nothing is known of the "
                "accuracy there",
                dataset.name,
                len(absent),
                counted(dataset.classes, "class", "classes"),
                dataset.class_names[absent[0]],
                "has" if len(absent) == 1 else "have",
                split,
            )
