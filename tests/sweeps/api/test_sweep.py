"""Sweeps that are run from Python, and their results."""

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest
import torch

from rkd_core.errors import UserError
from rkd_core.plugins import load_object
from sweeps import Results, Sweep

SMALL = {"alphas": 1, "temperatures": 1, "teacher": "digits_cnn", "student": "digits_cnn"}


def arrays(seed, of_class=20):
    rng = np.random.default_rng(seed)
    labels = np.repeat([0, 1, 2], of_class)
    noise = rng.integers(0, 80, (len(labels), 8, 8, 1))
    return (noise + 70 * labels[:, None, None, None]).astype(np.uint8), labels


DATA = {"train": arrays(0), "val": arrays(1), "test": arrays(2)}


@pytest.fixture(scope="module")
def sweep(tmp_path_factory):
    out = tmp_path_factory.mktemp("api") / "out"
    names = ["dark", "gray", "light"]
    given = SMALL | {"name": "tones", "class_names": names, "epochs": 6, "serial": True}
    return Sweep(DATA, out=out, **given)


@pytest.fixture(scope="module")
def results(sweep):
    return sweep.run()


def test_the_selected_student(results):
    selected, content = results.selected, results.selection
    assert content["dataset"] == "tones"
    assert list(selected.run_ids) == content["selected"]["run_ids"]
    assert set(selected.recalls) == {"dark", "gray", "light"}
    assert selected.worst_class.low <= selected.worst_class.value <= selected.worst_class.high
    assert selected.ship == (selected.reason == "")


def test_the_table_of_trainings(results):
    table = results.to_pandas()
    assert len(table) == 2 + 4 + 2
    assert set(table["status"]) == {"completed"}
    assert set(table["dataset"]) == {"tones"}


def test_the_model_takes_images_as_they_are(results):
    images, labels = DATA["test"]
    model = results.load()
    assert not model.training
    with torch.no_grad():
        predicted = model(torch.from_numpy(images)).argmax(dim=1).numpy()
    table = results.to_pandas().set_index("run_id")
    correct = table.loc[results.selected.run_ids[0], "test_class_correct"]
    assert np.bincount(labels[predicted == labels], minlength=3).tolist() == list(correct)
    teacher = results.load(results.selected.teacher_ids[0])
    assert teacher(torch.from_numpy(images[:2])).shape == (2, 3)
    with pytest.raises(UserError, match="has no run 0123"):
        results.load("0123")


def test_the_report_shows_inline(results):
    report = results.report()
    assert Path(report) == results.out / "report.html"
    assert report._repr_html_().startswith("<iframe srcdoc=")


def test_another_rule(results):
    assert results.select(worst_k=2).run_ids
    assert results.selection["criterion"]["worst_k"] == 2
    with pytest.raises(UserError, match="1 to the 3 classes present, not 9"):
        results.select(worst_k=9)
    results.select()


def test_the_export(results, tmp_path):
    folder = results.export(tmp_path / "student")
    assert (folder / "model.pt2").is_file()
    (folder / "notes.txt").touch()
    with pytest.raises(UserError, match=r"^to .* holds other files"):
        results.export(folder)


def test_the_same_sweep_trains_nothing_again(sweep, results, capfd):
    before = {path: path.stat().st_mtime_ns for path in (results.out / "records").iterdir()}
    assert sweep.run().selected == results.selected
    assert "trained already" in capfd.readouterr().out
    after = {path: path.stat().st_mtime_ns for path in (results.out / "records").iterdir()}
    assert before == after


def test_the_plan_trains_nothing(tmp_path, capfd):
    Sweep(DATA, out=tmp_path / "out", serial=True, epochs=1, **SMALL).plan()
    assert "8 to train" in capfd.readouterr().out
    assert not (tmp_path / "out").exists()


