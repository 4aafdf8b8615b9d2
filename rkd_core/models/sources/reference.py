"""References to networks: ``timm:NAME``, ``torchvision:NAME`` or ``FILE.py:NAME``."""

from __future__ import annotations

import ast
import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

from rkd_core import plugins
from rkd_core.errors import UserError

__all__ = [
    "HOW_TO_NAME",
    "Reference",
    "arguments_of",
    "call_of",
    "is_foreign",
    "parse",
    "resolve",
]

HOW_TO_NAME = "timm:NAME, torchvision:NAME, FILE.py:NAME or package.module:NAME"

_CALL = re.compile(
    r"(?P<target>[^()]+?)(?P<arguments>\(.*\))?(?P<stages>\[[\w.,\s]*\])?", re.DOTALL
)
_LIBRARY = re.compile(r"(timm|torchvision):(?P<name>[\w.\-]+)")


@dataclass(frozen=True)
class Reference:
    """A network outside the registry.

    Attributes:
        source: Library of the network, or ``code`` for a user's class or function.
        target: Name of the network in its library, or ``FILE.py:NAME`` or ``package.module:NAME``.
        arguments: Keyword arguments of the network.
        stages: Modules at the ends of its stages, in the order of the forward pass, for methods
            that compare features; empty to find them by the sizes of the maps.
    """

    source: Literal["timm", "torchvision", "code"]
    target: str
    arguments: Mapping[str, Any] = field(default_factory=dict)
    stages: tuple[str, ...] = ()

    @property
    def canonical(self) -> str:
        """The name in specs, such as ``timm:resnet26d(drop_path_rate=0.1)[layer3,layer4]``.

        A file enters by its name without its folder, so that it can be moved.
        """
        if self.source == "code":
            place, _, name = self.target.rpartition(":")
            target = f"{Path(place).stem if place.endswith('.py') else place}:{name}"
        else:
            target = f"{self.source}:{self.target}"
        stages = f"[{','.join(self.stages)}]" if self.stages else ""
        if not self.arguments:
            return target + stages
        given = ", ".join(f"{name}={value!r}" for name, value in sorted(self.arguments.items()))
        return f"{target}({given}){stages}"


def is_foreign(text: str) -> bool:
    """Return whether a text has the form of a reference rather than of a registered name."""
    target, call = call_of(text)
    if call and target.isidentifier():  # a registered name with arguments, or a mistyped one
        return False
    return ":" in text or text.endswith(".py") or "(" in text


def resolve(text: str) -> str:
    """Return the reference of a name that a plug-in registered, with its arguments; else the text.

    Raises:
        UserError: The plug-in cannot be imported, or the network is not at the top of its module.
    """
    name, bracket, arguments = text.partition("(")
    if ":" in name or not name.isidentifier():
        return text
    target = plugins.networks.reference(name)
    return text if target is None else f"{target}{bracket}{arguments}"


def call_of(text: str) -> tuple[str, str | None]:
    """Return the name before the parentheses, and the parentheses with what is between them."""
    match = _CALL.fullmatch(text.strip())
    return (text, None) if match is None else (match["target"].strip(), match["arguments"])


def parse(text: str) -> Reference:
    """Return the reference that a text names.

    Raises:
        UserError: The text has another form, or an argument is not a literal with a name.
    """
    if _CALL.fullmatch(text.strip()) is None:
        raise UserError(f"{text!r} is not of the form {HOW_TO_NAME}, with (argument=value) or not")
    target, call = call_of(text)
    arguments, stages = arguments_of(text, call), _stages_of(text)
    if library := _LIBRARY.fullmatch(target):
        source: Literal["timm", "torchvision"] = "timm" if library[1] == "timm" else "torchvision"
        return Reference(source, library["name"], arguments, stages)
    if not plugins.is_reference(target):
        raise UserError(f"{target!r} is not of the form {HOW_TO_NAME}")
    return Reference("code", target, arguments, stages)


def _stages_of(text: str) -> tuple[str, ...]:
    """Return the stages in brackets at the end of a reference.

    Raises:
        UserError: There are brackets with an empty name or the same name twice.
    """
    match = _CALL.fullmatch(text.strip())
    if match is None or match["stages"] is None:
        return ()
    names = tuple(name.strip() for name in match["stages"][1:-1].split(","))
    if not all(names) or len(set(names)) < len(names):
        raise UserError(
            f"{text!r}: the stages in brackets are names of modules, such as [layer1,layer2]"
        )
    return names


def arguments_of(text: str, call: str | None) -> Mapping[str, Any]:
    """Return keyword arguments in parentheses.

    Args:
        text: Whole text, for messages.
        call: The parentheses, and what is between them; None for no arguments.

    Raises:
        UserError: An argument has no name, or is not a literal.
    """
    if call is None:
        return {}
    try:
        node = ast.parse(f"f{call}", mode="eval").body
    except SyntaxError as error:
        raise UserError(f"{text!r}: {call} is not a list of arguments: {error.msg}") from None
    if not isinstance(node, ast.Call) or node.args or any(k.arg is None for k in node.keywords):
        raise UserError(f"{text!r}: arguments have the form (name=value, other=value)")
    found: dict[str, Any] = {}
    for keyword in node.keywords:
        name = str(keyword.arg)
        try:
            value = ast.literal_eval(keyword.value)
        except ValueError:
            raise UserError(
                f"{text!r}: {name} must be a number, a text in quotes, True, False, None, or a "
                "tuple, list or dict of these"
            ) from None
        if isinstance(value, set | bytes):  # a set has no order, so its text is no identity
            raise UserError(f"{text!r}: {name} must not be a {type(value).__name__}")
        found[name] = value
    return found
