"""Further seeds of single combinations."""

import dataclasses

import pytest

from rkd_core.errors import UserError
from sweeps.cli.repeats import Repeat, repeats
from sweeps.planning.plan import make_plan
from tests.sweeps.planning.test_plan import SETTINGS


def cells(plan):
    return {
        (run.spec.teacher.alpha, run.spec.alpha, run.spec.temperature, run.spec.seed)
        for run in plan.students
    }


def test_a_text_is_a_combination_and_a_number():
    assert repeats(["standard/0.5/3=2", "1/standard/1=1", "0/-0/2.5=10"]) == (
        Repeat(None, 0.5, 3.0, 2),
        Repeat(1.0, None, 1.0, 1),
        Repeat(0.0, 0.0, 2.5, 10),
    )


@pytest.mark.parametrize(
    "text",
    [
        *("", "0.5", "0.5/1=2", "0.5/1/3", "0.5/1/3=0", "0.5/1/3=-1", "2/1/3=1", "0/1/0=1"),
        *("0/1/nan=1", "robust/1/3=1", "0/1/3=x", "0/1/3=1.5", "0/1/3/4=1", "nan/1/3=1"),
    ],
)
def test_invalid_values_are_refused_with_an_example(text):
    with pytest.raises(UserError, match="is not like standard/0"):
        repeats([text])


def test_a_combination_is_named_once():
    with pytest.raises(UserError, match=r"names 0\.5/1/3 twice"):
        repeats(["0.5/1/3=1", "0.50/1/3=2"])


def test_exactly_the_further_seeds_are_added():
    settings = dataclasses.replace(SETTINGS, seeds=(0, 4))
    before = make_plan(settings, "data")
    more = dataclasses.replace(
        settings, repeats=(Repeat(0.5, None, 3.0, 2), Repeat(0.5, 1.0, 3.0, 1))
    )
    after = make_plan(more, "data")
    assert {run.run_id for run in before.runs} < {run.run_id for run in after.runs}
    assert cells(after) - cells(before) == {
        (0.5, None, 3.0, 5),
        (0.5, None, 3.0, 6),
        (0.5, 1.0, 3.0, 5),
    }
    assert len(after.teachers) == len(before.teachers) + 2
    # The same runs as a larger grid would have.
    larger = make_plan(dataclasses.replace(SETTINGS, seeds=(0, 4, 5, 6)), "data")
    assert {run.run_id for run in after.runs} < {run.run_id for run in larger.runs}