def test_results_open_without_torch(results):
    code = (
        "import sys; from sweeps import Results; "
        f"print(Results({str(results.out)!r}).selected.run_ids[0]); "
        "assert not {'torch', 'ray'} & {*sys.modules}"
    )
    found = subprocess.run(
        [sys.executable, "-c", code], check=False, capture_output=True, text=True
    )
    assert found.stdout.strip() == results.selected.run_ids[0], found.stderr


def test_a_folder_without_results(tmp_path):
    with pytest.raises(UserError, match="is not a results folder"):
        Results(tmp_path)


SCRIPT = """
import numpy as np, signal, sys, os
from sweeps import Sweep
signal.signal(signal.SIGINT, signal.default_int_handler)  # a job in the background ignores it
def arrays(seed, of_class=20):
    rng = np.random.default_rng(seed)
    labels = np.repeat([0, 1, 2], of_class)
    noise = rng.integers(0, 80, (len(labels), 8, 8, 1))
    return (noise + 70 * labels[:, None, None, None]).astype(np.uint8), labels
data = {"train": arrays(0, 400), "val": arrays(1), "test": arrays(2)}
sweep = Sweep(data, alphas=1, temperatures=1, epochs=EPOCHS, out=sys.argv[1], teacher="digits_cnn",
              student="digits_cnn", serial=True, checkpoint_every=1, seeds=(0,))
try:
    results = sweep.run()
except KeyboardInterrupt:
    print("interrupted, and still running", flush=True)
    os._exit(7)
print("ended", len(results.to_pandas()), flush=True)
"""


def script(out, epochs=20):
    code = SCRIPT.replace("EPOCHS", str(epochs))
    return subprocess.Popen([sys.executable, "-c", code, str(out)], stdout=subprocess.PIPE)


def wait_for_checkpoint(out, process):
    deadline = time.monotonic() + 240
    while not any((out / "checkpoints").glob("*/*")):
        assert process.poll() is None
        assert time.monotonic() < deadline
        time.sleep(0.02)


@pytest.mark.parametrize("number", [signal.SIGKILL, signal.SIGINT])
def test_an_interrupted_sweep_continues(tmp_path, number):
    out = tmp_path / "out"
    process = script(out)
    wait_for_checkpoint(out, process)
    os.kill(process.pid, number)
    printed, _ = process.communicate(timeout=240)
    if number == signal.SIGINT:  # the interpreter goes on, as that of a notebook does
        assert b"interrupted, and still running" in printed
        assert process.returncode == 7
    again, _ = script(out).communicate(timeout=900)
    assert b"ended 8" in again
    assert not list((out / "checkpoints").glob("*"))


def test_a_ray_of_the_caller_is_used_and_stays(tmp_path):
    code = f"""
import ray
ray.init(address="local", num_cpus=2, include_dashboard=False, log_to_driver=False)
import sys; sys.argv = ["x", {str(tmp_path / "out")!r}]
{SCRIPT.replace("EPOCHS", "2").replace("serial=True", "max_concurrent=2")}
assert ray.is_initialized()
assert ray.get(ray.remote(lambda: 3).remote()) == 3
ray.shutdown()
"""
    found = subprocess.run(
        [sys.executable, "-c", code], check=False, capture_output=True, text=True
    )
    assert "ended 8" in found.stdout, found.stderr
    assert found.returncode == 0, found.stderr


def test_a_network_is_given_as_a_class(tmp_path):
    (tmp_path / "nets.py").write_text(
        "from torch import nn\n\n\n"
        "class Flat(nn.Sequential):\n    def __init__(self, num_classes):\n"
        "        super().__init__(nn.Flatten(), nn.Linear(64, num_classes))\n"
    )
    flat = load_object(f"{tmp_path}/nets.py:Flat")
    options = {"alphas": 1, "temperatures": 1, "epochs": 1, "serial": True}
    results = Sweep("digits-lt", student=flat, out=tmp_path / "out", **options).run()
    assert set(results.to_pandas()["architecture"]) == {"digits_cnn", "nets:Flat"}
    assert results.load()(torch.zeros(2, 8, 8, 1, dtype=torch.uint8)).shape == (2, 10)
