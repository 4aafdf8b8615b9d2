"""The report's table of all trainings."""

from pathlib import Path

from analysis.report import trainings as module
from analysis.report.trainings import trainings
from analysis.runs.loading import load
from analysis.selection.outcome import assess
from tests.analysis import worlds


def columns_of(results: Path, rows: list[worlds.Row]) -> dict:
    worlds.write(results, rows)
    runs = load(results)
    return trainings(assess(runs), runs)


def test_each_training_has_its_accuracies_and_its_curve(tmp_path, monkeypatch):
    standard = worlds.student(
        "plain", val_class_correct=[9, 5], test_class_correct=[10, 4], train_seconds=1.26
    )
    curved = {
        **worlds.student("curved", 0.5, 0.25, 3.0, val_class_correct=[8, 8]),
        "val_epochs": [1, 2],
        "val_epoch_class_correct": [[2, 4], [6, 8]],
    }
    alone = worlds.variant("alone", "one_hot", None, teacher_id=None, val_class_correct=[7, 7])
    other = worlds.student("other", status="failed", val_class_correct=[1, 2, 3])
    columns = columns_of(tmp_path, [standard, curved, alone, other])
    rows = {
        run_id: {name: values[place] for name, values in columns.items()}
        for place, run_id in enumerate(columns["run_id"])
    }
    assert rows["plain"]["name"] == "student standard, T = 1, teacher standard"
    assert rows["curved"]["name"] == "student αₛ = 0.25, T = 3, teacher αₜ = 0.5"
    assert rows["alone"]["name"] == "student standard, without a teacher"
    assert (rows["plain"]["val_worst"], rows["plain"]["val_average"]) == (0.5, 0.7)
    assert (rows["plain"]["test_worst"], rows["plain"]["test_average"]) == (0.4, 0.7)
    assert rows["other"]["val_worst"] is None  # of other classes
    assert rows["plain"]["seconds"] == 1.3
    assert rows["plain"]["curves"] is None
    assert rows["curved"]["curves"] == [[1, 2], [0.2, 0.6], [0.3, 0.7]]
    large = worlds.student("large", architecture="resnet56")
    name = dict(
        zip(*(columns_of(tmp_path, [large])[key] for key in ("run_id", "name")), strict=True)
    )
    assert name["large"] == "student resnet56 standard, T = 1, teacher standard"
    assert name["alone"] == "student resnet20 standard, without a teacher"
    monkeypatch.setattr(module, "_MOST_VALUES", 5)
    assert set(columns_of(tmp_path, [curved])["curves"]) == {None}
