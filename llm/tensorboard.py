"""The record of a run as a log for TensorBoard."""

from __future__ import annotations

import shutil
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from torch.utils.tensorboard import SummaryWriter


class Log:
    """Scalars by iteration. The folder is written anew from the history, so that a run that goes on doubles nothing."""

    def __init__(self, folder: Path, history: Sequence[Mapping[str, Any]]) -> None:
        shutil.rmtree(folder, ignore_errors=True)
        self._writer = SummaryWriter(str(folder))
        for record in history:
            self._put(record)
        self._writer.flush()

    def add(self, record: Mapping[str, Any]) -> None:
        self._put(record)
        self._writer.flush()

    def close(self) -> None:
        self._writer.close()

    def _put(self, record: Mapping[str, Any]) -> None:
        for name, value in record.items():
            if isinstance(value, (int, float)) and name != "iteration":
                self._writer.add_scalar(name, value, record["iteration"])
