"""The command with a teacher that is known by its logits only."""

import json
import signal
import subprocess
import sys

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from rkd_core.datasets import load
from rkd_core.datasets.array_data import ArrayData
from rkd_core.device.execution import Execution
from rkd_core.models.inference import logits_of
from rkd_core.results import artifacts
from rkd_core.specs import GIVEN_LOGITS, DataOptions, TrainingSpec
from rkd_core.teachers import given_logits
from rkd_core.teachers.answers import Teacher, placed
from sweeps.api import Sweep
from sweeps.commands.verify import examine
from tests.e2e.command import ROOT, answer, pareto, rows

SMALL = ["--dataset", "digits-lt", "--alphas", "0", "1", "--temperatures", "1", "--epochs", "4"]
COUNTS = ("val_class_correct", "test_class_correct", "train_regularization_samples")


def run(module, *arguments):
    done = subprocess.run(
        [sys.executable, "-m", module, *map(str, arguments)],
        capture_output=True,
        text=True,
        cwd=ROOT,
        check=False,
    )
    return done.returncode, done.stdout + done.stderr


def save_logits(out, folder):
    """Write the logits of the standard teacher of a sweep as a user would bring them."""
    data = load("digits-lt", DataOptions(imbalance=20))
    execution = Execution("cpu", "auto", 1).prepared(data.image_size)
    specs = [TrainingSpec.model_validate_json(row["spec"]) for row in rows(out).values()]
    student = next(s for s in specs if s.teacher and s.teacher.objective == "standard")
    array_data = ArrayData(student, data, execution)
    teacher = Teacher(student.teacher, array_data, out)
    network = placed(artifacts.load(out / "artifacts", student.teacher.run_id), array_data)
    tables = {
        "train": teacher.clean,
        "validation": teacher.validation,
        "test": logits_of(network, array_data.test, execution),
    }
    folder.mkdir()
    for name, logits in tables.items():
        images = getattr(data, f"{'val' if name == 'validation' else name}_indices")
        columns = {"logits": logits.tolist(), "image": images}
        table = pa.table(columns).set_column(
            0, "logits", pa.array(columns["logits"], pa.list_(pa.float32()))
        )
        pq.write_table(table, folder / f"{name}.parquet")


@pytest.fixture(scope="module", name="trained")
def sweep_and_its_logits(tmp_path_factory):
    """Return the results of a sweep with shifted teachers, and its teacher's logits."""
    folder = tmp_path_factory.mktemp("trained")
    done = pareto(*SMALL, "--teachers", "shifted", "--serial", "--out", folder / "out")
    assert done.returncode == 0, done.stderr
    save_logits(folder / "out", folder / "logits")
    return folder / "out", folder / "logits"


def by_combination(out):
    names = ("stage", "teacher_objective", "alpha_t", "student_objective", "alpha_s", "seed")
    return {tuple(row[name] for name in names): row for row in rows(out).values()}


def test_logits_of_a_teacher_teach_like_the_teacher(tmp_path, trained):
    out, logits = trained
    command = [*SMALL, "--teacher-logits", logits, "--serial", "--out", tmp_path / "out"]
    done = pareto(*command)
    assert done.returncode == 0, done.stderr
    assert "3 teachers (given logits, shifted for other trade-offs)" in done.stdout
    assert "for the images that students see: none is augmented" in done.stdout
    kept = rows(tmp_path / "out")
    assert {row["status"] for row in kept.values()} == {"completed"}
    expected, found = by_combination(out), by_combination(tmp_path / "out")
    assert expected.keys() == found.keys()
    identical = 0
    for key, row in found.items():
        other = expected[key]
        standard = row["teacher_objective"] == "standard" or row["teacher_id"] is None
        for name in ("val_class_correct", "test_class_correct"):
            # A shift is added to the logits here, and to the biases of the network there.
            assert np.abs(np.subtract(row[name], other[name])).sum() <= (0 if standard else 4), key
        if row["stage"] == "student":
            assert all(row[name] == other[name] for name in COUNTS if standard)
            identical += standard
        else:
            assert row["architecture"] == GIVEN_LOGITS
            assert row["parameters"] is None
            assert (row["multipliers"] is None) == (row["alpha_t"] != 1)
            assert (row["multipliers"] or []) == pytest.approx(other["multipliers"] or [], rel=1e-5)
            name = json.loads(row["spec"])["given_logits"]
            assert (tmp_path / "out" / given_logits.FOLDER / name).is_dir()
    assert identical == 6

    for path in (tmp_path / "out" / given_logits.FOLDER).rglob(given_logits.FILE):
        path.write_bytes(b"damaged")
    assert len(list(examine(tmp_path / "out"))) == 1
    again = pareto(*command)
    assert list(examine(tmp_path / "out")) == []
    assert "All 15 are trained already." in again.stdout
    assert answer(again.stdout) == answer(done.stdout)
    assert rows(tmp_path / "out") == kept


