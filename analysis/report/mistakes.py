"""Mistakes of the selected student beside those of standard distillation, image by image."""

from __future__ import annotations

import base64
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from analysis.runs.combinations import Combinations
from analysis.selection.outcome import Outcome
from analysis.views.format import readable
from rkd_core.errors import UserError
from rkd_core.records import predictions, shifts, thumbnails
from rkd_core.storage import files
from rkd_core.storage.files import Location
from rkd_core.text.numbers import percent

__all__ = ["Mistakes", "mistakes"]

_MOST_CLASSES = 12
"""Maximum number of classes whose confusion matrix is shown in full."""
_PAIRS, _PICTURES = 20, 12
"""Maximum number of pairs of classes, and of pictures of each pair and each gallery."""
_WORST = 3  # classes in the galleries of differences
_MOST_TEXT = 2_000_000  # characters of all pictures

Array = NDArray[Any]


@dataclass(frozen=True)
class Picture:
    """A test image with its predictions as text."""

    image: int
    """Row in the original test split."""
    caption: str
    source: str = ""
    """Data URI; empty without a picture."""


@dataclass(frozen=True)
class Pair:
    """Images of one class that are taken for another."""

    label: str
    predicted: str
    selected: str
    """Number of images and share of the class."""
    standard: str
    pictures: tuple[Picture, ...]


@dataclass(frozen=True)
class Matrix:
    """Confusion matrix: images by true class and predicted class."""

    title: str
    rows: tuple[tuple[str, tuple[tuple[int, str, float], ...]], ...]
    """Name of each class, and count, percent and shade of each cell."""


@dataclass(frozen=True)
class Gallery:
    """Pictures with a common title."""

    title: str
    pictures: tuple[Picture, ...]


@dataclass(frozen=True)
class Mistakes:
    """Confusion matrices, the most confused pairs of classes, and galleries of pictures."""

    names: tuple[str, ...]
    matrices: tuple[Matrix, ...]
    """Empty for many classes."""
    pairs: tuple[Pair, ...]
    galleries: tuple[Gallery, ...]
    illustrated: bool = False
    """Whether there is any picture."""

    def images(self) -> list[int]:
        """Return the rows of the images in the original test split, those of galleries first."""
        return list(dict.fromkeys(picture.image for picture in self._pictures()))

    def _pictures(self) -> Iterator[Picture]:
        for gallery in self.galleries:
            yield from gallery.pictures
        for pair in self.pairs:
            yield from pair.pictures

    def with_pictures(self, results: Location) -> Mistakes:
        """Return the same with the pictures of a results folder, as far as they fit in a report."""
        sources, left = {}, _MOST_TEXT
        stored = thumbnails.read(results)
        uses = Counter(picture.image for picture in self._pictures())
        for image in self.images():
            if image in stored:
                source = _source(stored[image])
                left -= len(source) * uses[image]
                if left < 0:
                    break
                sources[image] = source

        def drawn(pictures: Iterable[Picture]) -> tuple[Picture, ...]:
            return tuple(replace(p, source=sources.get(p.image, "")) for p in pictures)

        return replace(
            self,
            pairs=tuple(replace(p, pictures=drawn(p.pictures)) for p in self.pairs),
            galleries=tuple(replace(g, pictures=drawn(g.pictures)) for g in self.galleries),
            illustrated=bool(sources),
        )


@dataclass(frozen=True, eq=False)
class _Predicted:
    """Test predictions of one run."""

    image: Array
    label: Array
    predicted: Array
    confidence: Array


def mistakes(outcome: Outcome, results: Location) -> Mistakes | None:
    """Return the mistakes on test of the first seed; None without predictions of both students."""
    selection = outcome.selection
    found = [
        _predicted(selection.combinations, index, results)
        for index in (selection.selected, selection.reference)
    ]
    chosen, standard = found
    if chosen is None or standard is None or not np.array_equal(chosen.image, standard.image):
        return None
    names = tuple(readable(name) for name in outcome.setting.class_names)
    counts, others = (_confusion(one, len(names)) for one in (chosen, standard))
    titled = (("Selected", counts), ("Standard distillation", others))
    shown = titled if len(names) <= _MOST_CLASSES else ()
    return Mistakes(
        names,
        tuple(_matrix(title, matrix, names) for title, matrix in shown),
        tuple(_pairs(chosen, counts, others, names)),
        tuple(_galleries(chosen, standard, counts, others, names)),
    )


