"""Several networks of students in one selection."""

import json
from collections.abc import Iterable
from pathlib import Path

import numpy as np
import pytest

from analysis.report.page import render
from analysis.report.sizes import size_figure, sizes
from analysis.runs.loading import Runs, load
from analysis.select import run
from analysis.selection.outcome import Outcome, assess, combination_name
from analysis.selection.rule_options import Rule
from analysis.views.answer import answer
from rkd_core.errors import UserError
from rkd_core.text.console import Console
from tests.analysis import worlds

SIZES = {"small": 1000, "medium": 20_000, "large": 500_000}
SHARES = {"small": 0.8, "medium": 0.93, "large": 1.0}
RECIPE = {"recipe": {"epochs": 1}, "scale_by_classes": False}


def rows(names: Iterable[str] = SIZES) -> list[worlds.Row]:
    """Return a sweep whose larger networks are better in average and worst class."""
    found: dict[str, worlds.Row] = {}
    for name in names:
        seed = list(SIZES).index(name)

        def recall(
            t: float, s: float, temperature: float, share: float = SHARES[name]
        ) -> tuple[float, float]:
            average, worst = worlds.concave(t, s, temperature)
            return share * average, share * worst

        for row in worlds.sweep(temperatures=(1.0,), recall=recall, images=400, seed=seed):
            if row["stage"] == "student":
                spec = {"architecture": name, "teacher": {"family": "family-t"}, "data": {}}
                row |= {
                    "run_id": f"{name}-{row['run_id']}",
                    "family": f"family-{name}",
                    "architecture": name,
                    "parameters": SIZES[name],
                    "data_fingerprint": "data",
                    "spec": json.dumps(RECIPE | spec),
                }
            found.setdefault(row["run_id"], row)
    return list(found.values())


def write(results: Path, names: Iterable[str] = SIZES) -> Path:
    given = rows(names)
    return worlds.write(results, given, planned=[row["run_id"] for row in given])


@pytest.fixture(name="runs", scope="module")
def loaded(tmp_path_factory: pytest.TempPathFactory) -> Runs:
    return load(write(tmp_path_factory.mktemp("sizes")))


@pytest.fixture(name="outcome", scope="module")
def assessed(runs: Runs) -> Outcome:
    return assess(runs)


def test_students_of_all_networks_of_a_plan_are_compared(runs: Runs) -> None:
    assert len(runs.students) == 3 * 16
    assert runs.notes == ()


def test_another_recipe_or_a_given_family_is_not_compared(tmp_path: Path) -> None:
    given = rows(("small", "large"))
    for row in given:
        if row["architecture"] == "small":
            row["spec"] = row["spec"].replace('"epochs": 1', '"epochs": 2')
    results = worlds.write(tmp_path, given, planned=[row["run_id"] for row in given])
    assert load(results).students["architecture"].unique().to_pylist() == ["large"]
    alone = load(results, family="family-small")
    assert alone.students["architecture"].unique().to_pylist() == ["small"]


def test_without_a_plan_one_network_is_compared(tmp_path: Path) -> None:
    results = worlds.write(tmp_path, rows(("small", "large")))
    assert len(load(results).students["architecture"].unique()) == 1


def test_the_reference_is_that_of_the_network_with_the_best_average(outcome: Outcome) -> None:
    c, s = outcome.selection.combinations, outcome.selection
    assert c.networks == ("large", "medium", "small")
    assert c.network[s.reference].as_py() == c.network[s.selected].as_py() == "large"
    assert combination_name(c, s.selected).endswith(", large")
    least = s.least_average
    assert least is not None
    assert not (s.admitted & (s.seen.means.average < least - 1e-9)).any()


def test_the_best_of_a_network_is_that_of_a_sweep_of_this_network(
    outcome: Outcome, tmp_path: Path
) -> None:
    assert [one.network.name for one in outcome.best_per_network] == list(SIZES)
    for one in outcome.best_per_network:
        name = one.network.name
        alone = assess(load(write(tmp_path / name, [name])))
        ids = alone.selection.combinations.run_ids(alone.selection.selected)
        assert outcome.selection.combinations.run_ids(one.selected) == ids
        assert one.feasible == alone.selection.feasible
        sure, own = outcome.uncertainty, alone.uncertainty
        assert sure is not None
        assert own is not None
        expected = own.expected.worst_k[alone.selection.selected]
        assert sure.expected.worst_k[one.selected] == pytest.approx(expected, abs=0.01)
        width, of_own = (
            np.ptp(interval[:, place])
            for interval, place in (
                (sure.worst_k_interval, one.selected),
                (own.worst_k_interval, alone.selection.selected),
            )
        )
        assert width == pytest.approx(of_own, rel=0.15)


def test_the_file_has_the_best_of_each_network(tmp_path: Path) -> None:
    content = run(write(tmp_path), figures=False, console=Console(quiet=True))
    found = content["best_per_network"]
    assert [one["name"] for one in found] == list(SIZES)
    assert [one["parameters"] for one in found] == list(SIZES.values())
    for one in found:
        row = content["combinations"][one["combination"]]
        assert row["network"] == one["name"]
        assert row["run_ids"] == one["run_ids"]
        assert row["val_worst_k_accuracy"] == one["val_worst_k_accuracy"]
        assert row["worst_k_interval"] == one["worst_k_interval"]
        standard = content["combinations"][one["standard_distillation"]]
        assert standard["network"] == one["name"]
        assert (standard["teacher_objective"], standard["student_objective"]) == (("standard",) * 2)
    assert content["student_architecture"] == content["selected"]["network"] == "large"


