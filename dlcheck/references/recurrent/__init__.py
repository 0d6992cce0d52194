"""Recurrent networks, written by hand: forward and backward."""
