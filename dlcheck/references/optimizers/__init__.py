"""Optimizers over the published recursions, and averages of parameters."""
