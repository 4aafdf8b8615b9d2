"""A sweep as a subprocess that tests kill, and its state as seen from outside."""

from __future__ import annotations

import hashlib
import json
import os
import random
import re
import subprocess
import sys
import time
import uuid
from collections import defaultdict
from collections.abc import Callable
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import Any

import psutil

from rkd_core import records

ROOT = Path(__file__).resolve().parents[2]
HOOK = Path(__file__).resolve().parent / "hook"
TIMES = {"train_seconds", "started_at", "host"}
PATIENCE = 900.0
"""Seconds; a machine that stalls is no reason to fail."""

LINGER = 90.0
"""Seconds after which no process of a sweep may be alive; `ray start` agents stay about 61."""


class Command:
    """Repeated runs of ``python sweeps/pareto.py`` on one folder, and all their processes.

    Args:
        folder: Of the test; the sweep's results are in ``out``, what the hook keeps in ``chaos``.
        arguments: Of the command; ``--out`` is added.
        faults: Whether ``fault`` may make writes fail.
    """

    def __init__(self, folder: Path, *arguments: object, faults: bool = False) -> None:
        self.out, self.chaos = folder / "out", folder / "chaos"
        self.chaos.mkdir(parents=True, exist_ok=True)
        self._mark = f"chaos-{uuid.uuid4().hex}"  # in the environment of all its processes
        self._arguments = [*map(str, arguments), "--out", str(self.out)]
        self.environment = os.environ | {
            "CHAOS_MARK": self._mark,
            "CHAOS_FOLDER": str(self.chaos),
            "CHAOS_OUT": str(self.out) if faults else "",
            "PYTHONPATH": str(HOOK),
            "COLUMNS": "200",
        }
        self.lives = 0
        self._started: list[subprocess.Popen[bytes]] = []

    def start(self, *more: object) -> subprocess.Popen[bytes]:
        """Start or restart the command; its output goes to ``chaos/<life>.out`` and ``.err``.

        Args:
            more: Options of this life only.
        """
        self.lives += 1
        with self.printed("out").open("wb") as out, self.printed("err").open("wb") as errors:
            process = subprocess.Popen(
                [
                    sys.executable,
                    str(ROOT / "sweeps" / "pareto.py"),
                    *self._arguments,
                    *map(str, more),
                ],
                stdout=out,
                stderr=errors,
                env=self.environment,
                start_new_session=True,
            )
        self._started.append(process)
        return process

    def printed(self, stream: str, life: int | None = None) -> Path:
        """Return the path of the output of a run, by default the last one."""
        return self.chaos / f"{life or self.lives}.{stream}"

    def finish(self, *more: object) -> int:
        """Run to the end, with more options, and return the exit code."""
        return self.start(*more).wait(PATIENCE)

    def processes(self) -> list[psutil.Process]:
        """Return all live processes that a command of this object has started, directly or not."""
        found = []
        for process in psutil.process_iter():
            try:
                if (
                    process.environ().get("CHAOS_MARK") == self._mark
                    and process.status() != psutil.STATUS_ZOMBIE
                ):
                    found.append(process)
            except psutil.Error:  # it has gone meanwhile, or is not ours to look at
                continue
        return found

    def workers(self) -> dict[int, psutil.Process]:
        """Return Ray's worker processes by pid."""
        found = {}
        for process in self.processes():
            try:
                if process.cmdline()[0].startswith("ray::"):
                    found[process.pid] = process
            except (psutil.Error, IndexError):
                continue
        return found

    def cut_power(self) -> None:
        """Kill all its processes until none is left."""
        deadline = time.monotonic() + PATIENCE
        while processes := self.processes():
            assert time.monotonic() < deadline, processes
            for process in processes:
                try:
                    process.kill()
                except psutil.Error:
                    continue
            psutil.wait_procs(processes, 1.0)
        for started in self._started:
            started.wait(PATIENCE)

    def journal(self) -> list[Epoch]:
        """Return the epochs trained so far, in the order in which they ended."""
        path = self.chaos / "journal"
        if not path.exists():
            return []
        lines = path.read_text().split("\n")[:-1]
        return [
            Epoch(run_id, int(epoch), int(pid), float(when))
            for run_id, epoch, pid, when in map(str.split, lines)
        ]

    def epochs(self) -> int:
        """Return the number of epochs trained so far, without parsing them."""
        path = self.chaos / "journal"
        return path.read_bytes().count(b"\n") if path.exists() else 0

    def events(self) -> list[Event]:
        """Return the starts and ends of trainings in ``sweep.log``, in its order."""
        path = self.out / "sweep.log"
        lines = path.read_text().splitlines() if path.exists() else []
        found = (_EVENT.fullmatch(line) for line in lines)
        return [
            Event(datetime.fromisoformat(m[1]).timestamp(), m[2], m[3], m[4]) for m in found if m
        ]

    def planned(self) -> list[str]:
        """Return the run ids in ``plan.json``."""
        return list(json.loads((self.out / "plan.json").read_text())["run_ids"])

    def committed(self) -> dict[str, str]:
        """Return the SHA-256 of every visible file of completed records and artifacts."""
        sums = {}
        for path in sorted((self.out / "artifacts").glob("[!.]*/*")):
            sums[f"artifacts/{path.parent.name}/{path.name}"] = _digest(path)
        for run_id, row in self.rows().items():
            if row["status"] == "completed":
                path = self.out / "records" / f"{run_id}.parquet"
                sums[f"records/{path.name}"] = _digest(path)
        return sums

    def completed(self) -> set[str]:
        """Return the run ids with a completed record."""
        return {Path(p).stem for p in self.committed() if p.startswith("records/")}

    def rows(self) -> dict[str, dict[str, Any]]:
        """Return all records by run id, without times and hosts."""
        table = records.read(self.out / "records").to_pylist()
        return {row["run_id"]: {k: v for k, v in row.items() if k not in TIMES} for row in table}


