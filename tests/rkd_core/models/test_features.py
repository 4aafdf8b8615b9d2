"""Features of networks for methods: stages, last map, class activation maps; and folding."""

import pytest
import torch
import torchvision
from torch import nn
from torch.fx.experimental.optimization import fuse
from torchvision.models.feature_extraction import create_feature_extractor

from rkd_core.errors import UserError
from rkd_core.methods.common.protocol import Needs
from rkd_core.models import build, outline
from rkd_core.models.base import lower_precision
from rkd_core.models.features import forward, shapes
from rkd_core.models.networks.mobile import MobileNetV2Cifar, ShuffleNetV1
from rkd_core.models.networks.wide_resnet import WideResNet
from rkd_core.models.predictor import AveragedLogits

# One of each class and of each option; WRN-40 and the like only where depth tells.
NAMES = [
    "digits_cnn",
    "resnet8",
    "resnet32_google",
    "resnet8x4",
    "wrn_40_1",
    "vgg8",
    "vgg13",
    "mobilenet_v2_half",
    "shufflenet_v1",
    "resnet18",
    "resnet50_imagenet",
    "mobilenet_v1",
    "mobilenet_v2",
    "mobilenet_v3_large",
]
LINEAR = [name for name in NAMES if name != "mobilenet_v3_large"]


def images(batch, channels, height, width=None, seed=0):
    generator = torch.Generator().manual_seed(seed)
    return torch.randn(batch, channels, height, width or height, generator=generator)


def lived(network, x):
    """Return the network in evaluation mode with batch norms that are not the identity."""
    with torch.no_grad():
        for name, parameter in network.named_parameters():
            if parameter.ndim == 1 and "classifier" not in name:
                parameter.add_(images(1, 1, 1, len(parameter), seed=3).flatten(), alpha=0.1)
        for _ in range(2):
            network(x)
    return network.eval()


@pytest.mark.parametrize(
    ("name", "size", "shapes"),
    [
        ("digits_cnn", 8, [(16, 8), (32, 4)]),
        ("resnet8", 32, [(16, 32), (32, 16), (64, 8)]),
        ("resnet56", 64, [(16, 64), (32, 32), (64, 16)]),
        ("resnet32_google", 32, [(16, 36), (32, 18), (64, 9)]),
        ("resnet8x4", 32, [(64, 32), (128, 16), (256, 8)]),
        ("resnet32x4", 32, [(64, 32), (128, 16), (256, 8)]),
        ("wrn_40_1", 32, [(16, 32), (32, 16), (64, 8)]),
        ("wrn_40_2", 32, [(32, 32), (64, 16), (128, 8)]),
        ("vgg8", 32, [(128, 16), (256, 8), (512, 4), (512, 4)]),
        ("vgg13", 64, [(128, 32), (256, 16), (512, 8), (512, 4)]),
        ("mobilenet_v2_half", 32, [(12, 16), (16, 8), (48, 4), (160, 2)]),
        ("mobilenet_v2_full", 32, [(24, 16), (32, 8), (96, 4), (320, 2)]),
        ("shufflenet_v1", 32, [(240, 16), (480, 8), (960, 4)]),
        ("resnet50_cifar", 32, [(256, 32), (512, 16), (1024, 8), (2048, 4)]),
        ("resnet18", 224, [(64, 56), (128, 28), (256, 14), (512, 7)]),
        ("resnet34_imagenet", 32, [(64, 8), (128, 4), (256, 2), (512, 1)]),
        ("mobilenet_v1", 224, [(128, 56), (256, 28), (512, 14), (1024, 7)]),
        ("mobilenet_v2", 224, [(24, 56), (32, 28), (96, 14), (320, 7)]),
        ("mobilenet_v3_large", 224, [(24, 56), (40, 28), (112, 14), (160, 7)]),
        ("efficientnet_v2_l", 480, [(64, 120), (96, 60), (224, 30), (640, 15)]),
    ],
)
def test_stages_have_the_shapes_of_the_reference_code(name, size, shapes):
    network = outline(name, 10, 3, (size, size)).eval()
    found = network.activations(torch.empty(1, 3, size, size, device="meta"))
    assert [(s.output.shape[1], s.output.shape[2]) for s in found.stages] == shapes
    assert all(s.before.shape == s.output.shape for s in found.stages)
    assert found.pooled.shape == (1, network.classifier.in_features)


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("training", [False, True])
def test_activations_are_those_on_the_way_to_the_logits(name, training):
    x = images(4, 1, 32)
    network = build(name, 5, 1, (32, 32), seed=0).train(training)
    found = network.activations(x)
    assert torch.equal(found.logits, network(x))
    assert torch.equal(found.pooled, network.features(x))
    assert torch.equal(found.pooled, network.pool(found.last))
    for stage in found.stages:
        if name == "wrn_40_1":
            assert not torch.equal(stage.output, stage.before)
            assert torch.equal(found.last, found.stages[-1].before.relu())
        elif stage.before is not stage.output:
            assert torch.equal(stage.output, stage.before.relu())
            assert (stage.before < 0).any()
    linear = all(stage.before is stage.output for stage in found.stages)
    assert linear == (name in {"mobilenet_v2_half", "mobilenet_v2", "mobilenet_v3_large"})


