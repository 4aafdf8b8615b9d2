"""MLflow and Weights & Biases as a user runs them, and a tracker that fails on the way."""

import importlib.util
import json
import os
import sqlite3

import pytest

from rkd_core import records
from tests.e2e.command import pareto

SMALL = ["--dataset", "digits-lt", "--alphas", "0", "--temperatures", "1", "--epochs", "2"]
TRAININGS = 2 + 4 + 2


def needs(*names):
    absent = [name for name in names if importlib.util.find_spec(name) is None]
    reason = f"{', '.join(absent)} not installed: pip install -e '.[mlflow,wandb]'"
    return pytest.mark.skipif(bool(absent), reason=reason)


def completed(out):
    return {
        row["run_id"]: row
        for row in records.read(out / "records").to_pylist()
        if row["status"] == "completed"
    }


@needs("mlflow", "sqlalchemy", "alembic")
def test_mlflow_has_a_run_of_each_training(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)  # MLflow keeps files there
    out, store = tmp_path / "out", tmp_path / "mlflow.db"
    done = pareto(*SMALL, "--out", out, "--mlflow", f"sqlite:///{store}")
    assert (done.returncode, done.stderr) == (0, "")
    with sqlite3.connect(store) as connection:
        rows = connection.execute(
            "select r.name, r.status, e.name, m.value from runs r "
            "join experiments e using (experiment_id) join metrics m using (run_uuid) "
            "where m.key = 'val_average_accuracy'"
        ).fetchall()
    connection.close()
    kept = completed(out)
    assert len(kept) == TRAININGS
    assert {row[0] for row in rows} == {*kept, "out"}
    sweep = next(row for row in rows if row[0] == "out")
    assert sweep[1:3] == ("FINISHED", "digits-lt")
    for name, status, experiment, value in [row for row in rows if row[0] in kept]:
        assert (status, experiment) == ("FINISHED", "digits-lt")
        assert value == pytest.approx(kept[name]["val_average_accuracy"])


@needs("mlflow", "sqlalchemy", "alembic")
@pytest.mark.filterwarnings("ignore::DeprecationWarning")  # MLflow's own use of SQLAlchemy
def test_mlflow_has_one_run_of_the_sweep_with_the_answer(tmp_path, monkeypatch):
    from mlflow.tracking import MlflowClient

    monkeypatch.chdir(tmp_path)  # MLflow keeps files there
    out, store = tmp_path / "o'ut", "sqlite:///mlflow.db"
    for seeds in ((0,), (0, 1)):  # the second command continues the sweep
        done = pareto(*SMALL, "--seeds", *seeds, "--out", out, "--mlflow", store)
        assert (done.returncode, done.stderr) == (0, "")
    client = MlflowClient(store)
    number = client.get_experiment_by_name("digits-lt").experiment_id
    runs = client.search_runs([number])
    (sweep,) = [run for run in runs if "mlflow.parentRunId" not in run.data.tags]
    parents = [run.data.tags["mlflow.parentRunId"] for run in runs if run is not sweep]
    assert parents == [sweep.info.run_id] * (2 * TRAININGS)
    assert sweep.info.run_name == "o'ut"
    selected = json.loads((out / "selection.json").read_text())["selected"]
    assert sweep.data.tags["temperature"] == str(selected["temperature"])
    assert sweep.data.metrics == {
        name: pytest.approx(selected[name])
        for name in (
            "val_worst_class_accuracy",
            "val_average_accuracy",
            "test_worst_class_accuracy",
            "test_average_accuracy",
        )
    }
    files = [file.path for file in client.list_artifacts(sweep.info.run_id)]
    assert sorted(files) == ["pareto.png", "report.html", "selection.json"]


@needs("wandb")
@pytest.mark.slow
def test_weights_and_biases_has_a_run_of_each_training(tmp_path, monkeypatch):
    monkeypatch.setenv("WANDB_MODE", "offline")
    monkeypatch.delenv("WANDB_DIR", raising=False)
    out = tmp_path / "out"
    done = pareto(*SMALL, "--out", out, "--wandb", "worst-classes", timeout=900)
    assert done.returncode == 0, done.stderr  # where Ray's core warns of its own logging actor
    assert "training goes on without it" not in done.stdout
    assert len(completed(out)) == TRAININGS
    logged = list((out / "wandb").glob("offline-run-*/run-*.wandb"))
    assert len(logged) == TRAININGS + 1  # and the sweep
    content = b"".join(path.read_bytes() for path in logged)
    assert all(name.encode() in content for name in completed(out))


@needs("wandb")
def test_without_a_key_nothing_is_trained(tmp_path, monkeypatch):
    for name in ("WANDB_API_KEY", "WANDB_MODE"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("HOME", str(tmp_path))
    done = pareto(*SMALL, "--out", tmp_path / "out", "--wandb", "worst-classes")
    assert done.returncode == 2
    assert done.stderr.startswith("pareto.py: --wandb worst-classes: No WandB API key found")
    assert done.stderr.count("\n") == 1
    assert completed(tmp_path / "out") == {}


SILENT = """
from types import SimpleNamespace
class Client:
    def __init__(self, **places): pass
    def get_experiment_by_name(self, name): return SimpleNamespace(experiment_id="1")
    def search_runs(self, *sought, **few): return []
    def create_run(self, *where, **run): raise ConnectionError("the server has gone")
"""
FAKE = """
from types import SimpleNamespace
__version__ = "3.0.0"
def set_tracking_uri(uri): pass
def set_registry_uri(uri): pass
def get_tracking_uri(): pass
def get_registry_uri(): pass
def get_experiment_by_name(name): return SimpleNamespace(experiment_id="1")
"""


def test_a_server_that_goes_costs_no_training(tmp_path, monkeypatch):
    """Ray's callback, with an MLflow that answers until the first run is begun."""
    package = tmp_path / "fake" / "mlflow"
    for name, text in (
        ("__init__.py", FAKE),
        ("tracking.py", SILENT.replace("Client", "MlflowClient")),
        ("utils/__init__.py", ""),
        ("utils/mlflow_tags.py", "MLFLOW_RUN_NAME = 'mlflow.runName'"),
    ):
        (package / name).parent.mkdir(parents=True, exist_ok=True)
        (package / name).write_text(text)
    monkeypatch.setenv("PYTHONPATH", str(package.parent), prepend=os.pathsep)
    done = pareto(*SMALL, "--out", tmp_path / "out", "--mlflow", "http://gone")
    assert done.returncode == 0, done.stderr
    line = "--mlflow http://gone failed (the server has gone); training goes on without it"
    assert done.stdout.count(line) == 1
    line = (
        f"--mlflow http://gone failed (the server has gone); the answer is in {tmp_path}/out alone"
    )
    assert " ".join(done.stderr.split()) == line
    assert len(completed(tmp_path / "out")) == TRAININGS
