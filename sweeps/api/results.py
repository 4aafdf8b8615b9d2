"""Results of a sweep: the selected student, the table of trainings, the model and the report."""

from __future__ import annotations

import html
import io
import os
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from rkd_core.errors import UserError
from rkd_core.storage import files
from rkd_core.storage.files import Location, local_path, location
from rkd_core.text import json_text
from sweeps.api.arguments import in_python, rule_of

if TYPE_CHECKING:
    import pandas
    from torch import nn

__all__ = ["Accuracy", "Report", "Results", "Selected"]


@dataclass(frozen=True)
class Accuracy:
    """An accuracy with its 90% interval, all as fractions."""

    value: float
    low: float
    high: float

    def __str__(self) -> str:
        return f"{self.value:.1%} ({self.low:.1%} to {self.high:.1%})"


@dataclass(frozen=True)
class Selected:
    """The selected student.

    Attributes:
        alpha_t: Trade-off of the teacher; None for a standard teacher.
        alpha_s: Trade-off of the student; None for a standard student.
        temperature: Temperature of the teacher's probabilities.
        shift: Strength of the shift of its logits, from 0 (balanced) to 1 (robust); None for none.
        run_ids: Run ids of the student, one for each seed.
        teacher_ids: Run ids of its teacher, one for each seed.
        worst_class: Worst-class accuracy expected on other images (that of the worst k classes
            if the rule says so), estimated from validation; None without an estimate.
        average: Average accuracy expected on other images, estimated from validation.
        test_worst_class: Worst-class accuracy on the test set; its interval is that of the test
            counts.
        test_average: Average accuracy on the test set.
        recalls: Recall of each class on validation, by class name; None without images.
        ship: Whether the student can be shipped.
        reason: What to change if it cannot; empty otherwise.
    """

    alpha_t: float | None
    alpha_s: float | None
    temperature: float | None
    shift: float | None
    run_ids: tuple[str, ...]
    teacher_ids: tuple[str, ...]
    worst_class: Accuracy | None
    average: Accuracy | None
    test_worst_class: Accuracy | None
    test_average: Accuracy | None
    recalls: dict[str, float | None]
    ship: bool
    reason: str


@dataclass(frozen=True)
class Report:
    """The report of a sweep: a path, shown inline by notebooks."""

    path: Path

    def __fspath__(self) -> str:
        return os.fspath(self.path)

    def __str__(self) -> str:
        return str(self.path)

    def _repr_html_(self) -> str:
        page = html.escape(self.path.read_text(encoding="utf-8"), quote=True)
        return f'<iframe srcdoc="{page}" width="100%" height="900" style="border: 0"></iframe>'


class Results:
    """A results folder. Opening it needs neither torch nor Ray.

    Args:
        out: Results folder of a sweep: a path, ``s3://BUCKET/PREFIX`` or ``gs://BUCKET/PREFIX``.

    Raises:
        UserError: There is no such folder, or it has no records.
    """

    def __init__(self, out: str | os.PathLike[str]) -> None:
        self.out: Location = location(os.fspath(out))
        if not files.is_folder(self.out / "records"):
            raise UserError(f"{self.out} is not a results folder: it has no folder records")

    def __repr__(self) -> str:
        return f"Results({str(self.out)!r})"

    @property
    def selection(self) -> dict[str, Any]:
        """Content of ``selection.json``.

        Raises:
            UserError: Nothing has been selected yet, or the file is damaged.
        """
        path = self.out / "selection.json"
        try:
            return json_text.parse_object(files.read(path))
        except FileNotFoundError:
            raise UserError(f"{path} is missing: call select()") from None
        except ValueError as error:
            raise UserError(f"{path} is damaged: call select()") from error

    @property
    def selected(self) -> Selected:
        """The selected student.

        Raises:
            UserError: As ``selection``.
        """
        content = self.selection
        try:
            return _selected(content)
        except (KeyError, TypeError) as error:
            raise UserError(f"{self.out / 'selection.json'} is damaged: call select()") from error

    def select(self, **rule: Any) -> Selected:
        """Select by another rule, and write ``selection.json``, the figures and the report.

        Args:
            rule: Options of the rule, named as on the command line of ``analysis.select``, such as
                ``margin=0.01`` or ``worst_k=3``.

        Raises:
            UserError: An option is unknown or out of range, or nothing can be selected.
        """
        from analysis.select import run
        from rkd_core.text.console import Console

        run(self.out, rule_of(rule), console=Console(file=io.StringIO()))
        return self.selected

    def to_pandas(self) -> pandas.DataFrame:
        """Return the records, one row for each training; docs/results.md describes the files."""
        from rkd_core import records

        return records.read(self.out / "records").to_pandas()

    def load(self, run_id: str | None = None) -> nn.Module:
        """Return a trained network in evaluation mode, on the CPU.

        It takes images as uint8 ``(n, height, width, channels)``, includes the normalization, and
        returns float32 logits ``(n, classes)``.

        Args:
            run_id: A completed training, of a teacher or a student; None for the selected student,
                of several seeds the one with the best worst-class accuracy on validation.

        Raises:
            UserError: There is no such training, or its artifact is damaged.
        """
        from sweeps.commands.export import classifier

        return classifier(self.out, run_id)

    def export(self, to: str | os.PathLike[str] | None = None, run_id: str | None = None) -> Path:
        """Export a student to a folder that needs PyTorch, NumPy and Pillow only.

        Args:
            to: Folder to write; None for ``student`` in the results folder.
            run_id: As for ``load``.

        Returns:
            The folder.

        Raises:
            UserError: As for ``load``, or the folder holds other files.
        """
        from sweeps.commands.export import Options, run

        try:
            return run(Options(str(self.out), None if to is None else Path(to), run_id))
        except UserError as error:
            raise in_python(error) from error

    def report(self) -> Report:
        """Return the report, which notebooks show inline.

        Raises:
            UserError: There is no report, or the results are in an object store.
        """
        folder = local_path(self.out)
        if folder is None:
            raise UserError(f"{self.out} is in an object store: download {self.out}/report.html")
        path = folder / "report.html"
        if not path.is_file():
            raise UserError(f"{path} is missing: call select()")
        return Report(path)


def _selected(content: dict[str, Any]) -> Selected:
    row, prospects = content["selected"], content["prospects"]
    advice = content["recommendation"]
    expected, measured = prospects["other_images"] or {}, prospects["test_alone"] or {}
    return Selected(
        alpha_t=row["alpha_t"],
        alpha_s=row["alpha_s"],
        temperature=row["temperature"],
        shift=row["shift"],
        run_ids=tuple(row["run_ids"]),
        teacher_ids=tuple(row["teacher_ids"]),
        worst_class=_accuracy(expected.get("worst_k")),
        average=_accuracy(expected.get("average")),
        test_worst_class=_accuracy(measured.get("worst_k")),
        test_average=_accuracy(measured.get("average")),
        recalls=dict(row["val_recalls"]),
        ship=bool(advice["ship"]),
        reason="" if advice["ship"] else str(advice["text"]),
    )


def _accuracy(figures: dict[str, float] | None) -> Accuracy | None:
    return None if figures is None else Accuracy(figures["value"], figures["low"], figures["high"])
