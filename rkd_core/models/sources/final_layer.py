"""Search for the linear layer of a network whose output are the logits."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor, nn
from torch.nn.utils import parametrize

from rkd_core.models.base import evaluating

__all__ = ["final_layer"]


def final_layer(body: nn.Module, channels: int, image_size: tuple[int, ...]) -> str | None:
    """Return the name of the linear layer whose output are the logits; None if there is none."""
    outputs: dict[str, tuple[Tensor, Tensor]] = {}

    def note(key: str) -> Callable[[nn.Module, tuple[Tensor, ...], Tensor], None]:
        def hook(module: nn.Module, given: tuple[Tensor, ...], output: Tensor) -> None:
            outputs[key] = given[0], output

        return hook

    layers = {name: m for name, m in body.named_modules() if isinstance(m, nn.Linear)}
    handles = [layer.register_forward_hook(note(name)) for name, layer in layers.items()]
    images = torch.rand(1, channels, *image_size, generator=torch.Generator())
    try:
        with evaluating(body):
            logits = body(images)
    finally:
        for handle in handles:
            handle.remove()
    for name, (given, output) in outputs.items():
        if output is logits and _is_plain(layers[name], given):
            return name
    return None


def _is_plain(layer: nn.Linear, given: Tensor) -> bool:
    """Return whether a layer, perhaps of a subclass, computes what ``nn.Linear`` does.

    Its class is replaced, so that other branches, such as of training, or of an adapter whose
    output is still 0, would be lost.
    """
    if parametrize.is_parametrized(layer):
        return False
    if type(layer).forward is nn.Linear.forward:
        return True
    if not {*layer.state_dict()} <= {"weight", "bias"}:
        return False
    plain = nn.functional.linear(given, layer.weight, layer.bias)
    equal = []
    with torch.random.fork_rng(devices=[]), torch.no_grad():
        mode = layer.training
        for training in (True, False):
            equal.append(torch.equal(layer.train(training)(given), plain))
        layer.train(mode)
    return all(equal)
