"""Code as it is found elsewhere: what is right passes, and a mistake is told by its cause."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Callable, Iterable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional as F

import dlcheck
from dlcheck.errors import DeclarationError
from dlcheck.gradients.measured import Measured
from dlcheck.model import Outcome, Verdict
from dlcheck.numerics.relations import relation


def outcome(subject: Any, check: str, kind: str, **declared: Any) -> Outcome:
    """What one check says of it."""
    report = dlcheck.validate(
        subject, kind=kind, checks=[check], profile="quick", device="cpu", **declared
    )
    (found,) = report.outcomes
    return found


def cause(found: Outcome) -> str:
    assert found.verdict is Verdict.FAILED
    assert found.worst is not None
    return found.worst.cause


# --- right --------------------------------------------------------------------------------------


class Rotary(nn.Module):
    """Halves turned against each other; x [b, h, t, d]."""

    def __init__(self, dim: int, base: float = 10000.0) -> None:
        super().__init__()
        self.register_buffer("rates", base ** -(torch.arange(0, dim, 2).double() / dim))

    def forward(self, x: Tensor) -> Tensor:
        angle = torch.arange(x.shape[-2], device=x.device)[:, None] * self.rates
        cos, sin = angle.cos().to(x.dtype), angle.sin().to(x.dtype)
        a, b = x.chunk(2, -1)
        return torch.cat((a * cos - b * sin, b * cos + a * sin), -1)


@pytest.mark.parametrize("relative", ["rotation", "inner_product"])
def test_a_rotation_is_judged_by_its_angles_whatever_is_relative(relative: str) -> None:
    found = outcome(
        Rotary,
        "frequencies_span_the_base",
        "positional",
        inputs={"x": "float b h t d*2"},
        args={"dim": {"dim": "d*2"}},
        options={"axes": [2], "mode": "rotate", "relative": relative, "base": "base"},
    )
    assert found.verdict is Verdict.PASSED


def by_cosines(first: Tensor, second: Tensor) -> Tensor:
    """NT-Xent: each finds its partner among all the others."""
    count = len(first)
    both = F.normalize(torch.cat((first, second)), dim=-1)
    logits = (both @ both.T / 0.5).masked_fill(torch.eye(2 * count, dtype=torch.bool), -torch.inf)
    return F.cross_entropy(logits, torch.arange(2 * count).roll(count))


def by_cosine_similarity(first: Tensor, second: Tensor) -> Tensor:
    """As by_cosines; a cosine of numbers has a slope of rounding, not of 0."""
    count = len(first)
    both = torch.cat((first, second))
    logits = F.cosine_similarity(both[:, None], both[None], dim=2) / 0.5
    logits = logits.masked_fill(torch.eye(2 * count, dtype=torch.bool), -torch.inf)
    return F.cross_entropy(logits, torch.arange(2 * count).roll(count))


@pytest.mark.parametrize("loss", [by_cosines, by_cosine_similarity])
@pytest.mark.parametrize("seed", range(3))
def test_cosines_of_numbers_have_no_way_down(loss: Callable[..., Tensor], seed: int) -> None:
    found = outcome(
        loss,
        "points_downhill",
        "loss",
        options={"task": "contrastive"},
        traits=["batch_coupled", "batch_coupled_in_eval"],
        seed=seed,
    )
    assert found.verdict is Verdict.PASSED


def overlap(preds: Tensor, target: Tensor, ignore_index: int = 0) -> Tensor:
    """The mean over three classes but one, of pixels whose target is not that one."""
    kept = target != ignore_index
    preds, target, shares = preds[kept], target[kept], []
    for c in range(3):
        both, any_ = ((preds == c) & (target == c)).sum(), ((preds == c) | (target == c)).sum()
        shares.append(both / any_.clamp(min=1))
    return torch.stack([s for c, s in enumerate(shares) if c != ignore_index]).double().mean()


def test_the_ignored_label_keeps_its_name() -> None:
    declared = {"prediction": "labels", "average": "macro", "range": [0, 1], "better": "higher"}
    given = {"preds": "label[3] b", "target": "label[3] b"}
    for options, verdict in (
        (declared | {"ignore_index": "ignore_index"}, Verdict.PASSED),
        (declared, Verdict.FAILED),
    ):
        found = outcome(
            overlap,
            "renaming_classes_changes_no_score",
            "prediction_metric",
            inputs=given,
            options=options,
        )
        assert found.verdict is verdict


def uniform_ssim(x: Tensor, y: Tensor, data_range: float = 1.0) -> Tensor:
    """Windows of 7 × 7 pixels, inside of the image."""

    def mean(z: Tensor) -> Tensor:
        return F.avg_pool2d(z, 7, stride=1)

    a, b = mean(x), mean(y)
    var = mean(x * x) - a * a + mean(y * y) - b * b
    c1, c2 = (0.01 * data_range) ** 2, (0.03 * data_range) ** 2
    map_ = (2 * a * b + c1) * (2 * (mean(x * y) - a * b) + c2)
    return (map_ / ((a * a + b * b + c1) * (var + c2))).mean((1, 2, 3))


@pytest.mark.parametrize(
    ("padding", "verdict"), [("none", Verdict.PASSED), ("zeros", Verdict.ERRORED)]
)
def test_a_window_that_stays_inside_is_declared_as_the_list_says(
    padding: str, verdict: Verdict
) -> None:
    found = outcome(
        uniform_ssim,
        "value_follows_its_formula",
        "image_metric",
        options={"formula": "ssim", "window": {"size": 7, "padding": padding},
                 "data_range": "data_range", "better": "higher", "perfect": 1.0,
                 "range": [-1, 1]},
    )  # fmt: skip
    assert found.verdict is verdict
    if verdict is Verdict.ERRORED:
        assert "is one of none, reflect, replicate, constant" in str(found)


def path_dropped(x: Tensor, p: float, *, training: bool) -> Tensor:
    if not training:
        return x
    shape = (len(x),) + (1,) * (x.dim() - 1)
    return x * x.new_empty(shape).bernoulli_(1 - p) / (1 - p)


class DropPath(nn.Module):
    def __init__(self, p: float = 0.3) -> None:
        super().__init__()
        self.p = p

    def forward(self, x: Tensor) -> Tensor:
        return path_dropped(x, self.p, training=self.training)


def test_a_dropout_is_random_without_saying_so() -> None:
    options = {"p": "p", "axes": [1]}
    found = outcome(DropPath, "rows_are_independent", "dropout", options=options)
    assert found.verdict is Verdict.PASSED
    with pytest.raises(DeclarationError, match="does not apply with the trait stochastic"):
        outcome(DropPath, "draws_no_random_numbers", "dropout", options=options)


def test_loading_a_reference_is_not_held_against_the_subject(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.chdir(tmp_path)
    found = outcome(
        torch.nn.functional.softplus,
        "matches_reference",
        "activation",
        reference="torch.nn.functional:softplus",
    )
    assert not found.notes


# --- wrong, and told why ------------------------------------------------------------------------


class Norm(nn.Module):
    """LayerNorm by hand, (x − μ) over what `below` makes of the row."""

    def __init__(self, dim: int, eps: float = 1e-6) -> None:
        super().__init__()
        self.weight, self.bias = nn.Parameter(torch.ones(dim)), nn.Parameter(torch.zeros(dim))
        self.eps = eps

    def below(self, x: Tensor) -> Tensor:
        raise NotImplementedError

    def forward(self, x: Tensor) -> Tensor:
        return self.weight * (x - x.mean(-1, keepdim=True)) / self.below(x) + self.bias


class Squared(Norm):
    """(σ² + ε)² in place of the root."""

    def below(self, x: Tensor) -> Tensor:
        return (x.var(-1, unbiased=False, keepdim=True) + self.eps) ** 2


class Sample(Norm):
    """torch.std divides by n − 1, and ε is added to it."""

    def below(self, x: Tensor) -> Tensor:
        return x.std(-1, keepdim=True) + self.eps


@pytest.mark.filterwarnings("ignore:std")
@pytest.mark.parametrize(
    ("norm", "check", "said"),
    [
        (Squared, "starts_without_an_affine_map", "divided by (σ² + ε)², where √(σ² + ε)"),
        (Squared, "output_has_the_declared_moments", "divided by (σ² + ε)², where √(σ² + ε)"),
        (Sample, "starts_without_an_affine_map", "divided by n − 1"),
        (Sample, "eps_stands_where_it_is_declared", "n − 1, and ε is added to the deviation"),
    ],
)
def test_what_a_normalization_divides_by_is_told(norm: type[Norm], check: str, said: str) -> None:
    found = outcome(
        norm,
        check,
        "normalization",
        inputs={"x": "float b t d"},
        args={"dim": {"dim": "d"}},
        options={"axes": [-1], "eps": "eps", "sizes": {"d": [2, 9]}},
    )
    assert said in cause(found)
    assert found.worst is not None
    assert found.worst.got != "0"


def test_a_factor_of_one_tells_nothing() -> None:
    e = torch.randn(4, 5, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    scale = 1 + 1e-9 * torch.arange(1.0, 5.0, dtype=torch.float64)[:, None]
    assert relation(scale * e, e, 1e-13) == ""


class DecaysLast(torch.optim.Optimizer):
    """Adam's step in its simplest form, then θ ← (1 − ηλ) θ."""

    def __init__(self, params: Iterable[Any], lr: float = 1e-3, weight_decay: float = 0.0) -> None:
        super().__init__(params, {"lr": lr, "weight_decay": weight_decay})

    @torch.no_grad()
    def step(self, closure: Callable[[], Any] | None = None) -> Any:  # type: ignore[override]
        loss = None
        if closure is not None:
            with torch.enable_grad():
                loss = closure()
        for group in self.param_groups:
            for p in group["params"]:
                if p.grad is not None:
                    p.sub_(group["lr"] * p.grad / (p.grad.abs() + 1e-8))
                    p.mul_(1 - group["lr"] * group["weight_decay"])
        return loss


