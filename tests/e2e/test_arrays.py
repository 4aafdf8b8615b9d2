"""The command on float arrays: embeddings with a network of the user's, to the export."""

import os
import shutil
import signal
import subprocess
import sys
import time

import numpy as np
import pytest

from sweeps import Results, Sweep
from sweeps.commands.verify import examine
from sweeps.pareto import main
from tests.e2e.command import ROOT, pareto, rows

CODE = """import numpy as np
from torch import nn


def make():
    centers = np.random.default_rng(0).normal(0, 2, (3, 16))

    def part(seed, of_class):
        rng = np.random.default_rng(seed)
        labels = rng.permutation(np.repeat(np.arange(3), of_class))
        return (30 + 10 * (centers[labels] + rng.normal(size=(len(labels), 16)))), labels

    return {"train": part(1, 60), "val": part(2, 40), "test": part(3, 40)}


class Head(nn.Module):
    def __init__(self, in_features, num_classes, width=24):
        super().__init__()
        self.hidden = nn.Linear(in_features, width)
        self.norm = nn.BatchNorm1d(width)
        self.out = nn.Linear(width, num_classes)

    def forward(self, rows):
        return self.out(self.norm(self.hidden(rows)).relu())


def image_net(num_classes, in_chans):
    return nn.Sequential(nn.Conv2d(in_chans, num_classes, 3), nn.Flatten(2), nn.Flatten())
"""
GRID = ["--alphas", "0", "--temperatures", "1", "--no-undistilled"]


@pytest.fixture(name="code")
def code_in_a_file(tmp_path):
    (tmp_path / "code").mkdir()
    (tmp_path / "code" / "mine.py").write_text(CODE)
    return tmp_path / "code" / "mine.py"


def given(code, *more):
    return [
        *("--dataset", f"{code}:make", "--student-architecture", f"{code}:Head"),
        *(*GRID, "--no-images", *more),
    ]


def test_embeddings_from_training_to_export(tmp_path, code):
    out = tmp_path / "out"
    line = given(code, "--epochs", "20", "--learning-rate", "0.01", "--out", out)
    command = [sys.executable, str(ROOT / "sweeps" / "pareto.py"), *map(str, line)]
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT) as process:
        deadline = time.monotonic() + 300
        while not list((out / "records").glob("*.parquet")) and time.monotonic() < deadline:
            time.sleep(0.1)
        process.send_signal(signal.SIGINT)
        process.communicate(timeout=300)
    before = {path.name: path.stat().st_mtime_ns for path in (out / "records").iterdir()}
    assert before
    done = pareto(*line)
    assert done.returncode == 0, done.stderr
    assert "recipe arrays" in done.stdout
    after = {path.name: path.stat().st_mtime_ns for path in (out / "records").iterdir()}
    assert before.items() <= after.items()
    assert {row["status"] for row in rows(out).values()} == {"completed"}
    assert list(examine(out)) == []
    exported = subprocess.run(
        [sys.executable, str(ROOT / "sweeps" / "export.py"), str(out)],
        capture_output=True,
        text=True,
        check=False,
    )
    assert exported.returncode == 0, exported.stderr
    student = tmp_path / "elsewhere"
    shutil.copytree(out / "student", student)
    card = (student / "README.md").read_text()
    assert "float32 arrays `(n, 16)`" in card
    namespace: dict = {}
    exec(code.read_text(), namespace)
    values, labels = namespace["make"]()["test"]
    np.save(student / "rows.npy", values)
    use = card.split("```python\n")[1].split("```")[0]
    shown = subprocess.run(
        [sys.executable, "-c", use],
        capture_output=True,
        text=True,
        cwd=student,
        env={name: value for name, value in os.environ.items() if name != "PYTHONPATH"},
        check=False,
    )
    assert shown.returncode == 0, shown.stderr
    correct = sum(
        int(label) == truth for label, truth in zip(eval(shown.stdout), labels, strict=True)
    )
    selected = Results(str(out)).selected
    assert correct / len(labels) > 0.9
    assert selected.test_worst_class.value > 0.8


def test_from_python_with_built_in_networks(tmp_path, monkeypatch):
    namespace: dict = {}
    exec(CODE, namespace)
    data = namespace["make"]()
    results = Sweep(
        data=data,
        class_names=["a", "b", "c"],
        teacher="mlp(hidden=(32, 16), norm='layer')",
        student="linear",
        alphas=(0, 1),
        temperatures=1,
        epochs=10,
        learning_rate=0.03,
        out=str(tmp_path / "out"),
        serial=True,
    ).run()
    import torch

    values, labels = data["test"]
    with torch.no_grad():
        predicted = results.load()(torch.from_numpy(values)).argmax(1).numpy()
    assert (predicted == labels).mean() > 0.9


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--student-architecture", "resnet8"], "resnet8 is for images, and the rows of the data"),
        (["--student-architecture", "{code}:image_net"], "mine:image_net on arrays of 16"),
        (["--recipe", "small-images"], "make holds float arrays, and crop_padding is for images"),
        (["--augmentation", "mixup=0.2"], "make holds float arrays, and augmentation is for"),
        (["--image-size", "8"], "--image-size is for images"),
        (["--teacher-normalization", "symmetric"], "make holds float arrays, and normalization"),
        (["--methods", "review_kd"], "have no maps, which the method compares"),
        (["--student-architecture", "mlp(width=3)"], "argument of mlp"),
        (["--dataset", "digits-lt", "--student-architecture", "mlp"], "not for images of 1 x 8 x"),
        (["--dataset", "digits-lt", "--as-arrays"], "--as-arrays is for data in memory"),
        (["--dataset", "digits-lt", "--student-architecture", "{code}:Head"], "in_features"),
    ],
)
def test_conflicting_options_end_in_one_line(tmp_path, code, arguments, message, capsys):
    out = tmp_path / "out"
    line = ["--dataset", f"{code}:make", "--epochs", "1", "--serial", "--out", out]
    code_of_exit = main([str(word).format(code=code) for word in [*line, *arguments]])
    printed = capsys.readouterr()
    assert code_of_exit == 2, printed
    assert message in printed.err
    assert len(printed.err.strip().splitlines()) == 1
    assert not out.exists()
