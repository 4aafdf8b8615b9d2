"""Networks: parameter counts known from elsewhere, shapes, seeds, and a registry without torch."""

import hashlib
import subprocess
import sys

import pytest
import torch
from torch import nn
from torch.utils.flop_counter import FlopCounterMode

from rkd_core.errors import UserError
from rkd_core.models import architectures, build, outline, parameters
from rkd_core.models.base import Network
from rkd_core.models.networks.cifar_resnet import CifarResNet
from rkd_core.models.networks.google_resnet import GoogleResNet
from rkd_core.models.networks.wide_resnet import WideResNet
from rkd_core.models.registry import HEADS

ALL_NAMES = sorted(architectures())
NAMES = [name for name in ALL_NAMES if name not in HEADS]  # those are for arrays: test_mlp.py
# One is too large to be built in every test, the others are built as resnet18 and so on are.
OTHERS = ("efficientnet_v2_l", "resnet18_cifar", "resnet34_cifar", "resnet50_cifar")
BUILT = [name for name in NAMES if name not in OTHERS]


def parameter_count(
    name: str, classes: int, channels: int = 3, size: tuple[int, int] = (32, 32)
) -> int:
    return sum(p.numel() for p in outline(name, classes, channels, size).parameters())


def he_count(depth: int, classes: int, channels: int = 3) -> int:
    """Parameters of a CIFAR ResNet with projections, added up by hand."""
    k = (depth - 2) // 6
    count = channels * 9 * 16 + 2 * 16
    for width_in, width in ((16, 16), (16, 32), (32, 64)):
        count += 9 * width_in * width + (2 * k - 1) * 9 * width * width + 2 * k * 2 * width
        if width_in != width:
            count += width_in * width + 2 * width
    return count + 64 * classes + classes


@pytest.mark.parametrize(
    ("name", "counts"),
    [
        ("resnet8", (78_042, 83_892, 90_392)),
        ("resnet14", (175_258, 181_108, 187_608)),
        ("resnet20", (272_474, 278_324, 284_824)),
        ("resnet32", (466_906, 472_756, 479_256)),
        ("resnet44", (661_338, 667_188, 673_688)),
        ("resnet56", (855_770, 861_620, 868_120)),
        ("resnet110", (1_730_714, 1_736_564, 1_743_064)),
    ],
)
def test_cifar_resnet_parameter_counts(name, counts):
    assert tuple(parameter_count(name, classes) for classes in (10, 100, 200)) == counts
    assert counts == tuple(he_count(int(name[6:]), classes) for classes in (10, 100, 200))


@pytest.mark.parametrize("name", NAMES)
def test_the_registry_has_the_size_of_each_network(name):
    assert parameters(name) == parameter_count(name, 10)


@pytest.mark.parametrize(
    ("name", "counts"),
    [
        ("resnet8x4", (1_210_410, 1_233_540, 1_259_240)),
        ("resnet32x4", (7_410_730, 7_433_860, 7_459_560)),
        ("wrn_40_1", (563_930, 569_780, 576_280)),
        ("wrn_40_2", (2_243_546, 2_255_156, 2_268_056)),
        ("vgg8", (3_918_858, 3_965_028, 4_016_328)),
        ("vgg13", (9_416_010, 9_462_180, 9_513_480)),
        ("mobilenet_v2_half", (697_546, 812_836, 940_936)),
        ("mobilenet_v2_full", (2_237_770, 2_353_060, 2_481_160)),
        ("shufflenet_v1", (862_768, 949_258, 1_045_358)),
        ("resnet18_cifar", (11_173_962, 11_220_132, 11_271_432)),
        ("resnet34_cifar", (21_282_122, 21_328_292, 21_379_592)),
        ("resnet50_cifar", (23_520_842, 23_705_252, 23_910_152)),
        ("resnet18_imagenet", (11_181_642, 11_227_812, 11_279_112, 11_689_512)),
        ("resnet34_imagenet", (21_289_802, 21_335_972, 21_387_272, 21_797_672)),
        ("resnet50_imagenet", (23_528_522, 23_712_932, 23_917_832, 25_557_032)),
        ("mobilenet_v1", (3_217_226, 3_309_476, 3_411_976, 4_231_976)),
        ("mobilenet_v2", (2_236_682, 2_351_972, 2_480_072, 3_504_872)),
        ("mobilenet_v3_large", (4_214_842, 4_330_132, 4_458_232, 5_483_032)),
        ("efficientnet_v2_l", (117_247_082, 117_362_372, 117_490_472, 118_515_272)),
    ],
)
def test_parameter_counts_known_from_elsewhere(name, counts):
    """For 10, 100 and 200 classes, and for those made for ImageNet 1000; whatever the images."""
    size = (224, 224) if name.endswith("_cifar") else (32, 32)
    found = tuple(
        parameter_count(name, classes, size=size) for classes in (10, 100, 200, 1000)[: len(counts)]
    )
    assert found == counts


