"""Property tests draw the same examples in every run, and no test is held to the clock.

Torch, OpenMP and BLAS keep to one thread, also in the processes that tests start: threads that wait for each other on a
busy machine burn several times what the small models of the tests need. Without it the tests of `llm/` take ten times
as long, and the sums of two machines differ in the last digits.
"""

import os
import tempfile
from pathlib import Path

for name in ("OMP", "OPENBLAS", "MKL"):
    os.environ.setdefault(f"{name}_NUM_THREADS", "1")

from filelock import FileLock  # noqa: E402
from hypothesis import settings  # noqa: E402

if "PYTEST_XDIST_WORKER" in os.environ:
    # It compiles ufuncs when it is imported. Two processes that write Numba's cache of these at once leave one that no
    # process can load any more: "LLVM ERROR: Symbol not found".
    with FileLock(Path(tempfile.gettempdir()) / f"ra3sim-tests-{os.getuid()}.lock"):
        import quantecon  # noqa: F401

settings.register_profile("ra3sim", deadline=None, derandomize=True, database=None)
settings.load_profile("ra3sim")
