"""Normalizations, written by hand: forward and backward."""
