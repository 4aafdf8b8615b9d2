"""The networks that can be trained, by name.

What belongs here: one entry per architecture in ``registry.py``, in the submodules the networks
it points to, and published weights for them. What does not: training, data.

Listing the names imports no torch; building a network does. A new architecture is a
:class:`~rkd_core.models.base.Network` in a submodule and a line in the registry.

What a method may know of any network (``network.py``):

- ``network(images)``: logits.
- ``network.activations(images)``: all of it in one pass. Of each of its ``stages`` the ``output``
  that the next one gets, and what lies ``before`` the activation (ReviewKD compares the output of
  the student's stages with what lies before the activation of its teacher's); the ``last`` map;
  what is ``pooled`` of it; the ``logits``. The stem is no stage; networks that divide the map
  by 32 have four stages, the others the three or four of their papers.
- ``network.classifier``: the linear layer between ``pooled`` and ``logits``.
- ``network.class_activation_maps(last)``: the classifier, without its bias, at every place of the
  last map (CAT-KD). Their mean over the map is the logits less the bias, so a student that is
  trained on them alone needs a bias of zero.

Shapes need no table: ask a network in evaluation mode for its activations on one blank image.
``outline`` has names and shapes of the weights, without the weights.
"""

from __future__ import annotations

from rkd_core.models.build import build, outline
from rkd_core.models.pretrained import Pretrained, load_pretrained, read_pretrained
from rkd_core.models.registry import REGISTRY, find

__all__ = [
    "Pretrained",
    "architectures",
    "build",
    "load_pretrained",
    "outline",
    "parameters",
    "read_pretrained",
]


def architectures() -> dict[str, str]:
    """Name and one-line description of every architecture."""
    return {name: architecture.description for name, architecture in REGISTRY.items()}


def parameters(architecture: str) -> int:
    """Parameters of an architecture for ten classes of 32 x 32 colour images, without building it.

    Other data change its first and last layer, and so the count a little.

    Raises:
        UserError: There is no such architecture.
    """
    return find(architecture).parameters
