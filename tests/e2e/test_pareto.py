"""The command end to end, as a user runs it."""

import io
import json
import os
import re
import shlex
import shutil
import subprocess
import sys
import threading
import urllib.request
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from PIL import Image

from rkd_core import methods, records
from rkd_core.text import json_text
from tests.e2e.command import GRID, ROOT, answer, pareto, pareto_in_process, rows
from tests.rkd_core.datasets.on_disk import NAMES, image_folder


def test_one_command_from_data_to_selection(swept):
    out, done = swept
    assert done.stdout.splitlines()[0].startswith("digits-lt, small scale: 3 teachers")
    assert answer(done.stdout)
    assert done.stderr == ""
    assert {p.name for p in out.iterdir()} >= {
        "records",
        "artifacts",
        "selection.json",
        "pareto.png",
        "pareto.svg",
        "report.html",
        "sweep.log",
    }
    kept = rows(out)
    assert len(kept) == 3 + 9 + 3
    assert {row["status"] for row in kept.values()} == {"completed"}
    assert {p.name for p in (out / "artifacts").iterdir()} == set(kept)
    events = list((out / "ray").rglob("events.out.tfevents*"))
    assert len(events) == 15


def test_the_selection_is_that_of_brute_force_over_the_records(swept):
    out, _ = swept
    selection = json.loads((out / "selection.json").read_text())
    students = [row for row in rows(out).values() if row["teacher_id"]]

    def plain(row):
        return row["teacher_objective"] == row["student_objective"] == "standard"

    def error(row):
        p, n = row["val_average_accuracy"], sum(row["val_class_total"])
        return (p * (1 - p) / n) ** 0.5

    (reference,) = filter(plain, students)

    def feasible(row):
        margin = (error(row) ** 2 + error(reference) ** 2) ** 0.5
        return row["val_average_accuracy"] >= reference["val_average_accuracy"] - margin

    best = max(
        filter(feasible, students),
        key=lambda r: (r["val_worst_class_accuracy"], r["val_average_accuracy"]),
    )
    assert selection["feasible"]
    assert selection["constraint"]["reference_run_ids"] == [reference["run_id"]]
    assert selection["selected"]["run_ids"] == [best["run_id"]]
    for name in ("alpha_t", "alpha_s", "temperature"):
        assert selection["selected"][name] == best[name]


def test_the_same_command_again_trains_nothing_and_answers_the_same(swept):
    out, first = swept
    before = {p: p.stat().st_mtime_ns for p in (out / "records").iterdir()}
    selection = (out / "selection.json").read_bytes()
    again = pareto("--dataset", "digits-lt", *GRID, "--out", out)
    assert again.returncode == 0
    assert "All 15 are trained already." in again.stdout
    assert {p: p.stat().st_mtime_ns for p in (out / "records").iterdir()} == before
    assert (out / "selection.json").read_bytes() == selection
    assert answer(again.stdout) == answer(first.stdout)


def test_the_log_has_no_lines_of_libraries(swept):
    lines = (swept[0] / "sweep.log").read_text("utf-8").splitlines()
    assert [line for line in lines if not re.match(r"\d{4}-\d\d-\d\d [\d:,]+ INFO ", line)] == []
    assert sum(" completed " in line for line in lines) == len(rows(swept[0]))


def test_selection_runs_alone(swept):
    out, first = swept
    selection = (out / "selection.json").read_bytes()
    done = subprocess.run(
        [sys.executable, "-m", "analysis.select", str(out)],
        capture_output=True,
        text=True,
        cwd=ROOT,
        env=os.environ | {"COLUMNS": "100"},
        check=True,
    )
    assert (out / "selection.json").read_bytes() == selection
    assert answer(done.stdout) == answer(first.stdout)


def test_a_sweep_selects_by_its_rule(swept, tmp_path):
    out = tmp_path / "out"
    shutil.copytree(swept[0], out)
    options = ["--floor", "0=0.5", "--floor", "3=0.25", "--serial"]
    done = pareto("--dataset", "digits-lt", *GRID, "--out", out, *options)
    assert done.returncode == 0, done.stderr
    content = json_text.parse_object((out / "selection.json").read_bytes())
    assert content["criterion"] == {
        "name": "floors",
        "worst_k": 1,
        "floors": {"0": 0.5, "3": 0.25},
    }
    refused = pareto("--dataset", "digits-lt", *GRID, "--out", out, *options, "--prune")
    assert refused.returncode == 2
    assert "--prune follows the worst-k accuracy" in refused.stderr


