"""Run all benchmarks that need no GPU, and print their rows as a table.

    python benchmarks/all.py [--quick] [--data-dir DIR] > table.md

docs/performance.md has the results of such a run, with explanations. The output and the duration of
each benchmark go to stderr while it runs. The whole takes about an hour on two otherwise idle
cores.
"""

from __future__ import annotations

import json
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))  # the repository root

from benchmarks.report import ROOT, quick_and_data_dir

WITH_DATA = (
    "training/batches",
    "training/train_core",
    "training/teacher_cache",
    "training/packing",
    "training/precision",
    "sweep/mini_sweep",
    "selection/shifts",
)
WITHOUT_DATA = (
    "training/method_cost",
    "training/stacked",
    "sweep/simulate",
    "selection/million_records",
    "selection/truth",
    "selection/paired",
    "search/replay",
    "sweep/engine",
    "sweep/makespan",
    "sweep/start",
)


def main() -> None:
    """Run the benchmarks, and print the table."""
    small, data_dir = quick_and_data_dir()
    options = ["--quick"] if small else []
    found = ["--data-dir", str(data_dir)] if data_dir is not None else []
    rows: list[tuple[str, dict[str, Any]]] = []
    for name in (*WITH_DATA[:4], *WITHOUT_DATA, *WITH_DATA[4:]):
        script = ROOT / "benchmarks" / f"{name}.py"
        start = time.monotonic()
        done = subprocess.run(
            [sys.executable, str(script), *options, *(found if name in WITH_DATA else [])],
            stdout=subprocess.PIPE,
            text=True,
            check=False,
        )
        print(done.stdout, end="", file=sys.stderr)
        print(f"{name}: {time.monotonic() - start:.0f} s", file=sys.stderr)
        if done.returncode != 0:
            raise SystemExit(f"{name} failed with exit code {done.returncode}")
        lines = [line for line in done.stdout.splitlines() if line.startswith('{"name"')]
        rows += [(name, json.loads(line)) for line in lines]
    print(table(rows))


def table(rows: list[tuple[str, dict[str, Any]]]) -> str:
    """Return the rows, each with its script's name, as a Markdown table."""
    lines = ["| script | row | goal | median (least to most) |", "|---|---|---|---|"]
    for script, row in rows:
        median, low, high = (row[f"ratio_{which}"] for which in ("median", "min", "max"))
        figures = f"{median:.2f} ({low:.2f} to {high:.2f})"
        lines.append(f"| `benchmarks/{script}.py` | `{row['name']}` | {row['goal']} | {figures} |")
    return "\n".join(lines)


if __name__ == "__main__":
    main()
