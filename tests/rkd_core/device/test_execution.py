"""Device and precision of a training."""

import os
from types import SimpleNamespace

import pytest
import torch

from rkd_core.device import execution
from rkd_core.device.execution import Execution

CIFAR, DIGITS = (32, 32), (8, 8)


@pytest.mark.parametrize(
    ("hardware", "image_size", "precision"),
    [
        ({"amx_bf16": True}, CIFAR, "bfloat16"),
        ({"avx512_bf16": True, "amx_bf16": False}, CIFAR, "bfloat16"),
        ({"avx512_bf16": True}, DIGITS, "float32"),  # too little to compute
        ({"avx512_bf16": False, "avx2": True}, CIFAR, "float32"),
        ({}, CIFAR, "float32"),
    ],
)
def test_auto_takes_bfloat16_where_the_hardware_has_it(
    monkeypatch, hardware, image_size, precision
):
    monkeypatch.setattr(torch.cpu, "get_capabilities", lambda: hardware, raising=False)
    assert Execution("cpu", "auto").prepared(image_size).precision == precision


@pytest.mark.parametrize("precision", ["float32", "bfloat16"])
def test_requested_options_are_used(monkeypatch, precision):
    monkeypatch.setattr(torch.cpu, "get_capabilities", dict, raising=False)
    given = Execution("cpu", precision)
    assert given.prepared(DIGITS) == given


def test_the_precision_of_the_passes():
    layer, x = torch.nn.Linear(3, 3), torch.ones(2, 3)
    for precision, dtype in (("float32", torch.float32), ("bfloat16", torch.bfloat16)):
        given = Execution("cpu", precision)
        with given.autocast():
            assert layer(x).dtype == dtype == given.dtype


def test_evaluation_batches_shrink_as_images_grow():
    cpu, gpu = Execution("cpu"), Execution("cuda")
    assert [cpu.evaluation_batch((s, s)) for s in (8, 32, 64, 224)] == [256, 256, 64, 32]
    assert [gpu.evaluation_batch((s, s)) for s in (8, 32, 64, 224)] == [4096, 4096, 1024, 83]


def test_the_device_that_is_there():
    assert Execution.best().precision == "auto"
    assert Execution.best().on_gpu == torch.cuda.is_available()


@pytest.mark.parametrize(
    ("asked", "supported", "precision", "tf32"),
    [
        ("float32", True, "float32", False),
        ("bfloat16", True, "bfloat16", True),
        ("auto", True, "bfloat16", True),
        ("auto", False, "float32", False),
    ],
)
def test_float32_on_a_gpu_is_not_tf32(monkeypatch, asked, supported, precision, tf32):
    """A reused process has the settings of its current training."""
    cudnn, matmul = SimpleNamespace(), SimpleNamespace()
    monkeypatch.setattr(torch.backends, "cudnn", cudnn)
    monkeypatch.setattr(torch.backends.cuda, "matmul", matmul)
    monkeypatch.setattr(torch.cuda, "empty_cache", lambda: None)
    monkeypatch.setattr(torch.cuda, "is_bf16_supported", lambda **_: supported)
    monkeypatch.delenv("CUDA_DEVICE_MAX_CONNECTIONS", raising=False)
    for _ in range(2):
        assert Execution("cuda", asked).prepared(CIFAR).precision == precision
        assert (cudnn.allow_tf32, matmul.allow_tf32, cudnn.benchmark) == (tf32, tf32, True)
        Execution("cuda", "bfloat16" if tf32 is False else "float32").prepared(CIFAR)
    assert os.environ["CUDA_DEVICE_MAX_CONNECTIONS"] == "32"


def test_decoders_are_threads_unless_given():
    assert Execution(threads=3).workers == 3
    assert Execution(threads=1, decoders=7).workers == 7
    assert Execution().workers is None


@pytest.mark.parametrize(
    ("named", "files", "seen", "unseen"),
    [(0, True, 2, 2), (1, True, 2, 0), (0, False, 2, 0), (0, True, 0, 0)],
)
def test_gpus_that_the_driver_does_not_name_are_noticed(
    monkeypatch, tmp_path, named, files, seen, unseen
):
    monkeypatch.setattr(execution, "gpu_count", lambda: named)
    monkeypatch.setattr(execution, "_DEVICE_FILES", (str(tmp_path / ("" if files else "no")),))
    monkeypatch.setattr(torch.cuda, "device_count", lambda: seen)
    assert Execution.unseen_gpus() == unseen
