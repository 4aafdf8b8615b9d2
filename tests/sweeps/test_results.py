import dataclasses
import json
from pathlib import Path

import numpy as np
import pytest

from rkd_core.datasets import load
from rkd_core.errors import UserError
from rkd_core.specs import DataOptions, Recipe
from sweeps.plan import make_plan
from sweeps.results import check_folder, check_space, open_folder
from tests.sweeps.test_plan import SETTINGS

OPTIONS = DataOptions(imbalance=20)
ROOT = Path(__file__).resolve().parents[2]


@pytest.fixture(scope="module")
def dataset():
    return load("digits-lt", OPTIONS)


def opened(out, dataset, options=OPTIONS):
    settings = dataclasses.replace(SETTINGS, data=options)
    open_folder(out, dataset, make_plan(settings, dataset.fingerprint), settings, ["pareto.py"])


def test_a_new_folder_becomes_that_of_its_data(tmp_path, dataset):
    out = tmp_path / "a" / "b"
    check_folder(out, "digits-lt", dataset)
    opened(out, dataset)
    check_folder(out, "digits-lt", dataset)
    (indices,) = (out / "splits").glob("*.npz")
    assert DataOptions.model_validate_json(indices.with_suffix(".json").read_text()) == OPTIONS
    plan = json.loads((out / "plan.json").read_text())
    assert (len(plan["run_ids"]), plan["command"]) == (114, ["pareto.py"])
    assert Recipe(**plan["settings"]["recipe"]) == SETTINGS.recipe
    with np.load(indices) as splits:
        assert splits["val"].tolist() == dataset.val_indices.tolist()
        assert splits["test"].tolist() == dataset.test_indices.tolist()
        assert not set(splits["val"]) & set(splits["test"])
    opened(out, dataset, DataOptions(imbalance=5))
    assert len(list((out / "splits").glob("*.npz"))) == 2
    assert not [p for p in out.iterdir() if p.name.startswith(".")]


def test_results_of_other_data_are_refused(tmp_path, dataset):
    opened(tmp_path, dataset)
    with pytest.raises(UserError, match="another data set"):
        check_folder(tmp_path, "digits", dataset)
    other = dataclasses.replace(dataset, fingerprint="other")
    with pytest.raises(UserError, match=r"same, but not their content.* Give another --out"):
        check_folder(tmp_path, "digits-lt", other)


def test_a_renamed_folder_of_the_same_images_is_the_same_data(tmp_path, dataset):
    opened(tmp_path, dataclasses.replace(dataset, name="my-images"))
    check_folder(tmp_path, "my-renamed-images", dataset)


def test_folders_that_cannot_hold_results_are_refused(tmp_path, dataset):
    (tmp_path / ".bashrc").write_text("")
    with pytest.raises(UserError, match=r"holds other files \(\.bashrc\)"):
        check_folder(tmp_path, "digits-lt", dataset)
    with pytest.raises(UserError, match="cannot be read: File name too long"):
        check_folder(tmp_path / ("x" * 300), "digits-lt", dataset)
    out = tmp_path / "out"
    opened(out, dataset)
    (out / "records").write_text("")
    with pytest.raises(UserError, match="records is a file"):
        check_folder(out, "digits-lt", dataset)
    (out / "plan.json").unlink()
    (out / "plan.json").mkdir()
    with pytest.raises(UserError, match="cannot be written"):
        opened(out, dataset)


def test_strange_folders_are_refused(tmp_path, dataset):
    (tmp_path / "file").write_text("")
    with pytest.raises(UserError, match="is a file"):
        check_folder(tmp_path / "file", "digits-lt", dataset)
    with pytest.raises(UserError, match=r"holds other files \(file\)"):
        check_folder(tmp_path, "digits-lt", dataset)
    (tmp_path / "dataset.json").write_text("{")
    with pytest.raises(UserError, match=r"dataset\.json is damaged"):
        check_folder(tmp_path, "digits-lt", dataset)
    (tmp_path / "dataset.json").write_text("[" * 10**5)
    with pytest.raises(UserError, match=r"dataset\.json is damaged"):
        check_folder(tmp_path, "digits-lt", dataset)
    (tmp_path / "dataset.json").write_text(json.dumps(["fingerprint"]))
    with pytest.raises(UserError, match=r"dataset\.json is damaged"):
        check_folder(tmp_path, "digits-lt", dataset)


def test_no_room_is_said_before_anything_is_written(tmp_path):
    check_space(tmp_path / "new" / "folder", 1)
    with pytest.raises(UserError, match="MB are free"):
        check_space(tmp_path / "new" / "folder", 10**18)
    assert not (tmp_path / "new").exists()
