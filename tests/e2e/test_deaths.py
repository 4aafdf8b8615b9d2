"""The command is interrupted or killed, and continues on leftovers and damaged files."""

import signal
import subprocess
import sys
import time

import pytest

from tests.e2e.command import GRID, ROOT, pareto, rows


def test_leftovers_of_a_killed_run_are_removed_by_the_next(swept, tmp_path):
    out, _ = swept
    copy = tmp_path / "copy"
    subprocess.run(["cp", "-r", str(out), str(copy)], check=True)
    run_id = next(iter(rows(copy)))
    for folder in (f"checkpoints/{run_id}/step-4", f"teacher_logits/{run_id}-0123456789ab"):
        (copy / folder).mkdir(parents=True)
        (copy / folder / "state.safetensors").write_bytes(b"left")
    (copy / "checkpoints" / "of-another-sweep").mkdir()
    done = pareto("--dataset", "digits-lt", *GRID, "--out", copy)
    assert done.returncode == 0, done.stderr
    assert [path.name for path in (copy / "checkpoints").iterdir()] == ["of-another-sweep"]
    assert not (copy / "teacher_logits").exists()


def saved(out):
    """Return the newest saved step of each run that is under way."""
    committed = {path.stem for path in (out / "records").glob("*.parquet")}
    steps = {}
    for path in out.glob("checkpoints/*/step-*/manifest.json"):
        run, step = path.parts[-3], int(path.parts[-2].removeprefix("step-"))
        if run not in committed:
            steps[run] = max(step, steps.get(run, 0))
    return steps


@pytest.mark.parametrize(
    ("signal_number", "engine"),
    [
        pytest.param(signal.SIGINT, [], id="ray-2", marks=pytest.mark.slow),
        pytest.param(signal.SIGTERM, ["--serial"], id="serial-15"),
        pytest.param(signal.SIGTERM, [], id="ray-15", marks=pytest.mark.chaos),
        pytest.param(signal.SIGINT, ["--serial"], id="serial-2", marks=pytest.mark.chaos),
    ],
)
def test_an_interrupted_command_loses_nothing_and_prints_how_to_continue(
    tmp_path, signal_number, engine
):
    out = tmp_path / "out"
    arguments = ["--dataset", "digits-lt", *GRID, "--out", str(out), *engine]
    arguments += ["--epochs", "400", "--checkpoint-every", "60"]
    # Where these tests run in the background, SIGINT comes down to them ignored.
    code = (
        "import os, signal, sys;"
        "signal.signal(signal.SIGINT, signal.SIG_DFL);"
        "os.execv(sys.argv[1], sys.argv[1:])"
    )
    script = str(ROOT / "sweeps" / "pareto.py")
    command = [sys.executable, "-c", code, sys.executable, script, *arguments]
    with subprocess.Popen(
        command,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    ) as process:
        for line in process.stdout:
            if line.startswith("[2/15]"):
                break
        deadline = time.monotonic() + 600
        while not (seen := saved(out)):  # until a next one is well under way
            assert time.monotonic() < deadline
            assert process.poll() is None
            time.sleep(0.01)
        time.sleep(0.5)  # steps are done since: where it is cannot be what is saved already
        began = time.monotonic()
        process.send_signal(signal_number)
        _, errors = process.communicate(timeout=600)
    assert time.monotonic() - began < 12
    assert process.returncode == 128 + signal_number
    (line,) = errors.strip().splitlines()
    assert line.startswith("pareto.py: stopped; continue with: python")
    assert 2 <= len(rows(out)) < 15
    assert {row["status"] for row in rows(out).values()} == {"completed"}
    assert not [p for p in (out / "artifacts").iterdir() if p.name.startswith(".")]
    left = saved(out)
    assert all(left[run] > step for run, step in seen.items())
    assert any(left[run] % step for run, step in seen.items())  # saved where it was


def test_a_killed_sweep_resumes_from_its_checkpoints(tmp_path):
    options = ["--dataset", "digits-lt", "--alphas", "1", "--temperatures", "1", "--serial"]
    options += ["--epochs", "60", "--checkpoint-every", "5"]
    whole, cut = tmp_path / "whole", tmp_path / "cut"
    command = [sys.executable, str(ROOT / "sweeps" / "pareto.py"), *options, "--out", str(cut)]
    with subprocess.Popen(command, stdout=subprocess.DEVNULL) as process:
        deadline = time.monotonic() + 600
        while not list(cut.glob("checkpoints/*/step-*/manifest.json")):
            assert time.monotonic() < deadline
            assert process.poll() is None
            time.sleep(0.01)
        process.kill()
    done = pareto(*options, "--out", cut)
    assert done.returncode == 0, done.stderr
    assert pareto(*options, "--out", whole).returncode == 0
    assert rows(cut) == rows(whole)
    assert not (cut / "checkpoints").exists()
    assert not (cut / "teacher_logits").exists()


def test_a_damaged_teacher_is_set_aside_and_trained_again(swept, tmp_path):
    out, _ = swept
    copy = tmp_path / "copy"
    subprocess.run(["cp", "-r", str(out), str(copy)], check=True)
    before = rows(copy)
    student = next(row for row in before.values() if row["stage"] == "student")
    weights = copy / "artifacts" / student["teacher_id"] / "weights.safetensors"
    content = bytearray(weights.read_bytes())
    content[-1] ^= 1
    weights.write_bytes(content)
    (copy / "records" / f"{student['run_id']}.parquet").unlink()
    subprocess.run(["rm", "-r", str(copy / "artifacts" / student["run_id"])], check=True)
    done = pareto("--dataset", "digits-lt", *GRID, "--out", copy, "--serial")
    assert done.returncode == 0, done.stderr
    (line,) = done.stderr.strip().splitlines()
    assert str(weights) in line
    assert "set aside and trained again" in line
    assert rows(copy) == before


@pytest.mark.parametrize(
    "deaths",  # after so many commits: an initial teacher, students, the rounds of a chain
    [
        pytest.param((1, 6), id="two", marks=pytest.mark.slow),
        pytest.param((1, 3, 6, 9), id="four", marks=pytest.mark.chaos),
    ],
)
def test_chains_hold_outs_and_feature_methods_survive_kills(tmp_path, deaths):
    options = ["--dataset", "digits-lt", "--alphas", "1", "--temperatures", "1", "--serial"]
    options += ["--methods", "repeated_distillation,review_kd,ada_alpha,post_shift"]
    options += ["--epochs", "15", "--checkpoint-every", "5"]
    whole, cut = tmp_path / "whole", tmp_path / "cut"
    command = [sys.executable, str(ROOT / "sweeps" / "pareto.py"), *options, "--out", str(cut)]
    for committed in deaths:
        with subprocess.Popen(command, stdout=subprocess.DEVNULL) as process:
            deadline = time.monotonic() + 600
            while len(list((cut / "records").glob("*.parquet"))) < committed or not saved(cut):
                assert time.monotonic() < deadline
                assert process.poll() is None
                time.sleep(0.005)
            process.kill()
    done = pareto(*options, "--out", cut)
    assert done.returncode == 0, done.stderr
    assert pareto(*options, "--out", whole).returncode == 0
    assert rows(cut) == rows(whole)
    methods = {row["method"] for row in rows(cut).values()}
    assert methods >= {"repeated_distillation", "review_kd", "ada_alpha", "post_shift"}
    for row in rows(cut).values():
        name = f"artifacts/{row['run_id']}/weights.safetensors"
        assert (cut / name).read_bytes() == (whole / name).read_bytes()
    assert not (cut / "checkpoints").exists()
