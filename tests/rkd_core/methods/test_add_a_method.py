"""The example of docs/add-a-method.md works as printed."""

import re
from pathlib import Path

import pytest
import torch

from rkd_core import methods
from tests.rkd_core.methods.problems import context, draw, inputs

PAGE = Path(__file__).resolve().parents[3] / "docs" / "add-a-method.md"


@pytest.fixture
def blocks(tmp_path, monkeypatch):
    """Return the page's code; its first block is a file in a folder of the registry."""
    found = re.findall(r"^```python\n(.*?)^```$", PAGE.read_text(), flags=re.DOTALL | re.MULTILINE)
    (tmp_path / "logit_matching.py").write_text(found[0])
    monkeypatch.setattr(methods, "__path__", [*methods.__path__, str(tmp_path)])
    methods._methods.cache_clear()
    yield found
    monkeypatch.undo()
    methods._methods.cache_clear()


def test_the_example_is_found_tried_and_right(blocks):
    assert len(blocks) == 2
    assert methods.descriptions()["logit_matching"].startswith("Squared distance")
    assert [v.model_dump() for v in methods.find("logit_matching").variants()] == [
        {"weight": 0.1},
        {"weight": 1.0},
    ]
    its_test: dict[str, object] = {}
    exec(blocks[1], its_test)
    its_test["test_it_is_the_formula"]()  # type: ignore[operator]
    given = inputs(*draw(0, 4, 5), dtype=torch.float16)
    assert methods.create("logit_matching").loss(context(5))(given).dtype == torch.float32


def test_the_method_exists_only_with_its_file():
    assert "logit_matching" not in methods.descriptions()
