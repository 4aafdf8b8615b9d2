import pytest
import torch
from torch import nn
from torch.optim.swa_utils import AveragedModel, get_ema_multi_avg_fn

from rkd_core.results import artifacts
from rkd_core.specs import MultiplierOptions, run_id
from rkd_core.training import train
from rkd_core.training.optimizer import learning_rate, optimizer_for
from rkd_core.training.run import Run
from rkd_core.training.weight_average import WeightAverage
from tests.rkd_core.training.test_loop import CPU, RECIPE, teacher_spec

EMA = RECIPE.model_copy(update={"ema_decay": 0.9})


def test_the_average_is_that_of_torch():
    torch.manual_seed(0)
    model = nn.Sequential(nn.Conv2d(1, 4, 3), nn.BatchNorm2d(4), nn.Flatten(), nn.Linear(64, 3))
    model[0].tied = model[3].weight  # averaged once
    ours = WeightAverage(model, 0.9)
    theirs = AveragedModel(model, multi_avg_fn=get_ema_multi_avg_fn(0.9), use_buffers=True)
    optimizer = optimizer_for(model, RECIPE)
    for step in range(20):
        optimizer.zero_grad()
        model(torch.randn(8, 1, 6, 6)).square().mean().backward()
        optimizer.rate = learning_rate(RECIPE, step, 20)
        optimizer.step()
        ours.update()
        theirs.update_parameters(model)
    for name, value in theirs.module.state_dict().items():
        own, last = ours.model.state_dict()[name], model.state_dict()[name]
        if value.is_floating_point():
            torch.testing.assert_close(own, value, rtol=1e-6, atol=1e-7)
            assert not torch.equal(own, last), name
        else:
            assert torch.equal(own, last), name


def test_the_average_is_validated_measured_and_kept(digits, tmp_path, monkeypatch):
    """The steps are those of a training without an average."""
    weights, steps = {}, {}
    step = Run.step

    def watched(self, *batch):
        loss = step(self, *batch)
        average = weights.setdefault(self.run_id, {})
        steps[self.run_id] = steps.get(self.run_id, 0) + 1
        for name, value in self.model.state_dict().items():
            before = average.get(name, value)
            mixed = 0.9 * before + 0.1 * value if value.is_floating_point() else value
            average[name] = mixed.clone()
        return loss

    monkeypatch.setattr(Run, "step", watched)
    plain, averaged = teacher_spec(), teacher_spec(recipe=EMA)
    rows = [train([s], data=digits, out=tmp_path, execution=CPU)[0] for s in (plain, averaged)]
    assert rows[0]["train_loss"] == rows[1]["train_loss"]
    assert rows[0]["run_id"] != rows[1]["run_id"]
    last, kept = (artifacts.load(tmp_path / "artifacts", row["run_id"]).weights for row in rows)
    expected = weights[run_id(averaged, digits.fingerprint)]
    assert set(kept) == set(last) == set(expected)
    for name, value in kept.items():
        torch.testing.assert_close(value, expected[name], rtol=1e-4, atol=1e-6)
    assert any(not torch.equal(last[name], value) for name, value in kept.items())
    assert rows[0]["val_class_log_loss"] != rows[1]["val_class_log_loss"]


def test_a_model_averages_iterates_or_weights():
    multipliers = MultiplierOptions(averaged_iterates=2)
    with pytest.raises(ValueError, match="either iterates or weights"):
        teacher_spec(objective="robust", multipliers=multipliers, recipe=EMA)
