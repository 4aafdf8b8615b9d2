import dataclasses
import shutil

import numpy as np
import pytest

from rkd_core.datasets import Dataset, ImageSet
from rkd_core.errors import UserError
from rkd_core.specs import DataOptions
from sweeps.cli.checks import check
from sweeps.cli.parse import parse
from sweeps.planning.settings import load_data, resolve
from tests.rkd_core.datasets.on_disk import image_folder


def settings(*arguments, gpu=False, dataset=None):
    options = parse(arguments)
    check(options)
    dataset = dataset or load_data(options)
    return resolve(options, dataset, gpu)


@pytest.mark.parametrize(
    ("arguments", "named"),
    [
        (["--alphas", "0", "1.5"], r"--alphas .*1\.5"),
        (["--alphas", "nan"], "--alphas .*nan"),
        (["--alphas", "-0.1"], "--alphas"),
        (["--alphas", "0.5", "0.50"], r"--alphas names 0\.5 twice"),
        (["--alphas"], "--alphas"),
        (["--alphas", "half"], "--alphas cannot be half"),
        (["--repeat", "0.5/1=2"], "--repeat 0.5/1=2 is not like"),
        (["--repeat", "0/1/9999=1"], "--repeat: temperatures must be from"),
        (["--repeat", "0/1/1=2", "--seeds", "2147483646"], "--repeat: seed 2147483648 would"),
        (["--teachers", "warm", "--averaged-iterates", "2"], "--teachers warm starts from one"),
        (["--teachers", "none"], "--teachers"),
        (["--temperatures", "0"], "--temperatures .*0"),
        (["--temperatures", "-1"], "--temperatures"),
        (["--temperatures", "inf"], "--temperatures"),
        (["--methods", "tradeoff,dkdd"], "--methods: unknown method 'dkdd': did you mean dkd"),
        (["--methods", "kd,kd"], "--methods names kd twice"),
        (["--methods", ""], "--methods is a list"),
        (["--methods", "kd,"], "--methods is a list"),
        (["--temperatures", "1e300"], "--temperatures must be from"),
        (["--worst-k", "x"], "--worst-k cannot be x"),
        (["--dataset", ""], "--dataset is empty"),
        (["--data-dir", "README.md"], "README.md is not a folder"),
        (["--cpus-per-trial", "1e-300"], "--cpus-per-trial"),
        (["--gpus-per-trial", "1.5"], "--gpus-per-trial"),
        (["--calibrate", "--address", "auto"], "--calibrate"),
        (["--temperatures", "1", "1"], "--temperatures names .* twice"),
        (["--seeds", "3", "4", "3"], "--seeds names 3 twice"),
        (["--seeds", "-1"], "--seeds"),
        (["--epochs", "0"], "--epochs .*0"),
        (["--epochs", "1.5"], "--epochs cannot be 1.5"),
        (["--batch-size", "0"], "--batch-size"),
        (["--imbalance", "0.5"], r"--imbalance .*0\.5"),
        (["--imbalance", "nan"], "--imbalance"),
        (["--limit-train", "0"], "--limit-train"),
        (["--classes", "1"], "--classes must be 2 or more, not 1"),
        (["--classes", "11"], "--classes 11 is more than the 10 classes there are"),
        (["--class-seed", "-1"], "--class-seed"),
        (["--class-seed", "4294967296", "--classes", "5"], "seed of the data"),
        (["--image-size", "1"], "--image-size"),
        (["--learning-rate", "0"], "--learning-rate"),
        (["--weight-decay", "-1"], "--weight-decay"),
        (["--multiplier-step-size", "inf"], "--multiplier-step-size"),
        (["--multiplier-period", "0"], "--multiplier-period"),
        (["--averaged-iterates", "1"], "--averaged-iterates"),
        (["--averaged-iterates", "50"], "--averaged-iterates 50 exceeds the 40 epochs"),
        (["--worst-k", "0"], "--worst-k"),
        (["--worst-k", "11"], "--worst-k 11 exceeds the 10 classes"),
        (["--margin", "2"], "--margin"),
        (["--margin", "-0.1"], "--margin"),
        (["--cpus-per-trial", "0"], "--cpus-per-trial"),
        (["--gpus-per-trial", "-1"], "--gpus-per-trial"),
        (["--max-concurrent", "0"], "--max-concurrent"),
        (["--teacher-architecture", "resnet57"], "resnet57.*did you mean resnet56"),
        (["--student-architecture", "x"], "--student-architecture"),
        (["--recipe", "lukasik"], "lukasik"),
        (["--data-dir", "nowhere/at/all"], "--data-dir nowhere/at/all does not exist"),
        (["--data-dir", "x" * 300], "cannot be read: File name too long"),
        (["--dataset", "cifar11"], "cifar11"),
        (["--scale", "huge"], "huge"),
        (["--alpah", "1"], "--alpah.*did you mean --alphas"),
        (["stray"], "stray"),
    ],
    ids=lambda value: " ".join(value) if isinstance(value, list) else "",
)
def test_bad_input_is_one_line_that_names_it(arguments, named):
    with pytest.raises(UserError, match=named) as error:
        settings(*arguments)
    assert "\n" not in str(error.value)


