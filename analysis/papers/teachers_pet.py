"""Tables of Teacher's pet (Lukasik, Bhojanapalli, Menon and Kumar, TMLR 2022)."""

from __future__ import annotations

from collections.abc import Mapping

from analysis.papers.definitions import Cell, Finding, Gain, Key, Of, Pair, Part, Table, What

__all__ = ["TABLES"]

_ONE_HOT, _DISTILLED = Of("one_hot"), Pair()

# Distilled minus one-hot: average, and the classes that the teacher finds hardest.
_TABLE_1 = {
    "imagenet": (0.39, -0.43),
    "cifar100-lt": (2.17, -1.46),
    "imagenet-lt": (0.21, -0.32),
    "cifar10": (0.55, 0.90),
    "cifar10-lt": (1.92, 4.40),
    "cifar100": (1.93, 3.33),
    "imagenet-100": (0.09, 0.06),
}

# Average, worst-1, worst-10 (on ImageNet-LT also worst-100).
_TABLE_3: dict[str, dict[str, tuple[float | None, ...]]] = {
    "cifar100": {
        "one-hot": (73.31, 45.67, 52.12),
        "distillation": (75.24, 49.00, 54.65),
        "AdaAlpha": (75.43, 49.33, 56.42),
        "AdaMargin": (75.15, 51.33, 56.62),
    },
    "imagenet": {
        "one-hot": (75.94, 12.00, 21.88),
        "distillation": (76.14, 14.00, 21.54),
        "AdaAlpha": (76.15, 15.50, 23.07),
        "AdaMargin": (76.08, 15.00, 22.42),
    },
    "cifar100-lt": {
        "one-hot": (43.22, 0.00, 2.33),
        "distillation": (45.17, 0.00, 1.80),
        "AdaAlpha": (48.57, 0.67, 4.20),
        "AdaMargin": (None, None, None),  # it diverges
    },
    "imagenet-lt": {
        "one-hot": (45.71, 0.0, 0.0, 0.68),
        "distillation": (45.78, 0.0, 0.0, 0.58),
        "AdaAlpha": (45.90, 0.0, 0.0, 0.83),
        "AdaMargin": (45.98, 0.0, 0.0, 0.85),
    },
}
_TABLE_5: dict[str, tuple[float, ...]] = {
    "cifar100": (75.74, 50.33, 54.93),
    "imagenet-lt": (46.02, 0.0, 0.0, 0.56),
}
_MODELS: dict[str, What] = {
    "one-hot": _ONE_HOT,
    "distillation": _DISTILLED,
    "AdaAlpha": Of("ada_alpha"),
    "AdaMargin": Of("ada_margin"),
    "Zhou et al.": Of("weighted_soft_labels"),
}

# CIFAR-100-LT, student ResNet-14, by teacher: average, worst-10, worst-20.
_TABLE_4: dict[str, dict[str, tuple[float, float, float]]] = {
    "resnet56": {
        "distillation": (39.53, 1.30, 3.35),
        "AdaAlpha": (40.34, 2.00, 4.00),
        "AdaMargin": (40.80, 2.40, 4.80),
    },
    "resnet32": {
        "distillation": (39.84, 1.20, 3.00),
        "AdaAlpha": (40.21, 1.70, 3.95),
        "AdaMargin": (40.16, 2.20, 4.80),
    },
    "resnet14": {
        "distillation": (40.51, 0.00, 2.05),
        "AdaAlpha": (40.79, 0.80, 2.45),
        "AdaMargin": (41.26, 1.20, 3.70),
    },
}
_TABLE_4_ONE_HOT = (39.95, 0.80, 3.30)

# CIFAR-100-LT: average, worst-10, top 10 %, their difference.
_TABLE_10 = {
    "one-hot": (44.16, 3.00, 87.70, 41.16),
    "distillation": (45.49, 0.90, 88.10, 44.59),
    "distillation twice": (45.22, 0.00, 88.40, 45.22),
    "distillation three times": (44.80, 0.00, 87.60, 44.80),
}
_TABLE_11 = {
    "AdaAlpha": (75.52, 49.33, 56.59),
    "AdaAlpha, hardest 10 % removed": (75.40, 48.33, 55.79),
    "AdaAlpha, shuffled": (74.56, 46.00, 53.10),
    "Zhou et al.": (75.74, 50.33, 54.93),
}


