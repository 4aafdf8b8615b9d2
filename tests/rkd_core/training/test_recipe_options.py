import subprocess
import sys
from pathlib import Path

import pytest
import torch
from torch.nn import functional as F

from rkd_core import records
from rkd_core.specs import Recipe, TrainingSpec, run_id
from rkd_core.training import train
from rkd_core.training.targets import OneHotTargets
from sweeps.cli.parse import parse
from sweeps.planning.settings import resolve

ROOT = Path(__file__).parents[3]


def test_smoothed_labels_are_those_of_torch(digits):
    targets = OneHotTargets(digits, "cpu", 0.1)
    labels, logits = torch.tensor([3, 0, 9]), torch.randn(3, 10)
    ours = -(targets(labels, None) * F.log_softmax(logits, dim=1)).sum(dim=1).mean()
    torch.testing.assert_close(ours, F.cross_entropy(logits, labels, label_smoothing=0.1))
    assert float(targets.priors.sum()) == pytest.approx(1)
    assert set(targets.validation.unique().tolist()) == {0.0, 1.0}


def test_a_clipped_gradient_changes_the_training_and_a_high_limit_does_not(digits):
    def weights(**changes):
        recipe = Recipe(epochs=1, batch_size=64, **changes)
        spec = TrainingSpec(
            stage="teacher",
            dataset="digits",
            architecture="digits_cnn",
            objective="standard",
            recipe=recipe,
        )
        return run_id(spec, "f"), train([spec], data=digits)[0]["train_loss"]

    free, high, low = weights(), weights(gradient_clip=1e6), weights(gradient_clip=0.01)
    assert free[1] == high[1] != low[1]
    assert len({free[0], high[0], low[0]}) == 3
    assert weights(label_smoothing=0.0)[0] == free[0]


def command(tmp_path, *options):
    line = [sys.executable, "sweeps/pareto.py", "--serial", "--out", str(tmp_path / "out")]
    small = ["--scale", "small", "--epochs", "1", "--alphas", "1", "--temperatures", "1"]
    return subprocess.run(
        [*line, *small, *options], cwd=ROOT, capture_output=True, text=True, check=False
    )


def test_the_command_trains_with_both(tmp_path):
    ended = command(tmp_path, "--gradient-clip", "1", "--label-smoothing", "0.1")
    assert ended.returncode == 0, ended.stderr
    specs = records.read(tmp_path / "out" / "records").column("spec").to_pylist()
    assert specs
    for text in specs:
        recipe = TrainingSpec.model_validate_json(text).recipe
        assert (recipe.gradient_clip, recipe.label_smoothing) == (1.0, 0.1)


def test_the_command_trains_with_adamw_one_cycle_and_an_average(tmp_path):
    options = ["--optimizer", "adamw", "--learning-rate", "0.003", "--betas", "0.8", "0.99"]
    options += ["--lr-schedule", "one_cycle", "--ema-decay", "0.9"]
    ended = command(tmp_path, *options)
    assert ended.returncode == 0, ended.stderr
    rows = records.read(tmp_path / "out" / "records").to_pylist()
    assert {row["status"] for row in rows} == {"completed"}
    for row in rows:
        recipe = TrainingSpec.model_validate_json(row["spec"]).recipe
        assert (recipe.optimizer, recipe.learning_rate) == ("adamw", 0.003)
        assert (recipe.betas, recipe.ema_decay) == ((0.8, 0.99), 0.9)
        assert (recipe.schedule, recipe.warmup) == ("one_cycle", 0.3)


@pytest.mark.parametrize(
    ("options", "says"),
    [
        ("--optimizer adamw", "--optimizer adamw needs --learning-rate"),
        ("--optimizer adam --learning-rate 1", "--optimizer"),
        ("--betas 0.9 0.99", "--betas is for --optimizer adamw"),
        ("--lr-schedule step", "--lr-schedule step needs --milestones"),
        ("--lr-schedule cosine --milestones 0.5", "--milestones is for --lr-schedule step"),
        ("--ema-decay 0.9 --averaged-iterates 2 --epochs 3", "--ema-decay both average"),
    ],
)
def test_options_that_do_not_fit_together_are_refused(tmp_path, options, says):
    ended = command(tmp_path, *options.split())
    assert ended.returncode == 2
    assert says in ended.stderr
    assert not (tmp_path / "out").exists()


def test_the_step_schedule_takes_milestones_and_another_one_drops_them(digits):
    def recipe(*options):
        return resolve(parse(options), digits, gpu=False).recipe

    stepped = recipe("--lr-schedule", "step", "--milestones", "0.5", "0.75", "--warmup", "0")
    assert (stepped.schedule, stepped.milestones, stepped.warmup) == ("step", (0.5, 0.75), 0.0)
    cosine = recipe("--recipe", "mdistiller-cifar", "--lr-schedule", "cosine")
    assert (cosine.schedule, cosine.milestones) == ("cosine", ())
    adamw = recipe("--recipe", "mdistiller-cifar", "--optimizer", "adamw", "--learning-rate", "1")
    assert (adamw.optimizer, adamw.nesterov, adamw.learning_rate) == ("adamw", True, 1.0)


@pytest.mark.parametrize(
    ("option", "value", "says"),
    [
        ("--warmup", "1", "--warmup must be 0 to below 1"),
        ("--milestones", "1.5", "--milestones are increasing shares"),
        ("--ema-decay", "1", "--ema-decay must be between 0 and 1"),
        ("--ema-decay", "nan", "--ema-decay must be between 0 and 1"),
        ("--gradient-clip", "0", "--gradient-clip must be above 0"),
        ("--gradient-clip", "nan", "--gradient-clip must be above 0"),
        ("--label-smoothing", "1", "--label-smoothing must be 0 to below 1"),
        ("--label-smoothing", "-0.1", "--label-smoothing must be 0 to below 1"),
    ],
)
def test_a_wrong_value_is_refused_before_anything_is_written(tmp_path, option, value, says):
    ended = command(tmp_path, option, value)
    assert ended.returncode == 2
    assert says in ended.stderr
    assert not (tmp_path / "out").exists()
