"""Search strategy that proposes students on or between grid points with a sampler of Optuna.

A trial of the study is a combination, trained with every seed of the sweep. Trade-offs of teachers
are always those of the grid, so that students share teachers: the set of trained teachers grows
with the proposals and is never larger than that of the grid. The study is kept in a journal in the
results folder, which ``optuna-dashboard`` can show. Outcomes of trials are read from the records;
the journal only holds the state of the sampler, so that an interrupted search continues.
"""

from __future__ import annotations

import contextlib
import hashlib
import math
import warnings
from collections import defaultdict, deque
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, Literal, get_args

import numpy as np

from rkd_core.errors import UserError
from rkd_core.storage.files import local_path
from sweeps.search.strategy import Cell, Goal, Point, Request, Seen, Space

__all__ = ["JOURNAL", "SPREAD", "Objectives", "Sampler", "WithOptuna", "create"]

JOURNAL = "search.journal"
"""Name of the journal of all studies in a results folder."""

Sampler = Literal["tpe", "gp", "nsga2", "nsga3", "random"]
Objectives = Literal["constrained", "pareto"]
"""Worst-k accuracy under the constraint on the average, or both accuracies."""

SPREAD = 5.0
"""Largest factor by which a tuned value may be above or below that of the sweep."""
_REPEATS = 30
"""Number of consecutive proposals of known combinations before an untried one is enqueued."""
_POPULATION = 12  # of the genetic samplers; Optuna's default of 50 exceeds a whole search


def create(request: Request) -> WithOptuna:
    """Return the strategy for a request; with a results folder, it continues the study there.

    Raises:
        UserError: The results folder is in an object store.
    """
    options: dict[str, Any] = {"sampler": "tpe", "objectives": "constrained", "continuous": False}
    options |= {name: value for name, value in request.options.items() if name in options}
    out = request.out
    folder = None if out is None else local_path(out)
    if out is not None and folder is None:
        raise UserError("--search optuna keeps its journal in --out, which must be a folder")
    what = request.family, request.space, request.goal
    key = (*what, *options.values(), *request.tuning.items())
    digest = hashlib.sha256(repr(key).encode()).hexdigest()[:12]
    return WithOptuna(
        request.space,
        request.goal,
        **options,
        tune=request.tuning,
        seed=request.seed,
        journal=None if folder is None else folder / JOURNAL,
        study=f"{request.dataset}-{digest}",
    )


