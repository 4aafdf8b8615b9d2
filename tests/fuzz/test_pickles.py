"""No pickle is ever loaded from a results folder."""

import io
import os
import pickle

import numpy as np
import pytest
import torch
from rich.console import Console

from analysis.select import run as select
from rkd_core import records
from rkd_core.datasets import load
from rkd_core.device.execution import Execution
from rkd_core.errors import UserError
from rkd_core.results import artifacts, ledger
from rkd_core.results.checkpoints import Checkpoints
from rkd_core.specs import DataOptions
from rkd_core.training import train
from sweeps.folder.ownership import check_folder
from sweeps.verify import main as verify
from tests.rkd_core.training.test_loop import student_spec, teacher_spec


class Runs:
    """A class whose unpickling would create a folder."""

    def __init__(self, proof):
        self.proof = proof

    def __reduce__(self):
        return os.mkdir, (str(self.proof),)


@pytest.fixture(name="no_pickles")
def unpickling_fails(monkeypatch):
    def refuse(*arguments, **named):
        pytest.fail("something was unpickled")

    for module, name in (
        (pickle, "load"),
        (pickle, "loads"),
        (pickle, "Unpickler"),
        (pickle, "_Unpickler"),
        (torch, "load"),
        (np.lib.format, "read_array"),
    ):
        monkeypatch.setattr(module, name, refuse)


def read_everything(out, run_ids, data):
    """Read all that the program reads of a results folder, damaged or not."""
    recipe = teacher_spec().recipe.model_copy(update={"epochs": 1})
    teacher = teacher_spec(recipe=recipe)
    students = [
        student_spec(teacher, data.fingerprint, recipe=recipe, temperature=t) for t in (2.0, 3.0)
    ]
    readers = [
        lambda: records.read(out / "records"),
        lambda: check_folder(out, "digits", data),
        lambda: select(out, console=Console(file=io.StringIO())),
        lambda: verify([str(out)]),
        lambda: train([teacher, *students], data=data, out=out, execution=Execution("cpu")),
    ]
    for run_id in run_ids:
        readers += [
            lambda r=run_id: artifacts.load(out / "artifacts", r),
            lambda r=run_id: artifacts.committed_record(out / "artifacts", r),
            lambda r=run_id: ledger.find(out, r),
            lambda r=run_id: Checkpoints(out, r).newest(),
            lambda r=run_id: Checkpoints(out, r).load(1),
        ]
    done = 0
    for read in readers:
        try:
            read()
            done += 1
        except UserError:
            pass
    return done


def test_an_undamaged_folder_is_read_without_pickle(results, no_pickles):
    out, run_ids = results
    assert read_everything(out, run_ids, load("digits", DataOptions(imbalance=20))) >= 8


def test_a_pickle_in_the_place_of_a_file_is_not_loaded(results, tmp_path, no_pickles):
    out, run_ids = results
    bomb = pickle.dumps(Runs(tmp_path / "proof"))
    archive = io.BytesIO()
    torch.save({"weight": torch.ones(2)}, archive)
    data = load("digits", DataOptions(imbalance=20))
    for content in (bomb, archive.getvalue()):
        for path in sorted(p for p in out.rglob("*") if p.is_file()):
            path.write_bytes(content)
        read_everything(out, run_ids, data)
    assert not (tmp_path / "proof").exists()
