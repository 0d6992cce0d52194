"""Trusted implementations, one file per operation.

They import torch, numpy, scipy, `model`, `registry` and `numerics` only: the oracle shares no
code with its judge.
"""
