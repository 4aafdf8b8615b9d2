"""Numbers as text."""

import math

import pytest

from rkd_core.text.numbers import difference


@pytest.mark.parametrize(
    ("after", "before", "shown"),
    [
        (0.89975, 0.9125, "−1.2"),  # 90.0 and 91.2, although they differ by 1.275 points
        (0.8182, 0.4848, "+33.3"),
        (0.5004, 0.4996, "0.0"),  # both 50.0
        (math.nan, 0.5, "—"),
    ],
)
def test_a_difference_is_that_of_the_figures_as_shown(after, before, shown):
    assert difference(after, before) == shown
