"""Measuring this machine: every stage alone, the whole pipeline, and how long a file will take."""
