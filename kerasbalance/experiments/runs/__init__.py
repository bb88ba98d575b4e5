"""Runs: training on a store by the paper's protocol, and what is done with the model that comes out."""
