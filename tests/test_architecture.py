"""The layers and the direction of their imports."""

import ast
import functools
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parent.parent
ROOMS = ("rkd_core", "analysis", "sweeps")
LAYERS = """
rkd_core.errors
rkd_core.text
rkd_core.seeds rkd_core.storage rkd_core.device rkd_core.metrics
rkd_core.plugins
rkd_core.objectives rkd_core.multipliers
rkd_core.spec_options
rkd_core.methods.common
rkd_core.methods
rkd_core.specs
rkd_core.records
rkd_core.datasets.preprocess rkd_core.datasets.registry rkd_core.datasets.splits
rkd_core.datasets.readers.base rkd_core.datasets.readers.paths
rkd_core.datasets.cache
rkd_core.datasets.readers
rkd_core.datasets.array_set
rkd_core.datasets.preparation rkd_core.datasets.streamed_set rkd_core.datasets.image_set
rkd_core.datasets.load
rkd_core.datasets
rkd_core.datasets.batches
rkd_core.datasets.array_data
rkd_core.results
rkd_core.models
rkd_core.teachers
rkd_core.training
rkd_core.tabular
rkd_core
analysis.runs
analysis.selection
analysis.views
analysis.report analysis.papers
analysis.select analysis.watch
analysis
sweeps.stop
sweeps.search.strategy
sweeps.search.registered
sweeps.search.strategies
sweeps.cli
sweeps.planning
sweeps.folder
sweeps.search
sweeps.running
sweeps.running.on_ray
sweeps.display
sweeps.commands
sweeps.pareto sweeps.paper sweeps.adult sweeps.export sweeps.verify sweeps.predict
sweeps.api
sweeps
"""
"""Modules and packages from the bottom up: each imports from its own line and from lines above."""

FORBIDDEN = {
    "rkd_core": {"ray", "sweeps", "analysis", "optuna", "tyro"},
    "analysis": {"torch", "torchvision", "ray", "sweeps", "sklearn"},
    "sweeps": set(),
}
"""Top-level packages that a package must not import."""

FOR_ANALYSIS = ("errors", "text", "metrics", "storage", "plugins", "records", "objectives")
"""Parts of rkd_core that analysis may import, besides the package itself."""

WITHOUT_TORCH = (
    "errors",
    "text",
    "plugins",
    "seeds",
    "objectives",
    "spec_options",
    "device",
    "metrics",
    "storage",
    "specs",
    "records",
)
"""Parts of rkd_core whose import loads no torch."""

RAY = ("sweeps.running.on_ray",)
"""Packages that may import ray."""


def layers():
    return {name: k for k, line in enumerate(LAYERS.split("\n")) for name in line.split()}


def layer_of(module, order):
    while module not in order:
        module, _, last = module.rpartition(".")
        assert module, last
    return order[module]


def modules():
    paths = [path for room in ROOMS for path in sorted((ROOT / room).rglob("*.py"))]
    return {name_of(path): path.read_text() for path in paths}


def name_of(path):
    return ".".join(path.relative_to(ROOT).with_suffix("").parts).removesuffix(".__init__")


@functools.cache
def import_statements(text):
    """Return the imports of a source, wherever they stand, with whether they are for types only."""
    tree, types = ast.parse(text), set()
    for node in ast.walk(tree):
        if isinstance(node, ast.If) and getattr(node.test, "id", "") == "TYPE_CHECKING":
            types |= {id(inner) for inner in ast.walk(node)}
    kinds = (ast.Import, ast.ImportFrom)
    return [(node, id(node) in types) for node in ast.walk(tree) if isinstance(node, kinds)]


def imports(text, known, for_types=True):
    """Yield the names of the modules that a source imports."""
    for node, is_type in import_statements(text):
        if is_type and not for_types:
            continue
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        else:
            for alias in node.names:
                whole = f"{node.module}.{alias.name}"
                yield whole if whole in known else node.module or ""


def faults(sources):
    """Return every import that breaks a rule, as one line each."""
    order, found = layers(), []
    graph = {}
    for name, text in sources.items():
        room = name.split(".")[0]
        needed = imports(text, sources, for_types=False)
        graph[name] = {module for module in needed if module in sources and module != name}
        for target in imports(text, sources):
            top = target.split(".")[0]
            if top in FORBIDDEN[room]:
                found.append(f"{name} imports {top}")
            if top == "ray" and not name.startswith(RAY):
                found.append(f"{name} imports ray")
            if (
                top in ROOMS
                and target not in ROOMS
                and layer_of(target, order) > layer_of(name, order)
            ):
                found.append(f"{name} imports {target}, which is in a layer above it")
            part = target.removeprefix("rkd_core.").split(".")[0]
            if room == "analysis" and top == "rkd_core" and part not in (top, *FOR_ANALYSIS):
                found.append(f"{name} imports {target}")
    return found + [f"{' -> '.join(circle)} is a circle" for circle in circles(graph)]


def circles(graph):
    """Return one circle for each module that can be reached from itself."""
    found = []
    for start in graph:
        paths, seen = [[start]], set()
        while paths:
            path = paths.pop()
            for following in graph[path[-1]]:
                if following == start:
                    found.append([*path, start])
                    paths = []
                    break
                if following not in seen:
                    seen.add(following)
                    paths.append([*path, following])
    return found


def test_imports_follow_the_layers():
    assert not faults(modules())


@pytest.mark.parametrize(
    ("module", "line"),
    [
        ("analysis.runs.loading", "from rkd_core import training"),
        ("analysis.runs.loading", "from rkd_core.training import train"),
        ("analysis.select", "import torch"),
        ("analysis.views.tables", "from sweeps.planning.plan import Plan"),
        ("rkd_core.training.loop", "import ray"),
        ("rkd_core.training.loop", "from sweeps import stop"),
        ("rkd_core.storage.files", "from rkd_core.records import SCHEMA"),
        ("rkd_core.models.base", "from rkd_core.training.run import Run"),
        ("analysis.runs.groups", "from analysis.selection import select"),
        ("sweeps.planning.plan", "from sweeps.running.sweep import Sweep"),
        ("sweeps.planning.plan", "    from sweeps.commands import pareto"),
        ("sweeps.planning.cost", "import ray"),
        ("rkd_core.metrics.accuracy", "from rkd_core.metrics import calibration"),
    ],
)
def test_a_planted_import_is_found(module, line):
    sources = modules()
    if line.startswith(" "):
        line = "def later():\n" + line
    if module == "rkd_core.metrics.accuracy":  # a circle within a layer
        sources["rkd_core.metrics.calibration"] += "\nimport rkd_core.metrics.accuracy\n"
    sources[module] += f"\n{line}\n"
    assert faults(sources)


def test_the_same_parts_import_no_torch():
    code = "; ".join(f"import rkd_core.{name}" for name in WITHOUT_TORCH)
    assert "torch" not in modules_after(code)


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
from rkd_core.device.execution import Execution
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
