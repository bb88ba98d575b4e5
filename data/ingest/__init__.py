"""From what a user points at to sealed cases: requests, layouts, reading a case, and many cases in parallel."""