@pytest.mark.parametrize("name", NAMES)
def test_statistics_see_each_batch_once(name):
    """A norm computed twice for a feature would count the batch twice."""
    network = build(name, 5, 1, (32, 32), seed=0)
    network.activations(images(4, 1, 32))
    norms = [m for m in network.modules() if isinstance(m, nn.BatchNorm2d)]
    assert norms
    assert all(m.num_batches_tracked == 1 for m in norms)


@pytest.mark.parametrize("name", ["resnet18", "resnet50"])
def test_stages_of_a_resnet_are_torchvisions_layers(name):
    ours = build(name + "_imagenet", 4, 3, (64, 64), seed=0)
    lived(ours, images(4, 3, 64))
    theirs = torchvision.models.get_model(name, num_classes=4).eval()
    theirs.load_state_dict(
        {
            key.replace("classifier.", "fc.").removeprefix("body."): value
            for key, value in ours.state_dict().items()
        }
    )
    extract = create_feature_extractor(theirs, [f"layer{i}" for i in range(1, 5)])
    x = images(2, 3, 64, seed=1)
    with torch.no_grad():
        found, expected = ours.activations(x), list(extract(x).values())
    for stage, layer in zip(found.stages, expected, strict=True):
        torch.testing.assert_close(stage.output, layer, rtol=0, atol=0)


@pytest.mark.parametrize("name", LINEAR)
@pytest.mark.parametrize("size", [(32, 32), (40, 24)])
def test_mean_of_the_class_activation_maps_is_the_logits_less_the_bias(name, size):
    x = images(4, 1, *size)
    network = lived(build(name, 5, 1, (32, 32), seed=0).double(), x.double())
    nn.init.normal_(network.classifier.bias, generator=torch.Generator().manual_seed(0))
    with torch.no_grad():
        found = network.activations(x.double())
        maps = network.class_activation_maps(found.last)
    assert maps.shape == (4, 5, *found.last.shape[-2:])
    pooled = torch.einsum("nchw->nc", maps) / maps[0, 0].numel()
    expected = nn.functional.linear(found.pooled, network.classifier.weight)
    torch.testing.assert_close(pooled, expected, rtol=1e-10, atol=1e-10)
    torch.testing.assert_close(pooled + network.classifier.bias, found.logits)


def test_a_class_activation_map_is_the_classifier_at_one_place():
    network = build("resnet8", 3, 1, (32, 32), seed=0).eval()
    with torch.no_grad():
        last = network.activations(images(2, 1, 32)).last
        maps = network.class_activation_maps(last)
    here = (network.classifier.weight * last[1, :, 5, 2]).sum(1)
    torch.testing.assert_close(maps[1, :, 5, 2], here)


@pytest.mark.parametrize("size", [(8, 8), (7, 5), (1, 1), (9, 16)])
def test_maps_of_the_digits_network_are_exact_on_odd_sizes_too(size):
    network = build("digits_cnn", 4, 1, size, seed=0).double().eval()
    with torch.no_grad():
        found = network.activations(images(3, 1, *size).double())
        maps = network.class_activation_maps(found.last)
    torch.testing.assert_close(maps.mean((-2, -1)) + network.classifier.bias, found.logits)


