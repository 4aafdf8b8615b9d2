"""Export of a selection as strict JSON, written atomically."""

from __future__ import annotations

import json
import math
from dataclasses import asdict
from typing import Any

from analysis.runs.columns import FloatArray, IntArray, objective_names
from analysis.runs.combinations import Combinations, Means
from analysis.runs.groups import Groupings, accuracies, groupings
from analysis.selection.measured import Measured
from analysis.selection.outcome import Outcome
from analysis.selection.recommendation import recommendation
from analysis.selection.uncertainty import CONFIDENCE, Uncertainty
from rkd_core.metrics.class_groups import DEFINITION
from rkd_core.storage.files import Location, replace_file

__all__ = ["SCHEMA_VERSION", "document", "write_json"]

SCHEMA_VERSION = 1


def document(outcome: Outcome) -> dict[str, Any]:
    """Return the content of ``selection.json`` as plain data; None for an undefined number.

    Accuracies are fractions and means over seeds. ``combinations`` and ``constraint`` use
    validation only; ``frontier`` holds indices into ``combinations``. ``worst_class`` is always the
    single worst class, ``worst_k`` the criterion's k classes. ``class_groups`` are by training
    images (none if records have no counts or there are fewer than three classes; no group is
    empty); a group's accuracy is the mean recall of its classes.

    ``best_per_network`` has the student that the rule would select if a network were the only one,
    for each network from the smallest on. ``combination`` and ``standard_distillation``, which its
    constraint is measured against, are indices into ``combinations``; intervals are those of the
    accuracies on other images.

    ``undistilled`` compares the selected student with the best one without a teacher, by the same
    rule (None if none was trained): ``preferred`` if the rule values it as much or more, with its
    ``expected`` accuracies, and the ``gain`` of the selected student over it. ``students`` are all
    students without a teacher. ``beyond_shift`` (None without shifts) has the index of the best
    shifted standard distillation among ``combinations``, and what the selected student gains over
    it.

    ``runners_up`` are the indices of the next two by the rule among ``combinations``, with their
    ``gain`` over the selected student, whose intervals are paired with ``paired`` estimates.

    ``methods`` are students of other methods, on validation and on test; none of them is selected.
    ``recommendation`` says whether the selected student can be shipped, and if not, why and what to
    change; ``selected`` holds it in either case. ``optimism`` is the excess of its validation
    figure over ``corrected``, the expected figure; intervals have probability ``confidence``; gains
    are over standard distillation. ``prospects`` are accuracies of the selected student with
    intervals: ``other_images`` is estimated from validation and describes the ``subject``,
    ``such_a_test`` predicts a test set with as many images of each class, and ``test_alone`` has
    the test figures with intervals from the test counts alone.

    ``metric`` has the figures by the metric of ``--metric``: of every class, then of the worst ones
    (or the group) and the average; None without it. With ``--worst-group``, it has the accuracies
    of groups of images, and ``class_and_group`` those of the classes in each group. With a metric
    of which lower figures are better, ``corrected`` and ``interval`` are negated.
    """
    selection, setting = outcome.selection, outcome.setting
    means, reference = selection.means, selection.reference
    rows = _rows(selection.combinations, selection.criterion.worst_k)
    for row, margin, admitted in zip(rows, selection.margin, selection.admitted, strict=True):
        row.update(margin=_number(margin), feasible=bool(admitted))
    if outcome.uncertainty is not None:
        for row, chances in zip(rows, _chances(outcome.uncertainty), strict=True):
            row.update(chances)
    return {
        "schema_version": SCHEMA_VERSION,
        "dataset": setting.dataset,
        "teacher_architecture": setting.teacher_architecture,
        "student_architecture": setting.student_architecture,
        "best_per_network": _best_per_network(outcome),
        "family": setting.family,
        "criterion": selection.criterion.describe(),
        "constraint": {
            "reference_run_ids": selection.combinations.run_ids(reference),
            "reference_val_average_accuracy": _number(means.average[reference]),
            "reference_val_average_accuracy_se": _number(means.average_se[reference]),
            "margin": _number(selection.margin[selection.selected]),
            "least_val_average_accuracy": selection.least_average,
        },
        "feasible": selection.feasible,
        "recommendation": recommendation(outcome).document(setting.class_names),
        **_uncertainty(outcome),
        "prospects": {"subject": outcome.subject, **asdict(outcome.prospects)},
        "class_groups": {
            grouping: {
                name: [setting.class_names[label] for label in labels]
                for name, labels in groups.items()
            }
            for grouping, groups in groupings(setting.train_counts).items()
        },
        "class_groups_definition": {
            "head_medium_tail": DEFINITION,
            "many_medium_few": "more than 100, 20 to 100, and fewer than 20 training images",
        },
        "selected": _figures(outcome, selection.selected),
        "standard_distillation": _figures(outcome, reference),
        "combinations": rows,
        "frontier": selection.frontier.tolist(),
        "runners_up": _runners_up(outcome),
        "undistilled": _undistilled(outcome),
        "beyond_shift": _beyond_shift(outcome),
        "methods": _methods(outcome),
        "metric": _by_metric(outcome.measured),
        "class_and_group": _by_metric(outcome.by_class_and_group),
    }


