"""Methods and objectives of a plug-in: ids, workers, later commands without the file, refusals."""

import json
import re
from pathlib import Path

import pytest

from analysis.select import main as select
from rkd_core import records
from rkd_core.errors import UserError
from sweeps import Sweep
from sweeps.export import main as export
from sweeps.pareto import main as pareto
from tests.e2e.command import pareto as in_own_process
from tests.extensions.state import forget

MINE = '''
from rkd_core.methods.common.protocol import Method
from rkd_core.plugins import methods, objectives


@objectives.register("root")
def root(priors, multipliers, alpha):
    return priors.rsqrt()


@methods.register("matching")
class Matching(Method):
    """Squared distance to the logits of the teacher."""

    weight: float = 1

    def loss(self, context):
        from torch.nn import functional as F

        from rkd_core.methods.common.losses import Loss

        return Loss(lambda inputs: self.weight * F.mse_loss(inputs.logits, inputs.teacher))
'''
LINE = ["--dataset", "digits-lt", "--methods", "root,matching:weight=0.5", "--epochs", "1"]
LINE += ["--temperatures", "1", "--no-undistilled", "--plugin", "mine.py", "--out", "out"]


@pytest.fixture(autouse=True)
def own_state(monkeypatch, tmp_path):
    monkeypatch.chdir(tmp_path)
    forget(monkeypatch)
    (tmp_path / "mine.py").write_text(MINE)


def rows():
    """Return the records of students by method or objective."""
    found = records.read(Path("out", "records")).to_pylist()
    return {r["variant"] or r["student_objective"]: r for r in found if r["stage"] == "student"}


def test_they_are_trained_kept_and_used_without_the_file(monkeypatch, tmp_path, capsys):
    assert pareto([*LINE, "--serial"]) == 0
    first = rows()
    assert set(first) == {"standard", "root", "matching (weight 0.5)"}
    specs = {name: json.loads(row["spec"]) for name, row in first.items()}
    digest = specs["root"]["objective_digest"]
    assert specs["matching (weight 0.5)"]["variant"]["code_digest"] == digest
    assert specs["standard"]["objective_digest"] is None
    assert (tmp_path / "out" / "plugins" / digest / "code.json").is_file()

    forget(monkeypatch)
    assert pareto([*LINE, "--serial"]) == 0
    assert "All 4 are trained already" in capsys.readouterr().out
    assert rows() == first

    (tmp_path / "mine.py").unlink()
    forget(monkeypatch)
    assert select(["out", "--verbose"]) == 0
    assert "root" in capsys.readouterr().out
    for name in ("root", "matching (weight 0.5)"):
        forget(monkeypatch)
        assert export(["out", "--to", name, "--run-id", first[name]["run_id"]]) == 0


def test_edited_code_gives_new_ids_also_on_ray(monkeypatch, tmp_path, capsys):
    assert pareto([*LINE, "--serial"]) == 0
    old = {row["run_id"] for row in rows().values()}
    (tmp_path / "mine.py").write_text("# a comment\n" + MINE)
    forget(monkeypatch)
    assert pareto([*LINE, "--dry-run"]) == 0
    assert "All 4 are trained already" in capsys.readouterr().out
    (tmp_path / "mine.py").write_text(MINE.replace("priors.rsqrt()", "priors ** -0.3"))
    forget(monkeypatch)
    done = in_own_process(*LINE, "--max-concurrent", "1", cwd=tmp_path)  # with a Ray of its own
    assert done.returncode == 0, done.stderr
    assert "2 are trained already, 2 to go" in done.stdout
    new = {row["run_id"] for row in records.read(tmp_path / "out" / "records").to_pylist()}
    assert len(new - old) == 3  # a teacher, and students by the method and the objective


def test_from_python(capsys):
    given = {"methods": "root", "epochs": 1, "serial": True, "temperatures": 1}
    Sweep("digits-lt", plugins=["mine.py"], **given).plan()
    assert "Methods: root" in capsys.readouterr().out
    with pytest.raises(UserError, match=r"plugin nowhere\.py does not exist"):
        Sweep("digits-lt", plugins=["nowhere.py"], **given).plan()
    with pytest.raises(UserError, match="give plugins or plugin, not both"):
        Sweep("digits-lt", plugins=["mine.py"], plugin=["mine.py"])


@pytest.mark.parametrize(
    ("old", "new", "message"),
    [
        (
            "(Method)",
            "(int)",
            "mine.py line 11: the method 'matching': Matching is not a class deriv",
        ),
        ('"root"', '"balanced"', "mine.py line 6: the objective 'balanced' is built in"),
        ('"matching"', '"kd"', "mine.py line 11: the method 'kd' is built in"),
        ('"matching"', '"all"', "the method 'all' is built in"),
        (
            "weight: float",
            'name = "other"\n    weight: float',
            "Matching has another name, 'other'",
        ),
        (
            "priors.rsqrt()",
            "priors - 1",
            "the objective 'root' must return a positive cost for each",
        ),
        ("priors.rsqrt()", "3", "the objective 'root' must return a positive cost for each"),
        ("priors.rsqrt()", "priorss", "root raises: .*mine.py line 8: NameError"),
        ("from rkd_core.plugins", "open('x' + __file__)\nfrom rkd_core.plugins", "mine.py line 3"),
    ],
)
def test_bad_plug_ins_are_refused_in_one_line(tmp_path, capsys, old, new, message):
    (tmp_path / "mine.py").write_text(MINE.replace(old, new))
    assert pareto([*LINE, "--serial"]) == 2
    error = capsys.readouterr().err
    assert len(error.splitlines()) == 1
    assert re.search(message, error), error
    assert not (tmp_path / "out").exists()


def test_code_that_needs_files_beside_it_is_refused(tmp_path, capsys):
    (tmp_path / "data.txt").write_text("1")
    text = MINE + "\nfrom pathlib import Path\nPath(__file__).with_name('data.txt').read_text()\n"
    (tmp_path / "mine.py").write_text(text)
    assert pareto([*LINE, "--serial"]) == 2
    assert "cannot be imported from a copy of it" in capsys.readouterr().err
