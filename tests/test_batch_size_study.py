"""The study of batch sizes: its laws on problems whose answer is known, its words, its errors."""

from __future__ import annotations

import math
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.utils.data import DataLoader, IterableDataset, TensorDataset

import dlcheck
from dlcheck.benchmarks.batch_size.setup import read_setup
from dlcheck.cli.batch_size import main as command
from dlcheck.errors import SubjectError, UsageError
from dlcheck.measure.convergence import descend, loss_rows, tune
from dlcheck.measure.critical_batch import fastest_batch, fit_steps, seconds_to_target
from dlcheck.measure.footprint import measure_footprint
from dlcheck.measure.gradient_noise import measure_gradient_noise
from dlcheck.measure.scaling_rule import measure_scaling_rule
from dlcheck.measure.throughput import AffineTime
from dlcheck.measure.workload import Rows, Workload, gradient
from dlcheck.reporting.batch_size_study import BatchSizeStudy, Fits, Point
from dlcheck.reporting.batch_sizes import figures, page
from dlcheck.study import batch_size

CPU = torch.device("cpu")


class Parabola(nn.Module):
    """A weight w; the loss of a row x is ½ λ (w − x)²."""

    def __init__(self, curvature: float = 1.0) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.ones(1, dtype=torch.float64))
        self.curvature = curvature


def parabola_loss(model: nn.Module, batch: tuple[Tensor, ...]) -> Tensor:
    assert isinstance(model, Parabola)
    return 0.5 * model.curvature * (model.weight - batch[0]).square().mean()


def problem(
    *, rows: int = 24, width: int = 5, layers: Callable[[], nn.Module] | None = None
) -> Workload:
    """A small regression in float64."""
    generator = torch.Generator().manual_seed(1)
    x = torch.randn(rows, width, generator=generator, dtype=torch.float64)
    y = torch.randn(rows, 1, generator=generator, dtype=torch.float64)
    build = layers or (lambda: nn.Sequential(nn.Linear(width, 4), nn.Tanh(), nn.Linear(4, 1)))
    return Workload(
        build=lambda: build().double(),
        objective=lambda model, batch: nn.functional.mse_loss(model(batch[0]), batch[1]),
        rows=Rows((x, y)),
        optimizer=torch.optim.SGD,
        device=CPU,
    )


def quadratic(curvature: float = 1.0) -> Workload:
    """Every row is 0: gradient descent without noise, w ← (1 − ηλ) w."""
    return Workload(
        build=lambda: Parabola(curvature),
        objective=parabola_loss,
        rows=Rows((torch.zeros(16, 1, dtype=torch.float64),)),
        optimizer=torch.optim.SGD,
        device=CPU,
    )


# --- the laws -----------------------------------------------------------------------------------


def test_the_law_of_steps_is_recovered() -> None:
    steps = {b: [40 * (1 + 30 / b)] * 3 for b in (1, 4, 16, 64, 256)}
    law = fit_steps(steps)
    assert law.least == pytest.approx(40, rel=1e-4)
    assert law.critical == pytest.approx(30, rel=1e-4)
    assert law.critical_interval == pytest.approx((30, 30), rel=1e-4)
    assert law.edge == ""


@pytest.mark.parametrize(("critical", "edge"), [(0.05, "below"), (9000.0, "above")])
def test_a_critical_batch_beyond_the_sizes_is_told(critical: float, edge: str) -> None:
    law = fit_steps({b: [40 * (1 + critical / b)] for b in (1, 4, 16, 64, 256)})
    assert law.edge == edge


def test_two_sizes_are_no_law() -> None:
    with pytest.raises(ValueError, match="2 batch sizes reached the target"):
        fit_steps({1: [9.0], 2: [5.0]})


def test_the_predicted_batch_is_the_fastest_of_its_laws() -> None:
    law = fit_steps({b: [40 * (1 + 30 / b)] for b in (1, 4, 16, 64, 256)})
    time = AffineTime(
        fixed=3e-4, per_row=1e-6, fixed_interval=(0, 0), per_row_interval=(0, 0),
        knee_interval=(0, 0), misfit=0.0,
    )  # fmt: skip
    best = fastest_batch(time, law)
    assert best == pytest.approx(math.sqrt(300 * 30), rel=1e-3)
    least = seconds_to_target(time, law, best)
    assert all(seconds_to_target(time, law, best * factor) > least for factor in (0.8, 1.25))


