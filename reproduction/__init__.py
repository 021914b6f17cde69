"""Plans of many runs: what they are, how far they got, what came out."""
