"""Command-line options, and checks that need only the options."""
