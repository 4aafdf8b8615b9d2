"""Optuna's samplers over the grid or between its points, by ask and tell.

A trial of the study is a combination, trained with every seed of the sweep. Teachers' trade-offs
are the grid's, so that students share them: the set of trained teachers grows as the sampler
proposes, and is never larger than the grid's. A study is kept in a journal in the results folder,
which ``optuna-dashboard`` shows. What a trial ended in is found in the ledger of records; the
journal is for the sampler alone, so that one that was cut off goes on.
"""

from __future__ import annotations

import contextlib
import hashlib
import math
import warnings
from collections import defaultdict, deque
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, Literal, get_args

import numpy as np

from rkd_core.errors import UserError
from rkd_core.storage import files
from sweeps.search.strategy import Cell, Goal, Point, Request, Seen, Space

__all__ = ["JOURNAL", "SPREAD", "Objectives", "Sampler", "WithOptuna", "create"]

JOURNAL = "search.journal"
"""Of all studies, in the results folder."""

Sampler = Literal["tpe", "gp", "nsga2", "nsga3", "random"]
Objectives = Literal["constrained", "pareto"]
"""One objective, worst-k accuracy, under the constraint on the average; or both accuracies."""

SPREAD = 5.0
"""How far from the sweep's recipe a student's own may be, as a factor, up and down."""
_REPEATS = 30
"""Proposals of what is known already, before something untried is taken."""
_POPULATION = 12  # of the genetic samplers: Optuna's 50 are more than a whole search has


def create(request: Request) -> WithOptuna:
    """Return the strategy for a sweep; with a results folder, it goes on in its study there.

    Raises:
        UserError: The results are in an object store.
    """
    options: dict[str, Any] = {"sampler": "tpe", "objectives": "constrained", "continuous": False}
    options |= {name: value for name, value in request.options.items() if name in options}
    out = request.out
    if out is not None and not files.is_local(out):
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
        journal=None if out is None else out / JOURNAL,
        study=f"{request.dataset}-{digest}",
    )


class WithOptuna:
    """The strategy; see above.

    Args:
        space: The grid.
        goal: Of the selection.
        sampler: Which of Optuna's.
        objectives: What it maximizes.
        continuous: Students' trade-offs and temperatures also between those of the grid.
        tune: What of students' recipes to propose too, by the names of ``specs.Tuned``, with what
            the sweep's recipe says, around which it is looked for.
        seed: Of the sampler.
        journal: Where the study is kept; None: in memory.
        study: Its name there.
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
        self._pruned: set[Cell] = set()
        self._trials: dict[Cell, Any] = {}  # under way
        self._queue: deque[Point] = deque()
        self._unsaid: list[Cell] = []  # ended before standard distillation
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
            if self._said(trial.params):  # it was cut off
                self._begin(optuna.trial.Trial(self._study, trial._trial_id))
            else:  # even while it was proposed
                self._study.tell(trial.number, state=optuna.trial.TrialState.FAIL)

    @property
    def cells(self) -> set[Cell]:
        """See ``Strategy``: the grid's, and where it has been between them."""
        proposed = (t.params for t in self._study.trials if self._said(t.params))
        return {*self._space.cells, *map(self._cell, proposed)}

    def _said(self, parameters: Mapping[str, Any]) -> bool:
        """Whether a proposal is complete; the journal has one parameter after the other."""
        return parameters.keys() >= self._distributions.keys()

    # ---- Ask -------------------------------------------------------------------------------------

    def ask(self) -> Point | None:
        """See ``Strategy``."""
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
        """Take a proposal, unless it is known or under way."""
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
        """See ``Strategy``."""
        cell = point.cell
        completed = row is not None and row["status"] == "completed"
        if row is not None and not completed:
            self._pruned.add(cell)
        worst_k = self._goal.worst_k
        self._seen[cell][point.seed] = Seen.of(row, worst_k) if row and completed else None
        if len(self._seen[cell]) < len(self._space.seeds):
            return
        self._unsaid.append(cell)
        if self._least() is None and self._constrained:
            return  # nobody knows yet what the average must be
        for ended in self._unsaid:
            if ended in self._trials:
                self._say(ended, self._trials.pop(ended))
        self._unsaid = []

    def outlook(self) -> tuple[Point | None, float]:
        """See ``Strategy``: a sampler does not say."""
        return None, math.nan

    def taught(self, alpha_t: float | None, row: Mapping[str, Any]) -> None:
        """See ``Strategy``: a sampler has no place for it."""

    def _say(self, cell: Cell, trial: Any) -> None:
        """Tell the study what a combination's students have come to."""
        states, seen = self._optuna.trial.TrialState, list(self._seen[cell].values())
        figures = [s for s in seen if s is not None]
        least = self._least()
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

    def _least(self) -> float | None:
        found = [s for s in self._seen.get(self._space.reference, {}).values() if s is not None]
        return self._goal.least_average(found) if found else None

    # ---- Parameters and combinations -------------------------------------------------------------

    def _axes(self) -> dict[str, Any]:
        """Standard is below 0 on the axis of students' trade-offs, and place 0 among teachers."""
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
        """What is not as in the sweep's recipe; a step size only where there are multipliers."""
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
    """A journal of ours alone: who holds the lease of the folder may take a dead one's lock."""
    from optuna.storages import JournalStorage
    from optuna.storages.journal import JournalFileBackend

    path.with_name(f"{path.name}.lock").unlink(missing_ok=True)
    return JournalStorage(JournalFileBackend(str(path)))


@contextlib.contextmanager
def _quietly() -> Iterator[None]:
    """Optuna warns that some of what is used here may change; the tests will say when it does."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        yield
