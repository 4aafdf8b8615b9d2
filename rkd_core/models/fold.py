"""Copies of networks for evaluation, with batch norms folded into the convolutions before them."""

from __future__ import annotations

import copy
from collections import Counter

import torch
from torch import Tensor, fx, nn

from rkd_core.models.base import evaluating

__all__ = ["FoldedNetwork"]

_FOLDED = {nn.Conv1d: nn.BatchNorm1d, nn.Conv2d: nn.BatchNorm2d, nn.Conv3d: nn.BatchNorm3d}
_TOLERANCE = 1e-3  # relative difference of the logits


class FoldedNetwork:
    """Copy of a network in evaluation mode, with batch norms folded into convolutions.

    Args:
        network: Network to copy. It must be possible to trace it.
        shape: Shape of an image or array, channels first, for a comparison of both networks:
            tracing fixes the branches that a network takes.

    Attributes:
        module: The copy, with the weights of the last ``refresh``.

    Raises:
        RuntimeError: Both networks return different logits.
        Exception: The network cannot be traced.
    """

    def __init__(self, network: nn.Module, shape: tuple[int, ...]) -> None:
        traced = fx.symbolic_trace(copy.deepcopy(network).eval().requires_grad_(False))
        modules, originals = dict(traced.named_modules()), dict(network.named_modules())
        calls = Counter(node.target for node in traced.graph.nodes if node.op == "call_module")
        self._pairs: list[tuple[nn.Module, nn.Module, nn.Module]] = []  # layer, norm, folded layer
        for node in list(traced.graph.nodes):
            before = node.args[0] if node.args else None
            if not (isinstance(before, fx.Node) and node.op == before.op == "call_module"):
                continue
            layer, norm = modules[str(before.target)], modules[str(node.target)]
            if type(norm) is not _FOLDED.get(type(layer)) or not norm.track_running_stats:
                continue
            if len(before.users) > 1 or calls[before.target] > 1:
                continue
            zeros = layer.weight.new_zeros(len(layer.weight))
            layer.bias = nn.Parameter(zeros, requires_grad=False)
            pair = originals[str(before.target)], originals[str(node.target)]
            self._pairs.append((*pair, layer))
            node.replace_all_uses_with(before)
            traced.graph.erase_node(node)
        self.module = fx.GraphModule(traced, traced.graph).eval()
        folded = {id(t) for *_, layer in self._pairs for t in (layer.weight, layer.bias)}
        own, others = self.module.state_dict(keep_vars=True), network.state_dict(keep_vars=True)
        names = [name for name in own if id(own[name]) not in folded]
        self._copied = [own[name] for name in names], [others[name] for name in names]
        self.refresh()
        self._compare(network, shape)

    @torch.no_grad()
    def refresh(self) -> None:
        """Copy the current weights of the network."""
        layers, norms, folded = zip(*self._pairs, strict=True) if self._pairs else ((), (), ())
        means = [norm.running_mean for norm in norms]
        weights = [_given(norm.weight, 1.0, mean) for norm, mean in zip(norms, means, strict=True)]
        biases = [_given(norm.bias, 0.0, mean) for norm, mean in zip(norms, means, strict=True)]
        before = [_given(layer.bias, 0.0, mean) for layer, mean in zip(layers, means, strict=True)]
        # Lists of tensors take one kernel on a GPU instead of one per layer.
        if layers:
            inverse = torch._foreach_add([n.running_var for n in norms], [n.eps for n in norms])
            torch._foreach_rsqrt_(inverse)
            shifted = torch._foreach_mul(torch._foreach_sub(before, means), inverse)
            shifted = torch._foreach_add(torch._foreach_mul(shifted, weights), biases)
            scales = [
                scale.view(-1, *[1] * (layer.weight.ndim - 1))
                for scale, layer in zip(torch._foreach_mul(weights, inverse), layers, strict=True)
            ]
            scaled = torch._foreach_mul([layer.weight for layer in layers], scales)
            torch._foreach_copy_([layer.weight for layer in folded], scaled)
            torch._foreach_copy_([layer.bias for layer in folded], shifted)
        if self._copied[0]:
            torch._foreach_copy_(*self._copied)

    def _compare(self, network: nn.Module, shape: tuple[int, ...]) -> None:
        device = next(network.parameters()).device
        images = torch.rand(2, *shape, generator=torch.Generator().manual_seed(0)).to(device)
        with evaluating(network):
            expected, found = network(images), self.module(images)
        scale = float(expected.abs().max())
        if not torch.allclose(found, expected, _TOLERANCE, _TOLERANCE * scale):
            raise RuntimeError("the folded network returns other logits")


def _given(tensor: Tensor | None, default: float, like: Tensor) -> Tensor:
    return torch.full_like(like, default) if tensor is None else tensor
