"""Limits on the students' networks, before any training."""

from dataclasses import replace

import pytest

from analysis.runs.networks import Limits
from rkd_core import datasets
from rkd_core.errors import UserError
from rkd_core.models.cost import multiply_adds
from rkd_core.specs import DataOptions
from sweeps.planning.limits import beyond_limits
from tests.sweeps.planning.test_plan import SETTINGS

TWO = replace(SETTINGS, student_architectures=("digits_cnn", "resnet8"))


@pytest.fixture(name="digits", scope="module")
def loaded():
    return datasets.load("digits", DataOptions())


def test_networks_beyond_a_limit_are_named(digits):
    assert beyond_limits(TWO, digits, Limits(latency=1e-9)) == {}
    beyond = beyond_limits(TWO, digits, Limits(parameters=10_000))
    assert [*beyond] == ["resnet8"]
    assert beyond["resnet8"].endswith(" parameters (--max-parameters)")
    most = multiply_adds("digits_cnn", 10, 1, (8, 8))
    beyond = beyond_limits(TWO, digits, Limits(multiply_adds=most))
    assert beyond["resnet8"].endswith(" multiply-adds (--max-multiply-adds)")


def test_a_limit_that_no_network_keeps_is_refused(digits):
    with pytest.raises(UserError, match="--max-parameters 10: no network is within it; the small"):
        beyond_limits(TWO, digits, Limits(parameters=10))
