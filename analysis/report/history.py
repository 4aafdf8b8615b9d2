"""History of a sweep: command, time, failures, reused runs and versions."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc

from analysis.runs.loading import Runs
from analysis.views.format import readable
from rkd_core.storage import files
from rkd_core.storage.files import Location
from rkd_core.text import json_text
from rkd_core.text.numbers import plural
from rkd_core.text.terminal import command_line

__all__ = ["Failures", "History", "history"]

_CAUSES = 10
"""Maximum number of causes of failure to list."""
_LONGEST = 300
"""Maximum number of characters of a cause, or of a set of versions."""


@dataclass(frozen=True)
class Failures:
    """Failed runs with the same status and cause."""

    count: int
    status: str
    cause: str
    example: str
    """One of their run ids."""


@dataclass(frozen=True)
class History:
    """Facts about a sweep as text; empty if the records lack them."""

    command: str
    lines: tuple[tuple[str, str], ...]
    """Names and values of facts."""
    failures: tuple[Failures, ...]
    more_causes: int
    """Number of causes that are not listed."""
    versions: tuple[str, ...]
    """Each distinct set of versions used for training."""
    completed: int
    """Number of completed runs."""
    planned: int
    """Number of runs in the plan; 0 without a plan."""


def history(runs: Runs, results: Location) -> History:
    """Return the history from the records, and from the plan if there is one."""
    plan = _plan(results)
    is_completed = pc.equal(runs.every["status"], "completed")
    completed, ended = runs.every.filter(is_completed), runs.every.filter(pc.invert(is_completed))
    ends = [
        (status, readable(cause or "for a reason that is not recorded", _LONGEST))
        for status, cause in zip(*(ended[n].to_pylist() for n in ("status", "cause")), strict=True)
    ]
    failures, ids = Counter(ends), dict(zip(ends, ended["run_id"].to_pylist(), strict=True))
    found = [
        Failures(count, status, cause, ids[status, cause])
        for (status, cause), count in failures.most_common()
    ]
    return History(
        command=_command(plan),
        lines=tuple(_facts(completed, len(ended), plan)),
        failures=tuple(found[:_CAUSES]),
        more_causes=max(0, len(found) - _CAUSES),
        versions=tuple(_versions(completed)),
        completed=len(completed),
        planned=len(plan.get("run_ids") or ()),
    )


def _facts(completed: pa.Table, ended: int, plan: Mapping[str, Any]) -> list[tuple[str, str]]:
    stages = Counter(completed["stage"].to_pylist())
    trained = [f"{plural(stages[stage], stage)}" for stage in ("teacher", "student")]
    facts = [("Trained", " and ".join(trained))]
    if ended:
        facts.append(("Did not complete", plural(ended, "run")))
    rows = completed.select(["started_at", "train_seconds", "device", "host", "precision"])
    timed = [row for row in rows.to_pylist() if row["started_at"] and row["train_seconds"]]
    written = _written_at(plan)
    if written is not None and timed:
        reused = sum(row["started_at"] < written for row in timed)
        words = "none" if reused == 0 else "all" if reused == len(timed) else f"{reused:,}"
        facts.append(("Reused from before the last command", words))
    if timed:
        first = min(row["started_at"] for row in timed)
        last = max(row["started_at"] + timedelta(seconds=row["train_seconds"]) for row in timed)
        seconds = sum(row["train_seconds"] for row in timed)
        facts += [
            ("Began", f"{first:%Y-%m-%d %H:%M} UTC"),
            ("From the first to the last", _duration((last - first).total_seconds())),
            ("Training time, all together", _duration(seconds)),
        ]
    for title, name in (("Devices", "device"), ("Precision", "precision")):
        different = Counter(str(v) for v in completed[name].to_pylist() if v is not None)
        if different:
            shown = [f"{readable(v)} ({n:,})" for v, n in different.most_common(5)]
            alone = len(different) == 1
            facts.append((title, readable(next(iter(different))) if alone else ", ".join(shown)))
    machines = len(set(completed["host"].drop_null().to_pylist()))
    if machines > 1:
        facts.append(("Machines", str(machines)))
    return facts


def _duration(seconds: float) -> str:
    """Return a duration such as ``42 s``, ``3.5 min`` or ``1.2 h``."""
    for size, unit in ((3600, "h"), (60, "min")):
        if seconds >= size:
            return f"{seconds / size:,.1f} {unit}"
    return f"{seconds:.0f} s"


def _plan(results: Location) -> Mapping[str, Any]:
    """Return the plan of the folder; empty if there is none or it cannot be read."""
    try:
        plan = json_text.parse(files.read(results / "plan.json"))
    except (OSError, ValueError):
        return {}
    return plan if isinstance(plan, dict) else {}


def _command(plan: Mapping[str, Any]) -> str:
    command = plan.get("command")
    if not isinstance(command, list) or not all(isinstance(word, str) for word in command):
        return ""
    return command_line(command)


def _written_at(plan: Mapping[str, Any]) -> datetime | None:
    try:
        return datetime.strptime(str(plan.get("written_at")), "%Y-%m-%dT%H:%M:%SZ").replace(
            tzinfo=UTC
        )
    except ValueError:
        return None


def _versions(completed: pa.Table) -> list[str]:
    """Return each distinct set of versions, as ``python 3.11.7, torch 2.15.0 (166 runs)``."""
    sets = Counter(text for text in completed["versions"].to_pylist() if text)
    shown = []
    for text, count in sets.most_common(_CAUSES):
        try:
            versions = json.loads(text)
            parts = [f"{name} {number}" for name, number in versions.items() if number]
        except (ValueError, AttributeError):
            continue
        suffix = f" ({plural(count, 'run')})" if len(sets) > 1 else ""
        shown.append(readable(", ".join(parts), _LONGEST) + suffix)
    return shown
