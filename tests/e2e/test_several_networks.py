"""One sweep whose students have two networks: killed, continued, and selected within limits."""

import json
import signal
import subprocess
import sys

import pytest

from sweeps.commands.verify import examine
from tests.e2e.command import GRID, ROOT, pareto, rows

NETWORKS = ["--student-architecture", "digits_cnn,resnet8"]
SMALL = ["--dataset", "digits-lt", *GRID, *NETWORKS, "--no-images"]


@pytest.mark.slow
def test_two_workers_killed_and_continued_and_selected_within_a_limit(tmp_path):
    out = tmp_path / "out"
    line = [*SMALL, "--max-concurrent", "2", "--gpus-per-trial", "0", "--out", out]
    planned = pareto(*line, "--dry-run")
    assert "24 students (12 digits_cnn, 12 resnet8, 6 without a teacher)" in planned.stdout
    script = [sys.executable, "-u", str(ROOT / "sweeps" / "pareto.py"), *map(str, line)]
    with subprocess.Popen(script, stdout=subprocess.PIPE, text=True) as process:
        for printed in process.stdout:
            if printed.startswith("[3/27]"):
                break
        process.send_signal(signal.SIGINT)
        process.stdout.read()
    before = rows(out)
    assert 3 <= len(before) < 27
    ended = pareto(*line)
    assert ended.returncode == 0, ended.stderr
    after = rows(out)
    assert len(after) == 27
    assert {run_id: after[run_id] for run_id in before} == before
    again = pareto(*line)
    assert "All 27 are trained already" in again.stdout
    assert rows(out) == after

    content = json.loads((out / "selection.json").read_text())
    names = [one["name"] for one in content["best_per_network"]]
    assert names == ["digits_cnn", "resnet8"]
    sizes = {one["name"]: one["parameters"] for one in content["best_per_network"]}
    assert sizes["digits_cnn"] < sizes["resnet8"]
    assert all(one["multiply_adds"] > 0 < one["latency"] for one in content["best_per_network"])
    refused = pareto(*line, "--max-parameters", "100", "--out", tmp_path / "new")
    assert refused.returncode == 2
    assert refused.stderr.count("\n") == 1
    assert f"the smallest is digits_cnn with {sizes['digits_cnn']:,} parameters" in refused.stderr
    assert not (tmp_path / "new").exists()
    limited = pareto(*line, "--max-parameters", sizes["digits_cnn"])
    assert limited.returncode == 0, limited.stderr
    assert f"resnet8 left out: {sizes['resnet8']:,} parameters (--max-parameters)" in limited.stdout
    content = json.loads((out / "selection.json").read_text())
    assert content["student_architecture"] == "digits_cnn"
    assert [one["name"] for one in content["best_per_network"]] == ["digits_cnn"]
    assert list(examine(out)) == []
