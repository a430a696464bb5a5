"""Parts on many machines, by Ray: every part is a task that any of them may compute; this process alone writes.

A cluster needs, on every machine, the same Python and the packages of ``requirements.lock``, Ray among them. The source
of this project need not be there: it travels with the job. No shared file system is needed: values come back over the
network. A task whose machine is lost is computed again on another one, with the same seed, so that the values are those
of a run in one process, bit for bit on machines of one kind. What `llm.models` keeps in a cache (base models of
**midtrain** and **rlvr**) every machine makes for itself; a pretrained model (**smollm2**) must be on each of them.

This process must itself run on a machine of the cluster, or go through Ray's client (``ray://``).
"""

from __future__ import annotations

import contextlib
import logging
import os
import re
import shlex
import shutil
import signal
import socket
import sys
import tempfile
import threading
import time
import warnings
from collections import deque
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any

from experiments import records
from experiments.locks import Lock
from experiments.processes import POLL_SECONDS
from experiments.progress import Ticker
from experiments.work import PartFailed, Task, computed

SOURCE = ("experiments", "llm", "ra3sim", "theory")
# So often a part is begun again whose machine, or process, was lost.
RETRIES = 3
_CONNECT_SECONDS = 10
_STORE_BYTES = 100 * 2**20
_ONE_THREAD = {f"{name}_NUM_THREADS": "1" for name in ("NUMBA", "OPENBLAS", "MKL", "OMP")}


class Unreachable(ValueError):
    """There is no Ray to compute on; the message is one line that says what to do."""


class NotTheSame(RuntimeError):
    """A machine of the cluster has other versions than this process; the message is one line that says what to do."""


@dataclass(frozen=True)
class Cluster:
    """Where to compute.

    Args:
        address: 'local': a Ray on this machine, started for the purpose; 'auto': the cluster that this machine is part
            of; 'HOST:PORT': as 'auto', if there are several; 'ray://HOST:PORT': through Ray's client.
        jobs: parts at a time; with 'local' also the number of processes. None: as many as there are cores, and, but
            with 'local', as many again that wait, so that a cluster can grow.
        any_versions: compute also where the versions differ from those of this process.

    Raises:
        ValueError: the address is of no such form.
    """

    address: str
    jobs: int | None = None
    any_versions: bool = False

    def __post_init__(self) -> None:
        if self.address not in ("local", "auto") and not re.fullmatch(r"(ray://)?[^/\s]+:[0-9]+", self.address):
            raise ValueError(f"address: local, auto, HOST:PORT or ray://HOST:PORT, got {self.address!r}")

    def compute(self, tasks: list[Task], ticker: Ticker) -> Iterator[Task]:
        """Compute the tasks there and store them here; yields each one when it is stored.

        Raises:
            Unreachable: Ray is not installed, or there is no such cluster.
            NotTheSame: versions differ, and ``any_versions`` is not set.
            PartFailed: a part raised, or its machine was lost too often; finished parts are kept.
        """
        with _connected(self) as ray:
            work = _Work(ray, self, deque(tasks))
            try:
                yield from work.go(ticker)
            finally:
                work.close()


@dataclass
class _Work:
    """Tasks that wait, and those that are with Ray: by their reference, each with its lock."""

    ray: Any
    cluster: Cluster
    waiting: deque[Task]
    running: dict[Any, tuple[Task, Lock]] = field(default_factory=dict)
    failed: Exception | None = None

    def go(self, ticker: Ticker) -> Iterator[Task]:
        options = {"num_cpus": 1, "max_retries": RETRIES, "retry_exceptions": False}
        remote = self.ray.remote(**options)(_compute)
        done = 0
        while self.running or (self.waiting and not self.failed):
            for task in self._start(remote):
                done += 1
                yield task
            for task in self._finished():
                done += 1
                ticker.update(done, task.label)
                yield task
            label = next((task.label for task, _ in self.running.values()), None)
            if label or self.waiting:
                ticker.update(done, label or f"{self.waiting[0].label} (another process is at it)")
        if self.failed:
            raise self.failed

    def close(self) -> None:
        for reference, (_, lock) in self.running.items():
            with contextlib.suppress(Exception):
                self.ray.cancel(reference, force=True)
            lock.release()
        self.running.clear()

    def _start(self, remote: Any) -> list[Task]:
        """Give Ray as many tasks as it may have; those that another command stored meanwhile."""
        stored: list[Task] = []
        room = self.cluster.jobs or 2 * max(1, int(self.ray.cluster_resources().get("CPU", 1)))
        for _ in range(0 if self.failed else len(self.waiting)):
            if len(self.running) >= room:
                break
            task = self.waiting.popleft()
            lock = task.run.lock(task.part)
            if not lock.take():
                self.waiting.append(task)
            elif task.fresh or not task.is_stored():
                self.running[remote.remote(task, _digest(), self.cluster.any_versions)] = (task, lock)
            else:
                lock.release()
                stored.append(task)
        return stored

    def _finished(self) -> Iterator[Task]:
        if not self.running:
            time.sleep(POLL_SECONDS)
            return
        ready, _ = self.ray.wait(list(self.running), num_returns=1, timeout=POLL_SECONDS)
        for reference in ready:
            task, lock = self.running.pop(reference)
            try:
                values, about = self.ray.get(reference)
                task.run.write(task.part, values, about)
            # What is with Ray already is let finish and is stored; what waits is given up.
            except Exception as error:
                self.failed = self.failed or self._failure(task, error)
            else:
                yield task
            finally:
                lock.release()

    def _failure(self, task: Task, error: Exception) -> Exception:
        cause = getattr(error, "cause", None) if isinstance(error, self.ray.exceptions.RayTaskError) else None
        if isinstance(cause, NotTheSame):
            return NotTheSame(str(cause))
        if isinstance(error, self.ray.exceptions.RayError) and cause is None:
            what = f"{type(error).__name__}: {_first_line(error)}"
            failed = PartFailed(f"{task.label}: lost by Ray, {RETRIES} retries included ({what})")
        else:
            failed = PartFailed(task.failure(cause or error))
        failed.__cause__ = cause or error
        return failed


