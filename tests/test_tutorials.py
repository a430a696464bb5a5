"""The tutorials run as they stand, print what they show, and what they make is accepted where they say it would be."""

from __future__ import annotations

import sys

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
