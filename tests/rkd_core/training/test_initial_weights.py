"""Teachers that start from a file of weights: trained on, or used as they are."""

import shutil

import numpy as np
import pytest
import torch
import torchvision

from rkd_core import models
from rkd_core.datasets import ImageSet
from rkd_core.datasets.array_data import ArrayData
from rkd_core.datasets.batches.batches import normalization_statistics
from rkd_core.errors import StoppedError, UserError
from rkd_core.models.registry import HEADS
from rkd_core.results import artifacts
from rkd_core.results.initial_weights import FILE, FOLDER, keep
from rkd_core.seeds import stream_seed
from rkd_core.specs import DataOptions, Recipe
from rkd_core.storage import bundles
from rkd_core.teachers.answers import Teacher
from rkd_core.training import train
from tests.rkd_core.training.test_loop import (
    CPU,
    colourful,
    result,
    student_spec,
    teacher_spec,
    timeless,
)

RECIPE = Recipe(epochs=2, batch_size=32, learning_rate=0.05)
AS_IT_IS = RECIPE.model_copy(update={"epochs": 0})
SMALL = ("resnet8", 3, 3, (12, 12))


def spec(digest, recipe=RECIPE, **changes):
    fields = {"architecture": "resnet8", "data": DataOptions(), "initial_weights": digest}
    return teacher_spec(recipe=recipe, **(fields | changes))


def kept(out, state, *network, name="w.pth"):
    """Put a state dict into a results folder by way of a file; return its digest."""
    path = out.with_name(name)
    torch.save(state, path)
    return keep(out, models.read_pretrained(path, *(network or SMALL)))


@pytest.fixture(name="world")
def data_weights_and_folder(tmp_path):
    data = colourful()
    state = models.build(*SMALL, seed=5).state_dict()
    return data, state, tmp_path / "out"


def weights_of(out, row):
    return artifacts.load(out / "artifacts", row["run_id"]).weights


def test_as_it_is_a_teacher_is_measured_and_not_trained(world):
    data, state, out = world
    wanted = spec(kept(out, state), AS_IT_IS)
    (row,) = train([wanted], data=data, out=out, execution=CPU)
    found = weights_of(out, row)
    assert all(torch.equal(found[name], state[name]) for name in state)
    assert (row["status"], row["epochs"], row["train_loss"]) == ("completed", 0, None)
    assert timeless(train([wanted], data=data, out=out, execution=CPU)[0]) == timeless(row)


def test_published_weights_receive_their_own_normalization(tmp_path):
    """Counts and answers against torchvision's own network on images normalised in float64."""
    data, out = colourful(), tmp_path / "out"
    torch.manual_seed(3)
    theirs = torchvision.models.mobilenet_v2(num_classes=3).eval()
    pretrained = ("mobilenet_v2", 3, 3, (12, 12))
    digest = kept(out, theirs.state_dict(), *pretrained)
    recipe = AS_IT_IS.model_copy(update={"normalization": "imagenet"})
    teacher = spec(digest, recipe, architecture="mobilenet_v2")
    (row,) = train([teacher], data=data, out=out, execution=CPU)
    transform = torchvision.models.get_model_weights("mobilenet_v2").DEFAULT.transforms()

    def logits(images):
        pixels = images.astype(np.float64) / 255
        normal = (pixels - np.array(transform.mean)) / np.array(transform.std)
        with torch.no_grad():
            return theirs.double()(torch.from_numpy(normal).permute(0, 3, 1, 2)).float()

    for split, images in (("val", data.val), ("test", data.test)):
        guesses = logits(images.images).argmax(dim=1).numpy()
        correct = [int(((guesses == c) & (images.labels == c)).sum()) for c in range(3)]
        assert row[f"{split}_class_correct"] == correct
    # Its students are normalised by their own set; what it is fed is brought to its own.
    student = student_spec(teacher, data.fingerprint, data=DataOptions(), recipe=RECIPE)
    answers = Teacher(student.teacher, ArrayData(student, data, CPU), out)
    torch.testing.assert_close(answers.clean, logits(data.train.images), rtol=1e-4, atol=1e-5)
    torch.testing.assert_close(answers.validation, logits(data.val.images), rtol=1e-4, atol=1e-5)
    (learnt,) = train(
        [student.model_copy(update={"architecture": "resnet8"})],
        data=data,
        out=out,
        execution=CPU,
    )
    assert learnt["status"] == "completed"


def test_training_begins_with_the_weights(world):
    """Use steps so small that the weights show where the training began."""
    data, state, out = world
    still = Recipe(epochs=1, batch_size=32, learning_rate=1e-30, warmup=0.0)
    (row,) = train([spec(kept(out, state), still)], data=data, out=out, execution=CPU)
    found = weights_of(out, row)
    for name in state:
        if "running" not in name and "tracked" not in name:
            torch.testing.assert_close(found[name], state[name], rtol=0, atol=1e-20)
    (other,) = train([spec(None, still)], data=data, out=out, execution=CPU)
    assert result(other) != result(row)
    assert other["run_id"] != row["run_id"]


