"""Choice of held-out training images."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from rkd_core.datasets.splits import hold_out
from rkd_core.errors import UserError
from rkd_core.specs import HoldoutRule
from tests.rkd_core.methods.problems import property_test


@property_test
@given(
    labels=st.lists(st.integers(0, 5), min_size=2, max_size=80),
    by=st.sampled_from(["auto", "share", "per_class"]),
    seed=st.integers(0, 2**40),
)
def test_the_two_parts_are_disjoint_and_together_all(labels, by, seed):
    rule = HoldoutRule(by=by, per_class=3, seed=seed)
    try:
        kept, held = hold_out(np.asarray(labels), rule)
    except UserError:
        assert len(labels) < 12
        return
    assert sorted([*kept, *held]) == list(range(len(labels)))
    assert len(kept)
    assert len(held)
    again = hold_out(np.asarray(labels), rule)
    assert np.array_equal(kept, again[0])
    assert np.array_equal(held, again[1])


def test_a_random_fifth_is_held_out_of_balanced_classes():
    labels = np.arange(1000) % 10
    _, held = hold_out(labels, HoldoutRule())
    assert len(held) == 200
    assert len(set(np.bincount(labels[held]))) > 1  # not stratified
    assert not np.array_equal(held, hold_out(labels, HoldoutRule(seed=1))[1])


def test_k_of_each_class_or_half_of_it_in_a_long_tail():
    counts = [500, 100, 41, 40, 39, 5, 2, 1]
    labels = np.repeat(np.arange(8), counts)
    labels = np.random.default_rng(0).permutation(labels)
    _, held = hold_out(labels, HoldoutRule())
    assert np.bincount(labels[held], minlength=8).tolist() == [20, 20, 20, 20, 19, 2, 1, 0]
    _, held = hold_out(labels, HoldoutRule(per_class=50))
    assert np.bincount(labels[held], minlength=8).tolist() == [50, 50, 20, 20, 19, 2, 1, 0]


def test_up_to_a_ratio_of_two_classes_count_as_alike():
    for counts, size in (([40, 20], 12), ([41, 20], 20 + 10)):
        assert len(hold_out(np.repeat([0, 1], counts), HoldoutRule())[1]) == size


def test_the_hold_out_rule_can_be_chosen():
    labels = np.repeat([0, 1], [40, 40])
    per_class = hold_out(labels, HoldoutRule(by="per_class", per_class=5))[1]
    assert np.bincount(labels[per_class]).tolist() == [5, 5]
    assert len(hold_out(np.repeat([0, 1], [99, 1]), HoldoutRule(by="share", share=0.1))[1]) == 10


def test_choices_within_a_class_are_random():
    labels = np.zeros(100, dtype=int)
    _, held = hold_out(labels, HoldoutRule(by="per_class", per_class=10))
    assert held.max() - held.min() > 20


@pytest.mark.parametrize("labels", [[], [0], [0, 1], [0, 1, 2]])
def test_too_few_images_are_refused(labels):
    with pytest.raises(UserError, match="a hold-out needs"):
        hold_out(np.asarray(labels, dtype=np.int64), HoldoutRule(by="per_class"))
