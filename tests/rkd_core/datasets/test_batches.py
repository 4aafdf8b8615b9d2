"""Batches: augmentation against torchvision, purity in seed and epoch, streaming."""

import threading

import numpy as np
import pytest
import torch
import torchvision.transforms.functional as tv

from rkd_core import datasets
from rkd_core.datasets import ImageSet
from rkd_core.datasets.batches.augmentation import Augmentation, crop_and_flip
from rkd_core.datasets.batches.batches import (
    EvaluationBatches,
    TrainingBatches,
    normalization_statistics,
)
from rkd_core.datasets.batches.transfer import ahead
from rkd_core.errors import UserError
from rkd_core.specs import DataOptions, Recipe, recipes
from tests.rkd_core.datasets.on_disk import image_folder, random_images

AUGMENTED = Recipe(epochs=1, batch_size=16, crop_padding=2, flip=True)
PLAIN = Recipe(epochs=1, batch_size=16)


def image_set(count=50, size=8, channels=3, seed=0):
    images = random_images(count, size, channels, seed).reshape(count, size, size, channels)
    return ImageSet(images, np.arange(count, dtype=np.int64) % 5)


@pytest.fixture(name="streamed")
def streamed_set(tmp_path):
    image_folder(tmp_path / "a", sizes=((20, 15), (15, 20)))
    options = DataOptions(image_size=12)
    cache = tmp_path / "cache"
    return datasets.load(str(tmp_path / "a"), options, cache_dir=cache, decode_limit=0).train


def content(batches):
    return [(b.images.numpy().copy(), b.labels.tolist(), b.indices.tolist()) for b in batches]


def assert_same(first, second):
    assert len(first) == len(second)
    for (x, labels, indices), (x2, labels2, indices2) in zip(first, second, strict=True):
        np.testing.assert_array_equal(x, x2)
        assert (labels, indices) == (labels2, indices2)


@pytest.mark.parametrize("fill", [0, 255, 127.5])
@pytest.mark.parametrize("channels", [1, 3])
@pytest.mark.parametrize("size", [(9, 9), (6, 11)])
def test_crop_and_flip_is_torchvisions(channels, size, fill):
    rng = np.random.RandomState(0)
    pixels = torch.from_numpy(rng.randint(0, 256, (40, *size, channels)).astype(np.uint8))
    padding = 3
    shifts = torch.from_numpy(rng.randint(0, 2 * padding + 1, (40, 2)))
    flips = torch.from_numpy(rng.randint(0, 2, 40).astype(bool))
    ours = crop_and_flip(pixels, padding, shifts, flips, fill)
    assert ours.dtype == (torch.float32 if fill == 127.5 else torch.uint8)
    for i in range(40):
        image = pixels[i].permute(2, 0, 1).to(ours.dtype)
        image = tv.pad(image, [padding], fill=fill)
        image = tv.crop(image, int(shifts[i, 0]), int(shifts[i, 1]), *size)
        image = tv.hflip(image) if flips[i] else image
        assert torch.equal(ours[i], image.permute(1, 2, 0))


