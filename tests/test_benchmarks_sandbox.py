"""The benchmark of the sandbox, at its smallest."""

import re
import subprocess
import sys

import pytest

from benchmarks import sandbox
from llm.sandbox import Sandbox

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="reads /proc")


@pytest.mark.slow
def test_report():
    text = "\n".join(sandbox.report(sandbox.Size(problems=3, runs=1)))
    rows = re.findall(r"^\| ([\w+]+) \| \*\*([\d.]+)\*\*", text, re.MULTILINE)
    assert len(rows) >= 2 and all(float(speed) > 0 for _, speed in rows) and "nan" not in text


def test_processor_time_of_the_tree_is_counted():
    used, end = {}, "print(1, flush=True)\ninput()"
    for name, program in {"idle": "import time\ntime.sleep(0.5)", "busy": "sum(k for k in range(10 ** 7))"}.items():
        command = [sys.executable, "-c", f"{program}\n{end}"]
        with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE) as process:
            process.stdout.readline()
            used[name] = sandbox._of_tree(process.pid)
            process.stdin.write(b"\n")
    assert used["busy"] > 3 * used["idle"]


def test_programs_of_the_sandbox_are_counted():
    (one,) = sandbox.jobs(sandbox.problems(sandbox.Size(problems=1)))
    busy = (one[0] + "\nsum(k for k in range(10 ** 7))", one[1])
    with Sandbox(workers=1) as pool:
        quick, slow = sandbox.sandbox_seconds(pool, [one]), sandbox.sandbox_seconds(pool, [busy])
    assert slow > quick + 0.1
