"""The command ``rkd``, whose subcommands are the typed commands under one name."""

from __future__ import annotations

import sys
from collections.abc import Callable, Sequence
from functools import partial
from importlib import import_module, metadata

from rkd_core.errors import unknown_name
from rkd_core.text import terminal
from sweeps.commands.entry import command, leave, missing

__all__ = ["main", "start"]


def _of_analysis(
    module: str, arguments: Sequence[str] | None = None, *, program: str = "rkd"
) -> int:
    """Run a command of ``analysis``, whose module is loaded only then."""
    try:
        main = import_module(module).main
    except ModuleNotFoundError as error:
        return missing(program, error)
    return int(main(arguments, program))


_COMMANDS: dict[str, tuple[Callable[..., int], str]] = {
    "sweep": (command("pareto.py"), "train a grid of teachers and students, then select a student"),
    "select": (partial(_of_analysis, "analysis.select"), "choose the combination to ship"),
    "report": (partial(_of_analysis, "analysis.report.__main__"), "write report.html again"),
    "watch": (partial(_of_analysis, "analysis.watch"), "serve the report while a sweep runs"),
    "export": (command("export.py", resumes=False), "export the selected student for PyTorch"),
    "verify": (command("verify"), "compare a results folder with its checksums, and repair it"),
    "predict": (command("predict"), "compute predictions of earlier sweeps"),
    "paper": (command("paper.py"), "reproduce a table of the papers"),
    "adult": (command("adult.py", resumes=False), "distill random forests on UCI Adult"),
}
"""Function and help line of each subcommand."""


def main(arguments: Sequence[str] | None = None) -> int:
    """Run a subcommand; return its exit code, or 2 if there is no such subcommand."""
    terminal.prepare(own_process=arguments is None)
    given = list(sys.argv[1:] if arguments is None else arguments)
    name = given[0] if given else ""
    if name in ("-h", "--help"):
        print(_help())
        return 0
    if name == "--version":
        print(f"rkd {metadata.version('robust-distillation')}")
        return 0
    if name not in _COMMANDS:
        fault = unknown_name("command", name, _COMMANDS) if name else "name a command"
        print(f"rkd: {fault} (see rkd --help)", file=sys.stderr)
        return 2
    return _COMMANDS[name][0](given[1:], program=f"rkd {name}")


def start() -> None:
    """Run the command line of this process, and end it with the exit code."""
    leave(main())


def _help() -> str:
    lines = [f"  {name:<8}{about}" for name, (_, about) in _COMMANDS.items()]
    return "\n".join(
        [
            "usage: rkd COMMAND [OPTION ...]",
            "",
            "Search for the teacher and student trade-offs that keep every class of a",
            "distilled classifier working.",
            "",
            "commands:",
            *lines,
            "",
            "options:",
            "  --help     print this; rkd COMMAND --help lists the options of a command",
            "  --version  print the version",
            "",
            "examples:",
            "  rkd sweep digits-lt",
            "  rkd export results/digits-lt",
        ]
    )


if __name__ == "__main__":
    start()