@pytest.mark.parametrize(
    ("limit", "selected", "left_out"),
    [(20_000, "medium", ["large"]), (19_999, "small", ["medium", "large"])],
)
def test_larger_networks_are_left_out(
    tmp_path: Path, limit: int, selected: str, left_out: list[str]
) -> None:
    results = write(tmp_path)
    content = run(results, Rule(max_parameters=limit), figures=False, console=Console(quiet=True))
    assert content["student_architecture"] == selected
    assert [one["name"] for one in content["best_per_network"]] == [
        name for name in SIZES if name not in left_out
    ]
    notes = Rule(max_parameters=limit).within_limits(load(results)).notes
    assert [note.split()[0] for note in notes] == left_out
    assert f"{SIZES[left_out[0]]:,} parameters (--max-parameters)" in notes[0]


@pytest.mark.parametrize(
    ("limit", "message"),
    [
        (999, "--max-parameters 999: no network is within it; the smallest is small with 1,000"),
        (0, "--max-parameters must be above 0, not 0"),
    ],
)
def test_a_limit_that_leaves_nothing_is_an_error(runs: Runs, limit: int, message: str) -> None:
    rule = Rule(max_parameters=limit)
    with pytest.raises(UserError, match=message):
        (rule.assess if limit else lambda _: rule.check())(runs)


def test_sizes_that_records_lack_are_named(tmp_path: Path) -> None:
    given = [row | {"parameters": None} for row in rows(("small",))]
    runs = load(worlds.write(tmp_path, given))
    with pytest.raises(UserError, match="records of small do not state its parameters"):
        Rule(max_parameters=10).assess(runs)


COUNTS = {"small": 100, "medium": 300, "large": 200}


def speeds(results: Path, seconds: dict[str, float]) -> Path:
    measured = {
        name: {"latency": s, "throughput": 1 / s, "multiply_adds": COUNTS[name]}
        for name, s in seconds.items()
    }
    (results / "latency.json").write_text(json.dumps({"networks": measured}))
    return results


def test_multiply_adds_and_latency_are_limits_too(tmp_path: Path) -> None:
    results = write(tmp_path)
    for rule in (Rule(max_latency=1), Rule(max_multiply_adds=1)):
        with pytest.raises(UserError, match=r"of small (is|are) not known; the same sweep with"):
            rule.within_limits(load(results))
    speeds(results, {"small": 0.001, "medium": 0.002, "large": 0.003})
    runs = Rule(max_multiply_adds=200).within_limits(load(results))
    assert set(runs.students["architecture"].to_pylist()) == {"small", "large"}
    assert runs.notes == ("medium left out: 300 multiply-adds (--max-multiply-adds)",)
    runs = Rule(max_latency=2.5, max_multiply_adds=250).within_limits(load(results))
    assert set(runs.students["architecture"].to_pylist()) == {"small"}
    with pytest.raises(UserError, match="the smallest is small with 1 ms for an image"):
        Rule(max_latency=0.5).within_limits(load(results))


@pytest.mark.parametrize("text", ["", "[]", '{"networks": {"small": {"latency": "x"}}}'])
def test_a_damaged_file_of_latencies_is_named(tmp_path: Path, text: str) -> None:
    results = write(tmp_path, ["small"])
    (results / "latency.json").write_text(text)
    with pytest.raises(UserError, match=r"latency\.json is damaged: delete it"):
        assess(load(results))


def test_a_new_latency_changes_the_answer(tmp_path: Path) -> None:
    results = write(tmp_path, ["small"])
    for seconds in (0.001, 0.002):
        speeds(results, {"small": seconds})
        content = run(results, figures=False, console=Console(quiet=True))
        assert content["best_per_network"][0]["latency"] == seconds


def test_further_seeds_are_proposed_for_one_network_only(tmp_path: Path) -> None:
    results = write(tmp_path, ["small", "large"])
    with pytest.raises(UserError, match="target-regret is for students of one network"):
        run(results, figures=False, target_regret=0.001, console=Console(quiet=True))


def test_the_report_and_the_terminal_have_a_line_for_each_network(
    runs: Runs, outcome: Outcome, tmp_path: Path
) -> None:
    found = sizes(outcome)
    assert [row.name for row in found] == list(SIZES)
    assert [row.parameters for row in found] == ["1,000", "20,000", "500,000"]
    assert [row.selected for row in found] == [False, False, True]
    assert not any(name in row.student for row in found for name in SIZES)
    figure = size_figure(outcome)
    assert figure is not None
    assert figure["parameters"] == list(SIZES.values())
    for low, worst, high in zip(figure["low"], figure["worst"], figure["high"], strict=True):
        assert 0 <= low < worst < high <= 1
    page = render(runs, outcome, tmp_path)
    assert "Which size?" in page
    assert "500,000" in page
    said = [str(line) for line in answer(outcome)]
    assert sum(line.startswith("Best of ") for line in said) == 3
    assert any(line.startswith("Best of small, 1,000 parameters: worst class") for line in said)


def test_one_network_has_no_section_and_no_network_in_names(tmp_path: Path) -> None:
    runs = load(write(tmp_path, ["small"]))
    outcome = assess(runs)
    assert sizes(outcome) == []
    assert size_figure(outcome) is None
    assert "Which size?" not in render(runs, outcome, tmp_path)
    assert not any("Best of" in str(line) for line in answer(outcome))
    assert "small" not in combination_name(outcome.selection.combinations, 0)
