"""The tutorials run as they stand, print what they show, and what they make is accepted where they say it would be."""

from __future__ import annotations

import json
import sys
from pathlib import Path

import pages
import pytest
import test_discovery

import theory

TUTORIALS = pages.DOCS / "tutorials"


@pytest.fixture
def folder(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    return tmp_path


@pytest.mark.slow
def test_add_a_statement(folder, monkeypatch):
    page = pages.run(TUTORIALS / "add-a-statement.md")
    numbers = [one.number for one in theory.find() if one.number.startswith("3.")]
    # Registered as the page says, it is found by its name, and the next of its section.
    monkeypatch.setitem(sys.modules, "theory.reward_error", page)
    monkeypatch.setattr(theory, "_MODULES", (*theory._MODULES, "reward_error"))
    theory.statements.cache_clear()
    try:
        assert theory.find(["reward-error"]) == [page.REWARD_ERROR]
        assert [one.number for one in theory.find() if one.number.startswith("3.")] == [*numbers, "3.13"]
    finally:
        theory.statements.cache_clear()


@pytest.mark.slow
def test_add_a_discovery_method(folder):
    page = pages.run(TUTORIALS / "add-a-discovery-method.md")
    # What the contract's own tests ask of a method that is registered.
    for world in test_discovery.WORLDS:
        test_discovery.test_the_contract(page.LANDMARKS, world)
    assert all(sentence.endswith(".") for sentence in page.LANDMARKS.deviations)


@pytest.mark.slow
def test_mid_train_your_own_model(folder):
    page = pages.run(TUTORIALS / "mid-train-your-own-model.md")
    # What the page says in words: most thoughts name what the line is for, and both methods learn the experts' habit.
    assert len(page.right) >= 60 and sum(page.right) >= 0.8 * len(page.right)
    base, ntp, posterior = (passed(f"on-{name}") for name in ("base", "ntp", "posterior"))
    assert base < 0.2 and ntp > 0.8 and posterior > base + 0.2
    assert (folder / "thoughts.html").read_text(encoding="utf-8").count("clip at zero") >= 10


def passed(run):
    return json.loads(Path(run, "results.json").read_text(encoding="utf-8"))["pass_at_k"]["raw"]["1"]["value"]