def test_a_decay_on_the_other_side_of_the_step_is_told() -> None:
    options = {"decay": "decoupled", "decay_order": "before"}
    found = outcome(DecaysLast, "decay_shrinks_weights", "optimizer", options=options)
    assert "comes after the step, where decay_order = before is declared" in cause(found)
    right = {"decay": "decoupled", "decay_order": "after"}
    found = outcome(DecaysLast, "decay_shrinks_weights", "optimizer", options=right)
    assert found.verdict is Verdict.PASSED


def smooths_its_target(prediction: Tensor, target: Tensor) -> Tensor:
    """In place, so that the next call sees other targets."""
    return F.binary_cross_entropy_with_logits(prediction, target.detach().mul_(0.9).add_(0.05))


@pytest.mark.parametrize("check", ["stays_inside_its_inputs", "reductions_agree"])
def test_what_fails_because_a_call_writes_to_an_input_says_so(check: str) -> None:
    declared: dict[str, Any] = {"options": {"task": "binary", "reduction": "mean"}}
    found = outcome(smooths_its_target, check, "loss", **declared)
    assert found.verdict is Verdict.PASSED or (
        cause(found)
        == "a call writes to its input target, and later calls see it: leaves_inputs_unchanged"
    )
    found = outcome(smooths_its_target, "leaves_inputs_unchanged", "loss", **declared)
    assert not cause(found)


