"""Memory and file handles stay constant over hundreds of small trainings in one sweep."""

import time
from collections import defaultdict

import numpy as np
import psutil
import pytest

from tests.chaos.sweeping import PATIENCE, assert_gone, assert_whole

MIB = 2**20
SLOPE = 0.15  # MiB a training, at the most: 15 GiB after a hundred thousand
HANDLES = 0.02  # a training, at the most
LOADING = 8.0  # seconds that the driver takes at the most to load what its answer needs


def look(process):
    """Return private memory in MiB, resident memory in MiB and the number of open files."""
    memory = process.memory_full_info()
    return memory.uss / MIB, memory.rss / MIB, process.num_fds()


class Prepared:
    """Whether a driver has loaded what its answer needs, once, some seconds ago."""

    def __init__(self, driver):
        self._driver, self._since = driver, None

    def __call__(self):
        if self._since is None:
            maps = self._driver.memory_maps()
            if not any("matplotlib" in one.path for one in maps):
                return False
            self._since = time.monotonic()
        return time.monotonic() - self._since > LOADING


def soak(command, trainings):
    """Run the sweep.

    Returns:
        For ``driver`` and for each worker that was there at the end: rows of trainings completed,
        private MiB, resident MiB and open files. The driver's rows begin after it has loaded what
        its answer needs, which a fast machine may do shortly before the end: it may have none.
    """
    seen = defaultdict(list, driver=[])
    process = command.start()
    driver, deadline = psutil.Process(process.pid), time.monotonic() + 10 * PATIENCE
    alive, prepared = set(), Prepared(driver)
    while process.poll() is None:
        assert time.monotonic() < deadline
        completed = len(list((command.out / "records").glob("[!.]*.parquet")))
        if 0 < completed < trainings:
            workers = command.workers()
            alive = set(workers)
            for name, one in [("driver", driver), *workers.items()]:
                try:
                    if one is driver and not prepared():
                        continue
                    seen[name].append((completed, *look(one)))
                except psutil.Error:
                    continue
        time.sleep(0.2)
    assert process.returncode == 0, command.printed("err").read_text()
    return {name: np.array(rows) for name, rows in seen.items() if name in {"driver", *alive}}


def slopes(rows, trainings):
    """Return slopes per training in the second half: private and resident MiB, open files."""
    kept = rows[rows[:, 0] > trainings / 2]
    return [float(np.polyfit(kept[:, 0], kept[:, k], 1)[0]) for k in (1, 2, 3)]


@pytest.mark.parametrize(
    ("seeds", "leeway"),
    [
        pytest.param(4, 10, marks=pytest.mark.slow),  # in so few, one file more is a slope
        pytest.param(25, 1, marks=[pytest.mark.chaos, pytest.mark.timeout(3600)]),
    ],
)
def test_memory_and_handles_stay_flat(sweep, tmp_path, seeds, leeway, capsys):
    trainings = 15 * seeds
    grid = ["--alphas", 0, 1, "--temperatures", 1, "--seeds", *range(seeds), "--epochs", 1]
    command = sweep(tmp_path, "--dataset", "digits-lt", *grid, "--max-concurrent", 2)
    seen = soak(command, trainings)
    assert_whole(command)
    for name, rows in seen.items():
        if (
            len(rows) < 5
            or np.sum(rows[:, 0] > trainings / 2) < 5
            or np.ptp(rows[:, 0]) < trainings / 2
        ):
            continue  # it has come late
        private, resident, handles = slopes(rows, trainings)
        with capsys.disabled():
            print(
                f"\n{trainings} trainings, {name}: {private:+.3f} MiB private, {resident:+.3f} MiB "
                f"resident, {handles:+.4f} handles a training; {rows[-1, 1]:.0f} MiB private, "
                f"{rows[-1, 3]:.0f} handles at the end"
            )
        assert private < leeway * SLOPE, name
        assert handles < leeway * HANDLES, name
    assert len(seen) >= 2
    if seeds > 4:
        assert_gone(command)