def test_defaults_by_scale():
    small = settings("--dataset", "digits-lt")
    assert (small.scale, small.data.imbalance) == ("small", 20)
    assert settings("--dataset", "digits", gpu=True).scale == "paper"
    assert settings("--dataset", "digits", "--scale", "small", gpu=True).scale == "small"
    assert settings("--dataset", "digits").data.imbalance is None
    assert settings("--dataset", "digits-lt", "--imbalance", "5").data.imbalance == 5
    assert settings("--dataset", "digits", "--imbalance", "5").data == DataOptions(imbalance=5)
    few = settings("--dataset", "digits", "--classes", "5", "--class-seed", "1")
    assert few.data == DataOptions(classes=5, class_seed=1)


def images(n, side, classes=10, name="cifar10-lt"):
    labels = np.arange(n, dtype=np.int64) % classes
    pixels = np.broadcast_to(np.zeros((1, 1, 1, 3), np.uint8), (n, side, side, 3))
    some = ImageSet(pixels, labels)
    rows = np.arange(n, dtype=np.int64)
    return Dataset(
        name, tuple(map(str, range(classes))), some, some, some, "f", 0, rows, rows, rows
    )


def test_paper_scale_is_the_papers():
    data = images(12406, 32)
    paper = settings("--dataset", "cifar10-lt", "--scale", "paper", dataset=data)
    assert (paper.teacher_architecture, paper.student_architectures) == ("resnet56", ("resnet56",))
    assert paper.recipe.epochs == 1241
    assert paper.alphas == (0, 0.25, 0.5, 0.75, 1)
    assert paper.temperatures == (1, 3, 5)
    assert (paper.multipliers.step_size, paper.multipliers.period) == (0.1, 32)


def test_a_listed_long_tail_has_the_recipe_of_one():
    """The list, not the name of the folder, decides whether there is a long tail."""
    lists = ("--dataset", "imagenet", "--train-list", "a.txt", "--test-list", "b.txt")
    tail = np.repeat(np.arange(10), np.arange(30, 10, -2))
    for labels, recipe in ((np.arange(300) % 10, ""), (tail, "-lt")):
        data = images(len(labels), 64)
        train = ImageSet(data.train.images, labels.astype(np.int64))
        data = dataclasses.replace(data, train=train, name="ImageNet_LT")
        chosen = settings(*lists, "--scale", "paper", dataset=data)
        assert chosen.recipe_name == f"lukasik-imagenet{recipe}"
        assert chosen.dataset == "ImageNet_LT"


