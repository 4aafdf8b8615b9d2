"""Tables and lines fit their console."""

import io

import pytest
from rich.text import Text

from rkd_core.text.console import Console, Table, hanging


def shown(item, width, **options):
    console = Console(file=io.StringIO(), width=width, **options)
    console.print(item, highlight=False)
    return console.file.getvalue()


@pytest.fixture
def table():
    table = Table(keys=3)
    table.add_column("\n")
    table.add_column("\nstudent", overflow="fold", min_width=1)
    table.add_column("\nT", justify="right")
    for split in ("validation", "test"):
        table.add_column(f"{split}\nworst", justify="right")
        table.add_column("\naverage", justify="right")
    table.add_column("gain in\nworst", justify="right")
    table.add_row(
        "▸", "standard", "1", "43.9±1.2", "89.7±1.0", "48.5±0.1", "91.2±0.7", "", style="bold"
    )
    table.add_row()
    table.add_row(
        "", "α 0", "3", "65.9±1.2", "93.7±1.0", "54.5±0.1", Text("92.0±0.7"), "+6.4 +26.5"
    )
    return table


def test_a_table_with_room_is_one(table):
    lines = shown(table, 80).splitlines()
    assert lines[0].split() == ["validation", "test", "gain", "in"]
    assert lines[2].split() == [
        "▸",
        "standard",
        "1",
        "43.9±1.2",
        "89.7±1.0",
        "48.5±0.1",
        "91.2±0.7",
    ]
    assert len(lines) == 5


def test_a_table_without_room_says_every_figure_with_its_heading(table):
    text = shown(table, 40)
    assert [line.rstrip() for line in text.splitlines()] == [
        "▸ student standard T 1",
        "  validation worst 43.9±1.2, average",
        "    89.7±1.0",
        "  test worst 48.5±0.1, average 91.2±0.7",
        "",
        "student α 0 T 3",
        "  validation worst 65.9±1.2, average",
        "    93.7±1.0",
        "  test worst 54.5±0.1, average 92.0±0.7",
        "  gain in worst +6.4 +26.5",
    ]


def test_names_fold_before_figures_are_cut(table):
    table.add_row("", "a method of a long name", "1", "1.0", "2.0", "3.0", "4.0", "5.0")
    lines = shown(table, 76).splitlines()
    assert max(map(len, lines)) <= 76
    assert all(figure in "\n".join(lines) for figure in ("43.9±1.2", "92.0±0.7", "+6.4 +26.5"))


@pytest.mark.parametrize("width", [20, 30, 40, 60, 80, 200])
def test_nothing_is_cut_or_too_wide(table, width):
    text = shown(table, width)
    assert "…" not in text
    assert max(map(len, text.splitlines())) <= width
    for figure in ("43.9±1.2", "89.7±1.0", "48.5±0.1", "92.0±0.7", "+26.5"):
        assert figure in text


def test_one_name_heads_the_rows():
    table = Table()
    table.add_column("  group")
    table.add_column("images")
    table.add_row("  head", "1,000")
    assert shown(table, 80) == "  group  images\n  head   1,000 \n"
    assert shown(table, 12) == "group\n  head\n  images\n    1,000\n"


def test_a_line_hangs_where_it_is_too_long():
    line = Text("  one two three four")
    assert shown(hanging(line), 20) == "  one two three four\n"
    assert shown(hanging(line), 14) == "  one two\n    three four\n"
    assert shown(hanging(line, 0), 14) == "  one two\n  three four\n"


def test_a_log_keeps_one_line():
    assert shown(hanging(Text("  one two three four")), 8, soft_wrap=True).count("\n") == 1


def test_a_style_is_the_paragraphs_too(table):
    text = shown(table, 40, force_terminal=True, color_system="truecolor")
    assert "\x1b[1m  test" in text or "\x1b[1mtest" in text
