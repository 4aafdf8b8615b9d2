"""Model card of an exported model: description, use, accuracies, selection and lineage."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from analysis.selection.recommendation import of_record
from analysis.views.markup import markdown_table, markdown_text
from rkd_core.specs import GIVEN_LOGITS, TrainingSpec
from rkd_core.text.numbers import interval, percent

__all__ = ["Choice", "model_card"]

Row = Mapping[str, Any]

_USE = """\
```python
import json, torch
from pathlib import Path

import preprocess  # preprocess.py of this folder; it needs NumPy and Pillow

folder = Path(preprocess.__file__).parent
model = torch.export.load(folder / "model.pt2").module()
labels = json.loads((folder / "labels.json").read_bytes())
images = torch.from_numpy(preprocess.load_image("image.png"))[None]
print(labels[model(images).argmax()])
```"""
_USE_ARRAYS = _USE.replace("NumPy and Pillow", "NumPy").replace(
    'images = torch.from_numpy(preprocess.load_image("image.png"))[None]\n'
    "print(labels[model(images).argmax()])",
    'rows = torch.from_numpy(preprocess.load_arrays("rows.npy"))\n'
    "print([labels[label] for label in model(rows).argmax(1)])",
)


@dataclass(frozen=True)
class Choice:
    """Reason for the choice of a model: its candidates, and the selection that named them."""

    run_ids: tuple[str, ...]
    selection: Mapping[str, Any] = field(default_factory=dict)
    """Content of ``selection.json``; empty for a run given by ``--run-id``."""
    shift: float | None = None
    """Strength of the shift of the logits; None for none."""


def model_card(
    spec: TrainingSpec,
    row: Row,
    preprocessing: Row,
    choice: Choice,
    teacher: Row | None,
    torch_version: str,
) -> str:
    """Return the model card as Markdown.

    Args:
        spec: Spec of the exported training.
        row: Record of the training.
        preprocessing: Content of ``preprocessing.json``.
        choice: Reason for the choice.
        teacher: Record of the teacher, if there is one.
        torch_version: Version of PyTorch that exported the program.
    """
    return "\n\n".join(
        [
            f"# {markdown_text(spec.dataset)}: {spec.architecture}, {spec.stage}",
            _summary(spec, row) + _shift(choice.shift),
            *_warning(row),
            "## Use",
            _USE_ARRAYS if _of_arrays(preprocessing) else _USE,
            _input(preprocessing, row, torch_version),
            "## Accuracy",
            _accuracies(row, choice),
            _classes(row),
            _reading(row),
            "## How it was chosen",
            _chosen(choice, row),
            "## Lineage",
            _lineage(spec, row, teacher),
            "## License",
            "No license is stated here: it is chosen by whoever publishes the model, and depends "
            "on the license of the data.",
            "",
        ]
    )


def _summary(spec: TrainingSpec, row: Row) -> str:
    images = row["train_class_total"] or []
    size = "" if row["parameters"] is None else f" of {row['parameters']:,} parameters"
    text = (
        f"A {spec.architecture}{size} classifier with {len(row['class_names'])} classes, trained "
        f"on {sum(images):,} images of {markdown_text(spec.dataset)}"
    )
    if images and min(images) < max(images):
        text += f" ({min(images):,} to {max(images):,} a class)"
    averaged = spec.multipliers.averaged_iterates if spec.multipliers else None
    if averaged is not None:
        text += f", as the mean logits of {averaged} iterates"
    if spec.teacher is not None:
        given = spec.teacher.architecture == GIVEN_LOGITS
        known = "teacher known by its logits only" if given else spec.teacher.architecture
        text += f", with a {known}{'' if given else ' as teacher'}"
    if not spec.epochs:
        text += (
            ". It is its teacher's network: nothing was trained, and its logits are shifted by "
            "class to fit validation, so only the test figures are an unbiased estimate"
        )
    return f"{text}."


def _shift(strength: float | None) -> str:
    """Return sentences on the shift of the logits, which begin with a space; empty for none."""
    if strength is None:
        return ""
    return (
        f" A number for each class, `logit_shift` in `model.safetensors`, is added to its logits. "
        f"It was fitted to the validation images after training, at strength {strength:g} between "
        "balanced (0) and robust (1); `model.pt2` includes it."
    )


def _warning(row: Row) -> list[str]:
    """Return a reason not to use the model, if there is one."""
    reason = of_record(row)
    return [f"**Not to be used as it is:** {markdown_text(reason)}."] if reason else []


def _of_arrays(preprocessing: Row) -> bool:
    return "colour" not in preprocessing["input"]


def _input(preprocessing: Row, row: Row, torch_version: str) -> str:
    shape = f"`({', '.join(map(str, preprocessing['input']['shape']))})`"
    logits = f"and gives float32 logits `(n, {len(row['class_names'])})`."
    if _of_arrays(preprocessing):
        text = (
            f"The program takes float32 arrays {shape}, as `load_arrays` gives them: the values as "
            f"they were given for training. It standardizes them itself, {logits}"
        )
    else:
        text = (
            f"The program takes uint8 images {shape}, {preprocessing['input']['colour']}, as "
            f"`load_image` gives them, normalizes them itself, {logits} `preprocess.py` is the "
            f"code that training decoded images with. {_decoding(preprocessing)}"
        )
    text += f" `model.pt2` was exported with PyTorch {torch_version}; others may refuse it."
    if row["precision"] not in (None, "float32"):
        text += f" It computes in float32; the figures below were measured in {row['precision']}."
    return text


def _decoding(preprocessing: Row) -> str:
    """Describe the decoding of an image file."""
    decoding, resize = preprocessing["decoding"], preprocessing["resize"]
    steps = [
        "rotated by the EXIF orientation"
        if decoding["upright"]
        else "left as stored, whatever the EXIF orientation",
        "shown over white where transparent"
        if decoding["over_white"]
        else "stripped of the alpha channel",
    ]
    if resize is not None:
        steps.append(
            f"resized to a shorter side of {resize['shorter_side']} pixels "
            f"({resize['interpolation']}) and cut to the center"
        )
    text = f"Images are {', '.join(steps)}."
    for kind, name in (("integers", "of more than 8 bits"), ("floats", "of floats")):
        if decoding[kind] is not None:
            low, high = decoding[kind]
            text += f" Gray values {name} are scaled: {low:.10g} to {high:.10g} become 0 to 255."
    return text


def _accuracies(row: Row, choice: Choice) -> str:
    caveat = "used for selection, so biased upwards" if choice.selection else "used during training"
    if choice.shift is not None:
        caveat += "; each half of the images has the shift that was fitted to the other half"
    lines = []
    for split, remark in (
        ("test", "measured once and never used for selection"),
        ("val", f"**{caveat}**"),
    ):
        correct, total = sum(row[f"{split}_class_correct"]), sum(row[f"{split}_class_total"])
        worst, average = (row[f"{split}_{n}_accuracy"] for n in ("worst_class", "average"))
        name = "Test" if split == "test" else "Validation"
        lines.append(
            f"- {name}, {total:,} images, {remark}: worst class {percent(worst)} %, average "
            f"{percent(average)} % (95 % interval {_interval(correct, total)})."
        )
    return "\n".join(lines)


def _classes(row: Row) -> str:
    trained = row["train_class_total"] or [None] * len(row["class_names"])
    counts = [row[f"{s}_class_{n}"] for s in ("test", "val") for n in ("total", "correct")]
    rows = []
    for name, images, n, correct, val_n, val_correct in zip(
        row["class_names"], trained, *counts, strict=True
    ):
        rows.append(
            [
                markdown_text(name),
                "" if images is None else f"{images:,}",
                f"{n:,}",
                f"{percent(correct / n)} %" if n else "",
                _interval(correct, n),
                f"{percent(val_correct / val_n)} %" if val_n else "",
            ]
        )
    heading = ["class", "training images", "test images", "test", "95 % interval", "validation \\*"]
    return markdown_table(heading, rows, [False, *[True] * 5])


def _reading(row: Row) -> str:
    text = (
        "Intervals are Wilson score intervals for each class separately. \\* Used for selection "
        "and multipliers: not a result."
    )
    if 0 in row["test_class_total"]:
        text += " Nothing is known about classes without test images."
    return text


def _chosen(choice: Choice, row: Row) -> str:
    if not choice.selection:
        return "The run was named (`--run-id`), not selected."
    selection, lines = choice.selection, []
    if len(choice.run_ids) > 1:
        lines.append(
            f"Of the {len(choice.run_ids)} seeds of the selected combination, this is seed "
            f"{row['seed']}: the one with the best worst-class accuracy on **validation** (then "
            "the best average)."
        )
    advised = selection.get("recommendation")
    if isinstance(advised, dict) and advised.get("ship") is False:
        text = f"{advised.get('title', '')}. {advised.get('text', '')}"
        lines.append(f"**The selection does not recommend it.** {markdown_text(text)}")
    if selection.get("feasible") is False:
        lines.append("No combination met the constraint; the selection states its fallback.")
    lines.append("The selection, as in `selection.json`:")
    combinations = selection.get("combinations")
    facts = {
        "combinations compared": len(combinations) if isinstance(combinations, list) else None,
        "criterion": selection.get("criterion"),
        "constraint": selection.get("constraint"),
        **{name: selection.get(name) for name in ("probability_best", "expected_regret")},
        "optimism": selection.get("optimism"),
    }
    return "\n\n".join([*lines, _facts(facts)])


def _lineage(spec: TrainingSpec, row: Row, teacher: Row | None) -> str:
    ref = spec.teacher
    facts: dict[str, Any] = {"run": row["run_id"], "method": row["variant"] or spec.method}
    if spec.variant is None or spec.objective != "standard":
        facts |= {"objective": spec.objective, "alpha": spec.alpha}
    facts["temperature"] = spec.temperature
    if ref is not None:
        facts |= {
            "teacher's run": ref.run_id,
            "teacher's network": ref.architecture,
            "teacher's objective": ref.objective,
            "teacher's alpha": ref.alpha,
        }
    if teacher is not None:
        facts["teacher on test"] = (
            f"worst class {percent(teacher['test_worst_class_accuracy'])} %, average "
            f"{percent(teacher['test_average_accuracy'])} %"
        )
    facts |= {
        "seed": spec.seed,
        "epochs": spec.epochs,
        "data": spec.data.model_dump(mode="json", exclude_defaults=True) or None,
        "data fingerprint": row["data_fingerprint"],
        "recipe": spec.recipe.model_dump(mode="json", exclude_defaults=True),
        "trained": None if row["started_at"] is None else f"{row['started_at']:%Y-%m-%d}",
        "device, precision": f"{row['device']}, {row['precision']}",
        "versions": json.loads(row["versions"] or "null"),
    }
    return _facts(facts)


def _facts(facts: Mapping[str, Any]) -> str:
    """Return a table of names and values, without those that are None."""
    rows = [[name, _shown(value)] for name, value in facts.items() if value is not None]
    return markdown_table(["", ""], rows, [False, False])


def _shown(value: Any) -> str:
    if isinstance(value, dict):
        return "; ".join(f"{_plain(k)} {_shown(v)}" for k, v in value.items() if v is not None)
    if isinstance(value, list | tuple):
        return ", ".join(map(_shown, value))
    return f"{value:.4g}" if isinstance(value, float) else markdown_text(str(value))


def _plain(name: str) -> str:
    return markdown_text(name.replace("_", " "))


def _interval(correct: int, total: int) -> str:
    """Return the 95 % Wilson score interval; empty without images."""
    if not total:
        return ""
    from scipy.stats import binomtest

    found = binomtest(correct, total).proportion_ci(0.95, method="wilson")
    return interval(found.low, found.high)
