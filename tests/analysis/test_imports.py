"""Analysis runs on a laptop far from the cluster: no torch, no ray, and it starts at once."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
MODULES = sorted(
    ".".join(path.relative_to(ROOT).with_suffix("").parts)
    for path in (ROOT / "analysis").rglob("[a-z]*.py")
)


def loaded_after(code: str) -> set[str]:
    script = f"import json, sys\n{code}\nprint(json.dumps(sorted(sys.modules)))"
    ended = subprocess.run(
        [sys.executable, "-c", script], capture_output=True, text=True, check=True, cwd=ROOT
    )
    return set(json.loads(ended.stdout.splitlines()[-1]))


def test_no_module_needs_torch_ray_or_the_sweeps() -> None:
    loaded = loaded_after("\n".join(f"import {name}" for name in MODULES))
    assert "analysis.select" in loaded
    assert "analysis.report.page" in loaded
    heavy = {"torch", "torchvision", "ray", "sweeps", "matplotlib", "pydantic", "plotly", "jinja2"}
    assert not loaded & heavy
    core = {name.split(".")[1] for name in loaded if name.startswith("rkd_core.")}
    light = {"errors", "metrics", "objectives", "plugins", "records", "seeds", "storage", "text"}
    assert core <= light


@pytest.mark.parametrize("code", ["import analysis", "import analysis.select"])
def test_the_start_waits_for_nothing_heavy(code: str) -> None:
    heavy = {"numpy", "pyarrow", "matplotlib", "rich", "torch", "ray", "pandas"}
    assert not loaded_after(code) & heavy


def test_help_loads_nothing_heavy() -> None:
    code = (
        "import contextlib\nfrom analysis.select import main\n"
        "with contextlib.suppress(SystemExit): main(['--help'])"
    )
    assert not loaded_after(code) & {"numpy", "pyarrow", "matplotlib", "rich"}
