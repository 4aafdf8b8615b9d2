"""Networks for arrays, by name."""

import pytest
import torch

from rkd_core import models
from rkd_core.errors import UserError


@pytest.mark.parametrize("name", ["linear", "mlp", "mlp(hidden=(8, 4), norm='layer')"])
@pytest.mark.parametrize("shape", [(6,), (3, 5), (2, 3, 4, 5)])
def test_logits_of_rows_of_any_shape(name, shape):
    network = models.build(name, 3, shape[0], shape[1:], seed=0)
    assert network(torch.rand(4, *shape)).shape == (4, 3)
    assert network.classifier.out_features == 3


def test_the_weights_depend_on_the_seed_alone():
    first, same, other = (models.build("mlp", 3, 6, (), seed=seed) for seed in (0, 0, 1))
    assert torch.equal(first.classifier.weight, same.classifier.weight)
    assert not torch.equal(first.classifier.weight, other.classifier.weight)


@pytest.mark.parametrize(
    ("text", "name"),
    [
        ("mlp", "mlp"),
        ("mlp()", "mlp"),
        ("mlp(norm='batch', hidden=64)", "mlp(hidden=(64,), norm='batch')"),
        ("mlp(hidden=[64, 8])", "mlp(hidden=(64, 8))"),
        ("resnet8", "resnet8"),
    ],
)
def test_names_in_specs(text, name):
    assert models.canonical(text) == name
    assert not models.is_foreign(text)
    assert models.parameters(text) > 0


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("mlp(width=3)", "width"),
        ("mlp(hidden=0)", "hidden is a width"),
        ("mlp(hidden='a')", "hidden is a width"),
        ("mlp(norm='group')", "norm is 'none', 'layer' or 'batch'"),
        ("mlp(64)", "arguments have the form"),
        ("linear(hidden=3)", "hidden"),
    ],
)
def test_wrong_arguments_are_refused(text, message):
    with pytest.raises(UserError, match=message):
        models.canonical(text)


def test_networks_for_images_and_arrays_are_not_mixed_up():
    with pytest.raises(UserError, match="resnet8 is for images, and the rows"):
        models.build("resnet8", 3, 16, (), seed=0)
    with pytest.raises(UserError, match="mlp is for arrays such as embeddings, not for images"):
        models.build("mlp", 3, 1, (8, 8), seed=0)
    with pytest.raises(UserError, match="torchvision:resnet18 is for images"):
        models.identify("torchvision:resnet18", 3, 16, ())


NETS = """from torch import nn

def vector(in_features, num_classes):
    return nn.Linear(in_features, num_classes)

def shaped(input_shape, num_classes):
    return nn.Sequential(nn.Flatten(), nn.Linear(input_shape[0] * input_shape[1], num_classes))

def images(in_chans, num_classes):
    return nn.Sequential(nn.Conv2d(in_chans, num_classes, 3), nn.Flatten(2), nn.Flatten())
"""


def test_networks_of_users(tmp_path):
    (tmp_path / "nets.py").write_text(NETS)
    vector = models.identify(f"{tmp_path}/nets.py:vector", 3, 16, ())
    built = models.build(vector.architecture, 3, 16, (), seed=0, digest=vector.digest)
    assert built(torch.rand(2, 16)).shape == (2, 3)
    shaped = models.identify(f"{tmp_path}/nets.py:shaped", 3, 4, (5,))
    built = models.build(shaped.architecture, 3, 4, (5,), seed=0, digest=shaped.digest)
    assert built(torch.rand(2, 4, 5)).shape == (2, 3)
    with pytest.raises(UserError, match="nets:images on arrays of 16"):
        models.identify(f"{tmp_path}/nets.py:images", 3, 16, ())
    with pytest.raises(UserError, match="in_features"):
        models.identify(f"{tmp_path}/nets.py:vector", 3, 1, (8, 8))
