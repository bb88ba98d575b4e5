"""What a training step is fed: the index, the order of slices, sources, the dataset and its read-ahead."""
