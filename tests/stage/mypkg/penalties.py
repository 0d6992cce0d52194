"""Penalties of one's own."""

import torch


def L1(parameters: list[torch.Tensor] | torch.Tensor, strength: float) -> torch.Tensor:
    """λ‖w‖₁ of one tensor or of a list."""
    tensors = [parameters] if isinstance(parameters, torch.Tensor) else parameters
    return strength * torch.stack([w.abs().sum() for w in tensors]).sum()
