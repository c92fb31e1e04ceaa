"""Planes and colours as arrays."""
