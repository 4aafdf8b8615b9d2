"""Decoding of a data set, once, into the disk cache or a stream."""
