"""Sweeps by Ray give the values of a run in one process, also when machines are lost."""

from __future__ import annotations

import builtins
import contextlib
import os
import shutil
import signal
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

from experiments import cluster, convergence, processes, records, registry, runner, work
from experiments.cluster import Cluster
from ra3sim import _store


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


@contextlib.contextmanager
def two_machines():
    """A Ray of two machines with one core each, on loopback; gives it, and the process number of the second one."""
    # The path of a socket may have 107 characters: pytest's folders are too long.
    folder = tempfile.mkdtemp(prefix="ra3-", dir="/tmp")
    with pytest.MonkeyPatch.context() as patch:
        for name, value in {
            "RAY_AUTH_MODE": "disabled",
            "RAY_USAGE_STATS_ENABLED": "0",
            "RAY_TMPDIR": folder,
            "PYTHONPATH": str(Path(__file__).parent),
        }.items():
            patch.setenv(name, value)
        ray = pytest.importorskip("ray")
        from ray.cluster_utils import Cluster as Machines

        shared = {"num_cpus": 1, "include_dashboard": False, "object_store_memory": 80 * 2**20, "temp_dir": f"{folder}/ray"}
        quick = {"health_check_initial_delay_ms": 0, "health_check_period_ms": 500, "health_check_failure_threshold": 3}
        machines = Machines(True, head_node_args={**shared, "_system_config": quick})
        try:
            yield machines, machines.add_node(**shared)
        finally:
            ray.shutdown()
            machines.shutdown()
            shutil.rmtree(folder, ignore_errors=True)


@pytest.mark.slow
def test_a_machine_lost_in_mid_sweep_changes_no_bit(tmp_path, monkeypatch):
    smoke = runner.Plan(registry.load("convergence"), convergence.Config.preset("smoke"))
    sweep = [plan(seed=seed, walks=tuple("abcdef")) for seed in (0, 1)]
    serial = [runner.compute(one, tmp_path / "serial") for one in (*sweep, smoke)]
    log = tmp_path / "log"
    log.touch()
    monkeypatch.setenv(fake_experiment.LOG, str(log))
    monkeypatch.setenv(fake_experiment.SLOW, "0.5")
    lost = []
    with two_machines() as (machines, second):
        raylet = psutil.Process(second.all_processes["raylet"][0].process.pid)

        def kill_the_second():
            while not lost:
                lines = [line.split(":") for line in log.read_text().split()]
                # At its third line or later, as soon as the second machine has begun something.
                if len(lines) > 2 and int(lines[-1][1]) == raylet.pid:
                    lost.append(lines[-1][0])
                    for process in [*raylet.children(recursive=True), raylet]:
                        process.kill()
                    machines.remove_node(second, allow_graceful=False)
                time.sleep(0.02)

        thread = threading.Thread(target=kill_the_second, daemon=True)
        thread.start()
        on = Cluster(machines.address)
        runs = runner.sweep([*sweep, smoke], tmp_path / "ray", cluster=on)
        thread.join(20)
    assert not thread.is_alive() and lost
    # What the lost machine was at was begun again on the other one, and nothing else.
    begun = [line.split(":")[0] for line in log.read_text().split()]
    assert sorted(begun) == sorted([*"aabbccddeeff", *lost])
    for run, data in zip(runs, serial, strict=True):
        for part, values in data.items():
            assert same(run.read(part)[0], values), part
        manifest = _store.json.loads(run.manifest.read_text())
        assert list(manifest["parts"]) == list(data) and manifest["peak_memory_mib"] > 20
        assert manifest["computed_with"] == [records.provenance()]
        assert not list(run.folder.glob("*.lock"))