def _compute(task: Task, digest: str, any_versions: bool) -> tuple[dict[str, Any], dict[str, Any]]:
    """On a machine of the cluster: the values of a part, and about them, with the versions that are here."""
    here = records.provenance()
    if not any_versions:
        for what, there, own in _differences(task.provenance, here, digest):
            raise NotTheSame(
                f"{socket.gethostname()}: {what} is {own} there and {there} here, so the values could differ; install "
                "requirements.lock there, or allow it with --any-versions"
            )
    values, about = computed(task, lambda _: None)
    # The source came with the job: it is of the commit that the sender's is of.
    same = {name: task.provenance[name] for name in ("commit", "dirty")}
    return values, {**about, "computed_with": {**here, **same}}


def _differences(sent: dict[str, Any], here: dict[str, Any], digest: str) -> Iterator[tuple[str, Any, Any]]:
    """Names with the sender's value and that of here, of what the values depend on."""
    for name, version in sent["versions"].items():
        # This project itself need not be installed where its source is sent.
        if name != "ra3sim" and here["versions"].get(name) != version:
            yield name, version, here["versions"].get(name)
    if here["machine"] != sent["machine"]:
        yield "the kind of machine", sent["machine"], here["machine"]
    if _digest() != digest:
        yield "the source", digest, _digest()


def _digest() -> str:
    return records.source_digest(*SOURCE)


@contextlib.contextmanager
def _connected(cluster: Cluster) -> Iterator[Any]:
    """Ray, connected; the connection, and a Ray that was started for it, end with the block."""
    os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")
    with contextlib.ExitStack() as stack:
        options: dict[str, Any] = {"log_to_driver": False, "logging_level": logging.ERROR}
        if cluster.address == "local":
            os.environ.setdefault("RAY_AUTH_MODE", "disabled")
            options |= {"num_cpus": cluster.jobs, "num_gpus": 0, "include_dashboard": False}
            options |= {"object_store_memory": _STORE_BYTES, "_temp_dir": stack.enter_context(_short_folder())}
        stack.enter_context(_kept_handler())
        # Ray warns of its own plans; nothing that a user of this project could heed.
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            try:
                import ray
            except ModuleNotFoundError:
                raise Unreachable("address: Ray is not installed; pip install -e '.[cluster]'") from None
            if ray.is_initialized():
                raise Unreachable("address: this process is connected to a Ray already; ray.shutdown() first")
            _check_reachable(cluster.address)
            try:
                ray.init(address=cluster.address, runtime_env=_environment(), **options)
            except (ConnectionError, RuntimeError, ValueError, OSError) as error:
                raise Unreachable(
                    f"address: no Ray at {cluster.address} ({_first_line(error)}); `ray start --head` makes one"
                ) from error
        try:
            yield ray
        finally:
            ray.shutdown()


def _check_reachable(address: str) -> None:
    """Ray itself would try for minutes."""
    host, _, port = address.removeprefix("ray://").rpartition(":")
    if host:
        try:
            socket.create_connection((host.strip("[]"), int(port)), _CONNECT_SECONDS).close()
        except (OSError, OverflowError) as error:
            raise Unreachable(f"address: no Ray at {address} ({error}); `ray start --head` makes one") from None


def _first_line(error: Exception) -> str:
    """Ray's errors are pages of advice; what happened stands in the first line."""
    return next(iter(str(error).strip().splitlines()), type(error).__name__)


def _environment() -> dict[str, Any]:
    """What Ray sets up for a task: the source as it is here, one thread."""
    # Without a slash in front, a name would be left out in every folder.
    others = [f"/{one.name}" for one in records.ROOT.iterdir() if one.name not in SOURCE]
    found = {"working_dir": str(records.ROOT), "excludes": [*others, "__pycache__"], "env_vars": _ONE_THREAD}
    if any(letter.isspace() for letter in sys.executable):
        # Ray puts the path of the interpreter into a shell's command as it is. (The same path then on every machine.)
        found["py_executable"] = shlex.quote(sys.executable)
    return found


@contextlib.contextmanager
def _short_folder() -> Iterator[str]:
    """A temporary folder for Ray: the path of a socket may have 107 characters, of which it needs most itself."""
    usual = tempfile.gettempdir()
    folder = tempfile.mkdtemp(prefix="ra3-", dir=usual if len(usual) <= 20 else "/tmp")
    try:
        yield folder
    finally:
        shutil.rmtree(folder, ignore_errors=True)


@contextlib.contextmanager
def _kept_handler() -> Iterator[None]:
    """Ray answers SIGTERM in its own way, and does not give it back."""
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    before = signal.getsignal(signal.SIGTERM)
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, before if before is not None else signal.SIG_DFL)


__all__ = ["SOURCE", "Cluster", "NotTheSame", "Unreachable"]