def test_a_classifier_of_other_classes_is_initialized_again(world):
    data, _, out = world
    state = models.build("resnet8", 1000, 3, (12, 12), seed=5).state_dict()
    digest = kept(out, state)
    still = Recipe(epochs=1, batch_size=32, learning_rate=1e-30)
    (row,) = train([spec(digest, still)], data=data, out=out, execution=CPU)
    found = weights_of(out, row)
    drawn = models.build(*SMALL, seed=stream_seed("weights", "teacher", 0)).state_dict()
    for name in ("classifier.weight", "classifier.bias"):
        torch.testing.assert_close(found[name], drawn[name], rtol=0, atol=1e-20)
    assert torch.equal(found["stem.0.weight"], state["stem.0.weight"])
    with pytest.raises(UserError, match="another number of classes: it needs epochs of training"):
        train([spec(digest, AS_IT_IS)], data=data, out=out, execution=CPU)


def test_cut_off_it_goes_on_and_needs_the_weights_no_more(world):
    data, state, out = world
    wanted = spec(kept(out, state))
    (whole,) = train([wanted], data=data, out=out, execution=CPU)
    other = out.with_name("cut")
    kept(other, state)
    steps = iter(range(99))
    options = {"data": data, "out": other, "execution": CPU}
    with pytest.raises(StoppedError):
        train([wanted], stop=lambda: next(steps) == 4, **options)
    bundles.forget(other / FOLDER, [wanted.initial_weights])
    assert not (other / FOLDER).exists()
    (row,) = train([wanted], **options)
    assert timeless(row) == timeless(whole)
    assert all(torch.equal(v, weights_of(out, whole)[n]) for n, v in weights_of(other, row).items())


def test_weights_that_are_not_there_damaged_or_of_another_network(world):
    data, state, out = world
    digest = kept(out, state)

    def refused(wanted, match, **options):
        with pytest.raises(UserError, match=match) as error:
            train([wanted], data=data, execution=CPU, **options)
        assert "\n" not in str(error.value)
        assert not (out / "artifacts").exists()

    refused(spec(digest), "initial weights need `out`")
    refused(spec("0" * 64), "is not complete", out=out)
    refused(spec(digest, architecture="resnet14"), "is not of resnet14", out=out)
    path = out / FOLDER / digest / FILE
    content = bytearray(path.read_bytes())
    content[-9] ^= 1
    path.write_bytes(content)
    refused(spec(digest), "is damaged: its SHA-256 differs", out=out)
    assert kept(out, state) == digest  # mends it
    train([spec(digest)], data=data, out=out, execution=CPU)


def test_weights_are_identified_by_content_and_not_by_path(world):
    _, state, out = world
    first = kept(out, state)
    moved = shutil.copy(out.with_name("w.pth"), out.with_name("elsewhere.pt"))
    assert keep(out, models.read_pretrained(moved, *SMALL)) == first
    assert [path.name for path in (out / FOLDER).iterdir()] == [first]
    assert kept(out, {name: value + 1 for name, value in state.items()}) != first


def test_each_published_network_states_its_normalization():
    checked = 0
    for name in models.architectures().keys() - HEADS.keys():
        if not (network := models.outline(name, 10, 3, (128, 128))).published_names:
            continue
        base = name.removesuffix("_imagenet").removesuffix("_cifar")
        recipe = Recipe(epochs=1, normalization=network.published_normalization)
        mean, std = normalization_statistics(colourful().train, recipe)
        for weights in torchvision.models.get_model_weights(base):
            theirs = weights.transforms()
            assert mean.tolist() == pytest.approx(theirs.mean)
            assert std.tolist() == pytest.approx(theirs.std)
            checked += 1
    assert checked >= 10
    images = colourful().train
    grey = ImageSet(images.images[..., :1], images.labels)
    with pytest.raises(UserError, match="imagenet is of color images"):
        normalization_statistics(grey, Recipe(epochs=1, normalization="imagenet"))


def test_a_student_starts_from_its_own_file(world):
    data, state, out = world
    digest = kept(out, state)
    teacher = spec(None)
    fields = {"architecture": "resnet8", "recipe": RECIPE, "data": DataOptions()}
    plain = student_spec(teacher, data.fingerprint, **fields)
    given = student_spec(teacher, data.fingerprint, **fields, initial_weights=digest)
    rate = RECIPE.model_copy(update={"learning_rate": 1e-9})
    still = student_spec(
        teacher, data.fingerprint, **(fields | {"recipe": rate}), initial_weights=digest
    )
    rows = train([teacher, plain, given, still], data=data, out=out, execution=CPU)
    assert result(rows[1]) != result(rows[2])
    kept_weights = weights_of(out, rows[3])
    for name, value in state.items():
        if "running" not in name and "tracked" not in name:
            torch.testing.assert_close(kept_weights[name], value, rtol=1e-3, atol=1e-5)
