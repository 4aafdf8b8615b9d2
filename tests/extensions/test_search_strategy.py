"""A search strategy that is added as docs/architecture.md says: a class, and an entry."""

import numpy as np
import pytest
from rich.console import Console

from rkd_core.errors import UserError
from sweeps.cli.budget import Budget, search_of
from sweeps.cli.economy_checks import check_economy
from sweeps.cli.parse import parse
from sweeps.display.summary import print_search
from sweeps.search.build import begin
from sweeps.search.strategies import STRATEGIES, Entry
from sweeps.search.strategy import Goal, Point
from tests.sweeps.search.test_live import SMALL, WHOLE, finish


class InOrder:
    """Combinations in the order of the grid."""

    def __init__(self, request):
        self.cells = request.space.cells
        self._left = [Point(cell, seed) for seed in request.space.seeds for cell in self.cells]

    def ask(self):
        return self._left.pop(0) if self._left else None

    def tell(self, point, row):
        self._left = [other for other in self._left if other != point]

    def outlook(self):
        return (self._left[0] if self._left else None), np.nan

    def taught(self, alpha_t, row):
        pass


@pytest.fixture(autouse=True)
def _added(monkeypatch):
    entry = Entry("those at the beginning of the grid", f"{__name__}:InOrder")
    monkeypatch.setitem(STRATEGIES, "in_order", entry)


def test_the_command_takes_checks_and_announces_it(capsys):
    options = parse(["--search", "in_order"])
    check_economy(options)
    assert search_of(options.economy) == "in_order"
    print_search(Console(), "in_order", Budget(share=0.5))
    said = "Of these, those at the beginning of the grid, for 50% of the grid's cost"
    assert said in capsys.readouterr().out.replace("\n", " ")
    with pytest.raises(UserError, match="--sampler requires --search optuna"):
        check_economy(parse(["--search", "in_order", "--sampler", "gp"]))
    with pytest.raises(UserError, match="unknown --search 'in_ordre': did you mean in_order"):
        check_economy(parse(["--search", "in_ordre"]))


def test_a_sweep_trains_what_it_proposes(tmp_path):
    economy = parse(["--search", "in_order", "--budget", "50%"]).economy
    options = {"slots": 1, "seconds": lambda run: 2.0, "added": lambda plan: None}
    found = begin(economy, Goal(), SMALL, "data", WHOLE, {}, tmp_path, **options)
    trained = finish(found)
    students = [run.run_id for run in WHOLE.students if run.run_id in trained]
    assert students == [run.run_id for run in WHOLE.students[: len(students)]]
    assert len(students) > len(WHOLE.students) // 3
