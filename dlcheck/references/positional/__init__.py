"""Positions of tokens, written by hand: forward and backward."""
