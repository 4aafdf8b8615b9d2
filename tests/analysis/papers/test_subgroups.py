"""Counts and intervals of subgroups against plain loops, and the tables made of them."""

import csv
import io
import math
from statistics import mean, stdev

import numpy as np
import pytest
from rich.console import Console

from analysis.papers.adult import GROUPS, PAPER, document, print_tables, to_csv
from analysis.papers.subgroups import Tally, count, over_rows, over_seeds, stack


@pytest.fixture(name="tally")
def three_seeds() -> Tally:
    """Random answers; the first seed has no Indian woman of label 1, and nobody the last group."""
    rng = np.random.default_rng(0)
    tallies = []
    for seed in range(3):
        group = rng.integers(6, len(GROUPS) - 1 - (seed == 0), size=800)
        group[group == 6] = 6 if seed else 7
        label = np.array([GROUPS[g].label for g in group])
        masks = np.array(
            [
                (label == wanted.label)
                & np.array([wanted.sex in (None, GROUPS[g].sex) for g in group])
                & np.array([wanted.race in (None, GROUPS[g].race) for g in group])
                for wanted in GROUPS
            ]
        )
        tallies.append(count(masks, *(rng.random((3, 800)) < [[0.9], [0.7], [0.8]])))
    return stack(tallies)


def test_counts_of_a_seed() -> None:
    groups = np.array([[1, 1, 1, 0], [0, 0, 0, 1], [0, 0, 0, 0]], dtype=bool)
    teacher = np.array([1, 1, 1, 1], dtype=bool)
    one_hot = np.array([1, 0, 0, 1], dtype=bool)
    distilled = np.array([0, 1, 1, 1], dtype=bool)
    found = count(groups, teacher, one_hot, distilled)
    assert found.total.tolist() == found.teacher.tolist() == [3, 1, 0]
    assert found.one_hot.tolist() == [1, 1, 0]
    assert found.distilled.tolist() == [2, 1, 0]
    assert found.gained.tolist() == [2, 0, 0]
    assert found.lost.tolist() == [1, 0, 0]
    np.testing.assert_allclose(found.delta, [1 / 3, 0, math.nan])


def test_balanced_accuracy_is_the_mean_of_two_recalls(tally: Tally) -> None:
    models = document(tally, (0, 1, 2))["models"]
    for name in ("teacher", "one_hot", "distilled"):
        right = getattr(tally, name)
        each = []
        for seed in range(3):
            of_0 = right[seed, 0] / tally.total[seed, 0]
            of_1 = right[seed, 1] / tally.total[seed, 1]
            each.append(100 * (of_0 + of_1) / 2)
        assert models[name]["per_seed"] == pytest.approx(each)
        assert models[name]["balanced_accuracy"] == pytest.approx(mean(each))


def test_delta_is_the_difference_of_accuracies(tally: Tally) -> None:
    rows = document(tally, (0, 1, 2))["subgroups"]
    assert [(r["label"], r["sex"], r["race"]) for r in rows] == [
        (g.label, g.sex, g.race) for g in GROUPS
    ]
    for i, row in enumerate(rows):
        for seed in range(3):
            n = tally.total[seed, i]
            found = row["per_seed"][seed]
            assert found["rows"] == n
            if n:
                difference = (tally.distilled[seed, i] - tally.one_hot[seed, i]) / n
                assert found["delta"] == pytest.approx(100 * difference)
            else:
                assert found["delta"] is None
    assert tally.total[0, 6] == 0 < tally.total[1, 6]
    assert rows[6]["delta"] == pytest.approx(mean(s["delta"] for s in rows[6]["per_seed"][1:]))
    assert rows[-1]["delta"] is rows[-1]["rows_low"] is rows[-1]["seeds_half_width"] is None
    assert [row["paper_delta"] for row in rows] == list(PAPER.values())


def test_interval_over_seeds() -> None:
    values = np.array([[1.0, 5.0, math.nan], [2.0, math.nan, math.nan], [4.0, math.nan, math.nan]])
    middle, half = over_seeds(values)
    np.testing.assert_allclose(middle, [7 / 3, 5, math.nan])
    t = 4.302652729911275  # 97.5 % of Student's t with 2 degrees of freedom, from tables
    assert half[0] == pytest.approx(t * stdev([1, 2, 4]) / 3**0.5)
    assert math.isnan(half[1])
    assert math.isnan(half[2])


