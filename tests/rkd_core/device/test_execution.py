"""Device and precision: how a training runs, never what it is."""

import pytest
import torch

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
def test_what_is_asked_for_is_taken(monkeypatch, precision):
    monkeypatch.setattr(torch.cpu, "get_capabilities", dict, raising=False)
    execution = Execution("cpu", precision)
    assert execution.prepared(DIGITS) == execution


def test_the_precision_of_the_passes():
    layer, x = torch.nn.Linear(3, 3), torch.ones(2, 3)
    for precision, dtype in (("float32", torch.float32), ("bfloat16", torch.bfloat16)):
        execution = Execution("cpu", precision)
        with execution.autocast():
            assert layer(x).dtype == dtype == execution.dtype


def test_evaluation_batches_shrink_as_images_grow():
    cpu, gpu = Execution("cpu"), Execution("cuda")
    assert [cpu.evaluation_batch((s, s)) for s in (8, 32, 64, 224)] == [256, 256, 64, 32]
    assert [gpu.evaluation_batch((s, s)) for s in (8, 32, 64, 224)] == [4096, 4096, 1024, 83]


def test_the_device_that_is_there():
    assert Execution.best().precision == "auto"
    assert Execution.best().on_gpu == torch.cuda.is_available()
