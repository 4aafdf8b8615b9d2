"""Reference implementation of the methods' mathematics in plain lists and ``math``.

Shares nothing with ``rkd_core``. Each function is the formula in its docstring; ``z`` are a
teacher's logits, ``f`` a student's, ``y`` a label, ``t`` a temperature.
"""

import math


def mean(values):
    values = list(values)
    return math.fsum(values) / len(values)


def lse(values):
    """log sum exp."""
    top = max(values)
    return top + math.log(math.fsum(math.exp(v - top) for v in values))


def log_softmax(values, t=1.0):
    scaled = [v / t for v in values]
    total = lse(scaled)
    return [v - total for v in scaled]


def softmax(values, t=1.0):
    return [math.exp(v) for v in log_softmax(values, t)]


def one_hot(y, m):
    return [1.0 if j == y else 0.0 for j in range(m)]


def cross_entropy(f, q):
    """-sum_j q_j log softmax(f)_j."""
    return -math.fsum(q[j] * log_softmax(f)[j] for j in range(len(f)) if q[j] > 0)


def kl(log_p, log_q):
    """sum_j p_j (log p_j - log q_j), from logarithms; 0 where p_j is 0."""
    return math.fsum(
        math.exp(a) * (a - b) for a, b in zip(log_p, log_q, strict=True) if math.exp(a) > 0
    )


def hard(f, y):
    return mean(
        cross_entropy(row, one_hot(label, len(row))) for row, label in zip(f, y, strict=True)
    )


def standard(f, z, y, t=1.0, one_hot_weight=0.0):
    total = []
    for row, teacher, label in zip(f, z, y, strict=True):
        p, truth = softmax(teacher, t), one_hot(label, len(row))
        q = [one_hot_weight * a + (1 - one_hot_weight) * b for a, b in zip(truth, p, strict=True)]
        total.append(cross_entropy(row, q))
    return mean(total)


def alphas(z, y, m, t=1.0):
    """Means over each class of p_y - (1/(L-1)) sum over the others of p_y', before the cut at 0."""
    result = []
    for label in range(m):
        margins = []
        for teacher, truth in zip(z, y, strict=True):
            if truth == label:
                p = softmax(teacher, t)
                others = math.fsum(p[j] for j in range(m) if j != label)
                margins.append(p[label] - others / (m - 1))
        result.append(mean(margins) if margins else 0.0)
    return result


def ada_alpha(f, z, y, alpha, t=1.0):
    """(1 - alpha_y) CE(y, f) + alpha_y sum_y' p_y' CE(y', f)."""
    total = []
    for row, teacher, label in zip(f, z, y, strict=True):
        p, m = softmax(teacher, t), len(row)
        soft = math.fsum(p[j] * cross_entropy(row, one_hot(j, m)) for j in range(m))
        own = cross_entropy(row, one_hot(label, m))
        total.append((1 - alpha[label]) * own + alpha[label] * soft)
    return mean(total)


def ada_margin(f, z, alpha, t=1.0):
    """sum_y p_y log(1 + sum over y' != y of (alpha_y' / alpha_y) exp(f_y' - f_y))."""
    total = []
    for row, teacher in zip(f, z, strict=True):
        p, m = softmax(teacher, t), len(row)
        for label in range(m):
            rest = [
                math.log(alpha[j] / alpha[label]) + row[j] - row[label]
                for j in range(m)
                if j != label
            ]
            total.append(p[label] * lse([0.0, *rest]))
    return math.fsum(total) / len(f)


def image_weights(f, z, y):
    """1 - exp(-CE(y, f) / (CE(y, z) + 1e-7))."""
    weights = []
    for row, teacher, label in zip(f, z, y, strict=True):
        truth = one_hot(label, len(row))
        ratio = cross_entropy(row, truth) / (cross_entropy(teacher, truth) + 1e-7)
        weights.append(1 - math.exp(-ratio))
    return weights


def weighted_soft_labels(f, z, y, t, weight, weights=None):
    """``weights`` may be given, since they carry no gradient."""
    weights = image_weights(f, z, y) if weights is None else weights
    soft = []
    for row, teacher, w in zip(f, z, weights, strict=True):
        p, log_s = softmax(teacher, t), log_softmax(row, t)
        soft.append(-w * math.fsum(a * b for a, b in zip(p, log_s, strict=True)))
    return hard(f, y) + weight * t * t * mean(soft)


def class_losses(f, y):
    m = len(f[0])
    result = []
    for label in range(m):
        own = [
            cross_entropy(row, one_hot(label, m))
            for row, truth in zip(f, y, strict=True)
            if truth == label
        ]
        result.append(mean(own) if own else 0.0)
    return result


def group_dro_weights(q, losses, step, adjustment, counts):
    """q_g exp(eta (l_g + C / sqrt(n_g))), normalised."""
    grown = [
        w * math.exp(step * (loss + adjustment / math.sqrt(n)))
        for w, loss, n in zip(q, losses, counts, strict=True)
    ]
    return [g / math.fsum(grown) for g in grown]


def group_dro(f, y, q):
    return math.fsum(w * loss for w, loss in zip(q, class_losses(f, y), strict=True))


def kd(f, z, y, t, label_weight, soft_weight):
    soft = mean(kl(log_softmax(b, t), log_softmax(a, t)) for a, b in zip(f, z, strict=True))
    return label_weight * hard(f, y) + soft_weight * t * t * soft


def decoupled(row, teacher, label, t):
    """KL of (p_y, 1 - p_y), and KL among the other classes, renormalised."""
    parts = []
    for values in (teacher, row):
        logs = log_softmax(values, t)
        rest = [v for j, v in enumerate(logs) if j != label]
        parts.append(([logs[label], lse(rest)], [v - lse(rest) for v in rest]))
    return kl(parts[0][0], parts[1][0]), kl(parts[0][1], parts[1][1])


