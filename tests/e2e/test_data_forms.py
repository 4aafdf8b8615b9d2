"""The command on the same examples in several forms: the same run ids and the same records."""

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from sweeps.pareto import main
from tests.e2e.command import rows
from tests.rkd_core.datasets.on_disk import NAMES, encode
from tests.rkd_core.datasets.test_tar_shards import write_tar

CODE = """from torch import nn


def tiny(num_classes, in_chans):
    return nn.Sequential(nn.Flatten(), nn.Linear(64 * in_chans, num_classes))
"""


def examples(count, seed):
    """Yield the number of a class and pixels, sorted by class."""
    random = np.random.RandomState(seed)
    for label in sorted(row % 3 for row in range(count)):
        pixels = random.randint(0, 150, (8, 8, 3))
        pixels[..., label] += 20
        yield label, pixels.astype(np.uint8)


def as_folder(root):
    for seed, split in enumerate(("train", "val", "test")):
        for number, (label, pixels) in enumerate(examples(30, seed)):
            path = root / split / NAMES[label] / f"{number:03d}.png"
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_bytes(encode(pixels))


def as_shards(root):
    for seed, split in enumerate(("train", "val", "test")):
        samples = [
            [(f"{number:03d}.png", encode(pixels)), (f"{number:03d}.cls", NAMES[label].encode())]
            for number, (label, pixels) in enumerate(examples(30, seed))
        ]
        for shard in range(3):
            write_tar(root / f"{split}-{shard:06d}.tar", samples[10 * shard : 10 * shard + 10])


def sweep(folder, *more):
    (folder / "net.py").write_text(CODE)
    options = ["--epochs", "2", "--batch-size", "8", "--alphas", "0", "--temperatures", "1"]
    network = ["--student-architecture", f"{folder / 'net.py'}:tiny"]
    teacher = ["--teacher-architecture", f"{folder / 'net.py'}:tiny"]
    out = ["--no-images", "--no-undistilled", "--serial", "--out", str(folder / "out")]
    return main(["--dataset", str(folder / "pets"), *options, *network, *teacher, *out, *more])


def test_shards_and_a_folder_give_the_same_records(tmp_path, capsys):
    for name, write in (("folder", as_folder), ("shards", as_shards)):
        write(tmp_path / name / "pets")
        assert sweep(tmp_path / name) == 0
    found = rows(tmp_path / "folder" / "out")
    assert len(found) == 6
    assert found == rows(tmp_path / "shards" / "out")
    capsys.readouterr()
    assert sweep(tmp_path / "shards") == 0
    assert "[1/6]" not in capsys.readouterr().out  # a second run trains nothing


def embeddings():
    """Return rows and labels by split."""
    labels = np.repeat([0, 1, 2], 10)
    made = np.random.RandomState(0)
    return {name: (made.normal(labels[:, None], 1, (30, 5)), labels) for name in ("train", "test")}


def as_lists(root):
    for split, (values, labels) in embeddings().items():
        table = pa.table({"embedding": list(values.astype(np.float32)), "label": labels})
        root.mkdir(parents=True, exist_ok=True)
        pq.write_table(table, root / f"{split}.parquet")


def as_numpy_files(root):
    for split, (values, labels) in embeddings().items():
        root.mkdir(parents=True, exist_ok=True)
        np.save(root / f"{split}.npy", values.astype(np.float32))
        np.save(root / f"{split}_labels.npy", labels)


def test_lists_in_parquet_and_numpy_files_give_the_same_records(tmp_path):
    for name, write in (("lists", as_lists), ("files", as_numpy_files)):
        write(tmp_path / name / "rows")
        options = ["--dataset", tmp_path / name / "rows", "--epochs", "2", "--alphas", "0"]
        more = ["--temperatures", "1", "--serial", "--no-images", "--no-undistilled"]
        assert main([*map(str, options), *more, "--out", str(tmp_path / name / "out")]) == 0
    found = rows(tmp_path / "lists" / "out")
    assert len(found) == 6
    assert found == rows(tmp_path / "files" / "out")


def test_a_damaged_shard_ends_the_command_before_anything_is_written(tmp_path, capsys):
    as_shards(tmp_path / "pets")
    path = tmp_path / "pets" / "val-000001.tar"
    path.write_bytes(path.read_bytes()[:3000])
    assert sweep(tmp_path) == 2
    [line] = capsys.readouterr().err.strip().splitlines()
    assert "val-000001.tar is not a whole tar file: unexpected end of data" in line
    assert not (tmp_path / "out" / "records").exists()


@pytest.mark.parametrize("option", ["--label-column", "--image-column"])
def test_columns_of_shards(tmp_path, option, capsys):
    as_shards(tmp_path / "pets")
    assert sweep(tmp_path, option, "species") == 2
    [line] = capsys.readouterr().err.strip().splitlines()
    assert "species" in line
    assert "`" not in line


def test_logits_teach_networks_on_embeddings(tmp_path, capsys):
    """A teacher that is known by its logits, for data that are float arrays."""
    as_numpy_files(tmp_path / "rows")
    (tmp_path / "logits").mkdir()
    given = {"train": range(30), "validation": range(30), "test": range(30)}
    random = np.random.RandomState(1)
    for name, images in given.items():
        logits = 3 * np.eye(3)[np.repeat([0, 1, 2], 10)] + random.normal(size=(30, 3))
        table = pa.table({"logits": list(logits.astype(np.float32)), "image": [*images]})
        pq.write_table(table, tmp_path / "logits" / f"{name}.parquet")
    values, labels = embeddings()["test"]
    np.save(tmp_path / "rows" / "val.npy", values.astype(np.float32))
    np.save(tmp_path / "rows" / "val_labels.npy", labels)
    out = tmp_path / "out"
    options = ["--dataset", tmp_path / "rows", "--teacher-logits", tmp_path / "logits"]
    grid = ["--epochs", "2", "--alphas", "0,1", "--temperatures", "1", "--serial", "--no-images"]
    assert main([*map(str, options), *grid, "--out", str(out)]) == 0
    found = rows(out).values()
    assert {row["status"] for row in found} == {"completed"}
    assert {row["architecture"] for row in found} == {"given_logits", "mlp"}
    assert "2 epochs of 30 examples each" in capsys.readouterr().out
