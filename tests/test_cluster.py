"""Sweeps by Ray give the values of a run in one process, also when machines are lost."""

from __future__ import annotations

import json
import re
import shutil
import socket
import sys
import tempfile
import threading
import time
from dataclasses import replace
from pathlib import Path

import fake_experiment
import numpy as np
import psutil
import pytest

from experiments import cli, cluster, pruning, records, registry, runner, work
from experiments.cluster import Cluster


def plan(**config) -> runner.Plan:
    return runner.Plan(registry.load(fake_experiment.ENTRY), fake_experiment.Config(**config))


def same(one: dict, other: dict) -> bool:
    """Bit for bit, names, types and shapes included."""
    if one.keys() != other.keys():
        return False
    for name, value in one.items():
        if isinstance(value, np.ndarray):
            same_kind = value.dtype == other[name].dtype and value.shape == other[name].shape
            if not same_kind or value.tobytes() != other[name].tobytes():
                return False
        elif value != other[name]:
            return False
    return True


@pytest.fixture(scope="module")
def machines(tmp_path_factory):
    """A Ray of two machines with one core each, on loopback: itself, the second one, and the log of the parts begun."""
    # The path of a socket may have 107 characters: pytest's folders are too long.
    folder = tempfile.mkdtemp(prefix="ra3-", dir="/tmp")
    log = tmp_path_factory.mktemp("machines") / "log"
    log.touch()
    for_ray = {"RAY_AUTH_MODE": "disabled", "RAY_USAGE_STATS_ENABLED": "0", "RAY_TMPDIR": folder}
    for_parts = {
        "PYTHONPATH": str(Path(__file__).parent),
        fake_experiment.LOG: str(log),
        fake_experiment.SLOW: "0.5",
        fake_experiment.FAIL: "x",
    }
    with pytest.MonkeyPatch.context() as patch:
        for name, value in for_ray.items():
            patch.setenv(name, value)
        ray = pytest.importorskip("ray")
        from ray.cluster_utils import Cluster as Machines

        shared = {"num_cpus": 1, "include_dashboard": False, "object_store_memory": 80 * 2**20}
        shared["temp_dir"] = f"{folder}/ray"
        quick = {"health_check_initial_delay_ms": 0, "health_check_period_ms": 500, "health_check_failure_threshold": 3}
        started = Machines()
        try:
            with pytest.MonkeyPatch.context() as theirs:
                for name, value in for_parts.items():
                    theirs.setenv(name, value)
                started.add_node(**shared, _system_config=quick)
                second = started.add_node(**shared)
            yield started, second, log
        finally:
            ray.shutdown()
            started.shutdown()
            shutil.rmtree(folder, ignore_errors=True)


@pytest.mark.slow
def test_a_machine_lost_in_mid_sweep_changes_no_bit(tmp_path, machines):
    ray, second, log = machines
    smoke = runner.Plan(registry.load("pruning"), pruning.Config.preset("smoke"))
    sweep = [*(plan(seed=seed, walks=tuple("abcdef")) for seed in (0, 1)), smoke]
    serial = [runner.compute(one, tmp_path / "serial") for one in sweep]
    raylet = psutil.Process(second.all_processes["raylet"][0].process.pid)
    lost = []

    def kill_the_second():
        while not lost:
            lines = [line.split(":") for line in log.read_text().split()]
            # At its third line or later, as soon as the second machine has begun something.
            if len(lines) > 2 and int(lines[-1][1]) == raylet.pid:
                lost.append(lines[-1][0])
                for process in [*raylet.children(recursive=True), raylet]:
                    process.kill()
                ray.remove_node(second, allow_graceful=False)
            time.sleep(0.02)

    thread = threading.Thread(target=kill_the_second, daemon=True)
    thread.start()
    runs = runner.sweep(sweep, tmp_path / "ray", cluster=Cluster(ray.address))
    thread.join(20)
    assert not thread.is_alive() and lost
    # What the lost machine was at was begun again on the other one, and nothing else.
    begun = [line.split(":")[0] for line in log.read_text().split()]
    assert sorted(begun) == sorted([*"aabbccddeeff", *lost])
    for run, data in zip(runs, serial, strict=True):
        for part, values in data.items():
            assert same(run.read(part)[0], values), part
        manifest = json.loads(run.manifest.read_text())
        assert list(manifest["parts"]) == list(data) and manifest["peak_memory_mib"] > 20
        assert manifest["computed_with"] == [records.provenance()]
        assert not list(run.folder.glob("*.lock"))