@pytest.mark.parametrize("name", [n for n in recipes.RECIPES if n.startswith("logit-adj")])
def test_logit_adjustment_pads_what_is_centered(name):
    """The public code subtracts the center, pads with zeros, and crops; zero is mid gray."""
    recipe = recipes.get(name)
    white = ImageSet(np.full((1, 4, 4, 3), 255, np.uint8), np.zeros(1, np.int64))
    batches = TrainingBatches(white, recipe.model_copy(update={"batch_size": 1}), seed=0)
    centered = torch.nn.functional.pad(torch.full((3, 4, 4), 0.5), [2] * 4)
    views = torch.arange(recipe.views).numpy()
    parts = [batch.images for batch in batches.view_batches(views, 7)]
    assert all(part.is_contiguous(memory_format=torch.channels_last) for part in parts)
    seen = torch.cat(parts)
    assert len(seen) == 5 * 5 * 2
    for view, image in zip(views, seen, strict=True):
        top, left = divmod(int(view) // 2, 5)
        expected = centered[:, top : top + 4, left : left + 4]
        expected = expected.flip(2) if view % 2 else expected
        torch.testing.assert_close(image, expected, rtol=0, atol=1e-6)
    trained = next(iter(batches.epoch(0)))
    assert torch.equal(trained.images[0], seen[int(trained.views)])


def test_every_crop_and_both_mirror_images_occur():
    one = image_set(1, size=4)
    recipe = Recipe(epochs=1, batch_size=1, crop_padding=1, flip=True, normalization="centered")
    batches = TrainingBatches(one, recipe, seed=0)
    seen = {x.tobytes() for epoch in range(300) for x, _, _ in content(batches.epoch(epoch))}
    assert len(seen) == 3 * 3 * 2


def test_batches_are_normalized_channels_last_floats():
    data = image_set()
    (batch,) = EvaluationBatches(data, PLAIN, batch_size=64)
    assert (batch.images.dtype, batch.labels.dtype) == (torch.float32, torch.int64)
    assert batch.images.shape == (50, 3, 8, 8)
    assert batch.images.is_contiguous(memory_format=torch.channels_last)
    scaled = data.images.transpose(0, 3, 1, 2).astype(np.float64) / 255
    mean, std = scaled.mean(axis=(0, 2, 3)), scaled.std(axis=(0, 2, 3))
    expected = (scaled - mean[:, None, None]) / std[:, None, None]
    np.testing.assert_allclose(batch.images.numpy(), expected, atol=1e-5)


def test_statistics():
    data = image_set(3000, 4)
    mean, std = normalization_statistics(data, PLAIN)
    np.testing.assert_allclose(mean.numpy(), data.images.mean(axis=(0, 1, 2)) / 255, rtol=1e-6)
    np.testing.assert_allclose(std.numpy(), data.images.std(axis=(0, 1, 2)) / 255, rtol=1e-6)
    centered = Recipe(epochs=1, normalization="centered")
    mean, std = normalization_statistics(data, centered)
    assert (mean.tolist(), std.tolist()) == ([0.5] * 3, [1.0] * 3)
    (batch,) = EvaluationBatches(data, centered, batch_size=3000)
    expected = data.images.transpose(0, 3, 1, 2) / 255 - 0.5
    np.testing.assert_allclose(batch.images.numpy(), expected, atol=1e-6)


def test_a_constant_channel_does_not_divide_by_zero():
    data = ImageSet(np.full((4, 2, 2, 1), 51, np.uint8), np.zeros(4, np.int64))
    mean, std = normalization_statistics(data, PLAIN)
    assert (mean.tolist(), std.tolist()) == ([pytest.approx(0.2)], [1.0])


def test_evaluation_uses_the_statistics_it_is_given():
    train, val = image_set(), image_set(seed=1)
    statistics = normalization_statistics(train, PLAIN)
    (given,) = EvaluationBatches(val, PLAIN, batch_size=50, statistics=statistics)
    mean, std = (value.view(3, 1, 1) for value in statistics)
    expected = (torch.from_numpy(val.images).permute(0, 3, 1, 2) / 255 - mean) / std
    torch.testing.assert_close(given.images.contiguous(), expected)


def test_evaluation_is_in_order_unaugmented_and_repeatable():
    data = image_set()
    batches = EvaluationBatches(data, AUGMENTED, batch_size=16)
    first = content(batches)
    assert len(batches) == len(first) == 4
    assert [i for _, _, indices in first for i in indices] == list(range(50))
    assert [label for _, labels, _ in first for label in labels] == data.labels.tolist()
    assert_same(first, content(batches))
    assert_same(first, content(EvaluationBatches(data, PLAIN, batch_size=16)))


@pytest.mark.parametrize(
    ("count", "drop_last", "sizes"),
    [
        (50, True, [16, 16, 16]),
        (50, False, [16, 16, 16, 2]),
        (48, True, [16, 16, 16]),
        (48, False, [16, 16, 16]),
        (7, True, [7]),
        (7, False, [7]),
    ],
)
def test_sizes_of_training_batches(count, drop_last, sizes):
    recipe = Recipe(epochs=1, batch_size=16, drop_last=drop_last)
    batches = TrainingBatches(image_set(count), recipe, seed=0)
    found = list(batches.epoch(0))
    assert [len(batch.labels) for batch in found] == sizes
    assert len(batches) == len(sizes)
    indices = torch.cat([batch.indices for batch in found]).tolist()
    assert len(set(indices)) == len(indices)


def test_labels_and_pixels_belong_to_the_indices():
    data = image_set()
    batches = TrainingBatches(data, PLAIN, seed=3)
    clean = torch.cat([b.images for b in EvaluationBatches(data, PLAIN, batch_size=64)])
    for batch in batches.epoch(5):
        assert torch.equal(batch.images, clean[batch.indices])
        assert torch.equal(batch.labels, torch.from_numpy(data.labels)[batch.indices])


@pytest.mark.parametrize("change", [{"flip": True}, {"crop_padding": 1}])
def test_any_augmentation_makes_many_views(change):
    recipe = Recipe(epochs=1, batch_size=16, **change)
    batches = TrainingBatches(image_set(), recipe, seed=0)
    assert recipe.views == {"flip": 2, "crop_padding": 9}[next(iter(change))]
    by_image = [
        {
            i: x
            for images, _, indices in content(batches.epoch(e))
            for i, x in zip(indices, images, strict=True)
        }
        for e in range(2)
    ]
    both = by_image[0].keys() & by_image[1].keys()
    assert any(not np.array_equal(by_image[0][i], by_image[1][i]) for i in both)


def test_views_are_numbered_and_counted():
    data = image_set(20, size=5)
    recipe = Recipe(epochs=1, batch_size=8, crop_padding=1, flip=True)
    batches = TrainingBatches(data, recipe, seed=1)
    assert recipe.views == 18
    met = {}
    for epoch in range(6):
        for batch in batches.epoch(epoch):
            for image, index, view in zip(batch.images, batch.indices, batch.views, strict=True):
                met[int(index) * 18 + int(view)] = image
    assert batches.view_keys(6).tolist() == sorted(met)
    again = list(batches.view_batches(batches.view_keys(6), batch_size=7))
    assert [len(b.labels) for b in again][:-1] == [7] * (len(again) - 1)
    for batch in again:
        for image, index, view in zip(batch.images, batch.indices, batch.views, strict=True):
            assert torch.equal(image, met[int(index) * 18 + int(view)])


def test_an_epoch_is_a_function_of_seed_and_epoch():
    data = image_set()
    first = content(TrainingBatches(data, AUGMENTED, seed=2**63).epoch(4))
    torch.manual_seed(1)
    np.random.seed(1)
    other = TrainingBatches(data, AUGMENTED, seed=2**63)
    next(other.epoch(0))
    interleaved = other.epoch(1)
    next(interleaved)
    assert_same(first, content(other.epoch(4)))
    for seed, epoch in ((2**63, 5), (7, 4)):
        changed = content(TrainingBatches(data, AUGMENTED, seed=seed).epoch(epoch))
        assert changed[0][2] != first[0][2]


def test_the_order_is_frozen():
    batches = TrainingBatches(image_set(6), Recipe(epochs=1, batch_size=6), seed=0)
    state = np.random.RandomState(np.random.SeedSequence((2, 0, 1)).generate_state(8))
    (batch,) = batches.epoch(1)
    assert batch.indices.tolist() == state.permutation(6).tolist()


def test_the_views_are_frozen_and_drawn_apart_from_the_order():
    batches = TrainingBatches(image_set(6), AUGMENTED, seed=0)
    state = np.random.RandomState(np.random.SeedSequence((3, 0, 1, 1)).generate_state(8))
    (batch,) = batches.epoch(1)
    views = Augmentation(AUGMENTED).draw(state, 6)
    assert batch.views.tolist() == views[batch.indices].tolist()


def test_an_epoch_can_begin_with_a_later_batch():
    batches = TrainingBatches(image_set(), AUGMENTED, seed=3)
    whole = content(batches.epoch(2))
    assert len(whole) == 3
    assert_same(whole[1:], content(batches.epoch(2, first=1)))


def test_global_generators_are_left_alone(streamed):
    torch_state, numpy_state = torch.get_rng_state(), np.random.get_state()[1].copy()
    for data in (image_set(), streamed):
        content(TrainingBatches(data, AUGMENTED, seed=0, workers=0).epoch(0))
        content(EvaluationBatches(data, AUGMENTED, batch_size=4, workers=0))
    assert torch.equal(torch.get_rng_state(), torch_state)
    np.testing.assert_array_equal(np.random.get_state()[1], numpy_state)


def test_read_only_arrays_will_do():
    data = image_set()
    data.images.flags.writeable = False
    assert len(content(TrainingBatches(data, AUGMENTED, seed=0).epoch(0))) == 3


def test_streamed_batches_do_not_depend_on_the_workers(streamed):
    recipe = Recipe(epochs=1, batch_size=5, crop_padding=1, flip=True, drop_last=False)
    alone, helped = (
        TrainingBatches(streamed, recipe, seed=1, workers=workers) for workers in (0, 2)
    )
    for epoch in (0, 3, 0):  # the same workers, epoch after epoch
        first = content(alone.epoch(epoch))
        assert [len(labels) for _, labels, _ in first] == [5, 5, 2]
        assert_same(first, content(helped.epoch(epoch)))
    assert not np.array_equal(content(alone.epoch(0))[0][0], content(alone.epoch(1))[0][0])


def test_streamed_batches_hold_the_views(streamed):
    mean, std = normalization_statistics(streamed, PLAIN)
    batches = EvaluationBatches(streamed, PLAIN, batch_size=5, statistics=(mean, std), workers=0)
    found = list(batches)
    assert len(batches) == len(found) == 3
    views = np.stack([streamed.evaluation_view(i) for i in range(12)]).astype(np.float64) / 255
    expected = (views - mean.numpy()) / std.numpy()
    images = torch.cat([batch.images for batch in found]).permute(0, 2, 3, 1).numpy()
    np.testing.assert_allclose(images, expected, atol=1e-5)
    np.testing.assert_allclose(mean.numpy(), views.mean(axis=(0, 1, 2)), rtol=1e-5)
    assert all(b.images.is_contiguous(memory_format=torch.channels_last) for b in found)
    assert torch.cat([batch.labels for batch in found]).tolist() == streamed.labels.tolist()


def test_streamed_training_without_augmentation_is_the_evaluation_view(streamed):
    recipe = Recipe(epochs=1, batch_size=12)
    batches = TrainingBatches(streamed, recipe, seed=0, workers=0)
    (batch,), (clean,) = (
        list(batches.epoch(0)),
        list(EvaluationBatches(streamed, recipe, batch_size=12, workers=0)),
    )
    assert torch.equal(batch.images, clean.images[batch.indices])


@pytest.mark.parametrize("workers", [0, 1])
def test_a_damaged_image_in_a_stream_is_one_clear_line(tmp_path, streamed, workers):
    statistics = (torch.zeros(3), torch.ones(3))
    batches = EvaluationBatches(
        streamed, PLAIN, batch_size=4, statistics=statistics, workers=workers
    )
    (tmp_path / "a" / "train" / "dog" / "001.png").write_bytes(b"damaged")
    with pytest.raises(UserError, match=r"dog/001\.png cannot be decoded") as caught:
        list(batches)
    assert "\n" not in str(caught.value)


def test_class_uniform_sampling_draws_classes_alike_and_images_within_them():
    labels = np.repeat(np.array([0, 2]), (90, 10))
    data = ImageSet(np.zeros((100, 2, 2, 1), np.uint8), labels)
    recipe = Recipe(epochs=1, batch_size=50)
    batches = TrainingBatches(data, recipe, seed=4, sampling="class_uniform")
    drawn = [torch.cat([b.indices for b in batches.epoch(e)]) for e in range(200)]
    again = TrainingBatches(data, recipe, seed=4, sampling="class_uniform")
    assert torch.equal(drawn[7], torch.cat([b.indices for b in again.epoch(7)]))
    assert not torch.equal(drawn[0], drawn[1])
    counts = np.bincount(torch.cat(drawn).numpy(), minlength=100)
    assert counts.sum() == 200 * 100
    # Binomial: half of the draws for each class, and the same share for each of its images.
    assert abs(counts[:90].sum() - 10_000) < 5 * 20_000**0.5 / 2
    assert np.abs(counts[:90] - 10_000 / 90).max() < 5 * (10_000 / 90) ** 0.5
    assert np.abs(counts[90:] - 1000).max() < 5 * 1000**0.5
    assert (batches.view_keys(200) == np.flatnonzero(counts)).all()


@pytest.mark.parametrize("recipe", [PLAIN, AUGMENTED])
def test_images_apart_from_the_device_are_gathered_ahead(recipe):
    """A thread gathers them by positions that never were on the device."""
    data = image_set()
    on_device, apart = (TrainingBatches(data, recipe, seed=3) for _ in range(2))
    evaluated = [EvaluationBatches(data, recipe, batch_size=7) for _ in range(2)]
    threads, gather = set(), apart._pixels._gather

    def noted(rows):
        assert isinstance(rows, np.ndarray)
        threads.add(threading.current_thread())
        return gather(rows)

    for batches in (apart, evaluated[1]):
        batches._pixels._apart, batches._pixels._gather = True, noted
    assert_same(content(apart.epoch(1)), content(on_device.epoch(1)))
    keys = on_device.view_keys(2)
    assert_same(content(apart.view_batches(keys, 9)), content(on_device.view_batches(keys, 9)))
    assert_same(content(evaluated[1]), content(evaluated[0]))
    assert threading.main_thread() not in threads


def test_results_are_computed_ahead_in_order():
    begun = []
    results = ahead(lambda n: begun.append(n) or 10 * n, range(6), depth=2)
    assert next(results) == 0
    assert max(begun) <= 2
    assert list(results) == [10, 20, 30, 40, 50]
    with pytest.raises(ZeroDivisionError):
        list(ahead(lambda n: 1 // n, [1, 0], depth=2))
