"""Workers on one machine: how many, which GPU each, and benchmarks that nobody disturbs."""

from __future__ import annotations

import json
import multiprocessing
import os
import stat
from collections.abc import Callable
from multiprocessing.synchronize import Event
from pathlib import Path

import pytest
from sessions import run_pytest
from test_pytest_plugin import GOOD_AND_BAD, SUBJECTS

from _dlcheck_pytest.lanes import lanes_in
from dlcheck.machine import VARIABLES, taken_gpus, visible_gpus

SMI = """#!/bin/sh
if [ "$1" = -L ]; then cat "$0.list"; else cat "$0.memory"; fi
"""
LIST = """\
GPU 0: NVIDIA A100 (UUID: GPU-aaaa)
  MIG 3g.20gb     Device  0: (UUID: MIG-1111)
  MIG 3g.20gb     Device  1: (UUID: MIG-2222)
GPU 1: NVIDIA A100 (UUID: GPU-bbbb)
"""
MEMORY = """\
0, GPU-aaaa, NVIDIA A100, 3, 40960
1, GPU-bbbb, NVIDIA A100, 30720, 40960
2, GPU-cccc, NVIDIA GB10, [N/A], [N/A]
"""
CONFTEST = """
import json, os, pathlib, sys
import pytest

names = ("PYTEST_XDIST_WORKER", "CUDA_VISIBLE_DEVICES", "HIP_VISIBLE_DEVICES", "OMP_NUM_THREADS")
told = {name: os.environ.get(name) for name in names} | {"torch": "torch" in sys.modules}
if told["PYTEST_XDIST_WORKER"]:
    pathlib.Path(f"{told['PYTEST_XDIST_WORKER']}.json").write_text(json.dumps(told))

def pytest_collection_modifyitems(items):
    for item in items:
        item.add_marker(pytest.mark.skip(reason="only the workers are looked at"))
"""


