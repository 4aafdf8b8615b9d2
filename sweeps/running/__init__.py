"""Execution of a plan: serially or on Ray, with pruning and failures."""
