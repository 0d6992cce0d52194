"""A run on a cluster of Ray is the run that it would have been here, whatever is lost."""

from __future__ import annotations

import http.server
import os
import socket
import threading
import time
import warnings
from collections.abc import Iterator
from types import SimpleNamespace
from typing import Any

import pytest
from sessions import run_pytest
from test_pytest_plugin import GOOD_AND_BAD, SUBJECTS
from test_shards import records, substance

from _dlcheck_pytest import ray_tasks
from _dlcheck_pytest.ray_batches import batches
from _dlcheck_pytest.ray_cluster import refuse_silent, unlike
from dlcheck.cli import main
from dlcheck.errors import UsageError
from dlcheck.model import BenchmarkPlan, BenchmarkTrial, Subject, Trial
from dlcheck.registry import catalogue
from dlcheck.results import read_run

SLOW = """
[[subject]]
name = "slow_{k}"
target = "subjects_of_the_test:slow"
kind = "op"
inputs = {{ x = "float n" }}
checks = ["leaves_inputs_unchanged"]
matrix = {{ dtype = ["float64", "float32"] }}
"""
SLOWLY = """
import ctypes, os, time

def slow(x):
    if x.shape != slow.__dict__.get("last"):
        time.sleep(0.02)
    with open("{log}", "a") as file:
        file.write(f"{{os.getppid()}}\\n")
    return x * 2

def dies(x):
    ctypes.string_at(0)
"""