def test_google_resnet_parameter_counts():
    assert parameter_count("resnet32_google", 10) == 300_762
    assert parameter_count("resnet32_google", 100) == 306_612
    # Four more blocks a stage: 11 w^2 weights and three batch norms of 2 w each.
    more = 4 * sum(11 * w * w + 6 * w for w in (16, 32, 64))
    assert parameter_count("resnet56_google", 10) == 300_762 + more


@pytest.mark.parametrize(
    ("name", "size", "classes", "count"),
    [
        ("resnet18", 64, 200, 11_271_432),
        ("resnet18", 127, 200, 11_271_432),
        ("resnet18", 128, 200, 11_279_112),
        ("resnet18", 224, 1000, 11_689_512),
        ("resnet34", 224, 1000, 21_797_672),
        ("resnet50", 224, 1000, 25_557_032),
    ],
)
def test_torchvision_parameter_counts_tell_the_stem(name, size, classes, count):
    assert parameter_count(name, classes, size=(size, size)) == count


def test_the_shorter_side_decides_the_stem():
    assert parameter_count("resnet18", 200, size=(64, 300)) == 11_271_432


def test_digits_cnn_parameter_count():
    assert parameter_count("digits_cnn", 10, channels=1, size=(8, 8)) == 6_138


@pytest.mark.parametrize("name", BUILT)
@pytest.mark.parametrize(("channels", "size"), [(1, (8, 8)), (3, (32, 32)), (3, (64, 48))])
def test_logits_are_the_classifier_on_the_features(name, channels, size):
    network = build(name, 7, channels, size, seed=0).eval()
    x = torch.randn(2, channels, *size, generator=torch.Generator().manual_seed(1))
    with torch.no_grad():
        logits, features = network(x), network.features(x)
    assert isinstance(network, Network)
    assert isinstance(network.classifier, nn.Linear)
    assert logits.shape == (2, 7)
    assert features.shape == (2, network.classifier.in_features)
    assert torch.isfinite(logits).all()
    assert torch.equal(logits, network.classifier(features))


@pytest.mark.parametrize(
    "name", ["resnet8", "resnet32_google", "resnet18", "digits_cnn", "vgg8", "shufflenet_v1"]
)
@pytest.mark.parametrize("size", [(4, 4), (8, 8), (17, 40)])
def test_networks_run_on_other_sizes_than_they_were_built_for(name, size):
    network = build(name, 5, 3, (32, 32), seed=0).eval()
    with torch.no_grad():
        assert network(torch.ones(2, 3, *size)).shape == (2, 5)


def test_large_images_go_through_the_torchvision_stem():
    network = build("resnet18", 5, 1, (128, 160), seed=0).eval()
    with torch.no_grad():
        assert network(torch.ones(1, 1, 128, 160)).shape == (1, 5)


