"""The tables as files: the numbers of the records, and names that break nothing."""

import csv
import io
import re

import numpy as np
import pytest

from analysis.runs.loading import load
from analysis.select import main
from analysis.selection.outcome import assess
from analysis.views.markup import csv_text, latex_text, markdown_text
from analysis.views.table_files import as_csv, as_latex, as_markdown, write_tables
from analysis.views.tables import Accuracy, Column, Sheet, sheets
from tests.analysis import worlds

NASTY = (
    "a & b",
    "under_score",
    "pipe|pipe",
    'say "hi", twice',
    "=1+2",
    "@SUM(A1)",
    "[x]",
    "*x*",
    "50%$#{}~^\\",
    "new\nline",
)
NAMES = {"combinations", "nine_combinations", "teachers", "other_methods", "classes", "groups"}


def world(seeds=2, names=NASTY):
    rows = worlds.sweep(seeds=seeds, images=50)
    for seed in range(seeds):
        for label in ("kd", "post_shift"):
            own = {"epochs": 0} if label == "post_shift" else {}
            counts = worlds.draw(np.random.default_rng(seed), 0.8, 0.6, 50, 10)
            common = {"dataset": "cifar10", "seed": seed, "teacher_id": f"teacher-standard-{seed}"}
            rows.append(worlds.variant(f"{label}-{seed}", label, **common, **counts, **own))
    tail = [500 // 2**label for label in range(10)]
    return [r | {"class_names": list(names), "train_class_total": tail} for r in rows]


def written(tmp_path, rows):
    runs = load(worlds.write(tmp_path / "results", rows))
    outcome = assess(runs)
    write_tables(tmp_path / "tables", sheets(runs, outcome))
    return outcome, tmp_path / "tables"


def read(folder, name):
    with (folder / f"{name}.csv").open(newline="", encoding="utf-8") as source:
        return list(csv.DictReader(source))


def mean_and_error(values):
    n = len(values)
    mean = sum(values) / n
    if n == 1:
        return mean, None
    return mean, (sum((v - mean) ** 2 for v in values) / (n - 1) / n) ** 0.5


def figure(row, name):
    error = row[f"{name}_se"]
    return float(row[name]), None if error == "" else float(error)


@pytest.mark.parametrize("seeds", [1, 3])
def test_every_combination_with_the_figures_of_its_records(tmp_path, seeds):
    rows = world(seeds)
    _, folder = written(tmp_path, rows)
    assert {p.name for p in folder.iterdir()} == {
        f"{n}.{s}" for n in NAMES for s in ("csv", "tex", "md")
    }
    by_id = {r["run_id"]: r for r in rows}
    found = read(folder, "combinations")
    assert len(found) == 4 * 4 * 2
    for table, count in (("combinations", 32), ("teachers", 4), ("other_methods", 2)):
        found = read(folder, table)
        assert len(found) == count
        for row in found:
            runs = [by_id[name] for name in row["run_ids"].split()]
            assert int(row["seeds"]) == len(runs) == seeds
            for name in ("worst_class", "average"):
                for split in ("val", "test"):
                    key = f"{split}_{name}_accuracy"
                    mean, error = mean_and_error([run[key] for run in runs])
                    assert figure(row, key) == (pytest.approx(mean), pytest.approx(error))
            for name in ("teacher_objective", "alpha_t", "student_objective", "alpha_s"):
                if name in row:
                    assert row[name] == ("" if runs[0][name] is None else str(runs[0][name]))


def test_notable_combinations_are_marked(tmp_path):
    outcome, folder = written(tmp_path, world())
    c, selection = outcome.selection.combinations, outcome.selection
    noted = {r["note"]: r["run_ids"].split() for r in read(folder, "combinations") if r["note"]}
    assert noted == {
        "selected": c.run_ids(selection.selected),
        "standard distillation": c.run_ids(selection.reference),
    }
    admitted = [row["admitted"] == "yes" for row in read(folder, "combinations")]
    assert admitted == selection.admitted.tolist()
    assert not all(admitted)
    nine = read(folder, "nine_combinations")
    assert 9 <= len(nine) <= 11
    assert {r["note"] for r in nine} == {"", *noted}
    methods = {row["method"]: row["note"] for row in read(folder, "other_methods")}
    assert methods == {"kd": "", "post_shift": "fitted to validation"}


def test_each_class_of_three_models(tmp_path):
    rows = world()
    outcome, folder = written(tmp_path, rows)
    by_id = {r["run_id"]: r for r in rows}
    c, selection = outcome.selection.combinations, outcome.selection
    selected = [by_id[name] for name in c.run_ids(selection.selected)]
    models = {
        "standard": [by_id[name] for name in c.run_ids(selection.reference)],
        "selected": selected,
        "teacher": [by_id[run["teacher_id"]] for run in selected],
    }
    found = read(folder, "classes")
    assert [row["train_images"] for row in found] == [str(500 // 2**label) for label in range(10)]
    for label, row in enumerate(found):
        assert (row["val_images"], row["test_images"]) == ("50", "50")
        for name, runs in models.items():
            for split in ("val", "test"):
                mean, error = mean_and_error(
                    [r[f"{split}_class_correct"][label] / 50 for r in runs]
                )
                expected = (pytest.approx(mean), pytest.approx(error))
                assert figure(row, f"{name}_{split}") == expected


def test_groups_are_means_over_their_classes(tmp_path):
    rows = world()
    outcome, folder = written(tmp_path, rows)
    c, selection = outcome.selection.combinations, outcome.selection
    runs = [r for r in rows if r["run_id"] in c.run_ids(selection.selected)]
    found = {row["group"]: row for row in read(folder, "groups")}
    assert sum(int(row["classes"]) for row in found.values()) == 10
    first = range(int(found["head"]["classes"]))
    mean = np.mean([[r["test_class_correct"][label] / 50 for label in first] for r in runs])
    assert float(found["head"]["selected_test"]) == pytest.approx(mean)


def test_without_teachers_methods_and_training_counts(tmp_path):
    rows = [r | {"train_class_total": None} for r in worlds.sweep() if r["stage"] == "student"]
    _, folder = written(tmp_path, rows)
    assert {p.stem for p in folder.iterdir()} == {"combinations", "nine_combinations", "classes"}
    assert "training" not in (folder / "classes.md").read_text()
    assert "teacher_val" not in read(folder, "classes")[0]


def test_nasty_names_in_csv(tmp_path):
    _, folder = written(tmp_path, world())
    names = [row["class"] for row in read(folder, "classes")]
    expected = [name.replace("\n", " ") for name in NASTY]
    expected[4], expected[5] = "'=1+2", "'@SUM(A1)"
    assert names == expected


@pytest.mark.parametrize("text", ["=1", "+1", "-1", "@x", "\t=1", " =1", "\r=1", "\n=1"])
def test_formulas_are_texts(text):
    assert csv_text(text).startswith("'")


@pytest.mark.parametrize("text", ["1=1", "a-b", "'=1", "0", "x@y"])
def test_text_that_is_not_a_formula_stays(text):
    assert csv_text(text) == text


def test_nasty_names_in_latex(tmp_path):
    _, folder = written(tmp_path, world())
    text = (folder / "classes.tex").read_text()
    body = text.split("\\midrule\n")[1].split("\\bottomrule")[0].splitlines()
    assert len(body) == 10
    for line in body:
        assert line.endswith(r" \\")
        assert len(re.findall(r"(?<!\\)&", line)) == 9
        assert not line.startswith(("[", "*"))
    cells = [line.split(" & ")[0] for line in body]
    assert cells[1:4] == [
        r"under\_score",
        r"pipe\textbar{}pipe",
        r"say \textquotedbl{}hi\textquotedbl{}, twice",
    ]
    assert body[0].startswith(r"a \& b & ")
    assert cells[6:] == [
        "{[}x]",
        "{*}x{*}",
        r"50\%\$\#\{\}\textasciitilde{}\textasciicircum{}\textbackslash{}",
        "new line",
    ]
    assert text.startswith("% ")
    assert latex_text("a--b `c` <α>") == (
        r"a-{}-b \textasciigrave{}c\textasciigrave{} \textless{}$\alpha$\textgreater{}"
    )


def test_nasty_names_in_markdown(tmp_path):
    _, folder = written(tmp_path, world())
    lines = (folder / "classes.md").read_text().splitlines()[2:]
    assert {len(re.findall(r"(?<!\\)\|", line)) for line in lines} == {11}
    assert lines[4].startswith(r"| pipe\|pipe | ")
    assert markdown_text("<b> [x](y) `z`\n# 1") == r"\<b\> \[x\](y) \`z\` \# 1"


def test_nothing_breaks_out_of_a_comment():
    sheet = Sheet("x", "a\n\\input{/etc/passwd}", (Column("n", "n"),), ((1,),))
    assert as_latex(sheet).splitlines()[0] == r"% a \textbackslash{}input\{/etc/passwd\}"


def test_numbers_for_people_and_for_programs():
    columns = (Column("a", "a", "over", accuracy=True), Column("n", "n"), Column("x", "x"))
    cells = (
        (Accuracy(1 / 3, 0.0123), 1234, 0.5),
        (Accuracy(2 / 3), 5, None),
        (Accuracy(np.nan), 6, 1.0),
    )
    sheet = Sheet("x", "x", columns, cells)
    assert list(csv.reader(io.StringIO(as_csv(sheet)))) == [
        ["a", "a_se", "n", "x"],
        [str(1 / 3), "0.0123", "1234", "0.5"],
        [str(2 / 3), "", "5", ""],
        ["", "", "6", "1.0"],
    ]
    assert as_markdown(sheet).splitlines()[2:] == [
        "| over a | n | x |",
        "| ---: | ---: | ---: |",
        "| 33.3 ± 1.2 | 1,234 | 0.5 |",
        "| 66.7 | 5 |  |",
        "| — | 6 | 1 |",
    ]
    assert as_latex(sheet).splitlines()[2:] == [
        r"\begin{tabular}{@{}rrr@{}}",
        r"\toprule",
        r"\multicolumn{1}{c}{over} & \multicolumn{2}{c}{} \\",
        r"\cmidrule(lr){1-1}",
        r"a & n & x \\",
        r"\midrule",
        r"33.3 $\pm$ 1.2 & 1,234 & 0.5 \\",
        r"66.7 & 5 &  \\",
        r"--- & 6 & 1 \\",
        r"\bottomrule",
        r"\end{tabular}",
    ]


@pytest.mark.parametrize(("rows", "environment"), [(40, "tabular"), (41, "longtable")])
def test_long_tables_break_pages(rows, environment):
    text = as_latex(Sheet("x", "x", (Column("n", "n"),), tuple((i,) for i in range(rows))))
    assert f"\\begin{{{environment}}}" in text
    assert f"\\end{{{environment}}}" in text
    assert (r"\endhead" in text) == (environment == "longtable")


def test_the_command_writes_them(tmp_path, capsys):
    results = worlds.write(tmp_path / "results", world())
    arguments = [str(results), "--no-figures", "--worst-k", "2", "--tables"]
    assert main([*arguments, str(tmp_path / "new" / "tables")]) == 0
    assert f"Wrote tables in {tmp_path / 'new' / 'tables'}" in capsys.readouterr().out
    assert "val_worst_2_accuracy" in read(tmp_path / "new" / "tables", "combinations")[0]
    (tmp_path / "file").write_text("mine")
    assert main([*arguments, str(tmp_path / "file")]) == 2
    shown = capsys.readouterr()
    assert shown.err.startswith(f"error: --tables {tmp_path / 'file'} cannot be written")
    assert shown.err.count("\n") == 1
    assert (tmp_path / "file").read_text() == "mine"
