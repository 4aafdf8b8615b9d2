"""Proposals of further seeds that reduce the expected regret of a selection.

A further seed of a combination is another observation of its classes, with the noise estimated by
the posterior. Its effect on the choice can be computed before it is trained (preposterior analysis,
Raiffa and Schlaifer 1961): draw accuracies, draw observations of further seeds, choose again, and
average the remaining regret.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace
from itertools import product

import numpy as np
from numpy.typing import NDArray

from analysis.runs.columns import FloatArray
from analysis.selection import Selection
from analysis.selection.by_metric import ByMetric
from analysis.selection.criteria import Accuracies, Constrained, Lexicographic
from analysis.selection.posterior import Posterior, fit
from analysis.selection.uncertainty import Estimate, Uncertainty, decide
from rkd_core.errors import UserError

__all__ = ["Settling", "one_more", "settle"]

_HOW_MANY = (2, 3, 4, 6, 8, 12, 16, 24, 32)
"""Numbers of combinations to repeat together, by decreasing probability of being the best."""
_HOW_OFTEN = (1, 2, 3, 5, 8, 12, 20)
"""Numbers of further seeds of each combination."""
_CONTENDERS = 8
"""Number of combinations for which ``one_more`` evaluates a further seed."""
_DRAWS = 300
_EVERY = 300
"""Maximum number of combinations for which one further seed of each is evaluated."""


@dataclass(frozen=True)
class Settling:
    """A proposal of further seeds, with the expected regret after them."""

    regret: float
    """Expected regret now."""
    target: float
    places: tuple[int, ...]
    """Combinations to repeat, with standard distillation first if it is the reference; empty if the
    selection is settled."""
    seeds: int
    """Number of further seeds of each."""
    after: float
    """Expected regret after they are trained."""
    beyond: Settling | None = None
    """Proposal with more trainings than completed so far, which reaches the target or comes closer
    to it; None if the target does not need it."""
    another_grid: float | None = None
    """Expected regret after one further seed of every combination; None if not evaluated."""

    @property
    def students(self) -> int:
        """Number of further students."""
        return len(self.places) * self.seeds

    @property
    def settled(self) -> bool:
        """Whether no further seed is needed."""
        return not self.places

    @property
    def reached(self) -> bool:
        """Whether the proposal reaches the target."""
        return self.after <= self.target


def settle(selection: Selection, uncertainty: Uncertainty | None, target: float) -> Settling:
    """Return the fewest further students that bring the expected regret to ``target`` or less.

    The proposal has at most as many students as have been trained. If there is one seed so far, it
    adds only one, since a single seed does not show how much seeds differ. If the target is out of
    reach within these limits, the proposal is the one that comes closest, and ``beyond`` holds a
    larger one that comes closer.

    Args:
        selection: Selection based on estimates.
        uncertainty: Uncertainty of the selection; None if unknown.
        target: A fraction of accuracy, such as 0.005.

    Raises:
        UserError: The target is not between 0 and 1, the rule has more than one objective, or the
            uncertainty of the choice is unknown.

    If a shifted student is selected, the proposal is for the choice among students with the same
    shift, with the accuracy of standard distillation taken as known. Places are those of the
    students without a shift, which a further seed trains.
    """
    if not 0 < target < 1:
        raise UserError(f"target-regret must be a fraction above 0, such as 0.005, not {target:g}")
    if isinstance(selection.criterion, ByMetric):
        raise UserError("target-regret needs a rule on accuracies: leave out --metric")
    if isinstance(selection.criterion, Lexicographic):
        raise UserError("target-regret needs a rule with one figure to maximize, not --order")
    if len(selection.combinations.networks) > 1:
        raise UserError("target-regret is for students of one network: choose one with --family")
    if uncertainty is not None and not selection.combinations.unshifted.all():
        return _of_students(settle(*_level(selection), target), selection)
    posterior = None if uncertainty is None else fit(selection.combinations)
    if uncertainty is None or posterior is None:
        raise UserError("target-regret needs the uncertainty of the choice, which is not known")
    now = uncertainty.expected_regret
    if now <= target:
        return Settling(now, target, (), 0, now)
    best: Settling | None = None
    within: Settling | None = None
    simulation = _Simulation(posterior, selection)
    trained, alone = selection.combinations.seeds, int(selection.combinations.seeds.max()) == 1
    for places, seeds in _candidates(selection, uncertainty):
        after = simulation.regret(places, seeds)
        if best is None or after < best.after:
            best = Settling(now, target, places, seeds, min(after, now))
        allowed = len(places) * seeds <= trained.sum() and not (alone and seeds > 1)
        if allowed and (within is None or after < within.after):
            within = Settling(now, target, places, seeds, min(after, now))
        if best.reached:
            break
    assert best is not None
    if within is None or within.after <= best.after:
        return within or best
    every = tuple(range(trained.size))
    another = simulation.regret(every, 1) if trained.size <= _EVERY else None
    return replace(within, beyond=best, another_grid=another and min(another, now))


def _level(selection: Selection) -> tuple[Selection, Uncertainty | None]:
    """Return the selection among the combinations with the selected shift, as if it were none."""
    c, rule = selection.combinations, selection.criterion
    (level,) = (part for part in c.levels() if part.start <= selection.selected < part.stop)
    among = c.part(level)
    if not c.unshifted[selection.selected]:
        among = replace(among, shift=np.full(len(among), np.nan))
        if isinstance(rule, Constrained) and rule.reference == "standard":
            kept = selection.seen.measure(rule.keep)[selection.reference]
            rule = replace(rule, reference=float(kept))
    estimate: Estimate = "raw" if selection.seen.estimated is None else "shrunk"
    return decide(among, rule, estimate)[:2]


def _of_students(found: Settling, selection: Selection) -> Settling:
    """Return a proposal of ``_level`` for the combinations of the selection."""
    c = selection.combinations
    (level,) = (part for part in c.levels() if part.start <= selection.selected < part.stop)
    trained = {c.run_ids(i)[0]: i for i in np.flatnonzero(c.unshifted).tolist()}
    places = tuple(trained[c.run_ids(level.start + place)[0]] for place in found.places)
    beyond = None if found.beyond is None else _of_students(found.beyond, selection)
    return replace(found, places=places, beyond=beyond)


def one_more(selection: Selection, uncertainty: Uncertainty) -> dict[int, float]:
    """Return how much one further seed of a single combination reduces the expected regret.

    The result covers the combinations most likely to be the best, the selected one and standard
    distillation; the effect of all others is close to 0. Values have Monte Carlo error, so small
    ones may be 0.
    """
    posterior = fit(selection.combinations)
    if posterior is None:
        return {}
    order = np.argsort(-uncertainty.probability_best, kind="stable")[:_CONTENDERS].tolist()
    simulation = _Simulation(posterior, selection)
    now = simulation.regret((), 1)
    contenders = dict.fromkeys((selection.selected, selection.reference, *order))
    return {place: max(now - simulation.regret((place,), 1), 0.0) for place in contenders}


def _candidates(
    selection: Selection, uncertainty: Uncertainty
) -> Iterator[tuple[tuple[int, ...], int]]:
    """Yield sets of combinations and numbers of further seeds, by increasing number of students."""
    rule, chance = selection.criterion, uncertainty.probability_best
    order = [selection.selected, *np.argsort(-chance, kind="stable").tolist()]
    against = isinstance(rule, Constrained) and rule.reference == "standard"
    first = [selection.reference] if against else []  # paired differences are more precise
    contenders = [place for place in dict.fromkeys(order) if place not in first]
    contenders = [place for place in contenders if chance[place] > 0][: max(_HOW_MANY)]
    sizes = sorted({min(many, len(contenders)) for many in _HOW_MANY})
    options = [((*first, *contenders[:many]), often) for many, often in product(sizes, _HOW_OFTEN)]
    yield from sorted(options, key=lambda option: (len(option[0]) * option[1], len(option[0])))


class _Simulation:
    """Simulated choices after further seeds, with common random numbers."""

    def __init__(self, posterior: Posterior, selection: Selection) -> None:
        self._posterior, self._selection = posterior, selection
        self._spread, self._columns = posterior.modes()
        rng = np.random.default_rng(1)
        drawn = rng.standard_normal((_DRAWS, *self._spread.shape))
        self._effects = posterior.rows @ (drawn * self._spread)
        self._noise = rng.standard_normal((_DRAWS, *posterior.mean.shape))
        self._half = rng.standard_normal((4, posterior.seed.size)) * posterior.seed
        self._counted = Accuracies(selection.combinations, selection.means)
        self._blocks = posterior.blocks(_DRAWS)
        self._truths = [one for b in self._blocks for one in self._accuracies(self._effects[b])]

    def regret(self, places: tuple[int, ...], seeds: int) -> float:
        """Return the mean regret of the choice after further seeds."""
        gains, rows = self._gains(places, seeds), list(places)
        truths, total = iter(self._truths), 0.0
        for block in self._blocks:
            # Each draw has a column for each mode.
            shown = self._effects[block, rows] + self._noise[block, rows] / np.sqrt(seeds)
            learnt = np.einsum("mcs,dsm->dcm", gains, shown, optimize=True)
            for values, admitted in self._accuracies(learnt):
                among = np.where(admitted, values, -np.inf) if admitted.any() else values
                total += _given_up(next(truths), int(np.argmax(among)))
        return total / _DRAWS

    def _gains(self, places: tuple[int, ...], seeds: int) -> FloatArray:
        """Return gains that update all combinations from those at ``places``.

        The shape is ``(modes, combinations, places)``. In coordinates rotated by the eigenvectors
        of the classes' covariance and divided by the noise of one seed, modes are independent and
        noise has variance 1.
        """
        p, rows = self._posterior, list(places)
        covariance = np.einsum(
            "ci,im,ri->mcr", p.rows, self._spread**2, p.rows[rows], optimize=True
        )
        among = covariance[:, rows] + np.eye(len(rows)) / seeds
        return np.asarray(np.linalg.solve(among, covariance.transpose(0, 2, 1)).transpose(0, 2, 1))

    def _accuracies(self, effects: FloatArray) -> Iterator[tuple[FloatArray, NDArray[np.bool_]]]:
        """Yield the objective and the feasible combinations, for each draw of rotated effects."""
        rule, p = self._selection.criterion, self._posterior
        for draw in p.seen(p.mean + effects @ self._columns.T, self._half, rule.worst_k):
            accuracies = Accuracies.of_draw(draw, self._counted)
            admitted = rule.shortfall(accuracies, self._selection.reference) <= 0
            yield rule.objective(accuracies), admitted


def _given_up(truth: tuple[FloatArray, NDArray[np.bool_]], chosen: int) -> float:
    values, admitted = truth
    if not admitted.any():  # no combination is feasible
        return 0.0
    return max(float(values[admitted].max() - values[chosen]), 0.0)
