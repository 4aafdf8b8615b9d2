"""Published weights from a local file: the very network, or one line that says why not."""

import hashlib
import pickle

import pytest
import torch
import torchvision
from safetensors.torch import save_file

from rkd_core.errors import UserError
from rkd_core.models import build, load_pretrained, read_pretrained

SMALL = ("digits_cnn", 5, 1, (8, 8))


@pytest.fixture(name="state")
def small_state():
    return build(*SMALL, seed=3).state_dict()


def saved(state, folder, name="weights.pth"):
    path = folder / name
    if path.suffix == ".safetensors":
        save_file(state, path)
    else:
        torch.save(state, path)
    return path


def refusal(path, *network):
    with pytest.raises(UserError) as error:
        load_pretrained(path, *(network or SMALL))
    message = str(error.value)
    assert message.startswith(str(path))
    assert "\n" not in message
    return message.removeprefix(str(path))


@pytest.mark.parametrize(
    ("name", "published"),
    [
        ("resnet18_imagenet", "resnet18"),
        ("resnet50", "resnet50"),
        ("mobilenet_v2", "mobilenet_v2"),
        ("mobilenet_v3_large", "mobilenet_v3_large"),
    ],
)
@pytest.mark.parametrize("suffix", [".pth", ".safetensors"])
def test_torchvisions_files_give_torchvisions_logits(tmp_path, name, published, suffix):
    torch.manual_seed(0)
    theirs = torchvision.models.get_model(published, num_classes=7).eval()
    path = saved(theirs.state_dict(), tmp_path, "published" + suffix)
    ours = load_pretrained(path, name, 7, 3, (128, 128))
    assert not ours.training
    x = torch.randn(1, 3, 128, 128, generator=torch.Generator().manual_seed(0))
    with torch.no_grad():
        torch.testing.assert_close(ours(x), theirs(x), rtol=1e-5, atol=1e-6)


def test_efficientnets_names_are_torchvisions(tmp_path):
    """By names and shapes alone: its weights are half a gigabyte."""
    from rkd_core.models import outline, pretrained

    ours = outline("efficientnet_v2_l", 1000, 3, (480, 480))
    names = {pretrained._published(name, ours.published_names) for name in ours.state_dict()}
    with torch.device("meta"):
        theirs = torchvision.models.get_model("efficientnet_v2_l").state_dict()
    assert names == set(theirs)


@pytest.mark.parametrize("suffix", [".pt", ".pth", ".safetensors"])
def test_this_projects_own_names_are_known_too(tmp_path, state, suffix):
    loaded = load_pretrained(saved(state, tmp_path, "own" + suffix), *SMALL).state_dict()
    assert list(loaded) == list(state)
    assert all(torch.equal(loaded[name], state[name]) for name in state)


def test_own_names_of_a_network_with_published_ones(tmp_path):
    network = build("resnet18", 4, 1, (32, 32), seed=1).eval()
    loaded = load_pretrained(saved(network.state_dict(), tmp_path), "resnet18", 4, 1, (32, 32))
    x = torch.ones(1, 1, 32, 32)
    with torch.no_grad():
        assert torch.equal(loaded(x), network(x))


def test_half_precision_and_older_files_are_brought_to_float32(tmp_path, state):
    older = {
        name: value.bfloat16()
        for name, value in state.items()
        if not name.endswith("num_batches_tracked")
    }
    loaded = load_pretrained(saved(older, tmp_path), *SMALL)
    assert all(p.dtype == torch.float32 and p.requires_grad for p in loaded.parameters())
    assert torch.equal(loaded.classifier.weight, older["classifier.weight"].float())
    assert loaded.state_dict()["body.1.num_batches_tracked"] == 0
    loaded.train()(torch.ones(2, 1, 8, 8)).sum().backward()


@pytest.mark.parametrize("suffix", [".pth", ".safetensors"])
def test_what_a_file_is_can_be_read_for_any_number_of_classes(tmp_path, suffix):
    torch.manual_seed(0)
    theirs = torchvision.models.mobilenet_v2(num_classes=7).eval()
    path = saved(theirs.state_dict(), tmp_path, "published" + suffix)
    found = read_pretrained(path, "mobilenet_v2", 3, 3, (32, 32))
    assert found.digest == hashlib.sha256(path.read_bytes()).hexdigest()
    assert (found.classes, found.normalization) == (7, "imagenet")
    assert torch.equal(found.tensors["classifier.weight"], theirs.classifier[1].weight)
    assert read_pretrained(path, "mobilenet_v2", 7, 3, (32, 32)).classes == 7
    own = saved(found.tensors, tmp_path, "own" + suffix)
    assert read_pretrained(own, "mobilenet_v2", 3, 3, (32, 32)).normalization is None


