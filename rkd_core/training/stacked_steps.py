"""Steps of many small networks of one kind at once, by batched matrix products."""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterable, Mapping, Sequence

import torch
from torch import Tensor, nn
from torch.func import functional_call, vmap

from rkd_core.datasets.batches.batches import Batch
from rkd_core.models.stacking import has_small_layers_only
from rkd_core.objectives import margin_loss
from rkd_core.training.optimizer import Group, optimizer_of_groups
from rkd_core.training.run import Run
from rkd_core.training.steps import EagerSteps, Steps

__all__ = ["GroupedSteps", "StackedSteps"]

log = logging.getLogger(__name__)

_CLOSE = 1e-4  # relative difference between stacked logits and those of each network alone


class StackedSteps:
    """Steps of all trainings of one network at once.

    The weights of the networks, and the states of their optimizers, are views of one tensor for
    each parameter. A step is one forward pass with batched matrix products, one backward pass and
    one update. Sums are taken in another order than for a network alone, so that weights differ by
    rounding errors.

    Args:
        runs: Trainings of one network with the margin loss.
    """

    def __init__(self, runs: Sequence[Run]) -> None:
        self._runs, first = runs, runs[0]
        shared = _share([dict(run.model.named_parameters()) for run in runs])
        self._parameters = {name: nn.Parameter(whole) for name, whole in shared.items()}
        self._buffers = _share([dict(run.model.named_buffers()) for run in runs])
        self._names = [_names(run) for run in runs]
        self._optimizer = optimizer_of_groups(
            [
                Group(tuple(self._own(p) for p in group.parameters), group.weight_decay)
                for group in first.optimizer.groups
            ],
            first.spec.recipe,
        )
        self._gather_states()
        temperatures = [run.spec.temperature for run in runs]
        self._targets = [temperatures.index(t) for t in dict.fromkeys(temperatures)]
        places = {temperatures[k]: place for place, k in enumerate(self._targets)}
        self._target_of = torch.tensor([places[t] for t in temperatures])
        self._forward = vmap(_logits_of(first.model), in_dims=(0, 0, None), randomness="error")

    def __call__(self, batch: Batch, logits: Tensor | None, rate: float) -> Tensor:
        """See ``Steps``."""
        first = self._runs[0]
        wanted = torch.stack([self._runs[k].targets(batch.labels, logits) for k in self._targets])
        costs = torch.stack([run.costs for run in self._runs])
        outputs = self._forward(self._parameters, self._buffers, batch.images)
        targets = wanted.index_select(0, self._target_of)
        losses = margin_loss(outputs, targets, costs, first.spec.scale_by_classes)
        self._optimizer.zero_grad()
        losses.sum().backward()
        if first.spec.recipe.gradient_clip is not None:
            self._clip(first.spec.recipe.gradient_clip)
        self._optimizer.rate = rate
        new = not any(self._optimizer.state.values())
        self._optimizer.step()
        if new:
            self._show_states()
        return losses.detach()

    def _own(self, parameter: nn.Parameter) -> nn.Parameter:
        """Return the stacked tensor of a parameter of the first network."""
        return self._parameters[self._names[0][parameter]]

    def _clip(self, largest: float) -> None:
        """Limit the norm of the gradient of each network, as ``nn.utils.clip_grad_norm_`` does."""
        gradients = [p.grad for p in self._parameters.values() if p.grad is not None]
        squares = [gradient.flatten(1).square().sum(1) for gradient in gradients]
        norms = torch.stack(squares).sum(0).sqrt()
        scale = (largest / (norms + 1e-6)).clamp(max=1.0)
        for gradient in gradients:
            gradient.mul_(scale.view(-1, *[1] * (gradient.ndim - 1)))

    def _gather_states(self) -> None:
        """Stack the states of the optimizers, which a checkpoint may have brought."""
        for kind, values in self._runs[0].optimizer.state.items():
            for parameter in list(values):
                name = self._names[0][parameter]
                each = [
                    run.optimizer.state[kind][p]
                    for run, names in zip(self._runs, self._names, strict=True)
                    for p, own in names.items()
                    if own == name
                ]
                # Numbers of steps are equal.
                whole = torch.stack(each) if each[0].ndim else each[0].clone()
                self._optimizer.state[kind][self._parameters[name]] = whole
        self._show_states()

    def _show_states(self) -> None:
        """Make the states of the optimizers views of the stacked ones."""
        for kind, values in self._optimizer.state.items():
            for number, (run, names) in enumerate(zip(self._runs, self._names, strict=True)):
                for parameter, name in names.items():
                    whole = values.get(self._parameters[name])
                    if whole is not None:
                        part = whole[number] if whole.ndim else whole
                        run.optimizer.state[kind][parameter] = part


