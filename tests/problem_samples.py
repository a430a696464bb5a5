"""Problems in the formats of the benchmarks, written for the tests: none is one of theirs."""

from __future__ import annotations

import base64
import gzip
import json
import pickle
import zlib
from pathlib import Path
from typing import Any

HUMANEVAL = [
    {
        "task_id": "HumanEval/0",
        "prompt": 'from typing import List\n\n\ndef twice(xs: List[int]) -> List[int]:\n    """ Twice each. """\n',
        "entry_point": "twice",
        "canonical_solution": "    return [2 * x for x in xs]\n",
        "test": "\n\nMETADATA = {}\n\n\ndef check(candidate):\n    assert candidate([1, 2]) == [2, 4]\n"
        "    assert candidate([]) == []\n",
    },
    {
        "task_id": "HumanEval/1",
        "prompt": "def scramble(s):\n    return s[1:] + s[:1]\n\n\ndef restore(s):\n    '''Undo scramble.'''\n",
        "entry_point": "restore",
        "canonical_solution": "    return s[-1:] + s[:-1]\n",
        "test": "def check(candidate):\n    for s in ('', 'a', 'hello'):\n        assert candidate(scramble(s)) == s\n",
    },
]

MBPP = [
    {
        "task_id": number,
        "text": f"Write a function to add {number} to a number.",
        "code": f"def add_{number}(x):\r\n  return x + {number}",
        "test_list": [f"assert add_{number}({x}) == {x + number}" for x in (0, 5, -1)],
        "test_setup_code": "",
        "challenge_test_list": [],
    }
    for number in (1, 2, 3, 4, 11, 510, 511)
]
# Tests whose arguments are objects of the program's own class, types, and a value that a module knows.
MBPP_ODD = [
    {
        "task_id": 601,
        "text": "Write a function to find the span of pairs.",
        "code": "class Pair(object):\n    def __init__(self, a, b):\n        self.a = a\n        self.b = b\n\n"
        "def span(pairs, n):\n    return sum(one.b - one.a for one in pairs[:n])",
        "test_list": ["assert span([Pair(1, 4), Pair(2, 3)], 2) == 4", "assert span([Pair(0, 9)], 1) == 9"],
        "test_setup_code": "",
    },
    {
        "task_id": 927,
        "text": "Write a function to find the height of a tree.",
        "code": "class Node:\n    def __init__(self, data):\n        self.left = None\n        self.data = data\n\n"
        "def height(node):\n    return 0 if node is None else 1 + height(node.left)",
        "test_list": ["assert (height(root)) == 2", "assert height(None) == 0"],
        "test_setup_code": "root = Node(1)\r\nroot.left = Node(2)",
    },
    {
        "task_id": 533,
        "text": "Write a function to count elements of a type.",
        "code": "def count(xs, kind):\n    return sum(isinstance(x, kind) for x in xs)",
        "test_list": ["assert count([1, 'a', 2], int) == 2"],
    },
    {
        "task_id": 596,
        "text": "Write a function to find the size of a tuple.",
        "code": "import sys\ndef size(t):\n    return sys.getsizeof(t)",
        "test_list": ["assert size((1, 2)) == sys.getsizeof((1, 2))"],
    },
    {
        "task_id": 126,
        "text": "Write a function to sum two numbers.",
        "code": "def sum(a, b):\n    return a + b",
        "test_list": ["assert sum(2, 3) == 5"],
    },
]

HUMANEVAL_PLUS = [
    {
        "task_id": "HumanEval/0",
        "prompt": '\n\ndef half(x: float) -> float:\n    """ Half of x. """\n\n',
        "entry_point": "half",
        "canonical_solution": "    return x / 2\n",
        "base_input": [[1.0], [3]],
        "plus_input": [[1e300], [-7.5]],
        "atol": 0,
    },
    {
        "task_id": "HumanEval/32",
        "prompt": 'def find_zero(xs: list):\n    """ A root of the polynomial. """\n',
        "entry_point": "find_zero",
        "canonical_solution": "    return -xs[0] / xs[1]\n",
        "base_input": [[[6, 2]], [[-1, 4]]],
        "plus_input": [[[3, -2]]],
        "atol": 0.0001,
    },
]

