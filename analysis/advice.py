"""How to settle a selection, in words and as the command that trains exactly what it takes."""

from __future__ import annotations

import shlex
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from analysis.columns import effective_alpha
from analysis.combinations import Combinations
from analysis.settling import Settling
from rkd_core import files, json_text

__all__ = ["advice", "described"]

Cell = tuple[str, str, str]


def advice(settling: Settling, combinations: Combinations, results: Path) -> list[str]:
    """Lines that say what to repeat; the last is the command, where the folder has a plan.

    Args:
        settling: What to repeat.
        combinations: That it speaks of.
        results: Results folder; its ``plan.json`` has the command of the sweep.
    """
    now, target = (f"{100 * regret:.2f}" for regret in (settling.regret, settling.target))
    if settling.settled:
        return [f"Settled: the expected regret is {now} points, of {target} that were asked for"]
    after = f"{100 * settling.after:.2f}"
    count, teachers = _trainings(settling, combinations)
    seeds = "a further seed" if settling.seeds == 1 else f"{settling.seeds} further seeds"
    lines = [
        f"To bring the expected regret from {now} points to {after} ({target} asked for): {seeds} "
        f"of {len(settling.places)} combinations, {count} students and at most {teachers} teachers"
    ]
    if not settling.reached:
        lines.append(f"No number of seeds that was tried brings it to {target}; that is the best")
    if int(combinations.seeds.max()) == 1:
        lines.append("With one seed nobody knows how far seeds differ: train these, and ask again")
    command = _command(settling, combinations, results)
    return [*lines, *([] if command is None else [command])]


def described(settling: Settling | None, combinations: Combinations) -> dict[str, Any] | None:
    """The same as plain data, for ``selection.json``."""
    if settling is None:
        return None
    return {
        "target_regret": settling.target,
        "expected_regret_after": settling.after,
        "seeds": settling.seeds,
        "combinations": [
            "/".join(_cell(combinations, place)) + combinations.aside(place)
            for place in settling.places
        ],
        "reached": settling.reached,
    }


def _trainings(settling: Settling, c: Combinations) -> tuple[int, int]:
    rows = list(settling.places)
    teachers = set(effective_alpha(c.teacher_objective, c.alpha_t)[rows].tolist())
    return len(rows) * settling.seeds, len(teachers) * settling.seeds


def _command(settling: Settling, combinations: Combinations, results: Path) -> str | None:
    """The sweep's own command, and what to repeat beside what it repeats already."""
    try:
        plan = json_text.parse(files.read(results / "plan.json"))
        words = [str(word) for word in plan["command"]]
        seeds, repeats = len(plan["settings"]["seeds"]), _repeated(plan["settings"])
    except (OSError, ValueError, KeyError, TypeError):
        return None
    if any(combinations.aside(place) for place in settling.places):
        return None  # --repeat names combinations of the sweep's recipe
    for place in settling.places:
        cell = _cell(combinations, place)
        more = max(int(combinations.seeds[place]) - seeds, 0)  # as far as they are trained
        repeats[cell] = max(more + settling.seeds, repeats.get(cell, 0))
    named = [f"{'/'.join(cell)}={number}" for cell, number in repeats.items()]
    return shlex.join(["python", *_without(words, "--repeat"), "--repeat", *named])


def _repeated(settings: Mapping[str, Any]) -> dict[Cell, int]:
    return {
        (_amount(r["alpha_t"]), _amount(r["alpha_s"]), f"{r['temperature']:.12g}"): int(r["seeds"])
        for r in settings.get("repeats", ())
    }


def _cell(c: Combinations, place: int) -> Cell:
    alpha_t = effective_alpha(c.teacher_objective, c.alpha_t)[place]
    alpha_s = effective_alpha(c.student_objective, c.alpha_s)[place]
    return _amount(alpha_t), _amount(alpha_s), f"{c.temperature[place]:.12g}"


def _amount(alpha: float | None) -> str:
    return "standard" if alpha is None or alpha < 0 else f"{np.float64(alpha):.12g}"


def _without(words: Sequence[str], option: str) -> list[str]:
    """A command line without an option and its values."""
    kept, inside = [], False
    for word in words:
        inside = word == option or (inside and not word.startswith("--"))
        if not inside and not word.startswith(f"{option}="):
            kept.append(word)
    return kept
