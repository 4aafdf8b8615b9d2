"""Typed class names with commas, equal signs, quotes and spaces."""

from __future__ import annotations

import json
import shlex
from collections.abc import Sequence
from pathlib import Path

import pytest

from analysis.select import run
from analysis.selection.criteria import Constrained, Floors, Group
from analysis.selection.rule_options import Rule
from rkd_core.errors import UserError
from tests.analysis import worlds

FISH = ("tench, Tinca tinca", "goldfish, Carassius auratus", "great white shark, white shark")


def group(names: Sequence[str], *texts: str, file: Path | None = None) -> Group:
    rule = Rule(group=texts, groups_file=file).resolve(names)
    assert isinstance(rule, Constrained)
    assert rule.group is not None
    return rule.group


@pytest.mark.parametrize(
    ("names", "texts", "expected"),
    [
        (FISH, ["carp=tench, Tinca tinca,goldfish, Carassius auratus"], (0, 1)),
        (FISH, ["carp=goldfish, Carassius auratus , tench, Tinca tinca"], (1, 0)),
        (FISH, ["carp=tench, Tinca tinca", "carp=goldfish, Carassius auratus"], (0, 1)),
        (FISH, ['{"carp": ["tench, Tinca tinca", "goldfish, Carassius auratus"]}'], (0, 1)),
        (FISH, ["carp=tench, Tinca tinca", '{"carp": ["goldfish, Carassius auratus"]}'], (0, 1)),
        (("cat", "dog"), ["carp=cat, dog"], (0, 1)),
        (("cat", "dog"), ["carp=cat,cat,dog"], (0, 1)),
        (("a=b", "c"), ["carp=a=b,c"], (0, 1)),
        (("a,b=c", "d"), ["carp=a,b=c"], (0,)),
        ((" cat", "dog "), ["carp=cat,dog"], (0, 1)),
        ((" cat", "cat"), ["carp= cat"], (0,)),
        (('5" disk', "it's"), ["carp=5\" disk,it's"], (0, 1)),
        (("a", "a,b", "b,c", "c"), ["carp=a,b,b,c"], (1, 2)),
        ((",", "a,"), ["carp=a,"], (1,)),
    ],
)
def test_a_group_with_one_reading_is_read(
    names: Sequence[str], texts: list[str], expected: tuple[int, ...]
) -> None:
    assert group(names, *texts) == Group("carp", expected)


@pytest.mark.parametrize(
    ("names", "texts", "message"),
    [
        (("a", "b", "a,b"), ["g=a,b"], 'more than one way; write --group \'{"NAME": '),
        (FISH, ["g=tench,goldfish"], r"no class is named tench; did you mean tench, Tinca tinca\?"),
        (FISH, ["g=tench, Tinca tinca,cow"], "no class is named cow; .*write --group '{"),
        ((" a", "a "), ["g=a"], "'a' is more than one class: say ' a' or 'a '"),
        (("a", "b"), ["g=a", "h=b"], r"--group names 2 groups \(g, h\); give one"),
        (("a", "b"), ['{"g": ["a"'], "--group is not JSON"),
        (("a", "b"), ['{"g": ["a"], "h": ["b"]}'], "--group must name one group, not 2"),
        (("a", "b"), ['{"g": "a"}'], "g must be a list of class names"),
        (("a", "b"), ['{"g": [1]}'], "g must be a list of class names"),
        (("a", "b"), ['{"g": []}'], "g has no classes"),
        (("a", "b"), ["g="], "--group must be like animals=cat,dog, not g="),
        (("a", "b"), ["=a"], "--group must be like animals=cat,dog, not =a"),
        (("x=a", "a"), ["g=x=a"], "can be read in more than one way"),
        (("crane (0)", "crane (1)"), ["g=crane"], r"did you mean crane \(\d\) or crane \(\d\)\?"),
    ],
)
def test_any_other_group_is_one_line(names: Sequence[str], texts: list[str], message: str) -> None:
    with pytest.raises(UserError, match=message) as raised:
        group(names, *texts)
    assert "\n" not in str(raised.value)


def test_options_suggested_by_messages_can_be_typed() -> None:
    with pytest.raises(UserError) as raised:
        group(("it's", "b", "it's,b"), "g=it's,b")
    words = shlex.split(str(raised.value).partition("write ")[2].partition(", or --groups-file")[0])
    assert words[0] == "--group"
    assert group(("it's", "b", "it's,b"), words[1]) == Group("NAME", (0, 1))


