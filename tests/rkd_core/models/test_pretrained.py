"""Published weights from a local file: the same network, or one line with the reason."""

import argparse
import gzip
import hashlib
import json
import pickle
import warnings

import numpy as np
import pytest
import torch
import torchvision
from safetensors.torch import save_file
from torch import nn

from rkd_core.errors import UserError
from rkd_core.models import build, load_pretrained, read_pretrained

SMALL = ("digits_cnn", 5, 1, (8, 8))


@pytest.fixture(name="state")
def small_state():
    return build(*SMALL, seed=3).state_dict()


def saved(state, folder, name="weights.pth"):
    path = folder / name
    if path.suffix == ".safetensors":
        save_file(dict(state), path)
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
    """Compare names and shapes only, since its weights are half a gigabyte."""
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
def test_the_kind_of_a_file_is_read_for_any_number_of_classes(tmp_path, suffix):
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
def test_invalid_numbers_are_refused(tmp_path, state, value):
    state["classifier.bias"] = torch.full((5,), value, dtype=torch.float64)
    said = refusal(saved(state, tmp_path))
    assert said == " is damaged or diverged: not all values of classifier.bias are finite"


def test_tensors_that_are_missing_are_named(tmp_path, state):
    del state["body.1.bias"], state["body.5.bias"]
    what = " is not of digits_cnn for 5 classes of 1-channel images: "
    assert refusal(saved(state, tmp_path)) == what + "it has no body.1.bias, body.5.bias"
    state["head.bias"] = state.pop("classifier.bias")
    said = refusal(saved(state, tmp_path, "model-00001-of-00002.safetensors"))
    assert said == (
        what + "it has no body.1.bias, body.5.bias, classifier.bias; the network has no "
        "head.bias; it is one of several files with the weights"
    )


def test_tensors_too_many_are_named(tmp_path, state):
    more = {f"extra.{number}": torch.ones(1) for number in range(6)}
    path = saved({**state, **more}, tmp_path)
    assert refusal(path).endswith(
        "images, which has no extra.0, extra.1, extra.2, extra.3 and 2 more"
    )


@pytest.mark.parametrize(
    ("network", "said"),
    [
        (("digits_cnn", 7, 1, (8, 8)), "classifier.weight is 5 x 128, not 7 x 128"),
        (("digits_cnn", 5, 3, (8, 8)), "body.0.weight is 16 x 1 x 3 x 3, not 16 x 3 x 3 x 3"),
        (("resnet8", 5, 1, (8, 8)), "it has no stem.0.weight, stem.1.weight, "),
        (("resnet18", 5, 1, (8, 8)), "it has no body.conv1.weight, body.bn1.weight, "),
    ],
)
def test_another_network_is_refused(tmp_path, state, network, said):
    assert said in refusal(saved(state, tmp_path), *network)


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


def prefixed(state, prefix):
    return {prefix + name: value for name, value in state.items()}


def changed(state):
    return {n: v + 1 if v.is_floating_point() else v for n, v in state.items()}


@pytest.mark.parametrize("name", ["w.pth", "w.PTH", "w.pth.tar", "w.bin", "w.ckpt", "w.th"])
def test_endings_that_state_dicts_have(tmp_path, state, name):
    found = read_pretrained(saved(state, tmp_path, name), *SMALL)
    assert torch.equal(found.tensors["classifier.bias"], state["classifier.bias"])
    save_file(state, tmp_path / "safe.bin")
    assert read_pretrained(tmp_path / "safe.bin", *SMALL).notes == ()


@pytest.mark.parametrize(
    "wrapped",
    [
        lambda s: prefixed(s, "module."),
        lambda s: prefixed(s, "_orig_mod."),
        lambda s: prefixed(s, "module._orig_mod."),
        lambda s: prefixed(s, "model._orig_mod.module."),
        lambda s: {n.replace("body.", "body.module."): v for n, v in s.items()},
        lambda s: {"epoch": 3, "model": s, "optimizer": {"state": {0: {"m": torch.ones(3)}}}},
        lambda s: {"state_dict": prefixed(s, "module."), "best_acc1": 0.5, "arch": "x"},
        lambda s: {"state_dict": prefixed(s, "net."), "hyper_parameters": {"lr": 0.1}},
        lambda s: {"state_dict": prefixed(s, "encoder.backbone.")},
        lambda s: {"checkpoint": {"models": {"student": prefixed(s, "module.")}}},
        lambda s: {"model": s, "best": s},
        lambda s: {"model": s, "copy": {n: v.clone() for n, v in s.items()}},
        lambda s: {n: v.half() if v.is_floating_point() else v for n, v in s.items()},
        lambda s: {"epoch": 3, **s, "optimizer": {"x": torch.ones(1)}},
    ],
)
def test_wrappers_of_a_state_dict_are_removed(tmp_path, state, wrapped):
    found = read_pretrained(saved(wrapped(state), tmp_path), *SMALL)
    assert list(found.tensors) == list(state)
    half = {n: v.half().float() for n, v in state.items()}
    for name, value in found.tensors.items():
        assert torch.equal(value, state[name]) or torch.equal(value, half[name])
    assert found.notes == ()
    assert load_pretrained(tmp_path / "weights.pth", *SMALL)


def test_published_names_are_found_below_prefixes_too(tmp_path):
    torch.manual_seed(0)
    theirs = torchvision.models.resnet18(num_classes=4).eval()
    wrapped = {"state_dict": prefixed(theirs.state_dict(), "model.module.")}
    found = read_pretrained(saved(wrapped, tmp_path), "resnet18_imagenet", 4, 3, (64, 64))
    assert found.normalization == "imagenet"
    assert torch.equal(found.tensors["classifier.weight"], theirs.fc.weight)