def table_1(dataset: str) -> Table:
    """Return Table 1: gains of distillation over one-hot labels."""
    worst = f"teacher-worst-{_hardest(dataset)}"
    paper = _TABLE_1.get(dataset, (None, None))
    none = {"average": None, worst: None}
    cells = (
        Cell("one-hot", "", _ONE_HOT, none),
        Cell("distillation", "", _DISTILLED, none),
        Cell("gain", "", Gain(_DISTILLED, _ONE_HOT), dict(zip(none, paper, strict=True))),
    )
    harms = paper[1] is None or paper[1] < 0
    hardest = Finding("distillation harms the hardest classes", lambda v: v["gain", "", worst] < 0)
    if not harms:
        hardest = Finding(
            "with few classes it helps the hardest ones", lambda v: v["gain", "", worst] > 0
        )
    return Table(
        name="pet-1",
        source="Lukasik et al. (TMLR 2022), Table 1",
        cells=cells,
        findings=(
            Finding("distillation raises the average", lambda v: v["gain", "", "average"] > 0),
            hardest,
        ),
        parts=(Part("one_hot"),),
        remark="The hardest classes are those of the standard teacher on test.",
    )


def table_3(dataset: str) -> Table:
    """Return Table 3: self-distillation against the Ada methods."""
    return _self_distillation("pet-3", "Table 3", dataset, list(_MODELS)[:4])


def table_5(dataset: str) -> Table:
    """Return Table 5: Table 3 with the weighted soft labels of Zhou et al."""
    return _self_distillation("pet-5", "Table 5", dataset, list(_MODELS))


def _self_distillation(name: str, number: str, dataset: str, rows: list[str]) -> Table:
    known = _TABLE_3.get(dataset, {})
    if dataset in _TABLE_5:
        known = known | {"Zhou et al.": _TABLE_5[dataset]}
    metrics = _worst_metrics(dataset)
    cells = [Cell(row, "", _MODELS[row], _numbers(metrics, known.get(row))) for row in rows]
    hard = metrics[-1]

    def over(better: str, worse: str, metric: str) -> Finding:
        name = "average" if metric == "average" else f"{metric} accuracy"
        return Finding(
            f"{better} has a better {name} than {worse}",
            lambda v: v[better, "", metric] > v[worse, "", metric],
        )

    findings = [
        over("distillation", "one-hot", "average"),
        over("AdaAlpha", "distillation", hard),
        over("AdaMargin", "distillation", hard),
    ]
    if "Zhou et al." in rows:
        findings.append(over("Zhou et al.", "distillation", "average"))
        findings.append(over("AdaAlpha", "Zhou et al.", hard))
    return Table(
        name=name,
        source=f"Lukasik et al. (TMLR 2022), {number}",
        cells=tuple(cells),
        findings=tuple(findings),
        parts=(Part(_methods(rows)),),
    )


def table_4(dataset: str) -> Table:
    """Return Table 4: a small student with teachers of three sizes."""
    metrics = ("average", "worst-10", "worst-20")
    paper = _TABLE_4 if dataset == "cifar100-lt" else {}
    cells = []
    for part, teacher in enumerate(_TABLE_4):
        one_hot = _TABLE_4_ONE_HOT if paper else None
        known = {"one-hot": one_hot} | paper.get(teacher, {})
        cells += [
            Cell(row, teacher, _MODELS[row], _numbers(metrics, known.get(row)), part)
            for row in ("one-hot", "distillation", "AdaAlpha", "AdaMargin")
        ]
    findings = tuple(
        Finding(
            f"{row} has a better worst-10 accuracy than distillation, whatever the teacher",
            lambda v, row=row: all(  # type: ignore[misc]
                v[row, teacher, "worst-10"] > v["distillation", teacher, "worst-10"]
                for teacher in _TABLE_4
            ),
        )
        for row in ("AdaAlpha", "AdaMargin")
    )
    return Table(
        name="pet-4",
        source="Lukasik et al. (TMLR 2022), Table 4",
        cells=tuple(cells),
        findings=findings,
        parts=tuple(
            Part(
                "one_hot,ada_alpha,ada_margin",
                networks=(teacher, "resnet14"),
                small_networks=(small, "resnet8"),
            )
            for teacher, small in zip(_TABLE_4, ("resnet20", "resnet14", "resnet8"), strict=True)
        ),
    )


