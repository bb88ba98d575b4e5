"""Training on a store and judging it: runs, studies, reports, and masks compared with masks."""
