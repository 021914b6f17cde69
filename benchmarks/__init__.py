"""Costs of training, side by side with others: tools/benchmark.py."""