@dataclass(frozen=True)
class Epoch:
    """A line of the journal: one epoch of a training."""

    run_id: str
    epoch: int
    pid: int
    when: float


@dataclass(frozen=True)
class Event:
    """A line of ``sweep.log``."""

    when: float
    kind: str  # started, completed, failed
    run_id: str
    rest: str


_EVENT = re.compile(r"(\S+ \S+) \w+ sweeps\.running\.sweep: (started|completed|failed) (\w+) (.*)")


def repaid(journal: list[Epoch]) -> list[int]:
    """Return the number of repeated epochs for each restart of a training."""
    attempts: defaultdict[str, dict[int, list[int]]] = defaultdict(dict)
    for line in journal:
        attempts[line.run_id].setdefault(line.pid, []).append(line.epoch)
    costs = []
    for of_run in attempts.values():
        done = 0
        for epochs in of_run.values():
            assert epochs == list(range(epochs[0], epochs[-1] + 1)), epochs
            assert epochs[0] <= done, f"epochs {done} to {epochs[0]} were left out"
            if done:
                costs.append(done - epochs[0])
            done = max(done, epochs[-1] + 1)
    return costs


def wait_for(condition: Callable[[], object], process: subprocess.Popen[bytes]) -> bool:
    """Wait until a condition holds; return False if the command ends first."""
    deadline = time.monotonic() + PATIENCE
    while not condition():
        assert time.monotonic() < deadline, f"waited in vain for {condition}"
        if process.poll() is not None:
            return False
        time.sleep(0.005)
    return True


def assert_whole(command: Command) -> None:
    """Assert that every planned run has one completed record and an undamaged artifact."""
    rows = command.rows()
    assert sorted(rows) == sorted(command.planned())
    assert {row["status"] for row in rows.values()} == {"completed"}
    names = {p.name for p in (command.out / "artifacts").iterdir() if not p.name.startswith(".")}
    assert names == set(rows)
    done = subprocess.run(
        [sys.executable, "-m", "sweeps.verify", str(command.out)],
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    assert done.stdout == f"{len(rows)} trainings are whole\n"


def assert_gone(command: Command, seconds: float = LINGER) -> float:
    """Assert that no process is left after that many seconds; return the time that it took."""
    began = time.monotonic()
    while left := command.processes():
        waited = time.monotonic() - began
        assert waited < seconds, [(p.pid, p.cmdline()[:3]) for p in left]
        time.sleep(0.2)
    return time.monotonic() - began


def seeded(seed: int, *names: object) -> random.Random:
    """Return a random stream of its own for each purpose."""
    return random.Random(":".join(map(str, (seed, *names))))


def _digest(path: Path) -> str:
    return hashlib.sha256(path.read_bytes()).hexdigest()
