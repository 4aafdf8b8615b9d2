import dataclasses
import json
import shutil
from pathlib import Path

import numpy as np
import pytest

from rkd_core.datasets import ImageSet, load
from rkd_core.errors import UserError
from rkd_core.specs import DataOptions, Recipe
from sweeps.display.summary import split_lines
from sweeps.folder.ownership import check_folder, check_space, open_folder
from sweeps.planning.plan import make_plan
from tests.rkd_core.datasets.on_disk import image_folder
from tests.sweeps.planning.test_plan import SETTINGS

OPTIONS = DataOptions(imbalance=20)
ROOT = Path(__file__).resolve().parents[3]


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


@pytest.fixture(name="pictures")
def a_folder_and_its_results(tmp_path):
    """A folder of images, how to load it, and the results folder made from it."""
    image_folder(tmp_path / "pictures")
    out = tmp_path / "out"

    def current():
        return load(str(tmp_path / "pictures"), DataOptions(), cache_dir=tmp_path / "cache")

    opened(out, current(), DataOptions())
    return tmp_path / "pictures", current, out


def add_image(root):
    shutil.copy(root / "train/cat/000.png", root / "train/cat/new.png")


def remove_image(root):
    (root / "val/dog/001.png").unlink()


def edit_image(root):
    (root / "val/dog/001.png").write_bytes((root / "val/cat/000.png").read_bytes() + b" ")


def add_class(root):
    shutil.copytree(root / "train/cat", root / "train/emu")


def remove_class(root):
    shutil.rmtree(root / "train/owl")
    shutil.rmtree(root / "val/owl")


def add_split(root):
    shutil.copytree(root / "val", root / "test")


@pytest.mark.parametrize(
    ("change", "clauses"),
    [
        (add_image, ["train has 13 images, not 12 (cat 5, not 4)", "new: train/cat/new.png"]),
        (remove_image, ["test has 8 images, not 9 (dog 2, not 3)", "missing: val/dog/001.png"]),
        (edit_image, ["changed: val/dog/001.png"]),
        (add_class, ["new class emu", "new: train/emu/000.png, train/emu/001.png, train/emu/002"]),
        (remove_class, ["without the class owl", "missing: train/owl/000.png"]),
        (add_split, ["the validation set of 9 images was not used then"]),
    ],
)
def test_changes_of_the_data_are_reported(pictures, change, clauses):
    root, current, out = pictures
    check_folder(out, "pictures", current())
    change(root)
    with pytest.raises(
        UserError, match=r"results of an earlier state of pictures; .*Give another --out, or"
    ):
        check_folder(out, "pictures", current())
    with pytest.raises(UserError) as refused:
        check_folder(out, "pictures", current())
    for clause in clauses:
        assert clause in str(refused.value)


def test_changed_data_of_a_folder_without_an_inventory(pictures):
    root, current, out = pictures
    add_image(root)
    for content in (b"{", b"[]", b'{"class_names": 5, "counts": {}, "files": []}', None):
        if content is None:
            (out / "inventory.json").unlink()
        else:
            (out / "inventory.json").write_bytes(content)
        with pytest.raises(
            UserError, match=r"changed since \(its inventory was not stored\). Give"
        ):
            check_folder(out, "pictures", current())


def test_an_inventory_is_written_into_folders_of_before(pictures):
    _, current, out = pictures
    (out / "inventory.json").unlink()
    opened(out, current(), DataOptions())
    assert (out / "inventory.json").exists()


def test_the_plan_tells_where_each_split_comes_from(pictures):
    root, current, out = pictures
    shutil.copytree(root / "val", root / "test")
    opened(out, current(), DataOptions())
    splits = json.loads((out / "plan.json").read_text())["splits"]
    assert splits["val"] == {"from": "val", "images": {"cat": 3, "dog": 3, "owl": 3}}
    assert [of["from"] for of in splits.values()] == ["train", "val", "test"]


def test_lines_on_splits(pictures, dataset):
    _, current, _ = pictures
    first, second, third = split_lines(current())
    assert first == "training: 12 images (train), 4 of each class"
    assert second.startswith("validation: 4 images (half of val), cat ")
    assert third.startswith("test: 5 images (half of val), cat ")
    many = split_lines(with_classes(dataset, 12))
    assert "50 to 100 of a class, median 75" in many[0]


def with_classes(dataset, classes):
    """A data set of so many classes: 50 images of one half of them, 100 of the other."""
    labels = np.repeat(np.arange(classes), [50, 100] * (classes // 2))
    images = np.zeros((len(labels), 8, 8, 1), np.uint8)
    names = tuple(map(str, range(classes)))
    return dataclasses.replace(dataset, class_names=names, train=ImageSet(images, labels))


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
    for name in ("predictions", "records"):
        (out / name).write_text("")
        with pytest.raises(UserError, match=f"{name} is a file"):
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


def test_lack_of_space_is_reported_before_anything_is_written(tmp_path):
    check_space(tmp_path / "new" / "folder", 1)
    with pytest.raises(UserError, match="MB are free"):
        check_space(tmp_path / "new" / "folder", 10**18)
    assert not (tmp_path / "new").exists()