def test_options_override_the_recipe_and_the_schedule_rescales():
    data = images(12406, 32)
    chosen = settings(
        *("--dataset", "cifar10-lt", "--scale", "paper", "--epochs", "10", "--batch-size", "64"),
        *("--learning-rate", "0.3", "--weight-decay", "0", "--multiplier-period", "epoch"),
        *("--multiplier-step-size", "1", "--val-labels", "true", "--averaged-iterates", "5"),
        dataset=data,
    )
    recipe, multipliers = chosen.recipe, chosen.multipliers
    assert (recipe.epochs, recipe.batch_size) == (10, 64)
    assert (recipe.learning_rate, recipe.weight_decay) == (0.3, 0)
    assert recipe.milestones == pytest.approx((604 / 1241, 926 / 1241, 1128 / 1241))
    assert (multipliers.period, multipliers.step_size) == (None, 1)
    assert (multipliers.val_labels, multipliers.averaged_iterates) == ("true", 5)


def test_defaults_do_not_depend_on_the_grid():
    """Otherwise a larger grid would train all of the smaller one again."""
    data = images(12406, 32)
    grids = [
        settings("--dataset", "cifar10-lt", *more, dataset=data)
        for more in ([], ["--alphas", "0", "0.1", "1"], ["--seeds", "0", "1", "2"])
    ]
    assert len({(g.recipe, g.multipliers, g.student_architectures) for g in grids}) == 1


@pytest.mark.parametrize(
    ("images_", "side", "runs", "epochs"),
    [
        (12406, 32, 36, 13),
        (50000, 32, 20, 6),
        (21549, 64, 20, 3),
        (100000, 64, 20, 1),
        (3000, 32, 36, 42),
        (400, 32, 36, 320),
    ],
)
def test_small_scale_fits_an_hour_of_two_cores(images_, side, runs, epochs):
    data = images(images_, side)
    small = settings("--dataset", "cifar10-lt", "--scale", "small", dataset=data)
    objectives = 1 + len(small.alphas)
    assert objectives + objectives**2 * len(small.temperatures) == runs
    assert small.recipe.epochs == epochs
    own = settings("--dataset", "cifar10-lt", "--scale", "small", "--epochs", "2", dataset=data)
    assert own.recipe.epochs == 2


@pytest.mark.parametrize(
    "flag", ["--dataset", "--out", "--data-dir", "--train-list", "--teacher-weights", "--storage"]
)
@pytest.mark.parametrize("joined", [False, True])
def test_paths_that_are_not_utf8_are_refused_by_name(flag, joined):
    path = "/data/caf\udce9/x"
    arguments = [f"{flag}={path}"] if joined else [flag, path]
    with pytest.raises(UserError, match=r"/data/caf\\xe9/x' has bytes that are not UTF-8"):
        parse(arguments)


def test_a_working_folder_that_is_not_utf8_cannot_hold_results(tmp_path, monkeypatch):
    folder = tmp_path / "caf\udce9"
    folder.mkdir()
    monkeypatch.chdir(folder)
    with pytest.raises(UserError, match=r"--out '.*caf\\xe9.*' has bytes .* give another folder"):
        check(parse([]))
    check(parse(["--out", str(tmp_path / "out"), "--storage", str(tmp_path / "ray")]))


def test_options_of_data_reach_the_loader(tmp_path, monkeypatch):
    monkeypatch.setenv("RKD_CACHE_DIR", str(tmp_path / "cache"))
    image_folder(tmp_path / "a")
    shutil.copytree(tmp_path / "a" / "val", tmp_path / "a" / "test")
    given = ["--dataset", str(tmp_path / "a")]
    assert load_data(parse(given)).origins["val"] == "val"
    with pytest.raises(UserError, match="--label-column and --image-column are for Parquet"):
        load_data(parse([*given, "--label-column", "x"]))
    with pytest.raises(UserError, match="--stratified is for halving a test set, and a has a val"):
        load_data(parse([*given, "--stratified"]))
    with pytest.raises(UserError, match="--val-list goes with --train-list"):
        load_data(parse([*given, "--val-list", "x.txt"]))


def test_searches_and_no_undistilled_leave_out_students_without_a_teacher():
    assert settings().undistilled
    assert not settings("--no-undistilled").undistilled
    assert not settings("--budget", "30%").undistilled
    assert not settings("--search", "optuna").undistilled
