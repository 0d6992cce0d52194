"""Wrong normalizations, activations and initializers are found, without a reference."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest
import torch
import wrong_activations
import wrong_normalizations
from torch import Tensor, nn

from dlcheck.expansion import Overrides, expand_subject
from dlcheck.model import Outcome, Subject, Suite, Verdict
from dlcheck.runner import run_trial
from dlcheck.suite import complete

KINDS = ("normalization", "activation", "initializer")
WRONG = [*wrong_normalizations.WRONG, *wrong_activations.WRONG]


def outcomes(subject: Subject, profile: str, seed: int = 0) -> Iterator[Outcome]:
    """The checks of the subject's own kind, on the CPU."""
    suite = Suite(name="test", subjects=(subject,), matrix={"device": ["cpu"]})
    trials = expand_subject(complete(subject), suite, Overrides(seed=seed, profile=profile))
    own = (t for t in trials if t.check.function.split(".")[2] in KINDS)
    return map(run_trial, own)


@pytest.mark.parametrize("subject", WRONG, ids=lambda subject: subject.name)
@pytest.mark.filterwarnings("ignore")
def test_finds_what_is_wrong(subject: Subject) -> None:
    found = (o.worst for o in outcomes(subject, "quick"))
    assert any(worst is not None and worst.verdict is Verdict.FAILED for worst in found)


class GemmaNorm(nn.Module):
    """1 + w, in float32."""

    def __init__(self, dim: int, eps: float = 1e-6) -> None:
        super().__init__()
        self.weight, self.eps = nn.Parameter(torch.zeros(dim)), eps

    def forward(self, x: Tensor) -> Tensor:
        wide = x.float()
        y = wide * torch.rsqrt(wide.square().mean(-1, keepdim=True) + self.eps)
        return (y * (1 + self.weight.float())).type_as(x)


class T5Norm(nn.Module):
    """The variance alone in float32."""

    def __init__(self, dim: int, eps: float = 1e-6) -> None:
        super().__init__()
        self.weight, self.eps = nn.Parameter(torch.ones(dim)), eps

    def forward(self, x: Tensor) -> Tensor:
        variance = x.float().square().mean(-1, keepdim=True)
        return self.weight * (x * torch.rsqrt(variance + self.eps))


class ScaleNorm(nn.Module):
    def __init__(self, dim: int) -> None:
        super().__init__()
        self.gain = nn.Parameter(torch.tensor(dim**0.5))

    def forward(self, x: Tensor) -> Tensor:
        return nn.functional.normalize(x, dim=-1) * self.gain


class ChannelsFirst(nn.LayerNorm):
    def forward(self, x: Tensor) -> Tensor:
        y = super().forward(x.permute(0, 2, 3, 1))
        return y.permute(0, 3, 1, 2)


class LearnedByTheEye(nn.Module):
    """The layer norm of the Annotated Transformer: another ε and divisor, declared as such."""

    def __init__(self, dim: int, eps: float = 1e-6) -> None:
        super().__init__()
        self.a, self.b = nn.Parameter(torch.ones(dim)), nn.Parameter(torch.zeros(dim))
        self.eps = eps

    def forward(self, x: Tensor) -> Tensor:
        centred = x - x.mean(-1, keepdim=True)
        return self.a * centred / (x.std(-1, keepdim=True) + self.eps) + self.b


class Modulated(nn.Module):
    """Adaptive layer norm: the affine map comes from a condition."""

    def __init__(self, dim: int) -> None:
        super().__init__()
        self.linear = nn.Linear(3, 2 * dim)

    def forward(self, x: Tensor, condition: Tensor) -> Tensor:
        scale, shift = self.linear(condition).chunk(2, -1)
        return nn.functional.layer_norm(x, x.shape[-1:]) * (1 + scale) + shift


def honest(target: Any, inputs: Any, args: Any, *traits: str, **options: Any) -> Subject:
    return Subject(
        name=target.__name__,
        target=target,
        kind="normalization",
        args=args,
        inputs=inputs if isinstance(inputs, dict) else {"x": inputs},
        traits=frozenset(traits),
        options=options,
    )


DIM = {"dim": {"dim": "n"}}
HONEST = [
    honest(GemmaNorm, "float b n", DIM, axes=[-1], eps="eps", centred=False),
    honest(T5Norm, "float b t n", DIM, axes=[-1], eps="eps", centred=False),
    honest(ScaleNorm, "float b n", DIM, axes=-1, centred=False),
    honest(ChannelsFirst, "float b 5 h w", {"normalized_shape": 5}, axes=[1], eps="eps"),
    honest(
        LearnedByTheEye,
        "float b n",
        DIM,
        axes=[-1],
        eps="eps",
        eps_form="deviation",
        ddof=1,
        sizes={"n": [2, 17]},
    ),
    honest(Modulated, {"x": "float b n", "condition": "float b 3"}, DIM, axes=[-1], eps=1e-5),
    honest(
        nn.BatchNorm1d,
        "float b 3",
        {"num_features": 3, "affine": False, "track_running_stats": False},
        "batch_coupled",
        "batch_coupled_in_eval",
        axes=[0],
        sizes={"b": [2, 9]},
    ),
]


@pytest.mark.parametrize("seed", range(3))
@pytest.mark.parametrize("subject", HONEST, ids=lambda subject: subject.name)
def test_passes_what_is_right(subject: Subject, seed: int) -> None:
    for outcome in outcomes(subject, "quick", seed):
        good = outcome.verdict in (Verdict.PASSED, Verdict.SKIPPED)
        assert good, f"{outcome.check}: {outcome.worst} {outcome.case} {outcome.message}"