def _predicted(c: Combinations, index: int, results: Location) -> _Predicted | None:
    """Return the test predictions of the first seed of a combination; None if there are none."""
    run_id, strength = c.run_ids(index)[0], c.shift[index]
    path = predictions.file_of(results, "test", run_id)
    names = ["image", "label", "predicted", "predicted_log_probability"]
    try:
        if np.isnan(strength):
            found = predictions.parse(path, files.read(path), names).columns
            confidence = np.exp(found["predicted_log_probability"])
            return _Predicted(found["image"], found["label"], found["predicted"], confidence)
        found = predictions.parse(path, files.read(path), ["image", "label", "logits"]).columns
        table = shifts.read(results, [run_id])
    except (OSError, UserError):  # python -m sweeps.verify names damaged files
        return None
    rows = [row["shift"] for row in table.to_pylist() if row["alpha"] == strength]
    if not rows:
        return None
    scores = found["logits"].astype(np.float64) + np.asarray(rows[0])
    powers = np.exp(scores - scores.max(axis=1, keepdims=True))
    confidence = powers.max(axis=1) / powers.sum(axis=1)
    return _Predicted(found["image"], found["label"], scores.argmax(axis=1), confidence)


def _confusion(found: _Predicted, classes: int) -> Array:
    pairs = found.label.astype(np.int64) * classes + found.predicted
    return np.bincount(pairs, minlength=classes**2).reshape(classes, classes)


def _matrix(title: str, counts: Array, names: Sequence[str]) -> Matrix:
    shares = _shares(counts)
    rows = []
    for label, name in enumerate(names):
        cells = zip(counts[label].tolist(), shares[label].tolist(), strict=True)
        shown = tuple((count, _percent(share), round(share, 2)) for count, share in cells)
        rows.append((name, shown))
    return Matrix(title, tuple(rows))


def _shares(counts: Array) -> Array:
    return np.asarray(counts / np.maximum(counts.sum(axis=1, keepdims=True), 1))


def _percent(share: float) -> str:
    return f"{percent(share, 0)}%"


def _pairs(
    chosen: _Predicted, counts: Array, others: Array, names: Sequence[str]
) -> Iterator[Pair]:
    """Yield the pairs of classes that the selected student confuses most."""
    wrong = counts * (1 - np.eye(len(names), dtype=np.int64))
    order = np.argsort(-wrong, axis=None, kind="stable")[:_PAIRS]
    shares, other_shares = _shares(counts), _shares(others)
    for label, predicted in zip(*np.unravel_index(order, wrong.shape), strict=True):
        if not wrong[label, predicted]:
            return
        cell = label, predicted
        rows = np.flatnonzero((chosen.label == label) & (chosen.predicted == predicted))
        rows = rows[np.argsort(-chosen.confidence[rows], kind="stable")][:_PICTURES]
        yield Pair(
            names[label],
            names[predicted],
            f"{counts[cell]} ({_percent(shares[cell])})",
            f"{others[cell]} ({_percent(other_shares[cell])})",
            tuple(_picture(chosen, int(row), names) for row in rows),
        )


def _galleries(
    chosen: _Predicted, standard: _Predicted, counts: Array, others: Array, names: Sequence[str]
) -> Iterator[Gallery]:
    """Yield galleries of differences in the worst classes, and of the most confident mistakes."""
    right, other_right = (one.predicted == one.label for one in (chosen, standard))
    present = counts.sum(axis=1) > 0
    recall = np.minimum(*(np.where(present, np.diag(_shares(m)), 2.0) for m in (counts, others)))
    worst = np.argsort(recall, kind="stable")[: min(_WORST, int(present.sum()))]
    among = np.isin(chosen.label, worst)
    classes = ", ".join(names[label] for label in worst)
    for title, mask, shown in (
        (f"Wrong, and right by standard distillation ({classes})", ~right & other_right, chosen),
        (f"Right, and wrong by standard distillation ({classes})", right & ~other_right, standard),
        ("Most confident mistakes, of all classes", ~right, chosen),
    ):
        rows = np.flatnonzero(mask if "Most" in title else mask & among)
        rows = rows[np.argsort(-shown.confidence[rows], kind="stable")][:_PICTURES]
        if len(rows):
            yield Gallery(title, tuple(_picture(shown, int(row), names) for row in rows))


def _picture(found: _Predicted, row: int, names: Sequence[str]) -> Picture:
    label, predicted = names[found.label[row]], names[found.predicted[row]]
    return Picture(
        int(found.image[row]), f"{label} → {predicted}, {_percent(float(found.confidence[row]))}"
    )


def _source(picture: bytes) -> str:
    kind = "png" if picture.startswith(b"\x89PNG") else "jpeg"
    return f"data:image/{kind};base64,{base64.b64encode(picture).decode()}"
