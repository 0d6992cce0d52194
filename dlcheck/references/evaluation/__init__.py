"""Evaluation loops: a number for a model on data."""
