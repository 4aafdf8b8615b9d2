"""Reference implementation of the mathematics in plain float64 loops, from the papers' formulas.

Slow and literal on purpose: each function is the formula in its docstring, one sum at a time.
Arguments are nested lists or numpy arrays. Wang et al. is "Robust Distillation for Worst-class
Performance" (UAI 2023).
"""

import math
from collections.abc import Sequence
from fractions import Fraction

import numpy as np

Vector = Sequence[float] | np.ndarray
Matrix = Sequence[Sequence[float]] | np.ndarray


def log_sum_exp(values: Sequence[float]) -> float:
    """log sum_j exp(v_j), shifted by the largest so that nothing overflows."""
    largest = max(values)
    return largest + math.log(math.fsum(math.exp(v - largest) for v in values))


def softmax(values: Vector) -> list[float]:
    """exp(v_j) / sum_k exp(v_k)."""
    normalizer = log_sum_exp([float(v) for v in values])
    return [math.exp(float(v) - normalizer) for v in values]


def margin_loss(logits: Matrix, targets: Matrix, costs: Vector) -> float:
    """Batch mean of sum_y q_y log(1 + sum_{j != y} exp(log(c_y / c_j) - (f_y - f_j))).

    That is eq. 9 of Wang et al. in its first form, without its factor 1/m.
    """
    total = []
    for f, q in zip(logits, targets, strict=True):
        for y in range(len(f)):
            terms = [0.0]
            for j in range(len(f)):
                if j != y:
                    shift = math.log(float(costs[y])) - math.log(float(costs[j]))
                    terms.append(shift - (float(f[y]) - float(f[j])))
            total.append(float(q[y]) * log_sum_exp(terms))
    return math.fsum(total) / len(logits)


def margin_gradient(logits: Matrix, targets: Matrix, costs: Vector) -> np.ndarray:
    """(softmax(f - log c) - q) / batch, valid where every row of q sums to one."""
    gradient = np.zeros((len(logits), len(costs)))
    for i, (f, q) in enumerate(zip(logits, targets, strict=True)):
        p = softmax([float(f[y]) - math.log(float(costs[y])) for y in range(len(costs))])
        for y in range(len(costs)):
            gradient[i, y] = (p[y] - float(q[y])) / len(logits)
    return gradient


def soft_cross_entropy(logits: Matrix, targets: Matrix) -> float:
    """Batch mean of -sum_y q_y log softmax(f)_y."""
    total = []
    for f, q in zip(logits, targets, strict=True):
        normalizer = log_sum_exp([float(v) for v in f])
        total += [-float(q[y]) * (float(f[y]) - normalizer) for y in range(len(f))]
    return math.fsum(total) / len(logits)


def class_costs(
    objective: str, priors: Vector, multipliers: Vector | None = None, alpha: float | None = None
) -> list[float]:
    """Costs of the margin loss; defined up to scale, so compare them after :func:`normalized`."""
    m = len(priors)
    costs = []
    for y in range(m):
        prior = max(float(priors[y]), 1e-12)
        if objective == "standard":
            costs.append(1.0)
        elif objective == "balanced":
            costs.append(1 / prior)
        elif objective == "robust":
            costs.append(float(multipliers[y]) / prior)
        elif objective == "tradeoff":
            costs.append(((1 - alpha) / m + alpha * float(multipliers[y])) / prior)
        else:
            raise KeyError(objective)
    return costs


def normalized(values: Vector) -> np.ndarray:
    """v / sum v."""
    array = np.array([float(v) for v in values])
    return array / math.fsum(array)


def priors(probabilities: Matrix) -> list[float]:
    """Mean over the examples of the mass of each class."""
    n = len(probabilities)
    return [math.fsum(float(p[y]) for p in probabilities) / n for y in range(len(probabilities[0]))]


def class_risks(probabilities: Matrix, predictions: Sequence[int] | np.ndarray) -> list[float]:
    """(1/n) (1/pihat_j) sum_x p_j(x) 1[prediction(x) != j]; 0 where pihat_j is 0."""
    n = len(probabilities)
    mass = priors(probabilities)
    risks = []
    for j in range(len(mass)):
        wrong = math.fsum(float(probabilities[i][j]) for i in range(n) if predictions[i] != j)
        risks.append(wrong / n / mass[j] if mass[j] > 0 else 0.0)
    return risks


def ascend(multipliers: Vector, risks: Vector, step_size: float) -> np.ndarray:
    """lambda_j exp(gamma R_j) / sum_k lambda_k exp(gamma R_k), in linear space, with no floor."""
    grown = [
        float(v) * math.exp(step_size * float(r)) for v, r in zip(multipliers, risks, strict=True)
    ]
    return np.array([g / math.fsum(grown) for g in grown])


def recalls(correct: Sequence[int], total: Sequence[int]) -> list[Fraction]:
    """Exact per-class accuracies of the classes that are present."""
    return [Fraction(int(c), int(n)) for c, n in zip(correct, total, strict=True) if n > 0]
