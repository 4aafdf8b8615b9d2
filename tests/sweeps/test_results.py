import dataclasses
import json

import numpy as np
import pytest

from rkd_core.datasets import load
from rkd_core.errors import UserError
from rkd_core.specs import DataOptions
from sweeps.results import check_folder, check_space, open_folder


@pytest.fixture(scope="module")
def dataset():
    return load("digits-lt", DataOptions(imbalance=20))


def test_a_new_folder_becomes_that_of_its_data(tmp_path, dataset):
    out = tmp_path / "a" / "b"
    check_folder(out, "digits-lt", dataset)
    open_folder(out, "digits-lt", dataset)
    check_folder(out, "digits-lt", dataset)
    with np.load(out / "splits.npz") as splits:
        assert splits["val"].tolist() == dataset.val_indices.tolist()
        assert splits["test"].tolist() == dataset.test_indices.tolist()
        assert not set(splits["val"]) & set(splits["test"])
    assert not [p for p in out.iterdir() if p.name.startswith(".")]


def test_results_of_other_data_are_refused(tmp_path, dataset):
    open_folder(tmp_path, "digits-lt", dataset)
    with pytest.raises(UserError, match="another data set"):
        check_folder(tmp_path, "digits", dataset)
    other = dataclasses.replace(dataset, fingerprint="other")
    with pytest.raises(UserError, match="another data set"):
        check_folder(tmp_path, "digits-lt", other)


def test_a_renamed_folder_of_the_same_images_is_the_same_data(tmp_path, dataset):
    open_folder(tmp_path, "my-images", dataset)
    check_folder(tmp_path, "my-renamed-images", dataset)


def test_strange_folders_are_refused(tmp_path, dataset):
    (tmp_path / "file").write_text("")
    with pytest.raises(UserError, match="is a file"):
        check_folder(tmp_path / "file", "digits-lt", dataset)
    with pytest.raises(UserError, match=r"holds other files \(file\)"):
        check_folder(tmp_path, "digits-lt", dataset)
    (tmp_path / "dataset.json").write_text("{")
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
