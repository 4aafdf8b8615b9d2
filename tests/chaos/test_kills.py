"""Drivers and workers are killed at random; the same command completes with the same results."""

import itertools
import os
import re
import signal
import statistics
import time

import pytest

from tests.chaos.sweeping import (
    PATIENCE,
    assert_gone,
    assert_whole,
    repaid,
    seeded,
    wait_for,
)

SEED = 0
EVERY = 10
RETRY = 5.0  # seconds until the next training starts, where a worker has been killed
SLOW = 4  # times that, on a machine that does other things as well
SLOTS = 2
MOMENTS = ("start", "training", "training", "commit", "end")


def options(seeds, alphas, epochs):
    grid = ["--alphas", *alphas, "--temperatures", 1, "--seeds", *seeds, "--epochs", epochs]
    machine = ["--checkpoint-every", EVERY, "--max-concurrent", SLOTS]
    return ["--dataset", "digits-lt", *grid, *machine]


def wait_until(moment, command, process, random, most=400):
    """Wait for a random instant within a phase of a sweep; return False if it ended before."""
    if moment == "start":  # imports, Ray's start, the first trainings
        time.sleep(random.uniform(0.1, 12))
        return process.poll() is None
    if moment == "training":
        epochs = command.epochs() + random.randrange(1, most)
        return wait_for(lambda: command.epochs() >= epochs, process)
    folders = command.out / "artifacts"
    if moment == "commit":  # a hidden folder appears; its files are written and synced
        begun = {p.name for p in folders.glob(".*")}
        reached = wait_for(lambda: {p.name for p in folders.glob(".*")} - begun, process)
        time.sleep(random.uniform(0, 0.03))
        return reached and process.poll() is None
    planned = wait_for((command.out / "plan.json").exists, process)
    goal = len(command.planned()) if planned else 0
    kept = command.out / "records"
    reached = wait_for(lambda: len(list(kept.glob("[!.]*"))) >= goal, process)
    time.sleep(random.uniform(0, 3))  # Ray's farewell, the selection, the figures
    return reached and process.poll() is None


def kill(command, moment, whole, random, **how):
    """Start the command and kill it at a moment.

    Returns:
        A line that says how it went; None if the sweep ended before.
    """
    lines, before, committed = len(command.journal()), command.completed(), command.committed()
    process = command.start()
    if not wait_until(moment, command, process, random, **how):
        assert process.wait(PATIENCE) == 0, command.printed("err").read_text()
        return None
    if whole:
        command.cut_power()
    process.kill()
    process.wait(PATIENCE)
    deadline = time.monotonic() + 600
    while command.workers():  # they notice within two seconds, and may commit until then
        assert time.monotonic() < deadline, command.workers()
        time.sleep(0.05)
    check_committed(command, committed)
    trained = command.journal()[lines:]
    assert not before & {line.run_id for line in trained}, "what was finished was trained again"
    return (
        f"{moment}, {'everything' if whole else 'driver'}: {len(before)} -> "
        f"{len(command.completed())} completed, {len(trained)} epochs"
    )


def check_committed(command, committed):
    """Assert that every committed file is unchanged."""
    now = command.committed()
    assert {path: now.get(path) for path in committed} == committed


def delays(command, kills):
    """Return seconds from each kill that cost a training its process to the next start."""
    events, seconds = command.events(), []
    for n, failure in enumerate(events):
        before = [when for when in kills if when <= failure.when]
        if failure.kind == "failed" and "(retry " in failure.rest and before:
            started = next(e.when for e in events[n:] if e.kind == "started")
            seconds.append(started - max(before))
    return seconds


def check_sweep(command, kills):
    assert_whole(command)
    costs = repaid(command.journal())
    assert max(costs, default=0) <= EVERY
    assert sum(costs) <= kills * SLOTS * EVERY
    assert not list((command.out / "checkpoints").glob("*"))
    return costs


@pytest.mark.slow
@pytest.mark.timeout(3600)
def test_a_killed_sweep_ends_like_an_undisturbed_one(sweep, tmp_path):
    """The driver, then one worker again and again, then a worker once."""
    grid = options([0], [1], 60)
    calm = sweep(tmp_path / "calm", *grid, "--serial")
    assert calm.finish() == 0
    command = sweep(tmp_path / "killed", *grid)
    assert kill(command, "training", False, seeded(0), most=60)
    committed = command.committed()

    rows = calm.rows()
    (victim,) = {r["run_id"] for r in rows.values() if r["alpha_t"] == 1 and not r["teacher_id"]}
    students = {run_id for run_id, row in rows.items() if row["teacher_id"] == victim}
    always = command.chaos / f"die-always-{victim}"
    always.touch()
    assert command.finish("--max-failures", 1) == 1
    always.unlink()
    check_committed(command, committed)
    committed = command.committed()
    failed = {i: r["cause"] for i, r in command.rows().items() if r["status"] == "failed"}
    assert set(failed) == students | {victim}
    assert "killed" in failed[victim]
    assert all(failed[i] == f"teacher {victim} failed: {failed[victim]}" for i in students)
    kinds = [e.kind for e in command.events() if e.run_id == victim]
    assert kinds[-4:] == ["started", "failed", "started", "failed"]

    (command.chaos / f"die-{victim}-58").touch()
    assert command.finish() == 0, command.printed("err").read_text()
    assert not (command.chaos / f"die-{victim}-58").exists()
    check_committed(command, committed)
    assert check_sweep(command, 4), "nothing was under way when it was killed"
    last = max(e.when for e in command.journal() if (e.run_id, e.epoch) == (victim, 58))
    ended = [e.when for e in command.journal() if e.run_id == victim and e.when < last]
    assert max(delays(command, ended)) < SLOW * RETRY
    assert command.rows() == rows


