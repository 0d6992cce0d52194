"""Limits for gradients and weights."""