def _by_metric(measured: Measured | None) -> dict[str, Any] | None:
    """Return the figures by the metric of the rule, by class and for the worst and the average."""
    if measured is None:
        return None
    rule = measured.rule
    return {
        "name": rule.figure.name,
        "lower_is_better": rule.figure.lower_is_better,
        "rows": list(measured.rows),
        "rows_are": measured.kind,
        **{
            split: {
                "images": found.images.tolist(),
                "standard_distillation": _numbers(found.standard),
                "selected": _numbers(found.selected),
                "interval": [_numbers(ends) for ends in found.interval.T],
                "gain_interval": [_numbers(ends) for ends in found.gain.T],
            }
            for split, found in (("val", measured.val), ("test", measured.test))
        },
    }


def _best_per_network(outcome: Outcome) -> list[dict[str, Any]]:
    """Return each network with its best student, the smallest network first."""
    c, sure, found = outcome.selection.combinations, outcome.uncertainty, []
    means, test = outcome.selection.means, outcome.test
    for one in outcome.best_per_network:
        place = one.selected
        worst = None if sure is None else _numbers(sure.worst_k_interval[:, place])
        average = None if sure is None else _numbers(sure.average_interval[:, place])
        found.append(
            {
                **asdict(one.network),
                "combination": place,
                "standard_distillation": one.reference,
                "feasible": one.feasible,
                "run_ids": c.run_ids(place),
                "val_worst_k_accuracy": _number(means.worst_k[place]),
                "val_average_accuracy": _number(means.average[place]),
                "worst_k_interval": worst,
                "average_interval": average,
                "test_worst_k_accuracy": _number(test.worst_k[place]),
                "test_average_accuracy": _number(test.average[place]),
            }
        )
    return found


def _uncertainty(outcome: Outcome) -> dict[str, Any]:
    """Return the uncertainty of the choice; None for each figure without an estimate."""
    sure, selection = outcome.uncertainty, outcome.selection
    names = ("expected_regret", "optimism", "corrected", "interval", "shared_image_noise")
    if sure is None:
        none = dict.fromkeys(names)
        return {"estimate": "raw", "paired": False, "probability_best": None, **none}
    return {
        "estimate": "raw" if selection.seen.estimated is None else "shrunk",
        "paired": selection.combinations.outcomes is not None,
        "confidence": CONFIDENCE,
        "probability_best": _number(sure.probability_best[selection.selected]),
        "expected_regret": _number(sure.expected_regret),
        "optimism": _number(sure.optimism),
        "corrected": _number(sure.corrected),
        "interval": _numbers(sure.interval),
        "shared_image_noise": _number(sure.shared),
    }


def _runners_up(outcome: Outcome) -> list[dict[str, Any]]:
    """Return the next combinations by the rule, with their accuracies less the selected one's."""
    sure, places = outcome.uncertainty, outcome.selection.runners_up
    gains = [None] * len(places) if sure is None else [asdict(one) for one in sure.runners_up]
    return [{"combination": p, "gain": gain} for p, gain in zip(places, gains, strict=True)]


def _chances(sure: Uncertainty) -> list[dict[str, Any]]:
    """Return posterior figures of every combination."""
    columns: dict[str, list[Any]] = {
        "probability_best": _numbers(sure.probability_best),
        "probability_feasible": _numbers(sure.probability_admitted),
        "expected_worst_k_accuracy": _numbers(sure.expected.worst_k),
        "expected_average_accuracy": _numbers(sure.expected.average),
        "worst_k_interval": sure.worst_k_interval.T.tolist(),
        "average_interval": sure.average_interval.T.tolist(),
        "worst_k_gain_interval": sure.worst_k_gain.T.tolist(),
        "average_gain_interval": sure.average_gain.T.tolist(),
    }
    return [dict(zip(columns, row, strict=True)) for row in zip(*columns.values(), strict=True)]


def write_json(path: Location, content: dict[str, Any]) -> None:
    """Write strict JSON atomically; a NaN in the content is an error."""
    text = json.dumps(content, indent=2, ensure_ascii=False, allow_nan=False)
    replace_file(path, (text + "\n").encode())