@pytest.mark.chaos
@pytest.mark.timeout(3600)
def test_a_training_that_hangs_is_ended_and_retried(sweep, tmp_path):
    grid = options([0], [1], 60)
    calm = sweep(tmp_path / "calm", *grid, "--serial")
    assert calm.finish() == 0
    student = min(run_id for run_id, row in calm.rows().items() if row["teacher_id"])
    command = sweep(tmp_path / "hung", *grid)
    (command.chaos / f"hang-{student}-30").touch()
    assert command.finish("--hang-timeout", 40) == 0, command.printed("err").read_text()
    log = (command.out / "sweep.log").read_text("utf-8")
    assert re.search(f"failed {student} .*: no step for .* seconds, so it was ended", log)
    assert "in end_epoch" in log, "the stack of what hung"
    assert not (command.out / ".hangs").exists()
    assert_whole(command)


@pytest.mark.chaos
@pytest.mark.timeout(7200)
def test_20_kills_of_the_driver(sweep, tmp_path, capsys):
    lines, costs = [], []
    for place in itertools.count():
        grid = options([2 * place, 2 * place + 1], [0, 1], 300)
        command = sweep(tmp_path / f"killed-{place}", *grid)
        before = len(lines)
        while len(lines) < 20:
            random = seeded(SEED, place, command.lives)
            moment, whole = random.choice(MOMENTS), random.random() < 0.4
            line = kill(command, moment, whole, random)
            if line is None:
                break
            lines.append(f"{len(lines) + 1} (stream {SEED}:{place}:{command.lives - 1}) {line}")
        committed = command.committed()
        assert command.finish() == 0, command.printed("err").read_text()
        check_committed(command, committed)
        costs += check_sweep(command, len(lines) - before)
        assert_gone(command)
        check_rows(command, sweep(tmp_path / f"calm-{place}", *grid))
        if len(lines) == 20:
            break
    with capsys.disabled():
        print("", *lines, f"{place + 1} sweeps; epochs repaid: {costs}", sep="\n")


@pytest.mark.chaos
@pytest.mark.timeout(7200)
def test_20_kills_of_workers(sweep, tmp_path, capsys):
    lines, costs, waits, kills = [], [], [], []
    for place in itertools.count():
        grid = options([2 * place, 2 * place + 1], [0, 1], 300)
        command = sweep(tmp_path / f"killed-{place}", *grid, "--max-failures", 20)
        before, random = len(lines), seeded(SEED, place, "workers")
        process = command.start()
        while len(lines) < 20:
            line = kill_worker(command, process, random)
            kills.append(time.time())
            if line is None:
                break
            lines.append(f"{len(lines) + 1} (stream {SEED}:{place}:workers) {line}")
        assert process.wait(PATIENCE) == 0, command.printed("err").read_text()
        costs += check_sweep(command, len(lines) - before)
        waits += delays(command, kills)
        assert {event.kind for event in command.events()} == {"started", "completed", "failed"}
        assert_gone(command)
        check_rows(command, sweep(tmp_path / f"calm-{place}", *grid))
        if len(lines) == 20:
            break
    with capsys.disabled():
        rounded = [round(seconds, 1) for seconds in waits]
        print("", *lines, f"{place + 1} sweeps; epochs repaid: {costs}", sep="\n")
        print(f"seconds from a death to the next start: {rounded}")
    assert statistics.median(waits) < RETRY
    assert max(waits) < SLOW * RETRY


def check_rows(command, calm):
    """Assert that an undisturbed sweep gives the same rows."""
    assert calm.finish() == 0
    assert command.rows() == calm.rows()


def kill_worker(command, process, random):
    """Kill a worker at a random moment, or let it kill itself, as the OOM killer would.

    Returns:
        A line that says how it went; None if the sweep ended before.
    """
    epochs = command.epochs() + random.randrange(1, 150)
    if not wait_for(lambda: command.epochs() >= epochs, process):
        return None
    last, how = command.journal()[-1], random.choice(["train", "train", "train", "idle", "raise"])
    if how == "raise":
        mine = command.chaos / f"die-{last.run_id}-{last.epoch + 3}"
        mine.touch()
        if not wait_for(lambda: not mine.exists() or has_ended(command, last.run_id), process):
            return None
        if mine.exists():
            mine.unlink()
            return kill_worker(command, process, random)
        return f"SIGKILL raised in {last.run_id} at epoch {last.epoch + 3}"
    workers = command.workers()
    if how == "idle":
        workers.pop(last.pid, None)
    victim = random.choice(sorted(workers)) if how == "idle" and workers else last.pid
    try:
        os.kill(victim, signal.SIGKILL)
    except ProcessLookupError:
        return kill_worker(command, process, random)
    return f"{how}: pid {victim}, last epoch {last.epoch} of {last.run_id}"


def has_ended(command, run_id):
    return any(event.run_id == run_id and event.kind == "completed" for event in command.events())
