"""Random transforms of batches, against those of torchvision for single images."""

import numpy as np
import pytest
import torch
from torchvision.transforms import v2
from torchvision.transforms.v2 import functional as F

from rkd_core.datasets import load
from rkd_core.datasets.batches import transforms
from rkd_core.datasets.batches.batches import TrainingBatches
from rkd_core.datasets.batches.transforms import Transforms
from rkd_core.specs import Augmentation, DataOptions, Recipe
from tests.rkd_core.datasets.on_disk import image_folder
from tests.rkd_core.training.test_loop import colourful

ALL = "random_resized_crop=0.3,randaugment,color_jitter,random_erasing=0.5,mixup,cutmix"


def images(count=24, size=16, channels=3, seed=0):
    shape = count, channels, size, size
    return torch.randint(0, 256, shape, generator=torch.Generator().manual_seed(seed)).byte()


@pytest.mark.parametrize("wide", [False, True])
@pytest.mark.parametrize("channels", [1, 3])
def test_operations_are_those_of_torchvision(wide, channels):
    batch = images(channels=channels, size=20)
    reference = v2.TrivialAugmentWide() if wide else v2.RandAugment()
    spaces = reference._AUGMENTATION_SPACE
    ours = transforms._operations(20, 20, wide=wide)
    assert len(ours) == len(spaces)
    for (operation, largest, signed), (name, (values, has_sign)) in zip(
        ours, spaces.items(), strict=True
    ):
        strengths = values(31, 20, 20)
        assert signed is has_sign
        for level in (0, 9, 30):
            for sign in (1, -1) if signed else (1,):
                expected = 0.0 if strengths is None else float(strengths[level]) * sign
                theirs = reference._apply_image_or_video_transform(
                    batch, name, expected, v2.InterpolationMode.NEAREST, {}
                )
                assert largest * level / 30 * sign == pytest.approx(expected, abs=1e-6) or (
                    name in ("Posterize", "Solarize")  # checked by the result
                )
                value = expected if strengths is not None else 0.0
                if name in ("Posterize", "Solarize"):
                    value = largest * level / 30
                found = operation(batch, value)
                assert torch.equal(found, theirs), (name, level, sign)


def test_each_image_has_its_own_operation_and_magnitude():
    batch = images(200)
    draws = np.random.RandomState(0)
    found = transforms._operate(batch, "trivial_augment", None, draws)
    draws = np.random.RandomState(0)
    operations = transforms._operations(16, 16, wide=True)
    chosen = draws.randint(14, size=200)
    levels, signs = draws.randint(31, size=200), 2 * draws.randint(2, size=200) - 1
    assert len(set(chosen.tolist())) == 14
    for place, image in enumerate(batch):
        operation, largest, signed = operations[chosen[place]]
        value = largest * levels[place] / 30 * (signs[place] if signed else 1)
        assert torch.equal(found[place], operation(image[None], value)[0]), place
    assert torch.equal(batch, images(200))


@pytest.mark.parametrize("channels", [1, 3])
def test_jitter_is_that_of_torchvision(channels):
    batch = images(channels=channels).float()
    factors = torch.empty(3, len(batch)).uniform_(0.2, 1.8)
    found = transforms._jitter(batch, factors)
    for place, image in enumerate(batch / 255):
        expected = F.adjust_brightness(image, float(factors[0, place]))
        expected = F.adjust_contrast(expected, float(factors[1, place]))
        expected = F.adjust_saturation(expected, float(factors[2, place]))
        torch.testing.assert_close(found[place] / 255, expected, atol=1e-5, rtol=1e-5)


@pytest.mark.parametrize("kind", ["mixup", "cutmix"])
def test_mixing_is_that_of_torchvision(kind):
    batch, labels = torch.randn(6, 3, 8, 8), torch.arange(6)
    mixing = Transforms(Augmentation.parse(f"{kind}=1"), 0, crops=False)
    shares = []
    for step in range(20):
        found, mix = mixing.transform_images(batch, labels, 0, step)
        share = float(mix.share)
        shares.append(share)
        if kind == "mixup":
            theirs = v2.MixUp(num_classes=6)
            expected = theirs.transform(batch, {"lam": share, "labels": labels, "batch_size": 6})
            torch.testing.assert_close(found, expected)
        else:
            second = found == batch.roll(1, 0)
            assert float((~second).all(dim=1).float().mean()) == pytest.approx(share)
            assert torch.equal(torch.where(second, batch.roll(1, 0), batch), found)
        assert torch.equal(mix.labels, labels.roll(1, 0))
    assert 0.2 < np.mean(shares) < 0.9
    assert len(set(shares)) > 5


