"""Predictions on disk and in an object store: the same matrices, damage and repair."""

import json

import numpy as np
import pytest

from analysis.runs.predictions import load
from rkd_core import records
from rkd_core.errors import UserError
from rkd_core.records import predictions
from rkd_core.results import ledger
from rkd_core.storage import files
from sweeps.commands.verify import examine
from tests.rkd_core.results.test_ledger import MODEL, ROW, SPEC, WEIGHTS

LABELS = np.arange(20) % 3
RUNS = ["a" * 20, "b" * 20]


def logits_of(run_id):
    return np.random.default_rng(ord(run_id[0])).standard_normal((20, 3)).astype(np.float32)


@pytest.fixture(name="swept")
def two_runs(out):
    for run_id in RUNS:
        logits = logits_of(run_id)
        kept = {
            split: predictions.serialize(
                run_id, split, "data", np.arange(20), LABELS, logits, logits.argmax(axis=1), "full"
            )
            for split in predictions.SPLITS
        }
        ledger.commit(out, SPEC, MODEL, WEIGHTS, ROW | {"run_id": run_id}, kept)
    files.replace_file(out / "dataset.json", json.dumps({"fingerprint": "data"}).encode())
    return out


def test_matrices_and_their_cache(swept):
    expected = [(logits_of(r).argmax(axis=1) == LABELS).tolist() for r in RUNS]
    for _ in range(2):
        found = load(swept)
        assert found.run_ids == tuple(RUNS)
        assert found.values.tolist() == expected
    assert files.exists(swept / "predictions" / "val" / ".correct")
    files.remove(predictions.file_of(swept, "val", RUNS[0]))
    with pytest.raises(UserError, match="is missing; compute it with"):
        load(swept)
    assert load(swept, RUNS[1:]).values.tolist() == expected[1:]


def test_damage_is_found_and_repaired(swept):
    assert not list(examine(swept))
    damaged, missing = (predictions.file_of(swept, "val", run_id) for run_id in RUNS)
    whole = files.read(damaged)
    files.replace_file(damaged, whole[:-1])
    files.remove(missing)
    found = list(examine(swept))
    assert len(found) == 2
    assert {str(damaged), str(missing)} == {damage.line.split(" is ")[0] for damage in found}
    for damage in found:
        damage.repair()
    assert not list(examine(swept))
    assert files.read(damaged) == whole
    assert len(records.read(swept / "records")) == 2
