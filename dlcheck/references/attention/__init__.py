"""Attention, written by hand: forward and backward."""
