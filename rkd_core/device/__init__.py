"""Devices, precision, threads and hardware. Imports no torch."""
