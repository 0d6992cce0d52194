"""What a check hands to a subject is written as what constructs it, and is the same again."""

from __future__ import annotations

import functools
import itertools
from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import nn
from torch.utils.data import DataLoader, Dataset, TensorDataset

from dlcheck.scripts.literals import literal
from dlcheck.scripts.modules import module_text, seeded
from dlcheck.scripts.objects import Made, described
from dlcheck.scripts.tape import is_plain

MODULES = [
    nn.Linear(3, 2, bias=False),
    nn.Sequential(nn.Linear(5, 8), nn.BatchNorm1d(8), nn.Tanh(), nn.Dropout(0.3), nn.Linear(8, 6)),
    nn.Sequential(nn.Unflatten(1, (1, 8, 8)), nn.Conv2d(1, 8, 3, padding=1), nn.Flatten()),
    nn.LayerNorm(3, eps=1e-3).double(),
    nn.CrossEntropyLoss(label_smoothing=0.1, reduction="sum"),
]


@pytest.mark.parametrize("module", MODULES, ids=lambda module: type(module).__name__)
def test_a_module_is_its_constructor(module: nn.Module) -> None:
    before = torch.get_rng_state()
    text = module_text(module)
    assert torch.equal(torch.get_rng_state(), before), "writing it down draws no number"
    made = eval(text, {"torch": torch})
    assert repr(made) == repr(module)
    own, other = module.state_dict(), made.state_dict()
    assert [(n, v.shape, v.dtype) for n, v in own.items()] == [
        (n, v.shape, v.dtype) for n, v in other.items()
    ]


def test_a_module_that_its_attributes_do_not_tell_has_no_constructor() -> None:
    class Own(nn.Module):
        pass

    assert not module_text(Own())
    assert not module_text(nn.Sequential(Own()))
    assert not module_text(nn.TransformerEncoderLayer(4, 2))


def test_a_seed_stands_for_numbers_only_where_it_gives_them() -> None:
    torch.manual_seed(5)
    model = nn.Sequential(nn.Linear(3, 4), nn.Linear(4, 2)).double()
    build = seeded(model, 5)
    assert build is not None
    torch.manual_seed(5)
    again = build()
    assert all(
        torch.equal(a, b) for a, b in zip(again.parameters(), model.parameters(), strict=True)
    )
    assert seeded(model, 6) is None
    torch.rand(())
    assert seeded(model, 5) is None, "what is drawn afterwards would be other numbers"


def _double(value: Any) -> Any:
    return 2 * value


def _twice(function: Callable[[Any], Any]) -> Callable[[Any], Any]:
    def applied(value: Any) -> Any:
        """Of no interest."""
        return function(_double(value))

    return applied


class Counted(Dataset):  # type: ignore[type-arg]
    """Rows that know how often they were read."""

    def __init__(self, rows: list[float]) -> None:
        self.rows = rows
        self.read = 0

    def __len__(self) -> int:
        return len(self.rows)

    def __getitem__(self, index: int) -> float:
        self.read += 1
        return _double(self.rows[index])


class Pair:
    def __init__(self, a: Any, b: Any) -> None:
        self.a = a
        self.b = b

    def total(self) -> Any:
        return self.a + self.b


def written(thing: object) -> Any:
    """The thing made by its text alone, with torch and nothing else."""
    names: dict[str, Any] = {"torch": torch}
    numbers = itertools.count()

    def text_of(part: object) -> str:
        if isinstance(part, torch.Tensor):
            name = f"t{next(numbers)}"
            names[name] = part
            return name
        if is_plain(part):
            return literal(part)
        if type(part) in (list, tuple):
            return f"[{', '.join(map(text_of, part))}]"
        if isinstance(part, dict):
            return "{" + ", ".join(f"{k!r}: {text_of(v)}" for k, v in part.items()) + "}"
        made: Made = described(part)
        assert not made.reason, made.reason
        for source in dict(made.sources).values():
            exec(source, names)
        return made.text.format(*map(text_of, made.args))

    return eval(text_of(thing), names)


def test_functions_are_written_by_their_text() -> None:
    shift = 3
    assert written(_double)(4) == 8
    assert written(lambda value: value + 1)(4) == 5
    assert written(lambda value: value + shift)(4) == 7
    assert written(_twice(lambda value: value - 1))(4) == 7
    assert written(functools.partial(_double, value=2))() == 4
    assert written(torch.nn.functional.mse_loss) is torch.nn.functional.mse_loss


def test_objects_are_written_by_their_class_and_what_they_hold() -> None:
    rows = written(Counted([1.0, 2.0]))
    assert (len(rows), rows[1], rows.read) == (2, 4.0, 1)
    assert described(Pair(1, 2)).text == "Pair({}, {})"
    assert written(Pair(torch.ones(2), 1)).total().tolist() == [2.0, 2.0]
    assert written(Pair(2, 5).total)() == 7


def test_what_is_too_long_or_holds_itself_has_a_reason() -> None:
    from dlcheck.checks.cross_validation.recorder import Log, Recorder

    assert "more than" in described(Recorder(Log(torch.ones(2).numpy()))).reason
    assert described(object()).reason == "it is given a builtins.object"


def test_loaders_optimizers_and_schedules_are_written_with_their_options() -> None:
    x = torch.arange(12.0).reshape(6, 2)
    loader = DataLoader(TensorDataset(x), batch_size=4, drop_last=True, collate_fn=len)
    again = written(DataLoader(TensorDataset(x), batch_size=4, sampler=[3, 1, 0, 2, 5, 4]))
    assert torch.equal(next(iter(again))[0], x[[3, 1, 0, 2]])
    assert described(loader).text.startswith("torch.utils.data.DataLoader({}, batch_size=4")
    shuffled = written(
        DataLoader(
            TensorDataset(x), batch_size=6, shuffle=True, generator=torch.Generator().manual_seed(3)
        )
    )
    (rows,) = next(iter(shuffled))
    assert sorted(rows[:, 0].tolist()) == x[:, 0].tolist()
    a, b = nn.Parameter(torch.ones(2)), nn.Parameter(torch.ones(1))
    groups = [{"params": [a]}, {"params": [b], "lr": 0.5}]
    optimizer = torch.optim.SGD(groups, lr=0.1, momentum=0.9)
    made = written(optimizer)
    assert [g["lr"] for g in made.param_groups] == [0.1, 0.5]
    assert made.param_groups[1]["params"][0] is b
    assert made.defaults["momentum"] == 0.9
    rates = torch.optim.lr_scheduler.StepLR(torch.optim.SGD([a], lr=1.0), 2, gamma=0.5)
    assert written(rates).gamma == 0.5
