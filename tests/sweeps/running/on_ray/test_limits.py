"""Limits of machines: Ray's settings within them, and refusals that name the limit."""

import os
import resource
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import pytest

from rkd_core.errors import UserError
from sweeps.running.on_ray import limits as module
from sweeps.running.on_ray.limits import Allowance, Limits, allow, explain

ROOT = Path(__file__).resolve().parents[4]
MIB, GIB = 2**20, 2**30
AMPLE = Limits(
    address_space=None,
    processes=None,
    processes_name="ulimit -u",
    open_files=1024,
    memory=None,
    shared_memory=32 * GIB,
    temporary={Path("/tmp"): 9 * GIB, Path("/var/tmp"): 9 * GIB},
)


@pytest.fixture(autouse=True)
def torch_of_a_cpu_build(monkeypatch):
    """Fix the size of PyTorch's libraries, which differs between builds."""
    monkeypatch.setattr(module, "_torch_bytes", lambda: 500 * MIB)


def test_an_ample_machine_is_left_alone():
    assert allow(AMPLE, 10 * GIB, workers=64) == Allowance()
    assert explain("Ray did not start", AMPLE) == "Ray did not start"


def test_this_machine_runs_the_tests():
    allow(Limits.of_this_machine(), 0, workers=1)


@pytest.mark.parametrize(
    ("limit", "said"),
    [
        ({"address_space": 2 * GIB}, r"2\.0 GiB of address space \(ulimit -v\).*ulimit -v \d+"),
        ({"processes": 100}, r"100 more processes and threads .*\(ulimit -u\)"),
        ({"processes": -3}, "0 more processes"),
        ({"open_files": 50}, r"50 files \(ulimit -n\).*ulimit -n 1024"),
        ({"memory": 512 * MIB}, "512 MiB of memory"),
        ({"temporary": {Path("/tmp"): 0}}, "/tmp has 0 MiB free.*TMPDIR"),
        ({"temporary": {Path("/a/folder/with/much/too/long/a/path"): GIB}}, "at most 34 char"),
    ],
    ids=str,
)
def test_low_limits_are_refused_in_a_line_that_offers_serial(limit, said):
    with pytest.raises(UserError, match=rf"(?s){said}.*--serial trains without Ray$"):
        allow(replace(AMPLE, **limit), 0, workers=2)


def test_the_object_store_is_as_large_as_the_images_where_address_space_is_short():
    """Ray's default of 30 % of the memory is mapped twice by its raylet, which then crashes."""
    allowed = allow(replace(AMPLE, address_space=12 * GIB), 800 * MIB, workers=2)
    assert allowed == Allowance(object_store=996 * MIB, few_arenas=True)
    with pytest.raises(UserError, match="address space"):
        allow(replace(AMPLE, address_space=12 * GIB), 6 * GIB, workers=2)


def test_the_object_store_of_a_container_with_little_shared_memory():
    allowed = allow(replace(AMPLE, shared_memory=64 * MIB), 8 * MIB, workers=2)
    assert allowed == Allowance(object_store=105 * MIB)
    nowhere = allow(replace(AMPLE, shared_memory=None), 0, workers=2)
    assert nowhere == Allowance(object_store=96 * MIB, store_folder=Path("/tmp"))


@pytest.mark.parametrize("usual", ["/full", "/a/very/long/path/of/a/job/of/a/scheduler"])
def test_temporary_files_go_where_there_is_room(usual):
    free = 0 if usual == "/full" else GIB
    temporary = {Path(usual): free, Path("/tmp"): 0, Path("/var/tmp"): GIB}
    allowed = allow(replace(AMPLE, temporary=temporary), 0, workers=2)
    assert allowed == Allowance(folder=Path("/var/tmp"))


def test_possible_causes_are_named():
    short = replace(AMPLE, address_space=6 * GIB, processes=200, shared_memory=None)
    assert explain("its raylet ended", short) == (
        "its raylet ended; limits here: 6.0 GiB of address space (ulimit -v), 200 more threads "
        "(ulimit -u), /dev/shm cannot be written"
    )


def test_limits_are_read(monkeypatch, tmp_path):
    values = {
        resource.RLIMIT_AS: (5 * GIB, resource.RLIM_INFINITY),
        resource.RLIMIT_NPROC: (10**6, 10**6),
        resource.RLIMIT_NOFILE: (256, 4096),
    }
    monkeypatch.setattr(resource, "getrlimit", values.__getitem__)
    monkeypatch.setattr(os, "getuid", lambda: 54321)  # root has no limit, and this one no process
    monkeypatch.setenv("TMPDIR", str(tmp_path / "missing"))
    found = Limits.of_this_machine()
    assert (found.address_space, found.open_files) == (5 * GIB, 4096)
    assert found.processes <= 10**6
    assert next(iter(found.temporary.items())) == (tmp_path / "missing", 0)


def test_a_limit_of_address_space_is_refused_before_anything_is_trained(tmp_path):
    command = [sys.executable, str(ROOT / "sweeps" / "pareto.py"), "--epochs", "1"]
    done = subprocess.run(
        [*command, "--limit-train", "50", "--out", str(tmp_path / "out")],
        capture_output=True,
        text=True,
        timeout=900,
        preexec_fn=lambda: resource.setrlimit(resource.RLIMIT_AS, (2 * GIB, 2 * GIB)),
        check=False,
    )
    assert done.returncode == 2, done.stderr
    (line,) = done.stderr.splitlines()
    assert line.startswith("pareto.py: a process may map 2.0 GiB of address space (ulimit -v)")
    assert line.endswith("--serial trains without Ray")
    assert not (tmp_path / "out").exists()
