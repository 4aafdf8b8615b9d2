"""References to networks outside the registry."""

import pytest

from rkd_core import models
from rkd_core.errors import UserError
from rkd_core.models.sources.reference import parse


@pytest.mark.parametrize(
    ("text", "source", "canonical"),
    [
        ("timm:resnet26d", "timm", "timm:resnet26d"),
        ("timm:resnet26d(drop_rate=0.1, act='relu')", "timm", None),
        ("torchvision:regnet_y_400mf", "torchvision", "torchvision:regnet_y_400mf"),
        ("some/folder/nets.py:TinyNet", "code", "nets:TinyNet"),
        ("nets.py:TinyNet(width=4)", "code", "nets:TinyNet(width=4)"),
        ("package.nets:tiny", "code", "package.nets:tiny"),
        ("nets.py:TinyNet[one, two.1]", "code", "nets:TinyNet[one,two.1]"),
        ("nets.py:TinyNet(sizes=[1, 2])[one]", "code", "nets:TinyNet(sizes=[1, 2])[one]"),
    ],
)
def test_names_in_specs_have_no_folder(text, source, canonical):
    found = parse(text)
    assert found.source == source
    assert found.canonical == (canonical or "timm:resnet26d(act='relu', drop_rate=0.1)")
    assert parse(found.canonical).canonical == found.canonical
    assert models.is_foreign(text)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("timm:", "not of the form"),
        ("nets.py", "not of the form"),
        ("nets.py:Tiny(3)", r"form \(name=value"),
        ("nets.py:Tiny(width=", "not of the form"),
        ("nets.py:Tiny(width=1 2)", "not a list of arguments"),
        ("nets.py:Tiny(width=other)", "width must be a number"),
        ("nets.py:Tiny(width={1, 2})", "must not be a set"),
        ("nets.py:Tiny(**{'a': 1})", r"form \(name=value"),
        ("nets.py:Tiny[]", "names of modules"),
        ("nets.py:Tiny[one,]", "names of modules"),
        ("nets.py:Tiny[one,one]", "names of modules"),
        ("nets.py:Tiny[one](width=1)", "not of the form"),
    ],
)
def test_other_texts_are_refused(text, message):
    with pytest.raises(UserError, match=message):
        parse(text)
