"""The documentation names only files, modules and headings that exist."""

import re
import shlex
from pathlib import Path

import pytest

from sweeps.cli.parse import parse

ROOT = Path(__file__).resolve().parent.parent
PAGES = sorted(
    str(path.relative_to(ROOT))
    for pattern in ("*.md", "docs/*.md", "benchmarks/**/*.md")
    for path in ROOT.glob(pattern)
)
TOP = ("rkd_core", "sweeps", "analysis", "benchmarks", "examples", "tests", "deploy", "docs")
SUFFIXES = r"(?:py|md|sh|yaml|sbatch|html|json|toml)"
EXAMPLES = {  # files that the pages tell a reader to write
    "rkd_core/methods/logit_matching.py",
    "tests/rkd_core/methods/test_logit_matching.py",
}
RESULTS = {
    "latency.json",
    "plan.json",
    "selection.json",
    "report.html",
    "dataset.json",
    "inventory.json",
}
RESULTS |= {"preprocess.py", "labels.json", ".in-use.json", ".answer.json"}
RESULTS |= {"plugins/names.json"}
"""Files of a results folder or of an export, which the repository does not have."""


def text_of(page):
    return (ROOT / page).read_text()


def without_code_blocks(text):
    return re.sub(r"```.*?```", "", text, flags=re.DOTALL)


def anchors(text):
    """Anchors of the headings of a page, as GitHub makes them."""
    headings = re.findall(r"^#+ (.*)$", without_code_blocks(text), flags=re.MULTILINE)
    return {re.sub(r"[^\w\- ]", "", h.lower()).replace(" ", "-") for h in headings}


def broken_links(page, text):
    broken = []
    for target in re.findall(r"\]\(([^)\s]+)\)", without_code_blocks(text)):
        if re.match(r"[a-z]+:", target):
            continue
        path, _, anchor = target.partition("#")
        file = (ROOT / page).parent / path if path else ROOT / page
        if not file.exists() or (anchor and anchor not in anchors(file.read_text())):
            broken.append(target)
    return broken


def missing_paths(text):
    """Paths from the repository root that do not exist, in prose, commands and code."""
    pattern = rf"(?<![\w./~-])(?:{'|'.join(TOP)})/[\w./-]*"
    found = {path.rstrip("./") for path in re.findall(pattern, text)}
    return sorted(path for path in found - EXAMPLES if not (ROOT / path).exists())


def missing_names(text):
    """Files in backticks, by name or by the end of their path, that no folder has."""
    every = [f"/{path.relative_to(ROOT)}" for top in TOP for path in (ROOT / top).rglob("*.*")]
    every += [f"/{path.name}" for path in ROOT.iterdir()]
    spans = re.findall(r"`([^`\n]+)`", without_code_blocks(text))
    names = (
        {s for s in spans if re.fullmatch(rf"(?!results/)[\w./-]+\.{SUFFIXES}", s)}
        - RESULTS
        - EXAMPLES
    )
    return sorted(s for s in names if not any(path.endswith(f"/{s}") for path in every))


def missing_modules(text):
    """Dotted names below a package whose modules, or names in them, do not exist."""
    missing = []
    for name in re.findall(r"\b(?:rkd_core|sweeps|analysis|benchmarks|tests)(?:\.\w+)+", text):
        parts, place = name.split("."), ROOT
        while parts and (place / parts[0]).is_dir():
            place /= parts.pop(0)
        if parts and (place / f"{parts[0]}.py").is_file():
            place /= f"{parts.pop(0)}.py"
        source = place if place.is_file() else place / "__init__.py"
        if parts and (
            not source.is_file() or not re.search(rf"\b{parts[0]}\b", source.read_text())
        ):
            missing.append(name)
    return sorted(set(missing))


def missing_definitions(text):
    """Names that a page places in a file which does not have them."""
    pairs = re.findall(rf"`(\w+)` (?:in|of) `([\w/]+\.{SUFFIXES})`", " ".join(text.split()))
    return [
        (name, file)
        for name, file in pairs
        if (ROOT / file).is_file() and not re.search(rf"\b{name}\b", (ROOT / file).read_text())
    ]


@pytest.mark.parametrize("page", PAGES)
def test_links_and_names_exist(page):
    text = text_of(page)
    assert broken_links(page, text) == []
    assert missing_paths(text) == []
    assert missing_names(text) == []
    assert missing_modules(text) == []
    assert missing_definitions(text) == []


def test_the_readme_is_short():
    assert len(text_of("README.md").splitlines()) <= 150


def commands(page):
    """The options of every sweep in the shell blocks of a page."""
    for block in re.findall(r"```sh\n(.*?)```", text_of(page), flags=re.DOTALL):
        lines = block.replace("\\\n", " ")
        for options in re.findall(r"(?:\brkd sweep|sweeps/pareto\.py)\b([^#\n&|]*)", lines):
            yield shlex.split(options)


@pytest.mark.parametrize("page", [page for page in PAGES if any(commands(page))])
def test_the_options_of_commands_exist(page):
    for options in commands(page):
        parse(options)


def test_pages_are_found():
    assert {"README.md", "CONTRIBUTING.md", "docs/architecture.md"} <= set(PAGES)


@pytest.mark.parametrize(
    ("check", "text"),
    [
        (missing_paths, "see `rkd_core/looks.py`"),
        (missing_paths, "    python sweeps/paretto.py --list"),
        (missing_names, "`looks.py` says when"),
        (missing_names, "`parts/protocol.py` lists them"),
        (missing_modules, "python -m analysis.selekt RESULTS"),
        (missing_modules, "from rkd_core.training import loop, rkd_core.training.trayn"),
        (missing_definitions, "`MATH_VERSIONS` in\n `rkd_core/specs/identity.py`"),
        (lambda text: broken_links("README.md", text), "[page](docs/none.md)"),
        (lambda text: broken_links("README.md", text), "[part](docs/run-ids.md#nothing)"),
    ],
)
def test_missing_names_are_detected(check, text):
    assert len(check(text)) == 1


def test_existing_names_are_accepted():
    text = "`rkd_core/training/loop.py`, `loop.py`, `rkd_core.training.train`, docs/selection.md"
    assert missing_paths(text) == missing_names(text) == missing_modules(text) == []
    assert broken_links("docs/budget.md", "[a](selection.md), [b](https://example.org)") == []
