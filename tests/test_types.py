"""The type checker is on for everything that is installed, and what it is told to overlook has a reason."""

from __future__ import annotations

import re
import subprocess
import sys
import tomllib
from pathlib import Path

ROOT = Path(__file__).parents[1]
SETTINGS = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))
MYPY = SETTINGS["tool"]["mypy"]


def test_what_is_installed_is_what_is_checked():
    assert [f"{name}*" for name in MYPY["packages"]] == SETTINGS["tool"]["setuptools"]["packages"]["find"]["include"]
    assert not {"exclude", "ignore_errors", "ignore_missing_imports", "follow_imports"} & MYPY.keys()
    for one in MYPY["overrides"]:
        names = one["module"]
        ours = [name for name in names if name.split(".")[0] in (*MYPY["packages"], "*")]
        assert not ours or one.keys() == {"module", "disallow_untyped_defs"}, one
        # Only what a compiler finds types for.
        assert set(ours) <= {"*._kernels", "ra3sim.latent.jax_inference"}


def test_what_is_overlooked_has_a_name_and_a_reason():
    found = [
        (path, line)
        for package in MYPY["packages"]
        for path in (ROOT / package).rglob("*.py")
        for line in path.read_text(encoding="utf-8").splitlines()
        if "type: ignore" in line
    ]
    assert 0 < len(found) < 10
    for path, line in found:
        assert re.search(r"# type: ignore\[[\w-]+\]  # \w{3,}", line), f"{path}: {line}"


def test_the_checker_finds_what_is_wrong(tmp_path):
    settings = (ROOT / "pyproject.toml").read_text(encoding="utf-8")
    (tmp_path / "pyproject.toml").write_text(re.sub(r"^packages = .*$", "", settings, flags=re.MULTILINE))
    code = "def double(x: int) -> str:\n    return 2 * x\n\ndef untyped(x):\n    return x\n"
    done = subprocess.run([sys.executable, "-m", "mypy", "-c", code], cwd=tmp_path, capture_output=True, text=True)
    assert done.returncode == 1 and "[return-value]" in done.stdout and "[no-untyped-def]" in done.stdout, done
