"""Measurements of the speed and memory of training: tools/benchmark.py."""
