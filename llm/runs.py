"""The folder of a run: what it was asked for, with what it ran, what it measured, and what it left.

    config.json     the choices; another run is refused here
    versions.json   software and device, one entry for each that worked on the run: with commit, seconds, peak memory
    inputs.json     digests of the programs and of the weights it began with
    metrics.jsonl   one line for each iteration
    thoughts.jsonl  programs with their thoughts, of the last iteration
    state/          what it takes to go on
    tensorboard/    the same numbers for TensorBoard, if asked for
    model/          the trained model, a folder for transformers
    done            there once all is written

It can be killed at any moment: every file is replaced as a whole, and what the state says goes. Of several processes
the main one writes.
"""

from __future__ import annotations

import contextlib
import fcntl
import json
import math
import platform
import shutil
import subprocess
import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import torch
import transformers
from safetensors import SafetensorError

from llm import records
from ra3sim import _memory, _store

# Choices that may change from one start to the next.
FREE = frozenset({"out", "threads", "tensorboard", "jobs", "vllm"})


class RunStopped(RuntimeError):
    """The run can't go on; its last good state is kept. The message is one line that says what to do."""


@dataclass
class RunFolder:
    """The folder of one run; `begin` locks it against other processes until `close`.

    Args:
        folder: it need not exist.
        config: a frozen dataclass.
        free: its fields that may change from one start to the next.
    """

    folder: Path
    config: Any
    free: frozenset[str] = FREE
    _lock: Any = field(default=None, init=False, repr=False)
    _worked: dict[str, Any] | None = field(default=None, init=False, repr=False)
    _since: float = field(default=0.0, init=False, repr=False)

    @property
    def state(self) -> Path:
        return self.folder / "state"

    @property
    def is_done(self) -> bool:
        return (self.folder / "done").is_file()

    def saved(self) -> list[str]:
        """Names of the states that are there."""
        return sorted(one.name for one in self.state.glob("*"))

    def check(self) -> None:
        """Refuse a folder that another run is in.

        Raises:
            ValueError: naming the choice that differs, or what else is there.
        """
        if self.folder.exists() and not self.folder.is_dir():
            raise ValueError(f"out: {self.folder} is a file; give a folder")
        path = self.folder / "config.json"
        if not path.is_file():
            if self.folder.is_dir() and any(not one.name.startswith(".") for one in self.folder.iterdir()):
                raise ValueError(f"out: {self.folder} holds something else than a run; give another folder")
            return
        try:
            stored = json.loads(path.read_text(encoding="utf-8"))
            own = _plain(self.config)
            different = [name for name in own.keys() | stored.keys() if own.get(name) != stored.get(name)]
        except (ValueError, AttributeError) as error:
            raise ValueError(f"out: {path} is damaged ({error}); give another folder") from None
        for name in sorted(set(different) - self.free):
            raise ValueError(
                f"{name}: the run in {self.folder} has {stored.get(name)!r}, this one {own.get(name)!r}; "
                "give another folder for --out"
            )

    def begin(self, device: str, inputs: Mapping[str, str]) -> None:
        """Make the folder, or go on in it.

        Raises:
            ValueError: another process is at work there, or the run began with other programs or weights.
        """
        try:
            self.folder.mkdir(parents=True, exist_ok=True)
            self._lock = open(self.folder / ".lock", "w")
        except OSError as error:
            raise ValueError(f"out: {self.folder} can't be written to ({error.strerror}); give another") from None
        try:
            fcntl.flock(self._lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
            self.check()
            self._check_inputs(inputs)
            self._sweep()
            with writing(self.folder):
                _store.write_text(self.folder / "inputs.json", json.dumps(dict(inputs), indent=2) + "\n")
                _store.write_text(self.folder / "config.json", json.dumps(_plain(self.config), indent=2) + "\n")
                self._since = time.monotonic()
                self._worked = versions(device)
                self._account()
        except BlockingIOError:
            self.close()
            raise ValueError(f"out: another process is at work in {self.folder}; wait for it, or stop it") from None
        except BaseException:
            self.close()
            raise

    def close(self) -> None:
        if self._lock is not None:
            with contextlib.suppress(OSError, ValueError):
                self._account()
            self._worked = None
            self._lock.close()
            self._lock = None

    def metrics(self, history: Sequence[Mapping[str, Any]]) -> None:
        """One line for each iteration, all of them anew."""
        _store.write_text(self.folder / "metrics.jsonl", "".join(json.dumps(_finite(one)) + "\n" for one in history))
        self._account()

    def thoughts(self, found: Sequence[Mapping[str, Any]]) -> None:
        """Programs with their thoughts (`llm.records`), instead of those that were there."""
        _store.write_text(self.folder / "thoughts.jsonl", records.write(found))

    def finish(self, history: Sequence[Mapping[str, Any]]) -> None:
        _store.write_text(self.folder / "done", f"{len(history)} iterations\n")

    def _check_inputs(self, inputs: Mapping[str, str]) -> None:
        path = self.folder / "inputs.json"
        stored = json.loads(path.read_text()) if path.is_file() else inputs
        for name in inputs:
            if stored.get(name) != inputs[name]:
                raise ValueError(
                    f"{name}: not the same as when the run in {self.folder} began; bring it back, or give another "
                    "folder"
                )

    def _account(self) -> None:
        """Say with what the run is worked on, for how long, and with how much memory (of the main process, in MiB).

        What was done since the last iteration when a process was killed is not in it.
        """
        if self._worked is None:
            return
        path = self.folder / "versions.json"
        known = json.loads(path.read_text()) if path.is_file() else []
        entry = next((one for one in known if {**one, **self._worked} == one), None)
        if entry is None:
            entry = dict(self._worked)
            known.append(entry)
        now = time.monotonic()
        entry["seconds"] = round(entry.get("seconds", 0.0) + now - self._since, 3)
        entry["peak_memory_mib"] = max(entry.get("peak_memory_mib", 0.0), _memory.of_process())
        self._since = now
        _store.write_text(path, json.dumps(known, indent=2) + "\n")

    def _sweep(self) -> None:
        """Remove what a killed process left half written."""
        for one in [*self.folder.glob(".*"), *self.state.glob(".*")]:
            if one.name != ".lock":
                shutil.rmtree(one) if one.is_dir() else one.unlink()


@contextlib.contextmanager
def writing(folder: Path, kept: str = "what was there before is kept") -> Iterator[None]:
    """Say in one line what it means if something can't be written.

    Raises:
        RunStopped: instead of the errors of the file system, torch and safetensors.
    """
    try:
        yield
    except (OSError, RuntimeError, SafetensorError) as error:
        free = shutil.disk_usage(folder).free / 2**20 if folder.is_dir() else 0
        raise RunStopped(
            f"{folder}: can't be written to ({' '.join(str(error).split())[:200]}; {free:.0f} MiB free); {kept}. Make "
            "room, and give the same command again"
        ) from error


def versions(device: str) -> dict[str, Any]:
    """Software and device."""
    return {
        "python": platform.python_version(),
        "torch": torch.__version__,
        "transformers": transformers.__version__,
        "commit": _commit(),
        "device": device,
        "machine": platform.machine(),
    }


def _commit() -> str | None:
    """Of this project, if it is a git checkout; '+' if files of it are changed."""
    here = Path(__file__).resolve().parents[1]
    if not (here / ".git").exists():
        return None
    command = ["git", "-C", str(here), "describe", "--always", "--abbrev=40", "--dirty=+", "--exclude=*"]
    try:
        done = subprocess.run(command, capture_output=True, text=True, timeout=60)
    except (OSError, subprocess.TimeoutExpired):
        return None
    return done.stdout.strip() or None


def _plain(config: Any) -> dict[str, Any]:
    """As JSON gives it back."""
    return json.loads(json.dumps(asdict(config), default=str))


def _finite(value: Any) -> Any:
    """JSON knows no infinite numbers: None."""
    if isinstance(value, Mapping):
        return {name: _finite(one) for name, one in value.items()}
    if isinstance(value, (list, tuple)):
        return [_finite(one) for one in value]
    return None if isinstance(value, float) and not math.isfinite(value) else value
