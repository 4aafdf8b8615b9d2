"""Progress of a running sweep: a live display, or plain lines for logs and pipes."""

from __future__ import annotations

import contextlib
import functools
import math
import threading
import time
from collections import Counter
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, TypeVar, cast

import pyarrow as pa
import pyarrow.compute as pc
from rich.console import Console, Group, RenderableType
from rich.live import Live
from rich.progress_bar import ProgressBar
from rich.table import Table
from rich.text import Text

from analysis.selection.criteria import Criterion
from analysis.views.best_so_far import best_so_far
from rkd_core import records
from rkd_core.specs import Stage
from rkd_core.storage.files import Location
from sweeps.planning.cost import CostModel, Kind, duration, kind_of, span
from sweeps.planning.plan import Plan, PlannedRun
from sweeps.running.watcher import Watcher

__all__ = ["LiveDisplay", "PlainLines", "Tally", "display_for"]

_BEST_SECONDS = 2.0  # the best-so-far line is recomputed at most this often
_RUNNING_LINES = 8
_BESIDE_BARS = 28  # columns for the names and numbers beside a bar

Method = TypeVar("Method", bound=Callable[..., None])


@dataclass
class _Running:
    """State of a running training."""

    run: PlannedRun
    began: float
    together: int
    """Number of trainings that share its time, including itself."""
    progress: Mapping[str, Any] = field(default_factory=dict)


def _locked(method: Method) -> Method:
    """Return a method of ``Tally`` that holds its lock while it runs."""

    @functools.wraps(method)
    def wrapper(self: Tally, *arguments: Any, **named: Any) -> Any:
        with self.lock:
            return method(self, *arguments, **named)

    return cast(Method, wrapper)


