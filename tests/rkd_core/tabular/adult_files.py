"""Synthetic UCI Adult files in the published form."""

import random
from pathlib import Path

from rkd_core.tabular.adult import CATEGORIES, COLUMNS

ROW = (
    "39, State-gov, 77516, Bachelors, 13, Never-married, Adm-clerical, Not-in-family, White, Male, "
    "2174, 0, 40, United-States, <=50K"
)


def write_adult(folder: Path, train: int = 300, test: int = 150, seed: int = 0) -> Path:
    """Both files; income follows from age and hours, but for noise. Returns the folder."""
    folder.mkdir(parents=True, exist_ok=True)
    rng = random.Random(seed)
    data = "".join(f"{row(rng)}\n" for _ in range(train)) + "\n"
    held_out = "|1x3 Cross validator\n" + "".join(f"{row(rng)}.\n" for _ in range(test)) + "\n"
    (folder / "adult.data").write_text(data)
    (folder / "adult.test").write_text(held_out)
    return folder


def row(rng: random.Random) -> str:
    age, hours = rng.randrange(17, 90), rng.randrange(1, 99)
    given = {"age": age, "hours-per-week": hours}
    fields = [
        rng.choice(CATEGORIES[column]) if values else str(given.get(column, rng.randrange(10**6)))
        for column, values in COLUMNS.items()
    ]
    return ", ".join([*fields, ">50K" if age + hours + rng.gauss(0, 20) > 110 else "<=50K"])
