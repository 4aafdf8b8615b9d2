"""Measure the minutes of the whole CIFAR-10-LT grid of Wang et al. on a GPU.

    python benchmarks/gpu/whole_grid.py [--quick] [--data-dir DIR]

6 teachers and 108 students, ResNet-56, 200 epochs: ``sweeps/pareto.py`` from the start of the
process to its end, in a fresh folder, without Ray if that is not installed. ``ratio_median`` is
minutes. There is only one run, because it takes as long as the goal.

It needs a CUDA device. With ``--quick`` a tiny grid of digits runs on the CPU.
"""

from __future__ import annotations

import importlib.util
import shlex
import subprocess
import sys
import tempfile
import time
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[2]))  # the repository root

from benchmarks.gpu.student_array import arguments
from benchmarks.report import ROOT, print_row, spread

GOAL = "< 45 minutes"
FULL = shlex.split(
    "--dataset cifar10-lt --scale paper --epochs 200 --alphas 0 0.25 0.5 0.75 1 "
    "--temperatures 1 3 5 --no-undistilled --teacher-architecture resnet56 --student-architecture resnet56"
)
QUICK = shlex.split(
    "--dataset digits-lt --epochs 1 --alphas 1 --temperatures 1 --gpus-per-trial 0 "
    "--students-per-trial 2 --serial"
)


def main() -> None:
    """Run the command once, and print the row."""
    from rkd_core import records

    small, data_dir = arguments()
    options = QUICK if small else FULL
    if data_dir is not None:
        options = [*options, "--data-dir", str(data_dir)]
    if importlib.util.find_spec("ray") is None and not small:
        options = [*options, "--serial"]
    with tempfile.TemporaryDirectory(prefix="rkd-grid-") as name:
        out = Path(name) / "out"
        command = [sys.executable, str(ROOT / "sweeps" / "pareto.py"), *options, "--out", str(out)]
        start = time.perf_counter()
        done = subprocess.run(command, capture_output=True, text=True, check=False)
        minutes = (time.perf_counter() - start) / 60
        if done.returncode != 0:
            raise RuntimeError(f"{shlex.join(command)} failed:\n{done.stderr[-2000:]}")
        rows = records.read(out / "records").to_pylist()
    details = {
        "repetitions": 1,
        "trainings": len(rows),
        "device": rows[0]["device"],
        "trained_together": max(row["trained_together"] for row in rows),
        "training_minutes": round(sum(row["train_seconds"] for row in rows) / 60, 2),
    }
    print_row("grid", spread([minutes]), GOAL, details)


if __name__ == "__main__":
    main()