def test_the_printed_command_trains_the_proposed_seeds(tmp_path):
    out = tmp_path / "results"
    grid = ["--alphas", "0", "1", "--temperatures", "1", "--epochs", "12"]
    first = pareto("--dataset", "digits-lt", *grid, "--out", out, "--serial")
    assert first.returncode == 0, first.stderr
    # The proposal is for the students with the selected shift, whose regret is smaller.
    target = json.loads((out / "selection.json").read_text())["expected_regret"] / 20
    told = subprocess.run(
        [sys.executable, "-m", "analysis.select", str(out), "--target-regret", str(target)],
        capture_output=True,
        text=True,
        cwd=ROOT,
        check=True,
    )
    settling = json.loads((out / "selection.json").read_text())["settling"]
    (command,) = (li for li in told.stdout.splitlines() if li.startswith("python "))
    python, script, *options = shlex.split(command)
    assert (python, Path(script).name) == ("python", "pareto.py")
    before = rows(out)
    done = pareto(*options)
    assert done.returncode == 0, done.stderr
    new = [row for key, row in rows(out).items() if key not in before]
    students = [row for row in new if row["stage"] == "student"]
    assert len(students) == len(settling["combinations"]) * settling["seeds"]
    assert {row["seed"] for row in new} == set(range(1, 1 + settling["seeds"]))
    assert {row["run_id"] for row in new} - {row["run_id"] for row in students} == {
        row["teacher_id"] for row in students
    }
    assert "combinations lack some seeds" in done.stdout


def test_without_ray_the_records_are_the_same_to_the_bit(swept, tmp_path):
    """Reused Ray actors, fresh ones and a plain process agree: nothing leaks between trials."""
    out, _ = swept
    done = pareto("--dataset", "digits-lt", *GRID, "--out", tmp_path / "serial", "--serial")
    assert done.returncode == 0, done.stderr
    assert rows(tmp_path / "serial") == rows(out)


def test_a_reused_actor_gives_what_a_fresh_process_gives(swept, tmp_path):
    """The last run of an actor that had several is repeated alone in a new process."""
    out, _ = swept
    table = records.read(out / "records").to_pylist()
    students = (row for row in table if row["teacher_id"] is not None)
    last = max(students, key=lambda row: row["started_at"])
    teacher = Path("artifacts", last["teacher_id"])
    subprocess.run(["mkdir", "-p", str(tmp_path / "artifacts")], check=True)
    subprocess.run(["cp", "-r", str(out / teacher), str(tmp_path / teacher)], check=True)
    code = """
import sys, torch
from rkd_core.specs import TrainingSpec
from rkd_core.training import train
torch.set_num_threads(1)
train([TrainingSpec.model_validate_json(sys.stdin.read())], out=sys.argv[1])
"""
    subprocess.run(
        [sys.executable, "-c", code, str(tmp_path)],
        input=last["spec"],
        text=True,
        cwd=ROOT,
        check=True,
    )
    assert rows(tmp_path)[last["run_id"]] == rows(out)[last["run_id"]]
    name = Path("artifacts", last["run_id"], "weights.safetensors")
    assert (tmp_path / name).read_bytes() == (out / name).read_bytes()


def test_a_larger_grid_trains_only_what_is_new(swept, tmp_path):
    out, _ = swept
    copy = tmp_path / "copy"
    subprocess.run(["cp", "-r", str(out), str(copy)], check=True)
    before = rows(copy)
    grid = ["--alphas", "0", "1", "--temperatures", "1", "3", "--epochs", "2", "--serial"]
    plan = pareto("--dataset", "digits-lt", *grid, "--out", copy, "--dry-run")
    assert "15 are trained already, 9 to go" in plan.stdout
    assert re.search(r"(about \d+ s|\d+ s to \d+ s) with 1 at a time", plan.stdout)
    done = pareto("--dataset", "digits-lt", *grid, "--out", copy)
    assert done.returncode == 0, done.stderr
    after = rows(copy)
    assert len(after) == 24
    assert {k: after[k] for k in before} == before


def test_failures_are_recorded_named_and_end_in_exit_code_1(tmp_path):
    out = tmp_path / "out"
    done = pareto("--dataset", "digits", *GRID, "--learning-rate", "1e30", "--out", out)
    assert done.returncode == 1
    assert "15 of 15 trainings failed" in done.stderr
    assert "Traceback" not in done.stderr + done.stdout
    kept = rows(out).values()
    assert {row["status"] for row in kept} == {"failed"}
    for row in kept:
        assert "epoch 0, step" in row["cause"]
        assert (row["teacher_id"] is not None) == (f"teacher {row['teacher_id']}" in row["cause"])
    retries = [line for line in (out / "sweep.log").read_text().splitlines() if "(retry" in line]
    assert [sum(f"(retry {n} of 2)" in line for line in retries) for n in (1, 2)] == [6, 6]


