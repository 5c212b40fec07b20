"""Benchmarks: what is measured, and how, stands in each module."""
