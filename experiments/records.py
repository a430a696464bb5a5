"""Records of runs: parts stored one by one under the hash of what defines them, with where they come from."""

from __future__ import annotations

import functools
import hashlib
import importlib.metadata
import json
import os
import platform
import re
import subprocess
from collections.abc import Iterable, Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np

from experiments.locks import Lock
from experiments.registry import Experiment
from ra3sim import _store

_PACKAGES = (
    "numpy", "scipy", "numba", "jax", "torch", "transformers", "trl", "python-flint", "gymnasium", "minigrid",
    "matplotlib", "ra3sim",
)  # fmt: skip
ROOT = Path(__file__).resolve().parent.parent


class DamagedPart(Exception):
    """A stored part that cannot be read, or that belongs to something else."""


def as_json(config: Any) -> dict[str, Any]:
    """A config as JSON gives it back (tuples become lists).

    Raises:
        TypeError: a field that JSON cannot hold.
    """
    return json.loads(json.dumps(asdict(config)))


def key(*what: Any) -> str:
    """16 hexadecimal digits that stand for some JSON-able values."""
    text = json.dumps(what, sort_keys=True, separators=(",", ":"))
    return hashlib.sha256(text.encode()).hexdigest()[:16]


@functools.cache
def source_digest(*packages: str) -> str:
    """16 hexadecimal digits that stand for the code of some of this project's packages."""
    files = sorted(path for package in packages for path in (ROOT / package).rglob("*.py"))
    return key([[str(path.relative_to(ROOT)), file_hash(path)] for path in files])


def seed_of(name: str, seed: int, part: str) -> np.random.SeedSequence:
    """The seed of one part: it depends on these three, not on the order or the number of parts, or on the jobs."""
    digest = hashlib.sha256(json.dumps([name, part]).encode()).digest()
    return np.random.SeedSequence(seed, spawn_key=tuple(np.frombuffer(digest[:16], "<u4").tolist()))


@functools.cache
def provenance() -> dict[str, Any]:
    """Versions, machine type and commit of this process."""
    versions: dict[str, str | None] = {"python": platform.python_version()}
    for package in _PACKAGES:
        try:
            versions[package] = importlib.metadata.version(package)
        except importlib.metadata.PackageNotFoundError:
            versions[package] = None
    machine = f"{platform.system()} {platform.machine()}"
    return {"versions": versions, "machine": machine, "cores": os.cpu_count(), **_commit()}


def _commit() -> dict[str, Any]:
    """The commit of the source, and whether the source differs from it (what experiments write does not count)."""

    def git(*arguments: str) -> str:
        return subprocess.run(
            ["git", "-C", str(ROOT), *arguments], capture_output=True, text=True, check=True, timeout=60
        ).stdout.strip()

    try:
        if Path(git("rev-parse", "--show-toplevel")).resolve() != ROOT:
            raise OSError("the source is not a checkout of its own")
        return {
            "commit": git("rev-parse", "HEAD"),
            "dirty": bool(git("status", "--porcelain", "--", ".", ":!paper_figs")),
        }
    except (OSError, subprocess.SubprocessError):
        return {"commit": None, "dirty": None}