def test_every_later_command_works_on_the_results(tmp_path, trained):
    out = tmp_path / "out"
    methods = "dkd:others_weight=2,ada_margin:holdout=validation,repeated_distillation:rounds=2"
    more = ["--methods", methods, "--teacher-logits", trained[1], "--epochs", "1"]
    done = pareto(*SMALL, *more, "--keep-predictions", "none", "--out", out)  # on Ray
    assert done.returncode == 0, done.stderr
    assert {row["status"] for row in rows(out).values()} == {"completed"}
    assert list(examine(out)) == []
    code, text = run("sweeps.predict", out)
    assert code == 0, text
    assert "more or fewer than in its record" not in text
    assert run("analysis.report", out)[0] == 0
    assert run("analysis.select", out, "--verbose")[0] == 0
    code, text = run("sweeps.commands.rkd", "export", out)
    assert code == 0, text
    card = (out / "student" / "README.md").read_text()
    assert ("with a teacher known by its logits only" in card) == ("without a teacher" not in card)
    teacher = next(row for row in rows(out).values() if row["stage"] == "teacher")
    code, text = run("sweeps.commands.rkd", "export", out, "--run-id", teacher["run_id"])
    assert code == 2
    assert "is a teacher that is known by its logits only, without a network" in text
    assert len(text.strip().splitlines()) == 1


@pytest.mark.slow
def test_a_killed_sweep_continues_without_its_files(tmp_path, trained):
    more = ["--epochs", "30", "--checkpoint-every", "2", "--teacher-logits", trained[1], "--serial"]
    whole = pareto(*SMALL, *more, "--out", tmp_path / "whole")
    assert whole.returncode == 0, whole.stderr
    out = tmp_path / "out"
    script = [sys.executable, str(ROOT / "sweeps" / "pareto.py"), *map(str, [*SMALL, *more])]
    with subprocess.Popen([*script, "--out", str(out)], stdout=subprocess.PIPE, text=True) as done:
        for line in done.stdout:
            if line.startswith("[5/15]"):
                break
        done.send_signal(signal.SIGKILL)
    assert len(rows(out)) < 15
    for path in (out / given_logits.FOLDER).rglob(given_logits.FILE):
        path.write_bytes(b"damaged")
    continued = pareto(*SMALL, *more, "--out", out)
    assert continued.returncode == 0, continued.stderr
    assert rows(out) == rows(tmp_path / "whole")


def test_a_sweep_in_python_takes_given_logits(tmp_path, trained):
    options = {"alphas": (1,), "temperatures": 1, "epochs": 1, "serial": True, "quiet": True}
    sweep = Sweep("digits-lt", teacher_logits=trained[1], out=tmp_path / "out", **options)
    sweep.run()
    stages = [row["stage"] for row in rows(tmp_path / "out").values()]
    assert (stages.count("teacher"), stages.count("student")) == (2, 6)


@pytest.mark.parametrize(
    ("options", "line"),
    [
        (["--teacher-architecture", "resnet8"], "leave --teacher-architecture out"),
        (["--teacher-epochs", "3"], "leave --teacher-epochs out"),
        (
            ["--teachers", "head"],
            "--teachers head trains a network, which --teacher-logits does not have",
        ),
        (["--methods", "review_kd"], "review_kd compares features of the teacher's network"),
        (["--methods", "cat_kd"], "cat_kd compares features of the teacher's network"),
        (["--methods", "post_shift"], "post_shift is its teacher's network with other biases"),
        (["--methods", "ada_margin"], "or pass ada_margin:holdout=validation"),
        (["--augmentation", "mixup"], "--teacher-logits has no logits of mixed images"),
        (["--dataset", "digits", "--classes", "5"], "has 10 logits per image, but the data have 5"),
        (["--imbalance", "2"], "training images have no logits, the first of them image"),
    ],
)
def test_options_that_need_a_network_are_refused_in_one_line(tmp_path, trained, options, line):
    done = pareto(*SMALL, "--teacher-logits", trained[1], *options, "--out", tmp_path / "out")
    assert done.returncode == 2
    (said,) = done.stderr.strip().splitlines()
    assert said.startswith("pareto.py: ")
    assert line in said
    assert not (tmp_path / "out").exists()


def test_a_missing_folder_is_refused(tmp_path):
    done = pareto(*SMALL, "--teacher-logits", tmp_path / "none", "--out", tmp_path / "out")
    assert done.returncode == 2
    assert done.stderr == f"pareto.py: --teacher-logits {tmp_path / 'none'} is not a folder\n"


def test_augmented_students_and_their_teacher_see_different_views(tmp_path, trained):
    more = ["--teacher-logits", trained[1], "--augmentation", "random_erasing", "--dry-run"]
    done = pareto(*SMALL, *more, "--out", tmp_path / "out")
    assert done.returncode == 0, done.stderr
    assert "teacher and student do not see the same view" in done.stdout
    assert "on every batch" not in done.stdout
