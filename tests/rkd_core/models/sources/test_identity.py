"""Networks of libraries and of users' files: identity, construction, refusals."""

import pytest
import torch
from torch import nn

from rkd_core import models
from rkd_core.errors import UserError
from rkd_core.methods.common.protocol import Needs
from rkd_core.models.base import lower_precision
from rkd_core.models.features import forward, shapes
from rkd_core.models.sources import identity

TINY = """import torch
from torch import nn


class Tiny(nn.Module):
    def __init__(self, num_classes, in_chans=3, width=4):
        super().__init__()
        self.one = nn.Conv2d(in_chans, width, 3, 2, 1)
        self.two = nn.Conv2d(width, 2 * width, 3, 2, 1)
        self.drop = nn.Dropout(0.5)
        self.head = nn.Linear(2 * width, num_classes)

    def forward(self, x):
        maps = self.two(self.one(x).relu()).relu()
        return self.head(self.drop(maps.mean((2, 3))))
"""


def named(folder, text=TINY, name="Tiny"):
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "nets.py").write_text(text)
    return f"{folder / 'nets.py'}:{name}"


def build(found, classes=3, channels=1, size=(8, 8), seed=0, **options):
    return models.build(
        found.architecture, classes, channels, size, seed=seed, digest=found.digest, **options
    )


def test_a_class_in_a_file(tmp_path):
    state = torch.get_rng_state()
    found = models.identify(named(tmp_path), 3, 1, (8, 8))
    assert torch.equal(torch.get_rng_state(), state)
    assert found.architecture == "nets:Tiny"
    network = build(found)
    assert set(network.state_dict()) == {
        f"{layer}.{part}" for layer in ("one", "two", "head") for part in ("weight", "bias")
    }
    assert network.classifier_name == "head"
    assert network.training
    assert network(torch.zeros(2, 1, 8, 8)).shape == (2, 3)
    same, other = build(found), build(found, seed=1)
    assert torch.equal(network.classifier.weight, same.classifier.weight)
    assert not torch.equal(network.classifier.weight, other.classifier.weight)
    assert models.parameters("nets:Tiny") == sum(p.numel() for p in network.parameters())


def test_state_dicts_have_the_names_of_the_network(tmp_path):
    found = models.identify(named(tmp_path), 3, 1, (8, 8))
    one, other = build(found), build(found, seed=1)
    pair = nn.ModuleList([other, build(found, seed=2)])
    pair.load_state_dict({f"{n}.{k}": v for n in (0, 1) for k, v in one.state_dict().items()})
    assert all(torch.equal(v, other.state_dict()[k]) for k, v in one.state_dict().items())
    with pytest.raises(RuntimeError, match="Missing key"):
        one.load_state_dict({})


def test_arguments_and_code_change_the_identity_and_a_move_does_not(tmp_path):
    plain = models.identify(named(tmp_path), 3, 1, (8, 8))
    moved = models.identify(named(tmp_path / "other"), 3, 1, (8, 8))
    assert (moved.architecture, moved.digest) == (plain.architecture, plain.digest)
    wide = models.identify(named(tmp_path) + "(width=5)", 3, 1, (8, 8))
    assert wide.architecture == "nets:Tiny(width=5)"
    changed = models.identify(
        named(tmp_path / "changed", TINY.replace("relu())", "tanh())")), 3, 1, (8, 8)
    )
    assert changed.architecture == plain.architecture
    assert len({plain.digest, wide.digest, changed.digest}) == 3
    assert not torch.equal(
        build(plain)(torch.ones(1, 1, 8, 8)), build(changed)(torch.ones(1, 1, 8, 8))
    )


def test_the_final_layer_stays_in_float32(tmp_path):
    network = build(models.identify(named(tmp_path), 3, 1, (8, 8))).eval()
    images = torch.rand(2, 1, 8, 8)
    with torch.autocast("cpu", torch.bfloat16):
        assert network(images).dtype == torch.float32
    lower_precision(network, torch.bfloat16)
    assert network.classifier.weight.dtype == torch.float32
    assert network.body.one.weight.dtype == torch.bfloat16
    assert network(images.bfloat16()).dtype == torch.float32


