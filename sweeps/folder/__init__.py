"""Ownership, lease, log and inventory of a results folder."""