def test_a_hidden_layer_leaves_no_class_activation_maps():
    network = build("mobilenet_v3_large", 3, 3, (32, 32), seed=0).eval()
    with torch.no_grad():
        last = network.activations(images(1, 3, 32)).last
    with pytest.raises(UserError, match="mobilenet_v3_large has a hidden layer"):
        network.class_activation_maps(last)


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize(("channels", "size"), [(3, 32), (1, 64)])
@pytest.mark.parametrize("precision", ["float32", "bfloat16"])
def test_gradients_are_finite_in_either_precision(name, channels, size, precision):
    """Differentiate logits, stages and maps together, in the memory layout of trainings."""
    network = build(name, 5, channels, (size, size), seed=0)
    network = network.to(memory_format=torch.channels_last)
    x = images(2, channels, size).to(memory_format=torch.channels_last)
    with torch.autocast("cpu", torch.bfloat16, enabled=precision == "bfloat16"):
        found = network.activations(x)
        looked_at = [found.logits, *(s.before for s in found.stages), found.last]
        if name in LINEAR:
            looked_at.append(network.class_activation_maps(found.last))
    assert all(torch.isfinite(t).all() for t in looked_at)
    sum(t.float().pow(2).mean() for t in looked_at).backward()
    for parameter in network.parameters():
        assert parameter.grad is not None
        assert torch.isfinite(parameter.grad).all()
        assert parameter.dtype == torch.float32


@pytest.mark.parametrize("name", NAMES)
def test_folding_batch_norms_keeps_the_logits(name):
    x = images(4, 3, 32)
    network = lived(build(name, 5, 3, (32, 32), seed=0), x)
    folded = fuse(network)
    norms = [sum(isinstance(m, nn.BatchNorm2d) for m in n.modules()) for n in (network, folded)]
    # Those before a convolution stay: WRN's one a block and one more, Google's one.
    assert norms[1] == {"wrn_40_1": 19, "resnet32_google": 1}.get(name, 0) < norms[0]
    with torch.no_grad():
        torch.testing.assert_close(folded(x), network(x), rtol=1e-3, atol=1e-4)


def test_activations_fold_as_well():
    class Whole(nn.Module):
        def __init__(self, network):
            super().__init__()
            self.network = network

        def forward(self, x):
            return self.network.activations(x)

    x = images(4, 3, 32)
    network = lived(build("wrn_40_1", 5, 3, (32, 32), seed=0), x)
    with torch.no_grad():
        found, folded = network.activations(x), fuse(Whole(network).eval())(x)
    torch.testing.assert_close(folded.logits, found.logits, rtol=1e-3, atol=1e-4)
    for stage, expected in zip(folded.stages, found.stages, strict=True):
        torch.testing.assert_close(stage.before, expected.before, rtol=1e-3, atol=1e-3)


@pytest.mark.parametrize("name", ["mobilenet_v2", "mobilenet_v3_large"])
def test_a_training_pass_draws_nothing_at_random(name):
    network, x = build(name, 5, 3, (32, 32), seed=0), images(4, 3, 32)
    before = torch.random.get_rng_state()
    assert torch.equal(network(x), network(x))
    assert torch.equal(before, torch.random.get_rng_state())


def test_the_largest_network():
    """Check EfficientNetV2-L once for all that the tests above check of other networks."""
    network = build("efficientnet_v2_l", 5, 1, (32, 32), seed=0)
    network = network.to(memory_format=torch.channels_last)
    x = images(2, 1, 32).to(memory_format=torch.channels_last)
    before = torch.random.get_rng_state()
    with torch.autocast("cpu", torch.bfloat16):
        found = network.activations(x)
    assert torch.equal(before, torch.random.get_rng_state())
    found.logits.float().logsumexp(1).sum().backward()
    for parameter in network.parameters():
        assert parameter.grad is not None
        assert torch.isfinite(parameter.grad).all()
        parameter.grad = None
    network.eval().requires_grad_(False)
    found = network.activations(x)
    maps = network.class_activation_maps(found.last)
    torch.testing.assert_close(maps.mean((-2, -1)) + network.classifier.bias, found.logits)
    assert torch.equal(found.logits, network(x))
    torch.testing.assert_close(fuse(network, inplace=True)(x), found.logits, rtol=1e-3, atol=1e-3)


def test_blocks_of_a_wide_resnet_pass_their_input_on():
    network = WideResNet(16, 2, 5, 3).eval()
    for block in network.blocks:
        nn.init.zeros_(block.residual[-1].weight)
    with torch.no_grad():
        x = network.stem(images(2, 3, 32))
        for stage in network.run_stages(images(2, 3, 32)):
            first = network.blocks[0 if x.shape[1] == 16 else 2 if x.shape[1] == 32 else 4]
            x = first.shortcut((x / (1 + 1e-5) ** 0.5).relu())  # norms are the identity so far
            torch.testing.assert_close(stage.output, x)


