"""The class costs against the table of the paper, and their effect on the margin loss."""

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch.nn import functional as F

from rkd_core.errors import UserError
from rkd_core.multipliers import ascend, class_risks
from rkd_core.objectives import (
    OBJECTIVES,
    Objective,
    _check,
    class_costs,
    class_priors,
    find,
    margin_loss,
    position,
)
from tests.rkd_core import reference
from tests.rkd_core.objectives.problems import draw, gradient, property_test, simplex, tensors


def shares(costs: torch.Tensor) -> np.ndarray:
    """Return costs up to scale."""
    return reference.normalized(costs.double().numpy())


@property_test
@given(
    seed=st.integers(0, 2**32 - 1),
    classes=st.integers(1, 8),
    objective=st.sampled_from(list(OBJECTIVES)),
    alpha=st.floats(0, 1),
)
def test_costs_are_those_of_the_table(seed, classes, objective, alpha):
    prior, multipliers = simplex(seed, classes), simplex(seed + 1, classes)
    entry = OBJECTIVES[objective]
    extra = {"multipliers": multipliers} if entry.multipliers else {}
    extra |= {"alpha": alpha} if entry.takes_alpha else {}
    costs = class_costs(objective, prior, **extra)
    assert costs.shape == (classes,)
    expected = reference.class_costs(objective, prior, **extra)
    np.testing.assert_allclose(shares(costs), reference.normalized(expected), rtol=1e-10)


@property_test
@given(seed=st.integers(0, 2**32 - 1), classes=st.integers(1, 8), alpha=st.floats(0, 1))
def test_e_trade_off_joins_balanced_and_robust(seed, classes, alpha):
    prior, multipliers = simplex(seed, classes), simplex(seed + 1, classes)
    uniform = torch.full((classes,), 1 / classes, dtype=torch.float64)
    balanced = shares(class_costs("balanced", prior))
    robust = shares(class_costs("robust", prior, multipliers))
    at_zero = class_costs("tradeoff", prior, multipliers, 0.0)
    at_one = class_costs("tradeoff", prior, multipliers, 1.0)
    at_uniform = class_costs("tradeoff", prior, uniform, alpha)
    np.testing.assert_allclose(shares(at_zero), balanced, rtol=1e-12)
    np.testing.assert_allclose(shares(at_uniform), balanced, rtol=1e-12)
    np.testing.assert_allclose(shares(at_one), robust, rtol=1e-12)


def test_e_the_trade_off_is_neither_end_in_between():
    prior, multipliers = simplex(6, 5), simplex(7, 5)
    half = shares(class_costs("tradeoff", prior, multipliers, 0.5))
    for end in ("balanced", "robust"):
        assert np.abs(half - shares(class_costs(end, prior, multipliers))).max() > 1e-3


def test_f_uniform_priors_make_balanced_standard():
    logits, targets, _ = draw(8, 4, 5)
    f, q = tensors(logits, targets)
    uniform = torch.full((5,), 0.2, dtype=torch.float64)
    standard = margin_loss(f, q, class_costs("standard", uniform))
    balanced = margin_loss(f, q, class_costs("balanced", uniform))
    torch.testing.assert_close(balanced, standard, rtol=1e-14, atol=0)
    assert standard.item() == pytest.approx(reference.soft_cross_entropy(logits, targets))


def test_f_a_hot_teacher_makes_balanced_standard():
    """As the temperature grows, the teacher's priors and with them the costs become uniform."""
    teacher, _, _ = draw(9, 40, 5)
    logits, _, _ = draw(10, 40, 5)
    gaps = []
    for temperature in (1.0, 1e2, 1e4, 1e6):
        targets = torch.softmax(torch.tensor(teacher) / temperature, dim=1)
        prior = targets.mean(dim=0)
        (f,) = tensors(logits)
        balanced = margin_loss(f, targets, class_costs("balanced", prior))
        standard = margin_loss(f, targets, class_costs("standard", prior))
        gaps.append(abs(balanced - standard).item())
    assert gaps[0] > 1e-3
    assert gaps[1] < gaps[0]
    assert gaps[3] < 1e-6


def test_i_uniform_mass_makes_standard_risk_balanced_risk():
    """Also the general case: the risks weighted by the priors are the plain error."""
    rng = np.random.default_rng(11)
    predictions = torch.tensor(rng.integers(0, 4, 60))
    skewed = torch.tensor(rng.dirichlet([4.0, 1.0, 1.0, 0.5], size=60))
    one_hot = F.one_hot(torch.arange(60) % 4, 4).double()
    for labels, uniform in ((skewed, False), (one_hot, True)):
        risks, prior = class_risks(labels, predictions), labels.mean(dim=0)
        error = 1 - labels[torch.arange(60), predictions].mean()
        torch.testing.assert_close((prior * risks).sum(), error, rtol=1e-12, atol=0)
        assert torch.isclose(risks.mean(), error, rtol=1e-12, atol=0).item() == uniform


