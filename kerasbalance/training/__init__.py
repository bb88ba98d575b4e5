"""The fit loop: exact iterations, checkpoints and everything that a resume brings back."""
