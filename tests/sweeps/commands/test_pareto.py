"""The steps of ``pareto.py``, each by itself."""

import contextlib
import io
from dataclasses import replace

import pytest
from rich.console import Console

from analysis.select import main as select_again
from rkd_core import records
from rkd_core.device.execution import Execution
from rkd_core.errors import UserError
from rkd_core.records import predictions
from sweeps.cli.parse import parse
from sweeps.commands import job as jobs
from sweeps.commands import pareto
from sweeps.commands.job import choose_layout, find_work, prepare
from sweeps.pareto import main
from sweeps.planning.cost import kind_of
from sweeps.planning.packing import ONE
from sweeps.stop import Stop

SMALL = ["--dataset", "digits", "--alphas", "0", "--temperatures", "1", "--gpus-per-trial", "0"]


def prepared(out, *arguments):
    """Return a job and what its preparation printed."""
    screen = Console(file=io.StringIO(), width=200)
    options = parse([*SMALL, "--out", str(out), *arguments])
    with contextlib.ExitStack() as resources:
        return prepare(options, resources, screen), screen


def completed(run, **changes):
    counts = {"val_class_total": [9] * 10, "val_class_correct": [5] * 10}
    row = records.identity(run.spec, run.run_id, "data") | counts
    figures = {"train_seconds": 100.0, "train_class_total": [72] * 10}
    return row | figures | {"status": "completed"} | changes


def test_a_job_is_resolved_and_printed_and_writes_nothing(tmp_path):
    job, screen = prepared(tmp_path / "out", "--serial")
    assert (len(job.plan.teachers), len(job.plan.students)) == (2, 6)
    assert (job.cluster.slots, job.joined, job.teacher_pass) == (1, False, "table")
    assert job.out == tmp_path / "out"
    assert not job.out.exists()
    assert "2 teachers" in screen.file.getvalue()


@pytest.mark.parametrize(
    ("line", "message"),
    [
        ("--metric f1 --keep-predictions none", "--metric f1 needs predictions: leave out"),
        ("--metric auroc --keep-predictions top", "needs the logits of all classes: pass"),
        ("--worst-group --image-groups none.csv", "--image-groups none.csv cannot be read"),
        ("--worst-group", "--worst-group needs --image-groups FILE"),
        ("--metric top-10", "--metric top-10 needs more than 10 classes"),
        ("--metric auroc --search informed", "leave out --weight, --order, --floor, --metric"),
    ],
)
def test_metrics_that_could_not_be_computed_are_refused_before_training(tmp_path, line, message):
    with pytest.raises(UserError, match=message):
        prepared(tmp_path / "out", "--serial", *line.split())
    assert not (tmp_path / "out").exists()


def test_work_is_what_has_no_completed_record(tmp_path):
    job, _ = prepared(tmp_path, "--dry-run")
    first, second, third = job.plan.runs[:3]
    records.write(tmp_path / "records", completed(first))
    records.write(tmp_path / "records", completed(second, status="failed"))
    work = find_work(job, Console(file=io.StringIO()))
    assert work.completed == {first.run_id}
    assert work.missing == list(job.plan.runs[1:])
    assert work.hopeless == []
    assert list(work.ended()) == [first.run_id]
    assert work.costs.seconds(third, 1437) is not None or kind_of(third) != kind_of(first)


def test_a_damaged_teacher_is_trained_again_but_not_touched_by_a_dry_run(tmp_path):
    job, _ = prepared(tmp_path)
    records.write(tmp_path / "records", completed(job.plan.teachers[0]))  # without an artifact
    dry = replace(job.options, display=replace(job.options.display, dry_run=True))
    for one, missing in ((replace(job, options=dry), 7), (job, 8)):
        errors = Console(file=io.StringIO())
        assert len(find_work(one, errors).missing) == missing
        said = " ".join(errors.file.getvalue().split())
        assert ("set aside" in said) == (missing == 8)


@pytest.mark.parametrize(
    ("arguments", "calibrated", "chosen"),
    [(["--dry-run"], 0, False), (["--dry-run", "--calibrate"], 1, True), ([], 0, True)],
)
def test_the_layout_is_chosen_where_something_is_run_or_measured(
    tmp_path, monkeypatch, arguments, calibrated, chosen
):
    calls = []
    monkeypatch.setattr(jobs, "calibrate", lambda *given: calls.append(given) or [])
    job, _ = prepared(tmp_path, *arguments)
    work = find_work(job, Console(file=io.StringIO()))
    choose_layout(job, work, Console(file=io.StringIO()))
    assert (work.execution is not None, len(calls)) == (chosen, calibrated)
    assert work.per_trial == ONE


@pytest.mark.parametrize(("options", "told"), [([], True), (["--gpus-per-trial", "0"], False)])
def test_a_gpu_that_nvml_does_not_see_is_reported(tmp_path, monkeypatch, options, told):
    """Sweeps count GPUs by NVML: without the line, they would silently train on the CPU."""
    monkeypatch.setattr(Execution, "unseen_gpus", lambda: 2)
    options = parse([*SMALL[:-2], *options, "--out", str(tmp_path), "--serial"])
    console, errors = (Console(file=io.StringIO(), width=200) for _ in range(2))
    with contextlib.ExitStack() as resources:
        job = prepare(options, resources, console)
    choose_layout(job, find_work(job, errors), errors)
    line = "PyTorch sees 2 GPUs, but the driver's NVML reports none"
    assert (line in errors.file.getvalue()) is told


