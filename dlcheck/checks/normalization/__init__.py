"""Checks of the kind normalization."""
