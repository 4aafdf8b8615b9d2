"""Networks by name, and published weights for them.

Listing the names does not import torch; building a network does. Networks of timm, of torchvision
and of users' code are named by references, see :func:`identify`. To add an architecture to the
registry, write a :class:`~rkd_core.models.base.Network` in a submodule and add an entry to
``registry.py``.

Interface of all networks, for methods:

- ``network(images)``: logits.
- ``network.activations(images)``: all activations from one forward pass. For each of its
  ``stages``, the ``output`` that is passed to the next stage and the map ``before`` its last
  activation function (ReviewKD compares outputs of the student's stages with the teacher's maps
  before the activation function); the ``last`` map; the ``pooled`` features; the ``logits``. The
  stem is not a stage. Networks that downsample by 32 have four stages, the others have the three
  or four stages of their papers.
- ``network.classifier``: the linear layer from ``pooled`` to ``logits``.
- ``network.class_activation_maps(last)``: the classifier, without its bias, at every position of
  the last map (CAT-KD). The spatial mean of these maps equals the logits minus the bias, so a
  student that is trained on the maps alone needs a bias of zero.

To find the shapes of a network, compute the activations of a blank image in evaluation mode.
``outline`` returns a network with names and shapes of the weights but no values.
"""

from __future__ import annotations

from rkd_core.models.build import build, outline
from rkd_core.models.pretrained import (
    Pretrained,
    load_pretrained,
    own_weights,
    read_pretrained,
)
from rkd_core.models.registry import HEADS, REGISTRY, canonical, check_shape, find
from rkd_core.models.sources import HOW_TO_NAME, Identity, identify, is_foreign
from rkd_core.models.sources import parse as parse_reference
from rkd_core.models.sources import resolve as resolve_reference
from rkd_core.models.sources.identity import identified_parameters

__all__ = [
    "HOW_TO_NAME",
    "Identity",
    "Pretrained",
    "architectures",
    "build",
    "canonical",
    "check_shape",
    "identify",
    "is_foreign",
    "load_pretrained",
    "outline",
    "own_weights",
    "parameters",
    "parse_reference",
    "read_pretrained",
    "resolve_reference",
]


def architectures() -> dict[str, str]:
    """Return the name and the one-line description of every architecture."""
    images = {name: architecture.description for name, architecture in REGISTRY.items()}
    return images | HEADS


def parameters(architecture: str) -> int:
    """Return the parameter count of an architecture for ten classes of 32 x 32 color images.

    That of a network for arrays is for ten classes and 768 features.

    A registered network is not built. For other data the count differs slightly in the first and
    last layers; that of a network from outside the registry is for the data it was identified for.

    Raises:
        UserError: There is no such architecture.
    """
    if is_foreign(architecture):
        return identified_parameters(architecture)
    return find(architecture).parameters