@pytest.mark.slow
def test_parts_that_fail_or_are_refused_there(tmp_path, machines, monkeypatch, capsys):
    address = machines[0].address
    with pytest.raises(runner.PartFailed, match=r"^fake x: ZeroDivisionError: walk x fell over$") as failed:
        runner.compute(plan(walks=("a", "x")), tmp_path, cluster=Cluster(address))
    assert isinstance(failed.value.__cause__, ZeroDivisionError)
    run = records.Run(plan().experiment, plan(walks=("a", "x")).config, tmp_path)
    assert run.read("a") and not list(run.folder.glob("*.lock"))
    here = records.provenance()
    odd = here | {"versions": here["versions"] | {"numpy": "0.1"}}
    monkeypatch.setattr(records, "provenance", lambda: odd)
    monkeypatch.chdir(tmp_path)
    capsys.readouterr()
    assert cli.main(["reproduce", "--preset", "smoke", "--address", address], {"fake": fake_experiment.ENTRY}) == 2
    shown = capsys.readouterr()
    assert shown.out == "" and re.search(rf"^ra3: error: .*: numpy is {here['versions']['numpy']} there", shown.err)
    assert shown.err.count("\n") == 1 and "--any-versions" in shown.err


# -- without a cluster


def task(**config) -> work.Task:
    return work.Task(fake_experiment.ENTRY, fake_experiment.Config(**config), "a", Path("unused"), records.provenance())


def test_what_a_machine_does_with_a_part():
    digest = records.source_digest(*cluster.SOURCE)
    serial = work.computed(task(), lambda _: None)[0]
    values, about = cluster._compute(task(), digest, False)
    assert same(values, serial) and about["computed_with"] == records.provenance()
    # The source is the sender's; versions are those of where it ran.
    sent = records.provenance()
    far = replace(task(), provenance=sent | {"commit": "f" * 40, "versions": sent["versions"] | {"scipy": "0"}})
    with pytest.raises(cluster.NotTheSame, match=f"scipy is {sent['versions']['scipy']} there and 0 here"):
        cluster._compute(far, digest, False)
    values, about = cluster._compute(far, digest, True)
    assert same(values, serial) and about["computed_with"] == sent | {"commit": "f" * 40}
    with pytest.raises(cluster.NotTheSame, match="the source is"):
        cluster._compute(task(), "other code", False)
    with pytest.raises(cluster.NotTheSame, match="the kind of machine is"):
        cluster._compute(replace(task(), provenance=sent | {"machine": "Plan9 vax"}), digest, False)


@pytest.mark.parametrize("address", ["", "here", "host", "host:port", "http://host:1", "ray://host", ":1", "a b:1"])
def test_addresses_of_no_known_form(address):
    with pytest.raises(ValueError, match=r"^address: local, auto, HOST:PORT or ray://HOST:PORT, got"):
        Cluster(address)


def test_nobody_answers(tmp_path):
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        address = f"127.0.0.1:{taken.getsockname()[1]}"
        for one in (address, f"ray://{address}"):
            with pytest.raises(cluster.Unreachable, match=f"^address: no Ray at {one} .*refused"):
                runner.compute(plan(), tmp_path, cluster=Cluster(one))
    assert not list(tmp_path.rglob("*.lock"))


def test_ray_is_not_installed(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setitem(sys.modules, "ray", None)
    assert cli.main(["reproduce", "--preset", "smoke", "--address", "local"], {"fake": fake_experiment.ENTRY}) == 2
    assert capsys.readouterr().err == "ra3: error: --address: Ray is not installed; pip install -e '.[cluster]'\n"


def test_nothing_to_compute_needs_no_ray(tmp_path, monkeypatch):
    runner.compute(plan(), tmp_path)
    monkeypatch.setitem(sys.modules, "ray", None)
    assert list(runner.compute(plan(), tmp_path, cluster=Cluster("local"))) == ["a", "b", "c"]
    assert runner.compute(plan(seed=1), tmp_path)  # nor do the processes of this machine


def test_only_the_source_travels():
    left_out = set(cluster._environment()["excludes"])
    assert {"/tests", "/paper_figs", "/.git"} <= left_out
    assert not left_out & {f"/{name}" for name in cluster.SOURCE}
