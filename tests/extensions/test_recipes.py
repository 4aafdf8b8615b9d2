"""A network, a data set and a selection rule that are added as docs/architecture.md says."""

from dataclasses import dataclass

import numpy as np
import pytest
import torch
from torch import nn

from analysis.select import select
from analysis.selection.criteria import Constrained
from rkd_core import datasets, models
from rkd_core.datasets import registry as named
from rkd_core.device.execution import Execution
from rkd_core.models import registry
from rkd_core.models.base import Network, Stage, he_initialize
from rkd_core.specs import DataOptions, Recipe, TrainingSpec
from rkd_core.training import train
from tests.analysis.worlds import sweep, table
from tests.rkd_core.datasets.on_disk import image_folder


class Patches(Network):
    """A convolution of 4x4 patches as the only stage."""

    def __init__(self, classes, channels):
        super().__init__()
        self.patches = nn.Conv2d(channels, 8, 4, stride=4)
        self.classifier = nn.Linear(8, classes)
        he_initialize(self)

    def run_stages(self, x):
        before = self.patches(x)
        yield Stage(before, before.relu())


@pytest.fixture
def patches(monkeypatch):
    entry = registry.Architecture(
        "one convolution of 4x4 patches",
        lambda classes, channels, size: Patches(classes, channels),
        482,
    )
    monkeypatch.setitem(registry.REGISTRY, "patches", entry)


@pytest.fixture
def shapes(monkeypatch, tmp_path):
    monkeypatch.setenv("RKD_CACHE_DIR", str(tmp_path / "cache"))
    entry = named.Named("three shapes, 8x8, 3 classes", ratio=4.0, folders=("shapes-v1",))
    monkeypatch.setitem(named.REGISTRY, "shapes", entry)
    image_folder(tmp_path / "shapes-v1", train=8, test=6)


@pytest.mark.usefixtures("patches")
def test_a_network_is_listed_built_and_counted():
    assert models.architectures()["patches"] == "one convolution of 4x4 patches"
    network = models.build("patches", 10, 3, (32, 32), seed=0)
    assert sum(p.numel() for p in network.parameters()) == registry.REGISTRY["patches"].parameters
    assert network(torch.zeros(2, 3, 32, 32)).shape == (2, 10)


@pytest.mark.usefixtures("patches", "shapes")
def test_a_network_is_trained_on_a_named_data_set(tmp_path):
    assert {"shapes", "shapes-lt"} <= datasets.names().keys()
    data = datasets.load("shapes-lt", DataOptions(), data_dir=tmp_path)
    assert data.class_counts("train").tolist() == [8, 4, 2]
    spec = TrainingSpec(
        stage="teacher",
        dataset="shapes-lt",
        architecture="patches",
        objective="standard",
        recipe=Recipe(epochs=1, batch_size=4),
    )
    (row,) = train([spec], out=tmp_path / "out", data=data, execution=Execution("cpu", "auto", 1))
    assert (row["status"], row["architecture"]) == ("completed", "patches")


@dataclass(frozen=True)
class Nearest(Constrained):
    """Minimize the difference between average and worst-k accuracy."""

    def describe(self):
        return {"name": "nearest"}

    def objective(self, accuracies):
        return accuracies.means.worst_k - accuracies.means.average


@pytest.mark.parametrize("estimate", ["raw", "shrunk"])
def test_a_rule_selects(estimate):
    students = [row for row in sweep() if row["stage"] == "student"]
    selection = select(table(students), Nearest(margin=1.0), estimate)
    means = selection.seen.means
    assert selection.selected == np.argmin(means.average - means.worst_k)
