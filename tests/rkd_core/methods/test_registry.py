"""Names, options, needs and grids of the methods."""

import subprocess
import sys
from pathlib import Path

import pytest

from rkd_core import methods
from rkd_core.errors import UserError
from rkd_core.methods.common.protocol import Cell, Needs, Shift
from rkd_core.specs import HoldoutRule

ROOT = Path(__file__).resolve().parents[3]
NAMES = [
    *("ada_alpha", "ada_alpha_remove_hardest", "ada_alpha_shuffled", "ada_margin"),
    *("balanced_student", "cat_kd", "dist", "dkd", "group_dro", "kd", "ltkd", "one_hot"),
    *("post_shift", "repeated_distillation", "review_kd", "robust_student", "standard"),
    *("tradeoff", "weighted_soft_labels"),
]


def test_the_papers_methods_are_there():
    assert list(methods.descriptions()) == NAMES


@pytest.mark.parametrize("name", NAMES)
def test_each_is_named_like_its_file_and_described_in_a_line(name):
    method = methods.find(name)
    family = "ada_alpha" if name.startswith("ada_alpha") else name  # with its two ablations
    assert method.__module__ == f"rkd_core.methods.{family}"
    assert 20 < len(method.description()) <= 95
    assert not method.description().endswith(".")


def test_reading_options_and_needs_needs_no_torch():
    code = (
        "from rkd_core import methods; import sys\n"
        "for name in methods.descriptions():\n"
        "    for method in methods.find(name).variants(): method.needs, method.cell\n"
        "assert 'torch' not in sys.modules"
    )
    subprocess.run([sys.executable, "-c", code], check=True, cwd=ROOT)


def test_unknown_names_and_options_are_refused_in_one_line():
    with pytest.raises(UserError, match="unknown method 'ada_apha': did you mean ada_alpha"):
        methods.find("ada_apha")
    with pytest.raises(UserError, match="unknown option of kd 'temprature': did you mean temperat"):
        methods.create("kd", {"temprature": 2})
    with pytest.raises(UserError, match=r"^kd.temperature: Input should be greater than 0$"):
        methods.create("kd", {"temperature": 0})
    with pytest.raises(UserError, match=r"ada_alpha.holdout"):
        methods.create("ada_alpha", {"holdout": "test"})


@pytest.mark.parametrize("name", NAMES)
def test_methods_are_values(name):
    method = methods.create(name)
    assert method == methods.create(name, method.model_dump(mode="json"))
    assert hash(method) == hash(methods.create(name))
    with pytest.raises(ValueError, match="frozen"):
        method.name_of_nothing = 1  # type: ignore[attr-defined]


@pytest.mark.parametrize("name", NAMES)
def test_grids_are_small_and_of_valid_distinct_options(name):
    variants = methods.find(name).variants()
    assert 1 <= len(variants) <= 15
    assert len(set(variants)) == len(variants)


@pytest.mark.parametrize("name", NAMES)
def test_options_cannot_be_infinite_or_wild(name):
    for option, field in methods.find(name).model_fields.items():
        for wild in (float("nan"), float("inf"), -1.0, "nonsense", object()):
            if option == "softens" or field.annotation is not bool or wild != -1.0:
                with pytest.raises(UserError, match=f"{name}.{option}"):
                    methods.create(name, {option: wild})


def test_defaults_never_change():
    """They are the papers', and run ids leave out what is at its default: add, never edit."""
    adaptive = {
        "softens": "teacher",
        "temperature": 1,
        "holdout": {"by": "auto", "share": 0.2, "per_class": 20, "seed": 0},
        "alpha_temperature": 1,
        "distil_from": "full",
    }
    both = {"softens": "both", "temperature": 4}
    teacher = {"softens": "teacher", "temperature": 1}
    assert {name: methods.create(name).model_dump(mode="json") for name in NAMES} == {
        "ada_alpha": adaptive,
        "ada_alpha_remove_hardest": adaptive | {"removed": 0.1, "weight": 1},
        "ada_alpha_shuffled": adaptive | {"shuffle_seed": 0},
        "ada_margin": adaptive | {"offset": 1e-2},
        "balanced_student": teacher,
        "cat_kd": {"weight": 15, "resolution": 2, "normalize": False},
        "dist": both | {"label_weight": 1, "row_weight": 2, "column_weight": 2},
        "dkd": both
        | {"target_weight": 1, "others_weight": 8, "label_weight": 1, "warmup": 20 / 240},
        "group_dro": {"step_size": 0.01, "adjustment": 0, "reweight_groups": True},
        "kd": both | {"label_weight": 0.1, "soft_weight": 0.9},
        "ltkd": both
        | {
            "groups": "head_medium_tail",
            "label_weight": 1,
            "cross_weight": 1,
            "within_weight": 1,
            "rebalance": True,
            "within": "uniform",
        },
        "one_hot": {},
        "post_shift": {"steps": 2000, "step_size": 0.1, "decay": 300, "sweeps": 3},
        "repeated_distillation": teacher | {"rounds": 3},
        "review_kd": {"weight": 5, "warmup": 20 / 240, "before_activation": False},
        "robust_student": teacher,
        "standard": teacher | {"one_hot_weight": 0},
        "tradeoff": teacher | {"alpha": 0.5},
        "weighted_soft_labels": both | {"weight": 2.25},
    }


