"""Predictions of how many further seeds settle a selection."""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest

from analysis.runs.combinations import Combinations, combine
from analysis.selection import Selection, further_seeds
from analysis.selection.criteria import Constrained, Lexicographic
from analysis.selection.further_seeds import Settling, _given_up, _Simulation, one_more, settle
from analysis.selection.posterior import fit
from analysis.selection.uncertainty import Uncertainty, decide
from analysis.views.advice import advice, described
from rkd_core.errors import UserError
from tests.analysis import worlds


def grid(**options: object) -> Combinations:
    rows = worlds.sweep(("standard", 0.0, 1.0), ("standard", 0.5), (1.0,), **options)  # type: ignore[arg-type]
    return combine(worlds.table(row for row in rows if row["stage"] == "student"))


def test_the_gain_of_seeds_is_the_conditional_mean_of_the_joint_normal() -> None:
    c = grid(seeds=2, images=60)
    posterior = fit(c)
    assert posterior is not None
    simulation = _Simulation(posterior, decide(c)[0])
    places, seeds = (1, 4), 3
    gains = simulation._gains(places, seeds)
    rows, (spread, _) = posterior.rows, posterior.modes()
    size = len(rows)
    for mode in range(spread.shape[1]):
        # Joint covariance of all effects and of the means of three looks at two of them.
        effects = [[0.0] * size for _ in range(size)]
        for a in range(size):
            for b in range(size):
                for i in range(rows.shape[1]):
                    effects[a][b] += rows[a, i] * spread[i, mode] ** 2 * rows[b, i]
        looks = np.array([[effects[a][b] + (a == b) / seeds for b in places] for a in places])
        cross = np.array([[effects[a][b] for b in places] for a in range(size)])
        np.testing.assert_allclose(gains[mode], cross @ np.linalg.inv(looks), atol=1e-9)


def test_more_seeds_leave_less_and_all_of_them_nothing() -> None:
    c = grid(seeds=2, images=60)
    posterior, selection = fit(c), decide(c)[0]
    assert posterior is not None
    simulation = _Simulation(posterior, selection)
    everything = tuple(range(len(c)))
    left = [simulation.regret(everything, seeds) for seeds in (1, 10, 100, 10**9)]
    assert left == sorted(left, reverse=True)
    assert left[0] > 0.001
    assert left[-1] == pytest.approx(0, abs=1e-6)


def test_it_advises_the_fewest_that_reach_the_target() -> None:
    c = grid(seeds=2, images=60)
    selection, sure, _ = decide(c)
    assert sure is not None
    now = sure.expected_regret
    some = settle(selection, sure, now / 2)
    more = settle(selection, sure, now / 4)
    assert some.reached
    assert some.after <= now / 2
    assert len(some.places) * some.seeds < len(more.places) * more.seeds
    assert some.places[0] == selection.reference  # all are measured against it
    assert selection.selected in some.places
    assert settle(selection, sure, now / 2) == some


def test_proposals_beyond_the_grid_are_reported() -> None:
    """One seed of few images, and a target that takes hundreds of students."""
    c = grid(seeds=1, images=40)
    selection, sure, _ = decide(c)
    settling = settle(selection, sure, 1e-4)
    assert settling.beyond is not None
    assert settling.seeds == 1  # of one seed another one comes first
    assert settling.students <= len(c) < settling.beyond.students
    assert settling.beyond.after < settling.after <= settling.regret
    assert settling.another_grid == pytest.approx(settling.after, abs=settling.regret)
    text = "\n".join(advice(settling, c, Path("none")))
    assert f"would take {settling.beyond.students:,} students" in text
    assert "the grid has 6 students so far" in text
    assert "One further seed of the whole grid, 6 students, would leave" in text
    assert "four times the 400 available halve the noise" in text
    weaker = text.partition("--target-regret ")[2].partition(",")[0]
    again = settle(selection, sure, float(weaker))
    assert again.reached
    assert again.beyond is None
    content = described(settling, c)
    assert content is not None
    assert content["students"] == settling.students
    assert content["beyond"]["students"] == settling.beyond.students
    json.dumps(content, allow_nan=False)


def test_two_seeds_may_be_repeated_more_than_once() -> None:
    c = grid(seeds=2, images=60)
    selection, sure, _ = decide(c)
    settling = settle(selection, sure, 1e-9)
    assert settling.students <= 12
    text = "\n".join(advice(settling, c, Path("none")))
    assert "With one seed" not in text


