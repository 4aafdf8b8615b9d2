import math

import pytest
import torch
from torch import nn

from rkd_core.errors import UserError
from rkd_core.specs import Recipe, recipes
from rkd_core.training.optimizer import SGD, learning_rate, optimizer_for


def test_step_schedule_with_warmup_at_the_papers_epochs():
    recipe = recipes.get("logit-adjustment-cifar10-lt")
    steps_per_epoch, epochs = 96, recipe.epochs
    steps = steps_per_epoch * epochs

    def at(epoch):
        return learning_rate(recipe, round(epoch * steps_per_epoch), steps)

    assert epochs == 1241
    assert at(10) == pytest.approx(0.1 * 10 / 20, rel=1e-2)
    assert at(20) == pytest.approx(0.1)
    assert at(603.9) == pytest.approx(0.1)
    assert at(604.1) == pytest.approx(0.01)
    assert at(926.1) == pytest.approx(0.001)
    assert at(1128.1) == pytest.approx(0.0001)


def test_cosine_falls_from_the_peak_to_zero_after_the_warmup():
    recipe = Recipe(epochs=1, learning_rate=2.0, schedule="cosine", warmup=0.2)
    rates = [learning_rate(recipe, step, 100) for step in range(100)]
    assert rates[:20] == sorted(rates[:20])
    assert rates[0] > 0
    assert rates[20] == pytest.approx(2.0)
    assert rates[60] == pytest.approx(1.0)
    assert rates[99] == pytest.approx(1 + math.cos(math.pi * 79 / 80))
    assert rates[20:] == sorted(rates[20:], reverse=True)


def test_rescaling_the_epochs_rescales_the_schedule():
    long = recipes.get("lukasik-cifar")
    short = long.model_copy(update={"epochs": 45})
    rates = [learning_rate(short, s, 450) for s in range(450)]
    expected = [learning_rate(long, s * 10 + 9, 4500) for s in range(450)]
    assert rates[15:] == pytest.approx(expected[15:])
    assert rates[:15] == pytest.approx(expected[:15], rel=0.1)  # 16 steps of warm-up, not 151


def test_weight_decay_can_spare_batch_norm_and_nothing_else():
    model = nn.Sequential(nn.Conv2d(1, 2, 3), nn.BatchNorm2d(2), nn.Flatten(), nn.Linear(2, 2))
    spared = optimizer_for(model, Recipe(epochs=1, weight_decay=0.1, decay_norm=False))
    undecayed = [p for g in spared.groups if g.weight_decay == 0 for p in g.parameters]
    assert {id(p) for p in undecayed} == {id(p) for p in model[1].parameters()}
    every = optimizer_for(model, Recipe(epochs=1, weight_decay=0.1))
    assert all(g.weight_decay == 0.1 for g in every.groups)
    for optimizer in (spared, every):
        held = [id(p) for g in optimizer.groups for p in g.parameters]
        assert sorted(held) == sorted(id(p) for p in model.parameters())


def network():
    torch.manual_seed(0)
    parts = nn.Conv2d(1, 4, 3), nn.BatchNorm2d(4), nn.ReLU(), nn.Flatten(), nn.Linear(64, 3)
    model = nn.Sequential(*parts)
    model.rare, model.unused = nn.Parameter(torch.randn(3)), nn.Parameter(torch.randn(3))
    return model


def assert_alike_after_steps(recipe, models, ours, theirs, rate, *, always=False):
    """Take 50 steps with both optimizers; ``rare`` has a gradient always, or now and then."""
    generator = torch.Generator().manual_seed(1)
    for step in range(50):
        now = learning_rate(recipe, step, 50)
        images = torch.randn(8, 1, 6, 6, generator=generator)
        if rate is None:
            ours.rate = now
            for group in theirs.param_groups:
                group["lr"] = now
        else:
            rate.fill_(now)
        for model, optimizer in zip(models, (ours, theirs), strict=True):
            logits = model(images) + (model.rare if always or step % 3 == 1 else 0.0)
            optimizer.zero_grad()
            logits.square().mean().backward()
            optimizer.step()
    for (name, own), other in zip(
        models[0].named_parameters(), models[1].parameters(), strict=True
    ):
        assert torch.equal(own, other), name


