"""Losses: a formula per row or element, then a reduction."""
