"""Checkpoints and files of weights: loaded, written, exported."""
