"""Every benchmark runs with ``--quick`` and ends with its rows; no figure is judged."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from benchmarks.selection import truth_figure

ROOT = Path(__file__).resolve().parent.parent.parent
ROWS = {
    "training/batches": {"batches"},
    "sweep/engine": {"engine"},
    "sweep/makespan": {"makespan"},
    "training/method_cost": {"method_cost"},
    "sweep/mini_sweep": {"mini_sweep"},
    "training/packing": {"packing"},
    "training/stacked": {"stacked_linear", "stacked_mlp"},
    "training/precision": {"precision_average", "precision_worst_class"},
    "selection/million_records": {"select_million"},
    "selection/paired": {
        "paired_coverage_of_gains",
        "paired_regret",
        "paired_stated_regret",
        "paired_width_of_gains",
    },
    "selection/shifts": {"shift_average", "shift_worst_class"},
    "selection/truth": {
        "chances",
        "corrected_bias",
        "coverage",
        "regret",
        "regret_estimate",
        "settling",
        "shared_images",
    },
    "search/replay": {"prune_drops_winner", "search_cost", "search_vs_random"},
    "sweep/simulate": {"simulate"},
    "sweep/start": {"start"},
    "training/teacher_cache": {"teacher_cache_resnet20", "teacher_cache_resnet56"},
    "training/train_core": {"train_core_resnet20", "train_core_resnet56"},
}
WITHOUT_DATA = {
    "search/replay",
    "selection/million_records",
    "selection/paired",
    "selection/truth",
    "sweep/engine",
    "sweep/makespan",
    "sweep/simulate",
    "sweep/start",
    "training/method_cost",
    "training/stacked",
}


def quickly(name, *arguments, folder, **options):
    return subprocess.run(
        [sys.executable, ROOT / "benchmarks" / f"{name}.py", *arguments],
        capture_output=True,
        text=True,
        cwd=folder,
        check=False,
        **options,
    )


@pytest.mark.benchmark
@pytest.mark.parametrize("name", ROWS)
def test_a_quick_run_ends_with_the_rows(name, tmp_path):
    done = quickly(name, "--quick", folder=tmp_path)
    assert done.returncode == 0, done.stderr
    rows = [json.loads(line) for line in done.stdout.splitlines()[-len(ROWS[name]) :]]
    assert {row["name"] for row in rows} == ROWS[name]
    for row in rows:
        assert list(row) == [
            "name",
            "ratio_median",
            "ratio_min",
            "ratio_max",
            "goal",
            "details",
        ]
        figures = [row["ratio_min"], row["ratio_median"], row["ratio_max"]]
        # Shares of a few replays, or worlds, may be 0.
        least = 0 if row["name"] in ("prune_drops_winner", "chances") else 1e-9
        assert all(type(figure) is float and figure >= least for figure in figures)
        assert row["ratio_min"] <= row["ratio_max"]
        assert isinstance(row["goal"], str)
        assert row["details"]["repetitions"] >= 1
    assert list(tmp_path.iterdir()) == []


@pytest.mark.benchmark
@pytest.mark.parametrize("name", ROWS)
def test_an_unknown_argument_is_refused(name, tmp_path):
    environment = {key: value for key, value in os.environ.items() if key != "PYTHONPATH"}
    done = quickly(name, "--quck", folder=tmp_path, env=environment)
    assert done.returncode == 1
    usage = "[--quick]" if name in WITHOUT_DATA else "[--quick] [--data-dir DIR]"
    assert done.stderr == f"usage: python benchmarks/{name}.py {usage}\n"


def test_every_script_is_in_the_table_and_in_the_docs():
    folder = ROOT / "benchmarks"
    scripts = {
        str(p.relative_to(folder).with_suffix(""))
        for p in folder.rglob("*.py")
        if 'if __name__ == "__main__":' in p.read_text()
    }
    assert scripts - {"naive/sweep", "gpu/check", "gpu/fused", "gpu/measure"} == {
        *ROWS,
        "all",
        "search/recorded_grids",
        "search/replay_figure",
        "selection/truth_figure",
    }
    told = (ROOT / "docs" / "performance.md").read_text()
    assert [name for name in ROWS if f"benchmarks/{name}.py" not in told] == []


def test_one_script_runs_all_benchmarks():
    text = (ROOT / "benchmarks" / "all.py").read_text()
    assert [name for name in ROWS if f'"{name}"' not in text] == []


def test_the_figure_of_selection_is_drawn():
    assert len(truth_figure.WORLDS) == len(truth_figure.SHAPES)
    figure = truth_figure.draw(truth_figure.SHAPES[:1], (1,))
    assert len(figure.axes) == 2