@pytest.mark.parametrize("steps", [1, 2, 7, 100])
@pytest.mark.parametrize("warmup", [0.05, 0.3, 0.9])
def test_one_cycle_is_that_of_torch(steps, warmup):
    recipe = Recipe(epochs=1, learning_rate=0.4, schedule="one_cycle", warmup=warmup)
    optimizer = torch.optim.SGD([nn.Parameter(torch.zeros(1))], lr=1.0)
    scheduler = torch.optim.lr_scheduler.OneCycleLR(
        optimizer, max_lr=0.4, total_steps=steps, pct_start=warmup
    )
    for step in range(steps):
        expected = optimizer.param_groups[0]["lr"]
        assert learning_rate(recipe, step, steps) == pytest.approx(expected, rel=1e-12)
        optimizer.step()
        if step + 1 < steps:
            scheduler.step()


def test_constant_stays_at_the_peak_after_the_warmup():
    recipe = Recipe(epochs=1, learning_rate=2.0, schedule="constant", warmup=0.2)
    rates = [learning_rate(recipe, step, 10) for step in range(10)]
    assert rates == pytest.approx([2 / 3, 4 / 3] + [2.0] * 8)


def test_one_step_is_nesterov_sgd_by_hand():
    parameter = nn.Parameter(torch.tensor([1.0, -2.0], dtype=torch.float64))
    module = nn.Module()
    module.weight = parameter
    recipe = Recipe(epochs=1, learning_rate=0.1, momentum=0.9, weight_decay=0.01)
    optimizer = optimizer_for(module, recipe)
    expected, velocity = [1.0, -2.0], [0.0, 0.0]
    for _ in range(3):
        optimizer.zero_grad()
        (parameter**2).sum().backward()
        optimizer.step()
        for i in (0, 1):
            gradient = 2 * expected[i] + 0.01 * expected[i]
            velocity[i] = 0.9 * velocity[i] + gradient
            expected[i] -= 0.1 * (gradient + 0.9 * velocity[i])
    assert parameter.tolist() == pytest.approx(expected)


@pytest.mark.parametrize(
    "options",
    [
        {},  # Nesterov
        {"nesterov": False},
        {"nesterov": False, "momentum": 0.0},
        {"weight_decay": 0.0},
        {"decay_norm": False},
        {"weight_decay": 0.01, "decay_norm": False, "nesterov": False, "momentum": 0.5},
    ],
)
@pytest.mark.parametrize("tensor_rate", [False, True])
def test_steps_are_those_of_torch_to_the_last_bit(options, tensor_rate):
    """50 steps; one parameter never has a gradient, another has one only now and then."""
    recipe = Recipe(epochs=1, **{"weight_decay": 5e-4} | options)
    rate = torch.tensor(0.0) if tensor_rate else None

    models = network(), network()
    ours = optimizer_for(models[0], recipe, rate)
    norm = [id(p) for p in models[1][1].parameters()]
    theirs = torch.optim.SGD(
        [
            {"params": [p for p in models[1].parameters() if id(p) not in norm]},
            {
                "params": list(models[1][1].parameters()),
                "weight_decay": recipe.weight_decay if recipe.decay_norm else 0.0,
            },
        ],
        lr=recipe.learning_rate if rate is None else rate,
        weight_decay=recipe.weight_decay,
        momentum=recipe.momentum,
        nesterov=recipe.nesterov,
        fused=tensor_rate,
    )
    assert_alike_after_steps(recipe, models, ours, theirs, rate, always=tensor_rate)
    momenta = [ours.state["momentum"].get(p) for p in models[0].parameters()]
    for own, other in zip(momenta, models[1].parameters(), strict=True):
        expected = theirs.state[other].get("momentum_buffer")
        assert (own is None) == (expected is None)
        assert own is None or torch.equal(own, expected)


