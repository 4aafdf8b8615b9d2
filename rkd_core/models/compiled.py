"""Forward passes that are compiled, for recorded steps."""

from __future__ import annotations

import logging

import torch
from torch import Tensor, nn

from rkd_core.datasets.batches import heartbeat
from rkd_core.errors import first_line
from rkd_core.methods.common.protocol import Needs
from rkd_core.models.base import Network
from rkd_core.models.features import Outputs, forward

__all__ = ["CompiledForward", "pays"]

log = logging.getLogger(__name__)

_STEPS = 10_000
_COMPILATIONS = 256  # torch gives up after 8 by default; an array may have more networks


def pays(steps: int) -> bool:
    """Return whether a training of this many steps is long enough to compile its network.

    The rule was not measured on a GPU. It does not depend on time, so that a training that is
    continued takes the same steps.
    """
    return steps >= _STEPS


class CompiledForward:
    """Forward pass of networks through ``torch.compile``, once for all networks of one form.

    Networks that draw random numbers, and those that cannot be compiled, run as they are.

    Args:
        backend: Backend of ``torch.compile``.
    """

    def __init__(self, backend: str = "inductor") -> None:
        import torch._dynamo  # takes seconds, and most trainings do not compile

        limit = torch._dynamo.config.recompile_limit
        torch._dynamo.config.recompile_limit = max(limit, _COMPILATIONS)
        self._compiled = torch.compile(forward, backend=backend, fullgraph=True, dynamic=False)
        self._refused: set[type[nn.Module]] = set()

    def __call__(self, network: nn.Module, images: Tensor, needs: Needs) -> Outputs:
        """Return the outputs of a network for a batch; see ``rkd_core.models.features.forward``."""
        draws = not isinstance(network, Network) or network.draws
        if not draws and type(network) not in self._refused:
            try:
                wanted = Needs(features=needs.features, maps=needs.maps)
                return self._compiled(network, images, wanted)
            except (torch.OutOfMemoryError, torch.AcceleratorError):
                raise
            except Exception as error:  # of a compiler, or of the network, which then shows again
                log.info("%s is not compiled: %s", type(network).__name__, first_line(error))
                self._refused.add(type(network))
            finally:
                heartbeat.beat()  # a compilation takes as long as many steps
        return forward(network, images, needs)