@pytest.mark.parametrize("size", [1, 2, 5, 24])
def test_the_variance_of_a_batch_is_that_of_all_subsets(size: int) -> None:
    workload = problem(rows=24)
    model = workload.model(0)
    noise = measure_gradient_noise(workload, model, [size], batches=4)
    rows = torch.stack(
        [gradient(workload, model, workload.batch(n)) for n in torch.eye(24).nonzero()[:, 1:]]
    )
    full = rows.mean(0)
    trace = float((rows - full).square().sum(1).mean())
    assert noise.mode == "train"
    assert noise.trace == pytest.approx(trace, rel=1e-9)
    assert noise.square == pytest.approx(float(full.square().sum()), rel=1e-9)
    assert noise.variance(size) == pytest.approx(trace / size * (24 - size) / 23, rel=1e-9)


def test_measured_batches_follow_the_law() -> None:
    workload = problem(rows=40)
    noise = measure_gradient_noise(workload, workload.model(0), [2, 8, 30], batches=400)
    for misfit, deviation, variance in zip(
        noise.misfits, noise.deviations, noise.variances, strict=True
    ):
        assert abs(misfit - 1) < 5 * deviation / variance


def test_a_sample_of_rows_estimates_the_noise_scale_of_all() -> None:
    workload = problem(rows=400)
    model = workload.model(0)
    whole = measure_gradient_noise(workload, model, [2], population=400, batches=4).noise_scale
    parts = [
        measure_gradient_noise(workload, model, [2], population=100, batches=4, seed=s).noise_scale
        for s in range(8)
    ]
    assert sorted(parts)[0] < whole < sorted(parts)[-1]


def test_batch_statistics_are_left_out_of_the_noise() -> None:
    workload = problem(layers=lambda: nn.Sequential(nn.BatchNorm1d(5), nn.Linear(5, 1)))
    model = workload.model(0)
    before = [b.clone() for b in model.buffers()]
    assert measure_gradient_noise(workload, model, [2], batches=4).mode == "eval"
    assert model.training
    assert all(torch.equal(a, b) for a, b in zip(before, model.buffers(), strict=True))


def test_every_byte_of_a_step_is_counted() -> None:
    workload = problem(rows=64, layers=lambda: nn.Linear(5, 1))
    found = measure_footprint(workload, [1, 2, 8, 32])
    weights = 6 * 8  # 5 weights and a bias, in float64
    # Saved: the input and, for the squared error, prediction and target; drawn: x and y.
    assert found.fixed == pytest.approx(2 * weights, abs=1e-6)
    assert found.per_row == pytest.approx((5 + 1) * 8 + 5 * 8 + 2 * 8, abs=1e-6)
    assert found.misfit < 1e-9
    assert found.largest(found(1000)) == 1000
    assert found.largest(weights) == 0


@pytest.mark.parametrize("rate", [0.1, 0.5])
def test_steps_to_the_target_are_those_of_the_recursion(rate: float) -> None:
    workload, target = quadratic(), 0.5e-4
    run = descend(workload, 4, rate, target, loss_rows(workload, 16, 0), most=1000, seed=0)
    # ½ (1 − η)^2k ≤ ½·10⁻⁴
    assert run.reached
    assert run.steps == pytest.approx(math.log(1e-4) / (2 * math.log(1 - rate)), rel=1e-9)


def test_a_run_that_diverges_or_takes_too_long_is_told_apart() -> None:
    rows = loss_rows(quadratic(), 16, 0)
    far = descend(quadratic(3.0), 4, 1.0, 1e-4, rows, most=1000, seed=0)
    slow = descend(quadratic(), 4, 1e-3, 1e-4, rows, most=50, seed=0)
    assert (far.end, slow.end, slow.steps) == ("diverged", "censored", 50)


def test_the_best_learning_rate_of_a_parabola_is_found() -> None:
    workload = quadratic()
    rows = loss_rows(workload, 16, 0)
    for start in (0.25, 2.0):  # 1/λ is on each ladder: one step
        found = tune(workload, 4, start, 1e-6, rows, most=4000, seeds=(0, 1))
        assert found.rate == pytest.approx(1.0)
        assert found.reached
        assert len(found.runs) == 2


def test_linear_scaling_holds_to_first_order() -> None:
    rule = measure_scaling_rule(problem(rows=64), size=8, steps=8, rates=[4e-3, 2e-3, 1e-3])
    assert rule.orders == pytest.approx((2.0, 2.0), abs=0.1)


