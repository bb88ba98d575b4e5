"""The parts of a split: the words for them in options and files."""

TEST, VALIDATION, PART_A, PART_B = "test", "validation", "A", "B"
