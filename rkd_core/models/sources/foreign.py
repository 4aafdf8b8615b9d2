"""Networks from outside the registry with the interface of the registered ones."""

from __future__ import annotations

import contextlib
import difflib
from collections.abc import Callable, Iterable, Iterator
from typing import Any

import torch
from torch import Tensor, nn

from rkd_core.errors import UserError
from rkd_core.models.base import Activations, Float32Linear, Network, Stage, evaluating
from rkd_core.specs import Normalization

__all__ = ["ForeignNetwork", "GrayAsColor", "check_stages"]


class ForeignNetwork(Network):
    """A user's network, or one of a library, as a classifier that may draw random numbers.

    Names in its state dict are those of the network itself. The final linear layer, if the logits
    are its output, computes in float32 or higher precision.

    Args:
        body: Network from images ``(batch, channels, height, width)`` to logits.
        name: Its name in specs.
        final: Name of the linear layer whose output are the logits; None if there is none.
        normalization: Normalization that published weights were trained with; None if unknown.
        stages: Modules at the ends of the stages; empty to find them by the sizes of the maps.
    """

    draws = True

    def __init__(
        self,
        body: nn.Module,
        name: str,
        final: str | None,
        normalization: Normalization | None = None,
        stages: tuple[str, ...] = (),
    ) -> None:
        super().__init__()
        self.body = body
        self._stages: dict[tuple[int, ...], tuple[str, ...]] = {}
        self._mean_pooled = True  # until it is found to be otherwise
        self._name, self._final, self._given_stages = name, final, stages
        self.published_normalization = normalization
        if final is not None:  # the same parameters, in another precision under autocast
            body.get_submodule(final).__class__ = Float32Linear
        self.register_state_dict_post_hook(_without_body)
        self.register_load_state_dict_pre_hook(_with_body)

    @property
    def classifier(self) -> nn.Linear:  # type: ignore[override]
        """The final linear layer.

        Raises:
            UserError: The logits are not the output of a linear layer.
        """
        if self._final is None:
            raise UserError(
                f"the logits of {self._name} are not the output of a linear layer, which this "
                "method, or this kind of teacher, needs"
            )
        layer = self.body.get_submodule(self._final)
        assert isinstance(layer, nn.Linear)
        return layer

    @property
    def classifier_name(self) -> str | None:
        """See :class:`Network`."""
        return self._final

    def forward(self, x: Tensor) -> Tensor:
        """Return logits ``(batch, classes)`` of images ``(batch, channels, height, width)``."""
        return self.widen(self.body(x))

    def activations(self, x: Tensor) -> Activations:
        """Return the activations from one forward pass; the stages are those of ``stages``.

        The maps before the last activation functions of stages are not known; they equal the
        outputs of the stages.

        Raises:
            UserError: There are no maps at several resolutions, or no linear classifier.
        """
        final = self.classifier
        names = self.stages(x)
        with _outputs(self.body, names, final) as found:
            logits = self.widen(self.body(x))
        maps = [found[name] for name in names]
        return Activations(
            tuple(Stage(each, each) for each in maps), maps[-1], self.widen(found[_POOLED]), logits
        )

    def stages(self, x: Tensor) -> tuple[str, ...]:
        """Return the modules at the ends of the stages: those given, or of the smallest maps.

        Without given ones, a stage ends with the last module whose output is a map
        ``(batch, channels, h, w)`` of one resolution. There are at most four, the deepest ones, so
        that the stem is none of them.

        Raises:
            UserError: There are fewer than two resolutions.
        """
        size = tuple(x.shape[2:])
        if size not in self._stages:
            self._stages[size], pooled = _stages(
                self.body, x[:1], self.classifier, self._given_stages
            )
            self._mean_pooled &= pooled
        names = self._stages[size]
        if len(names) < 2 and not self._given_stages:
            raise UserError(
                f"{self._name} has no maps at several resolutions for images of "
                f"{size[0]} x {size[1]}, which the method compares with the teacher's"
            )
        return names

    def class_activation_maps(self, last: Tensor) -> Tensor:
        """Apply the classifier at every position, see :class:`Network`.

        Raises:
            UserError: The features are not the mean of the last map.
        """
        if not self._mean_pooled:
            raise UserError(
                f"{self._name} has other layers between its last map and its classifier, so it has "
                "no class activation maps"
            )
        return super().class_activation_maps(last)


class GrayAsColor(nn.Module):
    """A network for color images that takes gray ones, of which it makes three equal channels."""

    def __init__(self, network: nn.Module) -> None:
        super().__init__()
        self.network = network

    def forward(self, x: Tensor) -> Tensor:
        """Return logits ``(batch, classes)`` of gray images ``(batch, 1, height, width)``."""
        logits: Tensor = self.network(torch.cat([x, x, x], dim=1))
        return logits


