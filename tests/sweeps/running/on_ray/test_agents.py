"""Ray's agents end with a command that is killed."""

import os
import subprocess
import sys
import time
from pathlib import Path

import psutil

ROOT = Path(__file__).resolve().parents[4]
CODE = """
import time
from sweeps.running.on_ray.tuner import connect
from sweeps.cli.options import Machine
with connect(Machine()) as ready:
    ready()
    print("ready", flush=True)
    time.sleep(600)
"""
AGENTS = {"ray::DashboardAgent", "ray::RuntimeEnvAgent"}
WITHIN = 30.0  # seconds; a busy machine takes some, without the guard it is 60 or more


def start():
    return subprocess.Popen(
        [sys.executable, "-c", CODE],
        stdout=subprocess.PIPE,
        cwd=ROOT,
        env=os.environ | {"PYTHONPATH": str(ROOT)},
    )


def title(process):
    try:
        return "" if process.status() == psutil.STATUS_ZOMBIE else process.cmdline()[0]
    except (psutil.Error, IndexError):
        return ""


def children(process):
    return psutil.Process(process.pid).children(recursive=True)


def agents(processes):
    return {title(process) for process in processes} & AGENTS


def wait_until(condition, seconds):
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline
        time.sleep(0.1)


def test_nothing_of_ray_outlives_a_command_that_is_killed():
    begun = time.monotonic()
    with start() as command:
        assert command.stdout.readline() == b"ready\n"
        wait_until(lambda: agents(children(command)) == AGENTS, 600)
        startup = time.monotonic() - begun
        everything = children(command)
        command.kill()
    wait_until(lambda: not any(map(title, everything)), max(WITHIN, 2 * startup))
