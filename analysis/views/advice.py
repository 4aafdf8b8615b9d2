"""Proposals of further seeds, as text and as a command."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from analysis.runs.columns import objective_names, positions
from analysis.runs.combinations import Combinations
from analysis.selection.further_seeds import Settling
from rkd_core.objectives import by_alpha, on_grid
from rkd_core.objectives import names as objectives
from rkd_core.storage import files
from rkd_core.storage.files import Location
from rkd_core.text import json_text
from rkd_core.text.numbers import percent
from rkd_core.text.terminal import command_line

__all__ = ["advice", "described"]

Cell = tuple[str, str, str]


def advice(settling: Settling, combinations: Combinations, results: Location) -> list[str]:
    """Return the proposal as lines; the last is a command if the folder has a plan.

    Args:
        settling: The proposal.
        combinations: The combinations it refers to.
        results: Results folder, whose ``plan.json`` contains the command of the sweep.
    """
    now, target = (percent(regret, 2) for regret in (settling.regret, settling.target))
    alike = "" if combinations.unshifted.all() else " among students with the selected shift"
    if settling.settled:
        return [f"Settled: the expected regret{alike} is {now} points; the target is {target}"]
    after = percent(settling.after, 2)
    count, teachers = _trainings(settling, combinations)
    seeds = "a further seed" if settling.seeds == 1 else f"{settling.seeds} further seeds"
    lines = [
        f"To reduce the expected regret{alike} from {now} points to {after} (target {target}): "
        f"{seeds} of {len(settling.places)} combinations, {count} students and at most {teachers} "
        "teachers"
    ]
    lines += _limits(settling, combinations, target)
    command = _command(settling, combinations, results)
    return [*lines, *([] if command is None else [command])]


def _limits(settling: Settling, c: Combinations, target: str) -> list[str]:
    """Return lines on targets out of reach, their cost, and cheaper alternatives."""
    lines, beyond = [], settling.beyond
    furthest = beyond or settling
    if not furthest.reached:
        lines.append(f"No number of seeds that was tried reaches {target}; this is the nearest")
    if beyond is not None:
        lines[:] = [
            f"{target if beyond.reached else percent(beyond.after, 2)} would take "
            f"{beyond.students:,} students ({beyond.seeds} further seeds of {len(beyond.places)} "
            f"combinations; the grid has {c.students:,} students so far): a weaker target, "
            f"such as --target-regret {_above(settling.after)}, is reached by the seeds above",
            *(lines if not beyond.reached else []),
        ]
    if settling.another_grid is not None:
        lines.append(
            f"One further seed of the whole grid, {int(c.unshifted.sum()):,} students, would leave "
            f"{percent(settling.another_grid, 2)} points"
        )
    if int(c.seeds.max()) == 1:
        images = int(c.class_total[0].sum())
        lines.append(
            "One seed does not show how much seeds differ: train a second seed of these first and "
            "select again. More validation images need no further training: four times the "
            f"{images:,} available halve the noise of counting"
        )
    return lines


def _above(regret: float) -> str:
    """Return a fraction rounded up to two digits, for a command line."""
    if regret <= 0:
        return "0.0001"
    digits = 1 - math.floor(math.log10(regret))
    return f"{math.ceil(regret * 10**digits) / 10**digits:.12g}"


def described(settling: Settling | None, combinations: Combinations) -> dict[str, Any] | None:
    """Return the proposal as plain data, for ``selection.json``."""
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
        "students": settling.students,
        "students_so_far": combinations.students,
        "expected_regret_after_another_grid": settling.another_grid,
        "beyond": None
        if settling.beyond is None
        else {
            "expected_regret_after": settling.beyond.after,
            "seeds": settling.beyond.seeds,
            "combinations": len(settling.beyond.places),
            "students": settling.beyond.students,
            "reached": settling.beyond.reached,
        },
    }


def _trainings(settling: Settling, c: Combinations) -> tuple[int, int]:
    rows = list(settling.places)
    teachers = set(positions(c.teacher_objective, c.alpha_t)[rows].tolist())
    return len(rows) * settling.seeds, len(teachers) * settling.seeds


def _command(settling: Settling, combinations: Combinations, results: Location) -> str | None:
    """Return the sweep's command with the proposed repetitions added to its own."""
    try:
        plan = json_text.parse(files.read(results / "plan.json"))
        words = [str(word) for word in plan["command"]]
        seeds, repeats = len(plan["settings"]["seeds"]), _repeated(plan["settings"])
    except (OSError, ValueError, KeyError, TypeError):
        return None
    if words[:1] == ["Sweep"] or any(combinations.aside(place) for place in settling.places):
        return None  # no command for data in memory, and --repeat only names the sweep's recipe
    for place in settling.places:
        cell = _cell(combinations, place)
        if {"standard", *cell[:2]} & {*objectives()} != {"standard"}:
            return None  # and only the standard objective and trade-offs
        more = max(int(combinations.seeds[place]) - seeds, 0)  # repeats that are already trained
        repeats[cell] = max(more + settling.seeds, repeats.get(cell, 0))
    named = [f"{'/'.join(cell)}={number}" for cell, number in repeats.items()]
    return command_line([*_without(words, "--repeat"), "--repeat", *named])


def _repeated(settings: Mapping[str, Any]) -> dict[Cell, int]:
    return {
        (
            _amount(*by_alpha(r["alpha_t"])),
            _amount(*by_alpha(r["alpha_s"])),
            f"{r['temperature']:.12g}",
        ): int(r["seeds"])
        for r in settings.get("repeats", ())
    }


def _cell(c: Combinations, place: int) -> Cell:
    """Return a combination of the grid in the form of ``--repeat``."""
    names = objective_names()
    teacher, student = (
        _amount(*on_grid(names[objective[place]], None if np.isnan(alpha[place]) else alpha[place]))
        for objective, alpha in (
            (c.teacher_objective, c.alpha_t),
            (c.student_objective, c.alpha_s),
        )
    )
    return teacher, student, f"{c.temperature[place]:.12g}"


def _amount(name: str, alpha: float | None) -> str:
    return name if alpha is None else f"{np.float64(alpha):.12g}"


def _without(words: Sequence[str], option: str) -> list[str]:
    """Return a command line without an option and its values."""
    kept, inside = [], False
    for word in words:
        inside = word == option or (inside and not word.startswith("--"))
        if not inside and not word.startswith(f"{option}="):
            kept.append(word)
    return kept
