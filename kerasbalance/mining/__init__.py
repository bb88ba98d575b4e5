"""What is hard: scores of slices, rules, samplers and the callback that swaps the index."""
