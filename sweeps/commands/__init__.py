"""Implementations of the typed commands."""