def test_dry_run_trains_and_writes_nothing(tmp_path):
    done = pareto("--dataset", "digits-lt", "--dry-run", cwd=tmp_path)
    assert done.returncode == 0
    assert "6 teachers" in done.stdout
    assert "114 students" in done.stdout
    assert list(tmp_path.iterdir()) == []


def test_calibration_estimates_the_time(tmp_path):
    done = pareto("--dataset", "digits-lt", "--dry-run", "--calibrate", cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    assert re.search(r": \d+ \w+ to \d.* with \d+ at a time", done.stdout)
    assert list(tmp_path.iterdir()) == []


def test_list_and_help():
    done = pareto("--list")
    assert done.returncode == 0
    for name in (
        "digits-lt",
        "tiny-imagenet",
        "resnet56",
        "logit-adjustment-cifar10-lt",
        "dkd",
        "FOLDER",
    ):
        assert name in done.stdout
    done = pareto("--help")
    assert done.returncode == 0
    assert "--alphas" in done.stdout


def test_all_methods_in_one_sweep(tmp_path):
    small = ["--dataset", "digits-lt", "--temperatures", "1", "--epochs", "1", "--serial"]
    out = tmp_path / "o"
    done = pareto_in_process(*small, "--methods", "all", "--alphas", "0", "1", "--out", out)
    assert done.returncode == 0, done.stderr
    table = rows(out)
    cells = {name: methods.create(name).cell for name in methods.descriptions()}
    assert {row["method"] for row in table.values()} == {
        *("standard", "tradeoff"),
        *(name for name, cell in cells.items() if cell is None or cell.rounds > 1),
    }
    assert {row["status"] for row in table.values()} == {"completed"}
    beside = json.loads((out / "selection.json").read_text())["methods"]
    variants = {row["variant"] for row in table.values()} - {None}
    assert {row["variant"] for row in beside} == variants
    assert not (out / "teacher_logits").exists()
    # Cells are the grid's own runs: nothing is left to train.
    done = pareto_in_process(*small, "--methods", "balanced_student,robust_student", "--out", out)
    assert "All 7 are trained already." in done.stdout
    assert rows(out) == table


def test_an_unknown_method(tmp_path):
    done = pareto("--methods", "kd,review", "--out", tmp_path / "o")
    assert done.returncode == 2
    assert "did you mean review_kd?" in done.stderr
    assert not (tmp_path / "o").exists()


def test_quiet_prints_only_the_result(tmp_path):
    done = pareto("--dataset", "digits-lt", *GRID, "--out", tmp_path / "o", "--serial", "--quiet")
    assert done.returncode == 0
    assert done.stdout.strip() == answer(done.stdout).strip()
    assert done.stderr == ""


@pytest.mark.parametrize(
    ("arguments", "named"),
    [
        (["--dataset", "cifar11"], "cifar11"),
        (["--alphas", "2"], "--alphas"),
        (["--alphas", "nan"], "--alphas"),
        (["--alpah", "1"], "--alpah"),
        (["--seeds", "0", "0"], "--seeds"),
        (["--epochs", "0"], "--epochs"),
        (["--imbalance", "1000"], "imbalance"),
        (["--data-dir", "missing"], "missing"),
        (["--cpus-per-trial", "1000"], "--cpus-per-trial"),
        (["--address", "127.0.0.1:1"], "--address 127.0.0.1:1: nothing answers"),
        (["--address", "ray://127.0.0.1"], "host:port"),
        (["--gpus-per-trial", "1000"], "--gpus-per-trial"),
        (["--out", "{file}"], "is a file"),
    ],
    ids=lambda v: " ".join(v) if isinstance(v, list) else "",
)
def test_bad_input_is_one_line_and_exit_code_2(tmp_path, arguments, named):
    (tmp_path / "file").write_text("mine")
    done = pareto_in_process(*(a.format(file="file") for a in arguments), cwd=tmp_path)
    assert done.returncode == 2, done.stderr
    (line,) = done.stderr.strip().splitlines()
    assert line.startswith("pareto.py: ")
    assert named in line
    assert [p.name for p in tmp_path.iterdir()] == ["file"]  # nothing half-written


def test_results_of_another_data_set_and_foreign_files_are_refused(swept, tmp_path):
    out, _ = swept
    done = pareto("--dataset", "digits", *GRID, "--out", out)
    assert done.returncode == 2
    assert "another data set (digits-lt)" in done.stderr
    copy = tmp_path / "copy"
    subprocess.run(["cp", "-r", str(out), str(copy)], check=True)
    pq.write_table(pa.table({"x": [1]}), copy / "records" / "stranger.parquet")
    done = pareto("--dataset", "digits-lt", *GRID, "--out", copy)
    assert done.returncode == 2
    assert "stranger.parquet is not a record" in done.stderr
    assert len(done.stderr.strip().splitlines()) == 1


def image_parquet(path, n, column, seed):
    """Write encoded images as Hugging Face does, some of them gray, with labels 0 to 2."""
    random = np.random.RandomState(seed)
    images, labels = [], []
    for i in range(n):
        label = i % 3
        pixels = random.randint(0, 60, (20, 24, 3)) + 60 * label
        image = Image.fromarray(pixels.astype(np.uint8))
        buffer = io.BytesIO()
        (image.convert("L") if i % 5 == 0 else image).save(buffer, "PNG")
        images.append({"bytes": buffer.getvalue(), "path": f"{i}.png"})
        labels.append(label)
    pq.write_table(pa.table({column: images, "label": labels}), path)


def test_parquet_images_of_a_user(tmp_path):
    folder = tmp_path / "my_images"
    folder.mkdir()
    image_parquet(folder / "train-00000-of-00002.parquet", 90, "picture", 0)
    image_parquet(folder / "train-00001-of-00002.parquet", 60, "picture", 1)
    image_parquet(folder / "validation.parquet", 60, "picture", 2)
    done = pareto_in_process(
        *("--dataset", folder, *GRID, "--batch-size", "32", "--imbalance", "5", "--serial"),
        *("--student-architecture", "resnet8", "--teacher-architecture", "resnet8"),
        cwd=tmp_path,
    )
    assert done.returncode == 0, done.stderr
    kept = rows(tmp_path / "results" / "my_images").values()
    assert len(kept) == 15
    assert {tuple(row["train_class_total"]) for row in kept} == {(50, 22, 10)}
    assert {sum(row["val_class_total"]) + sum(row["test_class_total"]) for row in kept} == {60}


def test_image_lists(tmp_path):
    """The layout of ImageNet-LT: the images in a folder, and two text files."""
    image_folder(tmp_path / "images", train=12, test=4)
    for split, shares in (("train", (12, 6, 3)), ("val", (4, 4, 4))):
        lines = [
            f"{split}/{name}/{i:03}.png {label}\n"
            for label, (name, count) in enumerate(zip(NAMES, shares, strict=True))
            for i in range(count)
        ]
        (tmp_path / f"Birds_LT_{split}.txt").write_text("".join(lines))
    command = ("--dataset", "images", "--train-list", "Birds_LT_train.txt", "--serial")
    command = (*command, "--alphas", "0", "--temperatures", "1", "--epochs", "1")
    done = pareto_in_process(*command, cwd=tmp_path)
    assert (done.returncode, done.stdout) == (2, "")
    assert done.stderr.startswith("pareto.py: --train-list and --test-list go together")
    done = pareto_in_process(*command, "--test-list", "Birds_LT_val.txt", cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    kept = rows(tmp_path / "results" / "Birds_LT").values()
    assert len(kept) == 8
    assert {tuple(row["train_class_total"]) for row in kept} == {(12, 6, 3)}
    assert {tuple(row["class_names"]) for row in kept} == {NAMES}


def test_the_report_is_served_while_it_runs(tmp_path):
    command = [sys.executable, str(ROOT / "sweeps" / "pareto.py"), "--dataset", "digits-lt", *GRID]
    command += ["--out", str(tmp_path / "o"), "--serial", "--watch"]
    with subprocess.Popen(
        command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True
    ) as process:
        timer = threading.Timer(240, process.kill)
        timer.start()
        for line in process.stdout:
            if "as far as it goes" in line:
                with urllib.request.urlopen(line.split()[-1], timeout=600) as reply:
                    page = reply.read().decode()
                break
        rest = process.stdout.read()
        timer.cancel()
    assert process.returncode == 0, rest
    assert "<h1>" in page
    assert answer(rest)
    assert (tmp_path / "o" / "report.html").exists()
