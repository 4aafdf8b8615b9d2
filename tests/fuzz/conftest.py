import resource
import shutil

import pytest
import torch

from rkd_core.datasets import load
from rkd_core.device.execution import Execution
from rkd_core.models import Pretrained
from rkd_core.results.checkpoints import Checkpoints
from rkd_core.results.initial_weights import keep
from rkd_core.specs import DataOptions
from rkd_core.training import train
from tests.rkd_core.training.test_loop import student_spec, teacher_spec

_MOST = 1 << 20  # KiB that a test's cases may add to the most memory this process has had


@pytest.fixture(autouse=True)
def bounded_memory():
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    yield
    grown = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before
    assert grown < _MOST, f"{grown / 1024:.0f} MiB more"


@pytest.fixture(autouse=True)
def no_waiting_for_disks(monkeypatch):
    monkeypatch.setattr("os.fsync", lambda descriptor: None)


@pytest.fixture(scope="session", name="trained")
def results_of_two(tmp_path_factory):
    """A results folder: a teacher, its answers, a student, its checkpoint, initial weights."""
    out = tmp_path_factory.mktemp("trained")
    data = load("digits", DataOptions(imbalance=20))
    recipe = teacher_spec().recipe.model_copy(update={"epochs": 1})
    teacher = teacher_spec(recipe=recipe)
    student = student_spec(teacher, data.fingerprint, recipe=recipe)
    rows = train([teacher, student], data=data, out=out, execution=Execution("cpu"))
    keep(out, Pretrained("a" * 64, {"weight": torch.ones(99)}, 10, None))
    Checkpoints(out, rows[1]["run_id"]).save(1, {"weight": torch.arange(64.0)})
    (out / "dataset.json").write_text('{"dataset": "digits", "fingerprint": "x"}')
    return out, [row["run_id"] for row in rows]


@pytest.fixture(name="results")
def copy_of_results(trained, tmp_path):
    """A copy that may be damaged, and its run ids."""
    out, run_ids = trained
    shutil.copytree(out, tmp_path / "results")
    return tmp_path / "results", run_ids
