"""The command with teachers that start from a file of weights."""

import shutil
import signal
import subprocess
import sys

import pytest
import torch
import torchvision

from rkd_core import models
from rkd_core.results import artifacts
from sweeps.commands.verify import examine
from tests.e2e.command import ROOT, pareto, rows
from tests.e2e.test_pareto import image_parquet

DIGITS = ("digits_cnn", 10, 1, (8, 8))
SMALL = ["--dataset", "digits-lt", "--alphas", "1", "--temperatures", "1", "--epochs", "2"]


@pytest.fixture(name="weights")
def file_of_weights(tmp_path):
    torch.save(models.build(*DIGITS, seed=4).state_dict(), tmp_path / "w.pth")
    return tmp_path / "w.pth"


def given(weights, *more):
    return [*SMALL, "--teacher-architecture", "digits_cnn", "--teacher-weights", weights, *more]


def test_untrained_weights_teach_the_whole_row_of_students(tmp_path, weights):
    out = tmp_path / "out"
    command = given(weights, "--teacher-epochs", "0", "--methods", "tradeoff,post_shift")
    done = pareto(*command, "--out", out)
    assert done.returncode == 0, done.stderr
    assert "1 teacher (digits_cnn as given, not trained)" in done.stdout
    assert "alphas apply to students only" in done.stdout
    kept = rows(out)
    (teacher,) = (row for row in kept.values() if row["stage"] == "teacher")
    assert (teacher["epochs"], teacher["train_loss"]) == (0, None)
    found = artifacts.load(out / "artifacts", teacher["run_id"]).weights
    assert all(torch.equal(v, found[n]) for n, v in torch.load(weights, weights_only=True).items())
    assert {row["alpha_s"] for row in kept.values() if row["method"] == "tradeoff"} == {1}
    assert {row["status"] for row in kept.values()} == {"completed"}
    assert not (out / "initial_weights").exists()
    assert list(examine(out)) == []


@pytest.mark.slow
def test_a_killed_sweep_with_given_weights_ends_like_an_undisturbed_one(tmp_path, weights):
    more = ["--teacher-epochs", "60", "--checkpoint-every", "2", "--serial"]
    command = given(weights, *more)
    whole = pareto(*command, "--out", tmp_path / "whole")
    assert whole.returncode == 0, whole.stderr
    out = tmp_path / "out"
    script = [sys.executable, str(ROOT / "sweeps" / "pareto.py"), *command, "--out", str(out)]
    with subprocess.Popen(script, stdout=subprocess.PIPE, text=True) as process:
        for line in process.stdout:
            if line.startswith("[1/8]"):
                break
        process.send_signal(signal.SIGKILL)
    assert len(rows(out)) < 8
    assert (out / "initial_weights").exists()
    moved = shutil.move(weights, tmp_path / "moved.pt")
    done = pareto(*given(moved, *more), "--out", out)
    assert done.returncode == 0, done.stderr
    assert "60 and 2 epochs" in done.stdout
    assert rows(out) == rows(tmp_path / "whole")
    assert not (out / "initial_weights").exists()


@pytest.mark.slow
def test_torchvision_weights_on_images_of_a_user(tmp_path):
    """A network of a thousand classes, as torchvision saves it, becomes a teacher of three."""
    folder = tmp_path / "mine"
    folder.mkdir()
    image_parquet(folder / "train.parquet", 90, "picture", 0)
    image_parquet(folder / "validation.parquet", 60, "picture", 2)
    torch.manual_seed(0)
    torch.save(torchvision.models.mobilenet_v2().state_dict(), tmp_path / "published.pth")
    done = pareto(
        *("--dataset", folder, "--alphas", "1", "--temperatures", "1", "--epochs", "1", "--serial"),
        *("--teacher-architecture", "mobilenet_v2", "--student-architecture", "resnet8"),
        *("--teacher-weights", tmp_path / "published.pth", "--batch-size", "32"),
        *("--teacher-learning-rate", "0.01"),
        cwd=tmp_path,
    )
    assert done.returncode == 0, done.stderr
    assert "2 teachers (mobilenet_v2 from given weights)" in done.stdout
    out = tmp_path / "results" / "mine"
    kept = rows(out).values()
    assert {row["status"] for row in kept} == {"completed"}
    for row in kept:
        used = artifacts.load(out / "artifacts", row["run_id"]).model["normalization"]["mean"]
        imagenet = used == pytest.approx([0.485, 0.456, 0.406])
        assert imagenet == (row["stage"] == "teacher")


def test_another_file_is_refused_before_anything_is_trained(tmp_path):
    path = tmp_path / "w.pth"
    path.write_bytes(b"\x80\x02nothing")
    done = pareto(*given(path), "--out", tmp_path / "out")
    assert done.returncode == 2
    (line,) = done.stderr.strip().splitlines()
    assert line.startswith(f"pareto.py: --teacher-weights {path} cannot be read as weights: ")
    assert not (tmp_path / "out").exists()
