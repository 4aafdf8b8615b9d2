"""Exported programs agree with their models on decoded images in batches of any size."""

import io
from pathlib import Path

import numpy as np
import pytest
import torch

from rkd_core import models
from rkd_core.datasets import ImageSet
from rkd_core.datasets.batches.batches import EvaluationBatches
from rkd_core.models.predictor import AveragedLogits, rebuild
from rkd_core.models.program import Classifier, program
from rkd_core.results.artifacts import Artifact
from tests.rkd_core.training.test_loop import RECIPE, teacher_spec

SMALL = ["resnet8", "wrn_40_1", "resnet32_google", "mobilenet_v2_half", "shufflenet_v1", "vgg8"]


def artifact(architecture, size, channels, iterates=None, classes=5):
    def network(seed):
        built = models.build(architecture, classes, channels, (size, size), seed=seed)
        for name, value in built.named_buffers():  # statistics that do something
            if name.endswith("running_mean"):
                value.normal_(generator=torch.Generator().manual_seed(seed))
        return built

    model = (
        network(1) if iterates is None else AveragedLogits([network(i) for i in range(iterates)])
    )
    description = {
        "architecture": architecture,
        "classes": classes,
        "class_names": [str(label) for label in range(classes)],
        "channels": channels,
        "image_size": [size, size],
        "normalization": {"mean": [0.1, 0.4, 0.7][:channels], "std": [0.2, 0.3, 0.9][:channels]},
        "iterates": iterates,
    }
    return Artifact(teacher_spec(), description, model.state_dict(), "", Path())


def pixels(n, size, channels):
    shape = (n, size, size, channels)
    return torch.randint(0, 256, shape, generator=torch.Generator().manual_seed(n)).byte()


def loaded(archive):
    return torch.export.load(io.BytesIO(archive)).module()


@pytest.mark.parametrize(
    ("architecture", "size", "channels", "iterates"),
    [
        ("digits_cnn", 8, 1, None),
        ("digits_cnn", 8, 1, 3),
        *((name, 32, 3, None) for name in SMALL),
    ],
)
def test_any_number_of_images(architecture, size, channels, iterates):
    art = artifact(architecture, size, channels, iterates)
    run, network = loaded(program(art)), rebuild(art)
    for n in (1, 2, 5):
        images = pixels(n, size, channels)
        mean, std = (
            torch.tensor(art.model["normalization"][name])[:, None, None]
            for name in ("mean", "std")
        )
        normalised = (images.permute(0, 3, 1, 2) / 255 - mean) / std
        with torch.no_grad():
            found, expected = run(images), network(normalised)
        assert found.dtype == torch.float32
        torch.testing.assert_close(found, expected, rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize("channels", [1, 3])
def test_the_normalisation_is_that_of_training_to_the_bit(channels):
    images = pixels(4, 8, channels)
    image_set = ImageSet(images.numpy(), np.zeros(4, dtype=np.int64))
    batches = EvaluationBatches(image_set, RECIPE, batch_size=4, device=torch.device("cpu"))
    (batch,) = batches
    from rkd_core.datasets.batches.batches import normalization_statistics

    mean, std = normalization_statistics(image_set, RECIPE)
    model = Classifier(torch.nn.Identity(), mean.tolist(), std.tolist())
    assert torch.equal(model(images), batch.images)


def test_a_program_with_other_predictions_is_not_exported(monkeypatch):
    monkeypatch.setattr(torch.export, "load", lambda archive: Lying())
    with pytest.raises(RuntimeError, match="differs from the model on 1 images"):
        program(artifact("digits_cnn", 8, 1))


class Lying:
    def module(self):
        return lambda images: torch.zeros(len(images), 5)
