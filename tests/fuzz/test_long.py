"""The long form: twenty times as many cases, with fresh seeds."""

import os
import subprocess
import sys
from pathlib import Path

import pytest


@pytest.mark.chaos
@pytest.mark.timeout(7200)
def test_fresh_seeds():
    folder = Path(__file__).parent
    command = [sys.executable, "-m", "pytest", "-q", "-m", "fuzz", str(folder)]
    environment = os.environ | {"FUZZ_TIMES": os.environ.get("FUZZ_TIMES", "20")}
    done = subprocess.run(
        command,
        env=environment,
        cwd=folder.parent.parent,
        capture_output=True,
        text=True,
        check=False,
    )
    print(done.stdout[-20_000:])  # with the count, and how to see a failure again
    assert done.returncode == 0, done.stdout[-20_000:]
