"""Command-line options and the checks that need nothing but them."""
