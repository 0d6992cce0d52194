"""Bugs that no check was made for are found from the declared inputs alone."""

from __future__ import annotations

import pytest
from buggy_layers import BUGS, Bug
from torch import nn
from verdicts import is_found

import dlcheck
from dlcheck import Subject


@pytest.mark.parametrize("bug", [pytest.param(bug, id=name) for name, bug in BUGS.items()])
@pytest.mark.filterwarnings("ignore")
def test_the_bug_is_found(bug: Bug) -> None:
    subject = Subject(
        name="buggy", target=bug.target, kind=bug.kind, args=bug.args, inputs=bug.inputs,
        traits=frozenset(bug.traits), options=bug.options,
    )  # fmt: skip
    assert is_found(subject, ["*"])


RIGHT = {
    "Linear": (nn.Linear, {"in_features": 6, "out_features": 3}, "float b 6", ()),
    "Conv2d": (nn.Conv2d, {"in_channels": 3, "out_channels": 2, "kernel_size": 1},
               "float b 3 h w", ()),
    "Embedding": (nn.Embedding, {"num_embeddings": 9, "embedding_dim": 4}, "index[9] b t",
                  ("sparse_gradient",)),
    "Dropout": (nn.Dropout, {}, "float b n", ("stochastic",)),
    "TransformerEncoderLayer": (
        nn.TransformerEncoderLayer,
        {"d_model": 8, "nhead": 2, "dim_feedforward": 16, "batch_first": True},
        "float b t 8",
        ("stochastic", "nonsmooth"),
    ),
    "LSTM": (nn.LSTM, {"input_size": 3, "hidden_size": 4, "batch_first": True}, "float b t 3", ()),
}  # fmt: skip


SLOW = ("LSTM", "TransformerEncoderLayer")


@pytest.mark.parametrize(
    "name", [pytest.param(n, marks=pytest.mark.nightly) if n in SLOW else n for n in RIGHT]
)
@pytest.mark.filterwarnings("ignore")
def test_what_is_right_raises_no_alarm(name: str) -> None:
    target, args, inputs, traits = RIGHT[name]
    report = dlcheck.validate(
        target, "layer", args=args, inputs={"x": inputs}, traits=traits, device="cpu"
    )
    bad = [o for o in report.outcomes if not o.verdict.is_good]
    assert not bad, [(o.check, o.verdict.value, o.case, str(o.worst), o.message) for o in bad]
