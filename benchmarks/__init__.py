"""Benchmarks: one registry of cases, measured side by side; `python -m benchmarks --help`."""
