"""Classes in groups by training images."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from rkd_core.datasets import long_tail_counts
from rkd_core.metrics.class_groups import (
    equal_groups,
    head_medium_tail,
    is_long_tailed,
    many_medium_few,
)

some_counts = st.lists(st.integers(1, 300), min_size=1, max_size=60)
property_test = settings(deadline=None, max_examples=60, derandomize=True)


@pytest.mark.parametrize(
    ("classes", "sizes"),
    [
        (100, [33, 34, 33]),
        (200, [66, 68, 66]),
        (1000, [330, 340, 330]),
        (10, [3, 4, 3]),
        (5, [1, 3, 1]),
        (4, [1, 2, 1]),
        (3, [1, 1, 1]),
    ],
)
def test_head_medium_and_tail(classes, sizes):
    groups = head_medium_tail([classes - i for i in range(classes)])
    assert list(groups) == ["head", "medium", "tail"]
    assert [len(g) for g in groups.values()] == sizes
    assert [label for g in groups.values() for label in g] == list(range(classes))


def test_groups_go_by_count_and_ties_by_label():
    assert equal_groups([5, 9, 5, 7, 1, 1], 3) == [[1, 3], [0, 2], [4, 5]]
    assert head_medium_tail([1, 1, 5, 5])["head"] == [2]


@pytest.mark.parametrize("classes", [1, 2])
def test_fewer_than_three_classes_have_no_head_medium_and_tail(classes):
    assert head_medium_tail([9, 1][:classes]) == {}


@pytest.mark.parametrize("n", [3, 4, 5, 10, 20, 25, 50, 100])
def test_the_numbers_of_groups_of_ltkds_poster(n):
    sizes = [len(g) for g in equal_groups([1] * 100, n)]
    assert len(sizes) == n
    assert sum(sizes) == 100
    assert max(sizes) - min(sizes) <= 1


def test_there_are_no_more_groups_than_classes():
    for groups in (0, 4):
        with pytest.raises(ValueError, match=f"3 classes make from 1 to 3 groups, not {groups}"):
            equal_groups([1, 1, 1], groups)


def test_the_thresholds_of_imagenet_lt():
    assert many_medium_few([101, 100, 20, 19, 1280, 5]) == {
        "many": [4, 0],
        "medium": [1, 2],
        "few": [3, 5],
    }
    assert many_medium_few([500, 500]) == {"many": [0, 1], "medium": [], "few": []}
    groups = many_medium_few(long_tail_counts(500, 100, 100))  # CIFAR-100-LT
    assert [len(group) for group in groups.values()] == [35, 35, 30]


@property_test
@given(counts=some_counts, n=st.integers(1, 60))
def test_every_class_is_in_one_group_and_groups_do_not_overlap(counts, n):
    thirds = head_medium_tail(counts).values()
    assert all(thirds)
    for groups in (
        *([[*thirds]] if len(counts) >= 3 else []),
        [*many_medium_few(counts).values()],
        equal_groups(counts, min(n, len(counts))),
    ):
        assert sorted(label for group in groups for label in group) == list(range(len(counts)))
        in_order = [counts[label] for group in groups for label in group]
        assert in_order == sorted(counts, reverse=True)


def test_twice_the_smallest_class_is_no_long_tail():
    assert not is_long_tailed([20, 10, 15])
    assert is_long_tailed([21, 10, 15])
    assert is_long_tailed(np.array([3, 0]).tolist())
