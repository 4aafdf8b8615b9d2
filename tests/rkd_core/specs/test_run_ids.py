"""Run ids of every network, recipe and method stay the same, so that results are found again."""

import json
from pathlib import Path

import pytest

from rkd_core import methods
from rkd_core.models import architectures
from rkd_core.spec_options import HoldoutRule
from rkd_core.specs import (
    DataOptions,
    Derivation,
    MultiplierOptions,
    Recipe,
    TeacherRef,
    TrainingSpec,
    Tuned,
    family_id,
    identity,
    recipes,
    run_id,
)

PINNED = json.loads(Path(__file__).with_name("run_ids.json").read_text())
"""``now``: run and family id by name; ``first``: the original ids of those that have changed."""
SHORT = Recipe(epochs=3)


def teacher(architecture="resnet8", recipe=SHORT, **changes):
    fields = {"stage": "teacher", "dataset": "d", "objective": "standard"}
    return TrainingSpec(**fields | {"architecture": architecture, "recipe": recipe} | changes)


def ref(spec):
    ids = {"run_id": run_id(spec, "data"), "family": family_id(spec, "data")}
    return TeacherRef(
        **ids, architecture=spec.architecture, objective=spec.objective, alpha=spec.alpha
    )


def student(above, architecture="resnet8", recipe=None, **changes):
    fields = {"stage": "student", "teacher": ref(above), "temperature": 1.0}
    return teacher(architecture, recipe or above.recipe, **fields | changes)


def of_networks():
    for name in architectures():
        own = teacher(name)
        yield f"architecture {name}: teacher", own
        yield f"architecture {name}: student of its own", student(own, name)
        yield f"architecture {name}: resnet8 student", student(own)
        yield f"architecture {name}: teacher of resnet8's student", student(teacher(), name)


def of_recipes():
    for name in recipes.RECIPES:
        own = teacher(recipe=recipes.get(name))
        yield f"recipe {name}: teacher", own
        yield f"recipe {name}: student", student(own)
        yield f"recipe {name}: student of 3 epochs", student(own, recipe=SHORT)


def of_methods():
    for name in methods.descriptions():
        options = {"rounds": 2} if name == "repeated_distillation" else {}
        method = methods.create(name, options)
        if method.cell is not None and method.cell.rounds == 1:
            continue
        needs = method.needs
        fields = {
            "stage": "student",
            "variant": {"method": name, "options": options},
            "temperature": getattr(method, "temperature", None),
            "teacher": ref(teacher()) if needs.teacher else None,
        }
        if isinstance(needs.holdout, HoldoutRule):
            fields["initial"] = ref(teacher(held_out=needs.holdout))
        yield f"method {name}", teacher(**fields)


def of_the_rest():
    ascent = {"multipliers": MultiplierOptions()}
    halfway = teacher(objective="tradeoff", alpha=0.5, **ascent)
    yield "objective tradeoff", halfway
    yield "objective robust", teacher(objective="robust", **ascent)
    yield "objective balanced", teacher(objective="balanced")
    yield "student tradeoff", student(halfway, objective="tradeoff", alpha=0.25, **ascent)
    yield "held out", teacher(held_out=HoldoutRule())
    yield "initial weights", teacher(initial_weights="a" * 64)
    yield "data", teacher(data=DataOptions(imbalance=100, split_seed=1))
    tuned = Recipe(epochs=3, learning_rate=0.02)
    yield "tuned", student(halfway, recipe=tuned, tuned=Tuned(learning_rate=0.1))
    for by in ("shifted", "head", "warm"):
        derived = Derivation(by=by, source=ref(teacher()))
        own = {} if by == "shifted" else ascent
        yield f"derived {by}", teacher(objective="tradeoff", alpha=0.5, derived=derived, **own)


@pytest.mark.parametrize("every", [of_networks, of_recipes, of_methods, of_the_rest])
def test_ids_do_not_drift(every):
    """A failure here means retraining. A new name gets a line in ``run_ids.json``."""
    for name, spec in every():
        ids = [run_id(spec, "data"), family_id(spec, "data")]
        line = f"run_ids.json needs the line {json.dumps(name)}: {json.dumps(ids)}"
        assert name in PINNED["now"], line
        assert ids == PINNED["now"][name], name


def test_only_what_trains_otherwise_has_a_new_id():
    """Students of such a teacher change as well; the method is not part of a family."""
    changed = {
        name
        for name in PINNED["now"]
        if "_google: " in name
        or name.startswith("recipe logit-adjustment")
        or name == "method cat_kd"
    }
    assert PINNED["first"].keys() == changed
    for name, (run, family) in PINNED["first"].items():
        now = PINNED["now"][name]
        assert now[0] != run
        assert (now[1] != family) == (name != "method cat_kd")


def test_a_revision_changes_the_ids_of_its_own_runs_alone(monkeypatch):
    monkeypatch.setitem(identity._REVISIONS["method"], "dkd", 2)
    found = {name: run_id(spec, "data") for name, spec in of_methods()}
    assert [n for n, run in found.items() if run != PINNED["now"][n][0]] == ["method dkd"]
