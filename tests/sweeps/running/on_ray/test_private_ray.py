"""Ray's private modules in the installed release have the parts that this project uses."""

import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parents[4]
CODE = """
import os
import time
from sweeps.running.on_ray import private_ray, security

security.close_to_others()
import ray

ray.init(address="local", num_cpus=1, include_dashboard=False, log_to_driver=False)
security.check_confined()
address = ray.get_runtime_context().gcs_address
(head,) = [node["NodeID"] for node in ray.nodes()]

os.kill(private_ray.raylet_pid(), 0)
assert private_ray.dead_processes() == []
assert private_ray.own_node_is_dead(timeout=10) is False
assert private_ray.bootstrap_address(address) == address
assert head in {identity.hex() for identity in private_ray.node_infos(address, timeout=10)}
period, timeout, failures = private_ray.health_checks(head, timeout=120)
assert min(period, timeout, failures) > 0
assert security._admitted(address, address)
with security._token("0" * 64):
    assert not security._admitted(address, address)
private_ray.forget_token()
private_ray.read_no_results_at_the_end()

raylet = private_ray.raylet_pid()
os.kill(raylet, 9)
deadline = time.monotonic() + 60
while not private_ray.dead_processes():
    assert time.monotonic() < deadline
    time.sleep(0.1)
assert ("raylet", -9) in private_ray.dead_processes()
print("passed", ray.__version__, flush=True)
os._exit(0)
"""


def test_each_function_works_with_a_ray_that_is_running():
    done = subprocess.run(
        [sys.executable, "-c", CODE],
        check=False,
        capture_output=True,
        text=True,
        cwd=ROOT,
        timeout=280,
    )
    assert "passed" in done.stdout, done.stderr


def test_private_modules_of_ray_are_used_nowhere_else():
    for path in (ROOT / "sweeps").rglob("*.py"):
        if path.name != "private_ray.py":
            text = path.read_text()
            for name in ("ray._private", "ray._raylet", "ExperimentAnalysis._"):
                assert name not in text, path
