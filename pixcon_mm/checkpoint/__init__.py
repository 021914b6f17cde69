"""Loading, writing and exporting of checkpoints and files of weights."""