def test_nothing_is_laid_out_where_nothing_is_missing(tmp_path):
    job, _ = prepared(tmp_path, "--dry-run", "--calibrate")
    work = find_work(job, Console(file=io.StringIO()))
    work.completed = {run.run_id for run in job.plan.runs}
    choose_layout(job, work, Console(file=io.StringIO()))
    assert work.execution is None
    screen = Console(file=io.StringIO(), width=200)
    pareto.announce(job, work, screen)
    assert "All 8 are trained already." in screen.file.getvalue()


def test_a_full_disk_is_refused_before_the_folder_is_locked(tmp_path, monkeypatch):
    job, _ = prepared(tmp_path / "out", "--serial")
    work = find_work(job, Console(file=io.StringIO()))
    monkeypatch.setattr(pareto, "bytes_needed", lambda *_: 10**18)
    with contextlib.ExitStack() as resources:
        quiet = Console(file=io.StringIO())
        session = pareto.Session(["pareto.py"], Stop(), quiet, quiet, resources)
        with pytest.raises(UserError, match="are free where about"):
            pareto.reserve(job, work, session)
        assert not (tmp_path / "out").exists()
        monkeypatch.setattr(pareto, "bytes_needed", lambda *_: 0)
        token, allowance = pareto.reserve(job, work, session)
        assert (tmp_path / "out" / ".in-use.json").exists()
        assert token
        assert allowance is None
    assert not (tmp_path / "out" / ".in-use.json").exists()


def test_a_search_starts_from_what_there_is(tmp_path):
    job, _ = prepared(tmp_path, "--budget", "40%")
    work = find_work(job, Console(file=io.StringIO()))
    pareto.start_search(job, work, ["pareto.py"])
    assert work.search is not None
    assert work.plan.runs == work.search.plan.runs
    assert 0 < len(work.plan) < len(job.plan)
    assert (tmp_path / "plan.json").exists()


def test_failures_are_printed_and_decide_the_exit_code(tmp_path, monkeypatch):
    job, _ = prepared(tmp_path)
    errors = Console(file=io.StringIO(), width=200)

    def nothing(*_, **__):
        raise UserError("no completed student")

    monkeypatch.setattr(pareto, "select", nothing)
    failures = [(job.plan.runs[0], "out of luck")]
    choice = job.options.selection
    assert pareto.select_student(job.plan, tmp_path, choice, failures, errors) == 1
    assert "out of luck" in errors.file.getvalue()
    assert "No selection: no completed student" in errors.file.getvalue()
    with pytest.raises(UserError):
        pareto.select_student(job.plan, tmp_path, choice, [], errors)


def test_a_dry_run_says_how_much_disk_predictions_take(tmp_path, capsys):
    command = [*SMALL, "--serial", "--dry-run", "--out", str(tmp_path / "out")]
    assert main(command) == 0
    assert "Predictions for every image: about 0.5 MB" in capsys.readouterr().out
    assert main([*command, "--keep-predictions", "none"]) == 0
    assert "Predictions" not in capsys.readouterr().out
    assert main([*command, "--keep-predictions", "some"]) == 2
    assert "--keep-predictions" in capsys.readouterr().err


@pytest.mark.parametrize("keep", ["top", "none"])
def test_the_command_keeps_the_predictions_that_it_is_asked_for(tmp_path, keep):
    command = [*SMALL, "--serial", "--epochs", "1", "--out", str(tmp_path), "--quiet"]
    assert main([*command, "--keep-predictions", keep]) == 0
    run_ids = records.read(tmp_path / "records")["run_id"].to_pylist()
    for split in predictions.SPLITS:
        paths = [predictions.file_of(tmp_path, split, run_id) for run_id in run_ids]
        assert [path.exists() for path in paths] == [keep == "top"] * len(run_ids)
        for path in paths if keep == "top" else ():
            assert "top_classes" in predictions.parse(path, path.read_bytes()).columns


def test_the_report_shows_images_unless_they_are_left_out(tmp_path, capsys):
    command = [*SMALL, "--serial", "--epochs", "1", "--quiet"]
    for options, shown in (([], True), (["--no-images"], False)):
        out = tmp_path / str(shown)
        assert main([*command, *options, "--out", str(out)]) == 0
        page = (out / "report.html").read_text()
        assert "The mistakes" in page
        assert ('<img src="data:image/png' in page) == shown
        assert (out / "thumbnails.parquet").exists() == shown
    # The same answer again, without the data set, finds the same pictures.
    before = (tmp_path / "True" / "report.html").read_text()
    (tmp_path / "True" / ".answer.json").unlink()
    assert select_again([str(tmp_path / "True")]) == 0
    assert (tmp_path / "True" / "report.html").read_text() == before