# --- the whole ----------------------------------------------------------------------------------


def small_setup() -> dict[str, Any]:
    generator = torch.Generator().manual_seed(0)
    x = torch.randn(128, 6, generator=generator)
    y = (x @ torch.randn(6, generator=generator) > 0).long()
    return {
        "model": lambda: nn.Linear(6, 2),
        "loss": nn.CrossEntropyLoss(),
        "data": (x, y),
        "lr": 0.5,
    }


@pytest.fixture(scope="module")
def study(tmp_path_factory: pytest.TempPathFactory) -> BatchSizeStudy:
    journal = tmp_path_factory.mktemp("study") / "journal.json"
    told: list[str] = []
    found = dlcheck.batch_size(
        small_setup, sizes=[4, 16, 64], profile="quick", seconds=2.0, resume=journal,
        budget=1e6, progress=told.append,
    )  # fmt: skip
    assert told
    again: list[str] = []
    resumed = dlcheck.batch_size(
        small_setup, sizes=[4, 16, 64], profile="quick", seconds=2.0, resume=journal,
        budget=1e6, progress=again.append,
    )  # fmt: skip
    assert again == []
    assert resumed.points == found.points
    assert resumed.fits == found.fits
    return found


def test_a_study_answers(study: BatchSizeStudy) -> None:
    assert study.recommended in [point.size for point in study.points]
    assert {4, 16, 64} <= {point.size for point in study.points}
    assert study.target < study.start_loss
    assert study.largest == 128
    point = study.point(16)
    assert point.samples == 16 * point.median_steps
    text = str(study)
    assert f"Use a batch of {study.recommended:,}" in text
    assert max(len(line) for line in text.splitlines()) <= 110


def test_a_study_is_recorded(study: BatchSizeStudy) -> None:
    assert BatchSizeStudy.from_json(study.to_json()) == study


def test_a_study_is_a_page(study: BatchSizeStudy) -> None:
    text = page(study)
    assert text.count("<svg") == len(list(figures(study))) >= 6
    assert "http" not in text.replace("http-equiv", "").replace("http://www.w3.org/2000/svg", "")
    assert "<table" in study._repr_html_()


def test_what_is_no_study_is_refused() -> None:
    with pytest.raises(UsageError, match="no study of batch sizes"):
        BatchSizeStudy.from_json('{"schema": 1}')


def test_a_target_that_is_never_reached_is_said() -> None:
    study = batch_size(small_setup, sizes=[4, 16, 64], target=-1.0, profile="quick", seconds=0.1)
    assert study.recommended is None
    assert "No batch size is recommended" in str(study)
    assert sum("did not reach the target" in note for note in study.notes) == 3
    assert study.fits.critical is None


def test_what_a_model_refuses_is_left_out_and_said() -> None:
    def setup() -> dict[str, Any]:
        return {
            **small_setup(),
            "model": lambda: nn.Sequential(nn.BatchNorm1d(6), nn.Linear(6, 2)),
        }

    study = batch_size(setup, sizes=[1, 8, 32], profile="quick", seconds=0.2)
    assert study.points[0].size == 8
    assert any(
        "batch size 1 is refused" in note and "more than 1 value" in note for note in study.notes
    )
    assert any("evaluation mode" in note for note in study.notes)


def test_a_size_that_ran_out_of_memory_is_the_limit(monkeypatch: pytest.MonkeyPatch) -> None:
    def objective(model: nn.Module, batch: tuple[Tensor, ...]) -> Tensor:
        if len(batch[0]) > 20:
            raise torch.OutOfMemoryError("CUDA out of memory")
        return nn.functional.cross_entropy(model(batch[0]), batch[1])

    def setup() -> dict[str, Any]:
        return {"model": lambda: nn.Linear(6, 2), "objective": objective,
                "data": TensorDataset(*small_setup()["data"])}  # fmt: skip

    study = batch_size(setup, sizes=[2, 8, 32], profile="quick", seconds=0.2, target=0.5)
    assert [p.size for p in study.points][:2] == [2, 8]
    assert "batch size 32 ran out of memory" in study.notes


