"""Metrics of cases and slices, surface distances, paired tests and splits by patient."""
