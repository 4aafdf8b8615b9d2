"""Optuna's samplers with a journal."""

from dataclasses import replace
from typing import get_args

import optuna
import pytest
from optuna.storages import JournalStorage
from optuna.storages.journal import JournalFileBackend

from analysis.selection.criteria import Constrained
from sweeps.search.optuna_strategy import Sampler, WithOptuna
from sweeps.search.strategy import Goal, Point
from tests.sweeps.search.problems import GOAL, SPACE, explore, outcome, row

SMALL = replace(SPACE, alphas=(0.0, 1.0), temperatures=(1.0, 3.0))


def kept(path):
    storage = JournalStorage(JournalFileBackend(str(path)))
    return optuna.load_study(study_name="search", storage=storage)


@pytest.mark.parametrize("sampler", get_args(Sampler))
@pytest.mark.parametrize("objectives", ["constrained", "pareto"])
def test_every_sampler_goes_through_the_grid_and_repeats_nothing(sampler, objectives):
    space = replace(SMALL, temperatures=(2.0,)) if sampler == "gp" else SMALL  # that one is slow
    strategy = WithOptuna(space, GOAL, sampler=sampler, objectives=objectives)
    proposed = explore(strategy, 100)
    assert proposed[0] == Point(space.reference, 0)
    assert len(proposed) == len(set(proposed)) == (9 if sampler == "gp" else 18)
    assert strategy.ask() is None


def test_unknown_samplers_are_refused():
    with pytest.raises(ValueError, match="no sampler"):
        WithOptuna(SMALL, GOAL, sampler="grid")


def test_optuna_receives_the_mean_over_all_seeds_of_a_combination(tmp_path):
    space = replace(SMALL, seeds=(5, 6, 7))
    strategy = WithOptuna(space, GOAL, journal=tmp_path / "j")
    proposed = explore(strategy, 9, noise=0.02)
    assert [p.seed for p in proposed] == [5, 6, 7] * 3
    first, *_ = (t for t in kept(tmp_path / "j").trials if t.state.is_finished())
    correct = [outcome(p, 0.02)["val_class_correct"][0] / 500 for p in proposed[:3]]
    assert first.value == pytest.approx(sum(correct) / 3)


def test_a_trial_says_what_was_trained_and_how_good_it_is(tmp_path):
    space = replace(SMALL, seeds=(5, 6))
    strategy = WithOptuna(space, GOAL, journal=tmp_path / "j")
    proposed = [strategy.ask() for _ in range(4)]
    for number, point in enumerate(proposed):
        became = row(0.5 + number / 10, 0.8, run_id=f"run{number}")
        strategy.tell(point, became)
    standard, other = (t for t in kept(tmp_path / "j").trials if t.state.is_finished())
    assert standard.user_attrs == {
        "alpha_t": "standard",
        "alpha_s": "standard",
        "temperature": 1.0,
        "run_ids": ["run0", "run1"],
        "val_worst_class_accuracy": pytest.approx(0.55),
        "val_average_accuracy": pytest.approx(0.8, abs=0.001),
    }
    cell = proposed[2].cell
    names = ["standard" if a is None else a for a in (cell.alpha_t, cell.alpha_s)]
    assert [other.user_attrs[name] for name in ("alpha_t", "alpha_s")] == names
    assert other.user_attrs["run_ids"] == ["run2", "run3"]


def test_the_constraint_reaches_the_sampler_and_pruned_ones_are_pruned(tmp_path):
    strategy = WithOptuna(SMALL, Goal(Constrained(margin=0.01)), journal=tmp_path / "j")
    results = [row(0.5, 0.8), row(0.6, 0.7), row(0.1, 0.4, "pruned"), None]
    for became in results:
        strategy.tell(strategy.ask(), became)
    states = optuna.trial.TrialState
    # A combination that is proposed again is results again, and not trained.
    ended = [t for t in kept(tmp_path / "j").trials if t.state.is_finished()]
    trials = [t for k, t in enumerate(ended) if t.params not in [o.params for o in ended[:k]]]
    assert [t.state for t in trials] == [states.COMPLETE] * 2 + [states.PRUNED, states.FAIL]
    shortfalls = [float(t.constraints["average"]) for t in trials[:2]]
    assert shortfalls == pytest.approx([-0.01, 0.09], abs=0.002)
    assert trials[0].value == pytest.approx(0.5)


