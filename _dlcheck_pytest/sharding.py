"""`--shard k/N`: the items of other shards are deselected."""

from __future__ import annotations

from typing import Any

import pytest

from _dlcheck_pytest.state import STATE, dest_of, state_of
from _dlcheck_pytest.trials import is_benchmark, is_recorded


@pytest.hookimpl(trylast=True)
def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    """After -k, -m and all else that selects: a shard is a part of what is left."""
    if STATE not in config.stash and not config.getoption(dest_of("--shard")):
        return
    state = state_of(config)
    if state.shard is None:
        return
    from dlcheck.shards import cut

    units: dict[str, list[str]] = {}
    for item in items:
        units.setdefault(_unit_of(item), []).append(item.nodeid)
    found = cut(units, state.shard, state.times)
    own = [item for item in items if item.nodeid in found.own]
    others = [item for item in items if item.nodeid not in found.own]
    state.cut = {
        "number": state.shard.number,
        "of": state.shard.of,
        "trials": sum(map(is_recorded, own)),
        "whole": sum(map(is_recorded, items)),
        "digest": found.digest,
    }
    items[:] = own
    if others:
        config.hook.pytest_deselected(items=others)
    if hasattr(config, "workeroutput"):
        config.workeroutput["dlcheck_cut"] = state.cut


def _unit_of(item: pytest.Item) -> str:
    """What stays together: the points of a benchmark, whose times are compared."""
    if is_benchmark(item):
        return item.nodeid.partition("[")[0]
    return item.nodeid


@pytest.hookimpl(optionalhook=True)
def pytest_testnodedown(node: Any) -> None:
    """What a worker of xdist says of the selection; its controller collects nothing."""
    told = getattr(node, "workeroutput", {})
    if sent := told.get("dlcheck_cut"):
        state_of(node.config).cut = sent
    if deselected := told.get("dlcheck_deselected"):
        state_of(node.config).deselected = deselected