@pytest.mark.parametrize("name", ["resnet18", "resnet34"])
def test_torchvision_wrapper_is_torchvisions_network(name):
    """Same weights, same logits as torchvision's own module."""
    import torchvision

    ours = build(name, 6, 3, (128, 128), seed=0).eval()
    theirs = torchvision.models.get_model(name, weights=None, num_classes=6).eval()
    state = {key.removeprefix("body."): value for key, value in ours.state_dict().items()}
    state["fc.weight"], state["fc.bias"] = (
        state.pop("classifier.weight"),
        state.pop("classifier.bias"),
    )
    theirs.load_state_dict(state)
    x = torch.randn(1, 3, 128, 128, generator=torch.Generator().manual_seed(0))
    with torch.no_grad():
        torch.testing.assert_close(ours(x), theirs(x), rtol=0, atol=0)


def test_cifar_resnet_halves_the_map_twice():
    network = CifarResNet(14, 10, 3).eval()
    with torch.no_grad():
        maps = network.stages(network.stem(torch.ones(1, 3, 32, 32)))
    assert maps.shape == (1, 64, 8, 8)


def test_a_residual_block_adds_its_input():
    """With a zero residual branch, every block without a projection is the identity."""
    network = CifarResNet(20, 10, 3).eval()
    block = network.stages[1]
    nn.init.zeros_(block.residual[-1].weight)
    x = torch.rand(2, 16, 8, 8)
    with torch.no_grad():
        assert torch.equal(block(x), x)


@pytest.mark.parametrize("name", BUILT)
def test_every_parameter_gets_a_gradient(name):
    network = build(name, 3, 1, (16, 16), seed=0)
    logits = network(torch.randn(4, 1, 16, 16, generator=torch.Generator().manual_seed(0)))
    nn.functional.cross_entropy(logits, torch.tensor([0, 1, 2, 0])).backward()
    assert all(p.grad is not None and p.grad.abs().sum() > 0 for p in network.parameters())


@pytest.mark.parametrize("name", ["resnet20", "resnet18", "digits_cnn"])
def test_initialization_is_he_normal_with_zero_biases(name):
    network = build(name, 10, 3, (32, 32), seed=0)
    assert not network.classifier.bias.any()
    convolutions = [m for m in network.modules() if isinstance(m, nn.Conv2d)]
    assert all(m.bias is None for m in convolutions)
    for m in convolutions:
        fan_out = m.out_channels * m.kernel_size[0] * m.kernel_size[1]
        n = m.weight.numel()
        ratio = m.weight.std().item() / (2 / fan_out) ** 0.5
        assert abs(ratio - 1) < 4 / (2 * n) ** 0.5  # four standard errors of a normal deviation


@pytest.mark.parametrize(
    "name", ["resnet8", "resnet32_google", "resnet18", "digits_cnn", "mobilenet_v2"]
)
def test_the_seed_alone_decides_the_weights(name):
    torch.manual_seed(1)
    first = build(name, 10, 3, (32, 32), seed=5).state_dict()
    torch.manual_seed(2)
    again = build(name, 10, 3, (32, 32), seed=5).state_dict()
    other = build(name, 10, 3, (32, 32), seed=6).state_dict()
    assert all(torch.equal(first[key], again[key]) for key in first)
    assert not torch.equal(first["classifier.weight"], other["classifier.weight"])


@pytest.mark.parametrize(
    ("name", "digest"),
    [
        ("digits_cnn", "5c9d48d63373"),
        ("resnet8", "9721b60499b2"),
        ("resnet32_google", "23d18517b06c"),
        ("resnet18", "43d88b80a7aa"),
        ("resnet50", "4b85298308db"),
    ],
)
def test_names_and_order_of_the_weights_are_those_of_artifacts_at_large(name, digest):
    """Other names would not load; another order would draw other weights from a seed."""
    weights = [
        (key, tuple(v.shape)) for key, v in outline(name, 10, 3, (32, 32)).state_dict().items()
    ]
    assert hashlib.sha256(repr(weights).encode()).hexdigest()[:12] == digest


def test_building_leaves_the_global_random_state_alone():
    torch.manual_seed(3)
    before = torch.random.get_rng_state()
    build("resnet8", 10, 3, (32, 32), seed=0)
    assert torch.equal(before, torch.random.get_rng_state())