def test_both_temperature_conventions_are_stated():
    softens = {
        name: methods.create(name).model_dump().get("softens")
        for name in NAMES
        if "temperature" in methods.find(name).model_fields
    }
    both = {"dist", "dkd", "kd", "ltkd", "weighted_soft_labels"}
    assert {name for name, of in softens.items() if of == "both"} == both
    assert {name for name, of in softens.items() if of == "teacher"} == {
        *("ada_alpha", "ada_alpha_remove_hardest", "ada_alpha_shuffled", "ada_margin"),
        *("balanced_student", "repeated_distillation", "robust_student", "standard", "tradeoff"),
    }


def test_cells_of_the_grid():
    def cell(name, **options):
        return methods.create(name, options).cell

    assert cell("standard", temperature=3) == Cell("standard", 3)
    assert cell("standard", one_hot_weight=0.1) is None
    assert cell("balanced_student", temperature=3) == Cell("balanced", 3)
    assert cell("robust_student", temperature=3) == Cell("robust", 3)
    assert cell("tradeoff", alpha=0.25) == Cell("tradeoff", 1, 0.25, teachers="grid")
    assert cell("repeated_distillation", rounds=2) == Cell("standard", 1, rounds=2)
    others = {n for n in NAMES if methods.create(n).cell is None}
    assert others == set(NAMES) - {
        *("standard", "balanced_student", "robust_student", "tradeoff", "repeated_distillation"),
    }


def test_inputs_that_each_method_needs():
    needs = {name: methods.create(name).needs for name in NAMES}
    assert needs["one_hot"] == Needs()
    # Group DRO never sees validation: neither as a hold-out nor otherwise.
    assert needs["group_dro"] == Needs(class_counts=True, sampling="class_uniform")
    assert [n for n in NAMES if needs[n].sampling != "all"] == ["group_dro"]
    assert [n for n in NAMES if needs[n].teacher is None] == ["group_dro", "one_hot"]
    assert [n for n in NAMES if needs[n].features] == ["review_kd"]
    assert [n for n in NAMES if needs[n].maps] == ["cat_kd"]
    assert [n for n in NAMES if needs[n].class_counts] == ["group_dro", "ltkd", "post_shift"]
    ada = [n for n in NAMES if n.startswith("ada_")]
    assert [n for n in NAMES if needs[n].holdout] == ada
    assert all(needs[n].holdout == HoldoutRule() for n in ada)
    assert [n for n in NAMES if issubclass(methods.find(n), Shift)] == ["post_shift"]


def test_needs_follow_the_options():
    def needs(name, **options):
        return methods.create(name, options).needs

    assert needs("group_dro", reweight_groups=False).sampling == "all"
    assert needs("ada_alpha", distil_from="initial").teacher == "initial"
    assert needs("ada_margin", holdout="validation").holdout == "validation"
    assert needs("ada_margin", holdout="validation", distil_from="initial").teacher == "full"
    rule = needs("ada_alpha", holdout={"by": "per_class", "per_class": 50}).holdout
    assert rule == HoldoutRule(by="per_class", per_class=50)


@pytest.mark.parametrize(
    "name", ["balanced_student", "robust_student", "tradeoff", "repeated_distillation"]
)
def test_a_method_that_is_a_cell_of_the_grid_has_no_second_implementation(name):
    from tests.rkd_core.methods.problems import context

    with pytest.raises(TypeError, match=f"{name} has no loss of its own"):
        methods.create(name).loss(context(3))
