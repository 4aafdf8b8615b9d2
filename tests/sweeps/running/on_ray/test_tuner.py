"""Options that the engine passes to Ray, tested without starting it."""

import importlib

import pytest
import ray
from ray.tune.execution.class_cache import DEFAULT_ENV_VARS

from rkd_core.errors import UserError
from sweeps.cli.options import Machine
from sweeps.planning import cluster
from sweeps.running.on_ray import preload, tuner


def test_worker_processes_start_with_the_environment_of_tunes_actors():
    """Otherwise they are useless, and actors wait seconds for others."""
    assert tuner._ACTORS_ENVIRONMENT == DEFAULT_ENV_VARS


def test_warming_up_imports_what_trials_need(monkeypatch):
    imported = []
    monkeypatch.setattr(preload, "import_module", imported.append)
    preload.imports()
    assert imported == ["ray.tune", "sweeps.running.trial"]


def test_ray_calls_the_same_function_in_each_worker_process(started_with):
    """Ray takes the name of the function as text, which does not follow a move of its module."""
    tuner._start(Machine(), "path")
    module, _, name = started_with["runtime_env"]["worker_process_setup_hook"].rpartition(".")
    assert getattr(importlib.import_module(module), name) is preload.imports


def test_import_errors_are_reported_by_the_trial(monkeypatch):
    def broken(_):
        raise ImportError("no torch")

    monkeypatch.setattr(preload, "import_module", broken)
    preload.imports()


@pytest.fixture(name="started_with")
def what_ray_is_asked(monkeypatch):
    started_with = {}
    monkeypatch.setattr(ray, "init", lambda **options: started_with.update(options))
    monkeypatch.setattr(tuner, "check_cluster", lambda address: None)
    monkeypatch.setattr(tuner, "check_confined", lambda: None)
    monkeypatch.setattr(tuner, "check_noticing", lambda address: None)
    return started_with


def hardware(monkeypatch, cpus, gpus):
    monkeypatch.setattr(tuner, "gpu_count", lambda: gpus)
    monkeypatch.setattr(cluster, "gpu_count", lambda: gpus)
    monkeypatch.setattr(cluster, "cpu_count", lambda: cpus)


def test_a_cluster_need_not_fit_onto_the_machine_that_joins_it(started_with, monkeypatch):
    """A head node without a GPU, or with two cores, starts sweeps that run elsewhere."""
    hardware(monkeypatch, cpus=2, gpus=0)
    machine = Machine(address="10.0.0.1:6379", gpus_per_trial=1, cpus_per_trial=8)
    tuner._start(machine, "path")
    assert started_with["address"] == "10.0.0.1:6379"
    assert "num_cpus" not in started_with


@pytest.mark.parametrize(
    ("machine", "gpus", "started"),
    [
        (Machine(), 0, 16),
        (Machine(max_concurrent=3), 0, 3),
        (Machine(cpus_per_trial=4), 0, 16),
        (Machine(cpus_per_trial=4), 1, 4),  # one trial on the one GPU
        (Machine(cpus_per_trial=0.5, max_concurrent=3), 0, 2),
    ],
)
def test_ray_starts_no_more_processes_than_can_have_a_trial(
    started_with, monkeypatch, machine, gpus, started
):
    hardware(monkeypatch, cpus=16, gpus=gpus)
    tuner._start(machine, "path")
    assert started_with["num_cpus"] == started


@pytest.mark.parametrize(
    ("nodes", "machine", "slots"),
    [
        ([(4, 0), (2, 0)], Machine(), 6),
        ([(3, 0), (3, 0)], Machine(cpus_per_trial=2), 2),  # none spreads over two nodes
        ([(0, 0), (8, 2)], Machine(), 2),
        ([(8, 0), (2, 4)], Machine(), 2),
        ([(8, 0), (2, 4)], Machine(gpus_per_trial=0), 10),
        ([(4, 0), (4, 0)], Machine(max_concurrent=3), 3),
    ],
)
def test_trials_fit_onto_nodes_one_by_one(nodes, machine, slots):
    assert tuner.Cluster.fit(nodes, machine).slots == slots


@pytest.mark.parametrize(
    ("nodes", "machine", "named"),
    [
        ([(3, 0), (3, 0)], Machine(cpus_per_trial=4), "--cpus-per-trial 4 exceeds the 3 CPUs"),
        ([(8, 1)], Machine(gpus_per_trial=2), "--gpus-per-trial 2 exceeds the 1 GPUs"),
        (
            [(8, 0), (1, 1)],
            Machine(cpus_per_trial=2),
            "--cpus-per-trial and --gpus-per-trial together",
        ),
        ([], Machine(), "--cpus-per-trial 1 exceeds the 0 CPUs"),
    ],
)
def test_trials_that_fit_onto_no_node_are_refused(nodes, machine, named):
    with pytest.raises(UserError, match=named):
        tuner.Cluster.fit(nodes, machine)


def test_nodes_that_join_are_used_and_nodes_that_are_lost_are_not(monkeypatch):
    nodes = [(2.0, 0.0)]
    monkeypatch.setattr(tuner, "_LOOK_SECONDS", 0)
    monkeypatch.setattr(tuner, "_nodes", lambda: nodes)
    cluster = tuner.Cluster.fit(nodes, Machine(max_concurrent=5))
    current = tuner._following(cluster, Machine(max_concurrent=5))
    assert current() == 2
    nodes.append((2.0, 0.0))
    assert current() == 4
    nodes.append((2.0, 0.0))
    assert current() == 5
    nodes.clear()
    assert current() == 0
    nodes.append((1.0, 0.0))
    assert current() == 1


def test_a_ray_that_does_not_start_is_one_line(started_with, monkeypatch):
    def slow(**options):
        raise Exception("The current node timed out during startup.\nMore of it")

    monkeypatch.setattr(ray, "init", slow)
    line = r"^Ray did not start on this machine: The .* startup\.; --serial trains without Ray$"
    with pytest.raises(UserError, match=line):
        tuner._start(Machine(), "path")