def test_stages_are_the_maps_of_each_resolution(tmp_path):
    network = build(models.identify(named(tmp_path), 3, 1, (8, 8)))
    assert shapes(network, 1, (8, 8)) == (((4, 4, 4), (8, 2, 2)), 8)
    assert network.training
    found = network.eval().activations(torch.rand(2, 1, 8, 8))
    torch.testing.assert_close(found.logits, network.classifier(found.pooled))
    assert found.last.shape == (2, 8, 2, 2)


def test_given_stages_are_those_that_methods_compare(tmp_path):
    text = TINY.replace("self.drop =", "self.last = nn.ReLU()\n        self.drop =")
    text = text.replace(").relu()).relu()", ").relu())\n        maps = self.last(maps)")
    reference = named(tmp_path, text)
    plain = models.identify(reference, 3, 1, (8, 8))
    found = models.identify(f"{reference}[one,last]", 3, 1, (8, 8))
    assert found.architecture == "nets:Tiny[one,last]"
    assert found.digest == plain.digest  # the same tensors and code under another name
    network = build(found)
    assert network.state_dict().keys() == build(plain).state_dict().keys()
    images = torch.rand(2, 1, 8, 8)
    network.eval()
    one = network.body.one(images)
    last = network.body.two(one.relu()).relu()
    compared = forward(network, images, Needs(features=True)).features
    for output, expected in zip(compared.outputs, (one, last), strict=True):
        torch.testing.assert_close(output, expected)
    maps = forward(network, images, Needs(maps=True)).maps
    torch.testing.assert_close(maps, torch.einsum("kc,nchw->nkhw", network.classifier.weight, last))
    single = build(models.identify(f"{reference}[two]", 3, 1, (8, 8)))
    assert shapes(single, 1, (8, 8)) == (((8, 2, 2),), 8)


@pytest.mark.parametrize(
    ("stages", "message"),
    [
        ("one,tow", "has no module tow: did you mean two"),
        ("head", r"head returns a tensor \(2, 3\); a stage returns a map"),
        ("two,one", "in the order of the forward pass, one,two"),
        ("unused", "unused returns no tensor"),
    ],
)
def test_other_stages_are_refused(tmp_path, stages, message):
    text = TINY.replace("self.drop =", "self.unused = nn.ReLU()\n        self.drop =")
    with pytest.raises(UserError, match=message):
        models.identify(f"{named(tmp_path, text)}[{stages}]", 3, 1, (8, 8))


def test_class_maps_need_features_that_are_the_mean_of_the_last_map(tmp_path):
    images = torch.rand(2, 1, 8, 8)
    network = build(models.identify(named(tmp_path), 3, 1, (8, 8)))
    # The last activation function is no module, so the last map is the one before it.
    with pytest.raises(UserError, match="other layers between its last map and its classifier"):
        forward(network, images, Needs(maps=True))
    assert forward(network, images, Needs(features=True)).features.pooled.shape == (2, 8)
    text = TINY.replace("self.two(self.one(x).relu()).relu()", "self.last(self.two(self.one(x)))")
    text = text.replace("        self.drop =", "        self.last = nn.ReLU()\n        self.drop =")
    network = build(models.identify(named(tmp_path / "b", text), 3, 1, (8, 8))).eval()
    found = forward(network, images, Needs(maps=True))
    mean = found.maps.mean((-2, -1)) + network.classifier.bias
    torch.testing.assert_close(mean, found.logits)


def test_pretrained_weights_are_distinguished_from_random_ones(tmp_path):
    random = models.identify(named(tmp_path), 3, 1, (8, 8))
    assert random.weights is None
    torch.save(build(random).state_dict(), tmp_path / "w.pt")
    loading = f"""

def load():
    network = Tiny(3, 1)
    network.load_state_dict(torch.load("{tmp_path}/w.pt"))
    return network
"""
    found = models.identify(named(tmp_path / "b", TINY + loading, "load"), 3, 1, (8, 8))
    given = models.own_weights(found, 3)
    stored = torch.load(tmp_path / "w.pt")
    assert given.tensors.keys() == stored.keys()
    assert all(torch.equal(value, stored[name]) for name, value in given.tensors.items())
    stored["head.bias"] += 1
    torch.save(stored, tmp_path / "w.pt")
    other = models.identify(named(tmp_path / "b", TINY + loading, "load"), 3, 1, (8, 8))
    assert other.digest == found.digest
    assert models.own_weights(other, 3).digest != given.digest