@pytest.mark.parametrize(
    ("name", "text"),
    [
        ("g.json", '{"carp": ["tench, Tinca tinca", "goldfish, Carassius auratus"]}'),
        ("g.toml", 'carp = ["tench, Tinca tinca", "goldfish, Carassius auratus"]\n'),
        ("g.toml", '[groups]\ncarp = ["tench, Tinca tinca", "goldfish, Carassius auratus"]\n'),
        ("g.CSV", 'class,group\n"tench, Tinca tinca",carp\n"goldfish, Carassius auratus", carp\n'),
        (
            "g.csv",
            '\ufeffgroup,class\ncarp,"tench, Tinca tinca"\ncarp,"goldfish, Carassius auratus"',
        ),
    ],
)
def test_groups_from_a_file(tmp_path: Path, name: str, text: str) -> None:
    path = tmp_path / name
    path.write_text(text, encoding="utf-8")
    assert group(FISH, file=path) == group(FISH, "carp", file=path) == Group("carp", (0, 1))


def test_a_file_in_the_home_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HOME", str(tmp_path))
    (tmp_path / "g.json").write_text('{"a": ["x"], "b": ["y", "x"]}')
    assert group(("x", "y"), "b", file=Path("~/g.json")) == Group("b", (1, 0))


@pytest.mark.parametrize(
    ("name", "text", "texts", "message"),
    [
        ("g.json", None, [], r"--groups-file .*g.json cannot be read: No such file"),
        ("g.json", "[", [], "is not JSON of groups"),
        ("g.txt", "a: b", [], "is not JSON of groups .*; files end in .json, .toml or .csv"),
        ("g.toml", "a = [", [], "is not TOML of groups"),
        ("g.csv", "tench,carp\n", [], "the first line must name the columns group and class"),
        ("g.csv", "group,class\ncarp\n", [], "line 2 must have a group and a class"),
        ("g.json", "{}", [], "must have groups, such as"),
        ("g.json", '{"a": ["cow"]}', [], "no class is named cow"),
        ("g.json", '{"a": ["x"], "b": ["y"]}', [], r"has 2 groups: name one with --group \(a, b\)"),
        ("g.json", '{"a": ["x"]}', ["c"], "unknown group of --groups-file .* 'c': choose one of a"),
        ("g.json", '{"a": ["x"]}', ["a", "a"], "give it once"),
    ],
)
def test_an_invalid_groups_file_is_one_line(
    tmp_path: Path, name: str, text: str | None, texts: list[str], message: str
) -> None:
    if text is not None:
        (tmp_path / name).write_text(text)
    with pytest.raises(UserError, match=message):
        group(("x", "y"), *texts, file=tmp_path / name)


def test_floors_of_names_with_commas_and_equal_signs() -> None:
    rule = Rule(floor=["tench, Tinca tinca=0.5", "a=b=0.25"]).resolve((*FISH, "a=b"))
    assert isinstance(rule, Floors)
    assert rule.floors == {0: 0.5, 3: 0.25}
    with pytest.raises(UserError, match="--floor names a=b twice"):
        Rule(floor=["a=b=0.5", " a=b=0.25"]).resolve(("a=b",))


def test_a_file_excludes_what_a_group_excludes(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="--weight excludes --margin"):
        Rule(weight=0.5, groups_file=tmp_path / "g.json").resolve(FISH)


def test_a_file_that_changes_is_another_answer(tmp_path: Path) -> None:
    rows = [
        worlds.student("plain", val_class_correct=[9, 8, 7], train_class_total=[9, 9, 9]),
        worlds.student("other", student=0.5, val_class_correct=[7, 9, 9]),
    ]
    worlds.write(tmp_path / "out", rows)
    path = tmp_path / "g.json"
    rule = Rule(margin="0.5", groups_file=path, estimate="raw")
    for members, name in (([0], "plain"), ([2], "other")):
        path.write_text(json.dumps({"g": [worlds.NAMES[label] for label in members]}))
        chosen = run(tmp_path / "out", rule=rule, figures=False)
        assert chosen["selected"]["run_ids"] == [name]
