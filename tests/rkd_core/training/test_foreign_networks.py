"""Training of networks from outside the registry: draws, ties, frozen parts, features, restart."""

import itertools

import pytest
import torch

from rkd_core import models
from rkd_core.errors import StoppedError, UserError
from rkd_core.models.predictor import rebuild
from rkd_core.models.program import program
from rkd_core.models.sources import identity
from rkd_core.plugins import code
from rkd_core.results import artifacts
from rkd_core.specs import DataOptions, Recipe, TeacherRef, Variant, family_id, run_id
from rkd_core.storage.files import location
from rkd_core.training import saving, train
from tests.rkd_core.training.arrays.test_arrays import apart_from_company
from tests.rkd_core.training.test_loop import CPU, colourful, teacher_spec

NETS = """from torch import nn


class Drawing(nn.Module):
    def __init__(self, num_classes):
        super().__init__()
        self.maps = nn.Sequential(nn.Conv2d(3, 8, 3, 2, 1), nn.ReLU())
        self.deep = nn.Sequential(nn.Conv2d(8, 8, 3, 2, 1), nn.GroupNorm(2, 8), nn.ReLU())
        self.drop = nn.Dropout(0.5)
        self.head = nn.Linear(8, num_classes)

    def forward(self, x):
        return self.head(self.drop(self.deep(self.maps(x)).mean((2, 3))))


class Tied(nn.Module):
    def __init__(self, num_classes):
        super().__init__()
        self.first = nn.Linear(12, 12)
        self.second = nn.Linear(12, 12)
        self.second.weight = self.first.weight
        self.frozen = nn.Linear(12, 12).requires_grad_(False)
        self.head = nn.Linear(12, num_classes)

    def forward(self, x):
        x = self.second(self.first(x.mean((1, 2))).relu()).relu()
        return self.head(self.frozen(x)) * 1.0


class Squashed(nn.Module):
    def __init__(self, num_classes):
        super().__init__()
        self.head = nn.Linear(3, num_classes)

    def forward(self, x):
        return self.head(x.mean((2, 3))).tanh() * 3
"""
RECIPE = Recipe(epochs=4, batch_size=32, learning_rate=0.05, flip=True)


@pytest.fixture(name="network")
def networks_in_a_file(tmp_path):
    path = tmp_path / "nets.py"
    path.write_text(NETS)
    data = colourful()

    def spec(name, **changes):
        found = models.identify(f"{path}:{name}", data.classes, 3, data.image_size)
        for out in ("whole", "cut"):
            code.keep(location(tmp_path / out), found.digest, found.code)
        fields = {
            "architecture": found.architecture,
            "network_digest": found.digest,
            "recipe": RECIPE,
            "data": DataOptions(),
        }
        return teacher_spec(**(fields | changes))

    return data, spec, tmp_path


def student_of(teacher, spec, data, name, **changes):
    ref = TeacherRef(
        run_id=run_id(teacher, data.fingerprint),
        family=family_id(teacher, data.fingerprint),
        architecture=teacher.architecture,
        objective=teacher.objective,
    )
    return spec(name, **({"stage": "student", "teacher": ref, "temperature": 2.0} | changes))


@pytest.mark.parametrize("name", ["Drawing", "Tied", "Squashed"])
def test_a_training_that_stops_in_an_epoch_ends_in_the_same_record(network, monkeypatch, name):
    data, spec, folder = network
    spec = spec(name)
    state = torch.get_rng_state()
    (whole,) = train([spec], data=data, out=folder / "whole", execution=CPU)
    assert torch.equal(torch.get_rng_state(), state)
    monkeypatch.setattr(saving, "_SECONDS", 0.0)
    monkeypatch.setattr(saving, "_SHARE", float("inf"))
    options = {"data": data, "out": folder / "cut", "execution": CPU}
    steps = itertools.count()
    with pytest.raises(StoppedError):
        train([spec], stop=lambda: next(steps) == 7, **options)
    identity._known.clear()  # as in another process, which has the results folder alone
    torch.manual_seed(123)
    (row,) = train([spec], **options)
    assert apart_from_company(row) == apart_from_company(whole)
    files = [
        folder / out / "artifacts" / row["run_id"] / "weights.safetensors"
        for out in ("whole", "cut")
    ]
    assert files[0].read_bytes() == files[1].read_bytes()


def test_draws_depend_on_run_epoch_and_step(network):
    data, spec, folder = network
    still = spec("Drawing")
    other = spec("Drawing", objective="balanced")
    together = train([still, other], data=data, out=folder / "whole", execution=CPU)
    alone = [train([s], data=data, out=folder / "cut", execution=CPU)[0] for s in (other, still)]
    for row, one in zip(together, reversed(alone), strict=True):
        assert apart_from_company(row) == apart_from_company(one)


def test_an_artifact_is_built_from_the_results_folder_alone(network):
    data, spec, folder = network
    rows = train([spec("Drawing"), spec("Tied")], data=data, out=folder / "whole", execution=CPU)
    (folder / "nets.py").unlink()
    identity._known.clear()
    for row in rows:
        artifact = artifacts.load(location(folder / "whole" / "artifacts"), row["run_id"])
        images = torch.rand(5, 3, 12, 12)
        assert rebuild(artifact)(images).shape == (5, 3)
        assert len(program(artifact)) > 1000


def test_missing_code_is_named(network):
    data, spec, folder = network
    (row,) = train([spec("Drawing")], data=data, out=folder / "whole", execution=CPU)
    for path in (folder / "whole" / "networks").glob("*/code.json"):
        path.write_text("{}")
    identity._known.clear()
    artifact = artifacts.load(location(folder / "whole" / "artifacts"), row["run_id"])
    with pytest.raises(UserError, match=r"networks/.*code\.json"):
        rebuild(artifact)


def test_students_of_a_foreign_teacher_with_features(network):
    data, spec, folder = network
    teacher = spec("Drawing")
    method = Variant(method="review_kd")
    student = student_of(teacher, spec, data, "Drawing", temperature=None, variant=method, seed=1)
    plain = student_of(teacher, spec, data, "Squashed")
    rows = train([teacher, student, plain], data=data, out=folder / "whole", execution=CPU)
    assert [row["status"] for row in rows] == ["completed"] * 3
    flat = student_of(teacher, spec, data, "Tied", temperature=None, variant=method)
    with pytest.raises(UserError, match="not the output of a linear layer"):
        train([flat], data=data, out=folder / "whole", execution=CPU)


def test_the_final_layer_is_needed_for_shifts_only(network):
    data, spec, folder = network
    teacher = spec("Squashed")
    shift = Variant(method="post_shift")
    student = student_of(teacher, spec, data, "Squashed", temperature=None, variant=shift)
    with pytest.raises(UserError, match="not the output of a linear layer"):
        train([teacher, student], data=data, out=folder / "whole", execution=CPU)