def focal(prediction: Tensor, target: Tensor) -> Tensor:
    """p is detached from the graph: its own slope is missing."""
    log_p = prediction.log_softmax(-1).gather(1, target[:, None])[:, 0]
    return -((1 - log_p.detach().exp()) ** 2 * log_p).mean()


def test_two_terms_of_two_elements_are_no_evidence() -> None:
    found = outcome(
        focal, "gradient_matches_difference", "loss", options={"task": "classification"}
    )
    assert "two terms" not in cause(found)


class SparsemaxOfRows(torch.autograd.Function):
    """Its backward squeezes all axes of length 1, where the last is meant."""

    @staticmethod
    def forward(ctx: Any, x: Tensor) -> Tensor:
        x = x - x.amax(-1, keepdim=True)
        ordered = x.sort(-1, descending=True).values
        places = torch.arange(1, x.shape[-1] + 1, dtype=x.dtype, device=x.device)
        above = ordered.cumsum(-1) - 1
        count = (places * ordered > above).sum(-1, keepdim=True)
        y = (x - above.gather(-1, count - 1) / count).clamp(min=0)
        ctx.save_for_backward(count, y)
        return y

    @staticmethod
    def backward(ctx: Any, g: Tensor) -> Tensor:  # type: ignore[override]
        count, y = ctx.saved_tensors
        kept = torch.where(y != 0, g, 0)
        mean = (kept.sum(-1) / count.squeeze()).unsqueeze(-1)
        return torch.where(y != 0, kept - mean, 0)


