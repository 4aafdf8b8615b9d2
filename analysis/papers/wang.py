"""Tables of Robust Distillation (Wang, Narasimhan, Zhou, Hooker, Lukasik and Menon, UAI 2023)."""

from __future__ import annotations

from collections.abc import Callable, Mapping

from analysis.papers.definitions import (
    Cell,
    Finding,
    Key,
    Of,
    Pair,
    Part,
    Selected,
    Table,
    TeacherAlone,
    What,
)
from rkd_core.objectives import OBJECTIVES

__all__ = ["TABLES"]

# Worst-class and average accuracy (on long-tailed TinyImageNet worst-10): rows are students,
# columns teachers.
_BALANCED_SETS = ("standard", "robust")
_LONG_TAILED = ("standard", "balanced", "robust")
_TABLE_1: dict[str, dict[str, tuple[tuple[float, float], ...]]] = {
    "cifar10": {
        "teacher": ((86.48, 93.74), (90.09, 92.67)),
        "standard": ((87.66, 94.34), (90.12, 94.07)),
        "robust": ((90.94, 92.54), (85.14, 89.58)),
    },
    "cifar100": {
        "teacher": ((42.22, 72.42), (43.42, 68.81)),
        "standard": ((43.81, 74.61), (45.33, 73.67)),
        "robust": ((42.96, 68.71), (27.59, 54.79)),
    },
    "tiny-imagenet": {
        "teacher": ((8.42, 56.79), (11.87, 48.40)),
        "standard": ((6.32, 57.83), (10.53, 55.36)),
        "robust": ((9.98, 49.84), (16.58, 46.11)),
    },
    "cifar10-lt": {
        "teacher": ((57.26, 76.27), (68.52, 79.85), (74.80, 80.29)),
        "standard": ((36.67, 69.50), (66.96, 79.25), (71.15, 80.95)),
        "balanced": ((71.23, 80.50), (70.52, 81.12), (72.96, 80.71)),
        "robust": ((63.85, 76.81), (75.56, 80.81), (69.21, 76.72)),
    },
    "cifar100-lt": {
        "teacher": ((0.00, 43.33), (3.75, 47.55), (10.33, 44.27)),
        "standard": ((0.00, 43.86), (2.39, 48.95), (7.32, 47.93)),
        "balanced": ((4.39, 50.40), (7.08, 50.10), (7.19, 47.51)),
        "robust": ((9.05, 33.75), (12.52, 34.05), (10.32, 36.83)),
    },
    "tiny-imagenet-lt": {
        "teacher": ((0.00, 33.15), (2.11, 35.96), (4.92, 27.23)),
        "standard": ((0.00, 26.05), (0.00, 27.21), (1.87, 25.34)),
        "balanced": ((0.20, 30.43), (2.82, 39.41), (4.77, 38.41)),
        "robust": ((0.00, 22.66), (4.93, 35.43), (3.32, 25.11)),
    },
}

# Average and worst-class accuracy (on long-tailed TinyImageNet worst-10).
_TABLE_2: dict[str, dict[str, tuple[float, float]]] = {
    "cifar10": {
        "selected": (94.28, 90.11),
        "standard distillation": (94.34, 87.66),
        "post shift": (92.16, 88.60),
        "robust student": (92.72, 89.90),
        "AdaMargin": (93.69, 88.42),
        "AdaAlpha": (94.31, 88.33),
        "Group DRO": (92.34, 89.32),
    },
    "cifar100": {
        "selected": (73.22, 48.40),
        "standard distillation": (74.61, 43.81),
        "post shift": (61.22, 38.19),
        "robust student": (68.45, 43.62),
        "AdaMargin": (73.58, 43.91),
        "AdaAlpha": (74.15, 45.46),
        "Group DRO": (65.18, 43.89),
    },
    "tiny-imagenet": {
        "selected": (58.09, 9.47),
        "standard distillation": (57.83, 6.32),
        "post shift": (43.02, 14.39),
        "robust student": (48.06, 16.27),
        "AdaMargin": (52.45, 15.41),
        "AdaAlpha": (57.22, 7.62),
        "Group DRO": (48.78, 11.38),
    },
    "cifar10-lt": {
        "selected": (79.02, 75.43),
        "standard distillation": (77.39, 60.12),
        "post shift": (78.28, 74.33),
        "robust student": (80.05, 74.91),
        "balanced student": (81.36, 71.60),
        "AdaMargin": (72.69, 47.52),
        "AdaAlpha": (70.83, 43.64),
        "Group DRO": (74.39, 59.93),
    },
    "cifar100-lt": {
        "selected": (43.94, 14.52),
        "standard distillation": (46.01, 0.00),
        "post shift": (29.88, 10.01),
        "robust student": (30.79, 12.28),
        "balanced student": (50.40, 4.39),
        "AdaMargin": (31.26, 0.00),
        "AdaAlpha": (42.52, 0.00),
        "Group DRO": (40.47, 0.19),
    },
    "tiny-imagenet-lt": {
        "selected": (26.91, 6.04),
        "standard distillation": (26.05, 0.00),
        "post shift": (21.32, 2.58),
        "robust student": (21.59, 1.55),
        "balanced student": (30.43, 0.20),
        "AdaMargin": (4.41, 0.00),
        "AdaAlpha": (27.95, 0.00),
        "Group DRO": (27.78, 0.00),
    },
}
_METHODS: dict[str, What] = {
    "selected": Selected(),
    "standard distillation": Pair(),
    "post shift": Of("post_shift"),
    "robust student": Pair(None, 1.0),
    "balanced student": Pair(None, 0.0),
    "AdaMargin": Of("ada_margin"),
    "AdaAlpha": Of("ada_alpha"),
    "Group DRO": Of("group_dro"),
}


