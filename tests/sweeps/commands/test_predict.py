"""Predictions computed after a sweep equal those that a sweep keeps."""

import json

import numpy as np
import pytest
from PIL import Image

from rkd_core import records
from rkd_core.records import predictions
from sweeps.pareto import main as pareto
from sweeps.predict import main

SMALL = ["--alphas", "0.5", "--temperatures", "1", "--gpus-per-trial", "0", "--serial"]
SMALL += ["--epochs", "1", "--quiet"]
NONE = ["--keep-predictions", "none"]


def kept(out):
    paths = sorted((out / "predictions").rglob("*.parquet"))
    return {str(path.relative_to(out)): path.read_bytes() for path in paths}


@pytest.mark.parametrize(
    "options",
    [
        ["--precision", "bfloat16"],
        ["--teachers", "shifted", "--methods", "tradeoff,post_shift,kd"],
        ["--averaged-iterates", "2", "--split-seed", "3", "--epochs", "2"],
    ],
    ids=["bfloat16", "shifted", "iterates"],
)
def test_predictions_are_those_that_the_sweep_would_have_kept(tmp_path, options, capsys):
    whole, without = tmp_path / "whole", tmp_path / "without"
    pareto([*SMALL, *options, "--out", str(whole)])
    pareto([*SMALL, *options, *NONE, "--out", str(without)])
    assert not kept(without)
    count = len(records.read(without / "records"))
    capsys.readouterr()
    assert main([str(without)]) == 0
    said = f"Computed the predictions of {count} trainings; 0 had theirs already.\n"
    assert capsys.readouterr().out == said
    assert kept(without) == kept(whole)
    assert len(kept(whole)) == 2 * count


def test_existing_files_stay_and_damaged_trainings_are_named(tmp_path, capsys):
    pareto([*SMALL, *NONE, "--out", str(tmp_path)])
    damaged, *others = records.read(tmp_path / "records")["run_id"].to_pylist()
    weights = tmp_path / "artifacts" / damaged / "weights.safetensors"
    whole = weights.read_bytes()
    weights.write_bytes(whole[:-1])
    capsys.readouterr()
    assert main([str(tmp_path), "--keep-predictions", "top"]) == 1
    first, last = capsys.readouterr().out.splitlines()
    assert first == f"{damaged}: {weights} is damaged: its SHA-256 differs"
    assert last == f"Computed the predictions of {len(others)} trainings; 0 had theirs already."
    before = kept(tmp_path)
    weights.write_bytes(whole)
    assert main([str(tmp_path)]) == 0
    said = f"of 1 training; {len(others)} had theirs already"
    assert said in capsys.readouterr().out
    assert before.items() <= kept(tmp_path).items()
    assert main([str(tmp_path)]) == 0
    assert capsys.readouterr().out == f"All {len(others) + 1} trainings have predictions.\n"
    run = predictions.file_of(tmp_path, "test", others[0])
    assert "top_logits" in predictions.parse(run, run.read_bytes()).columns


def folder_of_images(folder):
    for split, seed in (("train", 0), ("test", 1)):
        for label in "ab":
            (folder / split / label).mkdir(parents=True)
            for k in range(8):
                pixels = np.random.default_rng([seed, ord(label), k]).integers(0, 256, (16, 16, 3))
                Image.fromarray(pixels.astype(np.uint8)).save(folder / split / label / f"{k}.png")
    return folder


def test_data_that_have_moved_are_named(tmp_path, capsys):
    data, out = folder_of_images(tmp_path / "mine"), tmp_path / "out"
    options = ["--dataset", str(data), "--image-size", "16", "--out", str(out)]
    pareto([*SMALL, *NONE, *options])
    moved = data.rename(tmp_path / "moved")
    capsys.readouterr()
    assert main([str(out)]) == 2
    assert str(data) in capsys.readouterr().err
    assert not kept(out)
    assert main([str(out), "--dataset", "digits"]) == 2
    assert "digits is not the data set of run" in capsys.readouterr().err
    assert main([str(out), "--dataset", str(moved)]) == 0
    assert kept(out)


def test_the_options_of_another_command_do_not_name_the_data(tmp_path, capsys):
    pareto([*SMALL, *NONE, "--out", str(tmp_path)])
    plan = json.loads((tmp_path / "plan.json").read_text())
    plan["command"] = ["paper.py", "--table", "wang-1"]
    (tmp_path / "plan.json").write_text(json.dumps(plan))
    assert main([str(tmp_path)]) == 0  # a built-in data set is named in the settings
    assert kept(tmp_path)


def test_bad_input_ends_in_one_line(tmp_path, capsys):
    for arguments in ([str(tmp_path / "x")], [str(tmp_path)], [str(tmp_path), "--keep", "9"], []):
        assert main(arguments) == 2
        assert len(capsys.readouterr().err.splitlines()) == 1
