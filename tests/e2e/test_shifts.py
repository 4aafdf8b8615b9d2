"""Shifts of students with the typed command."""

import json

from rkd_core.records import shifts
from sweeps.pareto import main

OPTIONS = ["--dataset", "digits-lt", "--alphas", "0.5", "--temperatures", "1", "--epochs", "2"]
OPTIONS += ["--no-undistilled", "--serial"]


def content(folder):
    return {path.name: path.read_bytes() for path in (folder / "shifts").iterdir()}


def test_a_sweep_fits_shifts_and_computes_those_that_are_missing(tmp_path, capsys):
    assert main([*OPTIONS, "--out", str(tmp_path)]) == 0
    before, selection = content(tmp_path), json.loads((tmp_path / "selection.json").read_text())
    assert len(before) == 4
    assert len(selection["combinations"]) == 4 * 6
    assert "Fitting the shifts" not in capsys.readouterr().out

    for name in sorted(before)[:2]:
        (tmp_path / "shifts" / name).unlink()
    assert main([*OPTIONS, "--out", str(tmp_path)]) == 0
    assert "Fitting the shifts of 2 trained students" in capsys.readouterr().out
    assert content(tmp_path) == before
    assert json.loads((tmp_path / "selection.json").read_text()) == selection

    for path in (tmp_path / "shifts").iterdir():
        path.unlink()
    assert main([*OPTIONS, "--no-shifts", "--out", str(tmp_path)]) == 0
    assert content(tmp_path) == {}
    assert len(json.loads((tmp_path / "selection.json").read_text())["combinations"]) == 4


def test_a_damaged_file_of_shifts_is_named_and_nothing_is_selected(tmp_path, capsys):
    assert main([*OPTIONS, "--no-shifts", "--out", str(tmp_path)]) == 0
    assert not (tmp_path / "shifts").exists()
    assert main([*OPTIONS, "--out", str(tmp_path)]) == 0
    assert "Fitting the shifts of 4 trained students" in capsys.readouterr().out
    path = next((tmp_path / "shifts").iterdir())
    path.write_bytes(path.read_bytes()[:100])
    selection = (tmp_path / "selection.json").read_bytes()
    assert main([*OPTIONS, "--out", str(tmp_path)]) == 2
    (line,) = capsys.readouterr().err.splitlines()
    assert str(path) in line
    assert "delete it" in line
    assert (tmp_path / "selection.json").read_bytes() == selection
    assert shifts.missing(tmp_path, [path.stem]) == []
