"""Activations, written by hand: forward and backward."""