def test_interval_of_rows() -> None:
    """Compare with the formula of Agresti and Min on the four cells of a paired table."""
    cells = [
        (50, 12, 3, 35),
        (3, 0, 0, 0),
        (0, 0, 1, 0),
        (2, 900, 0, 1),
    ]  # both, gained, lost, none
    tally = Tally(
        total=np.array([[sum(c) for c in cells] + [0]]),
        teacher=np.zeros((1, 5), dtype=np.int64),
        one_hot=np.array([[c[0] + c[2] for c in cells] + [0]]),
        distilled=np.array([[c[0] + c[1] for c in cells] + [0]]),
        gained=np.array([[c[1] for c in cells] + [0]]),
        lost=np.array([[c[2] for c in cells] + [0]]),
    )
    low, high = over_rows(tally)
    for i, table in enumerate(cells):
        _, b, c, _ = (cell + 0.5 for cell in table)
        n = sum(table) + 2
        error = math.sqrt(b + c - (b - c) ** 2 / n) / n
        assert low[i] == pytest.approx(max(-1, (b - c) / n - 1.959963984540054 * error))
        assert high[i] == pytest.approx(min(1, (b - c) / n + 1.959963984540054 * error))
        assert low[i] < high[i]
    assert math.isnan(low[4])
    assert math.isnan(high[4])


def test_seeds_do_not_add_information_about_shared_rows(tally: Tally) -> None:
    one = stack([Tally(**{name: counts[1] for name, counts in vars(tally).items()})])
    twice = stack([Tally(**{name: counts[1] for name, counts in vars(tally).items()})] * 2)
    np.testing.assert_allclose(over_rows(one), over_rows(twice))


def test_csv_has_a_line_a_subgroup(tally: Tally) -> None:
    content = document(tally, (0, 1, 2))
    rows = list(csv.DictReader(io.StringIO(to_csv(content))))
    assert len(rows) == len(GROUPS) == 26
    assert float(rows[2]["delta"]) == content["subgroups"][2]["delta"]
    assert rows[-1]["delta"] == ""
    assert "per_seed" not in rows[0]


@pytest.mark.parametrize("seeds", [1, 3])
def test_tables_fit_80_columns_and_say_what_they_are(tally: Tally, seeds: int) -> None:
    first = Tally(**{name: counts[:seeds] for name, counts in vars(tally).items()})
    sink = io.StringIO()
    print_tables(first, Console(file=sink, width=80))
    text = sink.getvalue()
    lines = [line.rstrip() for line in text.splitlines()]
    assert "\x1b" not in text
    assert max(map(len, lines)) <= 80
    assert ("±" in text) == (seeds > 1)
    for paper in ("−66.7", "+25.0", "−2.2", "81.8", "79.3"):
        assert paper in text
    (last,) = [line for line in lines if line.startswith("Amer-Indian-Eskimo  Male        1")]
    assert last.split() == ["Amer-Indian-Eskimo", "Male", "1", "0", "—", "—", "+25.0"]
    assert sum(line.endswith(("−66.7", "+25.0")) for line in lines) == 2


def test_the_papers_tables_are_whole_numbers_of_rows_of_adult_test() -> None:
    """Check that the test set is the published one and that Table 9 adds up to Table 8."""
    counts = [3, 202, 69, 42, 6585, 671, 711, 145, 3871, 41, 514, 63, 77, 26, 2976, 137, 20, 107]
    nine = dict(zip([g for g in GROUPS if g.race], [*counts, 5, 16], strict=True))
    assert sum(nine.values()) == 16_281
    gained = {group: round(n * PAPER[group] / 100) for group, n in nine.items()}
    for wanted, paper in PAPER.items():
        parts = [g for g in nine if g.label == wanted.label and wanted.sex in (None, g.sex)]
        parts = [g for g in parts if wanted.race in (None, g.race)]
        found = 100 * sum(gained[g] for g in parts) / sum(nine[g] for g in parts)
        assert found == pytest.approx(paper, abs=0.1 if wanted.sex is None else 0.001)
