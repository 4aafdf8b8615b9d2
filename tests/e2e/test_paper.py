"""The command that makes the papers' tables."""

import json
import subprocess
import sys

import pyarrow.parquet as pq

from tests.e2e.command import ROOT, rows


def paper(*arguments, timeout=900):
    return subprocess.run(
        [sys.executable, str(ROOT / "sweeps" / "paper.py"), *map(str, arguments)],
        capture_output=True,
        text=True,
        timeout=timeout,
        check=False,
    )


def test_a_table_is_trained_printed_and_kept(tmp_path):
    out, save = tmp_path / "out", tmp_path / "save"
    options = ["--dataset", "digits-lt", "--epochs", "1", "--serial", "--out", out]
    done = paper("--table", "ltkd-ablation", *options, "--save", save)
    assert done.returncode == 0, done.stderr
    assert "LTKD poster, ablation: digits-lt, small scale, 1 seed" in done.stdout
    found = {
        row["variant"]: json.loads(row["spec"])["variant"]["options"]
        for row in rows(out).values()
        if row["method"] == "ltkd"
    }
    weights = {"cross_weight": 0.0}, {"within_weight": 0.0}
    options_of = [
        *({}, *weights, weights[0] | weights[1], {"within_weight": 0.0, "rebalance": False})
    ]
    assert sorted(found.values(), key=str) == sorted(options_of, key=str)
    assert {row["architecture"] for row in rows(out).values()} == {"resnet8"}
    content = json.loads((save / "ltkd-ablation-digits-lt.json").read_text())
    assert len(content["cells"]) == 5 * 2
    assert all(cell["value"] is not None for cell in content["cells"])
    kept = pq.read_table(save / "ltkd-ablation-digits-lt.parquet")
    assert set(kept["run_id"].to_pylist()) == set(rows(out))
    text = (save / "ltkd-ablation-digits-lt.md").read_text()
    assert text == (out / "paper" / "ltkd-ablation-digits-lt.md").read_text()
    before = rows(out)
    again = paper("--table", "ltkd-ablation", *options)
    assert f"All {len(before)} are trained already." in again.stdout
    assert rows(out) == before
    dry = paper("--table", "pet-10", *options, "--dry-run")
    assert dry.returncode == 0
    assert "5 to train" in dry.stdout


def test_bad_input_and_the_list(tmp_path):
    listed = paper()
    assert listed.returncode == 0
    assert "wang-1         Wang et al. (UAI 2023), Table 1" in listed.stdout.splitlines()
    assert "pet-9          Lukasik et al. (TMLR 2022), Table 9" in listed.stdout.splitlines()
    for arguments, named in (
        (["--table", "wang1"], "did you mean wang-1"),
        (["--table", "wang-1", "--methods", "kd"], "--methods"),
        (["--table", "wang-1", "--budget", "40%"], "--budget"),
        (["--table", "wang-1", "--teacher-logits", "x"], "leave out --teacher-logits"),
        (["--table", "wang-1", "--dataset", "cifar11"], "cifar11"),
        (["--table", "wang-1", "--epochs", "0"], "--epochs"),
        (["--tabel", "wang-1"], "--tabel"),
    ):
        done = paper(*arguments, "--out", tmp_path / "o")
        assert done.returncode == 2
        (line,) = done.stderr.strip().splitlines()
        assert line.startswith("paper.py: ")
        assert named in line
    assert list(tmp_path.iterdir()) == []