@pytest.fixture(autouse=True)
def _plain(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("GITHUB_STEP_SUMMARY", "PYTEST_ADDOPTS", "RAY_ADDRESS"):
        monkeypatch.delenv(name, raising=False)


@pytest.fixture
def suite(pytester: pytest.Pytester) -> pytest.Pytester:
    log = pytester.path / "called.log"
    pytester.makepyfile(subjects_of_the_test=SUBJECTS + SLOWLY.format(log=log))
    pytester.makefile(".toml", plugin=GOOD_AND_BAD + "".join(SLOW.format(k=k) for k in range(12)))
    return pytester


# --- without a cluster --------------------------------------------------------------------------


def item(node: str, *, device: str = "cpu", timed: bool = False) -> Any:
    subject = Subject(name="a", target="torch:exp", kind="op")
    check = catalogue().check("repeats_exactly")
    trial = Trial(suite="s", subject=subject, check=check, device=device, dtype="float32")
    point = BenchmarkTrial(
        suite="s",
        plan=BenchmarkPlan(name="speed", target="torch:exp"),
        subject=subject,
        device=device,
        dtype="float32",
        sizes={},
    )
    given = {"trial": point if timed else trial}
    return SimpleNamespace(nodeid=node, callspec=SimpleNamespace(params=given))


def test_batches_hold_every_item_once_and_shrink_towards_the_end() -> None:
    items = [item(f"s.toml::a::c[{k}]") for k in range(400)]
    found = batches(items, {}, [{"CPU": 2.0}], with_gpus=False)
    assert [node for batch in found for node in batch.nodes] == [each.nodeid for each in items]
    sizes = [len(batch.nodes) for batch in found]
    assert sizes[0] == 12  # six seconds of half a second each
    assert sizes[-1] == 1
    assert sizes == sorted(sizes, reverse=True)


def test_a_benchmark_takes_a_whole_node_and_its_points_stay_together() -> None:
    items = [item("s.toml::a::c[cpu]"), *(item(f"s.toml::b::speed[{k}]", timed=True) for k in "12")]
    first, second = batches(items, {}, [{"CPU": 4.0}, {"CPU": 8.0}], with_gpus=False)
    assert first.nodes == ("s.toml::b::speed[1]", "s.toml::b::speed[2]")
    assert (first.cpus, second.cpus) == (8, 1)


def test_a_trial_asks_for_the_gpus_that_it_needs_where_there_are_any() -> None:
    items = [item("a", device="cuda"), item("b", device="cuda:1"), item("c")]
    nodes = [{"CPU": 4.0, "GPU": 2.0}]
    with_gpus = batches(items, {}, nodes, with_gpus=True)
    assert {batch.nodes[0]: batch.gpus for batch in with_gpus} == {"a": 1, "b": 2, "c": 0}
    assert not any(batch.gpus for batch in batches(items, {}, nodes, with_gpus=False))


def test_tells_how_a_node_differs() -> None:
    here = {"versions": {"python": "3.11", "ray": "2.60.0", "dlcheck": "0.1.0", "torch": "2.14.1"}}
    there = {"name": "n7", "versions": dict(here["versions"]), "absent": []}
    assert list(unlike(here, there)) == []
    there["versions"]["torch"] = "2.9.0"
    there["versions"]["dlcheck"] = "none"
    there["absent"] = ["mypkg"]
    dlcheck, torch, absent = unlike(here, there)
    assert torch == (
        "node n7: torch is 2.9.0, here it is 2.14.1; give it pip install 'torch==2.14.1'"
    )
    assert "dlcheck is none" in dlcheck
    assert "no module 'mypkg', which a subject needs; install its package there" in absent


def test_an_address_that_does_not_answer_is_told_soon(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("_dlcheck_pytest.ray_cluster._SECONDS", 0.3)
    with socket.socket() as closed:
        closed.bind(("127.0.0.1", 0))
        with pytest.raises(UsageError, match="nothing answers within"):
            refuse_silent(f"127.0.0.1:{closed.getsockname()[1]}")
        closed.listen()
        with pytest.raises(UsageError, match="nothing answers within"):
            refuse_silent(f"127.0.0.1:{closed.getsockname()[1]}")
    with http.server.HTTPServer(("127.0.0.1", 0), http.server.BaseHTTPRequestHandler) as web:
        threading.Thread(target=web.handle_request, daemon=True).start()
        with pytest.raises(UsageError, match=r"no Ray|nothing answers"):
            refuse_silent(f"127.0.0.1:{web.server_address[1]}")
    for address in ("10.0.0.1", "host:port", ":1", "host:99999", "loca"):
        with pytest.raises(UsageError, match="takes local, auto or HOST:PORT"):
            refuse_silent(address)


def test_refuses_what_does_not_go_with_ray(suite: pytest.Pytester) -> None:
    suite.makeconftest("import sys\nsys.modules['ray'] = None\n")
    for options, told in (
        (
            ["--ray", "local", "-n", "2"],
            "*--ray does not go with -n, which has workers of its own*",
        ),
        (["--ray", "local", "--ray-timeout", "soon"], "*--ray-timeout takes seconds*'soon'*"),
        (["--ray", "local"], "*pip install 'dlcheck[[]ray]'*"),
    ):
        result = run_pytest(suite, "plugin.toml", *options)
        assert result.ret == pytest.ExitCode.USAGE_ERROR
        result.stderr.fnmatch_lines([told])


def test_refuses_what_needs_one_machine(capsys: pytest.CaptureFixture[str]) -> None:
    for option in ("--processes=3", "--since=HEAD"):
        assert main(["run", "speed", "--ray", "local", option]) == 4
        assert "does not go with --" in capsys.readouterr().err


def test_a_process_that_is_given_another_gpu_ends(monkeypatch: pytest.MonkeyPatch) -> None:
    """CUDA knows the GPUs of its first call until the process ends."""
    ended: list[object] = []
    timer = SimpleNamespace(start=lambda: ended.append("ends"))
    monkeypatch.setattr("threading.Timer", lambda *given: timer)
    kept = SimpleNamespace(gpus="0", items={})
    monkeypatch.setitem(ray_tasks._SESSIONS, "run", kept)
    job: Any = SimpleNamespace(token="run")
    for gpus, answer in (("0", "refused"), ("", "refused"), ("1", "stale")):
        monkeypatch.setenv("CUDA_VISIBLE_DEVICES", gpus)
        assert list(ray_tasks.run_items(job, ["s.toml::a::c"])) == [answer]
    assert ended == ["ends"]


# --- on a cluster of two nodes ------------------------------------------------------------------


@pytest.fixture(scope="module")
def cluster() -> Iterator[Any]:
    """A head that runs nothing, so that it outlives what happens, and a node."""
    pytest.importorskip("ray", reason="ray is not installed: pip install 'dlcheck[ray]'")
    os.environ["RAY_USAGE_STATS_ENABLED"] = "0"
    memory = {"object_store_memory": 80 * 2**20}
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # Ray's own
        from ray.cluster_utils import Cluster

        head = {"num_cpus": 1, "include_dashboard": False, **memory}
        try:
            made = Cluster(initialize_head=True, head_node_args=head)
        except Exception as error:  # Ray raises no other
            if "timed out during startup" not in str(error):
                raise
            pytest.skip("a node of Ray did not start within its 30 s: this machine is too busy")
        made.memory = memory
        yield made
        made.shutdown()


def on(cluster: Any, suite: pytest.Pytester, *options: str) -> pytest.RunResult:
    return run_pytest(
        suite, "plugin.toml", "--profile", "quick", "--ray", cluster.address, *options
    )


@pytest.mark.nightly
def test_a_node_lost_in_the_middle_loses_and_repeats_nothing(
    cluster: Any, suite: pytest.Pytester
) -> None:
    local = run_pytest(suite, "plugin.toml", "--profile", "quick")
    (here,) = records(suite)
    log = suite.path / "called.log"
    log.unlink()
    doomed = cluster.add_node(num_cpus=1, **cluster.memory)

    def kill() -> None:
        """When both nodes have run something."""
        end = time.monotonic() + 100
        while time.monotonic() < end:
            if log.exists() and len(set(log.read_text().split())) > 1:
                break
            time.sleep(0.02)
        cluster.remove_node(doomed, allow_graceful=False)

    killer = threading.Thread(target=kill)
    killer.start()
    remote = on(cluster, suite)
    killer.join()
    assert remote.ret == local.ret, remote.stdout.str() + remote.stderr.str()
    assert remote.parseoutcomes() == local.parseoutcomes()
    (there,) = set(records(suite)) - {here}
    assert substance(there) == substance(here)
    ids = [outcome.id for outcome in read_run(there).outcomes]
    assert len(ids) == len(set(ids)) == 26
    remote.stdout.fnmatch_lines(["*lost a process or a node of Ray, and ran again*"])


@pytest.mark.nightly
def test_a_trial_that_kills_its_process_is_one_failure(
    cluster: Any, suite: pytest.Pytester
) -> None:
    suite.makefile(".toml", plugin=GOOD_AND_BAD.replace(":bad", ":dies"))
    result = on(cluster, suite)
    result.assert_outcomes(passed=1, failed=1)
    result.stdout.fnmatch_lines(["*the process ended while it ran, 2 times: *"])
    assert list((suite.path / ".dlcheck" / "failures").glob("*.json"))
    (record,) = records(suite)
    assert sorted(o.verdict.value for o in read_run(record).outcomes) == ["failed", "passed"]


@pytest.mark.nightly
def test_a_node_without_the_package_of_a_subject_is_named(
    cluster: Any, suite: pytest.Pytester
) -> None:
    suite.makeconftest(
        "import _dlcheck_pytest.ray_loop as loop\nloop._modules = lambda items: ['no_such_package']"
    )
    result = on(cluster, suite)
    assert result.ret == pytest.ExitCode.USAGE_ERROR
    result.stderr.fnmatch_lines(["*there is no module 'no_such_package', which a subject needs*"])


@pytest.mark.nightly
def test_a_run_that_no_node_can_take_ends(cluster: Any, suite: pytest.Pytester) -> None:
    result = on(cluster, suite, "--device", "cuda", "--require", "cuda", "--ray-timeout", "1")
    assert result.ret == pytest.ExitCode.INTERRUPTED
    result.stdout.fnmatch_lines(["*no node of Ray has 1 CPUs and 1 GPUs*trials were not run*"])
