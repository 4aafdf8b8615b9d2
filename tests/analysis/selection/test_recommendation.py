"""Cases without a recommendation: students that guess, and candidates that all miss a class."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from rich.console import Console

from analysis.report.headline import answer
from analysis.report.page import render
from analysis.select import run
from analysis.selection.criteria import Constrained, Criterion, Group, Lexicographic, WeightedSum
from analysis.selection.outcome import Outcome, assess
from analysis.selection.recommendation import Guessing, of_record, recommendation
from analysis.views.selection_json import document, write_json
from tests.analysis import worlds
from tests.analysis.views.test_figures_and_tables import printed, runs_of


def student(name: str, correct: list[int], images: int | list[int] = 50, **columns: Any) -> Any:
    total = [images] * len(correct) if isinstance(images, int) else images
    counts = {f"{s}_class_total": total for s in ("val", "test")}
    counts |= {f"{s}_class_correct": correct for s in ("val", "test")}
    return worlds.student(name, **counts, **columns)


def outcome(*rows: worlds.Row, rule: Criterion | None = None) -> Outcome:
    return assess(runs_of(list(rows)), rule or Constrained())


@pytest.mark.parametrize(
    ("total", "correct", "guesses"),
    [
        ([50] * 10, [5] * 10, True),  # one in ten
        ([50] * 10, [50] + [0] * 9, True),  # always the same class
        ([50] * 10, [0] * 10, True),  # worse than guessing
        ([50] * 10, [8] * 10, False),
        ([50] * 10, [25] * 10, False),
        ([900, 100], [900, 0], True),  # always the most frequent
        ([900, 100], [810, 10], True),
        ([900, 100], [700, 75], False),  # below 90 % on average, and far from guessing
        ([900, 100], [890, 40], False),
        ([3, 3], [2, 2], True),  # too few images to tell
        ([30, 30], [20, 22], False),
        ([50, 0], [50, 0], False),  # one class: nothing to learn
        ([50, 50, 0], [25, 26, 0], True),
    ],
)
def test_guessing_is_recognized(total: list[int], correct: list[int], guesses: bool) -> None:
    assert Guessing(total).explains(correct) is guesses


@pytest.mark.parametrize("kind", ["uniform", "marginal", "constant"])
def test_guesses_are_seldom_taken_for_learning(kind: str) -> None:
    """Simulate 108 students that guess, on long-tailed validation, in 200 worlds."""
    random = np.random.default_rng(3)
    total = np.array([200, 100, 50, 25, 12])
    share = {"uniform": np.full(5, 0.2), "marginal": total / total.sum(), "constant": np.eye(5)[0]}
    learned = 0
    for _ in range(200):
        counts = random.binomial(total, share[kind], (108, 5))
        learned += any(not Guessing(total, 108).explains(c) for c in counts)
    assert learned <= 0.09 * 200  # the level is 0.05


def test_a_student_that_guesses_is_not_shipped_anywhere(tmp_path: Path) -> None:
    rows = [student("plain", [5] * 10), student("other", [6, 4] * 5, student=0.5)]
    found = outcome(*rows)
    text = printed(found)
    assert "Ship" not in text
    assert text.strip().startswith("Nothing to ship: nothing was learned")
    plain = " ".join(text.split())
    for part in (
        "10.0% of 500 validation images",
        "Guessing reaches 10.0%",
        "--epochs",
        "labels",
    ):
        assert part in plain
    assert all(len(line) <= 80 for line in text.splitlines())
    content = document(found)
    write_json(tmp_path / "selection.json", content)
    advised = content["recommendation"]
    assert (advised["ship"], advised["reason"]) == (False, "nothing_learned")
    assert advised["guessing_accuracy"] == pytest.approx(0.1)
    assert content["selected"]["run_ids"]  # unchanged for its readers
    assert answer(found).title == "Nothing to ship: nothing was learned."
    page = render(runs_of(rows), found, tmp_path)
    assert "<h1>Nothing to ship: nothing was learned.</h1>" in page
    assert "to ship</th>" not in page


def test_a_student_with_a_single_answer_is_reported() -> None:
    found = recommendation(outcome(student("plain", [0, 0, 50, 0])))
    assert "It predicts the class bird for every image." in found.sentences


def test_candidates_that_all_miss_a_class_cannot_be_told_apart() -> None:
    rows = [
        student("plain", [50, 45, 0, 0, 40]),
        student("other", [49, 48, 0, 3, 40], student=0.5),
        student("third", [49, 47, 0, 0, 30], student=1.0),
    ]
    found = recommendation(outcome(*rows))
    assert (found.ship, found.reason, found.unrecognized) == (False, "objective_zero", (2,))
    assert found.title == "Nothing to ship: no candidate recognizes bird"
    text = " ".join(found.sentences)
    assert "worst-class accuracy on validation is 0 for all of the 3 combinations" in text
    assert "--worst-k 2" in text  # one recognizes 3 images of a class
    assert "standard teacher, α_s = 0.5, T = 1: 56.0%" in text
    wider = recommendation(outcome(*rows, rule=Constrained(worst_k=2)))
    assert wider.ship


def test_candidates_that_each_miss_another_class() -> None:
    found = recommendation(
        outcome(student("plain", [0, 50, 50]), student("other", [50, 50, 0], student=0.5))
    )
    assert found.title == "Nothing to ship: every candidate misses some class"
    assert len(found.unrecognized) == 1


def test_only_admitted_candidates_count() -> None:
    rows = [student("plain", [50, 50, 50, 0]), student("low", [35, 30, 30, 25], student=0.5)]
    found = recommendation(outcome(*rows, rule=Constrained(margin=0.0)))
    assert not found.ship
    assert "for all of the 1 admitted combinations" in " ".join(found.sentences)
    assert "see --margin" in " ".join(found.sentences)
    assert recommendation(outcome(*rows, rule=Constrained(margin=0.9))).ship


def test_rules_that_do_not_go_by_the_worst_class() -> None:
    rows = [student("plain", [50, 45, 0, 40]), student("other", [50, 44, 0, 44], student=0.5)]
    assert recommendation(outcome(*rows, rule=WeightedSum(1, 0.5))).ship
    assert recommendation(outcome(*rows, rule=Lexicographic(order=("average", "worst_k")))).ship
    assert recommendation(outcome(*rows, rule=Constrained(group=Group("cats", (3,))))).ship
    assert not recommendation(outcome(*rows, rule=Constrained(group=Group("birds", (2,))))).ship
    assert not recommendation(outcome(*rows, rule=Lexicographic())).ship


def test_others_that_learned_are_named() -> None:
    rows = [
        student("plain", [50, 50, 48, 0]),
        student("guess", [13, 12, 14, 11], student=0.5),
    ]
    found = recommendation(outcome(*rows, rule=Constrained(margin=1.0)))
    assert found.title == "Nothing to ship: the selected student is no better than guessing"
    assert "1 of 2 combinations did learn" in " ".join(found.sentences)


def test_teachers_that_learned_nothing_are_reported() -> None:
    teacher = student("t", [13, 12, 13, 12]) | {"stage": "teacher", "student_objective": None}
    teacher |= {"temperature": None, "teacher_id": None}
    text = " ".join(recommendation(outcome(student("plain", [12] * 4), teacher)).sentences)
    assert "No teacher learned anything either (best average 25.0%)" in text
    half = teacher | {"run_id": "u", "teacher_objective": "balanced"}
    half |= {"val_class_correct": [50, 50, 50, 0]}
    text = " ".join(recommendation(outcome(student("plain", [12] * 4), teacher, half)).sentences)
    assert "1 of 2 teachers learned nothing either." in text


def test_students_above_chance_are_recommended() -> None:
    found = outcome(student("plain", [40, 41, 42]), student("other", [45, 45, 45], student=0.5))
    assert "Ship  standard teacher, α_s = 0.5, T = 1" in printed(found)
    assert document(found)["recommendation"] == {
        "ship": True,
        "reason": None,
        "title": "",
        "text": "",
        "unrecognized_classes": [],
        "guessing_accuracy": pytest.approx(1 / 3),
    }


def test_no_seeds_are_proposed_for_what_has_learned_nothing(tmp_path: Path) -> None:
    rows = [student("plain", [5] * 10), student("other", [6, 4] * 5, student=0.5)]
    worlds.write(tmp_path, [*rows, *(r | {"run_id": r["run_id"] + "1", "seed": 1} for r in rows)])
    console = Console(record=True, width=80)
    content = run(tmp_path, figures=False, target_regret=1e-6, console=console)
    assert "No further seeds are proposed" in console.export_text()
    assert content["recommendation"]["ship"] is False


def test_a_record_is_judged_by_itself() -> None:
    assert of_record(student("plain", [40, 41, 42])) == ""
    assert "no validation image of bird" in of_record(student("plain", [40, 41, 0]))
    assert "it has learned nothing: 30 of 150" in of_record(student("plain", [10, 10, 10]))
