"""Benchmarks of single trainings: batches, steps, precision and the teacher's logits."""
