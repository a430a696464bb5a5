"""The language models' smoke study on a GPU: rates, memory, and every kind of run once; a table of what was found.

    python -m experiments.gpu                    # writes paper_figs/gpu.csv
    python -m experiments.gpu --device cpu       # the same work on a CPU, which writes paper_figs/cpu.csv

Every task has a process of its own: its peak of memory is its own, and what one lacks or breaks the others don't feel.
A task whose packages are missing is a row that says so. What is done is not done again on the same device; after an
interruption the same command goes on. `ra3 estimate` takes the rates from the table.
"""

from __future__ import annotations

import argparse
import csv
import datetime
import io
import json
import os
import shutil
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path

from experiments import gpu_tasks

ROOT = Path(__file__).resolve().parents[1]
COLUMNS = (
    "device", "task", "dtype", "status", "seconds", "tokens", "tokens_per_second", "tflops", "peak_bytes", "found",
    "model", "torch", "transformers", "commit", "date",
)  # fmt: skip


def main(argv: Sequence[str] | None = None) -> int:
    """The command line; 0, 1 (a task failed), 2 (bad input)."""
    parser = argparse.ArgumentParser(prog="python -m experiments.gpu", description="Measure a GPU with our own work.")
    parser.add_argument("--device", choices=("cuda", "cpu"), default="cuda")
    parser.add_argument("--model", default="smollm2", help="'smollm2', or a folder of transformers (llama or qwen2)")
    parser.add_argument("--out", type=Path, help="the table (default: paper_figs/gpu.csv or cpu.csv)")
    parser.add_argument("--runs", type=Path, default=Path("runs"), help="folder for what the runs leave")
    parser.add_argument("--size", choices=tuple(gpu_tasks.SIZES), help="how much (default: full; on a CPU small)")
    parser.add_argument("--tasks", nargs="+", metavar="TASK", help=f"of {', '.join(gpu_tasks.TASKS)} (default: all)")
    parser.add_argument("--fresh", action="store_true", help="do again what is done")
    asked = parser.parse_args(argv)
    if unknown := [one for one in asked.tasks or () if one not in gpu_tasks.TASKS]:
        return _fail(f"tasks: there is no {unknown[0]!r}; there are {', '.join(gpu_tasks.TASKS)}")
    try:
        name = gpu_tasks.device_name(asked.device)
    except ValueError as error:
        return _fail(str(error))
    out = asked.out or ROOT / "paper_figs" / ("gpu.csv" if asked.device == "cuda" else "cpu.csv")
    size = asked.size or ("full" if asked.device == "cuda" else "small")
    rows = read(out)
    failed = []
    for task, (dtypes, _) in gpu_tasks.TASKS.items():
        for dtype in dtypes if asked.tasks is None or task in asked.tasks else ():
            key = {"device": name, "task": task, "dtype": dtype, "model": Path(asked.model).name}
            same = [row for row in rows if key.items() <= row.items()]
            if same and same[0]["status"] == "done" and not asked.fresh:
                print(f"{task}, {dtype}: done already")
                continue
            found = _run(task, dtype, asked.device, asked.model, size, asked.runs / "gpu")
            rows = [row for row in rows if row not in same]
            rows.append({column: "" for column in COLUMNS} | key | found)
            write(out, rows)
            print(f"{task}, {dtype}: {found['status']}{_rate(found)}")
            failed += [task] if found["status"].startswith("failed") else []
    print(f"results: {out}")
    return _fail(f"{len(failed)} tasks failed: {', '.join(dict.fromkeys(failed))}", 1) if failed else 0


def read(path: Path) -> list[dict[str, str]]:
    """Rows of a table; none if there is no such file."""
    if not path.is_file():
        return []
    with open(path, newline="", encoding="utf-8") as file:
        return list(csv.DictReader(file))


def write(path: Path, rows: Sequence[dict[str, str]]) -> None:
    """The whole table, at once."""
    from ra3sim import _store

    text = io.StringIO()
    writer = csv.DictWriter(text, COLUMNS, lineterminator="\n")
    writer.writeheader()
    writer.writerows(rows)
    path.parent.mkdir(parents=True, exist_ok=True)
    _store.write_text(path, text.getvalue())


def _run(task: str, dtype: str, device: str, model: str, size: str, runs: Path) -> dict[str, str]:
    """What a task found, in a process of its own."""
    folder = runs / f"{device}-{task.replace('+', '-')}-{dtype}"
    shutil.rmtree(folder, ignore_errors=True)
    folder.parent.mkdir(parents=True, exist_ok=True)
    env = dict(os.environ)
    if device == "cpu":
        env |= {"CUDA_VISIBLE_DEVICES": "", "ACCELERATE_USE_CPU": "true"}
    given = json.dumps([task, dtype, device, model, size, str(folder)])
    path = os.pathsep.join([str(ROOT), *filter(None, [env.get("PYTHONPATH")])])
    command = [sys.executable, "-m", "experiments.gpu_tasks", given]
    done = subprocess.run(command, env=env | {"PYTHONPATH": path}, capture_output=True, text=True)
    last = (done.stdout.strip().splitlines() or [""])[-1]
    try:
        found = json.loads(last)
    except ValueError:
        why = (done.stderr.strip().splitlines() or [f"exit status {done.returncode}"])[-1]
        found = {"status": f"failed: {why[:200]}"}
    from llm.runs import versions

    about = versions(device)
    about = {name: str(about[name] or "") for name in ("torch", "transformers", "commit")}
    return {name: str(value) for name, value in found.items()} | about | {"date": datetime.date.today().isoformat()}


def _rate(found: dict[str, str]) -> str:
    parts = [f"{float(found['tokens_per_second']):,.0f} tokens/s"] if found.get("tokens_per_second") else []
    parts += [f"{float(found['seconds']):.2f} s"] if found.get("seconds") else []
    parts += [f"{float(found['peak_bytes']) / 1e9:.2f} GB at most"] if found.get("peak_bytes") else []
    return ", ".join(["", *parts])


def _fail(message: str, code: int = 2) -> int:
    print(f"experiments.gpu: error: {message}", file=sys.stderr)
    return code


if __name__ == "__main__":
    sys.exit(main())
