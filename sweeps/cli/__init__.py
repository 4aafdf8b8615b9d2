"""Command-line options and their checks."""
