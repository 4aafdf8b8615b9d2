"""An objective that is added as docs/architecture.md says: one entry in ``OBJECTIVES``."""

import json

import pytest

from analysis.select import main as select
from rkd_core import datasets, methods
from rkd_core.device.execution import Execution
from rkd_core.methods.common.protocol import Cell, SoftTeacher
from rkd_core.objectives import OBJECTIVES, Objective, position
from rkd_core.specs import DataOptions, MultiplierOptions, TeacherRef, TrainingSpec, recipes
from rkd_core.training import train
from sweeps.planning.plan import make_plan
from sweeps.planning.settings import Settings

SETTINGS = Settings(
    dataset="digits-lt",
    data=DataOptions(imbalance=20),
    scale="small",
    teacher_architecture="digits_cnn",
    student_architectures=("digits_cnn",),
    recipe_name="digits",
    recipe=recipes.get("digits").model_copy(update={"epochs": 2}),
    multipliers=MultiplierOptions(),
    scale_by_classes=False,
    alphas=(),
    temperatures=(1.0,),
    seeds=(0,),
    methods=("tradeoff", "square_root_student"),
)


class SquareRootStudent(SoftTeacher):
    """A standard teacher, and a student halfway from standard to balanced."""

    name = "square_root_student"

    @property
    def cell(self):
        return Cell("square_root", self.temperature)


@pytest.fixture(autouse=True)
def _added(monkeypatch):
    added = Objective(lambda priors, multipliers, alpha: priors.rsqrt())
    monkeypatch.setitem(OBJECTIVES, "square_root", added)
    monkeypatch.setitem(methods._methods(), "square_root_student", SquareRootStudent)


def test_an_added_objective_is_planned_trained_and_selected_from(tmp_path, capsys):
    data = datasets.load(SETTINGS.dataset, SETTINGS.data)
    execution = Execution("cpu", "auto", 1)

    def trained(spec):
        (row,) = train([spec], out=tmp_path, data=data, execution=execution)
        return row

    teacher, *students = make_plan(SETTINGS, data.fingerprint).runs
    trained(teacher.spec)
    standard, own = (trained(run.spec) for run in students)
    assert (standard["student_objective"], own["student_objective"]) == ("standard", "square_root")
    assert own["alpha_s"] is None
    assert own["val_class_correct"] != standard["val_class_correct"]
    assert students[1].label == "student square_root, T=1, on teacher standard, seed 0"

    first = trained(teacher.spec.model_copy(update={"objective": "square_root"}))
    ref = TeacherRef(
        run_id=first["run_id"],
        family=first["family"],
        architecture=first["architecture"],
        objective="square_root",
    )
    trained(students[0].spec.model_copy(update={"teacher": ref}))

    assert select([str(tmp_path), "--verbose"]) == 0
    assert "square_root" in capsys.readouterr().out
    answer = json.loads((tmp_path / "selection.json").read_text())
    pairs = {(c["teacher_objective"], c["student_objective"]) for c in answer["combinations"]}
    assert pairs == {
        ("standard", "standard"),
        ("standard", "square_root"),
        ("square_root", "standard"),
    }
    assert answer["standard_distillation"]["run_ids"] == [standard["run_id"]]
    assert "square_root" in (tmp_path / "report.html").read_text()
    assert (tmp_path / "pareto.png").exists()


def test_an_added_objective_has_a_place_of_its_own():
    assert [position("standard"), position("balanced"), position("robust")] == [-1, 0, 1]
    assert position("tradeoff", 0.25) == 0.25
    assert position("square_root") >= 2


def test_an_unknown_objective_is_refused_by_name():
    fields = {"stage": "teacher", "dataset": "d", "architecture": "resnet8"}
    with pytest.raises(ValueError, match="unknown objective 'blanced': did you mean balanced"):
        TrainingSpec(**fields, objective="blanced", recipe={"epochs": 1})