def sparsemax(x: Tensor) -> Tensor:
    answer: Tensor = SparsemaxOfRows.apply(x)
    return answer


def test_a_gradient_that_is_constant_nearby_is_no_kept_state() -> None:
    (found,) = dlcheck.validate(
        sparsemax,
        kind="activation",
        inputs={"x": "float b t n"},
        options={"axes": [-1]},
        checks=["gradient_matches_difference"],
        device="cpu",
    ).outcomes
    assert "first call" not in cause(found)


def test_a_warning_of_every_call_is_shown_once(tmp_path: Path) -> None:
    (tmp_path / "mine.py").write_text(
        "import warnings\n\ndef f(x):\n    warnings.warn('mind the gap')\n    return x.sin()\n"
    )
    found = subprocess.run(
        [sys.executable, "-m", "dlcheck", "validate", "mine.py:f", "--kind", "activation",
         "--check", "repeats_exactly", "--check", "rows_are_independent", "--profile", "quick"],
        cwd=tmp_path, capture_output=True, text=True, check=True,
    )  # fmt: skip
    assert found.stderr.count("UserWarning: mind the gap") == 1


def test_slopes_of_zero_leave_the_linear_algebra_silent(capfd: pytest.CaptureFixture[str]) -> None:
    """LAPACK prints of infinite weights, past Python."""
    values = ((1.0, 1e-13), (0.0, 0.0), (2.0, 1e-13), (0.0, 0.0), (4.0, 2e-13))
    slopes = [SimpleNamespace(measured=m, bound=b, residual=m / 2) for m, b in values]
    measured = Measured(None, (), tuple(slopes))  # type: ignore[arg-type]
    assert measured.factors([0.0] * 5, [0.5, 0.0, 1.0, 0.0, 2.0], [1.0, 0.0, 0.0, 0.0, 1.0]) == (
        pytest.approx(2.0), pytest.approx(0.0, abs=1e-9)
    )  # fmt: skip
    shown = capfd.readouterr()
    assert "ERROR" not in shown.out + shown.err


def test_the_option_that_decides_is_named() -> None:
    found = outcome(
        DecaysLast, "follows_its_recursion", "optimizer", options={"rule": decays_first}
    )
    assert "with weight_decay = 0 they agree" in cause(found)


def decays_first(
    p: Tensor, g: Tensor, state: dict[str, Any], lr: float, weight_decay: float
) -> Tensor:
    return p * (1 - lr * weight_decay) - lr * g / (g.abs() + 1e-8)