def dkd(f, z, y, t, target_weight, others_weight, rise):
    target, others = [], []
    for row, teacher, label in zip(f, z, y, strict=True):
        a, b = decoupled(row, teacher, label, t)
        target.append(a)
        others.append(b)
    soft = target_weight * mean(target) + others_weight * mean(others)
    return hard(f, y) + rise * t * t * soft


def pearson(a, b):
    """Covariance over the product of standard deviations (sums), with 1e-8 added to it."""
    x, y = [v - mean(a) for v in a], [v - mean(b) for v in b]
    spread = math.sqrt(math.fsum(v * v for v in x)) * math.sqrt(math.fsum(v * v for v in y))
    return math.fsum(v * w for v, w in zip(x, y, strict=True)) / (spread + 1e-8)


def dist(f, z, y, t, row_weight, column_weight):
    student, teacher = [softmax(r, t) for r in f], [softmax(r, t) for r in z]
    rows = mean(pearson(a, b) for a, b in zip(student, teacher, strict=True))
    columns = mean(
        pearson([r[j] for r in student], [r[j] for r in teacher]) for j in range(len(f[0]))
    )
    return hard(f, y) + t * t * (row_weight * (1 - rows) + column_weight * (1 - columns))


def group_masses(values, groups, t):
    """log p_G, and the logarithms of the shares within each group."""
    logs = log_softmax(values, t)
    masses = [lse([logs[j] for j in group]) for group in groups]
    within = [[logs[j] - mass for j in group] for group, mass in zip(groups, masses, strict=True)]
    return masses, within


def ltkd_parts(f, z, groups, t, rebalance=True, within="uniform"):
    """Batch means of the cross-group and the within-group divergences."""
    student = [group_masses(r, groups, t) for r in f]
    teacher = [group_masses(r, groups, t) for r in z]
    totals = [math.fsum(math.exp(masses[g]) for masses, _ in teacher) for g in range(len(groups))]
    average = mean(totals)
    cross, inside = [], []
    for (own, own_within), (masses, teacher_within) in zip(student, teacher, strict=True):
        p = [math.exp(v) for v in masses]
        if rebalance:
            scaled = [average / total * v for total, v in zip(totals, p, strict=True)]
            p = [v / math.fsum(scaled) for v in scaled]
        cross.append(math.fsum(a * (math.log(a) - b) for a, b in zip(p, own, strict=True) if a))
        weights = [1.0 if within == "uniform" else math.exp(v) for v in masses]
        inside.append(
            math.fsum(
                w * kl(a, b) for w, a, b in zip(weights, teacher_within, own_within, strict=True)
            )
        )
    return mean(cross), mean(inside)


def ltkd(f, z, y, groups, t, cross_weight, within_weight, rebalance=True, within="uniform"):
    cross, inside = ltkd_parts(f, z, groups, t, rebalance, within)
    return hard(f, y) + t * t * (cross_weight * cross + within_weight * inside)


def pool(image, side):
    """Adaptive average pooling of a square map, list of rows, whose height ``side`` divides."""
    step = len(image) // side
    return [
        [
            mean(image[i * step + a][j * step + b] for a in range(step) for b in range(step))
            for j in range(side)
        ]
        for i in range(side)
    ]


def flat(values):
    if isinstance(values, list):
        for value in values:
            yield from flat(value)
    else:
        yield values


def squared_distance(a, b):
    return mean((x - y) ** 2 for x, y in zip(flat(a), flat(b), strict=True))


def pooled(maps, side):
    return [[pool(image, side) for image in images] for images in maps]


def hierarchical_distance(a, b):
    """[MSE + sum_k 2^-k MSE(pool)] / (1 + sum_k 2^-k), sides 4, 2, 1 below the height."""
    total, weights, k = squared_distance(a, b), 1.0, 0
    for side in (4, 2, 1):
        if side < len(a[0][0]):
            k += 1
            total += 2.0**-k * squared_distance(pooled(a, side), pooled(b, side))
            weights += 2.0**-k
    return total / weights


def normalized(maps):
    """Each map divided by its Euclidean norm."""
    result = []
    for images in maps:
        norms = [math.sqrt(math.fsum(v * v for v in flat(image))) for image in images]
        result.append(
            [
                [[v / n for v in row] for row in image]
                for image, n in zip(images, norms, strict=True)
            ]
        )
    return result


def cat_kd(f, y, student, teacher, weight, side, normalize):
    a, b = pooled(student, side), pooled(teacher, side)
    if normalize:
        a, b = normalized(a), normalized(b)
    return hard(f, y) + weight * squared_distance(a, b)


def worst_recall(scores, y, b):
    """Smallest recall, then mean recall, of argmax(scores + b)."""
    m = len(b)
    hits, total = [0] * m, [0] * m
    for row, label in zip(scores, y, strict=True):
        shifted = [v + w for v, w in zip(row, b, strict=True)]
        total[label] += 1
        hits[label] += shifted.index(max(shifted)) == label
    recalls = [h / n for h, n in zip(hits, total, strict=True) if n]
    return min(recalls), mean(recalls)


def ridge(sizes, lam, targets):
    """Predictions by subgroup of ridge regression with orthonormal subgroup inputs, in closed form.

    All images of subgroup i have the i-th unit vector as input, so w_i minimises
    sum_n (w_i - z_n)^2 + lam w_i^2.
    """
    return [math.fsum(values) / (n + lam) for n, values in zip(sizes, targets, strict=True)]
