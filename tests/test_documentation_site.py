"""The site has every page, and its reference has every option of every command."""

import importlib.util
import re
from functools import cache
from pathlib import Path

import pytest
import yaml

from sweeps.api.arguments import names
from sweeps.cli.options import Options

ROOT = Path(__file__).resolve().parent.parent
PAGES = sorted([*ROOT.glob("*.md"), *(ROOT / "docs").glob("*.md")])
TYPED = re.compile(
    r"\brkd (?P<rkd>\w+)|sweeps/(?P<script>\w+)\.py|-m (?:analysis|sweeps)\.(?P<module>\w+)"
)
EXECUTED = {  # by tests/test_documentation_examples.py, if not said otherwise
    "README.md",
    "docs/data.md",
    "docs/networks.md",
    "docs/predictions.md",
    "docs/python.md",
    "docs/results.md",
    "docs/teacher.md",
    "docs/extend.md",  # by tests/test_documentation_extend.py
    "docs/add-a-method.md",  # by tests/rkd_core/methods/test_add_a_method.py
}


def load_hooks():
    found = importlib.util.spec_from_file_location("site_hooks", ROOT / "docs" / "site_hooks.py")
    module = importlib.util.module_from_spec(found)
    found.loader.exec_module(module)
    return module


HOOKS = load_hooks()
reference = cache(HOOKS.reference)
help_of = cache(HOOKS.help_of)


def pages(entry):
    if isinstance(entry, str):
        return [entry]
    parts = entry.values() if isinstance(entry, dict) else entry
    return [page for part in parts for page in pages(part)]


def test_every_page_is_in_the_navigation():
    named = pages(yaml.safe_load((ROOT / "mkdocs.yml").read_text())["nav"])
    assert sorted(named) == sorted(path.name for path in (ROOT / "docs").glob("*.md"))


def test_the_reference_has_every_option_of_a_sweep():
    rows = re.findall(r"^\| `(--[\w-]+).*?` \| (.+) \|$", reference("sweep"), flags=re.MULTILINE)
    flags = {f"--{name.replace('_', '-')}" for name in names(Options)}
    documented = {re.sub(r"^--no-(shifts|undistilled)$", r"--\1", flag) for flag, _ in rows}
    assert documented == flags
    assert all(text.strip() for _, text in rows)


@pytest.mark.parametrize("command", HOOKS.COMMANDS)
def test_the_reference_has_the_flags_of_every_help(command):
    text = help_of(command)
    section = reference(command) + (reference("sweep") if command == "paper" else "")
    flags = set(re.findall(r"^ {1,2}(--[\w-]+)", text, flags=re.MULTILINE))
    assert flags
    assert [flag for flag in flags if f"`{flag}" not in section] == []


def test_a_help_that_fails_ends_the_build():
    with pytest.raises(RuntimeError, match="rkd swep --help ended with 2"):
        HOOKS.help_of("swep")


def shell_lines():
    for page in PAGES:
        for block in re.findall(r"```sh\n(.*?)```", page.read_text(), flags=re.DOTALL):
            for line in block.replace("\\\n", " ").splitlines():
                yield page.name, line.partition("  #")[0]


def unknown_flags(line):
    """Flags on a line that the help of its command does not have."""
    found = []
    for typed in TYPED.finditer(line):
        command = (typed["rkd"] or typed["script"] or typed["module"]).replace("pareto", "sweep")
        own = re.split(r"&&|\||;", line[typed.end() :])[0]
        known = help_of(command)
        found += [f for f in re.findall(r"--[\w-]+", own) if f not in known]
    return found


@pytest.mark.parametrize(
    ("page", "line"), [pair for pair in shell_lines() if TYPED.search(pair[1])]
)
def test_the_flags_of_every_typed_command_exist(page, line):
    assert unknown_flags(line) == []


def test_an_unknown_flag_is_noticed():
    assert unknown_flags("rkd select results/digits-lt --margni 0.01 && rkd verify x --to y") == [
        "--margni",
        "--to",
    ]


def test_every_python_block_is_executed():
    with_code = {str(p.relative_to(ROOT)) for p in PAGES if "```python" in p.read_text()}
    assert with_code == EXECUTED
