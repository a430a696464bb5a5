"""``python -m benchmarks``: run everything, write ``benchmarks/RESULTS.md`` and the table in the README."""

from __future__ import annotations

import os
import platform
import sys
from importlib.metadata import version
from pathlib import Path

# One core for everybody; must stand before NumPy starts its threads.
for _name in ("OPENBLAS_NUM_THREADS", "OMP_NUM_THREADS", "MKL_NUM_THREADS", "NUMBA_NUM_THREADS"):
    os.environ[_name] = "1"

import numpy as np  # noqa: E402

from benchmarks import planning  # noqa: E402
from ra3sim import _store  # noqa: E402

HOME = Path(__file__).parent
BEGIN, END = "<!-- benchmarks: begin -->", "<!-- benchmarks: end -->"


def main() -> int:
    if hasattr(os, "sched_setaffinity"):
        os.sched_setaffinity(0, {min(os.sched_getaffinity(0))})
    lines = [
        "| task | ours, ms | other | other, ms | other / ours: median (min to max) | target |",
        "|---|---:|---|---:|---:|---:|",
    ]
    for row in planning.rows():
        ratios = row.pair.ratios
        lines.append(
            f"| {row.task} ({row.method}) | {_ms(row.pair.ours)} | {row.other} | {_ms(row.pair.other)} | "
            f"**{np.median(ratios):.2f}** ({ratios.min():.2f} to {ratios.max():.2f}) | {row.target} |"
        )
        print(lines[-1], flush=True)
    model, compiled = planning.option_model(), planning.compilation()
    versions = ", ".join(f"{name} {version(name)}" for name in ("numpy", "scipy", "numba", "quantecon"))
    lines += [
        "",
        f"Model of 64 point options on FourRooms with {model['states']:,} states, sparse: {model['seconds']:.1f} s "
        f"({model['least']:.1f} to {model['most']:.1f}; target 5), {model['entries']:,} entries; peak "
        f"{model['peak MB']:.0f} MB above the inputs, of which the result's matrix is {model['result MB']:.0f} MB and "
        f"rewards and masks {model['R and masks MB']:.0f} MB. Finding the options' policies took "
        f"{model['point options']:.1f} s more.",
        "",
        "Compilation, once per machine (cached on disk), is not in the figures above: a first dense and a first sparse "
        f"solve take {compiled['empty']:.1f} s with an empty cache, {compiled['filled']:.2f} s with a filled one.",
        "",
        f"One core, discount {planning.DISCOUNT}, ‖V − V*‖ ≤ {planning.TOLERANCE:g} (ours certified, all checked), the "
        f"two sides in turn; construction and validation of the models not timed for either. Seed {planning.SEED}. "
        f"Python {platform.python_version()}, {versions}, {platform.machine()}. Made by `make bench`.",
    ]
    text = "\n".join(lines)
    _store.write_text(HOME / "RESULTS.md", f"# Benchmarks\n\n{text}\n")
    readme = HOME.parent / "README.md"
    before, _, rest = readme.read_text(encoding="utf-8").partition(BEGIN)
    _, _, after = rest.partition(END)
    if after:
        _store.write_text(readme, f"{before}{BEGIN}\n{text}\n{END}{after}")
    print("\n".join(lines[len(lines) - 5 :]))
    print(f"results: {HOME / 'RESULTS.md'}")
    return 0


def _ms(seconds: np.ndarray) -> str:
    return f"{1000 * np.median(seconds):.3g}"


if __name__ == "__main__":
    sys.exit(main())