class GroupedSteps:
    """Steps of an array of trainings, stacked where possible and one by one otherwise.

    Trainings of one network are stacked if it has only linear layers, normalizations and functions
    without parameters, and they minimize the margin loss. Networks that draw random numbers, as for
    dropout, and those with an operation that has no batched form, train one by one.
    """

    def __init__(self, runs: Sequence[Run]) -> None:
        by_network: dict[tuple[str, str | None], list[int]] = {}
        for place, run in enumerate(runs):
            if _is_plain(run) and has_small_layers_only(run.model):
                key = run.spec.architecture, run.spec.network_digest
                by_network.setdefault(key, []).append(place)
        groups = [
            places
            for places in by_network.values()
            if len(places) > 1 and _agree([runs[place] for place in places[:2]])
        ]
        taken = {place for places in groups for place in places}
        alone = [place for place in range(len(runs)) if place not in taken]
        self._count = len(runs)
        self._parts: list[tuple[list[int], Steps]] = [
            (places, StackedSteps([runs[place] for place in places])) for places in groups
        ]
        if alone:
            self._parts.append((alone, EagerSteps([runs[place] for place in alone])))

    def __call__(self, batch: Batch, logits: Tensor | None, rate: float) -> Tensor:
        """See ``Steps``."""
        losses = torch.empty(self._count)
        for places, steps in self._parts:
            losses[places] = steps(batch, logits, rate)
        return losses


def _is_plain(run: Run) -> bool:
    """Return whether a step is a margin loss and an update of all weights, in float32 on a CPU."""
    execution, recipe = run.data.execution, run.spec.recipe
    plain = run.loss is None and recipe.ema_decay is None and not recipe.augmentation.mixes
    on_cpu = not execution.on_gpu and execution.precision == "float32"
    return plain and on_cpu and all(p.requires_grad for p in run.model.parameters())


def _agree(runs: Sequence[Run]) -> bool:
    """Return whether stacked networks have the same logits as each of them alone."""
    images = torch.randn(
        4, *runs[0].data.dataset.train.input_shape, generator=torch.Generator().manual_seed(0)
    )
    states = [{name: value.detach().clone() for name, value in _tensors(run.model)} for run in runs]
    alone = []
    try:
        with torch.no_grad(), torch.random.fork_rng(devices=[]):
            for run, state in zip(runs, states, strict=True):
                copy = {name: value.clone() for name, value in state.items()}
                alone.append(functional_call(run.model, copy, (images,)))
            stacked = {name: torch.stack([s[name] for s in states]) for name in states[0]}
            forward = vmap(_logits_of(runs[0].model), in_dims=(0, None, None), randomness="error")
            together = forward(stacked, {}, images)
    except Exception as error:  # an operation of a user's network that has no batched form
        log.info("%s trains alone: %s", runs[0].spec.architecture, error)
        return False
    expected = torch.stack(alone)
    return torch.allclose(together, expected, _CLOSE, _CLOSE * float(expected.abs().max()))


def _logits_of(network: nn.Module) -> Callable[..., Tensor]:
    """Return a function of parameters, buffers and images to logits."""

    def forward(
        parameters: Mapping[str, Tensor], buffers: Mapping[str, Tensor], images: Tensor
    ) -> Tensor:
        logits: Tensor = functional_call(network, {**parameters, **buffers}, (images,))
        return logits

    return forward


def _tensors(network: nn.Module) -> Iterable[tuple[str, Tensor]]:
    yield from network.named_parameters()
    yield from network.named_buffers()


def _names(run: Run) -> dict[nn.Parameter, str]:
    return {parameter: name for name, parameter in run.model.named_parameters()}


def _share(each: Sequence[Mapping[str, Tensor]]) -> dict[str, Tensor]:
    """Stack tensors of the same name, and make the given ones views of the stacked ones."""
    found: dict[str, Tensor] = {}
    for name in each[0]:
        whole = torch.stack([tensors[name].detach() for tensors in each])
        for number, tensors in enumerate(each):
            tensors[name].data = whole[number]
        found[name] = whole
    return found