_BODY = "body."
_MOST_STAGES = 4
_POOLED = ""  # key of the input of the classifier, which is no module's name


def _stages(
    body: nn.Module, x: Tensor, final: nn.Module, given: tuple[str, ...]
) -> tuple[tuple[str, ...], bool]:
    """Return the names of the stages, and whether the features are the mean of the last map.

    Args:
        body: The network.
        x: An image; made-up pixels of its size are used, since those of a blank one are all equal.
        final: The linear layer whose inputs are the features.
        given: Names of the stages; empty to find them.
    """
    left_out = nn.Dropout | nn.Softmax  # of attention, whose outputs are no maps
    names = [n for n, module in body.named_modules() if n and not isinstance(module, left_out)]
    names = list(given) or names
    ends: dict[tuple[int, int], str] = {}
    height, width = x.shape[2:]
    pixels = torch.rand(x.shape, generator=torch.Generator().manual_seed(0)).to(x)
    with evaluating(body), _outputs(body, names, final) as found:
        body(pixels)
    features = found.pop(_POOLED)
    for name, output in found.items():
        if output.ndim == 4 and _is_map(output.shape[2], output.shape[3], height, width):
            ends[output.shape[2], output.shape[3]] = name
    if not ends and not given:
        return (), True
    deepest = given or tuple(ends[size] for size in sorted(ends, reverse=True)[-_MOST_STAGES:])
    last = found[deepest[-1]]
    tolerance = torch.finfo(last.dtype).eps ** 0.5
    scale = tolerance * float(last.abs().max())
    means = last.mean((-2, -1))
    alike = means.shape == features.shape
    return deepest, alike and torch.allclose(means.to(features), features, tolerance, scale)


def _is_map(h: int, w: int, height: int, width: int) -> bool:
    """Return whether a size is a reduced image size, and not that of heads and tokens."""
    return 1 < h <= height and 1 < w <= width and abs(h - w * height / width) <= 1


def check_stages(name: str, body: nn.Module, stages: tuple[str, ...], images: Tensor) -> None:
    """Raise unless the given stages are modules of a network that return maps in this order.

    Args:
        name: Name of the network, for messages.
        body: The network, in evaluation mode.
        stages: Names of its modules.
        images: ``(batch, channels, height, width)``.

    Raises:
        UserError: A stage is no module, is not called, returns no map ``(batch, channels, h, w)``,
            or is called before the one that stands before it.
    """
    known = [known for known, _ in body.named_modules() if known]
    for stage in stages:
        if stage not in known:
            close = difflib.get_close_matches(stage, known, n=3)
            hint = f": did you mean {' or '.join(close)}?" if close else ""
            raise UserError(f"{name} has no module {stage}{hint}")
    with torch.no_grad(), _outputs(body, stages) as found:
        body(images)
    for stage in stages:
        shape = tuple(found[stage].shape) if stage in found else None
        if shape is None or len(shape) != 4:
            returned = "no tensor" if shape is None else f"a tensor {shape}"
            raise UserError(
                f"{name}: the module {stage} returns {returned}; a stage returns a map "
                "(batch, channels, height, width)"
            )
    called = [stage for stage in found if stage in stages]
    if called != list(stages):
        raise UserError(
            f"{name}: name the stages in the order of the forward pass, {','.join(called)}"
        )


@contextlib.contextmanager
def _outputs(
    body: nn.Module, names: Iterable[str], final: nn.Module | None = None
) -> Iterator[dict[str, Tensor]]:
    """Collect the outputs of modules in the order of their calls, and the input of the last one."""
    found: dict[str, Tensor] = {}

    def keep(name: str) -> Callable[[nn.Module, Any, object], None]:
        def hook(module: nn.Module, given: object, output: object) -> None:
            if isinstance(output, Tensor):
                found.pop(name, None)
                found[name] = output

        return hook

    def keep_input(module: nn.Module, given: tuple[Tensor, ...]) -> None:
        found[_POOLED] = given[0]

    handles = [body.get_submodule(n).register_forward_hook(keep(n)) for n in names]
    if final is not None:
        handles.append(final.register_forward_pre_hook(keep_input))
    try:
        yield found
    finally:
        for handle in handles:
            handle.remove()


def _without_body(
    module: nn.Module, state: dict[str, Tensor], prefix: str, metadata: object
) -> None:
    """Remove ``body.`` from the names in a state dict."""
    for name in [name for name in state if name.startswith(prefix + _BODY)]:
        state[prefix + name.removeprefix(prefix + _BODY)] = state.pop(name)


def _with_body(module: nn.Module, state: dict[str, Tensor], prefix: str, *rest: object) -> None:
    """Insert ``body.`` into the names of a state dict."""
    for name in [name for name in state if name.startswith(prefix)]:
        state[prefix + _BODY + name.removeprefix(prefix)] = state.pop(name)
