"""The GPU checks and measurements, in their tiny form on a CPU and without Ray and Optuna."""

import json
import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

from benchmarks.gpu.check import CHECKS
from benchmarks.gpu.measure import STAGES

ROOT = Path(__file__).resolve().parent.parent.parent
BARE = """
import runpy, sys
for name in ("ray", "optuna", "tyro", "plotly", "matplotlib"):
    sys.modules[name] = None  # as if it were not installed
sys.argv = sys.argv[1:]
runpy.run_module(sys.argv[0], run_name="__main__")
"""


def rows_of(module, *arguments, out):
    done = subprocess.run(
        [sys.executable, "-c", BARE, f"benchmarks.gpu.{module}", *arguments],
        capture_output=True,
        text=True,
        cwd=ROOT,
        env=os.environ | {"OUT": str(out), "TINY": "1", "CUDA_VISIBLE_DEVICES": ""},
        check=False,
    )
    rows = [json.loads(line) for line in done.stdout.splitlines() if line.startswith("{")]
    assert done.returncode == 0, done.stderr
    assert (out / "results.jsonl").read_text().splitlines() == [json.dumps(row) for row in rows]
    return rows


@pytest.mark.parametrize("name", ["environment", "compiled_is_eager"])
def test_a_check_passes_on_a_cpu(name, tmp_path):
    (row,) = rows_of("check", name, out=tmp_path)
    assert (row["name"], row["ok"]) == (name, True)


@pytest.mark.benchmark
@pytest.mark.parametrize("variant", ["compile", "lean", "fp16"])
def test_a_variant_measures_on_a_cpu(variant, tmp_path):
    pytest.importorskip("triton")
    (row,) = rows_of("measure", "steps", variant, "1", out=tmp_path)
    assert row["images_per_second"]["1"] > 0


def test_a_stage_measures_on_a_cpu(tmp_path):
    (row,) = rows_of("measure", "steps", "baseline", "1", "2", out=tmp_path)
    assert set(row["over_eager"]) == {"1", "2"}
    assert row["warned"] == []


@pytest.mark.benchmark
@pytest.mark.parametrize("check", [c.__name__ for c in CHECKS])
def test_every_check_passes_on_a_cpu(check, tmp_path):
    (row,) = rows_of("check", check, out=tmp_path)
    assert row["ok"], row


@pytest.mark.benchmark
@pytest.mark.parametrize("stage", sorted({name for name, *_ in STAGES} - {"layers"}))
def test_every_stage_measures_on_a_cpu(stage, tmp_path):
    assert rows_of("measure", stage, out=tmp_path)


@pytest.mark.parametrize("module", ["check", "measure"])
def test_an_unknown_name_is_refused(module, tmp_path):
    done = subprocess.run(
        [sys.executable, "-m", f"benchmarks.gpu.{module}", "nothing"],
        capture_output=True,
        text=True,
        cwd=ROOT,
        env=os.environ | {"OUT": str(tmp_path)},
        check=False,
    )
    assert done.returncode == 1
    assert done.stderr.startswith(f"usage: python -m benchmarks.gpu.{module} [")


def test_the_page_explains_every_check_and_stage():
    page = (ROOT / "docs" / "gpu.md").read_text()
    explained = set(re.findall(r"^\| `(\w+)", page, re.MULTILINE))
    assert {check.__name__ for check in CHECKS} | {name for name, *_ in STAGES} <= explained