@pytest.mark.parametrize(
    ("average", "plain"),
    [("state_dict_ema", "state_dict"), ("model_ema", "model"), ("swa_model", "net")],
)
def test_a_running_average_is_used_and_reported(tmp_path, state, average, plain):
    other = changed(state)
    ema = {"n_averaged": torch.tensor(3), **prefixed(other, "module.")}
    for wrapped in ({plain: state, average: ema}, prefixed(state, "a.") | prefixed(other, "ema.")):
        found = read_pretrained(saved(wrapped, tmp_path), *SMALL)
        assert torch.equal(found.tensors["classifier.bias"], other["classifier.bias"])
        took = (average, plain) if plain in wrapped else ("ema", "a")
        assert found.notes[0].endswith(f": used {took[0]}, not {took[1]}")


def test_several_networks_are_not_chosen_from(tmp_path, state):
    both = prefixed(state, "student.") | prefixed(changed(state), "teacher.")
    said = refusal(saved({"state_dict": both}, tmp_path))
    assert said == (
        " holds several sets of weights that differ (state_dict.student, state_dict.teacher): "
        "save only the intended one"
    )


def test_extra_tensors_are_reported_and_not_used(tmp_path, state):
    beside = {"criterion.weight": torch.ones(5), "val_acc.correct": torch.tensor(3)}
    counted = {"model.total_ops": torch.ones(1), "model.body.0.total_params": torch.ones(1)}
    path = saved({"state_dict": prefixed(state, "model.") | beside | counted}, tmp_path)
    assert read_pretrained(path, *SMALL).notes == (
        f"{path}: not used: criterion.weight, val_acc.correct, model.total_ops, "
        "model.body.0.total_params",
    )
    extra = {"state_dict": prefixed(state, "model.") | {"model.aux.weight": torch.ones(1)}}
    assert refusal(saved(extra, tmp_path)).endswith("images, which has no aux.weight")


def test_a_checkpoint_without_the_network_is_refused_by_what_it_holds(tmp_path):
    said = refusal(saved({"epoch": 1, "net": {"a": torch.ones(1), "b": torch.ones(1)}}, tmp_path))
    assert said.endswith(" and 8 more; the network has no a, b")
    assert refusal(saved([1, 2], tmp_path)) == " contains a list, not a state dict"
    loop = {}
    loop["again"] = loop
    assert "it has no body.0.weight" in refusal(saved(loop, tmp_path))


ADVICE = "save only the state dict: torch.save(model.state_dict(), 'weights.pth')"


@pytest.mark.parametrize("old", [False, True])
def test_objects_pickled_beside_tensors_are_named(tmp_path, state, old):
    def said(value):
        path = tmp_path / "w.pth"
        torch.save(value, path, _use_new_zipfile_serialization=not old)
        message = refusal(path)
        assert message.endswith(ADVICE)
        return message

    arguments = argparse.Namespace(lr=0.1)
    assert "it contains argparse.Namespace besides tensors" in said(
        {"model": state, "args": arguments}
    )
    assert "it contains numpy" in said({"model": state, "best": np.float64(0.5)})
    for module in (nn.Sequential(nn.Linear(2, 2)), {"model": build(*SMALL, seed=0)}):
        assert "it is a pickled module (" in said(module)


def test_programs_are_refused_by_name(tmp_path):
    layer, images = nn.Linear(2, 2), torch.ones(1, 2)
    path = tmp_path / "script.pt"
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # TorchScript is deprecated
        torch.jit.save(torch.jit.trace(layer, images), path)
    assert refusal(path).startswith(" is a TorchScript archive, not a state dict: ")
    torch.export.save(torch.export.export(layer, (images,)), tmp_path / "program.pt2")
    assert refusal(tmp_path / "program.pt2").startswith(" is a torch.export program")
    renamed = (tmp_path / "program.pt2").rename(tmp_path / "program.pt")
    assert refusal(renamed).startswith(" is a torch.export program")
    assert refusal(tmp_path / "net.onnx").startswith(" is an ONNX model")


@pytest.mark.parametrize(
    ("content", "said"),
    [
        (b"version https://git-lfs.github.com/spec/v1\n", "is a Git LFS pointer"),
        (b"<!DOCTYPE html><html></html>", "is a web page"),
        (gzip.compress(b"x", mtime=0), "is compressed"),
        (b"PK\x05\x06" + bytes(18), "is a zip archive that torch.save did not write"),
        (bytes(257) + b"ustar" + bytes(250), "is a tar archive"),
    ],
)
def test_files_of_other_kinds_are_refused_by_name(tmp_path, content, said):
    path = tmp_path / "weights.pth.tar"
    path.write_bytes(content)
    assert refusal(path).startswith(" " + said)


def test_the_index_of_several_files_is_refused_with_their_names(tmp_path):
    path = tmp_path / "model.safetensors.index.json"
    parts = {"a": "model-00001-of-00002.safetensors", "b": "model-00002-of-00002.safetensors"}
    path.write_text(json.dumps({"weight_map": parts}))
    assert refusal(path).startswith(
        " is an index of 2 files (model-00001-of-00002.safetensors, model-00002-of-00002"
    )
    path.write_text("[]")
    assert refusal(path).startswith(" is an index of several files")


def test_invalid_paths_are_refused(tmp_path):
    assert refusal(tmp_path / "absent.pth").startswith(" does not exist")
    folder = tmp_path / "folder.pth"
    folder.mkdir()
    assert refusal(folder).startswith(" does not exist")
    assert "must end in" in refusal(tmp_path / "weights.npz")


def test_an_unknown_network_is_refused(tmp_path):
    with pytest.raises(UserError, match="unknown architecture 'resnet19'"):
        load_pretrained(tmp_path / "w.pth", "resnet19", 5, 1, (8, 8))
