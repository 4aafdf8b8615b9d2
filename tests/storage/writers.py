"""Functions for processes that are killed while they commit; without torch, for a quick start."""

import os
import signal

from rkd_core import records
from rkd_core.storage import bundles, files
from rkd_core.storage.object_store import ObjectStore

ID = "a" * 20
ROW = {"status": "completed", "train_loss": 0.5, "schema_version": 1}
CONTENTS = {"weights": b"x" * 50_000, "spec": b"{}"}


def commit(out, run_id=ID, **changes):
    """Commit a record as ``rkd_core.results.ledger`` does."""
    row = ROW | {"run_id": run_id} | changes
    made = {**CONTENTS, "record": records.serialize(row)}
    bundles.write(out / "artifacts" / run_id, run_id, made)
    content = bundles.read(out / "artifacts" / run_id, run_id, ("record",))["record"]
    (standing,) = records.parse(out, content).to_pylist()
    records.write(out / "records", standing)
    return standing


def commit_and_die(place, after):
    """Commit, and be killed after that many writes to a store."""
    left = after

    def counted(write):
        def wrapped(*given):
            nonlocal left
            if left == 0:
                os.kill(os.getpid(), signal.SIGKILL)
            left -= 1
            return write(*given)

        return wrapped

    ObjectStore.replace = counted(ObjectStore.replace)
    ObjectStore.create = counted(ObjectStore.create)
    commit(files.location(place), train_loss=float(after))


def keep_committing(out, number):
    """Commit one run after the other, each as failed at first, until killed."""
    for run in range(100_000):
        run_id = f"{run:020}"
        records.write(out / "records", ROW | {"run_id": run_id, "status": "failed"})
        commit(out, run_id, train_loss=float(number))