def test_a_selection_sure_enough_is_settled() -> None:
    selection, sure, _ = decide(grid(seeds=2, images=60))
    assert sure is not None
    settling = settle(selection, sure, 0.9)
    assert settling.settled
    assert settling.places == ()
    (line,) = advice(settling, selection.combinations, Path("none"))
    assert line.startswith("Settled: the expected regret is ")


def test_an_unreachable_target_is_reported() -> None:
    selection, sure, _ = decide(grid(seeds=2, images=60))
    settling = settle(selection, sure, 1e-9)
    assert not settling.reached
    lines = advice(settling, selection.combinations, Path("none"))
    assert any("No number of seeds that was tried" in line for line in lines)


@pytest.mark.parametrize("target", [0.0, -1.0, 1.0, float("nan")])
def test_an_invalid_target_is_refused(target: float) -> None:
    selection, sure, _ = decide(grid(images=60))
    with pytest.raises(UserError, match="target-regret must be a fraction above 0"):
        settle(selection, sure, target)


def test_advice_needs_uncertainty_and_a_single_criterion() -> None:
    c = grid(images=60)
    selection, sure, _ = decide(c)
    with pytest.raises(UserError, match="uncertainty of the choice"):
        settle(selection, None, 0.01)
    in_turn = dataclasses.replace(selection, criterion=Lexicographic())
    with pytest.raises(UserError, match="not --order"):
        settle(in_turn, sure, 0.01)


def test_the_command_repeats_beside_what_is_repeated_already(tmp_path: Path) -> None:
    rows = worlds.sweep(("standard", 0.5), ("standard", 1.0), (1.0, 3.0), seeds=2)
    rows = [r for r in rows if r["stage"] == "student"]
    again = worlds.student("again", 0.5, 1.0, 3.0, seed=2, val_class_correct=[250] * 10)
    c = combine(worlds.table([*rows, again | {"val_class_total": [500] * 10}]))
    assert c.seeds.tolist().count(3) == 1
    repeated = {"alpha_t": 0.5, "alpha_s": 1.0, "temperature": 3.0, "seeds": 1}
    plan = {
        "command": ["sweeps/pareto.py", "--repeat", "0.5/1/3=1", "--seeds", "0", "1", "--quiet"],
        "settings": {"seeds": [0, 1], "repeats": [repeated]},
    }
    (tmp_path / "plan.json").write_text(json.dumps(plan))
    plain = int(np.flatnonzero((c.teacher_objective == 0) & (c.student_objective == 0))[0])
    twice = int(np.argmax(c.seeds))
    settling = Settling(0.02, 0.01, (plain, twice), 2, 0.009)
    *lines, command = advice(settling, c, tmp_path)
    assert command == (
        "python sweeps/pareto.py --seeds 0 1 --quiet --repeat 0.5/1/3=3 standard/standard/1=2"
    )
    assert lines == [
        "To reduce the expected regret from 2.00 points to 0.90 (target 1.00): 2 further seeds "
        "of 2 combinations, 4 students and at most 4 teachers"
    ]


class Foretold:
    """A simulation whose regrets are a given function of places and seeds."""

    now = 0.02

    def __init__(self, regret: Callable[[int, int], float]) -> None:
        self._regret = regret

    def regret(self, places: tuple[int, ...], seeds: int) -> float:
        return self._regret(len(places), seeds)


def foretold(
    monkeypatch: pytest.MonkeyPatch, regret: Callable[[int, int], float], seeds: int = 2
) -> tuple[Selection, Uncertainty]:
    """Six combinations of which four may be best: the selected one is not the likeliest."""
    selection, sure, _ = decide(grid(seeds=seeds, images=60))
    assert sure is not None
    chance = np.zeros(6)
    others = [place for place in range(6) if place != selection.reference]
    chance[others[:4]] = [0.1, 0.2, 0.4, 0.3]
    selection = dataclasses.replace(selection, selected=others[0])
    monkeypatch.setattr(further_seeds, "_Simulation", lambda *_: Foretold(regret))
    return selection, dataclasses.replace(
        sure, expected_regret=Foretold.now, probability_best=chance
    )


