"""Devices, precision, threads and hardware, without importing torch."""
