"""Multiplier updates of an array: shared images, no waiting for a GPU, folded networks."""

import pytest
import torch
from torch.utils._python_dispatch import TorchDispatchMode

from rkd_core import models
from rkd_core.datasets.array_data import ArrayData
from rkd_core.datasets.batches.batches import EvaluationBatches
from rkd_core.device.execution import Execution
from rkd_core.errors import DivergedError
from rkd_core.models.fold import FoldedNetwork
from rkd_core.specs import DataOptions, MultiplierOptions, Recipe
from rkd_core.training import train
from rkd_core.training.array import begin_step
from rkd_core.training.run import Run
from tests.rkd_core.training.test_loop import CPU, colourful, teacher_spec

RECIPE = Recipe(epochs=2, batch_size=28, learning_rate=0.02)


def robust(**options):
    multipliers = MultiplierOptions(**{"step_size": 0.5, "period": 1, "batch": 12} | options)
    return teacher_spec(
        architecture="resnet8",
        recipe=RECIPE,
        data=DataOptions(),
        objective="robust",
        multipliers=multipliers,
    )


class Waits(TorchDispatchMode):
    """A counter of values read from the device."""

    def __init__(self):
        super().__init__()
        self.count = 0

    def __torch_dispatch__(self, function, types, args=(), kwargs=None):
        self.count += function is torch.ops.aten._local_scalar_dense.default
        return function(*args, **(kwargs or {}))


@pytest.fixture(name="array")
def array_of_runs():
    data = ArrayData(robust(), colourful(), CPU)
    specs = [robust(), robust(step_size=0.1), robust(batch=5)]
    return [Run(spec, str(k), data, None) for k, spec in enumerate(specs)]


def test_an_update_reads_no_value_from_the_device(array):
    with Waits() as waits:
        bool(torch.ones(()))
        assert waits.count == 1  # such a read is counted
        begin_step(array, 0, 0)
    assert waits.count == 1
    assert [run.ascent.updates for run in array] == [1, 1, 1]


def test_equal_batches_are_gathered_once(array, monkeypatch):
    gathered, at = [], EvaluationBatches.at
    monkeypatch.setattr(
        EvaluationBatches, "at", lambda self, p: gathered.append(len(p)) or at(self, p)
    )
    begin_step(array, 0, 0)
    assert gathered == [12, 5]


@pytest.mark.parametrize("architecture", ["resnet8", "vgg8", "mobilenet_v2"])
def test_updates_of_a_gpu_fold_the_current_weights(architecture, monkeypatch):
    """Folded once and refreshed before each update, the network predicts what it does unfolded."""
    spec = robust().model_copy(update={"architecture": architecture})
    data = ArrayData(spec, colourful(), CPU)
    plain, folded = (Run(spec, name, data, None) for name in ("plain", "folded"))
    for epoch in range(2):
        for step, batch in enumerate(data.batches.epoch(epoch)):
            begin_step([plain], epoch, step)
            with monkeypatch.context() as on_gpu:
                on_gpu.setattr(Execution, "on_gpu", True)
                begin_step([folded], epoch, step)
                assert folded.updating is folded.folded.module
            for run in (plain, folded):
                run.step(batch.images, batch.labels, None)
            with torch.no_grad():
                expected = plain.model.eval()(batch.images)
                folded.folded.refresh()
                found = folded.folded.module(batch.images)
                plain.model.train()
            scale = float(expected.abs().max())
            torch.testing.assert_close(found, expected, rtol=2e-3, atol=2e-3 * scale)
    assert folded.multipliers == pytest.approx(plain.multipliers, rel=0.05)
    norms = [m for m in folded.folded.module.modules() if "Norm" in type(m).__name__]
    assert not norms


def test_a_network_that_cannot_be_traced_is_evaluated_as_it_is(array, monkeypatch):
    def refuse(*_):
        raise RuntimeError("symbolically traced variables cannot be used")

    monkeypatch.setattr("rkd_core.training.run.FoldedNetwork", refuse)
    monkeypatch.setattr(Execution, "on_gpu", True)
    assert array[0].updating is array[0].model


def test_a_layer_that_is_called_twice_is_not_folded():
    class Twice(torch.nn.Module):
        def __init__(self):
            super().__init__()
            self.layer = torch.nn.Conv2d(3, 3, 1)
            self.norms = torch.nn.Sequential(torch.nn.BatchNorm2d(3), torch.nn.BatchNorm2d(3))

        def forward(self, x):
            return self.norms[1](self.layer(self.norms[0](self.layer(x)))).mean((2, 3))

    network = Twice().eval()
    torch.nn.init.constant_(network.norms[0].weight, 3.0)
    folded = FoldedNetwork(network, (3, 4, 4))
    x = torch.rand(2, 3, 4, 4)
    torch.testing.assert_close(folded.module(x), network(x))


def test_a_branch_of_a_network_is_not_fixed_by_tracing():
    class Branch(torch.nn.Module):
        def __init__(self):
            super().__init__()
            self.layers = torch.nn.Sequential(torch.nn.Conv2d(3, 3, 1), torch.nn.BatchNorm2d(3))

        def forward(self, x):
            return self.layers(x).mean((2, 3)) * (2 if isinstance(x, torch.Tensor) else 1)

    with pytest.raises(RuntimeError, match="other logits"):
        FoldedNetwork(Branch().eval(), (3, 4, 4))


def test_logits_that_are_not_finite_are_the_cause(monkeypatch):
    build = models.build

    def broken(*arguments, **options):
        network = build(*arguments, **options)
        torch.nn.init.constant_(network.classifier.bias, float("inf"))
        return network

    monkeypatch.setattr(models, "build", broken)
    with pytest.raises(DivergedError, match="the model's logits are not finite"):
        train([robust()], data=colourful(), execution=CPU)