def test_the_fewest_students_are_proposed_with_the_likeliest_first(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Four students or more reach the target: standard distillation and three of four others."""
    selection, sure = foretold(monkeypatch, lambda places, seeds: 0.02 / (1 + 0.3 * places * seeds))
    found = settle(selection, sure, 0.01)
    others = [place for place in range(6) if place != selection.reference]
    assert found.places == (selection.reference, others[0], others[2], others[3])
    assert (found.seeds, found.students) == (1, 4)
    assert found.after == pytest.approx(0.02 / 2.2)
    assert found.reached
    assert not found.settled
    assert found.beyond is None


def test_seeds_are_repeated_where_they_are_what_helps(monkeypatch: pytest.MonkeyPatch) -> None:
    """Three seeds reach the target with any number of places: three places, nine students."""
    selection, sure = foretold(monkeypatch, lambda _, seeds: 0.02 / (1 + seeds))
    found = settle(selection, sure, 0.005)
    assert (len(found.places), found.seeds, found.students) == (3, 3, 9)
    assert found.after == pytest.approx(0.005)
    assert found.reached
    assert found.beyond is None


def test_with_one_seed_one_more_is_proposed_and_what_would_reach_the_target_beyond(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    selection, sure = foretold(monkeypatch, lambda _, seeds: 0.02 / (1 + seeds), seeds=1)
    found = settle(selection, sure, 0.005)
    assert (len(found.places), found.seeds) == (3, 1)
    assert found.after == pytest.approx(0.01)
    assert not found.reached
    assert found.beyond is not None
    assert (len(found.beyond.places), found.beyond.seeds) == (3, 3)
    assert found.beyond.reached
    assert found.another_grid == pytest.approx(0.01)


def test_a_proposal_never_predicts_a_higher_regret(monkeypatch: pytest.MonkeyPatch) -> None:
    selection, sure = foretold(monkeypatch, lambda *_: 0.03)
    found = settle(selection, sure, 0.001)
    assert (found.regret, found.after) == (0.02, 0.02)
    assert (len(found.places), found.seeds) == (3, 1)  # the first of equals
    assert found.beyond is None


def test_a_selection_at_the_target_is_settled(monkeypatch: pytest.MonkeyPatch) -> None:
    selection, sure = foretold(monkeypatch, lambda *_: 0.0)
    assert settle(selection, sure, 0.02).settled
    assert not settle(selection, sure, 0.0199).settled


def with_a_shift(gain: int) -> Combinations:
    """Return a grid and the same students with a shift that gains images of the first class."""
    rows = worlds.sweep(("standard", 1.0), ("standard", 0.5), (1.0,), images=200)
    rows = [row for row in rows if row["stage"] == "student"]
    moved = []
    for row in rows:
        first, *others = row["val_class_correct"]
        moved.append(row | {"val_class_correct": [min(first + gain, 200), *others]})
    tables = [
        worlds.table(each).append_column("shift", pa.array([shift] * 4, pa.float64()))
        for each, shift in ((rows, float("nan")), (moved, 0.5))
    ]
    return combine(pa.concat_tables(tables))


def test_the_constraint_of_a_shifted_selection_is_that_of_standard_distillation() -> None:
    selection, _, _ = decide(with_a_shift(60))
    assert selection.combinations.shift[selection.selected] == 0.5
    among, _ = further_seeds._level(selection)
    assert isinstance(among.criterion, Constrained)
    standard = float(selection.seen.measure("average")[selection.reference])
    assert among.criterion.reference == pytest.approx(standard)
    best = dataclasses.replace(selection, criterion=Constrained(reference="best"))
    criterion = further_seeds._level(best)[0].criterion
    assert isinstance(criterion, Constrained)
    assert criterion.reference == "best"
    plain, _, _ = decide(with_a_shift(-60))
    assert np.isnan(plain.combinations.shift[plain.selected])
    criterion = further_seeds._level(plain)[0].criterion
    assert isinstance(criterion, Constrained)
    assert criterion.reference == "standard"


def test_one_more_seed_reduces_regret_as_predicted(monkeypatch: pytest.MonkeyPatch) -> None:
    selection, sure = foretold(monkeypatch, lambda places, _: 0.03 if places == 0 else 0.021)
    found = one_more(selection, sure)
    assert set(found) == set(range(6))
    assert list(found)[:2] == [selection.selected, selection.reference]
    assert list(found.values()) == pytest.approx([0.009] * 6)
    selection, sure = foretold(monkeypatch, lambda places, _: 0.03 + places)
    assert set(one_more(selection, sure).values()) == {0.0}


def test_given_up_is_what_the_best_admitted_one_has_more() -> None:
    values, admitted = np.array([0.5, 0.7, 0.9]), np.array([True, True, False])
    assert _given_up((values, admitted), 0) == pytest.approx(0.2)
    assert _given_up((values, admitted), 1) == 0
    assert _given_up((values, admitted), 2) == 0  # more than any that is admitted
    assert _given_up((values, np.zeros(3, dtype=bool)), 0) == 0
