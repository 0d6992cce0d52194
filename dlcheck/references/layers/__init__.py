"""Layers, written by hand: forward and backward."""
