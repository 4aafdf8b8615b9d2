"""Number of trainings side by side."""

from dataclasses import replace
from types import SimpleNamespace

import pytest

from rkd_core.datasets import load
from rkd_core.models import memory
from rkd_core.specs import DataOptions
from rkd_core.teachers import table_or_live
from sweeps.cli.options import Machine
from sweeps.planning import packing
from sweeps.planning.cluster import Cluster
from sweeps.planning.packing import PerTrial, execution_of, trainings_per_trial
from tests.sweeps.planning.test_plan import SETTINGS

CPU, GPU = Cluster(0, 0.0, 2), Cluster(1, 1.0, 1)


@pytest.fixture(name="digits")
def digits_set():
    return load("digits", DataOptions())


def test_on_cpus_only_a_live_teacher_is_shared(digits):
    assert trainings_per_trial(Machine(), SETTINGS, digits, CPU, "table") == PerTrial(1, 1)
    assert trainings_per_trial(Machine(), SETTINGS, digits, CPU, "live") == PerTrial(1, 4)
    asked = Machine(students_per_trial=3)
    assert trainings_per_trial(asked, SETTINGS, digits, CPU, "live") == PerTrial(1, 3)
    assert trainings_per_trial(asked, SETTINGS, digits, GPU, "live") == PerTrial(3, 3)


def test_on_a_gpu_as_many_as_pay_and_fit(digits, monkeypatch):
    def fit(memory, gpus=1.0, address=None):
        monkeypatch.setattr(packing, "gpu_memory", lambda: memory)
        cluster, machine = Cluster(1, gpus, 1), Machine(address=address)
        found = trainings_per_trial(machine, SETTINGS, digits, cluster, "table")
        assert found.teachers == found.students  # one network
        return found.students

    monkeypatch.setattr(memory, "training_bytes", lambda *_, **__: 1000 * 10**6)
    assert fit(141 * 10**9) == 32  # as many as there are hardware queues
    assert fit(8 * 10**9) == 6  # 0.8 of it, less the images
    assert fit(16 * 10**9, gpus=0.5) == 6
    assert fit(10**9) == 1  # it may fit after all: whoever asks for it gets at least one
    assert fit(None) == 13
    assert fit(10**9, address="auto") == 13  # this machine's GPU is not the cluster's


def test_images_table_networks_and_precision_take_their_part_of_a_gpu(monkeypatch):
    gigabyte = 10**9
    sizes = {"resnet8": gigabyte, "resnet56": 2 * gigabyte}  # in float32

    def training_bytes(architecture, recipe, dataset, half, digest):
        return sizes[architecture] / (1 + half)

    monkeypatch.setattr(memory, "training_bytes", training_bytes)
    monkeypatch.setattr(packing, "gpu_memory", lambda: 10 * gigabyte)  # 8 of them are used
    recipe = SETTINGS.recipe.model_copy(update={"epochs": 200, "crop_padding": 4, "flip": True})
    networks = {"teacher_architecture": "resnet56", "student_architectures": ("resnet8",)}
    settings = replace(SETTINGS, recipe=recipe, **networks)

    def fit(nbytes, images, asked, precision="float32"):
        data = SimpleNamespace(nbytes=nbytes, train=range(images), classes=10)
        return trainings_per_trial(Machine(precision=precision), settings, data, GPU, asked)

    assert fit(0, 0, "live") == (4, 8, {})
    assert fit(3 * gigabyte, 0, "live") == (2, 5, {})
    assert fit(30 * gigabyte, 0, "live") == (2, 4, {})  # too many images stay away from it
    assert fit(0, gigabyte // (162 * 40), "table") == (3, 7, {})
    assert fit(0, gigabyte // (162 * 40), "live") == (4, 8, {})
    assert fit(3 * gigabyte, 0, "live", "auto") == (5, 10, {})
    settings = replace(settings, student_architectures=("resnet8", "resnet56"))
    assert fit(0, 0, "live") == (4, 8, {"resnet8": 8, "resnet56": 4})


def test_the_memory_of_a_training_grows_with_its_batch_and_network(digits):
    def need(architecture, batch, half=False):
        recipe = SETTINGS.recipe.model_copy(update={"batch_size": batch})
        return memory.training_bytes(architecture, recipe, digits, half=half)

    small = need("resnet8", 64)
    assert need("resnet8", 128) == pytest.approx(2 * small, rel=0.3)
    assert need("resnet8", 64, half=True) == pytest.approx(small / 2, rel=0.3)
    assert need("resnet56", 64) > 4 * small
    # A first layer of 16 channels keeps its input, what it gives and the norm of that: 8x8 pixels.
    assert small > 64 * 4 * (2 * 16 * 8 * 8)


def test_sizes_decide_between_live_logits_and_a_table():
    recipe = replace(SETTINGS).recipe.model_copy(update={"crop_padding": 4, "flip": True})
    few = table_or_live.teacher_pass(recipe, 10_000, 10, in_memory=True)
    many = table_or_live.teacher_pass(recipe, 10**6, 1000, in_memory=True)
    assert (few, many) == ("table", "live")


@pytest.mark.parametrize(
    ("machine", "openmp", "threads"),
    [
        (Machine(), None, 1),
        (Machine(cpus_per_trial=3), None, 3),
        (Machine(cpus_per_trial=0.5), None, 1),
        (Machine(serial=True), None, 6),
        (Machine(serial=True), "2", 2),
        (Machine(serial=True, cpus_per_trial=1), None, 1),
        (Machine(), "2", 1),
    ],
)
def test_without_ray_a_training_has_all_cores(monkeypatch, machine, openmp, threads):
    monkeypatch.setattr("rkd_core.device.hardware.cpu_count", lambda: 6)
    monkeypatch.delenv("OMP_NUM_THREADS", raising=False)
    if openmp is not None:
        monkeypatch.setenv("OMP_NUM_THREADS", openmp)
    assert execution_of(machine, Cluster(0, 0.0, 1)).threads == threads


@pytest.mark.parametrize(
    ("nodes", "machine", "cores"),
    [
        ([(16, 1)], Machine(), 16),
        ([(16, 4)], Machine(), 4),
        ([(16, 1)], Machine(gpus_per_trial=0.5), 8),
        ([(16, 4), (8, 4)], Machine(), 2),
        ([(16, 4)], Machine(max_concurrent=1), 16),
        ([(2, 1)], Machine(), 2),
    ],
)
def test_a_gpu_is_fed_by_the_cores_of_its_share_of_the_machine(monkeypatch, nodes, machine, cores):
    monkeypatch.setattr("torch.cuda.is_available", lambda: True)
    cluster = Cluster.fit(nodes, machine)
    execution = execution_of(machine, cluster)
    assert (execution.threads, execution.workers) == (1, cores)


def test_decoding_for_a_cpu_takes_the_cores_of_its_training():
    machine = Machine(gpus_per_trial=0, cpus_per_trial=3)
    assert execution_of(machine, Cluster.fit([(16, 1)], machine)).workers == 3
