"""A disk that is full, read-only or over quota, a clock that jumps back, two commands at once."""

import contextlib
import os
import shutil
import subprocess
from pathlib import Path

import pytest

from tests.chaos.sweeping import (
    PATIENCE,
    assert_whole,
    wait_for,
)

EVERY = 10
OPTIONS = ["--dataset", "digits-lt", "--alphas", 1, "--temperatures", 1, "--epochs", 100]
OPTIONS += ["--checkpoint-every", EVERY]
MIB = 2**20


def error_line(command):
    """Return the single line of the command's errors."""
    errors = command.printed("err").read_text()
    assert "Traceback" not in errors
    lines = errors.strip().splitlines()
    assert len(lines) == 1, errors
    return lines[0]


def saved(command):
    """Return the run ids with a checkpoint."""
    paths = command.out.glob("checkpoints/[!.]*/[!.]*/manifest.json")
    return {path.parent.parent.name for path in paths}


def stopped_midway(command, process):
    """Wait until one run is committed and another one has a checkpoint."""
    return wait_for(lambda: command.epochs() > 100 and saved(command), process)


def check_continued(command):
    """Assert that the command continues: commits stay, and checkpoints are resumed.

    A training that finds no room for checkpoints goes on, since there may be room in the end. So
    if there is none even then, it is the last checkpoint that counts.
    """
    before, resumed, lines = command.committed(), saved(command), command.epochs()
    assert "failed" not in {row["status"] for row in command.rows().values()}
    assert command.finish() == 0, command.printed("err").read_text()
    assert {path: command.committed().get(path) for path in before} == before
    assert_whole(command)
    begun: dict[str, int] = {}
    for line in command.journal()[lines:]:
        begun.setdefault(line.run_id, line.epoch)
    assert not set(begun) & {Path(path).stem for path in before}
    assert resumed
    assert all(begun[run_id] >= EVERY for run_id in resumed)


@pytest.mark.parametrize(
    ("engine", "name"),
    [
        pytest.param("--serial", "ENOSPC", marks=pytest.mark.slow),
        *(
            pytest.param(engine, name, marks=[pytest.mark.chaos, pytest.mark.timeout(3600)])
            for engine in ("--serial", "ray")
            for name in ("EDQUOT", "EROFS")
        ),
    ],
)
def test_a_sweep_that_cannot_write_ends_and_continues_later(sweep, tmp_path, engine, name):
    engines = [] if engine == "ray" else [engine]
    command = sweep(tmp_path, *OPTIONS, *engines, faults=True)
    process = command.start()
    assert stopped_midway(command, process)
    (command.chaos / "fault").write_text(name)
    assert process.wait(PATIENCE) == 1
    line = error_line(command)
    assert line.startswith("pareto.py: OSError: [Errno")
    assert line.endswith("nothing finished is lost: continue with the same command")
    (command.chaos / "fault").unlink()
    check_continued(command)


@contextlib.contextmanager
def disk(folder, *options):
    """Mount a small file system, where this user may."""
    folder.mkdir()
    if os.geteuid() != 0 or not shutil.which("mount"):
        pytest.skip("only root may mount a file system")
    command = ["mount", "-t", "tmpfs", "-o", ",".join(options), "tmpfs", str(folder)]
    if subprocess.run(command, capture_output=True, check=False).returncode != 0:
        pytest.skip("this container cannot mount a file system")
    try:
        yield folder
    finally:
        subprocess.run(["umount", "-l", str(folder)], check=True)


@pytest.mark.parametrize(
    "engine", [pytest.param(["--serial"], id="serial"), pytest.param([], id="ray")]
)
@pytest.mark.chaos
@pytest.mark.timeout(3600)
def test_a_disk_that_fills_up(sweep, tmp_path, engine):
    with disk(tmp_path / "disk", "size=170m") as folder:
        command = sweep(folder, *OPTIONS, *engine)
        command.chaos = tmp_path / "chaos"  # the journal is not to fill up
        command.chaos.mkdir()
        command.environment["CHAOS_FOLDER"] = str(command.chaos)
        process = command.start()
        assert stopped_midway(command, process)
        ballast = folder / "ballast"
        with contextlib.suppress(OSError), ballast.open("wb", buffering=0) as sink:
            while True:
                sink.write(bytes(4096))
        assert shutil.disk_usage(folder).free < 4096
        code = process.wait(PATIENCE)
        assert code == 1, command.printed("err").read_text()
        assert "No space left on device" in error_line(command)
        ballast.unlink()
        check_continued(command)
        command.cut_power()  # whatever is left; the disk is unmounted next


def test_no_room_at_the_start_is_one_line_and_exit_code_2(sweep, tmp_path):
    with disk(tmp_path / "small", "size=10m") as folder:
        command = sweep(folder, *OPTIONS, "--serial")
        assert command.finish() == 2
        assert "are free where about" in error_line(command)
        assert not command.out.exists()


def test_a_read_only_folder_is_one_line_and_exit_code_2(sweep, tmp_path):
    with disk(tmp_path / "fixed", "ro") as folder:
        command = sweep(tmp_path, *OPTIONS, "--serial")
        command.out = folder / "out"
        assert command.finish("--out", folder / "out") == 2
        assert "cannot be written" in error_line(command)


@pytest.mark.chaos
@pytest.mark.timeout(3600)
def test_a_clock_that_jumps_back(sweep, tmp_path):
    """Python's ``time.time`` jumps in the driver and in all Python processes of Ray."""
    command = sweep(tmp_path, *OPTIONS)
    clock = command.chaos / "clock"
    clock.write_text("0")
    process = command.start()
    assert wait_for(command.completed, process)
    clock.write_text("-3600")
    assert process.wait(PATIENCE) == 0, command.printed("err").read_text()
    assert_whole(command)
    clock.write_text("-7200")
    process = command.start("--alphas", "0", "1")
    assert wait_for(lambda: len(command.completed()) > 7, process)
    clock.write_text("-86400")
    process.kill()
    process.wait(PATIENCE)
    assert command.finish("--alphas", "0", "1") == 0, command.printed("err").read_text()
    assert_whole(command)


@pytest.mark.parametrize(
    "commands", [2, pytest.param(8, marks=[pytest.mark.chaos, pytest.mark.timeout(3600)])]
)
def test_one_of_several_simultaneous_commands_trains_and_the_others_name_it(
    sweep, tmp_path, commands
):
    several = [sweep(tmp_path, *OPTIONS, "--serial") for _ in range(commands)]
    processes = []
    for n, command in enumerate(several):
        command.lives = 10 * n  # each has its own files for what it prints
        processes.append(command.start())
    codes = [process.wait(PATIENCE) for process in processes]
    assert sorted(codes) == [0] + [2] * (commands - 1)
    (holder,) = (p.pid for p, code in zip(processes, codes, strict=True) if code == 0)
    for command, code in zip(several, codes, strict=True):
        if code == 2:
            line = error_line(command)
            assert f"process {holder} on" in line or "it has just begun" in line
    trained = [(line.run_id, line.epoch) for line in several[0].journal()]
    assert len(trained) == len(set(trained)) == 800
    assert_whole(several[0])
