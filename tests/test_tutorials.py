"""The tutorials run as they stand, print what they show, and what they make is accepted where they say it would be."""

from __future__ import annotations

import sys

import pages
import pytest

import theory

TUTORIALS = pages.DOCS / "tutorials"


@pytest.fixture
def folder(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    return tmp_path


@pytest.mark.slow
def test_add_a_statement(folder, monkeypatch):
    page = pages.run(TUTORIALS / "add-a-statement.md")
    # Registered as the page says, it is the next of its section, and found by its name.
    monkeypatch.setitem(sys.modules, "theory.reward_error", page)
    monkeypatch.setattr(theory, "_MODULES", (*theory._MODULES, "reward_error"))
    before = [one.number for one in theory.find()]
    theory.statements.cache_clear()
    try:
        assert theory.find(["reward-error"]) == [page.REWARD_ERROR]
        assert page.REWARD_ERROR.number not in before and f"3.{1 + sum(n[:2] == '3.' for n in before)}" == "3.13"
    finally:
        theory.statements.cache_clear()
