"""Networks from outside the registry: of timm, of torchvision, and of the user's code.

Importing this package does not import torch, timm or torchvision.
"""

from __future__ import annotations

from rkd_core.models.sources.identity import Identity, identify
from rkd_core.models.sources.reference import HOW_TO_NAME, Reference, is_foreign, parse, resolve

__all__ = ["HOW_TO_NAME", "Identity", "Reference", "identify", "is_foreign", "parse", "resolve"]
