"""Simulate a sweep of 10,000 students over 100 teachers on 64 slots.

    python benchmarks/sweep/simulate.py [--quick]

Everything but the trainings and Ray's own processes is real. The grid becomes a plan, and the plan
a schedule. The searcher that Ray Tune calls hands out the runs and receives their results. The
plain display prints a line for each, and each record is written to a ledger on disk and read back
at the end. A heap of finishing times replaces the clock. The overhead per trial is the real time of
all that, from planning to the last record, over the number of trials. The row is its ratio between
10,100 and 1,010 trials, which is 1 if nothing grows faster than the number of trials. The
same grid is run with ten seeds and with one, in turns, each in a process of its own.

It takes about 4 minutes.
"""

from __future__ import annotations

import heapq
import io
import statistics
import sys
import tempfile
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any

sys.path.insert(0, str(Path(__file__).resolve().parents[2]))  # the repository root

from benchmarks.report import fresh, peak_mib, print_row, quick, spread
from benchmarks.sweep import synthetic_plan

if TYPE_CHECKING:
    from rich.console import Console

    from sweeps.planning.plan import Plan, PlannedRun

SLOTS = 64
GOAL = "<= 1.2"


def measure(seeds: int, side: int) -> dict[str, float]:
    """Simulate one sweep after a small one that warms up.

    Returns:
        Trials; milliseconds per trial in total, without the ledger, for planning, and for reading
        the ledger back; simulated makespan over its lower bound; MiB before and at the peak.
    """
    simulate(1, 3)
    return simulate(seeds, side)


def simulate(seeds: int, side: int) -> dict[str, float]:
    """Plan and run ``seeds`` grids of ``side`` teachers, each with ``side**2`` students."""
    from rich.console import Console

    from rkd_core import records

    memory_before = peak_mib()
    began = time.perf_counter()
    plan = synthetic_plan.plan(side, side, seeds)
    planned = time.perf_counter()
    with tempfile.TemporaryDirectory(prefix="rkd-simulate-") as folder:
        lines = io.StringIO()
        makespan, ledger = _run(plan, Path(folder), Console(file=lines, width=200))
        ended = time.perf_counter()
        memory = peak_mib()
        table = records.read(Path(folder) / "records")
        read = time.perf_counter() - ended
    trials = len(plan)
    completed = table["status"].to_pylist().count("completed")
    if not trials == completed == lines.getvalue().count("\n") == seeds * (side + side**3):
        raise RuntimeError(f"{completed} of {trials} trials are completed")
    return {
        "trials": trials,
        "ms": (ended - began) * 1e3 / trials,
        "ms_without_ledger": (ended - began - ledger) * 1e3 / trials,
        "ms_plan": (planned - began) * 1e3 / trials,
        "ms_read_back": read * 1e3 / trials,
        "makespan": makespan,
        "mib_before": memory_before,
        "mib": memory,
    }


def _run(plan: Plan, out: Path, console: Console) -> tuple[float, float]:
    """Run a plan; return the makespan over its lower bound, and the seconds of the ledger."""
    from analysis.selection.criteria import Constrained
    from rkd_core import records
    from sweeps.display.progress import Tally, display_for
    from sweeps.planning.cost import CostModel
    from sweeps.running.on_ray.searcher import PlanSearcher
    from sweeps.running.sweep import Sweep

    seconds = synthetic_plan.lengths(plan, 60.0)
    runs = {run.run_id: run for run in plan.runs}
    under_way: list[tuple[float, str, str]] = []  # end time, trial id, run id
    clock, trials, ledger = 0.0, 0, 0.0
    tally = Tally(plan, set(), out, CostModel(), images=1000, slots=SLOTS, criterion=Constrained())
    with display_for(tally, console, quiet=False) as display:
        searcher = PlanSearcher(Sweep(plan, set(), out, synthetic_plan.FINGERPRINT, tally, display))
        while True:
            while len(under_way) < SLOTS:
                config = searcher.suggest(f"{trials}")
                if not isinstance(config, dict):
                    break
                run_id = config["run_id"]
                heapq.heappush(under_way, (clock + seconds[run_id], f"{trials}", run_id))
                trials += 1
            if not under_way:
                break
            clock, trial_id, run_id = heapq.heappop(under_way)
            before = time.perf_counter()
            row = _record(runs[run_id], seconds[run_id])
            records.write(out / "records", row)
            ledger += time.perf_counter() - before
            searcher.on_trial_complete(trial_id, row)
    return clock / synthetic_plan.lower_bound(plan, seconds, SLOTS), ledger


def _record(run: PlannedRun, seconds: float) -> dict[str, Any]:
    from rkd_core import records

    correct = [50 + int(digit, 16) for digit in run.run_id[:10]]
    figures = {f"{split}_class_total": [100] * 10 for split in ("train", "val", "test")}
    figures |= {f"{split}_class_correct": correct for split in ("val", "test")}
    return records.identity(run.spec, run.run_id, synthetic_plan.FINGERPRINT) | {
        **figures,
        "val_average_accuracy": sum(correct) / 1000,
        "val_worst_class_accuracy": min(correct) / 100,
        "train_seconds": seconds,
        "status": "completed",
    }


def main() -> None:
    """Run the small and the large sweep in turns, and print the row."""
    side, many, repetitions = (4, 5, 1) if quick() else (10, 10, 5)
    small, large = [], []
    for _ in range(repetitions):
        small.append(fresh(measure, 1, side))
        large.append(fresh(measure, many, side))

    def both(name: str) -> dict[str, dict[str, float]]:
        return {
            f"{int(samples[0]['trials'])}": spread([sample[name] for sample in samples])
            for samples in (small, large)
        }

    def medians(name: str) -> float:
        one, other = both(name).values()
        return round(other["median"] / one["median"], 4)

    ratio = spread([b["ms"] / a["ms"] for a, b in zip(small, large, strict=True)])
    details = {
        "repetitions": repetitions,
        "pairwise_median": ratio["median"],
        "ratio_without_ledger": medians("ms_without_ledger"),
        "ratio_read_back": medians("ms_read_back"),
        "ms_per_trial": both("ms"),
        "ms_per_trial_without_ledger": both("ms_without_ledger"),
        "ms_per_trial_planning": both("ms_plan"),
        "ms_per_trial_reading_back": both("ms_read_back"),
        "peak_mib": both("mib"),
        "mib_before": statistics.median(sample["mib_before"] for sample in small + large),
        "makespan_over_lower_bound": both("makespan"),
    }
    print_row("simulate", ratio | {"median": medians("ms")}, GOAL, details)


if __name__ == "__main__":
    main()