@pytest.fixture(autouse=True)
def _nothing_visible(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    for name in (*VARIABLES, "PYTEST_ADDOPTS", "GITHUB_STEP_SUMMARY", "OMP_NUM_THREADS"):
        monkeypatch.delenv(name, raising=False)


@pytest.fixture
def driver(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Callable[..., None]:
    """Put an nvidia-smi on the path that answers so."""

    def install(listed: str, memory: str = "") -> None:
        program = tmp_path / "bin" / "nvidia-smi"
        program.parent.mkdir()
        program.write_text(SMI)
        program.chmod(program.stat().st_mode | stat.S_IXUSR)
        program.with_name("nvidia-smi.list").write_text(listed)
        program.with_name("nvidia-smi.memory").write_text(memory)
        monkeypatch.setenv("PATH", f"{program.parent}{os.pathsep}{os.environ['PATH']}")

    return install


@pytest.mark.parametrize(
    ("listed", "entries"),
    [
        ("0,1", ("0", "1")),
        ("3, 1", ("3", "1")),
        ("GPU-8932f937,MIG-GPU-aa/1/0", ("GPU-8932f937", "MIG-GPU-aa/1/0")),
        ("0,-1,1", ("0",)),  # CUDA reads no further
        ("1,1", ("1",)),
        ("", ()),
        ("NoDevFiles", ()),
    ],
)
@pytest.mark.parametrize("variable", VARIABLES)
def test_reads_the_callers_list(
    variable: str, listed: str, entries: tuple[str, ...], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv(variable, listed)
    found = visible_gpus()
    assert (found.variable, found.entries) == (variable, entries)
    for k in range(4) if entries else ():
        assert found.of_worker(k) == {variable: entries[k % len(entries)]}


def test_asks_the_driver_where_there_is_no_list(driver: Callable[..., None]) -> None:
    driver(LIST)
    assert visible_gpus().entries == ("MIG-1111", "MIG-2222", "GPU-bbbb")


def test_tells_of_gpus_that_others_use(driver: Callable[..., None]) -> None:
    driver(LIST, MEMORY)
    (told,) = taken_gpus()
    assert told.startswith("GPU 1 (NVIDIA A100) was in use at the start: 30.0 of 40.0 GiB taken")
    assert list(taken_gpus(["0"])) == []
    assert list(taken_gpus(["GPU-b"])) == [told]


@pytest.fixture
def suite(pytester: pytest.Pytester) -> pytest.Pytester:
    pytester.makepyfile(subjects_of_the_test=SUBJECTS)
    pytester.makefile(".toml", plugin=GOOD_AND_BAD)
    pytester.makeconftest(CONFTEST)
    return pytester


def workers(suite: pytest.Pytester) -> list[dict[str, object]]:
    return [json.loads(path.read_text()) for path in sorted(suite.path.glob("gw*.json"))]


def test_auto_is_a_worker_for_each_gpu_pinned_before_torch_loads(
    suite: pytest.Pytester, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "GPU-8932f937,MIG-bb,7")
    run_pytest(suite, "plugin.toml", "-n", "auto").assert_outcomes(skipped=2)
    found = workers(suite)
    assert [each["CUDA_VISIBLE_DEVICES"] for each in found] == ["GPU-8932f937", "MIG-bb", "7"]
    assert not any(each["torch"] for each in found)
    threads = max(1, len(os.sched_getaffinity(0)) // 3)
    assert {each["OMP_NUM_THREADS"] for each in found} == {str(threads)}


def test_more_workers_than_gpus_wrap(
    suite: pytest.Pytester, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("HIP_VISIBLE_DEVICES", "4,2")
    run_pytest(suite, "plugin.toml", "-n", "3").assert_outcomes(skipped=2)
    assert [each["HIP_VISIBLE_DEVICES"] for each in workers(suite)] == ["4", "2", "4"]


def test_workers_keep_all_gpus_where_the_run_is_not_of_suites_alone(
    suite: pytest.Pytester, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Other tests may use two GPUs in one process."""
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "0,1")
    suite.makepyfile(test_other="def test_other(): pass")
    run_pytest(suite, "plugin.toml", "test_other.py", "-n", "2").assert_outcomes(skipped=3)
    assert [each["CUDA_VISIBLE_DEVICES"] for each in workers(suite)] == ["0,1"] * 2


def _enter(folder: str, device: str, alone: bool, entered: Event) -> None:  # noqa: FBT001
    lanes = lanes_in(folder)
    assert lanes is not None
    with lanes.held(device, alone=alone):
        entered.set()


def test_whoever_is_alone_waits_for_the_others_and_they_for_it(tmp_path: Path) -> None:
    lanes = lanes_in(str(tmp_path))
    assert lanes is not None
    here = multiprocessing.get_context("fork")
    timed, later, elsewhere = (here.Event() for _ in range(3))
    entering = [("gpu 0", True, timed), ("gpu 0", False, later), ("gpu 1", True, elsewhere)]
    others = [here.Process(target=_enter, args=(str(tmp_path), *each)) for each in entering]
    with lanes.held("gpu 0", alone=False):
        others[0].start()
        assert not timed.wait(0.2)
        others[1].start()
        assert not later.wait(0.2)  # a benchmark is not overtaken for ever
        others[2].start()
        assert elsewhere.wait(20)  # another GPU is another lane
    assert timed.wait(20)
    assert later.wait(20)
    for each in others:
        each.join()


def test_no_worker_does_anything_while_another_times(pytester: pytest.Pytester) -> None:
    pytester.makepyfile(
        test_timed="""
        import pathlib, time
        import pytest
        from dlcheck.model import BenchmarkPlan, BenchmarkTrial, Subject

        TRIALS = [
            BenchmarkTrial(
                suite="test_timed.py", plan=BenchmarkPlan(name="passes", target=len),
                subject=Subject(name="passes", target=len, kind="op"),
                device="cpu", dtype="float32", sizes={"n": k},
            )
            for k in range(3)
        ]

        def passes(name):
            started = time.monotonic()
            time.sleep(0.05)
            pathlib.Path(f"{name}.span").write_text(f"{started} {time.monotonic()}")

        @pytest.mark.parametrize("trial", TRIALS)
        def test_benchmark(trial):
            passes(f"alone-{trial.sizes['n']}")

        @pytest.mark.parametrize("k", range(12))
        def test_other(k):
            passes(f"other-{k}")
        """
    )
    run_pytest(pytester, "-n", "3", "-p", "no:benchmark").assert_outcomes(passed=15)
    spans = {
        path.stem: tuple(map(float, path.read_text().split()))
        for path in pytester.path.glob("*.span")
    }
    assert len(spans) == 15
    for name, (start, end) in spans.items():
        if name.startswith("alone"):
            met = {n for n, (s, e) in spans.items() if n != name and s < end and e > start}
            assert not met