def test_erasing_leaves_the_mean_in_a_rectangle():
    batch = torch.randn(400, 3, 32, 32) + 10
    found = transforms._erase(batch, 0.25, np.random.RandomState(0))
    erased = (found == 0).all(dim=1)
    assert torch.equal((found == 0).any(dim=1), erased)
    hit = erased.flatten(1).any(dim=1)
    assert 0.2 < float(hit.float().mean()) < 0.3
    shares = erased.flatten(1).float().mean(dim=1)[hit]
    assert float(shares.min()) > 0.01
    assert float(shares.max()) < 0.35
    for mask in erased[hit]:
        rows, columns = mask.any(dim=1), mask.any(dim=0)
        assert int(mask.sum()) == int(rows.sum()) * int(columns.sum())
    assert torch.equal(found[~erased[:, None].expand_as(found)], batch[~(found == 0)])


def test_a_crop_of_a_batch_is_a_resized_rectangle_of_each_image():
    ramp = torch.arange(256, dtype=torch.uint8).reshape(1, 1, 16, 16).expand(50, 1, 16, 16)
    found = transforms._crop(ramp, 0.2, np.random.RandomState(0))
    assert found.shape == ramp.shape
    assert len({image.numpy().tobytes() for image in found}) > 40
    whole = transforms._crop(ramp, 1.0, np.random.RandomState(0))
    assert float((whole.float() - ramp.float()).abs().mean()) < 12  # most of the image


def test_streamed_images_are_cropped_once_and_then_transformed(tmp_path):
    """The crop is made from the whole image when it is decoded."""
    image_folder(tmp_path / "a", sizes=((40, 30),))
    options = DataOptions(image_size=16)
    train = load(str(tmp_path / "a"), options, decode_limit=0).train

    def batches(text, **fields):
        recipe = Recipe(epochs=1, batch_size=4, augmentation=Augmentation.parse(text), **fields)
        return list(TrainingBatches(train, recipe, seed=0, workers=0).epoch(0))

    padded, cropped = batches("none", crop_padding=4), batches("random_resized_crop=0.08")
    for one, other in zip(padded, cropped, strict=True):
        assert torch.equal(one.images, other.images)
    mixed = batches(ALL)
    assert not torch.equal(mixed[0].images, cropped[0].images)
    assert all(batch.mix is not None and batch.views is None for batch in mixed)


@pytest.mark.parametrize("text", ["none", *ALL.split(","), "trivial_augment", ALL])
def test_batches_depend_on_seed_epoch_and_step_alone(text):
    data = colourful()
    recipe = Recipe(
        epochs=2, batch_size=20, flip=True, crop_fill=0.5, augmentation=Augmentation.parse(text)
    )

    def epoch(number=0, first=0, seed=0):
        batches = TrainingBatches(data.train, recipe, seed=seed)
        return list(batches.epoch(number, first))

    whole = epoch()
    for one, other in zip(whole[2:], epoch(first=2), strict=True):
        assert torch.equal(one.images, other.images)
        assert torch.equal(one.labels, other.labels)
        assert (one.mix is None) == (other.mix is None)
        if one.mix is not None:
            assert torch.equal(one.mix.labels, other.mix.labels)
            assert torch.equal(one.mix.share, other.mix.share)
    assert not torch.equal(whole[0].images, epoch(number=1)[0].images)
    plain = TrainingBatches(
        data.train, recipe.model_copy(update={"augmentation": Augmentation()}), seed=0
    )
    same = [
        torch.equal(one.images, other.images)
        for one, other in zip(whole, plain.epoch(0), strict=True)
    ]
    assert all(same) == (text == "none")
    for batch in whole:
        assert batch.images.dtype == torch.float32
        assert batch.images.is_contiguous(memory_format=torch.channels_last)
        assert torch.isfinite(batch.images).all()
