"""Loaders and splits: what a model is shown, and in which order."""
