"""The declared surface of the packages is what they offer, no less and no more."""

from __future__ import annotations
import __future__

import importlib
import subprocess
import sys
import types

import pytest

PACKAGES = ["ra3sim", *(f"ra3sim.{room}" for room in (
    "abstraction", "demonstrations", "discovery", "latent", "learning", "planning", "pruning", "tasks",
))]  # fmt: skip


@pytest.mark.parametrize("package", PACKAGES)
def test_public_names_are_exactly_those_declared(package):
    module = importlib.import_module(package)
    assert module.__doc__, f"{package} does not say what it is"
    declared = list(module.__all__)
    assert len(set(declared)) == len(declared)
    missing = [name for name in declared if not hasattr(module, name)]
    assert not missing, f"{package}.__all__ names what is not there"
    # Submodules appear as attributes once they are imported, and `from __future__ import annotations` leaves its name.
    beside = (types.ModuleType, __future__._Feature)
    found = {name for name, value in vars(module).items() if name[0] != "_" and not isinstance(value, beside)}
    undeclared = found - set(declared)
    assert not undeclared, f"{package} offers names that it does not declare"


def test_a_language_model_is_trained_where_gymnasium_and_numba_are_not_installed():
    code = """
import sys
class Missing:
    def find_spec(self, name, path=None, target=None):
        if name.split(".")[0] in ("gymnasium", "numba", "minigrid", "jax"):
            raise ModuleNotFoundError(name)
sys.meta_path.insert(0, Missing())
import ra3sim.em, llm.estep, llm.world, llm.likelihood, llm.lines, llm.corpus
try:
    from ra3sim import solve
except ModuleNotFoundError:
    print("as it should be")
"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert done.stdout.split() == ["as", "it", "should", "be"]