def test_inverted_residuals_add_where_the_shape_stays():
    network = MobileNetV2Cifar(0.5, 5, 3).eval()
    adds = [[block.adds for block in group] for group in network.groups]
    assert adds == [
        [False],
        [False, True],
        [False, True, True],
        [False, True, True, True],
        [False, True, True],
        [False, True, True],
        [False],
    ]
    block = network.groups[1][1]
    nn.init.zeros_(block.residual[-1].weight)
    x = images(2, 12, 8)
    with torch.no_grad():
        assert torch.equal(block(x), x)


def test_shuffle_units_add_or_put_beside():
    network = ShuffleNetV1(5, 3).eval()
    halving, keeping = network.stages[1][0], network.stages[1][1]
    for unit in (halving, keeping):
        nn.init.zeros_(unit.residual[-1].weight)
    x, y = images(2, 240, 8), images(2, 480, 4)
    with torch.no_grad():
        assert torch.equal(keeping(y), y)
        found = halving(x)
    assert not found[:, :240].any()
    torch.testing.assert_close(found[:, 240:], nn.functional.avg_pool2d(x, 3, 2, 1))


def test_a_shuffle_mixes_the_groups():
    """Without it, a third of the channels would never see the other two thirds."""
    unit = ShuffleNetV1(5, 3).eval().stages[1][1]
    x = images(1, 480, 4)
    moved = x.clone()
    moved[:, :160] += 1
    with torch.no_grad():
        change = (unit(moved) - unit(x))[:, 160:]
    assert (change != 0).any()


def test_shapes_are_channels_height_and_width():
    found, width = shapes(build("digits_cnn", 10, 1, (6, 8), seed=0), 1, (6, 8))
    assert (found, width) == (((16, 6, 8), (32, 3, 4)), 128)


def test_several_iterates_have_no_features():
    network = AveragedLogits([build("digits_cnn", 10, 1, (8, 8), seed=0)])
    with pytest.raises(UserError, match="use the last iterate"):
        forward(network, torch.zeros(1, 1, 8, 8), Needs(features=True))
    assert forward(network, torch.zeros(1, 1, 8, 8), Needs()).logits.shape == (1, 10)


def ties(logits):
    """Count the images whose two largest logits are equal."""
    largest = logits.topk(2, dim=1).values
    return int((largest[:, 0] == largest[:, 1]).sum())


@pytest.mark.parametrize("name", ["digits_cnn", "resnet8", "resnet18", "mobilenet_v3_large"])
def test_the_final_layer_is_in_float32_whatever_the_layers_below_it(name):
    """Check autocast, a network of bfloat16 weights, and its folded form.

    One network of each way to pool; the rest is the base class's.
    """
    x = images(2, 3, 8)
    network = lived(build(name, 5, 3, (8, 8), seed=0), x)
    half = lower_precision(build(name, 5, 3, (8, 8), seed=0), torch.bfloat16).eval()
    half.load_state_dict(network.state_dict())
    folded = lower_precision(fuse(network), torch.bfloat16)
    with torch.no_grad():
        with torch.autocast("cpu", torch.bfloat16):
            found = network.activations(x)
            assert torch.equal(found.logits, network(x))
        assert torch.equal(found.logits, network.classify(found.pooled))
        seen = [found.logits, half(x.bfloat16()), folded(x.bfloat16())]
        with torch.autocast("cpu", torch.bfloat16):
            seen.append(folded(x.bfloat16()))
            if name in LINEAR:
                seen.append(network.class_activation_maps(found.last))
                seen.append(half.class_activation_maps(found.last))
    assert found.last.dtype == torch.bfloat16
    for logits in seen:
        assert logits.dtype == torch.float32
        assert not torch.equal(logits, logits.bfloat16().float())
    weight, bias = network.classifier.weight, network.classifier.bias
    expected = nn.functional.linear(found.pooled.double(), weight.double(), bias.double())
    torch.testing.assert_close(found.logits.double(), expected, rtol=1e-5, atol=1e-5)
    assert half.classifier.weight.dtype == torch.float32
    assert torch.equal(half.classifier.weight, weight)


def test_the_largest_logits_of_no_image_are_equal():
    """In bfloat16 some would tie, and the lower label, the more frequent class, would win."""
    network = build("digits_cnn", 100, 3, (6, 6), seed=0)
    x = images(1500, 3, 6)
    with torch.no_grad(), torch.autocast("cpu", torch.bfloat16):
        logits = network.eval()(x)
    assert ties(logits.bfloat16()) > 3
    assert ties(logits) == 0
