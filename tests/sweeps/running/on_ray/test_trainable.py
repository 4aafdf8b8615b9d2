"""Reports of a trial to Tune, and their frequency."""

from pathlib import Path

import pytest
from ray import tune

from rkd_core.training import Progress
from sweeps.running import trial
from sweeps.running.on_ray import trainable

OUTCOME = {"run_id": "a", "status": "completed", "epochs": 3}


@pytest.fixture(name="reports")
def reports_of(monkeypatch):
    """Run a trial whose epochs end at the given times, and return its reports to Tune."""

    def run(epochs, specs=("a",)):
        reports, clock = [], iter([0.0, *(time for _, _, time in epochs)])
        monkeypatch.setattr(trainable.time, "monotonic", lambda: next(clock))
        monkeypatch.setattr(trainable.TrainingSpec, "model_validate_json", lambda text: text)
        monkeypatch.setattr(tune, "report", reports.append)

        def carry_out(specs, students, *, controls, **_):
            for run_id, epoch, _ in epochs:
                controls.report(Progress(run_id, epoch, 3, 1.0, 0.1))
            yield OUTCOME

        monkeypatch.setattr(trial, "carry_out", carry_out)
        config = {"specs": list(specs), "students": []}
        trainable.train_trial(config, dataset=None, out=Path("out"), execution=None)
        assert reports[-1] == OUTCOME | {"timesteps_total": 3}
        return [(report["run_id"], report["timesteps_total"]) for report in reports[:-1]]

    return run


def test_the_first_epoch_of_a_long_training_is_reported(reports):
    assert reports([("a", 1, 60.0), ("a", 2, 120.0)]) == [("a", 1), ("a", 2)]


def test_of_short_epochs_some_are_reported(reports):
    times = [0.2, 0.4, 0.6, 0.8, 1.0, 1.2]
    epochs = [("a", n, time) for n, time in enumerate(times, 1)]
    assert reports(epochs) == [("a", 3), ("a", 6)]


def test_trainings_side_by_side_are_reported_each_for_itself(reports):
    epochs = [("a", 1, 1.0), ("b", 1, 1.0), ("a", 2, 1.1), ("b", 2, 2.0)]
    assert reports(epochs, specs=("a", "b")) == [("a", 1), ("b", 1), ("b", 2)]


def test_a_process_that_failed_to_record_ends_after_its_outcomes(reports, monkeypatch):
    monkeypatch.setattr(trial, "_spoiled", True)
    with pytest.raises(RuntimeError, match="a recording has failed"):
        reports([("a", 1, 60.0)])
