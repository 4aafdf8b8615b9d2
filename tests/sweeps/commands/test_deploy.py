"""The files in deploy/, as far as they can be tested without Slurm or Kubernetes."""

import os
import subprocess
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[3]
START = ROOT / "deploy" / "ray-start.sh"
PRINT = '#!/bin/sh\nenv | grep -E "^RAY_(AUTH_MODE|health)" | sort\necho ray "$@"\n'


@pytest.fixture(name="start")
def with_a_ray_that_prints(tmp_path):
    (tmp_path / "bin").mkdir()
    ray = tmp_path / "bin" / "ray"
    ray.write_text(PRINT)
    ray.chmod(0o755)

    def start(*arguments, **variables):
        kept = {k: v for k, v in os.environ.items() if not k.startswith("RAY_")}
        path = f"{ray.parent}:{os.environ['PATH']}"
        return subprocess.run(
            ["sh", str(START), *arguments],
            env=kept | {"HOME": str(tmp_path), "PATH": path} | variables,
            capture_output=True,
            text=True,
            check=False,
        )

    return start


def test_a_head_node_has_a_private_token_and_quick_health_checks(start, tmp_path):
    done = start("head", "--num-cpus", "0")
    assert done.returncode == 0, done.stderr
    assert done.stdout.splitlines() == [
        "RAY_AUTH_MODE=token",
        "RAY_health_check_failure_threshold=3",
        "RAY_health_check_period_ms=1000",
        "RAY_health_check_timeout_ms=4000",
        "ray start --head --port 6379 --include-dashboard=false --num-cpus 0",
    ]
    token = tmp_path / ".ray" / "auth_token"
    assert token.stat().st_mode & 0o777 == 0o600
    assert len(token.read_text()) == 64
    assert start("head").returncode == 0
    assert start("worker", "10.0.0.1:6379").stdout.endswith("ray start --address 10.0.0.1:6379\n")


def test_a_node_without_a_token_or_with_one_for_all_to_read_is_refused(start, tmp_path):
    done = start("worker", "10.0.0.1:6379")
    assert (done.returncode, done.stdout) == (2, "")
    assert "copy the head node's there" in done.stderr
    assert start("head").returncode == 0
    for mode in (0o644, 0o640):
        (tmp_path / ".ray" / "auth_token").chmod(mode)
        done = start("worker", "10.0.0.1:6379")
        assert (done.returncode, done.stdout) == (2, "")
        assert "chmod 600" in done.stderr


def test_a_token_may_be_in_a_variable_or_in_a_file_elsewhere(start, tmp_path):
    assert start("head", RAY_AUTH_TOKEN="secret").returncode == 0
    assert start("head", RAY_AUTH_TOKEN_PATH=str(tmp_path / "mine" / "token")).returncode == 0
    assert len((tmp_path / "mine" / "token").read_text()) == 64
    assert not (tmp_path / ".ray").exists()


@pytest.mark.parametrize("arguments", [(), ("tail",), ("worker",)])
def test_its_help_is_its_header(start, tmp_path, arguments):
    (tmp_path / ".ray").mkdir()
    (tmp_path / ".ray" / "auth_token").touch(0o600)
    (tmp_path / ".ray" / "auth_token").write_text("x")
    done = start(*arguments)
    assert done.returncode == 2
    assert "deploy/ray-start.sh worker HOST:6379" in done.stderr
