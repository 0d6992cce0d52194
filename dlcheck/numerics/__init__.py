"""Numerical analysis on tensors: tensors in, numbers out; no notion of checks or suites."""
