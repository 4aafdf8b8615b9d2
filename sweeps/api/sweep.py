"""A sweep described in Python; the command line runs the same code."""

from __future__ import annotations

import os
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from rkd_core import datasets
from rkd_core.errors import UserError
from rkd_core.plugins import reference_to
from sweeps.api.arguments import as_arguments, in_python, options_of
from sweeps.api.results import Results
from sweeps.cli.options import Options
from sweeps.planning.settings import GivenData
from sweeps.stop import Stop

__all__ = ["Sweep"]

_Network = str | Callable[..., Any]
_ON_DISK = ("dataset", "data_dir", "train_list", "test_list", "val_list")


class Sweep:
    """Search for the teacher and student trade-offs that keep every class working.

    Args:
        data: A name or folder, as ``--dataset`` takes it; or data in memory, which
            ``rkd_core.datasets.from_data`` describes: ``(train_images, train_labels, test_images,
            test_labels)``, the same with validation in the middle, or a mapping from ``train``,
            ``val`` and ``test`` to arrays or map-style datasets. None for the default of the
            command.
        teacher: Network of the teachers; short for ``teacher_architecture``. A class or function
            that returns a network may be passed directly if it is defined in a module.
        student: Network of the students, or a list of networks; short for
            ``student_architecture``, as above.
        name: Name of data in memory, in records and reports.
        class_names: Class names of data in memory, in label order.
        plugins: Files and modules that register networks, methods and the like; short for
            ``plugin``.
        options: The options of ``pareto.py``, with ``_`` in the place of ``-``: ``alphas=(0, 0.5)``
            for ``--alphas 0 0.5``, ``serial=True`` for ``--serial``, ``undistilled=False`` for
            ``--no-undistilled``.

    Raises:
        UserError: An argument is unknown or wrong.

    >>> sweep = Sweep("digits-lt", alphas=(0, 1), temperatures=1, epochs=2)
    >>> sweep.options.grid.alphas
    (0.0, 1.0)
    """

    def __init__(
        self,
        data: Any = None,
        *,
        teacher: _Network | None = None,
        student: _Network | Sequence[_Network] | None = None,
        name: str | None = None,
        class_names: Sequence[str] | None = None,
        plugins: Sequence[str | os.PathLike[str]] = (),
        **options: Any,
    ) -> None:
        given = dict(options)
        if plugins and given.get("plugin") is not None:
            raise UserError("give plugins or plugin, not both")
        if plugins:
            given["plugin"] = plugins
        for short, value in (("teacher", teacher), ("student", student)):
            whole = f"{short}_architecture"
            if value is not None and given.get(whole) is not None:
                raise UserError(f"give {short} or {whole}, not both")
            if value is not None:
                given[whole] = _named(value)
        self.data: GivenData | None = None
        if data is None or isinstance(data, str | os.PathLike):
            if name is not None or class_names is not None:
                raise UserError("name and class_names are for data in memory")
            if data is not None:
                if given.get("dataset") is not None:
                    raise UserError("give data or dataset, not both")
                given["dataset"] = data
        else:
            self.data = _in_memory(data, name or "data", class_names, given)
            given["dataset"] = self.data.name
        self.options = options_of(given)
        # Data in memory have no command line; the report shows the arguments all the same.
        started = ["rkd", "sweep"] if self.data is None else ["Sweep"]
        self._arguments = as_arguments(given)
        self._command = [*started, *self._arguments]

    @property
    def out(self) -> str:
        """The results folder, or its address in an object store."""
        name = datasets.display_name(self.options.data.dataset)
        return self.options.machine.out or str(Path("results") / name)

    def __repr__(self) -> str:
        return f"<Sweep {' '.join(self._arguments)}>"

    def plan(self) -> None:
        """Print the plan and its cost, and train nothing.

        Raises:
            UserError: As ``run``.
        """
        display = replace(self.options.display, dry_run=True)
        self._run(replace(self.options, display=display))

    def run(self) -> Results:
        """Train what is missing, select, and return the results.

        An interrupt (Ctrl-C, or that of a notebook) saves checkpoints first. Running the same sweep
        again continues it; completed trainings are not repeated. If the caller has initialized
        Ray, the sweep runs there and leaves it running.

        Raises:
            UserError: Bad input, in which case nothing was trained; or nothing can be selected.
            KeyboardInterrupt: The sweep was interrupted.
            OSError: The results folder cannot be written.
        """
        self._run(self.options)
        return Results(self.out)

    def _run(self, options: Options) -> None:
        from sweeps.commands.pareto import run

        stop = Stop(ends_process=False)
        try:
            with stop.handling_signals():
                run(options, self._command, stop, data=self.data)
        except UserError as error:
            raise in_python(error) from error


def _named(network: _Network | Sequence[_Network]) -> str | list[str]:
    """Return the text of a network, or those of several."""
    if isinstance(network, str):
        return network
    if callable(network):
        return reference_to(network)
    return [one if isinstance(one, str) else reference_to(one) for one in network]


def _in_memory(
    data: Any, name: str, class_names: Sequence[str] | None, given: dict[str, Any]
) -> GivenData:
    """Return data in memory with their name."""
    if not name or name in datasets.names() or any(c in name for c in "/\\:"):
        raise UserError(
            f"name {name!r} is that of a built-in data set, or empty, or has a slash or colon; "
            "give another name"
        )
    wrong = [option for option in _ON_DISK if given.get(option) is not None]
    if wrong:
        raise UserError(f"{wrong[0]} is for data on disk: leave it out")
    return GivenData(data, name, None if class_names is None else tuple(class_names))
