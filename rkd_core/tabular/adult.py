"""Reader of UCI Adult (Kohavi and Becker, 1996): 48,842 people of the 1994 census, and incomes.

The data are the two published files, ``adult.data`` and ``adult.test``: fifteen fields per row,
``?`` for a missing value, comments after ``|``, and in the second file labels that end in a dot.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from rkd_core.datasets.cache import default_folder
from rkd_core.datasets.readers.locate import given_folders
from rkd_core.datasets.readers.paths import unreadable
from rkd_core.errors import UserError, unknown_name

__all__ = ["CATEGORIES", "NUMBERS", "Adult", "find", "read"]

TRAIN, TEST = "adult.data", "adult.test"
MISSING = "?"

COLUMNS = {
    "age": "",
    "workclass": (
        "Private Self-emp-not-inc Self-emp-inc Federal-gov Local-gov State-gov Without-pay "
        "Never-worked ?"
    ),
    "fnlwgt": "",
    "education": (
        "Bachelors Some-college 11th HS-grad Prof-school Assoc-acdm Assoc-voc 9th 7th-8th 12th "
        "Masters 1st-4th 10th Doctorate 5th-6th Preschool"
    ),
    "education-num": "",
    "marital-status": (
        "Married-civ-spouse Divorced Never-married Separated Widowed Married-spouse-absent "
        "Married-AF-spouse"
    ),
    "occupation": (
        "Tech-support Craft-repair Other-service Sales Exec-managerial Prof-specialty "
        "Handlers-cleaners Machine-op-inspct Adm-clerical Farming-fishing Transport-moving "
        "Priv-house-serv Protective-serv Armed-Forces ?"
    ),
    "relationship": "Wife Own-child Husband Not-in-family Other-relative Unmarried",
    "race": "White Asian-Pac-Islander Amer-Indian-Eskimo Other Black",
    "sex": "Female Male",
    "capital-gain": "",
    "capital-loss": "",
    "hours-per-week": "",
    "native-country": (
        "United-States Cambodia England Puerto-Rico Canada Germany Outlying-US(Guam-USVI-etc) "
        "India Japan Greece South China Cuba Iran Honduras Philippines Italy Poland Jamaica "
        "Vietnam Mexico Portugal Ireland France Dominican-Republic Laos Ecuador Taiwan Haiti "
        "Columbia Hungary Guatemala Nicaragua Scotland Thailand Yugoslavia El-Salvador "
        "Trinadad&Tobago Peru Hong Holand-Netherlands ?"
    ),
}
"""All columns except the last, the income, each with the values that the documentation of the data
lists; empty for integer columns."""

NUMBERS = tuple(column for column, values in COLUMNS.items() if not values)
CATEGORIES = {column: tuple(sorted(v.split())) for column, v in COLUMNS.items() if v}
"""Values of each categorical column in alphabetical order, as in scikit-learn's encoders."""

_CODES = {column: {v: i for i, v in enumerate(values)} for column, values in CATEGORIES.items()}
_LABELS = {TRAIN: {"<=50K": 0, ">50K": 1}, TEST: {"<=50K.": 0, ">50K.": 1}}
_MOST_DIGITS = 9
_MOST_SHOWN = 50