class Tally(Watcher):
    """Counts, running trainings and time left of a sweep, which the displays show.

    Args:
        plan: The whole plan.
        completed: Run ids that were completed before the sweep.
        out: Results folder, whose records determine the best student so far.
        costs: Durations of past trainings; updated by every training that ends.
        images: Number of training images.
        slots: Number of concurrent trainings.
        criterion: Selection rule.
        beyond: Networks that are beyond a limit of the selection.
    """

    def __init__(
        self,
        plan: Plan,
        completed: set[str],
        out: Location,
        costs: CostModel,
        *,
        images: int,
        slots: int,
        criterion: Criterion,
        beyond: Collection[str] = (),
    ) -> None:
        self.teachers, self.students = len(plan.teachers), len(plan.students)
        self.lock = threading.RLock()  # the live display draws in its own thread
        self.ended = {"teacher": 0, "student": 0}
        self.failures = self.pruned = 0
        self.running: dict[str, _Running] = {}
        self.began = time.monotonic()
        self._first_end = math.inf  # time when the first training ended
        self._left: Counter[tuple[Kind, int]] = Counter()  # by kind and epochs
        for run in plan.runs:
            if run.run_id in completed:
                self.ended[run.spec.stage] += 1
            else:
                self._left[kind_of(run), run.spec.epochs] += 1
        self._out, self._costs, self._images = out, costs, images
        self._slots, self._criterion = slots, criterion
        self._beyond = pa.array(sorted(beyond), pa.string())
        self._unread = [run.run_id for run in plan.students if run.run_id in completed]
        self._students = records.SCHEMA.empty_table()
        self._best: tuple[float, str | None] = (float("-inf"), None)

    @_locked
    def added(self, runs: Sequence[PlannedRun]) -> None:
        """Add runs to those that are left."""
        for run in runs:
            self._left[kind_of(run), run.spec.epochs] += 1
        teachers = sum(run.spec.stage == "teacher" for run in runs)
        self.teachers, self.students = (
            self.teachers + teachers,
            self.students + len(runs) - teachers,
        )

    @_locked
    def started(self, runs: Sequence[PlannedRun]) -> None:
        """Add trainings to the running ones."""
        now = time.monotonic()
        self.running |= {run.run_id: _Running(run, now, len(runs)) for run in runs}

    @_locked
    def progressed(self, run: PlannedRun, progress: Mapping[str, Any]) -> None:
        """Keep the latest figures of the training."""
        self.running[run.run_id].progress = progress

    @_locked
    def completed(self, run: PlannedRun, row: Mapping[str, Any]) -> None:
        """Count the training and learn from its duration."""
        now = time.monotonic()
        under_way = self.running.get(run.run_id) or _Running(run, now, 1)
        first = under_way.began <= self._first_end  # includes the start of its process
        self._first_end = min(self._first_end, now)
        self._end(run)
        if run.spec.epochs:
            slot = (now - under_way.began) / under_way.together
            self._learn(run, 0.0 if first else slot, row["train_seconds"])
        if run.spec.stage == "student":
            self._unread.append(run.run_id)

    def _learn(self, run: PlannedRun, slot: float, trained: float) -> None:
        """Learn how long a training occupies its slot, which is longer than it trains."""
        kind, epochs = kind_of(run), run.spec.epochs
        if slot > trained:
            self._costs.see(kind, slot, self._costs.work(kind, epochs), self._images)
        else:
            self._costs.see(kind, trained, epochs, self._images)

    @_locked
    def retried(self, run: PlannedRun, cause: str) -> None:
        """Remove the training from the running ones."""
        self.running.pop(run.run_id, None)

    @_locked
    def paused(self, run: PlannedRun, pruned: bool) -> None:
        """Remove the training from the running ones; count it if it is pruned."""
        self.running.pop(run.run_id, None)
        if pruned:
            self._end(run)
            self.pruned += 1

    @_locked
    def failed(self, run: PlannedRun, cause: str) -> None:
        """Count the failure."""
        self._end(run)
        self.failures += 1

    def _end(self, run: PlannedRun) -> None:
        self.running.pop(run.run_id, None)
        self._left[kind_of(run), run.spec.epochs] -= 1
        self.ended[run.spec.stage] += 1

    def seconds_left(self) -> tuple[float, float] | Stage:
        """Return the least and most seconds to expect, or a stage without any estimate yet.

        The running time depends on the numbers of kinds and of running trainings only.
        """
        low = high = 0.0
        for (kind, epochs), count in self._left.items():
            if count:
                found = self._costs.range_of(kind, epochs, self._images)
                if found is None:
                    return kind.stage
                low, high = low + count * found[0], high + count * found[1]
        now = time.monotonic()
        for running in self.running.values():
            spent = (now - running.began) / running.together
            run = running.run
            found = self._costs.range_of(kind_of(run), run.spec.epochs, self._images) or (0.0, 0.0)
            low, high = low - min(spent, found[0]), high - min(spent, found[1])
        return max(0.0, low) / self._slots, max(0.0, high) / self._slots

    def left(self) -> str:
        """Return the time left as text; empty if no training is left."""
        if not +self._left:
            return ""
        found = self.seconds_left()
        if isinstance(found, str):
            return f"time left unknown until a {found} has ended"
        return f"{span(*found)} left"

    def best(self) -> str | None:
        """Return the best feasible student so far and standard distillation, a line each."""
        now = time.monotonic()
        if now - self._best[0] >= _BEST_SECONDS:
            new = records.read(self._out / "records", self._unread)
            self._unread = []
            self._students = pa.concat_tables([self._students, new]).combine_chunks()
            beyond = pc.is_in(self._students["architecture"], value_set=self._beyond)
            line = best_so_far(self._students.filter(pc.invert(beyond)), self._criterion)
            self._best = (now, line)
        return self._best[1]


