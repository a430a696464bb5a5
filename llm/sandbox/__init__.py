"""Runs programs that nobody vouches for, and says whether they do what they should.

>>> with Sandbox(workers=1, isolation="process") as sandbox:
...     sandbox.run("def add(a, b): return a + b", CodeTests(("add",), "assert add(1, 2) == 3")).outcome
'passed'
"""

from llm.sandbox.checks import CallTests, Check, CodeTests, StdioTests
from llm.sandbox.pool import Sandbox
from llm.sandbox.verdict import OUTCOMES, Limits, Verdict

__all__ = ["OUTCOMES", "CallTests", "Check", "CodeTests", "Limits", "Sandbox", "StdioTests", "Verdict"]
