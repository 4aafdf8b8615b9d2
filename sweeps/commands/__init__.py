"""The commands: option values in, exit codes out."""