def _worst(dataset: str) -> str:
    return "worst-10" if dataset == "tiny-imagenet-lt" else "worst-1"


def table_1(dataset: str) -> Table:
    """Return Table 1: standard, balanced and robust objectives of teachers and students."""
    paper, worst = _TABLE_1.get(dataset), _worst(dataset)
    long_tailed = paper is None or "balanced" in paper
    objectives = _LONG_TAILED if long_tailed else _BALANCED_SETS
    cells = []
    for row in ("teacher", *objectives):
        for place, column in enumerate(objectives):
            figures = (None, None) if paper is None else paper[row][place]
            alpha_t = OBJECTIVES[column].alpha
            alone = TeacherAlone(alpha_t)
            what = alone if row == "teacher" else Pair(alpha_t, OBJECTIVES[row].alpha)
            numbers = dict(zip((worst, "average"), figures, strict=True))
            cells.append(Cell(_student(row), f"{column} teacher", what, numbers))
    pairs = [cell for cell in cells if isinstance(cell.what, Pair)]

    def at(student: str, teacher: str, metric: str = worst) -> Key:
        return _student(student), f"{teacher} teacher", metric

    def best(v: Mapping[Key, float], metric: str = worst) -> float:
        return max(v[cell.row, cell.column, metric] for cell in pairs)

    def rank_differs(v: Mapping[Key, float]) -> bool:
        teachers = max(objectives, key=lambda name: v[at("teacher", name)])
        students = max(objectives, key=lambda n: max(v[at(s, n)] for s in objectives))
        return teachers != students

    plain = at("standard", "standard")
    findings = [
        Finding(
            "a robust teacher gives a standard student a better worst class",
            lambda v: v[at("standard", "robust")] > v[plain],
        ),
        Finding(
            "a robust student has a better worst class than standard distillation",
            lambda v: v[at("robust", "standard")] > v[plain],
        ),
        Finding(
            "robust twice is not the best: some other pair has a better worst class",
            lambda v: v[at("robust", "robust")] < best(v),
        ),
        Finding(
            "robust twice costs average accuracy against standard distillation",
            lambda v: (
                v[at("robust", "robust", "average")] < v[at("standard", "standard", "average")]
            ),
        ),
        Finding(
            "a robust student loses average accuracy to a standard one on the robust teacher",
            lambda v: v[at("robust", "robust", "average")] < v[at("standard", "robust", "average")],
        ),
    ]
    if long_tailed:
        findings += [
            Finding(
                "a robust student of the balanced teacher has the best worst class of all",
                lambda v: v[at("robust", "balanced")] >= best(v),
            ),
            Finding(
                "the teacher with the best worst class is not the one of the best student",
                rank_differs,
            ),
        ]
    return Table(
        name="wang-1",
        source="Wang et al. (UAI 2023), Table 1",
        cells=tuple(cells),
        findings=tuple(findings),
        parts=(Part("tradeoff", alphas=(0.0, 1.0) if long_tailed else (1.0,)),),
        remark="The paper's Tables 1 and 2 disagree where they seem to be of the same students.",
    )


def table_2(dataset: str) -> Table:
    """Return Table 2: the selected pair against baselines."""
    paper, worst = _TABLE_2.get(dataset), _worst(dataset)
    rows = list(_METHODS if paper is None else paper)
    cells = []
    for row in rows:
        figures = (None, None) if paper is None else paper[row]
        numbers = dict(zip(("average", worst), figures, strict=True))
        what = Selected(int(worst.removeprefix("worst-"))) if row == "selected" else _METHODS[row]
        cells.append(Cell(row, "", what, numbers))

    def beats(row: str) -> Callable[[Mapping[Key, float]], bool]:
        return lambda v: v["selected", "", worst] > v[row, "", worst]

    findings = [
        Finding(f"the selected pair has a better worst class than {row}", beats(row))
        for row in rows[1:]
        if paper is None or paper[row][1] < paper["selected"][1]
    ]
    findings.append(
        Finding(
            "it keeps the average of standard distillation, to a point",
            lambda v: v["selected", "", "average"] >= v["standard distillation", "", "average"] - 1,
        )
    )
    methods = "tradeoff,post_shift,ada_margin,ada_alpha,group_dro"
    return Table(
        name="wang-2",
        source="Wang et al. (UAI 2023), Table 2",
        cells=tuple(cells),
        findings=tuple(findings),
        parts=(Part(methods),),
        remark="The paper's Tables 1 and 2 disagree where they seem to be of the same students.",
    )


def _student(row: str) -> str:
    return "teacher alone" if row == "teacher" else f"{row} student"


TABLES = {"wang-1": table_1, "wang-2": table_2}