def test_lazy_layers_get_their_shapes(tmp_path):
    text = (
        "def tiny(num_classes):\n    return nn.Sequential(nn.Flatten(), nn.LazyLinear(num_classes))"
    )
    text = f"from torch import nn\n\n\n{text}\n"
    found = models.identify(named(tmp_path, text, "tiny"), 3, 1, (8, 8))
    assert build(found).classifier.weight.shape == (3, 64)


HEADER = "import random\nimport torch\nfrom torch import nn\n\n"
REFUSED = {
    "dict": ("def net(num_classes):\n    return {}", "returns a dict with , not a torch.nn.Module"),
    "instance": ("net = nn.Flatten()", "is a network, not a class or function"),
    "number": ("net = 3", "is int, not a class or function"),
    "needs more": ("def net(n, num_classes):\n    return nn.Flatten()", "missing a required"),
    "error": ("def net():\n    raise KeyError('x')", r"nets\.py line 6: KeyError"),
    "two heads": (
        "class net(nn.Flatten):\n    def forward(self, x):\n        return x, x",
        "has no parameters to train",
    ),
    "shape": ("def net():\n    return nn.Sequential(nn.Flatten(), nn.Linear(64, 5))", r"\(2, 5\)"),
    "tuple": (
        "class net(nn.Linear):\n    def __init__(self):\n        super().__init__(64, 3)\n"
        "    def forward(self, x):\n        y = super().forward(x.flatten(1))\n        return y, y",
        r"tuple of 2: a float32 tensor \(2, 3\), a float32 tensor \(2, 3\); it must return one",
    ),
    "not finite": (
        "class net(nn.Linear):\n    def __init__(self):\n        super().__init__(64, 3)\n"
        "    def forward(self, x):\n        return super().forward(x.flatten(1)) / 0",
        "not finite",
    ),
    "draws elsewhere": (
        "def net():\n    one = nn.Sequential(nn.Flatten(), nn.Linear(64, 3))\n"
        "    one[1].bias.data.fill_(random.random())\n    return one",
        "other weights .*default generator only",
    ),
    "draws when evaluated": (
        "class net(nn.Linear):\n    def __init__(self):\n        super().__init__(64, 3)\n"
        "    def forward(self, x):\n        return super().forward(x.flatten(1)) + torch.rand(3)",
        "in evaluation mode",
    ),
    "too small": (
        "def net():\n    return nn.Sequential(nn.Conv2d(1, 3, 9), nn.Flatten())",
        "on images of 1 x 8 x 8 raises",
    ),
    "frozen": (
        "def net():\n    return nn.Sequential(nn.Linear(8, 3)).requires_grad_(False)",
        "no parameters to train",
    ),
}


@pytest.mark.parametrize("case", REFUSED)
def test_other_networks_are_refused(tmp_path, case):
    text, message = REFUSED[case]
    with pytest.raises(UserError, match=message):
        models.identify(named(tmp_path, f"{HEADER}{text}\n", "net"), 3, 1, (8, 8))


def test_a_copy_that_cannot_be_imported_is_refused(tmp_path):
    (tmp_path / "width.txt").write_text("4")
    text = "from pathlib import Path\nW = Path(__file__).with_name('width.txt').read_text()\n"
    text += TINY
    with pytest.raises(UserError, match=r"cannot be imported from a copy of it.*width\.txt"):
        models.identify(named(tmp_path, text), 3, 1, (8, 8))


def test_a_file_that_changes_in_one_process_is_read_again(tmp_path):
    one = models.identify(named(tmp_path), 3, 1, (8, 8))
    two = models.identify(named(tmp_path, TINY.replace("width=4", "width=5")), 3, 1, (8, 8))
    assert one.digest != two.digest
    assert build(one).classifier.in_features == 8
    assert build(two).classifier.in_features == 10


def test_an_error_in_the_code_names_its_line(tmp_path):
    with pytest.raises(UserError, match=r"nets\.py line 1: invalid syntax"):
        models.identify(named(tmp_path, "x = = 1\n"), 3, 1, (8, 8))
    with pytest.raises(UserError, match=rf"{tmp_path}/nets\.py line 2: ZeroDivisionError"):
        models.identify(named(tmp_path, "x = 1\nx / 0\n"), 3, 1, (8, 8))
    with pytest.raises(UserError, match=r"nets\.py cannot be read|does not exist"):
        models.identify(f"{tmp_path}/none/nets.py:Tiny", 3, 1, (8, 8))
    with pytest.raises(UserError, match="did you mean Tiny"):
        models.identify(named(tmp_path / "b", TINY, "Tinny"), 3, 1, (8, 8))


