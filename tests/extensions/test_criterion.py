"""A selection rule of a plug-in: in both commands, kept in the results folder, refusals."""

import json
import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

from analysis.select import main as select
from rkd_core import records
from sweeps.pareto import main as pareto
from tests.analysis.worlds import sweep, table
from tests.extensions.state import forget

RULE = """
from analysis.selection.criteria import Constrained
from rkd_core.plugins import criteria


@criteria.register("nearest")
class Nearest(Constrained):
    def objective(self, accuracies):
        return accuracies.means.worst_k - accuracies.means.average
"""


@pytest.fixture(autouse=True)
def own_state(monkeypatch, tmp_path):
    monkeypatch.chdir(tmp_path)
    forget(monkeypatch)
    (tmp_path / "rule.py").write_text(RULE)
    for row in table(sweep()).to_pylist():
        records.write(tmp_path / "out" / "records", row)


def answer():
    return json.loads(Path("out/selection.json").read_text())


LINE = ["out", "--no-figures", "--plugin", "rule.py", "--criterion", "nearest"]


def test_it_selects_and_is_kept(monkeypatch, tmp_path):
    assert select(["out", "--no-figures"]) == 0
    default = answer()["selected"]
    assert select(LINE) == 0
    found = answer()
    assert found["criterion"]["name"] == "nearest"
    differences = [
        c["val_worst_class_accuracy"] - c["val_average_accuracy"] for c in found["combinations"]
    ]
    assert default is not None
    assert max(differences) < 0  # and is not taken for an accuracy of 0
    assert found["recommendation"]["ship"]

    (tmp_path / "rule.py").unlink()
    forget(monkeypatch)
    assert select(["out", "--no-figures", "--criterion", "nearest"]) == 0
    assert answer() == found


def test_an_edited_rule_is_not_answered_from_the_cache(monkeypatch, tmp_path):
    assert select(LINE) == 0
    digest = answer()["criterion"]["code_digest"]
    text = RULE.replace("worst_k - accuracies.means.average", "average")
    (tmp_path / "rule.py").write_text(text)
    forget(monkeypatch)
    assert select(LINE) == 0
    assert answer()["criterion"]["code_digest"] != digest


@pytest.mark.parametrize(
    ("old", "new", "message"),
    [
        (
            "class Nearest(Constrained)",
            "class Nearest",
            r"nearest is not a criterion: it has no desc",
        ),
        ("return accuracies", "return 3 #", r"objective\(\) must return a number for each of the"),
        ("return accuracies", "return acuracies", r"objective\(\) raises: .*rule.py line 9: NameE"),
        ("accuracies.means.average", "float('nan')", r"objective\(\) returns NaN"),
        (
            "    def obj",
            "    def __init__(self, x): ...\n    def obj",
            r"--criterion nearest raises",
        ),
        ("@criteria", "criteria.register('x')(3)\n@criteria", r"rule.py line 6: the criterion 'x'"),
    ],
)
def test_faults_are_one_line(tmp_path, capsys, old, new, message):
    (tmp_path / "rule.py").write_text(RULE.replace(old, new))
    assert select(LINE) == 2
    error = capsys.readouterr().err
    assert len(error.splitlines()) == 1
    assert re.search(message, error), error
    assert not (tmp_path / "out" / "selection.json").exists()


def test_unknown_names_and_exclusions(capsys):
    assert select(["out", "--criterion", "nearest"]) == 2
    assert "give the file that registers it with --plugin" in capsys.readouterr().err
    assert select([*LINE[:4], "--criterion", "nearst"]) == 2
    assert "did you mean nearest" in capsys.readouterr().err
    assert select([*LINE, "--weight", "0.5"]) == 2
    assert "--weight and --criterion exclude each other" in capsys.readouterr().err
    assert select([*LINE, "--margin", "0.5"]) == 2
    assert "--criterion excludes --margin" in capsys.readouterr().err
    for more in (["--budget", "50%"], ["--prune"]):
        line = ["--plugin", "rule.py", "--criterion", "nearest", "--serial", *more]
        assert pareto([*line, "--dataset", "digits", "--out", "new"]) == 2
        assert "--group, --criterion, --keep balanced" in capsys.readouterr().err


def test_it_loads_neither_torch_nor_ray():
    code = f"import analysis.select as s, sys; s.main({LINE}); "
    code += "print({'torch', 'ray'} & {*sys.modules})"
    environment = {**os.environ, "PYTHONPATH": str(Path(__file__).parents[2])}
    done = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=True, env=environment
    )
    assert done.stdout.splitlines()[-1] == "set()"