def test_students_that_end_before_standard_distillation_wait_for_it(tmp_path):
    strategy = WithOptuna(SMALL, GOAL, journal=tmp_path / "j")
    reference, other = strategy.ask(), strategy.ask()
    strategy.tell(other, row(0.6, 0.8))
    assert not any(t.state.is_finished() for t in kept(tmp_path / "j").trials)
    strategy.tell(reference, row(0.5, 0.8))
    assert sum(t.state.is_finished() for t in kept(tmp_path / "j").trials) == 2


def test_a_resumed_search_proposes_unfinished_runs_and_uses_finished_ones(tmp_path):
    first = WithOptuna(SPACE, GOAL, journal=tmp_path / "j")
    done = explore(first, 15)
    under_way = [first.ask(), first.ask()]
    (tmp_path / "j.lock").symlink_to(tmp_path / "j")  # as a death leaves it
    again = WithOptuna(SPACE, GOAL, journal=tmp_path / "j")
    for point in done:  # from the ledger
        again.tell(point, outcome(point))
    assert {again.ask(), again.ask()} == set(under_way)
    for point in under_way:
        again.tell(point, outcome(point))
    more = explore(again, 20)
    assert not set(more) & {*done, *under_way}
    assert sum(t.state.is_finished() for t in kept(tmp_path / "j").trials) >= 37


def test_cut_off_while_it_proposed_it_goes_on(tmp_path):
    first = WithOptuna(SMALL, GOAL, journal=tmp_path / "j")
    done = explore(first, 5)
    study = kept(tmp_path / "j")
    study.ask({"teacher": optuna.distributions.IntDistribution(0, 2)})  # and no more
    again = WithOptuna(SMALL, GOAL, journal=tmp_path / "j")
    assert len(again.cells) == 18
    for point in done:
        again.tell(point, outcome(point))
    assert len(set(explore(again, 100)) | set(done)) == 18


def test_another_grid_is_another_study_in_the_same_journal(tmp_path):
    for name, space in (("a", SMALL), ("b", SPACE)):
        explore(WithOptuna(space, GOAL, journal=tmp_path / "j", study=name), 5)
    storage = JournalStorage(JournalFileBackend(str(tmp_path / "j")))
    names = optuna.get_all_study_names(storage)
    assert sorted(names) == ["a", "b"]


@pytest.mark.parametrize("sampler", ["tpe", "gp", "nsga2"])
def test_students_may_lie_between_the_grids_points(sampler, tmp_path):
    strategy = WithOptuna(SMALL, GOAL, sampler=sampler, continuous=True, journal=tmp_path / "j")
    proposed = explore(strategy, 25)
    assert {p.cell.alpha_t for p in proposed} <= {None, 0.0, 1.0}
    between = {p.cell.alpha_s for p in proposed} - {None, 0.0, 1.0}
    assert len(between) > 5
    assert all(1 <= p.cell.temperature <= 3 for p in proposed)
    again = WithOptuna(SMALL, GOAL, sampler=sampler, continuous=True, journal=tmp_path / "j")
    assert {p.cell for p in proposed} <= set(again.cells)


def test_a_tuned_recipe_is_a_combination_of_its_own_around_that_of_the_sweep(tmp_path):
    tune = {"learning_rate": 0.1, "multiplier_step_size": 0.5}
    strategy = WithOptuna(SMALL, GOAL, tune=tune, journal=tmp_path / "j")
    proposed = [point.cell for point in explore(strategy, 25)]
    assert proposed[0] == SMALL.reference  # by the sweep's own recipe
    assert len(set(proposed)) == 25
    for cell in proposed[1:]:
        own = dict(cell.tuning)
        assert ("multiplier_step_size" in own) == bool(cell.alpha_s)
        assert all(tune[name] / 5 <= value <= tune[name] * 5 for name, value in own.items())
    assert not any(cell.is_standard for cell in proposed[1:])
    again = WithOptuna(SMALL, GOAL, tune=tune, journal=tmp_path / "j")
    assert set(proposed) <= set(again.cells)


def test_the_name_of_a_study_keeps_the_text_of_its_goal():
    assert repr(Goal()) == "Goal(worst_k=1, margin=None)"
    assert repr(Goal(Constrained(2, 0.01))) == "Goal(worst_k=2, margin=0.01)"
    other = Goal(Constrained(errors=2.0, reference=0.8))
    assert repr(other) == "Goal(worst_k=1, margin=None, errors=2.0, reference=0.8)"
