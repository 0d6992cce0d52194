"""The embedding of symbols: rows of a table."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn

from dlcheck.references.precision import wide
from dlcheck.registry import reference


class _Lookup(torch.autograd.Function):
    """y[·] = W[index[·]] for W [n, d] and index of any shape.

    dL = Σ_i ⟨v[i], dW[index[i]]⟩, so dL/dW[r] = Σ over i with index[i] = r of v[i]: rows that are
    looked up twice get both. `share` [n, 1] is a factor of each row's gradient: 0 for the row of
    padding, 1/count where frequent rows are to learn no faster.
    """

    generate_vmap_rule = True

    @staticmethod
    def forward(weight: Tensor, index: Tensor, share: Tensor | None) -> Tensor:
        return weight.index_select(0, index.flatten()).reshape(*index.shape, weight.shape[1])

    @staticmethod
    def setup_context(ctx: Any, inputs: tuple[Any, ...], output: Tensor) -> None:
        weight, index, share = inputs
        ctx.save_for_backward(index, share)
        ctx.rows = weight.shape[0]

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor, None, None]:
        index, share = ctx.saved_tensors
        v = wide(gradients[0]).reshape(-1, gradients[0].shape[-1])
        summed = v.new_zeros(ctx.rows, v.shape[1]).index_add(0, index.flatten(), v)
        summed = summed if share is None else summed * share
        return summed.to(gradients[0].dtype), None, None


@reference(
    kind="layer",
    formula="y[b,t] = W[index[b,t]]",
    source="Bengio et al., A Neural Probabilistic Language Model, JMLR 3, 2003, §2",
    inputs={"index": "index[n] b t"},
    args={"num_embeddings": {"dim": "n"}, "embedding_dim": 4},
    traits=["smooth", "twice_differentiable", "sparse_gradient"],
)
class Embedding(nn.Module):
    """Rows of a table: index of any shape, 0 ≤ index < num_embeddings; y [*index.shape, d].

    weight [num_embeddings, d] begins standard normal; the row of padding_idx begins 0 and gets no
    gradient. With scale_grad_by_freq a row's gradient is divided by how often it is looked up.
    """

    def __init__(
        self,
        num_embeddings: int,
        embedding_dim: int,
        padding_idx: int | None = None,
        scale_grad_by_freq: bool = False,  # noqa: FBT001, FBT002
    ) -> None:
        super().__init__()
        if padding_idx is not None and not -num_embeddings <= padding_idx < num_embeddings:
            raise ValueError(f"padding_idx is {padding_idx}, but there are {num_embeddings} rows")
        self.padding_idx = None if padding_idx is None else padding_idx % num_embeddings
        self.scale_grad_by_freq = scale_grad_by_freq
        self.weight = nn.Parameter(torch.empty(num_embeddings, embedding_dim))
        nn.init.normal_(self.weight)
        if self.padding_idx is not None:
            nn.init.zeros_(self.weight[self.padding_idx])

    def forward(self, index: Tensor) -> Tensor:
        y: Tensor = _Lookup.apply(self.weight, index, self._share(index))
        return y

    def _share(self, index: Tensor) -> Tensor | None:
        """The factor of each row's gradient [n, 1], None where all are 1."""
        if self.padding_idx is None and not self.scale_grad_by_freq:
            return None
        share = wide(self.weight.detach().new_ones(self.weight.shape[0]))
        if self.scale_grad_by_freq:
            looked_up = index.flatten()
            count = torch.zeros_like(share).index_add(0, looked_up, share[looked_up])
            share = share / count.clamp(min=1)
        if self.padding_idx is not None:
            share = share * (torch.arange(len(share), device=share.device) != self.padding_idx)
        return share.unsqueeze(1)
