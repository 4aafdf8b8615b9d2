"""Damaged runs are named and set aside, so that the next sweep trains only them."""

import json

import pytest

from rkd_core import records
from rkd_core.datasets import load
from rkd_core.device.execution import Execution
from rkd_core.records import predictions
from rkd_core.specs import DataOptions
from rkd_core.training import train
from sweeps.verify import main
from tests.rkd_core.training.test_loop import student_spec, teacher_spec

EPOCHS = {"recipe": teacher_spec().recipe.model_copy(update={"epochs": 1})}


@pytest.fixture(name="swept")
def results_of_three(tmp_path):
    data = load("digits", DataOptions(imbalance=20))
    teacher = teacher_spec(**EPOCHS)
    students = [
        student_spec(teacher, data.fingerprint, temperature=t, **EPOCHS) for t in (1.0, 2.0)
    ]

    def again():
        rows = train([teacher, *students], data=data, out=tmp_path, execution=Execution("cpu"))
        return [row["run_id"] for row in rows]

    (tmp_path / "dataset.json").write_text(json.dumps({"fingerprint": data.fingerprint}))
    return tmp_path, again(), again


def flip(path, place=-5):
    content = bytearray(path.read_bytes())
    content[place] ^= 4
    path.write_bytes(content)


def lines(capsys):
    return capsys.readouterr().out.splitlines()


def test_undamaged_runs_are_reported(swept, capsys):
    out, _, _ = swept
    assert main([str(out)]) == 0
    assert lines(capsys) == ["3 trainings are whole"]


@pytest.mark.parametrize(
    "name",
    [
        "weights.safetensors",
        "spec.json",
        "model.json",
        "record.parquet",
        "predictions_val.parquet",
        "predictions_test.parquet",
    ],
)
def test_a_flipped_bit_is_named_repaired_and_trained_again(swept, capsys, name):
    out, ids, again = swept
    flip(out / "artifacts" / ids[1] / name)
    assert main([str(out)]) == 1
    damaged, _ = lines(capsys)
    assert str(out / "artifacts" / ids[1] / name) in damaged
    assert main([str(out), "--repair"]) == 0
    assert "; repaired" in lines(capsys)[0]
    assert main([str(out)]) == 0
    assert lines(capsys) == ["2 trainings are whole"]
    before = records.read(out / "records").to_pylist()
    assert again() == ids
    after = {row["run_id"]: row for row in records.read(out / "records").to_pylist()}
    assert all(after[row["run_id"]] == row for row in before)  # the others were not touched
    assert main([str(out)]) == 0
    assert lines(capsys) == ["3 trainings are whole"]


def test_a_record_is_put_back_from_its_artifact(swept, capsys):
    out, ids, _ = swept
    paths = [out / "records" / f"{run_id}.parquet" for run_id in ids]
    before = [path.read_bytes() for path in paths]
    paths[0].write_bytes(before[0][:100])
    (row,) = records.read(out / "records", [ids[1]]).to_pylist()
    paths[1].write_bytes(records.serialize(row | {"val_worst_class_accuracy": 1.0}))
    paths[2].unlink()
    assert main([str(out)]) == 1
    printed = "\n".join(lines(capsys))
    assert all(str(path) in printed for path in paths)
    assert "3 damaged" in printed
    assert main([str(out), "--repair"]) == 0
    lines(capsys)
    assert [path.read_bytes() for path in paths] == before
    assert main([str(out)]) == 0


def test_a_byte_that_no_value_depends_on_is_named_too(swept, capsys):
    out, ids, _ = swept
    path = out / "records" / f"{ids[0]}.parquet"
    before = path.read_bytes()
    path.write_bytes(before.replace(b"parquet-cpp", b"parquet-cpq"))
    assert main([str(out)]) == 1
    assert f"{path} differs" in lines(capsys)[0]
    assert main([str(out), "--repair"]) == 0
    assert path.read_bytes() == before


def test_a_completed_record_without_artifact_is_set_aside(swept, capsys):
    out, ids, again = swept
    (out / "artifacts" / ids[2]).rename(out / "artifacts" / ".gone")
    assert main([str(out)]) == 1
    assert "no artifact" in lines(capsys)[0]
    main([str(out), "--repair"])
    assert again() == ids
    assert main([str(out)]) == 0


def test_damaged_caches_are_deleted(swept, capsys):
    out, _, _ = swept
    (path,) = (out / "teacher_logits").glob("*/logits.safetensors")
    flip(path)
    assert main([str(out)]) == 1
    assert str(path) in lines(capsys)[0]
    main([str(out), "--repair"])
    assert not path.parent.exists()


def test_a_folder_that_holds_no_results_is_refused(tmp_path, capsys):
    assert main([str(tmp_path)]) == 2
    assert "not a results folder" in capsys.readouterr().err
    (tmp_path / "dataset.json").write_text("[" * 10**5)
    assert main([str(tmp_path)]) == 2
    assert "not a results folder" in capsys.readouterr().err


@pytest.mark.parametrize("split", ["val", "test"])
@pytest.mark.parametrize("damage", ["flipped", "missing", "of another artifact"])
def test_published_predictions_come_back_from_the_artifact(swept, capsys, split, damage):
    out, ids, again = swept
    path = predictions.file_of(out, split, ids[1])
    before = path.read_bytes()
    if damage == "flipped":
        flip(path, len(before) // 3)
    elif damage == "missing":
        path.unlink()
    else:
        found = predictions.parse(path, before).columns
        given = (found[name] for name in ("image", "label", "logits", "predicted"))
        sums = json.loads((out / "dataset.json").read_text())["fingerprint"]
        path.write_bytes(predictions.serialize(ids[1], split, sums, *given, "top"))
    assert main([str(out)]) == 1
    line, last = lines(capsys)
    assert line.startswith(f"{path} ")
    assert last.startswith("1 damaged")
    assert main([str(out), "--repair"]) == 0
    assert path.read_bytes() == before
    assert lines(capsys)[0].endswith("; repaired")
    assert main([str(out)]) == 0
    assert again() == ids


def test_predictions_of_a_damaged_artifact_are_set_aside_with_it(swept, capsys):
    out, ids, again = swept
    paths = [predictions.file_of(out, split, ids[1]) for split in predictions.SPLITS]
    flip(out / "artifacts" / ids[1] / "weights.safetensors")
    flip(paths[0], 100)
    assert main([str(out), "--repair"]) == 0
    assert not any(path.exists() for path in paths)
    assert again() == ids
    assert main([str(out)]) == 0
    assert all(path.exists() for path in paths)


def test_damaged_shifts_are_named_and_deleted(swept, capsys):
    out, ids, _ = swept
    path = out / "shifts" / f"{ids[1]}.parquet"
    flip(path)
    assert main([str(out)]) == 1
    assert str(path) in lines(capsys)[0]
    assert main([str(out), "--repair"]) == 0
    assert not path.exists()
    capsys.readouterr()
    assert main([str(out)]) == 0
    assert lines(capsys) == ["3 trainings are whole"]
