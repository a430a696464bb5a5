"""The peak memory of a piece of work is its own: not that of earlier work in the process, nor of earlier children."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from ra3sim import _memory

MIB = 2**20
linux = pytest.mark.skipif(not Path("/proc/self/clear_refs").exists(), reason="the mark can be set back on Linux alone")


def fill(mib: int) -> None:
    np.ones(mib * MIB, np.uint8)


def child(mib: int) -> None:
    subprocess.run([sys.executable, "-c", f"block = bytearray(b'1') * {mib * MIB}"], check=True)


def peak(work, *arguments) -> float:
    with _memory.measured() as found:
        work(*arguments)
        assert found.mib is None
    return found.mib


def check_earlier_work() -> None:
    before = peak(fill, 1)
    large = peak(fill, 300)
    assert before + 250 < large < before + 400
    assert peak(fill, 1) < before + 100


@linux
def test_earlier_work_does_not_count():
    """In a process of its own: one that has done much has memory at hand, and would not grow."""
    code = "import test_memory; test_memory.check_earlier_work()"
    done = subprocess.run([sys.executable, "-c", code], cwd=Path(__file__).parent, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr


def check_children() -> None:
    own = peak(fill, 1)
    large = int(max(own, _memory.of_process())) + 100
    assert large <= peak(child, large) < large + 100
    assert _memory.of_process() >= large
    assert peak(child, 5) < large


@linux
def test_the_largest_child_counts_if_no_earlier_one_was_larger():
    """In a process of its own: the children that other tests had count for ever."""
    code = "import test_memory; test_memory.check_children()"
    done = subprocess.run([sys.executable, "-c", code], cwd=Path(__file__).parent, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr


def test_where_the_mark_cannot_be_set_back_it_is_an_upper_bound(monkeypatch, tmp_path):
    monkeypatch.setattr(_memory, "_PROCESS", tmp_path / "none")
    large = peak(fill, 200)
    assert large > 200 and peak(fill, 1) >= large


def test_it_is_said_after_a_failure_too():
    with pytest.raises(ZeroDivisionError), _memory.measured() as found:
        _ = 1 / 0
    assert found.mib > 1
