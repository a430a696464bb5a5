"""``python -m benchmarks [GROUP ...]``: run groups (all), write ``benchmarks/RESULTS.md``.

Each group is a module of its own, run in a process of its own with its own number of cores, and has its own section in
the results: what was not run stays as it was.
"""

from __future__ import annotations

import argparse
import os
import re
import subprocess
import sys
from pathlib import Path

from ra3sim import _store

HOME = Path(__file__).parent

# Section and number of cores.
GROUPS = {
    "planning": ("Planning", 1),
    "latent": ("Inference in latent-option models", 2),
    "learning": ("Online learning", 1),
    "rollouts": ("E-step of a language model", 1),
    "sandbox": ("Untrusted programs", 2),
}


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m benchmarks", description="Timings against other libraries.")
    parser.add_argument("groups", nargs="*", metavar="GROUP", help=f"of {', '.join(GROUPS)}; none: all")
    chosen = parser.parse_args().groups or list(GROUPS)
    for group in chosen:
        if group not in GROUPS:
            parser.error(f"no group {group!r}; there are {', '.join(GROUPS)}")
    for group in chosen:
        write(group, run(group))
    print(f"results: {HOME / 'RESULTS.md'}")
    return 0


def run(group: str) -> str:
    """The lines that the group's module prints."""
    cores = GROUPS[group][1]
    threads = {f"{name}_NUM_THREADS": str(cores) for name in ("OPENBLAS", "OMP", "MKL", "NUMBA")}
    program = f"import os, runpy; {PIN.format(cores)}; runpy.run_module('benchmarks.{group}', run_name='__main__')"
    lines = []
    with subprocess.Popen(
        [sys.executable, "-c", program],
        cwd=HOME.parent, env={**os.environ, **threads}, stdout=subprocess.PIPE, text=True, encoding="utf-8",
    ) as process:  # fmt: skip
        for line in process.stdout:
            lines.append(line)
            print(line, end="", flush=True)
    if process.returncode:
        raise SystemExit(f"benchmarks: {group} failed; its results stay as they were")
    return "".join(lines).strip()


# In the new process and before it starts any thread; not on systems that cannot.
PIN = "hasattr(os, 'sched_setaffinity') and os.sched_setaffinity(0, sorted(os.sched_getaffinity(0))[:{}])"


def write(group: str, text: str) -> None:
    """Put one group's section into the results."""
    results = HOME / "RESULTS.md"
    old = results.read_text(encoding="utf-8") if results.exists() else ""
    parts = re.split(r"^### (.+)$", old, flags=re.MULTILINE)[1:]
    sections = dict(zip(parts[::2], map(str.strip, parts[1::2]), strict=True))
    sections[GROUPS[group][0]] = text
    whole = "\n\n".join(f"### {name}\n\n{sections[name]}" for name, _ in GROUPS.values() if name in sections)
    _store.write_text(results, f"# Benchmarks\n\n{whole}\n")


if __name__ == "__main__":
    sys.exit(main())