def test_an_unknown_name_is_answered_with_the_closest_first():
    with pytest.raises(UserError) as error:
        build("resnet33", 10, 3, (32, 32), seed=0)
    message = str(error.value)
    assert "'resnet33'" in message
    assert "\n" not in message
    hint, listed = message.split("? choose one of ")
    assert sorted(listed.split(", ")) == ALL_NAMES
    assert "did you mean resnet3" in hint


@pytest.mark.parametrize(("classes", "channels", "size"), [(0, 3, (8, 8)), (2, 0, (8, 8))])
def test_empty_shapes_are_refused(classes, channels, size):
    with pytest.raises(UserError, match="at least one"):
        build("resnet8", classes, channels, size, seed=0)


@pytest.mark.parametrize("depth", [2, 7, 18])
def test_impossible_depths_are_refused(depth):
    with pytest.raises(ValueError, match="depth"):
        CifarResNet(depth, 10, 3)
    with pytest.raises(ValueError, match="depth"):
        WideResNet(depth, 1, 10, 3)


@pytest.mark.parametrize(
    ("name", "deviation"),
    [
        ("wrn_40_1", None),
        ("vgg8", 0.01),
        ("mobilenet_v2_half", 0.01),
        ("mobilenet_v2", 0.01),
        ("mobilenet_v3_large", 0.01),
    ],
)
def test_he_normal_where_the_sources_have_it(name, deviation):
    """Deviations of the convolutions and, where one is given, of the classifier; zero biases."""
    network = build(name, 10, 1, (32, 32), seed=0)
    assert not network.classifier.bias.any()
    for m in network.modules():
        if isinstance(m, nn.Conv2d):
            fan_out = m.out_channels * m.kernel_size[0] * m.kernel_size[1]
            ratio = m.weight.std().item() / (2 / fan_out) ** 0.5
            assert abs(ratio - 1) < 5 / (2 * m.weight.numel()) ** 0.5
            assert m.bias is None or not m.bias.any()
    if deviation is not None:
        assert network.classifier.weight.std().item() == pytest.approx(deviation, rel=0.1)


@pytest.mark.parametrize("name", ["shufflenet_v1", "mobilenet_v1"])
def test_pytorchs_uniform_initialisation_where_the_sources_have_it(name):
    network = build(name, 10, 3, (32, 32), seed=0)
    for m in network.modules():
        if isinstance(m, nn.Conv2d | nn.Linear):
            bound = m.weight[0].numel() ** -0.5
            assert 0.8 * bound < m.weight.abs().max() <= bound


def multiply_adds(name):
    """Count multiply-adds for an image of 32 x 32 pixels, in convolutions and linear layers."""
    network = outline(name, 10, 3, (32, 32)).eval()
    with FlopCounterMode(display=False) as counter:
        network(torch.empty(1, 3, 32, 32, device="meta"))
    return counter.get_total_flops() / 2


def test_googles_resnet_has_the_multiply_adds_of_the_public_code():
    """Maps of 36, 18 and 9 pixels; the first 1x1 convolution of a stage is not strided."""
    assert multiply_adds("resnet32_google") == pytest.approx(56.63e6, abs=5e3)