def table_10(dataset: str) -> Table:
    """Return Table 10: repeated distillation."""
    tenth = _hardest(dataset)
    metrics = ("average", f"worst-{tenth}", "top-10%", "delta-10%")
    models: dict[str, What] = {
        "one-hot": _ONE_HOT,
        "distillation": _DISTILLED,
        "distillation twice": Of("repeated_distillation", {"rounds": 2}),
        "distillation three times": Of("repeated_distillation", {"rounds": 3}),
    }
    paper = _TABLE_10 if dataset == "cifar100-lt" else {}
    worst = metrics[1]
    return Table(
        name="pet-10",
        source="Lukasik et al. (TMLR 2022), Table 10",
        cells=tuple(
            Cell(row, "", what, _numbers(metrics, paper.get(row))) for row, what in models.items()
        ),
        findings=(
            Finding(
                "each round widens the gap between the best and the worst classes",
                lambda v: (
                    v["one-hot", "", "delta-10%"]
                    < v["distillation", "", "delta-10%"]
                    < v["distillation twice", "", "delta-10%"]
                ),
            ),
            Finding(
                f"repeated distillation has a worse {worst} accuracy than one-hot labels",
                lambda v: v["distillation twice", "", worst] < v["one-hot", "", worst],
            ),
        ),
        parts=(Part("one_hot,repeated_distillation", temperatures=(1.0,)),),
    )


def table_11(dataset: str) -> Table:
    """Return Table 11: the effect of AdaAlpha's weights."""
    metrics = _worst_metrics(dataset)
    models: dict[str, What] = {
        "AdaAlpha": Of("ada_alpha"),
        "AdaAlpha, hardest 10 % removed": Of("ada_alpha_remove_hardest"),
        "AdaAlpha, shuffled": Of("ada_alpha_shuffled"),
        "Zhou et al.": Of("weighted_soft_labels"),
    }
    paper = _TABLE_11 if dataset == "cifar100" else {}
    hard = metrics[-1]

    def beats(row: str) -> Finding:
        def holds(v: Mapping[Key, float]) -> bool:
            return v["AdaAlpha", "", hard] > v[row, "", hard]

        return Finding(f"AdaAlpha has a better {hard} accuracy than {row}", holds)

    methods = "ada_alpha,ada_alpha_remove_hardest,ada_alpha_shuffled,weighted_soft_labels"
    return Table(
        name="pet-11",
        source="Lukasik et al. (TMLR 2022), Table 11",
        cells=tuple(
            Cell(row, "", what, _numbers(metrics, paper.get(row))) for row, what in models.items()
        ),
        findings=tuple(beats(row) for row in list(models)[1:]),
        parts=(Part(methods),),
    )


def _hardest(dataset: str) -> int:
    """Return the number of classes of the worst subgroup; one for ten classes or fewer."""
    return 1 if dataset.partition("-")[0] in ("cifar10", "digits") else 10


def _worst_metrics(dataset: str) -> tuple[str, ...]:
    if _hardest(dataset) == 1:
        return "average", "worst-1"
    if dataset == "imagenet-lt":
        return "average", "worst-1", "worst-10", "worst-100"
    return "average", "worst-1", "worst-10"


def _numbers(
    metrics: tuple[str, ...], figures: tuple[float | None, ...] | None
) -> dict[str, float | None]:
    return dict(zip(metrics, figures or (None,) * len(metrics), strict=True))


def _methods(rows: list[str]) -> str:
    return ",".join(what.method for row in rows if isinstance(what := _MODELS[row], Of))


TABLES = {
    "pet-1": table_1,
    "pet-3": table_3,
    "pet-4": table_4,
    "pet-5": table_5,
    "pet-10": table_10,
    "pet-11": table_11,
}
