"""A results folder written by an earlier version is read, selected from and continued.

``data/results-2026-11.tar.xz`` holds digits-lt sweeps of a two-layer network: every method at two
epochs (one training failed), a grid at eight epochs of which five students were pruned, a search by
Optuna, a sweep whose every training diverged, and a 30-epoch sweep that was interrupted.
"""

import json
import shutil
import tarfile
from pathlib import Path

import pytest

from analysis.runs.predictions import load
from rkd_core import records
from rkd_core.results.checkpoints import Checkpoints
from rkd_core.specs import TrainingSpec, run_id
from sweeps.pareto import main
from sweeps.predict import main as predict

ARCHIVE = Path(__file__).parent / "data" / "results-2026-11.tar.xz"
METHODS = (
    "tradeoff,ada_alpha:temperature=1,ada_alpha_remove_hardest:temperature=1,"
    "ada_alpha_shuffled:temperature=3,ada_margin:temperature=1,cat_kd:weight=0.5,"
    "cat_kd:weight=15,dist,"
    "dkd:others_weight=2,group_dro,kd,ltkd:cross_weight=1:within_weight=1,one_hot,post_shift,"
    "repeated_distillation:rounds=2,review_kd:weight=1,weighted_soft_labels"
)
EVERY_METHOD = ["--epochs", "2", "--alphas", "0", "1", "--temperatures", "1", "--methods", METHODS]
SEARCH = ["--epochs", "2", "--alphas", "0", "0.5", "1", "--temperatures", "1"]
SEARCH += ["--search", "optuna", "--budget", "80%"]
PRUNED = ["--epochs", "8", "--alphas", "0", "0.5", "1", "--temperatures", "1"]
INTERRUPTED = ["--epochs", "30", "--alphas", "1", "--temperatures", "3"]

CHANGED = {"cat_kd"}
"""Methods whose mathematics, and therefore run ids, have changed since the folder was written."""
TO_TRAIN = {"search": 8, "pruned": 5, "interrupted": 2}
SELECTED = {
    "7126e2a30106dfbb7867": "0e13d4d9dd37905af508",
    "ba70778616a782461c21": "cc1690bd49d2982b9f9f",
}
"""Student selected by counts, by family."""


@pytest.fixture(scope="module")
def original(tmp_path_factory):
    folder = tmp_path_factory.mktemp("earlier")
    with tarfile.open(ARCHIVE) as archive:
        archive.extractall(folder, filter="data")
    return folder / "results"


@pytest.fixture
def results(original, tmp_path):
    return Path(shutil.copytree(original, tmp_path / "results"))


def rows(results):
    return {row["run_id"]: row for row in records.read(results / "records").to_pylist()}


def files(results, folder):
    return {
        path.relative_to(results): path.read_bytes()
        for path in (results / folder).rglob("*")
        if path.is_file()
    }


def pareto(results, *options):
    return main(["--dataset", "digits-lt", "--serial", "--out", str(results), *options])


def train_the_rest(results, options, capsys, undistilled=False):
    """Continue a sweep; return the ids of the new runs, and the printed text."""
    options = options if undistilled else [*options, "--no-undistilled"]
    before = rows(results)
    finished = {key for key, row in before.items() if row["status"] == "completed"}
    kept = files(results, "artifacts")
    pareto(results, *options)
    after = rows(results)
    assert {key: after[key] for key in finished} == {key: before[key] for key in finished}
    assert kept.items() <= files(results, "artifacts").items()
    ended = {key for key, row in after.items() if row["status"] == "completed"}
    return ended - finished, capsys.readouterr().out


def test_every_record_still_has_its_run_id(original):
    fingerprint = json.loads((original / "dataset.json").read_text())["fingerprint"]
    found = rows(original)
    assert len(found) == 59
    for key, row in found.items():
        unchanged = run_id(TrainingSpec.model_validate_json(row["spec"]), fingerprint) == key
        assert unchanged == (row["method"] not in CHANGED), row["method"]


def test_only_what_failed_is_trained_again(results, capsys):
    """The failed training may fail again."""
    new, said = train_the_rest(results, EVERY_METHOD, capsys)
    assert f"{28 - len(CHANGED)} are trained already" in said
    assert {rows(results)[key]["method"] for key in new} <= {"cat_kd", *CHANGED}


def test_students_without_a_teacher_are_added(results, capsys):
    """The student of the standard objective exists already."""
    new, _ = train_the_rest(results, EVERY_METHOD, capsys, undistilled=True)
    found = [rows(results)[key] for key in new]
    added = sorted(row["alpha_s"] for row in found if row["method"] == "one_hot")
    assert added == [0.0, 1.0]
    assert {row["method"] for row in found} <= {"one_hot", "cat_kd", *CHANGED}
    answer = json.loads((results / "selection.json").read_text())
    students = answer["undistilled"]["students"]  # shifted or not
    assert len({run_id for student in students for run_id in student["run_ids"]}) == 3


def test_a_search_goes_on_in_its_study(results, capsys):
    new, _ = train_the_rest(results, SEARCH, capsys)
    assert 1 <= len(new) <= TO_TRAIN["search"]
    lines = map(json.loads, (results / "search.journal").read_text().splitlines())
    studies = {line["study_name"] for line in lines if line["op_code"] == 0}
    assert studies == {"digits-lt-6b438a1febfc"}


def test_pruned_students_go_on_from_their_checkpoints(results, capsys):
    pruned = {key for key, row in rows(results).items() if row["status"] == "pruned"}
    assert all(Checkpoints(results, key).newest() > 0 for key in pruned)
    new, _ = train_the_rest(results, PRUNED, capsys)
    assert new == pruned
    assert len(new) == TO_TRAIN["pruned"]


def test_an_interrupted_training_goes_on_from_its_checkpoint(results, capsys):
    saved = {path.name for path in (results / "checkpoints").iterdir()}
    new, _ = train_the_rest(results, INTERRUPTED, capsys)
    assert len(new) == TO_TRAIN["interrupted"]
    (interrupted,) = new & saved
    assert rows(results)[interrupted]["epochs_trained"] == 30
    assert not (results / "checkpoints" / interrupted).exists()


@pytest.mark.parametrize("family", SELECTED)
def test_the_same_student_is_selected(results, family):
    from analysis.select import main as select

    options = ["--family", family, "--estimate", "raw", "--no-figures"]
    assert select([str(results), *options]) == 0
    answer = json.loads((results / "selection.json").read_text())
    assert answer["selected"]["run_ids"] == [SELECTED[family]]


def test_a_model_is_exported_with_the_decoding_that_it_was_trained_with(results):
    from sweeps.export import main as export

    assert export([str(results), "--run-id", next(iter(SELECTED.values()))]) == 0
    about = json.loads((results / "student" / "preprocessing.json").read_text())
    before = {"integers": [0, 65535], "floats": [0, 255], "upright": False, "over_white": False}
    assert about["decoding"] == before
    assert (results / "student" / "preprocess.py").is_file()


def test_predictions_are_computed_from_the_artifacts(results, capsys):
    assert predict([str(results)]) == 0
    completed = {key: row for key, row in rows(results).items() if row["status"] == "completed"}
    said = f"Computed the predictions of {len(completed)} trainings; 0 had theirs already.\n"
    assert capsys.readouterr().out == said  # and none has other counts than its record
    found = load(results, list(completed))
    for key, right in zip(found.run_ids, found.values, strict=True):
        counts = [int(right[found.label == k].sum()) for k in range(10)]
        assert counts == completed[key]["val_class_correct"]
