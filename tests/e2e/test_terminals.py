"""A sweep whose terminal is limited or closes completes its work and writes its files."""

import json
import os
import subprocess
import sys

from rkd_core import records
from tests.e2e.command import ROOT, answer
from tests.rkd_core.datasets.on_disk import image_folder

NETWORKS = ["--teacher-architecture", "digits_cnn", "--student-architecture", "digits_cnn"]
TINY = [*NETWORKS, "--alphas", "0", "--temperatures", "1", "--epochs", "1", "--serial"]
ASCII = {"LC_ALL": "C", "PYTHONCOERCECLOCALE": "0", "PYTHONUTF8": "0"}


def test_an_ascii_screen_that_is_closed(tmp_path):
    """Read the first line, then close the pipe; the log has the rest."""
    pictures, out = tmp_path / "pictures", tmp_path / "out"
    image_folder(pictures)
    for split in ("train", "val"):
        first = min((pictures / split).iterdir())
        first.rename(first.with_name("émeu"))
    command = [sys.executable, str(ROOT / "sweeps" / "pareto.py"), "--dataset", str(pictures)]
    with subprocess.Popen(
        [*command, *TINY, "--out", str(out)],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        env=os.environ | ASCII,
    ) as process:
        assert process.stdout.readline().startswith(b"pictures, small scale: 2 teachers")
        process.stdout.close()
        said = process.stderr.read()
    assert (process.returncode, said) == (0, b"")
    assert records.read(out / "records")["status"].to_pylist() == ["completed"] * 8
    names = {"selection.json", "pareto.png", "pareto.svg", "report.html", "sweep.log"}
    assert names <= {path.name for path in out.iterdir()}
    selection = json.loads((out / "selection.json").read_text("utf-8"))
    assert "émeu" in json.dumps(selection, ensure_ascii=False)
    log = (out / "sweep.log").read_text("utf-8")
    assert "cannot write to stdout: [Errno 32] Broken pipe" in log
    assert log.count(" completed ") == 8
    assert "α" not in answer(log)  # transliterated as on the screen
    assert log.splitlines()[-1].endswith("/report.html")
