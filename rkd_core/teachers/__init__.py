"""Stored teachers and their logits on the images that students see."""