@dataclass(frozen=True)
class Run:
    """The stored data of one experiment with one config: ``root/<name>/<key>/``."""

    experiment: Experiment
    config: Any
    root: Path

    @property
    def identity(self) -> tuple[Any, ...]:
        return (self.experiment.name, as_json(self.config), self.experiment.version)

    @property
    def folder(self) -> Path:
        return self.root / self.experiment.name / key(*self.identity)

    @property
    def manifest(self) -> Path:
        return self.folder / "manifest.json"

    def path(self, part: str) -> Path:
        slug = re.sub(r"[^A-Za-z0-9]+", "-", part).strip("-")[:40]
        return self.folder / f"{slug}-{key(*self.identity, part)}.npz"

    def lock(self, part: str) -> Lock:
        """Who holds it computes the part."""
        return Lock(self.path(part).with_suffix(".lock"))

    def begin(self, command: str | None) -> None:
        """Write the manifest if there is none, so that a run that is stopped says what it was to be."""
        try:
            if json.loads(self.manifest.read_text(encoding="utf-8"))["key"] == key(*self.identity):
                return
        except (OSError, ValueError, KeyError, TypeError):
            pass
        write_json(self.manifest, self.describe(command))

    def write(self, part: str, values: dict[str, Any], about: dict[str, Any]) -> None:
        """Store the values of a part, atomically; ``about`` is JSON-able (wall time, seed, provenance).

        Raises:
            TypeError: a value that is neither an array without objects nor JSON-able.
        """
        arrays, metadata = _split(values)
        about = {**about, "part": part, "key": key(*self.identity, part), "metadata": metadata}
        _store.write_arrays(self.path(part), "part", {f"value {name}": a for name, a in arrays.items()}, about)

    def read(self, part: str) -> tuple[dict[str, Any], dict[str, Any]]:
        """Values and ``about`` of a stored part.

        Raises:
            FileNotFoundError: it is not stored.
            DamagedPart: it is truncated or corrupt, or belongs to something else.
        """
        try:
            arrays, about = _store.read_arrays(self.path(part), "part")
            if about.pop("key") != key(*self.identity, part) or about.pop("part") != part:
                raise ValueError("it belongs to another run")
            return values(arrays, about), about
        except (ValueError, KeyError, AttributeError) as error:
            raise DamagedPart(str(error)) from None

    def describe(self, command: str | None) -> dict[str, Any]:
        """The manifest: everything needed to make the data again, and what making it took."""
        parts, sources = {}, []
        for part in self.experiment.parts(self.config):
            try:
                about = self.read(part)[1]
            except (FileNotFoundError, DamagedPart):
                continue
            source = about.pop("computed_with")
            if source not in sources:
                sources.append(source)
            parts[part] = {**about, "computed_with": sources.index(source)}
        return {
            "experiment": self.experiment.name,
            "title": self.experiment.entry.title,
            "version": self.experiment.version,
            "key": key(*self.identity),
            "command": command,
            "config": as_json(self.config),
            "seconds": sum(about["seconds"] for about in parts.values()),
            "peak_memory_mib": largest_peak(parts.values()),
            "parts": parts,
            "computed_with": sources,
        }


def values(arrays: dict[str, np.ndarray], about: dict[str, Any]) -> dict[str, Any]:
    """The values of a stored part, of its arrays and its header, which is left with what is said about them."""
    return {**{name.removeprefix("value "): array for name, array in arrays.items()}, **about.pop("metadata")}


def largest_peak(abouts: Iterable[Mapping[str, Any]]) -> float | None:
    """Peak memory of a run in MiB: of its largest part. None where no part says (they did not always)."""
    return max((one["peak_memory_mib"] for one in abouts if one.get("peak_memory_mib") is not None), default=None)


def write_json(path: Path, value: Any) -> None:
    _store.write_text(path, json.dumps(value, indent=1, ensure_ascii=False) + "\n")


def file_hash(path: Path) -> str:
    return hashlib.sha256(path.read_bytes()).hexdigest()


def _split(values: dict[str, Any]) -> tuple[dict[str, np.ndarray], dict[str, Any]]:
    arrays, metadata = {}, {}
    for name, value in values.items():
        if isinstance(value, (np.ndarray, np.generic)):
            arrays[name] = np.asarray(value)
            if arrays[name].dtype.hasobject:
                raise TypeError(f"run_part: {name!r} is an array of objects; store numbers, booleans or strings")
        else:
            try:
                metadata[name] = json.loads(json.dumps(value))
            except (TypeError, ValueError) as error:
                raise TypeError(f"run_part: {name!r} is neither an array nor JSON-able ({error})") from None
    return arrays, metadata
