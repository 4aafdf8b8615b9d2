import json
import shutil
import subprocess

import pytest
from filelock import FileLock

from tests.e2e.command import GRID, pareto


@pytest.fixture(scope="session")
def swept(tmp_path_factory, worker_id):
    """One sweep on Ray and how it ended; pytest's workers share it, each with its own copy.

    Paths of the copies have the same length, so that the printed lines break at the same places.
    """
    base = tmp_path_factory.getbasetemp()
    shared = base if worker_id == "master" else base.parent
    mine = shared / f"swept-{worker_id}" / "results"
    with FileLock(shared / "swept.lock"):
        note = shared / "swept.json"
        if not note.exists():
            done = pareto("--dataset", "digits-lt", *GRID, "--out", mine)
            assert done.returncode == 0, done.stderr
            note.write_text(json.dumps([str(mine), done.stdout, done.stderr]))
            shutil.copytree(mine, shared / "swept-whole")
        first, out, errors = json.loads(note.read_text())
        if not mine.exists():
            shutil.copytree(shared / "swept-whole", mine)
    return mine, subprocess.CompletedProcess([], 0, out.replace(first, str(mine)), errors)