@pytest.mark.parametrize(
    "options",
    [
        {},
        {"weight_decay": 0.0},
        {"decay_norms_and_biases": True},
        {"decay_norms_and_biases": True, "decay_norm": False},
        {"betas": (0.8, 0.95), "epsilon": 1e-3},
    ],
)
@pytest.mark.parametrize("tensor_rate", [False, True])
def test_adamw_steps_are_those_of_torch_to_the_last_bit(options, tensor_rate):
    """50 steps; one parameter never has a gradient, another has one only now and then."""
    recipe = Recipe(
        epochs=1, optimizer="adamw", learning_rate=0.01, **{"weight_decay": 0.05} | options
    )
    rate = torch.tensor(0.0) if tensor_rate else None

    models = network(), network()
    ours = optimizer_for(models[0], recipe, rate)
    exempt = {"1.weight", "1.bias"} if recipe.decay_norm is False else set()
    if not recipe.decay_norms_and_biases:
        exempt |= {"0.bias", "1.weight", "1.bias", "4.bias", "rare", "unused"}
    named = dict(models[1].named_parameters())
    theirs = torch.optim.AdamW(
        [
            {"params": [p for name, p in named.items() if name not in exempt]},
            {"params": [p for name, p in named.items() if name in exempt], "weight_decay": 0.0},
        ],
        lr=recipe.learning_rate if rate is None else rate,
        betas=recipe.betas,
        eps=recipe.epsilon,
        weight_decay=recipe.weight_decay,
        fused=tensor_rate,
    )
    assert_alike_after_steps(recipe, models, ours, theirs, rate)
    for own, other in zip(models[0].parameters(), models[1].parameters(), strict=True):
        for kind, name_of_torch in (
            ("gradient_average", "exp_avg"),
            ("square_average", "exp_avg_sq"),
            ("steps_taken", "step"),
        ):
            expected = theirs.state[other].get(name_of_torch)
            kept = ours.state[kind].get(own)
            assert (kept is None) == (expected is None)
            assert kept is None or torch.equal(kept, expected)


def test_options_of_the_other_optimizer_are_refused():
    with pytest.raises(ValueError, match="betas does not belong to the optimizer sgd"):
        Recipe(epochs=1, betas=(0.8, 0.9))
    with pytest.raises(ValueError, match="momentum does not belong to the optimizer adamw"):
        Recipe(epochs=1, optimizer="adamw", momentum=0.5)


def test_nesterov_without_momentum_is_refused():
    with pytest.raises(ValueError, match="momentum"):
        SGD([], 0.1, momentum=0.0, nesterov=True)


def test_recipes_are_as_published():
    """Epochs, warm-up and milestones in epochs; batch, rate, decay; crop; schedule."""
    step, cosine = "step", "cosine"
    adjusted = (128, 0.1, 2e-4, 2, step)
    cifar, imagenet = (1024, 1.0, 1e-4, 4), (1024, 0.8, 5e-5, 4)
    assert {
        name: (
            (r.epochs, round(r.warmup * r.epochs, 9)),
            [round(m * r.epochs, 9) for m in r.milestones],
            (r.batch_size, r.learning_rate, r.weight_decay, r.crop_padding, r.schedule),
        )
        for name, (_, r) in recipes.RECIPES.items()
        if name
        not in {"digits", "small-images", "logit-adjustment", "finetune", "arrays"}  # no paper's
    } == {
        "logit-adjustment-cifar10-lt": ((1241, 20), [604, 926, 1128], adjusted),
        "logit-adjustment-cifar100-lt": ((1419, 22), [691, 1059, 1290], adjusted),
        "lukasik-cifar": ((450, 15), [200, 300, 400], (*cifar, step)),
        "lukasik-cifar-lt": ((450, 15), [], (*cifar, cosine)),
        "lukasik-imagenet": ((90, 5), [30, 60, 80], (*imagenet, step)),
        "lukasik-imagenet-lt": ((90, 5), [], (*imagenet, cosine)),
        "mdistiller-cifar": ((240, 0), [150, 180, 210], (64, 0.05, 5e-4, 4, step)),
        "mdistiller-cifar-mobile": ((240, 0), [150, 180, 210], (64, 0.01, 5e-4, 4, step)),
        "mdistiller-imagenet": ((100, 0), [30, 60, 90], (512, 0.2, 1e-4, 4, step)),
        "imagenet": ((90, 0), [30, 60], (256, 0.1, 1e-4, 0, step)),  # torchvision's
    }
    for name, (_, recipe) in recipes.RECIPES.items():
        assert (recipe.momentum, recipe.decay) == (0.9, 0.1)
        assert recipe.nesterov is not name.startswith(("mdistiller", "imagenet"))
        assert recipe.flip is (name not in {"digits", "arrays"})
        if name.startswith("logit-adjustment"):  # Keras' l2 is on weights alone; x / 255 - 0.5
            assert (recipe.decay_norm, recipe.normalization) == (False, "centered")
            assert recipe.drop_last
    whole = recipes.get("logit-adjustment")  # as many steps on 50,000 images as on 12,406
    assert whole.epochs == round(1241 * 12_406 / 50_000)
    with pytest.raises(UserError, match="lukasik-cifar"):
        recipes.get("lukasik-cifr")
    assert set(recipes.descriptions()) == set(recipes.RECIPES)