def test_the_code_of_a_spec_must_be_loaded():
    with pytest.raises(UserError, match="the code of unknown:Net is not loaded"):
        models.build("unknown:Net", 3, 1, (8, 8), seed=0, digest="0" * 64)


def test_torchvision():
    found = models.identify("torchvision:regnet_y_400mf", 3, 1, (32, 32))
    assert (found.architecture, found.code) == ("torchvision:regnet_y_400mf", None)
    network = build(found, size=(32, 32))
    assert network.published_normalization is None  # that of gray images is not known
    assert len(shapes(network, 1, (32, 32))[0]) == 4
    identity._known.clear()  # as in another process
    build(found, size=(32, 32))
    color = models.identify("torchvision:regnet_y_400mf", 3, 3, (32, 32))
    assert build(color, channels=3, size=(32, 32)).published_normalization == "imagenet"
    with pytest.raises(UserError, match="built with other parameters"):
        models.build(found.architecture, 3, 3, (32, 32), seed=0, digest=found.digest)
    with pytest.raises(UserError, match="did you mean resnet18"):
        models.identify("torchvision:resnet19", 3, 3, (32, 32))
    with pytest.raises(UserError, match="leave out weights"):
        models.identify("torchvision:resnet18(weights='DEFAULT')", 3, 3, (32, 32))


def test_timm():
    pytest.importorskip("timm", reason="timm is an extra")
    found = models.identify("timm:mobilenetv3_small_050", 3, 1, (32, 32))
    network = build(found, size=(32, 32))
    assert network.classifier_name == "classifier"
    vit = models.identify(
        "timm:vit_tiny_patch16_224(patch_size=8, embed_dim=24, depth=1)", 3, 1, (16, 16)
    )
    network = build(vit, size=(16, 16))
    assert network.published_normalization == "symmetric"
    with pytest.raises(UserError, match="no maps at several resolutions"):
        shapes(network, 1, (16, 16))
    with pytest.raises(UserError, match="unknown network of timm"):
        models.identify("timm:resnet_of_mine", 3, 1, (16, 16))


HEADS = {
    "subclass": """class Head(nn.Linear):
    pass
""",
    "same": """class Head(nn.Linear):
    def forward(self, x):
        return nn.functional.linear(x, self.weight, self.bias)
""",
    "adapter": """class Head(nn.Linear):
    def __init__(self, *sizes):
        super().__init__(*sizes)
        self.down = nn.Linear(sizes[0], 2, bias=False)
        self.up = nn.Parameter(torch.zeros(sizes[1], 2))

    def forward(self, x):
        return super().forward(x) + self.down(x) @ self.up.T
""",
    "noise": """class Head(nn.Linear):
    def forward(self, x):
        y = super().forward(x)
        return y + torch.randn_like(y) if self.training else y
""",
    "scale": """class Head(nn.Linear):
    def forward(self, x):
        return (2 if self.training else 1) * super().forward(x)
""",
    "norm": """def Head(*sizes):
    return nn.utils.parametrizations.weight_norm(nn.Linear(*sizes))
""",
}


@pytest.mark.parametrize("head", HEADS)
def test_a_final_layer_keeps_the_branches_of_its_class(tmp_path, head):
    text = TINY.replace("nn.Linear(2 *", "Head(2 *").replace(
        "\n\nclass", f"\n\n{HEADS[head]}\n\nclass"
    )
    network = build(models.identify(named(tmp_path, text), 3, 1, (8, 8)))
    assert (network.classifier_name == "head") == (head in ("subclass", "same"))
    given = torch.rand(4, 8)
    layer = network.body.head
    with torch.no_grad():
        for parameter in layer.parameters():
            parameter.add_(1)
        torch.manual_seed(0)
        found = layer(given)
        plain = nn.functional.linear(given, layer.weight, layer.bias)
        torch.manual_seed(0)
        noise = torch.randn_like(plain)
        expected = {
            "adapter": lambda: plain + layer.down(given) @ layer.up.T,
            "noise": lambda: plain + noise,
            "scale": lambda: 2 * plain,
        }.get(head, lambda: plain)()
    torch.testing.assert_close(found, expected)
