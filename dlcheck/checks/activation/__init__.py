"""Checks of the kind activation."""
