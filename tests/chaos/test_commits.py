"""Processes that commit are killed or compete for the same keys while others read."""

import concurrent.futures
import contextlib
import functools
import hashlib
import multiprocessing
import time

import pytest

from rkd_core import records
from rkd_core.records import predictions
from rkd_core.results import artifacts, ledger
from tests.chaos import committing
from tests.chaos.sweeping import seeded


@pytest.fixture(scope="module")
def context():
    """Return a context whose processes have imported everything, so that they start at once."""
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload(["tests.chaos.committing"])
    return context


@contextlib.contextmanager
def reader(context, out):
    """Read in another process; yield a list that holds the number of reads in the end."""
    (out / "records").mkdir(parents=True)
    ours, theirs = context.Pipe()
    stop, reads = context.Event(), []
    process = context.Process(target=committing.keep_reading, args=(out, stop, theirs))
    process.start()
    try:
        yield reads
        stop.set()
        assert ours.poll(600)
        said = ours.recv()
        assert isinstance(said, int), said
        assert said > 0
        reads.append(said)
    finally:
        process.kill()
        process.join()


def digests(out):
    files = [*out.glob("records/[!.]*"), *out.glob("artifacts/[!.]*/*")]
    return {p: hashlib.sha256(p.read_bytes()).hexdigest() for p in files}


def hidden(out):
    return {*out.glob("records/.*"), *out.glob("artifacts/.*")}


def kill_committing(context, out, kills):
    """Let two processes commit the same keys in turn and kill one of them at random, repeatedly.

    Returns:
        At how many keys a process was cut off in the middle of its commit, and how often a reader
        read everything.
    """
    random, processes = seeded(0, "commits"), {}
    committed: dict = {}
    with reader(context, out) as reads:
        for n in range(kills):
            for slot in {0, 1} - set(processes):
                ours, theirs = context.Pipe()
                first = len(list(out.glob("artifacts/[!.]*")))
                arguments = out, first, f"{n}-{slot}", theirs
                process = context.Process(target=committing.commit_from, args=arguments)
                process.start()
                processes[slot] = process, ours
            slot = random.randrange(2)
            process, ours = processes.pop(slot)
            assert ours.poll(600)  # it has begun
            time.sleep(random.uniform(0, 0.05))
            process.kill()
            process.join()
            now = digests(out)
            assert {path: now.get(path) for path in committed} == committed
            committed = now
        for process, _ in processes.values():
            process.kill()
            process.join()
    # What was cut off lies there for good. Two that were cut off at one key count once.
    midway = {path.name.split(".")[1] for path in hidden(out)}
    return len(midway), reads[0]


def check_predictions(out, name):
    """Assert that the published predictions are those of the artifact."""
    committed = artifacts.committed_predictions(out / "artifacts", name)
    assert set(committed) == set(predictions.SPLITS)
    for split, content in committed.items():
        assert predictions.file_of(out, split, name).read_bytes() == content


def check_ledger(out):
    """Assert that every artifact is whole and that its record appears when it is looked up.

    Returns:
        How many there are, and how many had lost their record to a kill between the two.
    """
    names = sorted(p.name for p in out.glob("artifacts/[!.]*"))
    recorded = set(records.read(out / "records")["run_id"].to_pylist())
    assert recorded <= set(names)
    for name in recorded:  # before anything is looked up
        check_predictions(out, name)
    for name in names:
        artifacts.check(out / "artifacts", name)
        assert ledger.find(out, name) == artifacts.committed_record(out / "artifacts", name)
        check_predictions(out, name)
    assert records.read(out / "records")["run_id"].to_pylist() == names
    return len(names), len(names) - len(recorded)


@pytest.mark.parametrize(
    "kills",
    [
        pytest.param(10, marks=pytest.mark.slow),
        pytest.param(100, marks=[pytest.mark.chaos, pytest.mark.timeout(7200)]),
    ],
)
def test_kills_in_commits(context, tmp_path, kills, capsys):
    midway, reads = kill_committing(context, tmp_path, kills)
    count, lost = check_ledger(tmp_path)
    told = f"{kills} kills, cut off at {midway} keys, {lost} between artifact and record"
    with capsys.disabled():
        print(f"\n{told}; {count} committed, {reads} times all was read meanwhile")
    assert midway >= kills / 5, "the kills missed the commits"


@pytest.mark.parametrize("racers", [2, pytest.param(8, marks=pytest.mark.slow)])
def test_one_of_many_racers_wins_each_key(context, tmp_path, racers):
    count = 25
    with reader(context, tmp_path):
        barrier, ours, processes = context.Barrier(racers), [], []
        for _ in range(racers):
            mine, theirs = context.Pipe()
            arguments = tmp_path, count, barrier, theirs
            processes.append(context.Process(target=committing.commit_each, args=arguments))
            processes[-1].start()
            ours.append(mine)
        assert all(pipe.poll(600) for pipe in ours)
        said = dict(pipe.recv() for pipe in ours)
        for process in processes:
            process.join()
    assert len(said) == racers
    winners = list(zip(*said.values(), strict=True))
    assert all(len(set(of_key)) == 1 for of_key in winners), "they disagree about who has won"
    rows = {row["run_id"]: row["host"] for row in records.read(tmp_path / "records").to_pylist()}
    for n in range(count):
        identity = committing.key(n)
        row = artifacts.committed_record(tmp_path / "artifacts", identity)
        assert row["host"] == rows[identity] == winners[n][0]
        artifacts.check(tmp_path / "artifacts", identity)
        check_predictions(tmp_path, identity)
    assert len(rows) == count
    assert not hidden(tmp_path)


def test_a_failure_never_takes_the_place_of_a_success(tmp_path):
    """One process records a failure while another one completes the training."""
    for n in range(50):
        folder = tmp_path / str(n)
        row = records.identity(committing.spec(n), committing.key(n), committing.DATA)
        records.write(folder, row | {"status": "failed", "cause": "before"})
        with concurrent.futures.ThreadPoolExecutor(2) as pool:
            ends = [row | {"status": "failed", "cause": "now"}, row | {"status": "completed"}]
            list(pool.map(functools.partial(records.write, folder), ends))
        assert records.read(folder)["status"].to_pylist() == ["completed"]