@pytest.mark.parametrize("alpha", [0.0, 0.3, 1.0])
def test_costs_weigh_the_risks_as_the_objective_does(alpha):
    """(1-a) bal + a sum_y lambda_y R_y is sum_y c_y pihat_y R_y: the derivation of the costs."""
    rng = np.random.default_rng(12)
    labels = torch.tensor(rng.dirichlet([4.0, 1.0, 0.5], size=30))
    risks = class_risks(labels, torch.tensor(rng.integers(0, 3, 30))).numpy()
    prior, multipliers = labels.mean(dim=0), simplex(13, 3)
    costs = class_costs("tradeoff", prior, multipliers, alpha).numpy()
    objective = (1 - alpha) * risks.mean() + alpha * (multipliers.numpy() * risks).sum()
    weights = costs * prior.numpy()
    assert (weights * risks).sum() / weights.sum() == pytest.approx(objective, rel=1e-12)


def test_h_mean_of_the_iterates_is_a_rescaled_teacher():
    """Proposition 3: the averaged ensemble is (prod_k lambda^k / pihat)^(1/K) p^t, normalised."""
    rng = np.random.default_rng(14)
    teacher = torch.tensor(rng.dirichlet(np.ones(4), size=6))
    prior = teacher.mean(dim=0)
    log_multipliers = torch.full((4,), -np.log(4.0), dtype=torch.float64)
    logits, log_factor = [], np.zeros(4)
    K = 7
    for _ in range(K):
        risks = torch.tensor(rng.uniform(0, 1, 4))
        log_multipliers = ascend(log_multipliers, risks, 1.0)
        costs = class_costs("robust", prior, log_multipliers.exp())
        f = (costs * teacher).log()
        np.testing.assert_allclose(gradient(f, teacher, costs), 0, atol=1e-15)
        logits.append(f)
        log_factor += (log_multipliers.numpy() - np.log(prior.numpy())) / K
    ensemble = torch.softmax(torch.stack(logits).mean(dim=0), dim=1).numpy()
    for i in range(6):
        expected = reference.normalized(np.exp(log_factor) * teacher[i].numpy())
        np.testing.assert_allclose(ensemble[i], expected, rtol=1e-12)


@pytest.mark.parametrize("objective", ["balanced", "robust", "tradeoff"])
def test_absent_classes_have_floored_priors(objective):
    prior = torch.tensor([0.75, 0.25, 0.0], dtype=torch.float64)
    multipliers = torch.tensor([0.2, 0.3, 0.5], dtype=torch.float64)
    extra = {
        "balanced": {},
        "robust": {"multipliers": multipliers},
        "tradeoff": {"multipliers": multipliers, "alpha": 0.5},
    }[objective]
    costs = class_costs(objective, prior, **extra)
    assert torch.isfinite(costs).all()
    expected = reference.class_costs(objective, [0.75, 0.25, 1e-12], **extra)
    np.testing.assert_allclose(shares(costs), reference.normalized(expected), rtol=1e-10)
    logits, targets, _ = draw(15, 3, 3)
    assert torch.isfinite(margin_loss(*tensors(logits, targets), costs))


@pytest.mark.parametrize(
    ("objective", "extra"),
    [
        ("fair", {}),
        ("Standard", {}),
        ("robust", {}),
        ("tradeoff", {"alpha": 0.5}),
        ("tradeoff", {"multipliers": torch.tensor([0.5, 0.5])}),
        *[
            ("tradeoff", {"multipliers": torch.tensor([0.5, 0.5]), "alpha": alpha})
            for alpha in (-0.01, 1.01, float("nan"))
        ],
    ],
)
def test_costs_without_meaning_are_refused(objective, extra):
    with pytest.raises(ValueError, match=r"."):
        class_costs(objective, torch.tensor([0.5, 0.5]), **extra)


@pytest.mark.parametrize("dtype", [torch.float64, torch.float32, torch.float16])
def test_priors_are_the_mean_in_float64(dtype):
    """A float16 sum of 5,000 shares would stop growing long before its end."""
    p = torch.tensor(np.random.default_rng(22).dirichlet([8.0, 1.0, 0.1], size=5000)).to(dtype)
    priors = class_priors(p)
    assert priors.dtype == torch.float64
    np.testing.assert_allclose(priors.numpy(), reference.priors(p.double().numpy()), rtol=1e-12)


def test_objectives_have_a_place_on_the_axis_of_trade_offs():
    assert position("standard") == -1
    assert (position("balanced"), position("robust")) == (0, 1)
    assert [position("tradeoff", alpha) for alpha in (0.0, 0.25, 1.0)] == [0, 0.25, 1]


def test_an_objective_of_a_plug_in_is_a_function_or_an_objective_without_alpha():
    def costs(priors, multipliers, alpha):
        return priors

    for sound in (costs, Objective(costs), Objective(costs, multipliers=True)):
        _check("own", sound)
    for target, message in (
        (Objective(costs, takes_alpha=True), "has no alpha"),
        (Objective(costs, alpha=0.0), "has no alpha"),
        ("costs", "str is not a function that returns class costs"),
    ):
        with pytest.raises(UserError, match=message):
            _check("own", target)


@pytest.mark.parametrize(
    ("name", "alpha", "uses"),
    [("standard", None, False), ("balanced", None, False), ("robust", None, True)]
    + [("tradeoff", alpha, alpha > 0) for alpha in (0.0, 0.5, 1.0)],
)
def test_only_robust_and_trade_offs_above_0_have_multipliers(name, alpha, uses):
    assert find(name).uses_multipliers(alpha) is uses