class Endless(IterableDataset[int]):
    def __iter__(self) -> Any:
        yield from iter(int, 1)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"model": nn.Linear(6, 2)}, "model is a built Linear"),
        ({"data": DataLoader([1, 2])}, r"data is a DataLoader.*loader\.dataset"),
        ({"data": Endless()}, "iterable data set, which may not end"),
        ({"data": (torch.ones(3), torch.ones(4))}, r"\[3, 4\] rows"),
        ({"data": torch.ones(1, 2)}, r"1 row\(s\)"),
        ({"data": 3}, "data is a int, but must be"),
        ({"loss": None, "lr": 0}, "lr is positive"),
        ({"lr": "fast"}, "lr is a number, not 'fast'"),
        ({"losss": None}, "no part of a setup named 'losss'.*'loss'"),
    ],
)
def test_a_setup_that_cannot_be_studied_is_refused(changes: dict[str, Any], message: str) -> None:
    with pytest.raises(UsageError, match=message):
        read_setup(lambda: {**small_setup(), **changes}, CPU)


@pytest.mark.parametrize(
    ("made", "message"),
    [
        (lambda: nn.Linear(2, 2), "gave Linear, but a setup is a function"),
        (lambda: {"model": nn.Identity}, "lacks data and loss"),
    ],
)
def test_what_is_no_setup_is_refused(made: Callable[[], Any], message: str) -> None:
    with pytest.raises(UsageError, match=message):
        read_setup(made, CPU)


@pytest.mark.parametrize(
    ("sizes", "message"),
    [
        ([0, 4], "whole number from 1 on, not 0"),
        ([-2, 4], "not -2"),
        ([4, 500], "a batch of 500 rows cannot be drawn from a data set of 128"),
        ([4], r"\[4\] is one"),
    ],
)
def test_sizes_that_cannot_be_studied_are_refused(sizes: list[int], message: str) -> None:
    with pytest.raises(UsageError, match=message):
        batch_size(small_setup, sizes=sizes)


def test_no_time_to_train_is_refused() -> None:
    with pytest.raises(UsageError, match="more than 0, not -1"):
        batch_size(small_setup, sizes=[4, 8], seconds=-1)


def test_a_loss_that_is_no_number_is_told() -> None:
    setup = {**small_setup(), "loss": nn.CrossEntropyLoss(reduction="none")}
    with pytest.raises(SubjectError, match=r"the loss of a batch is a tensor of shape \[4\]"):
        batch_size(lambda: setup, sizes=[4, 8], profile="quick")


def test_a_journal_of_another_study_is_refused(tmp_path: Path) -> None:
    journal = tmp_path / "journal.json"
    journal.write_text('{"question": {"rows": 3}, "parts": {}}')
    with pytest.raises(UsageError, match=r"belongs to another study.*rows: 3, now 128"):
        batch_size(small_setup, sizes=[4, 8], resume=journal)


SETUP = """
import torch
from torch import nn

def setup():
    x = torch.linspace(-1, 1, 64)[:, None]
    return {"model": lambda: nn.Linear(1, 1), "loss": nn.MSELoss(), "data": (x, 2 * x), "lr": 0.5}

def broken():
    raise RuntimeError("no such disk")
"""


def test_the_command_writes_a_report(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    file = tmp_path / "train.py"
    file.write_text(SETUP)
    code = command([f"{file}:setup", "--sizes", "2,8,32", "--profile", "quick", "--seconds", "0.5",
                    "--report", str(tmp_path / "out"), "--budget", "1MB"])  # fmt: skip
    shown = capsys.readouterr()
    assert code in (0, 7)
    assert "timing a step" in shown.err
    assert "to target" in shown.out
    assert (tmp_path / "out" / "batch_size.html").exists()
    record = (tmp_path / "out" / "batch_size.json").read_text()
    assert BatchSizeStudy.from_json(record).rows == 64


def test_the_command_tells_mistakes(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    file = tmp_path / "train.py"
    file.write_text(SETUP)
    assert command([f"{file}:broken", "-q"]) == 1
    assert "no such disk" in capsys.readouterr().out
    for option, value, message in (
        ("--sizes", "1,two", "whole numbers"),
        ("--budget", "8 parsecs", "as 8GB"),
        ("--profile", "hasty", "no profile named 'hasty'"),
    ):
        with pytest.raises(UsageError, match=message):
            command([f"{file}:setup", option, value])


def test_an_agreement_needs_both_sides() -> None:
    study = BatchSizeStudy(
        name="s", device="cpu", rows=8, parameters=1, profile="quick", seed=0, target=0.1,
        start_loss=1.0, points=(Point(size=2, steps=(4.0,), seconds=0.5),), fits=Fits(),
        predicted=8.0,
    )  # fmt: skip
    assert study.fastest == 2
    assert study.agreement == pytest.approx(4.0)