def _rows(combinations: Combinations, worst_k: int) -> list[dict[str, Any]]:
    """Return settings, seeds and validation accuracies of every combination."""
    c = combinations
    run_ids, seed, stop = c.run_id.to_pylist(), c.seed.tolist(), (c.start + c.seeds).tolist()
    runs = [slice(*ends) for ends in zip(c.start.tolist(), stop, strict=True)]
    columns: dict[str, list[Any]] = {
        "run_ids": [run_ids[rows] for rows in runs],
        "teacher_objective": _objectives(c.teacher_objective),
        "alpha_t": _numbers(c.alpha_t),
        "student_objective": _objectives(c.student_objective),
        "alpha_s": _numbers(c.alpha_s),
        "temperature": _numbers(c.temperature),
        **({"network": c.network.to_pylist()} if len(c.networks) > 1 else {}),
        "tuned": c.tuned.to_pylist(),
        "shift": _numbers(c.shift),
        "seeds": [seed[rows] for rows in runs],
        **_accuracies("val", c.means(), c.means(worst_k)),
    }
    return [dict(zip(columns, row, strict=True)) for row in zip(*columns.values(), strict=True)]


def _methods(outcome: Outcome) -> list[dict[str, Any]]:
    """Return variant, seeds and accuracies of every student of another method.

    Students without a teacher are left out if their objective is not standard.
    """
    c, worst_k = outcome.methods.combinations, outcome.selection.criterion.worst_k
    found = []
    for index, row in enumerate(_rows(c, worst_k)):
        del row["alpha_s"]
        if row.pop("student_objective") is not None:
            continue
        only = c.only(index)
        means = (outcome.held_out.means(only, k) for k in (1, worst_k))
        test = {name: column[0] for name, column in _accuracies("test", *means).items()}
        found.append({"variant": c.variant[index].as_py(), **row, **test})
    return found


def _beyond_shift(outcome: Outcome) -> dict[str, Any] | None:
    """Return the best shift of standard distillation, and the gains beyond it."""
    place, sure = outcome.selection.shifted_standard, outcome.uncertainty
    if place is None:
        return None
    gain = None if sure is None else sure.beyond_shift
    return {"combination": place, "gain": None if gain is None else asdict(gain)}


def _undistilled(outcome: Outcome) -> dict[str, Any] | None:
    """Return the students without a teacher, and the best of them against the selected one."""
    beside = outcome.undistilled
    if beside is None:
        return None
    worst_k = outcome.selection.criterion.worst_k
    rows = _rows(beside.combinations, worst_k)
    for index, row in enumerate(rows):
        only = beside.combinations.only(index)
        means = (outcome.held_out.means(only, k) for k in (1, worst_k))
        row.update({name: column[0] for name, column in _accuracies("test", *means).items()})
        for name in ("teacher_objective", "alpha_t", "temperature", "tuned"):
            del row[name]
    return {
        "best": beside.best,
        "feasible": beside.admitted,
        "preferred": beside.preferred,
        "expected": {"worst_k": beside.worst_k, "average": beside.average},
        "gain": None if beside.gain is None else asdict(beside.gain),
        "students": rows,
    }


def _figures(outcome: Outcome, index: int) -> dict[str, Any]:
    """Return one combination in full, with its test figures and per-class recalls."""
    held_out, names = outcome.held_out, outcome.setting.class_names
    worst_k = outcome.selection.criterion.worst_k
    only = outcome.selection.combinations.only(index)
    test = _accuracies("test", held_out.means(only), held_out.means(only, worst_k))
    recalls = {"val": only.mean_recalls(), "test": held_out.mean_recalls(only)}
    by_group = groupings(outcome.setting.train_counts)
    c = outcome.selection.combinations
    return {
        **_rows(only, worst_k)[0],
        **({"network": c.network[index].as_py()} if len(c.networks) > 1 else {}),
        "teacher_ids": only.teacher_id.to_pylist(),
        **{name: column[0] for name, column in test.items()},
        **{f"{split}_group_accuracies": _by_group(r, by_group) for split, r in recalls.items()},
        **{
            f"{split}_recalls": dict(zip(names, _numbers(r), strict=True))
            for split, r in recalls.items()
        },
    }


def _by_group(recalls: FloatArray, groupings: Groupings) -> dict[str, dict[str, float | None]]:
    return {
        grouping: {name: _number(value) for name, value in accuracies(recalls, groups).items()}
        for grouping, groups in groupings.items()
    }


def _accuracies(split: str, worst_class: Means, worst_k: Means) -> dict[str, list[float | None]]:
    """Return one column per accuracy and standard error."""
    return {
        f"{split}_average_accuracy": _numbers(worst_class.average),
        f"{split}_average_accuracy_se": _numbers(worst_class.average_se),
        f"{split}_worst_class_accuracy": _numbers(worst_class.worst_k),
        f"{split}_worst_class_accuracy_se": _numbers(worst_class.worst_k_se),
        f"{split}_worst_k_accuracy": _numbers(worst_k.worst_k),
        f"{split}_worst_k_accuracy_se": _numbers(worst_k.worst_k_se),
    }


def _objectives(places: IntArray) -> list[str | None]:
    names = objective_names()
    return [names[place] if place >= 0 else None for place in places.tolist()]


def _number(value: float) -> float | None:
    return float(value) if math.isfinite(value) else None


def _numbers(values: FloatArray) -> list[float | None]:
    return [value if math.isfinite(value) else None for value in values.tolist()]
