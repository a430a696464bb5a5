"""Atomic files: a reader sees the old file or the new one, never half of one."""

from __future__ import annotations

import contextlib
import json
import os
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np


@contextlib.contextmanager
def atomic_path(path: str | os.PathLike[str]) -> Iterator[Path]:
    """Yield a temporary path in the same folder that replaces ``path`` if the block ends well."""
    path = Path(path)
    path.parent.mkdir(parents=True, exist_ok=True)
    # The suffix is kept because writers such as Matplotlib choose the format by it.
    handle, name = tempfile.mkstemp(prefix=f".{path.stem}-", suffix=path.suffix, dir=path.parent)
    os.close(handle)
    temporary = Path(name)
    try:
        yield temporary
        with open(temporary, "rb") as file:
            os.fsync(file.fileno())
        # mkstemp makes private files; results are for everyone the folder is for.
        umask = os.umask(0)
        os.umask(umask)
        temporary.chmod(0o666 & ~umask)
        os.replace(temporary, path)
    finally:
        temporary.unlink(missing_ok=True)


def write_text(path: str | os.PathLike[str], text: str) -> None:
    with atomic_path(path) as temporary:
        temporary.write_text(text, encoding="utf-8")


def write_arrays(path: str | os.PathLike[str], kind: str, arrays: dict[str, np.ndarray], meta: dict[str, Any]) -> None:
    """Write arrays and a JSON header to one ``.npz`` file."""
    # The names are listed because damage to the index of a zip file can hide a whole array.
    header = np.array(json.dumps({"kind": kind, "arrays": sorted(arrays), **meta}))
    with atomic_path(path) as temporary, open(temporary, "wb") as file:
        everything: dict[str, Any] = {"header": header, **arrays}
        np.savez_compressed(file, **everything)


def read_arrays(path: str | os.PathLike[str], kind: str) -> tuple[dict[str, np.ndarray], dict[str, Any]]:
    """Read what `write_arrays` wrote.

    Raises:
        FileNotFoundError: there is no such file.
        ValueError: the file is truncated, is not such a file, or holds another kind of object.
    """
    return _read(path, kind, None)


def read_header(path: str | os.PathLike[str], kind: str) -> dict[str, Any]:
    """What `write_arrays` wrote as ``meta``, without reading the arrays. Raises as `read_arrays`."""
    return _read(path, kind, ("header",))[1]


def _read(
    path: str | os.PathLike[str], kind: str, names: tuple[str, ...] | None
) -> tuple[dict[str, np.ndarray], dict[str, Any]]:
    path = Path(path)
    if not path.is_file():
        raise FileNotFoundError(f"path: no file {path}")
    with open(path, "rb") as file:
        try:
            with np.load(file, allow_pickle=False) as stored:
                arrays = {name: stored[name] for name in names or stored.files}
            meta = json.loads(str(arrays.pop("header")))
            kept = meta.pop("kind")
            if meta.pop("arrays") != sorted(arrays) and names is None:
                raise ValueError("arrays are missing")
        # zipfile, zlib, NumPy's reader and json raise a dozen types for damaged bytes; all mean the same here.
        except Exception as error:
            raise ValueError(
                f"path: {path} is truncated or not a file of this project ({error}); write it again"
            ) from None
    if kept != kind:
        raise ValueError(f"path: {path} does not hold a {kind}")
    return arrays, meta
