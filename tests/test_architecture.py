"""The rooms and the one direction in which they import each other."""

import ast
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parent.parent
FORBIDDEN = {
    "rkd_core": {"ray", "sweeps", "analysis", "optuna", "tyro"},
    "analysis": {"torch", "torchvision", "ray", "sweeps", "sklearn"},
    "sweeps": set(),
}
OF_RKD_CORE = {
    f"rkd_core.{name}"
    for name in ("class_groups", "records", "metrics", "errors", "files", "console", "terminal")
} | {"rkd_core"}


def imports(path):
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            yield node.module or ""


@pytest.mark.parametrize("room", FORBIDDEN)
def test_imports_point_one_way(room):
    files = sorted((ROOT / room).rglob("*.py"))
    assert files
    for path in files:
        names = set(imports(path))
        assert not {n.split(".")[0] for n in names} & FORBIDDEN[room], path
        if room == "analysis":
            assert {n for n in names if n.split(".")[0] == "rkd_core"} <= OF_RKD_CORE, path


def modules_after(code, whole_names=False):
    done = subprocess.run(
        [sys.executable, "-c", f"{code}\nimport sys; print(*sys.modules)"],
        capture_output=True,
        text=True,
        check=True,
        cwd=ROOT,
    )
    names = done.stdout.split()
    return set(names) if whole_names else {name.split(".")[0] for name in names}


def test_analysis_starts_without_torch_and_ray():
    assert not modules_after(
        "import analysis.select, analysis.views.figure, analysis.views.best_so_far"
    ) & {
        "torch",
        "ray",
        "sweeps",
    }


def test_training_needs_no_ray():
    loaded = modules_after("import rkd_core.training.loop")
    assert "torch" in loaded
    assert not loaded & {"ray", "sweeps", "analysis"}


def test_planning_needs_neither_torch_nor_ray():
    code = "import sweeps.commands.pareto, sweeps.cli.parse, sweeps.planning.schedule"
    assert not modules_after(code) & {"torch", "torchvision", "ray", "sklearn", "matplotlib"}


def test_the_driver_of_a_sweep_needs_no_torch():
    loaded = modules_after(
        "import sweeps.running.on_ray.searcher, sweeps.running.on_ray.trainable, ray.tune"
    )
    assert "ray" in loaded
    assert "torch" not in loaded


TRAINING = """
import os, sys
from rkd_core import datasets, training
from rkd_core.execution import Execution
from rkd_core.specs import DataOptions, MultiplierOptions, Recipe, TeacherRef, TrainingSpec
from rkd_core.specs import family_id, run_id

data = datasets.load("digits-lt", DataOptions(imbalance=20))
common = dict(
    dataset="digits-lt", data=DataOptions(imbalance=20), seed=0, architecture="digits_cnn",
    recipe=Recipe(epochs=1, batch_size=64),
)
spec = TrainingSpec(stage="teacher", objective="standard", **common)
digests = (run_id(spec, data.fingerprint), family_id(spec, data.fingerprint))
named = TeacherRef(
    run_id=digests[0], family=digests[1], architecture="digits_cnn", objective="standard"
)
student = TrainingSpec(
    stage="student", objective="robust", multipliers=MultiplierOptions(), teacher=named,
    temperature=1.0, **common
)
options = dict(out=sys.argv[1], data=data, execution=Execution("cpu", "auto", 1))
training.train([spec, student], checkpoint_every=1, **options)
"""


def test_training_imports_no_compiler(tmp_path):
    """Measure CPU seconds of a teacher, a student, records and artifacts in a fresh process."""
    code = TRAINING.replace("sys.argv[1]", repr(str(tmp_path)))
    loaded = modules_after(code, whole_names=True)
    assert "torch.optim.sgd" in loaded
    for name in ("torch._dynamo", "torch._inductor", "sympy", "scipy", "sklearn", "torchvision"):
        assert name not in loaded, name


def test_files_are_small():
    for room in FORBIDDEN:
        for path in (ROOT / room).rglob("*.py"):
            assert len(path.read_text().splitlines()) <= 400, path


def calls(path):
    return (node for node in ast.walk(ast.parse(path.read_text())) if isinstance(node, ast.Call))


@pytest.mark.parametrize("room", FORBIDDEN)
def test_text_files_are_utf8_whatever_the_locale(room):
    for path in (ROOT / room).rglob("*.py"):
        for call in calls(path):
            name = getattr(call.func, "attr", getattr(call.func, "id", ""))
            values = [getattr(argument, "value", None) for argument in call.args]
            modes = [v for v in values if isinstance(v, str) and set(v) <= set("rwabx+t")]
            if name in ("read_text", "write_text") or (
                name == "open" and "b" not in "".join(modes)
            ):
                of_files = name != "open" or modes
                encoded = any(keyword.arg == "encoding" for keyword in call.keywords)
                place = f"{path}:{call.lineno}"
                assert not of_files or encoded or values[:1] in (["utf-8"], ["ascii"]), place


def test_nothing_that_can_run_code_is_loaded_from_disk():
    for room in FORBIDDEN:
        for path in (ROOT / room).rglob("*.py"):
            text = path.read_text()
            # Published weights are pickles of tensors, and nothing but tensors is unpickled.
            safe = path.name == "weight_files.py" and text.count("weights_only=True") == 1
            assert text.count("torch.load(") == (1 if safe else 0), path
            assert "pickle.load" not in text, path
