"""Stored teachers and their logits for the images that students see."""
