"""Decision whether to recommend the selected student, with reasons and remedies."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from statistics import NormalDist
from typing import Any, Literal

import numpy as np
from numpy.typing import ArrayLike

from analysis.runs.columns import FloatArray
from analysis.runs.combinations import Combinations
from analysis.selection import Selection
from analysis.selection.criteria import Accuracies, Lexicographic
from analysis.selection.outcome import Outcome, combination_name
from rkd_core.metrics import average_accuracy, balanced_accuracy, recalls, worst_k_accuracy
from rkd_core.text.numbers import percent

__all__ = ["Guessing", "Recommendation", "of_record", "recommendation"]

LEVEL = 0.05
"""Probability of mistaking guessing for learning, over all combinations."""
_LISTED = 5
"""Maximum number of class names in a sentence."""
CHANGES = (
    "Train longer (--epochs), try another learning rate (--learning-rate), network "
    "(--student-architecture) or larger images (--image-size), and check that images have their "
    "own labels."
)
"""Advice shown if nothing was learned."""


@dataclass(frozen=True)
class Recommendation:
    """A verdict on whether the selected student can be shipped.

    Attributes:
        reason: ``nothing_learned``: it is not distinguishable from guessing. ``objective_zero``:
            the objective of the rule, such as the worst-class accuracy, is 0 for all candidates.
            None if it is recommended.
        title: Headline in place of what to ship; empty if it is recommended.
        sentences: Figures and remedies.
        unrecognized: Labels of classes that no candidate recognizes; if there are none, those that
            the selected one misses.
        guessing: Accuracy of always predicting the most frequent class.
    """

    reason: Literal["nothing_learned", "objective_zero"] | None
    title: str
    sentences: tuple[str, ...]
    unrecognized: tuple[int, ...]
    guessing: float

    @property
    def ship(self) -> bool:
        """Whether the selected student is recommended."""
        return self.reason is None

    def document(self, names: Sequence[str]) -> dict[str, Any]:
        """Return the verdict as plain data, for ``selection.json``."""
        return {
            "ship": self.ship,
            "reason": self.reason,
            "title": self.title,
            "text": " ".join(self.sentences),
            "unrecognized_classes": [names[label] for label in self.unrecognized],
            "guessing_accuracy": self.guessing,
        }


class Guessing:
    """Accuracies that guessing reaches, given the images of each class ``(classes,)``.

    Always predicting the same class, or predicting at random, has a balanced accuracy of one over
    the number of classes, and an average accuracy of at most the share of the most frequent class.
    A student has learned something if either of its accuracies exceeds that by more than chance
    explains.
    """

    def __init__(self, total: ArrayLike, compared: int = 1) -> None:
        """Store the images of each class and the number of students compared."""
        self._total = np.asarray(total)
        self.images = int(self._total.sum())
        self.classes = int((self._total > 0).sum())
        self.average = float(self._total.max() / self.images)
        self._errors = NormalDist().inv_cdf(1 - LEVEL / 2 / max(compared, 1))

    def explains(self, correct: ArrayLike) -> bool:
        """Return whether guessing explains counts, or their means over seeds, ``(classes,)``.

        With one class there is nothing to learn, so the result is False.
        """
        if self.classes < 2:
            return False
        c, n = np.asarray(correct, dtype=np.float64), self._total
        error = np.sqrt(self.average * (1 - self.average) / self.images)
        if c.sum() / self.images > self.average + self._errors * error:
            return False
        r, even = recalls(c, n)[n > 0], 1 / self.classes
        # Random guesses vary most if every class is predicted equally often. Those that prefer some
        # classes vary less: a class that is always or never predicted has no noise.
        variance = np.maximum(r * (1 - r), even * (1 - even)) / n[n > 0]
        error = np.sqrt(variance.sum()) / self.classes
        return bool(r.mean() <= even + self._errors * error)


def recommendation(outcome: Outcome) -> Recommendation:
    """Return the verdict on a selection, from its validation counts alone."""
    s = outcome.selection
    c = s.combinations
    total = c.class_total[c.start[s.selected]]
    guessing = Guessing(total, len(c))
    if guessing.explains(_counts(c, s.selected)):
        return _nothing_learned(outcome, guessing)
    values = _objective(s)
    among = s.admitted if s.feasible else np.ones(len(c), dtype=bool)
    misses = bool((c.recalls()[s.selected] == 0).any())
    if misses and not values[among].any():  # objectives of plug-ins may be negative
        return _zero(outcome, guessing, np.flatnonzero(among))
    return Recommendation(None, "", (), (), guessing.average)


def of_record(row: Any) -> str:
    """Return a reason not to use a trained model, from validation; empty if there is none."""
    total, correct = (np.asarray(row[f"val_class_{name}"]) for name in ("total", "correct"))
    guessing = Guessing(total)
    if guessing.explains(correct):
        return (
            f"it has learned nothing: {correct.sum():,} of {total.sum():,} validation images are "
            f"correct, and always predicting the most frequent class reaches "
            f"{percent(guessing.average)}%"
        )
    missed = np.flatnonzero((correct == 0) & (total > 0))
    if missed.size:
        names = _named([str(row["class_names"][label]) for label in missed])
        return f"it recognizes no validation image of {names}"
    return ""


def _nothing_learned(outcome: Outcome, guessing: Guessing) -> Recommendation:
    s, names = outcome.selection, outcome.setting.class_names
    c = s.combinations
    counts, total = _counts(c, s.selected), c.class_total[c.start[s.selected]]
    most = names[int(np.argmax(total))]
    sentences = [
        f"The best by the rule, {combination_name(c, s.selected)}, recognizes "
        f"{percent(counts.sum() / guessing.images)}% of {guessing.images:,} validation images "
        f"(mean over classes {percent(float(balanced_accuracy(counts, total)))}%). "
        f"Guessing reaches {percent(guessing.average)}% (always {most}; mean over classes "
        f"{percent(1 / guessing.classes)}%), so the student may be no better than guessing."
    ]
    given = np.flatnonzero(counts)
    if given.size == 1 and counts[given[0]] == total[given[0]]:
        sentences.append(f"It predicts the class {names[int(given[0])]} for every image.")
    others = [i for i in range(len(c)) if not Guessing(total, len(c)).explains(_counts(c, i))]
    if others:
        best = max(others, key=lambda i: float(s.means.average[i]))
        sentences.append(
            f"{len(others)} of {len(c)} combinations did learn; the best average is that of "
            f"{combination_name(c, best)}, {percent(s.means.average[best])}% (worst class "
            f"{percent(float(c.means().worst_k[best]))}%): another rule, such as --worst-k with "
            "more classes, would select among them."
        )
    sentences += _of_teachers(outcome)
    sentences.append(CHANGES)
    missed = np.flatnonzero((counts == 0) & (total > 0)).tolist()
    title = "Nothing to ship: nothing was learned"
    if others:
        title = "Nothing to ship: the selected student is no better than guessing"
    return Recommendation(
        "nothing_learned", title, tuple(sentences), tuple(missed), guessing.average
    )


def _zero(outcome: Outcome, guessing: Guessing, among: Any) -> Recommendation:
    s, names = outcome.selection, outcome.setting.class_names
    c = s.combinations
    r = c.recalls()[among]
    never = np.flatnonzero((np.nan_to_num(r, nan=1.0) == 0).all(axis=0)).tolist()
    own = np.flatnonzero(c.recalls()[s.selected] == 0).tolist()
    shown = _named([names[label] for label in never or own])
    what, _ = s.criterion.words(s.seen, s.reference, s.selected)
    admitted = "combinations" if len(among) == len(c) else "admitted combinations"
    best = int(among[np.argmax(s.means.average[among])])
    sentences = [
        f"The {what} on validation is 0 for all of the {len(among)} {admitted}, so the rule cannot "
        "tell them apart.",
        f"No image of {shown} is recognized by any of them."
        if never
        else f"They miss different classes; the selected one misses {shown}.",
        f"The best average is that of {combination_name(c, best)}: "
        f"{percent(s.means.average[best])}%.",
    ]
    if len(among) < len(c) and _objective(s).max() > 0:
        sentences.append("Combinations with a higher one violate the constraint; see --margin.")
    k = _first_k(c, among, s.criterion.worst_k)
    if k is not None:
        sentences.append(
            f"To select one anyway, use more classes (--worst-k {k}); it is better to train longer."
        )
    sentences += [*_of_teachers(outcome), CHANGES]
    title = f"Nothing to ship: no candidate recognizes {shown}"
    if not never:
        title = "Nothing to ship: every candidate misses some class"
    return Recommendation(
        "objective_zero", title, tuple(sentences), tuple(never or own), guessing.average
    )


def _objective(selection: Selection) -> FloatArray:
    """Return the first objective of the rule, as counted, ``(combinations,)``."""
    rule, counted = selection.criterion, Accuracies(selection.combinations, selection.means)
    if isinstance(rule, Lexicographic):
        return counted.measure(rule.order[0])
    return rule.objective(counted)


def _counts(c: Combinations, index: int) -> FloatArray:
    """Return mean correct predictions over the seeds of a combination, ``(classes,)``."""
    return np.asarray(c.class_correct[c.runs(index)].mean(axis=0))


def _of_teachers(outcome: Outcome) -> list[str]:
    """Return sentences on teachers that have learned nothing or miss a class."""
    t = outcome.teachers.combinations
    if not len(t):
        return []
    total = t.class_total[0]
    guessing = Guessing(total, len(t))
    lost = [i for i in range(len(t)) if guessing.explains(_counts(t, i))]
    if len(lost) == len(t):
        best = float(average_accuracy(t.class_correct, t.class_total).max())
        return [
            f"No teacher learned anything either (best average {percent(best)}%): begin with them."
        ]
    if lost:
        return [f"{len(lost)} of {len(t)} teachers learned nothing either."]
    if float(worst_k_accuracy(t.class_correct, t.class_total, 1).max()) <= 0:
        return ["Every teacher misses some class, too."]
    return []


def _first_k(c: Combinations, among: Any, k: int) -> int | None:
    """Return the smallest k for which the worst-k accuracy of some candidate is above 0."""
    ordered = np.sort(c.recalls()[among], axis=1)  # NaN sorts last
    above = np.flatnonzero(np.nan_to_num(ordered).max(axis=0) > 0)
    return int(above[0]) + 1 if above.size and above[0] + 1 > k else None


def _named(names: Sequence[str]) -> str:
    """Return names as ``a``, ``a and b``, or the first few and the number of the others."""
    if len(names) > _LISTED:
        return f"{', '.join(names[:_LISTED])} and {len(names) - _LISTED:,} more classes"
    return " and ".join(filter(None, (", ".join(names[:-1]), names[-1])))