class WithOptuna:
    """Search by a sampler of Optuna through its ask-and-tell interface.

    Args:
        space: The grid.
        goal: Selection rule.
        sampler: Name of the sampler.
        objectives: Accuracies to maximize.
        continuous: Whether trade-offs and temperatures of students may lie between those of the
            grid.
        tune: Recipe fields of students to tune, by the names of ``specs.Tuned``, with the values of
            the sweep, around which new values are proposed.
        seed: Seed of the sampler.
        journal: Path of the journal; None keeps the study in memory.
        study: Name of the study.
    """

    def __init__(
        self,
        space: Space,
        goal: Goal,
        *,
        sampler: Sampler = "tpe",
        objectives: Objectives = "constrained",
        continuous: bool = False,
        tune: Mapping[str, float] | None = None,
        seed: int = 0,
        journal: Path | None = None,
        study: str = "search",
    ) -> None:
        import optuna

        optuna.logging.set_verbosity(optuna.logging.WARNING)
        self._optuna, self._space, self._goal = optuna, space, goal
        self._constrained, self._continuous = objectives == "constrained", continuous
        self._tune = dict(tune or {})
        self._seen: defaultdict[Cell, dict[int, Seen | None]] = defaultdict(dict)
        self._run_ids: defaultdict[Cell, list[str]] = defaultdict(list)
        self._pruned: set[Cell] = set()
        self._trials: dict[Cell, Any] = {}  # being trained
        self._queue: deque[Point] = deque()
        self._unsaid: list[Cell] = []  # ended before the constraint was known
        self._distributions = self._axes()
        with _quietly():
            self._study = optuna.create_study(
                storage=None if journal is None else _storage(journal),
                sampler=_sampler(optuna, sampler, seed),
                directions=["maximize"] * (1 if self._constrained else 2),
                study_name=study,
                load_if_exists=True,
            )
        if not self._study.trials:
            self._study.enqueue_trial(self._parameters(space.reference))
        for trial in self._study.trials:
            if trial.state != optuna.trial.TrialState.RUNNING:
                continue
            if self._said(trial.params):  # interrupted during training
                self._begin(optuna.trial.Trial(self._study, trial._trial_id))
            else:  # interrupted while it was proposed
                self._study.tell(trial.number, state=optuna.trial.TrialState.FAIL)

    @property
    def cells(self) -> set[Cell]:
        """Combinations of the grid, and proposed ones between them, see ``Strategy``."""
        proposed = (t.params for t in self._study.trials if self._said(t.params))
        return {*self._space.cells, *map(self._cell, proposed)}

    def _said(self, parameters: Mapping[str, Any]) -> bool:
        """Return whether a proposal is complete; the journal stores parameters one by one."""
        return parameters.keys() >= self._distributions.keys()

    # ---- Ask -------------------------------------------------------------------------------------

    def ask(self) -> Point | None:
        """Return the next student to train, see ``Strategy``."""
        for _ in range(_REPEATS):
            if self._queue:
                return self._queue.popleft()
            with _quietly():
                self._propose(self._study.ask(self._distributions))
        untried = [cell for cell in self._space.cells if cell not in self._known]
        if untried:
            self._study.enqueue_trial(self._parameters(untried[0]))
            with _quietly():
                self._propose(self._study.ask(self._distributions))
        return self._queue.popleft() if self._queue else None

    @property
    def _known(self) -> set[Cell]:
        return {*self._trials, *self._seen}

    def _propose(self, trial: Any) -> None:
        """Begin a proposed trial unless its combination is trained or being trained."""
        cell = self._cell(trial.params)
        if cell in self._trials:
            self._study.tell(trial, state=self._optuna.trial.TrialState.FAIL)
        elif len(self._seen[cell]) == len(self._space.seeds):
            self._say(cell, trial)
        else:
            self._begin(trial)

    def _begin(self, trial: Any) -> None:
        cell = self._cell(trial.params)
        self._trials[cell] = trial
        missing = [seed for seed in self._space.seeds if seed not in self._seen[cell]]
        self._queue.extend(Point(cell, seed) for seed in missing)
        if not missing:
            self._say(cell, self._trials.pop(cell))

    # ---- Tell ------------------------------------------------------------------------------------

    def tell(self, point: Point, row: Mapping[str, Any] | None) -> None:
        """Receive the outcome of a student, see ``Strategy``."""
        cell = point.cell
        completed = row is not None and row["status"] == "completed"
        if row is not None and not completed:
            self._pruned.add(cell)
        if row is not None:
            self._run_ids[cell].append(row.get("run_id", ""))
        worst_k = self._goal.worst_k
        self._seen[cell][point.seed] = Seen.of(row, worst_k) if row and completed else None
        if len(self._seen[cell]) < len(self._space.seeds):
            return
        self._unsaid.append(cell)
        if self._least() is None and self._constrained:
            return  # the constraint on the average is still unknown
        for ended in self._unsaid:
            if ended in self._trials:
                self._say(ended, self._trials.pop(ended))
        self._unsaid = []

    def outlook(self) -> tuple[Point | None, float]:
        """Return no student and NaN, see ``Strategy``: a sampler has no expected gain."""
        return None, math.nan

    def taught(self, alpha_t: float | None, row: Mapping[str, Any]) -> None:
        """Ignore the record of a teacher, see ``Strategy``: samplers cannot use it."""

    def _say(self, cell: Cell, trial: Any) -> None:
        """Report the results of a combination to the study."""
        states, seen = self._optuna.trial.TrialState, list(self._seen[cell].values())
        figures = [s for s in seen if s is not None]
        least = self._least()
        for name, value in self._shown(cell, figures).items():
            trial.set_user_attr(name, value)
        if len(figures) < len(seen) or (self._constrained and least is None):
            state = states.PRUNED if cell in self._pruned else states.FAIL
            self._study.tell(trial, state=state)
            return
        worst, average = (
            float(np.mean([getattr(s, name) for s in figures])) for name in ("worst_k", "average")
        )
        with _quietly():
            if self._constrained and least is not None:
                trial.set_constraint("average", least - average)
            self._study.tell(trial, [worst] if self._constrained else [worst, average])

    def _shown(self, cell: Cell, figures: Sequence[Seen]) -> dict[str, Any]:
        """Return the user attributes of a trial, whose parameters are places on axes."""
        found: dict[str, Any] = {
            "alpha_t": "standard" if cell.alpha_t is None else cell.alpha_t,
            "alpha_s": "standard" if cell.alpha_s is None else cell.alpha_s,
            "temperature": cell.temperature,
            "run_ids": self._run_ids[cell],
        }
        if figures:
            found["val_worst_class_accuracy"] = float(np.mean([s.worst_k for s in figures]))
            found["val_average_accuracy"] = float(np.mean([s.average for s in figures]))
        return found

    def _least(self) -> float | None:
        found = [s for s in self._seen.get(self._space.reference, {}).values() if s is not None]
        return self._goal.least_average(found) if found else None

    # ---- Parameters and combinations -------------------------------------------------------------

    def _axes(self) -> dict[str, Any]:
        """Return the distributions of the parameters.

        The standard objective is index 0 on axes of the grid and negative on a continuous axis.
        """
        d, space = self._optuna.distributions, self._space
        last = len(space.objectives) - 1
        axes: dict[str, Any] = {"teacher": d.IntDistribution(0, last)}
        low, high = min(space.temperatures), max(space.temperatures)
        if self._continuous:
            axes["alpha_s"] = d.FloatDistribution(-0.2, 1.0)
            if low < high:
                axes["temperature"] = d.FloatDistribution(low, high, log=True)
        else:
            axes["student"] = d.IntDistribution(0, last)
            axes["temperature"] = d.IntDistribution(0, len(space.temperatures) - 1)
        for name, value in self._tune.items():
            axes[name] = d.FloatDistribution(value / SPREAD, value * SPREAD, log=True)
        return axes

    def _cell(self, parameters: Mapping[str, Any]) -> Cell:
        space = self._space
        alpha_t = space.objectives[parameters["teacher"]]
        if not self._continuous:
            alpha_s = space.objectives[parameters["student"]]
            temperature = space.temperatures[parameters["temperature"]]
        else:
            amount = round(parameters["alpha_s"], 4)
            alpha_s = None if amount < 0 else amount
            temperature = round(parameters.get("temperature", space.temperatures[0]), 4)
        return Cell(alpha_t, alpha_s, temperature, tuple(self._tuning(parameters, alpha_s)))

    def _tuning(
        self, parameters: Mapping[str, Any], alpha_s: float | None
    ) -> Iterator[tuple[str, float]]:
        """Yield the tuned fields that differ from the recipe of the sweep.

        A step size only applies to students with multipliers.
        """
        for name, of_sweep in self._tune.items():
            value = parameters[name]
            if name == "multiplier_step_size" and not alpha_s:
                continue
            if not math.isclose(value, of_sweep, rel_tol=1e-3):
                yield name, float(f"{value:.3g}")

    def _parameters(self, cell: Cell) -> dict[str, Any]:
        space = self._space
        found: dict[str, Any] = {"teacher": space.objectives.index(cell.alpha_t)}
        found |= self._tune | dict(cell.tuning)
        if not self._continuous:
            found["student"] = space.objectives.index(cell.alpha_s)
            found["temperature"] = space.temperatures.index(cell.temperature)
            return found
        found["alpha_s"] = -0.1 if cell.alpha_s is None else cell.alpha_s
        if "temperature" in self._distributions:
            found["temperature"] = cell.temperature
        return found


def _sampler(optuna: Any, name: Sampler, seed: int) -> Any:
    if name not in get_args(Sampler):
        raise ValueError(f"no sampler is named {name}")
    with _quietly():
        if name == "tpe":
            return optuna.samplers.TPESampler(seed=seed, multivariate=True)
        if name == "gp":
            return optuna.samplers.GPSampler(seed=seed)
        if name == "nsga2":
            return optuna.samplers.NSGAIISampler(seed=seed, population_size=_POPULATION)
        if name == "nsga3":
            return optuna.samplers.NSGAIIISampler(seed=seed, population_size=_POPULATION)
        return optuna.samplers.RandomSampler(seed=seed)


def _storage(path: Path) -> Any:
    """Return the storage of a journal, without a stale lock of an earlier process.

    The lease of the results folder guarantees that no other process uses the journal.
    """
    from optuna.storages import JournalStorage
    from optuna.storages.journal import JournalFileBackend

    path.with_name(f"{path.name}.lock").unlink(missing_ok=True)
    return JournalStorage(JournalFileBackend(str(path)))


@contextlib.contextmanager
def _quietly() -> Iterator[None]:
    """Suppress warnings about experimental features of Optuna, which the tests cover."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        yield