def test_files_of_before_zip_archives_are_read(tmp_path, state):
    path = tmp_path / "w.pth"
    torch.save(state, path, _use_new_zipfile_serialization=False)
    assert torch.equal(load_pretrained(path, *SMALL).classifier.weight, state["classifier.weight"])


def test_torchvisions_stem_on_small_images_is_another_network(tmp_path):
    path = saved(torchvision.models.resnet18(num_classes=4).state_dict(), tmp_path)
    said = refusal(path, "resnet18", 4, 3, (32, 32))
    assert said.endswith(
        "conv1.weight is 64 x 3 x 7 x 7, not 64 x 3 x 3 x 3; "
        "resnet18_imagenet has that stem at every image size"
    )
    assert load_pretrained(path, "resnet18_imagenet", 4, 3, (32, 32))


@pytest.mark.parametrize("value", [float("nan"), float("inf"), 1e300])
def test_numbers_that_are_none_are_refused(tmp_path, state, value):
    state["classifier.bias"] = torch.full((5,), value, dtype=torch.float64)
    said = refusal(saved(state, tmp_path))
    assert said == " is damaged, or diverged: not all of classifier.bias is finite"


def test_the_first_tensor_that_is_missing_is_named(tmp_path, state):
    del state["body.1.bias"], state["body.5.bias"]
    said = refusal(saved(state, tmp_path))
    assert said == (
        " is not of digits_cnn for 5 classes of 1-channel images: it has no body.1.bias"
    )


def test_the_first_tensor_too_many_is_named(tmp_path, state):
    path = saved({**state, "extra.weight": torch.ones(2), "more": torch.ones(1)}, tmp_path)
    assert refusal(path).endswith("images, which has no extra.weight")


@pytest.mark.parametrize(
    ("network", "said"),
    [
        (("digits_cnn", 7, 1, (8, 8)), "classifier.weight is 5 x 128, not 7 x 128"),
        (("digits_cnn", 5, 3, (8, 8)), "body.0.weight is 16 x 1 x 3 x 3, not 16 x 3 x 3 x 3"),
        (("resnet8", 5, 1, (8, 8)), "it has no stem.0.weight"),
        (("resnet18", 5, 1, (8, 8)), "it has no body.conv1.weight"),
    ],
)
def test_a_network_of_other_shapes_is_refused(tmp_path, state, network, said):
    assert refusal(saved(state, tmp_path), *network).endswith(said)


def test_published_tensors_are_named_as_in_the_file(tmp_path):
    with torch.device("meta"):
        theirs = torchvision.models.get_model("mobilenet_v2").state_dict()
    small = {name: torch.zeros(value.shape) for name, value in theirs.items()}
    path = saved(small, tmp_path)
    said = refusal(path, "mobilenet_v2", 100, 3, (224, 224))
    assert said.endswith("classifier.1.weight is 1000 x 1280, not 100 x 1280")


def test_integers_are_no_weights(tmp_path, state):
    state["classifier.bias"] = torch.zeros(5, dtype=torch.int64)
    assert refusal(saved(state, tmp_path)).endswith("classifier.bias holds torch.int64")


class Evil:
    def __reduce__(self):
        return print, ("run",)


@pytest.mark.parametrize("name", ["w.pth", "w.pt", "w.safetensors"])
@pytest.mark.parametrize("content", [b"", b"not weights", pickle.dumps({"a": Evil()})])
def test_other_files_are_refused_and_nothing_in_them_is_run(tmp_path, capsys, name, content):
    path = tmp_path / name
    path.write_bytes(content)
    assert " cannot be read as weights: " in refusal(path)
    assert not capsys.readouterr().out


@pytest.mark.parametrize("length", [100, 20_000])
@pytest.mark.parametrize("suffix", [".pth", ".safetensors"])
def test_a_file_cut_short_is_refused(tmp_path, state, suffix, length):
    path = saved(state, tmp_path, "cut" + suffix)
    path.write_bytes(path.read_bytes()[:length])
    assert " cannot be read as weights: " in refusal(path)


def test_a_checkpoint_is_told_from_a_state_dict(tmp_path, state):
    path = saved({"epoch": 3, "model": state}, tmp_path)
    assert refusal(path) == " is not a state dict: 'epoch' is a int, not a tensor"
    assert refusal(saved([1, 2], tmp_path)) == " holds a list, not a state dict"


def test_paths_that_are_none_are_refused(tmp_path):
    assert refusal(tmp_path / "absent.pth").startswith(" is not there")
    folder = tmp_path / "folder.pth"
    folder.mkdir()
    assert refusal(folder).startswith(" is not there")
    assert "must end in" in refusal(tmp_path / "weights.npz")


def test_an_unknown_network_is_refused(tmp_path):
    with pytest.raises(UserError, match="unknown architecture 'resnet19'"):
        load_pretrained(tmp_path / "w.pth", "resnet19", 5, 1, (8, 8))
