import ast
import re
from pathlib import Path

import pytest

import rkd_core
from rkd_core.errors import UserError
from sweeps.cli.flags import OPTIONS, as_flags, errors_as_flags
from sweeps.cli.parse import parse

ROOT = Path(rkd_core.__file__).parent


def texts(folder):
    """Yield every string of a package with its file, docstrings aside."""
    for path in sorted(folder.rglob("*.py")):
        tree = ast.parse(path.read_text())
        alone = {id(n.value) for n in ast.walk(tree) if isinstance(n, ast.Expr)}
        for node in ast.walk(tree):
            text = getattr(node, "value", None)
            if isinstance(node, ast.Constant) and isinstance(text, str) and id(node) not in alone:
                yield path.relative_to(ROOT), text


def test_the_core_names_no_flags():
    assert [found for found in texts(ROOT) if re.search(r"(^|[^-\w])--[a-z]", found[1])] == []


def test_every_option_that_the_loader_names_has_a_flag(capsys):
    found = {name for _, text in texts(ROOT / "datasets") for name in re.findall("`(.+?)`", text)}
    assert found == set(OPTIONS)
    with pytest.raises(SystemExit):
        parse(["--help-all"])
    shown = capsys.readouterr().out
    for flags in OPTIONS.values():
        for flag in flags.split(" and "):
            assert re.search(rf"{flag}\b(?!-)", shown), flag


def test_options_become_flags():
    assert as_flags("at `image_size` 64, `other` and `x") == "at --image-size 64, `other` and `x"
    with pytest.raises(UserError, match=r"^--limit-train 2 is below$"), errors_as_flags():
        raise UserError("`limit_train` 2 is below")