@dataclass(frozen=True)
class Adult:
    """Rows of both files, in their order.

    Attributes:
        numbers: Integer columns, int64 ``(rows, 6)``, in the order of ``NUMBERS``.
        codes: Categorical columns, int64 ``(rows, 8)``, as indices into the values of the column
            in ``CATEGORIES``.
        label: Whether the income is over $50K, bool ``(rows,)``.
        published_test: Whether the row is in ``adult.test``, bool ``(rows,)``.
    """

    numbers: NDArray[np.int64]
    codes: NDArray[np.int64]
    label: NDArray[np.bool_]
    published_test: NDArray[np.bool_]

    def __len__(self) -> int:
        return len(self.label)

    def has(self, column: str, value: str) -> NDArray[np.bool_]:
        """Return whether a categorical column has this value, bool ``(rows,)``."""
        return self.codes[:, list(CATEGORIES).index(column)] == _CODES[column][value]

    @property
    def incomplete(self) -> NDArray[np.bool_]:
        """Whether a value of the row is missing, bool ``(rows,)``."""
        columns = [column for column in CATEGORIES if MISSING in _CODES[column]]
        return np.any([self.has(column, MISSING) for column in columns], axis=0)

    def ordinal(self) -> NDArray[np.float32]:
        """Return features ``(rows, 14)``: the numbers, then a code per categorical column."""
        return np.hstack([self.numbers, self.codes]).astype(np.float32)

    def one_hot(self) -> NDArray[np.float32]:
        """Return features ``(rows, 108)``: the numbers, then an indicator per category."""
        columns = zip(self.codes.T, CATEGORIES.values(), strict=True)
        indicators = [codes[:, None] == np.arange(len(values)) for codes, values in columns]
        return np.hstack([self.numbers, *indicators]).astype(np.float32)


def find(data_dir: Path | None = None) -> Path:
    """Return the folder with both files: a data folder, or its subfolder ``adult``.

    Args:
        data_dir: Folder that is searched first, before ``$RKD_DATA_DIR`` and the cache.

    Raises:
        UserError: A data folder does not exist, or the files are not found.
    """
    given = given_folders(data_dir)
    places = [place for folder in given for place in (folder / "adult", folder)]
    places.append(default_folder() / "datasets" / "adult")
    for place in places:
        if (place / TRAIN).exists() and (place / TEST).exists():
            return place
    searched = ", ".join(map(str, places))
    raise UserError(f"UCI Adult was not found; looked for {TRAIN} and {TEST} in {searched}")


def read(folder: Path) -> Adult:
    """Read both files.

    Raises:
        UserError: A file cannot be read or differs from the published format; the message names
            file, line and column.
    """
    rows, sizes = [], []
    for name in (TRAIN, TEST):
        found = _rows(folder / name, _LABELS[name])
        rows += found
        sizes.append(len(found))
    table = np.array(rows, dtype=np.int64)
    place = {column: i for i, column in enumerate(COLUMNS)}
    return Adult(
        numbers=table[:, [place[column] for column in NUMBERS]],
        codes=table[:, [place[column] for column in CATEGORIES]],
        label=table[:, -1].astype(bool),
        published_test=np.repeat([False, True], sizes),
    )


def _rows(path: Path, labels: dict[str, int]) -> list[list[int]]:
    """Return the rows of a file, with each value as an integer."""
    known = {column: _CODES.get(column) for column in COLUMNS} | {"income": labels}
    rows = []
    try:
        with path.open("rb") as lines:
            for number, line in enumerate(lines, start=1):
                text = line.decode("latin1").split("|", 1)[0].strip()
                if text:
                    rows.append(_row(text, known, f"{path}, line {number}"))
    except OSError as error:
        raise unreadable(error, path) from error
    if not rows:
        raise UserError(f"{path} has no rows: it should be the file that UCI published")
    return rows


def _row(text: str, known: dict[str, dict[str, int] | None], where: str) -> list[int]:
    fields = [field.strip() for field in text.split(",")]
    columns = list(known)
    if len(fields) != len(columns):
        short = len(fields) < len(columns)
        column = (
            f"{columns[len(fields)]} is missing" if short else f"{len(columns) + 1} is too many"
        )
        raise UserError(
            f"{where}, column {column}: a row has {len(columns)} fields between commas, from "
            f"{columns[0]} to {columns[-1]}, not {len(fields)}"
        )
    row = []
    for column, field in zip(columns, fields, strict=True):
        codes = known[column]
        if codes is not None:
            if field not in codes:
                problem = unknown_name("value", field[:_MOST_SHOWN], codes)
                raise UserError(f"{where}, column {column}: {problem}")
            row.append(codes[field])
        elif field.isascii() and field.isdigit() and len(field) <= _MOST_DIGITS:
            row.append(int(field))
        else:
            raise UserError(f"{where}, column {column}: {field[:_MOST_SHOWN]!r} is not an integer")
    return row
