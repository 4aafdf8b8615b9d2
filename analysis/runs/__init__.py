"""Trained runs as tables: loading, combinations of teacher and student, groups of classes."""
