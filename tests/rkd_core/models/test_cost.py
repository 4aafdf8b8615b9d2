"""Multiply-adds and speed of networks."""

import pytest
import torch

from rkd_core.models import architectures, build, cost
from rkd_core.models.registry import HEADS


def test_convolutions_and_the_classifier_are_counted():
    found = cost.multiply_adds("digits_cnn", 10, 1, (8, 8))
    expected = 0

    def count(module, inputs, output):
        nonlocal expected
        weight = module.weight
        expected += weight.numel() * (output[0].numel() // weight.shape[0])

    network = build("digits_cnn", 10, 1, (8, 8), seed=0).eval()
    for module in network.modules():
        if isinstance(module, torch.nn.Conv2d):
            module.register_forward_hook(count)
    network(torch.zeros(1, 1, 8, 8))
    assert found == expected + network.classifier.weight.numel()


def test_resnet56_is_as_large_as_its_paper_says():
    # He et al. (CVPR 2016): 0.85 million parameters; 125.5 million multiply-adds by their count.
    assert cost.multiply_adds("resnet56", 10, 3, (32, 32)) == pytest.approx(125.5e6, rel=0.02)


@pytest.mark.parametrize("name", [n for n in architectures() if n not in HEADS])
def test_all_networks_are_counted_for_their_images(name):
    assert cost.multiply_adds(name, 10, 3, (32, 32)) > 10_000


def test_the_speed_is_that_of_one_thread_and_leaves_the_threads_alone():
    threads = torch.get_num_threads()
    found = cost.speed("digits_cnn", 10, 1, (8, 8))
    assert 0 < found.latency < 1
    assert found.throughput > 1 / found.latency / 10
    assert torch.get_num_threads() == threads
