"""Rows of splits: long-tail counts, subsets, halves of the test set, names."""

import math
from fractions import Fraction

import numpy as np
import pytest

from rkd_core import datasets
from rkd_core.datasets.splits import draw_classes, halve, proportional_counts, training_rows
from rkd_core.errors import UserError
from rkd_core.specs import DataOptions
from rkd_core.text.nouns import counted

PROFILE = {"imbalance": None, "profile": "exponential", "limit": None, "seed": 0}


@pytest.mark.parametrize(
    ("n_max", "classes", "ratio", "total"),
    [
        (5000, 10, 10, 20_431),
        (5000, 10, 20, 17_023),
        (5000, 10, 50, 13_996),
        (5000, 10, 100, 12_406),
        (500, 100, 10, 19_573),
        (500, 100, 20, 15_907),
        (500, 100, 50, 12_608),
        (500, 100, 100, 10_847),
        (500, 200, 10, 39_072),
        (500, 200, 20, 31_711),
        (500, 200, 50, 25_082),
        (500, 200, 100, 21_549),
    ],
)
def test_exponential_totals_of_the_literature(n_max, classes, ratio, total):
    counts = datasets.long_tail_counts(n_max, classes, ratio)
    assert sum(counts) == total
    assert (counts[0], counts[-1]) == (n_max, n_max // ratio)
    assert counts == sorted(counts, reverse=True)


def test_exponential_counts_of_cifar10_lt_100():
    expected = [5000, 2997, 1796, 1077, 645, 387, 232, 139, 83, 50]
    assert datasets.long_tail_counts(5000, 10, 100) == expected


@pytest.mark.parametrize(("n_max", "classes", "total"), [(5000, 10, 25_250), (500, 100, 25_250)])
def test_step_totals_of_the_literature(n_max, classes, total):
    assert sum(datasets.long_tail_counts(n_max, classes, 100, "step")) == total
    assert sum(datasets.long_tail_counts(500, 200, 100, "step")) == 50_500


def test_whole_shares_are_not_lost_to_rounding():
    for n_max in range(1, 3000, 7):
        for ratio in (2, 3, 5, 7, 10, 49, 100):
            if n_max % ratio == 0:
                counts = datasets.long_tail_counts(n_max, 3, ratio)
                assert counts[-1] == n_max // ratio
                exact = math.isqrt(int(Fraction(n_max * n_max, ratio)))
                assert counts[1] == exact
    assert 49 * 49**-1.0 < 1  # the case that a plain floor gets wrong
    assert datasets.long_tail_counts(49, 2, 49) == [49, 1]


def test_one_class_and_ratio_one_keep_everything():
    assert datasets.long_tail_counts(7, 1, 100) == [7]
    assert datasets.long_tail_counts(7, 1, 100, "step") == [7]
    assert datasets.long_tail_counts(7, 4, 1) == [7] * 4
    assert datasets.long_tail_counts(8, 3, 4, "step") == [8, 8, 2]


@pytest.mark.parametrize("ratio", [0.5, float("nan")])
def test_ratio_below_one_is_bad_input(ratio):
    with pytest.raises(UserError, match="at least 1"):
        datasets.long_tail_counts(10, 2, ratio)


def test_ratio_that_empties_a_class_is_bad_input():
    with pytest.raises(UserError, match=r"leaves class 2 without images.*at most 10"):
        datasets.long_tail_counts(10, 3, 11)


def test_nonsense_profile_or_size_is_refused():
    with pytest.raises(ValueError, match="profile"):
        datasets.long_tail_counts(10, 3, 2, "linear")
    with pytest.raises(ValueError, match="at least 1"):
        datasets.long_tail_counts(0, 3, 2)


def test_training_rows_follow_the_profile_and_never_exceed_what_is_there():
    labels = np.array([0] * 50 + [1] * 3 + [2] * 50)
    rows = training_rows(labels, 3, **PROFILE | {"imbalance": 10})
    assert np.bincount(labels[rows]).tolist() == [50, 3, 5]
    assert rows.tolist() == sorted(set(rows.tolist()))


def test_smaller_subsets_lie_inside_larger_ones_and_seeds_differ():
    labels = np.repeat(np.arange(4), 100)
    small, large, other = (
        set(training_rows(labels, 4, **PROFILE | change).tolist())
        for change in ({"imbalance": 50}, {"imbalance": 5}, {"imbalance": 5, "seed": 1})
    )
    assert small < large
    assert other != large


def test_limit_comes_after_the_profile():
    labels = np.repeat(np.arange(2), 100)
    rows = training_rows(labels, 2, **PROFILE | {"imbalance": 4, "limit": 25})
    assert np.bincount(labels[rows]).tolist() == [20, 5]
    limited = [training_rows(labels, 2, **PROFILE | {"limit": 25, "seed": s}) for s in range(2)]
    assert limited[0].tolist() != limited[1].tolist()


@pytest.mark.parametrize(
    ("counts", "limit", "expected"),
    [
        ([10, 10, 10], 7, [3, 2, 2]),
        ([60, 30, 10], 10, [6, 3, 1]),
        ([997, 1, 1, 1], 10, [7, 1, 1, 1]),
        ([5, 5], 100, [5, 5]),
        ([5, 4, 3], 12, [5, 4, 3]),
        ([1000, 1, 1], 3, [1, 1, 1]),
    ],
)
def test_proportional_counts(counts, limit, expected):
    assert proportional_counts(counts, limit) == expected


def test_proportional_counts_are_within_one_of_the_share():
    rng = np.random.RandomState(0)
    for _ in range(50):
        counts = rng.randint(20, 400, size=6)
        limit = int(rng.randint(60, counts.sum()))
        taken = np.array(proportional_counts(counts.tolist(), limit))
        assert taken.sum() == limit
        assert (taken <= counts).all()
        assert (np.abs(taken - limit * counts / counts.sum()) <= 1).all()


def test_limit_below_the_classes_is_bad_input():
    with pytest.raises(UserError, match="`limit_train` 2 is below the 3 classes"):
        proportional_counts([5, 5, 5], 2)


def test_halving_is_a_fixed_partition():
    labels = np.random.RandomState(0).randint(0, 5, 101)
    val, test = halve(labels, 3, stratified=False)
    assert (len(val), len(test)) == (50, 51)
    assert sorted([*val, *test]) == list(range(101))
    assert (np.diff(val) > 0).all()
    assert (np.diff(test) > 0).all()
    # The stream is frozen: this is what stored results were split by.
    expected = np.sort(np.random.RandomState(3).permutation(101)[:50])
    np.testing.assert_array_equal(val, expected)
    assert not np.array_equal(val, halve(labels, 4, stratified=False)[0])


def test_stratified_halving_halves_every_class():
    labels = np.array([0] * 10 + [1] * 7 + [2] * 5 + [3] * 1)
    val, test = halve(labels, 0, stratified=True)
    assert sorted([*val, *test]) == list(range(23))
    counts = np.bincount(labels[val], minlength=4), np.bincount(labels[test], minlength=4)
    assert (np.abs(counts[0] - counts[1]) <= 1).all()
    assert abs(len(val) - len(test)) <= 1


def test_one_test_image_cannot_be_halved():
    with pytest.raises(UserError, match="has 1 image:"):
        halve(np.array([0]), 0, stratified=False)


def test_names_and_their_long_tails():
    names = datasets.names()
    for base in ("digits", "cifar10", "cifar100", "tiny-imagenet", "imagenet"):
        assert base in names
        assert base + "-lt" in names
    assert all(text and "\n" not in text for text in names.values())
    assert datasets.default_imbalance("cifar10-lt") == 100.0
    assert datasets.default_imbalance("digits-lt") == 20.0
    assert datasets.default_imbalance("cifar10") is None
    assert datasets.default_imbalance("./some/folder-lt") is None


def test_display_name(tmp_path):
    assert datasets.display_name("cifar10-lt") == "cifar10-lt"
    assert datasets.display_name(str(tmp_path / "birds") + "/") == "birds"


def test_an_image_size_beyond_reason_is_bad_input():
    for side in (4097, 100_000, 99_999_999_999):
        with pytest.raises(UserError, match=f"`image_size` {side} is too large: at most 4096"):
            datasets.load("digits", DataOptions(image_size=side))


def test_arrays_keep_to_the_decode_limit():
    options, most = DataOptions(image_size=64), 1797 * 64 * 64
    assert datasets.load("digits", options, decode_limit=most).image_size == (64, 64)
    with pytest.raises(UserError, match=r"digits at `image_size` 64 takes .* cannot be streamed"):
        datasets.load("digits", options, decode_limit=most - 1)


def test_numbers_agree_with_their_nouns():
    assert [counted(n, "image") for n in (0, 1, 2)] == ["0 images", "1 image", "2 images"]
    assert counted(1, "class", "classes") == "1 class"
    assert counted(3, "class", "classes") == "3 classes"


def test_digits_and_their_long_tail():
    plain = datasets.load("digits", DataOptions())
    assert plain.class_counts("train").tolist() == [100] * 10
    assert (len(plain.val), len(plain.test)) == (398, 399)
    assert (plain.image_size, plain.channels, plain.classes) == ((8, 8), 1, 10)
    assert plain.class_names == tuple("0123456789")
    assert plain.train.images.max() == 255
    tail = datasets.load("digits-lt", DataOptions())
    assert tail.class_counts("train").tolist() == datasets.long_tail_counts(100, 10, 20)
    assert tail.fingerprint == plain.fingerprint
    np.testing.assert_array_equal(tail.val_indices, plain.val_indices)
    np.testing.assert_array_equal(tail.train.images, plain.train.images[tail.train_indices])
    chosen = datasets.load("digits-lt", DataOptions(imbalance=4))
    assert chosen.class_counts("train").tolist() == datasets.long_tail_counts(100, 10, 4)


def pixels_by_name(dataset, split):
    """Every image of a split with the name of its class, in order."""
    images = getattr(dataset, split)
    return [
        (dataset.class_names[label], pixels.tobytes())
        for label, pixels in zip(images.labels, images.images, strict=True)
    ]


def test_a_random_subset_of_the_classes():
    plain = datasets.load("digits", DataOptions())
    some = datasets.load("digits", DataOptions(classes=4, class_seed=3))
    assert some.classes == 4
    assert list(some.class_names) == sorted(some.class_names)
    assert some.fingerprint == plain.fingerprint
    left = {
        name: [p for p in pixels_by_name(plain, name) if p[0] in some.class_names]
        for name in ("train", "val", "test")
    }
    assert pixels_by_name(some, "train") == left["train"]
    tested = pixels_by_name(some, "val") + pixels_by_name(some, "test")
    assert sorted(tested) == sorted(left["val"] + left["test"])
    assert abs(len(some.val) - len(some.test)) <= 1
    for split, rows in (("train", some.train_indices), ("val", some.val_indices)):
        everything = np.concatenate([plain.val_indices, plain.test_indices])
        pixels = np.concatenate([plain.val.images, plain.test.images])[np.argsort(everything)]
        pixels = plain.train.images if split == "train" else pixels
        np.testing.assert_array_equal(getattr(some, split).images, pixels[rows])


def test_subsets_of_classes_lie_inside_larger_ones_and_seeds_differ():
    names = [set(datasets.load("digits", DataOptions(classes=k)).class_names) for k in (2, 5, 10)]
    assert names[0] < names[1] < names[2]
    seeds = [draw_classes(100, 10, seed).tolist() for seed in range(5)]
    assert len(set(map(tuple, seeds))) == 5
    assert draw_classes(4, None, 7).tolist() == [0, 1, 2, 3]
    drawn = [label for seed in range(2000) for label in draw_classes(10, 3, seed)]
    assert np.abs(np.bincount(drawn) / 600 - 1).max() < 0.2  # each as often as the others


def test_the_long_tail_is_cut_after_the_classes():
    options = DataOptions(classes=4, imbalance=10, limit_train=100)
    dataset = datasets.load("digits", options.model_copy(update={"limit_train": None}))
    assert dataset.class_counts("train").tolist() == datasets.long_tail_counts(100, 4, 10)
    assert dataset.class_counts("val").min() > 0
    limited = datasets.load("digits", options)
    assert set(limited.train_indices) < set(dataset.train_indices)
    default = datasets.load("digits-lt", DataOptions(classes=4))
    assert default.class_counts("train").tolist() == datasets.long_tail_counts(100, 4, 20)


def test_more_classes_than_there_are_is_bad_input():
    with pytest.raises(UserError, match=r"`classes` 11 is more than the 10 classes there are"):
        datasets.load("digits", DataOptions(classes=11))


def test_digits_pixels_are_the_published_ones_scaled():
    sklearn = pytest.importorskip("sklearn.datasets")
    published = np.rint(sklearn.load_digits().images * 255 / 16).astype(np.uint8)
    digits = datasets.load("digits", DataOptions())
    ours = [digits.train.images, digits.val.images, digits.test.images]
    both = [
        sorted(map(bytes, set_.reshape(len(set_), 64)))
        for set_ in (np.concatenate(ours), published)
    ]
    assert both[0] == both[1]


def test_nbytes_counts_decoded_pixels():
    digits = datasets.load("digits", DataOptions())
    assert digits.nbytes == 1797 * 64


def test_image_size_resizes_digits():
    assert datasets.load("digits", DataOptions(image_size=12)).image_size == (12, 12)


@pytest.mark.parametrize("seed", [2**32, 2**70])
def test_seed_beyond_the_frozen_stream_is_bad_input(seed):
    with pytest.raises(UserError, match="seed"):
        datasets.load("digits", DataOptions(split_seed=seed))
