"""What a step costs, side by side with others: tools/benchmark.py."""
