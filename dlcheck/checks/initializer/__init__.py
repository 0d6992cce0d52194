"""Checks of the kind initializer."""
