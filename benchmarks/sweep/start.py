"""Measure the seconds from the command to the first training step, with a fresh cache.

    python benchmarks/sweep/start.py [--quick]

Runs ``python sweeps/pareto.py --dataset digits-lt`` into an empty folder and interrupts it after a
worker process has taken a step. The row is wall seconds. ``cpu_seconds`` is the CPU time of all its
processes until then, including Ray's, and depends less on the load of the machine.

It takes about a minute on two idle cores.
"""

from __future__ import annotations

import contextlib
import os
import signal
import subprocess
import sys
import tempfile
import time
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[2]))  # the repository root

from benchmarks.report import ROOT, print_row, quick, spread

GOAL = "<= 8"
REPETITIONS = 5
HOOK = '''
"""Record the time of a worker's first step; on the PYTHONPATH of all processes."""
import importlib.abc, importlib.machinery, os, sys, time

class Finder(importlib.abc.MetaPathFinder):
    def find_spec(self, name, path, target=None):
        if name != "rkd_core.training.steps":
            return None
        sys.meta_path.remove(self)
        spec = importlib.machinery.PathFinder.find_spec(name, path)
        execute = spec.loader.exec_module
        def exec_module(module):
            execute(module)
            step = module.EagerSteps.__call__
            def first(*arguments):
                losses = step(*arguments)
                module.EagerSteps.__call__ = step
                with open(os.environ["RKD_START"] + "/step", "x") as file:
                    file.write(repr(time.time()))
                return losses
            module.EagerSteps.__call__ = first
        spec.loader.exec_module = exec_module
        return spec

if any("default_worker.py" in argument for argument in sys.orig_argv):
    sys.meta_path.insert(0, Finder())
'''


def main() -> None:
    """Start the command several times, and print the row."""
    walls, cpus = [], []
    for _ in range(1 if quick() else REPETITIONS):
        wall, cpu = start()
        walls.append(wall)
        cpus.append(cpu)
    print_row(
        "start", spread(walls, 2), GOAL, {"cpu_seconds": spread(cpus, 2), "repetitions": len(walls)}
    )


def start() -> tuple[float, float]:
    """Return wall and CPU seconds until the first step of one command, then interrupt it."""
    with tempfile.TemporaryDirectory(prefix="rkd-start-") as scratch:
        folder = Path(scratch)
        (folder / "sitecustomize.py").write_text(HOOK)
        paths = os.pathsep.join([scratch, os.environ.get("PYTHONPATH", "")]).strip(os.pathsep)
        own = {"RKD_START": scratch, "RKD_CACHE_DIR": str(folder / "cache"), "PYTHONPATH": paths}
        command = sys.executable, ROOT / "sweeps" / "pareto.py", "--dataset", "digits-lt"
        began = time.time()
        process = subprocess.Popen(
            [*command, "--out", folder / "results"],
            env=os.environ | own,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
            start_new_session=True,
        )
        step = folder / "step"
        while not step.exists() or not step.read_text():
            if process.poll() is not None:
                raise SystemExit(f"the command ended with exit code {process.returncode}")
            time.sleep(0.02)
        cpu = cpu_seconds(f"RKD_START={scratch}")
        wall = float(step.read_text()) - began
        process.send_signal(signal.SIGINT)
        process.wait()
        return wall, cpu


def cpu_seconds(marked: str) -> float:
    """Return CPU seconds of all processes with this in their environment, and of ended children."""
    ticks = 0
    for path in Path("/proc").glob("[0-9]*"):
        with contextlib.suppress(OSError):  # the process has ended
            if marked.encode() in (path / "environ").read_bytes().split(b"\0"):
                fields = (path / "stat").read_text().rpartition(")")[2].split()
                ticks += sum(map(int, fields[11:15]))
    return ticks / os.sysconf("SC_CLK_TCK")


if __name__ == "__main__":
    main()
