"""Metrics that plug-ins register, and refusals of wrong ones."""

import json

import numpy as np

from tests.analysis.selection.test_by_metric import CLASSES, LABELS, STUDENTS, logits_of, run, world
from tests.extensions.state import forget

PLUGIN = """
from rkd_core.metrics import ClassMetric
from rkd_core.plugins import metrics
import numpy as np

def brier(labels, log_p):
    truth = labels[:, None] == np.arange(log_p.shape[1])
    return ((np.exp(log_p) - truth) ** 2).mean(axis=0)

metrics.register("brier")(ClassMetric(brier, lower_is_better=True))

@metrics.register("short")
def short(labels, log_p):
    return [1.0]

@metrics.register("broken")
def broken(labels, log_p):
    raise ValueError("out of order")

@metrics.register("undefined")
def undefined(labels, log_p):
    return np.full(log_p.shape[1], np.nan)
"""


def test_a_metric_of_a_plugin(tmp_path, capsys, monkeypatch):
    forget(monkeypatch)
    world(tmp_path / "results")
    (tmp_path / "brier.py").write_text(PLUGIN)
    given = "--plugin", str(tmp_path / "brier.py")
    assert run(tmp_path / "results", *given, "--metric", "brier", "--margin", "1") == 0
    content = json.loads((tmp_path / "results" / "selection.json").read_bytes())
    means = []
    for student in STUDENTS:
        logits = logits_of(student, 0, "val").astype(np.float64)
        p = np.exp(logits) / np.exp(logits).sum(1, keepdims=True)
        means.append(((p - np.eye(CLASSES)[LABELS]) ** 2).mean(axis=0).max())
    assert content["selected"]["run_ids"] == [f"{STUDENTS[int(np.argmin(means))]}-0"]
    assert len(content["criterion"]["code_digest"]) == 64
    for name, message in (
        ("short", "must return a figure for each of the 3 classes, not an array (1,)"),
        ("broken", "out of order"),
        ("undefined", "--metric undefined returns nan for class 0"),
        ("breir", "did you mean brier"),
    ):
        capsys.readouterr()
        assert run(tmp_path / "results", *given, "--metric", name) == 2
        error = capsys.readouterr().err
        assert message in error
        assert error.count("\n") == 1
