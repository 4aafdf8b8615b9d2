"""Base classes of methods, and mathematics that several methods share.

``protocol`` and ``adaptive`` do not import torch; ``losses``, ``correlation`` and ``fusion`` do.
"""
