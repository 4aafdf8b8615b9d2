"""The option ``--methods``: lists, grids, options."""

import pytest

from rkd_core import methods
from rkd_core.errors import UserError
from rkd_core.specs import HoldoutRule
from sweeps.cli.method_names import chosen, variants


def test_a_name_is_a_grid_and_a_name_with_options_one_point():
    assert variants("dkd") == methods.find("dkd").variants()
    (only,) = variants("ltkd:within_weight=0:rebalance=false:groups=5")
    options = {"within_weight": 0, "rebalance": False, "groups": 5}
    assert only == methods.create("ltkd", options)
    (by_name,) = variants("ltkd:groups=head_medium_tail")
    assert by_name == methods.create("ltkd")
    assert chosen(" kd , ltkd:groups=5 ") == ("kd", "ltkd:groups=5")
    assert chosen("all") == tuple(methods.descriptions())


def test_an_option_with_parts_is_set_part_by_part():
    """ImageNet-LT's hold-out of Lukasik et al. has 50 images a class, not 20."""
    (method,) = variants("ada_alpha:holdout.by=per_class:holdout.per_class=50:temperature=3")
    assert method.needs.holdout == HoldoutRule(by="per_class", per_class=50)
    assert method == methods.create(
        "ada_alpha", {"holdout": {"by": "per_class", "per_class": 50}, "temperature": 3}
    )
    (whole,) = variants("ada_margin:holdout=validation")
    assert whole.needs.holdout == "validation"


@pytest.mark.parametrize(
    ("names", "words"),
    [
        ("kdd", "unknown method 'kdd'"),
        ("kd,,dkd", "without empty names"),
        ("kd,kd", "names kd twice"),
        ("kd:temperature", "write temperature=VALUE"),
        ("kd:temprature=3", "did you mean temperature"),
        ("kd:temperature=0", "kd.temperature"),
        ("ada_alpha:holdout.per_clas=50", "ada_alpha.holdout"),
        ("ada_alpha:holdout.per_class=0", "ada_alpha.holdout"),
        ("ada_alpha:temperature.x=3", "ada_alpha.temperature"),
        ("ada_alpha:holdout=validation:holdout.per_class=50", "as a whole and by its parts"),
        ("ada_alpha:.x=3", "unknown option of ada_alpha"),
    ],
)
def test_invalid_values_are_one_line(names, words):
    with pytest.raises(UserError, match=words) as caught:
        chosen(names)
    assert "\n" not in str(caught.value)
    assert str(caught.value).startswith("--methods")
