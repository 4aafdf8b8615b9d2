"""Decoding of a dataset into the disk cache or memory, or preparation for streaming."""