MBPP_PLUS = [
    {
        "task_id": "Mbpp/2",
        "prompt": '"""\nShared elements.\nassert set(similar_elements((1, 2), (2, 3))) == set((2,))\n"""\n',
        "entry_point": "similar_elements",
        "canonical_solution": "\ndef similar_elements(one, other):\n    return tuple(set(one) & set(other))\n",
        "base_input": [[[1, 2, 3], [3, 2]]],
        "plus_input": [[[], []], [[5, 6, 7], [7, 6, 5]]],
        "atol": 0,
    },
    {
        "task_id": "Mbpp/737",
        "prompt": '"""\nBegins with a vowel.\nassert check_str("annie")\n"""\n',
        "entry_point": "check_str",
        "canonical_solution": "\nimport re\ndef check_str(s):\n    return re.match('[aeiou]', s)\n",
        "base_input": [["annie"], ["dawood"]],
        "plus_input": {},
        "atol": 0,
    },
    {
        "task_id": "Mbpp/295",
        "prompt": '"""\nSum of divisors.\nassert sum_div(8)==7\n"""\n',
        "entry_point": "sum_div",
        "canonical_solution": "\ndef sum_div(n):\n    return sum(i for i in range(1, n) if n % i == 0)\n",
        "base_input": [[8], [12]],
        "plus_input": [[1]],
        "atol": 0,
    },
    {
        "task_id": "Mbpp/581",
        "prompt": '"""\nSurface of a square pyramid.\nassert surface_Area(3,4)==33\n"""\n',
        "entry_point": "surface_Area",
        "canonical_solution": "\ndef surface_Area(b, s):\n    return 2 * b * s + pow(b, 2)\n",
        "base_input": [[3, 4]],
        "plus_input": [[4, 5]],
        "atol": 0,
    },
    {
        "task_id": "Mbpp/558",
        "prompt": '"""\nDigit distance.\nassert digit_distance_nums(1,2) == 1\n"""\n',
        "entry_point": "digit_distance_nums",
        "canonical_solution": "\ndef digit_distance_nums(a, b):\n    return sum(map(int, str(abs(a - b))))\n",
        "base_input": [[1, 2], [123, 256]],
        "plus_input": [[10, 9]],
        "atol": 0,
    },
    {
        "task_id": "Mbpp/164",
        "prompt": '"""\nEquivalent.\nassert are_equivalent(36, 57) == False\n"""\n',
        "entry_point": "are_equivalent",
        "canonical_solution": "\ndef are_equivalent(a, b):\n    return a == b\n",
        "base_input": [[36, 57]],
        "plus_input": [],
        "atol": 0,
    },
]


def packed(value: Any) -> str:
    return base64.b64encode(zlib.compress(pickle.dumps(value))).decode()


def official(private: Any = None, **more: Any) -> dict[str, Any]:
    """A record of LiveCodeBench's data set."""
    tests = [{"input": "3\n1 2 3\n", "output": "6\n", "testtype": "stdin"}]
    hidden = [{"input": "1\n-4\n", "output": "-4", "testtype": "stdin"}]
    return {
        "question_title": "A. Sum", "question_content": "Read n and n numbers; print their sum.",
        "platform": "atcoder", "question_id": "abc000_a", "contest_id": "abc000",
        "contest_date": "2024-01-01T00:00:00", "starter_code": "", "difficulty": "easy",
        "public_test_cases": json.dumps(tests), "metadata": "{}",
        "private_test_cases": packed(json.dumps(hidden)) if private is None else private,
    } | more  # fmt: skip


def method(**more: Any) -> dict[str, Any]:
    """A record of LiveCodeBench's data set that asks for a method."""
    tests = [{"input": "[1, 2, 3]\n2", "output": "[1, 2]", "testtype": "functional"}]
    return official(
        question_id="2727", platform="leetcode", metadata=json.dumps({"func_name": "firstItems"}),
        starter_code="class Solution:\n    def firstItems(self, xs: List[int], n: int) -> List[int]:\n        ",
        public_test_cases=json.dumps(tests),
        private_test_cases=json.dumps([{"input": "[]\n0", "output": "[]", "testtype": "functional"}]),
    ) | more  # fmt: skip


def fusion(function: str | None = None) -> dict[str, Any]:
    """A record as SandboxFusion keeps it."""
    tests = {"inputs": ["3\n1 2 3\n"], "outputs": ["6\n"], "fn_name": None}
    content = "Sum the numbers.\n### Answer: (use the provided format with backticks)\n\n"
    if function:
        tests = {"inputs": ["[1, 2]\n1"], "outputs": ["[1]"], "fn_name": function}
        content = f"Use this.\n```python\nclass Solution:\n    def {function}(self, xs, n):\n```\n"
    return {
        "id": 10 if function else 1, "content": content, "canonical_solution": "import sys; sys.exit(0)",
        "test": packed({"input_output": json.dumps(tests)}),
        "labels": json.dumps({"task_id": "leetcode/1" if function else "atcoder/abc000_a"}),
    }  # fmt: skip


CODEFORCES = {
    "id": "1/A", "title": "Theatre", "description": "Cover n x m with stones of side a.", "time_limit": 1.0,
    "memory_limit": 256.0, "input_format": "Three numbers.", "output_format": "One number.",
    "interaction_format": None, "note": None, "examples": [{"input": "6 6 4", "output": "4"}],
    "official_tests": [{"input": "6 6 4\n", "output": "4\n"}, {"input": "1 1 1\n", "output": "1\n"}],
    "input_mode": "stdio", "generated_checker": None, "executable": True,
}  # fmt: skip

OWN = [
    {
        "name": "add", "prompt": "def add(a, b):\n", "entry_point": "add", "tests": "assert add(1, 2) == 3",
        "reference": "    return a + b\n", "stop": ["\ndef"],
    },
    {
        "name": "pair", "prompt": "Write pair(a).\n", "entry_point": "pair", "calls": [[1], ["x"]],
        "expected": [[1, 1], ["x", "x"]], "program": "is the program", "reference": "def pair(a):\n    return [a, a]\n",
    },
    {
        "name": "echo", "prompt": "Write a program that echoes.\n", "cases": [{"input": "a\nb\n", "output": "a\nb"}],
        "program": "fenced", "reference": "import sys\nprint(sys.stdin.read())\n", "seconds": 5,
    },
]  # fmt: skip


def write(path: Path, records: list[Any]) -> Path:
    """JSON lines; packed, if the name ends so."""
    text = "".join(one if isinstance(one, str) else json.dumps(one) + "\n" for one in records)
    if path.suffix == ".gz":
        path.write_bytes(gzip.compress(text.encode()))
    else:
        path.write_text(text, encoding="utf-8")
    return path