class LiveDisplay(Watcher):
    """Live display of progress bars, running trainings, best student so far and time left."""

    def __init__(self, tally: Tally, console: Console) -> None:
        self._tally, self._console = tally, console
        self._live = Live(
            get_renderable=self._render,
            console=console,
            refresh_per_second=4,
            transient=True,
            redirect_stdout=False,  # output of libraries goes to the log
            redirect_stderr=False,
        )

    def __enter__(self) -> LiveDisplay:
        self._live.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._live.stop()

    def retried(self, run: PlannedRun, cause: str) -> None:
        """Print the failure above the display."""
        self._live.console.print(Text(f"failed: {run.label}: {cause}", style="yellow"))

    def failed(self, run: PlannedRun, cause: str) -> None:
        """Print the failure above the display."""
        self._live.console.print(Text(f"failed: {run.label}: {cause}", style="red"))

    def _render(self) -> RenderableType:
        with self._tally.lock:
            return self._draw()

    def _draw(self) -> RenderableType:
        tally = self._tally
        room = max(4, min(32, self._console.width - _BESIDE_BARS))
        bars = Table.grid(padding=(0, 2))
        bars.add_column(style="bold")
        bars.add_column(width=room)
        bars.add_column(justify="right")
        for name, stage, total in (
            ("teachers", "teacher", tally.teachers),
            ("students", "student", tally.students),
        ):
            done = tally.ended[stage]
            bars.add_row(name, ProgressBar(total, done, width=room), f"{done} of {total}")
        lines: list[RenderableType] = [bars, Text()]
        running = list(tally.running.values())
        for one in running[:_RUNNING_LINES]:
            lines.append(_running_line(one.run, one.progress))
        if len(running) > _RUNNING_LINES:
            lines.append(Text(f"and {len(running) - _RUNNING_LINES} more", style="dim"))
        lines.append(Text())
        best = tally.best()
        if best:
            lines.append(Text(best))
        left = tally.left()
        clock = f"{duration(time.monotonic() - tally.began)} so far" + (f", {left}" if left else "")
        if tally.pruned:
            clock += f", {tally.pruned} pruned"
        if tally.failures:
            clock += f", {tally.failures} failed"
        lines.append(Text(clock, style="dim"))
        return Group(*lines)


class PlainLines(Watcher):
    """Display of one line for every training that ends, for logs and pipes."""

    def __init__(self, tally: Tally, console: Console) -> None:
        self._tally, self._console = tally, console

    def __enter__(self) -> PlainLines:
        return self

    def __exit__(self, *_: object) -> None:
        pass

    def completed(self, run: PlannedRun, row: Mapping[str, Any]) -> None:
        """Print accuracies and time of the training, and the time left."""
        left = self._tally.left()
        self._print(
            f"{run.label}: validation worst-class {row['val_worst_class_accuracy']:.1%}, "
            f"average {row['val_average_accuracy']:.1%} in {duration(row['train_seconds'])}"
            + (f"; {left}" if left else "")
        )

    def paused(self, run: PlannedRun, pruned: bool) -> None:
        """Print that the training was pruned."""
        if pruned:
            self._print(f"pruned: {run.label}")

    def retried(self, run: PlannedRun, cause: str) -> None:
        """Print the failure."""
        self._print(f"failed: {run.label}: {cause}")

    def failed(self, run: PlannedRun, cause: str) -> None:
        """Print the failure."""
        self._print(f"failed: {run.label}: {cause}")

    def _print(self, line: str) -> None:
        tally = self._tally
        ended, total = sum(tally.ended.values()), tally.teachers + tally.students
        self._console.print(
            f"[{ended}/{total}] {line}", markup=False, highlight=False, soft_wrap=True
        )


class Silence(Watcher):
    """Display of failures only, for ``--quiet``."""

    def __init__(self, console: Console) -> None:
        self._console = console

    def failed(self, run: PlannedRun, cause: str) -> None:
        """Print the failure."""
        self._console.print(f"failed: {run.label}: {cause}", markup=False, soft_wrap=True)


@contextlib.contextmanager
def display_for(tally: Tally, console: Console, quiet: bool) -> Iterator[Watcher]:
    """Yield the display for the output: live on a terminal, plain lines elsewhere, or none.

    A pipe or a dumb terminal gets plain lines, even if colors are forced.
    """
    if quiet:
        yield Silence(console)
        return
    redraws = console.is_interactive and not console.is_dumb_terminal and console.file.isatty()
    kind = LiveDisplay if redraws else PlainLines
    with kind(tally, console) as display:
        yield display


def _running_line(run: PlannedRun, progress: Mapping[str, Any]) -> Text:
    line = Text(run.label, no_wrap=True, overflow="ellipsis")
    if "epoch" in progress:
        line.append(f"  epoch {progress['epoch']} of {progress['epochs']}", style="dim")
        line.append(f"  loss {progress['train_loss']:.3f}", style="dim")
    else:
        line.append("  starting", style="dim")
    return line
