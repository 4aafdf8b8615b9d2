"""Search strategies that are added as docs/architecture.md says, and by plug-ins."""

import numpy as np
import pytest
from rich.console import Console

from rkd_core import plugins
from rkd_core.errors import UserError
from sweeps.cli.budget import Budget, search_of
from sweeps.cli.economy_checks import check_economy
from sweeps.cli.parse import parse
from sweeps.display.summary import print_search
from sweeps.search.build import begin
from sweeps.search.registered import RegisteredStrategy
from sweeps.search.strategies import STRATEGIES, Entry
from sweeps.search.strategy import Goal, Point, Request, Space
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


def test_a_strategy_of_a_plug_in_trains_what_it_proposes(tmp_path, monkeypatch):
    monkeypatch.setattr(plugins.search_strategies, "_entries", {})
    plugins.search_strategies.register("mine")(InOrder)
    economy = parse(["--search", "mine", "--budget", "50%"]).economy
    check_economy(parse(["--search", "mine"]))
    options = {"slots": 1, "seconds": lambda run: 2.0, "added": lambda plan: None}
    found = begin(economy, Goal(), SMALL, "data", WHOLE, {}, tmp_path, **options)
    trained = finish(found)
    students = [run.run_id for run in WHOLE.students if run.run_id in trained]
    assert students == [run.run_id for run in WHOLE.students[: len(students)]]


SPACE = Space((0.0,), (1.0,), (0,))
POINT = Point(SPACE.cells[0], 0)


def asking(*points):
    """Return a strategy that proposes these points."""
    left = iter(points)
    return lambda request: type("Asking", (), {"ask": lambda self: next(left)})()


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda request: 3, r"--search mine is not a search strategy: it has no ask\(\)"),
        (lambda request: 1 / 0, r"--search mine raises: .*ZeroDivisionError"),
        (asking(), r"--search mine: ask\(\) raises: .*StopIteration"),
        (asking(3), r"ask\(\) must return None or Point\(cell, seed\) .* not 3"),
        (asking(Point(POINT.cell, 7)), r"one of request.space.cells and of request.space.seeds"),
        (asking(POINT, POINT), r"for the second time"),
    ],
)
def test_faulty_strategies_are_refused_in_one_line(make, message):
    def use():
        strategy = RegisteredStrategy("mine", make, Request(SPACE, Goal()))
        assert strategy.ask() == POINT
        strategy.ask()

    with pytest.raises(UserError, match=message):
        use()


def test_only_asking_is_required():
    strategy = RegisteredStrategy("mine", asking(None), Request(SPACE, Goal()))
    strategy.tell(POINT, None)
    strategy.taught(None, {})
    assert strategy.outlook()[0] is None
    assert strategy.cells == SPACE.cells
    assert strategy.ask() is None