def same(x, weight, stride):
    """A convolution with TensorFlow's "same" padding, by its definition."""
    padding = []
    for side in (x.shape[-1], x.shape[-2]):
        total = max((-(-side // stride) - 1) * stride + weight.shape[-1] - side, 0)
        padding += [total // 2, total - total // 2]
    return nn.functional.conv2d(nn.functional.pad(x, padding), weight, stride=stride)


def public_resnet(weights, x, blocks):
    """Google's public ResNet written as functions: layers take what ``weights`` has next."""
    left = iter(weights)

    def norm(x):
        scale, shift, mean, variance, _ = (next(left)[..., None, None] for _ in range(5))
        return (x - mean) / (variance + 1e-5).sqrt() * scale + shift

    def convolution(x, stride=1):
        return norm(same(x, next(left), stride))

    x = norm(nn.functional.conv2d(nn.functional.pad(x, (3, 3, 3, 3)), next(left))).relu()
    for stage in range(3):
        for block in range(blocks):
            stride = 2 if stage > 0 and block == 0 else 1
            inner = convolution(convolution(x).relu(), stride).relu()
            inner = convolution(inner)
            x = (inner + (convolution(x, stride) if block == 0 else x)).relu()
    x = norm(x).mean((2, 3))
    return x @ next(left).T + next(left)


@pytest.mark.parametrize("size", [(32, 32), (9, 12), (5, 7)])
def test_googles_resnet_computes_what_the_public_code_does(size):
    network = GoogleResNet(14, 5, 3).double()
    generator = torch.Generator().manual_seed(0)
    x = torch.randn(3, 3, *size, generator=generator, dtype=torch.float64)
    with torch.no_grad():
        for parameter in network.parameters():
            parameter.add_(torch.randn(parameter.shape, generator=generator) * 0.1)
        network(x)  # so that running statistics are not the initial ones
        network.eval()
        expected = public_resnet(network.state_dict().values(), x, blocks=2)
        torch.testing.assert_close(network(x), expected, rtol=1e-10, atol=1e-10)


def test_googles_resnet_is_initialized_as_tensorflow_does_it():
    """Convolutions: fan in, normal, truncated at two deviations; the dense layer: 0.01."""
    network = build("resnet56_google", 100, 3, (32, 32), seed=0)
    for m in network.modules():
        if isinstance(m, nn.Conv2d):
            fan_in, n = m.weight[0].numel(), m.weight.numel()
            wanted = (2 / fan_in) ** 0.5
            assert m.bias is None
            assert m.weight.abs().max() <= 2 * wanted / 0.87962566103423978 * (1 + 1e-6)
            assert m.weight.std().item() == pytest.approx(wanted, rel=4 / (2 * n) ** 0.5)
    assert network.classifier.weight.std().item() == pytest.approx(0.01, rel=0.05)
    assert not network.classifier.bias.any()


@pytest.mark.parametrize(
    ("name", "deviation"),
    [
        ("resnet8x4", (2 / 100) ** 0.5),
        ("digits_cnn", (2 / 100) ** 0.5 / 4),  # of four convolutions, one a quarter
        ("wrn_40_1", (2 / 100) ** 0.5),
        ("mobilenet_v2_half", (2 / 100) ** 0.5),
        ("mobilenet_v2", (2 / 100) ** 0.5),
        ("resnet18", (2 / 100) ** 0.5),
        ("resnet32_google", (2 / 64) ** 0.5),
        ("vgg8", (1 / (3 * 512)) ** 0.5),
        ("shufflenet_v1", (1 / (3 * 960)) ** 0.5),
        ("mobilenet_v1", (1 / (3 * 1024)) ** 0.5),
    ],
)
def test_a_classifier_of_class_maps_is_drawn_as_the_networks_convolutions(name, deviation):
    """CAT-KD's public code uses a 1x1 convolution, drawn like the others. VGG's is added after the
    others are drawn, so it keeps PyTorch's default."""
    plain, maps = (build(name, 100, 3, (8, 8), seed=3, class_maps=m) for m in (False, True))
    assert maps.classifier.weight.std().item() == pytest.approx(deviation, rel=0.05)
    for (key, value), other in zip(
        plain.state_dict().items(), maps.state_dict().values(), strict=True
    ):
        assert torch.equal(value, other) == (key != "classifier.weight"), key


def test_names_are_listed_without_torch():
    code = (
        "import sys; from rkd_core.models import architectures; names = architectures(); "
        "assert 'torch' not in sys.modules and 'torchvision' not in sys.modules; "
        "print(len(names), all(d and '\\n' not in d for d in names.values()))"
    )
    done = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=True, timeout=600
    )
    assert done.stdout.split() == [str(len(ALL_NAMES)), "True"]
