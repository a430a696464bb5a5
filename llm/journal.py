"""A file of JSON lines that grows, and that no interruption spoils."""

from __future__ import annotations

import json
import os
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any


class Journal:
    """Records, in the order they came; opening one repairs it.

    A process that dies while it writes leaves the beginning of a line at most; that is cut off when the file is opened
    again. Only one process may have it open.

    Attributes:
        records: all of them.

    Raises:
        ValueError: a line in its middle is none of ours.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self.records: list[dict[str, Any]] = []
        self._file = open(path, "a+b")
        try:
            self._read()
        except BaseException:
            self._file.close()
            raise

    def append(self, records: Iterable[Mapping[str, Any]]) -> None:
        """Write records, and come back when the disk has them."""
        new = [dict(one) for one in records]
        self._file.write("".join(json.dumps(one) + "\n" for one in new).encode())
        self._file.flush()
        os.fsync(self._file.fileno())
        self.records += new

    def close(self) -> None:
        self._file.close()

    def __enter__(self) -> Journal:
        return self

    def __exit__(self, *_: Any) -> None:
        self.close()

    def _read(self) -> None:
        self._file.seek(0)
        content = self._file.read()
        whole = content.rfind(b"\n") + 1
        for number, line in enumerate(content[:whole].splitlines(), 1):
            try:
                record = json.loads(line)
            except ValueError:
                record = None
            if not isinstance(record, dict):
                raise ValueError(f"out: {self.path}:{number} is damaged; give another folder")
            self.records.append(record)
        if whole < len(content):
            self._file.truncate(whole)


def read(path: Path) -> list[dict[str, Any]]:
    """The whole lines of a journal that may be growing.

    Raises:
        FileNotFoundError, ValueError: it isn't there, or is damaged.
    """
    content = path.read_bytes()
    lines = content[: content.rfind(b"\n") + 1].splitlines()
    try:
        return [json.loads(line) for line in lines]
    except ValueError:
        raise ValueError(f"run: {path} is damaged") from None