class NeverRescaled(DropPath):
    def forward(self, x: Tensor) -> Tensor:
        return super().forward(x) * ((1 - self.p) if self.training else 1)


class KeepsWithP(DropPath):
    def forward(self, x: Tensor) -> Tensor:
        if not self.training:
            return x
        return x * torch.empty(len(x), 1, dtype=x.dtype).bernoulli_(self.p) / (1 - self.p)


@pytest.mark.parametrize(
    ("module", "said"),
    [
        (NeverRescaled, "nothing is rescaled: divide by 1 − p"),
        (KeepsWithP, "p is taken for the share that stays"),
    ],
)
def test_what_the_mean_of_a_dropout_says_is_told(module: type[nn.Module], said: str) -> None:
    options = {"p": "p", "axes": [1], "rescale": "train"}
    found = outcome(module, "keeps_the_mean_as_declared", "dropout", options=options)
    assert said in cause(found)


@pytest.mark.parametrize(
    ("kind", "option", "wrong", "meant"),
    [
        ("normalization", "eps_form", "deviatoin", "deviation"),
        ("positional", "mode", "rotated", "rotate"),
        ("recurrent", "variant", "reset_befor", "reset_before"),
        ("dropout", "rescale", "trian", "train"),
    ],
)
def test_a_misspelt_value_is_not_taken_for_the_default(
    kind: str, option: str, wrong: str, meant: str
) -> None:
    with pytest.raises(DeclarationError, match=f"no value of {option} .*{meant}"):
        dlcheck.validate(
            DropPath,
            kind=kind,
            inputs={"x": "float b d"},
            options={"axes": [-1], option: wrong} if kind != "recurrent" else {option: wrong},
        )


def smoothed_loss(prediction: Tensor, target: Tensor, *, amount: float = 0.1) -> Tensor:
    return nn.functional.cross_entropy(prediction, target, label_smoothing=amount)


def test_an_option_that_names_no_argument_is_refused() -> None:
    with pytest.raises(DeclarationError, match=r"no value of smoothing named 'amuont'.*'amount'"):
        dlcheck.validate(
            smoothed_loss,
            kind="loss",
            options={"task": "classification", "smoothing": "amuont"},
        )


@pytest.mark.parametrize("wrong", ["one", True, [1.0]])
def test_a_number_is_a_number(wrong: object) -> None:
    with pytest.raises(DeclarationError, match="perfect is a number, 'inf' or '-inf', not"):
        dlcheck.validate(
            smoothed_loss, kind="loss", options={"task": "classification", "perfect": wrong}
        )


@pytest.mark.parametrize(("given", "is_right"), [("k", True), ("amount", True), ("b9", False)])
def test_a_number_of_a_score_may_be_that_of_a_dim_or_an_argument(
    given: str, *, is_right: bool
) -> None:
    options = {"task": "classification", "uninformed": given}

    def score(prediction: Tensor, target: Tensor, amount: float = 4.0) -> Tensor:
        return amount * (prediction == target).double().mean()

    def validated() -> None:
        dlcheck.validate(
            score,
            kind="prediction_metric",
            options=options,
            checks=["uninformed_predictions_score_as_declared"],
        )

    if is_right:
        validated()
    else:
        with pytest.raises(DeclarationError, match="names a dim or an argument, not 'b9'"):
            validated()


def plain_cross_entropy(prediction: Tensor, target: Tensor) -> Tensor:
    return nn.functional.cross_entropy(prediction, target)


@pytest.mark.parametrize(
    "subject", [plain_cross_entropy, f"{__file__}:plain_cross_entropy"], ids=["object", "path"]
)
def test_a_reference_with_more_arguments_is_no_mistake_of_the_subject(subject: Any) -> None:
    reference = "dlcheck.references.losses.cross_entropy:cross_entropy"
    found = outcome(subject, "matches_reference", "loss", reference=reference)
    assert found.verdict is Verdict.PASSED
