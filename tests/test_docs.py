"""The documentation is whole: every public name is in the reference, links lead somewhere, floors are kept."""

from __future__ import annotations

import ast
import importlib
import re
import shutil
import subprocess
import sys
import tomllib
from pathlib import Path

import pytest
import test_public_names
import yaml

ROOT = Path(__file__).parents[1]
DOCS = ROOT / "docs"
REFERENCE = "\n".join(page.read_text(encoding="utf-8") for page in sorted((DOCS / "reference").glob("*.md")))
SHOWN = re.findall(r"^::: ([\w.]+)$", REFERENCE, re.MULTILINE)
ROOMS = [*test_public_names.PACKAGES, "ra3sim.envs", "theory", "llm.sandbox", "llm.problems"]


def test_every_room_is_in_the_reference_once():
    assert len(set(SHOWN)) == len(SHOWN)
    assert set(ROOMS) <= set(SHOWN)
    for module in SHOWN:
        parent, _, name = module.rpartition(".")
        assert hasattr(importlib.import_module(parent), name) if module.count(".") == 3 else find(module), module


def find(module):
    return importlib.util.find_spec(module) is not None


@pytest.mark.parametrize("room", ROOMS)
def test_every_public_name_is_in_the_reference(room):
    module = importlib.import_module(room)
    folder = Path(module.__file__).parent
    for name in module.__all__:
        value = getattr(module, name)
        if (folder / f"{name}.py").exists() or (folder / name).is_dir():
            # The reference takes `room.name` for the module; so the function has an entry of its own.
            assert f"{room}.{name}.{name}" in SHOWN, f"docs/reference shows no {room}.{name}"
        elif callable(value) and hasattr(value, "__module__"):
            assert value.__doc__, f"{room}.{name} has no docstring, and so no entry"


def test_names_on_the_first_page_are_those_of_the_planners():
    # `solve` and `value_iteration` are functions and modules at once.
    said = (DOCS / "reference" / "ra3sim.md").read_text(encoding="utf-8")
    assert "deciding.md#ra3sim.planning.solve.solve" in said and "ra3sim.planning.solve.solve" in SHOWN


SITE = """
site_name: small
strict: true
theme: {name: mkdocs}
plugins: []
hooks: [docs/hooks.py]
exclude_docs: hooks.py
not_in_nav: files/**
validation: {unrecognized_links: warn, anchors: warn}
"""
PAGES = {
    "README.md": "# About\n\n[a table](paper_figs/table.md), ![a picture](paper_figs/one.png), [more](docs/more.md)\n",
    "paper_figs/table.md": "# Table\n\n[picture](one.png), [more](../docs/more.md#here)\n",
    "paper_figs/claims.md": "# Claims\n",
    "paper_figs/one.png": "not really one",
    "theory/README.md": "# Theory\n\n[claims](../paper_figs/claims.md)\n",
    "CONTRIBUTING.md": "# Contributing\n",
    "docs/more.md": "# More\n\n## Here\n\n[back](../README.md)\n",
}


@pytest.fixture
def site(tmp_path):
    """Builds a small site with the hooks of the real one, after some pages were changed; gives its output."""
    for name, text in {"mkdocs.yml": SITE, **PAGES}.items():
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).write_text(text, encoding="utf-8")
    shutil.copy(DOCS / "hooks.py", tmp_path / "docs")

    def build(**changes):
        for name, text in changes.items():
            (tmp_path / "docs" / f"{name}.md").write_text(text, encoding="utf-8")
        command = [sys.executable, "-m", "mkdocs", "build", "--strict"]
        done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True)
        return done.returncode, done.stdout + done.stderr

    build.folder = tmp_path / "site"
    return build


def test_what_is_linked_from_a_page_becomes_part_of_the_site(site):
    code, said = site()
    assert code == 0, said
    page = (site.folder / "index.html").read_text(encoding="utf-8")
    assert 'href="files/paper_figs/table/"' in page and 'src="files/paper_figs/one.png"' in page
    assert (site.folder / "files/paper_figs/one.png").read_text() == "not really one"
    table = (site.folder / "files/paper_figs/table/index.html").read_text(encoding="utf-8")
    assert 'href="../../../more/#here"' in table
    assert 'href="../claims/"' in (site.folder / "theory/index.html").read_text(encoding="utf-8")
    assert 'href="../"' in (site.folder / "more/index.html").read_text(encoding="utf-8")


def test_every_broken_link_fails_the_build(site):
    (site.folder.parent.parent / "outside.md").write_text("# Outside\n")
    links = ["../paper_figs/absent.md", "absent.md", "../README.md#nowhere", "../../outside.md", "#nowhere"]
    code, said = site(more="# More\n\n## Here\n\n" + "".join(f"[link]({link}), " for link in links))
    assert code != 0 and "5 warnings in strict mode" in said, said
    for link in ("../paper_figs/absent.md", "absent.md", "index.md#nowhere", "../../outside.md", "#nowhere"):
        assert f"'{link}'" in said, said


def test_pages_of_the_navigation_are_there():
    settings = yaml.load((ROOT / "mkdocs.yml").read_text(encoding="utf-8"), yaml.BaseLoader)
    elsewhere = re.findall(r'^    "([\w.]+)": "([\w./]+)",$', (DOCS / "hooks.py").read_text(), re.MULTILINE)
    assert len(elsewhere) >= 4 and all((ROOT / source).is_file() for _, source in elsewhere)
    pages = set(leaves(settings["nav"]))
    there = {page.relative_to(DOCS).as_posix() for page in DOCS.rglob("*.md")} | {name for name, _ in elsewhere}
    assert pages == there
    # Nothing is fetched from another server when a page is read.
    assert settings["theme"]["font"] == "false" and "extra_javascript" not in settings


def leaves(nav):
    for one in nav if isinstance(nav, list) else nav.values():
        yield from [one] if isinstance(one, str) else leaves(one)


def test_a_room_imports_only_from_floors_below():
    below = {"ra3sim": set(), "theory": {"ra3sim"}, "llm": {"ra3sim"}, "experiments": {"ra3sim", "theory", "llm"}}
    everything = {*below, "tests", "benchmarks"}
    seen = 0
    for package, allowed in below.items():
        for path in (ROOT / package).rglob("*.py"):
            for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
                names = [alias.name for alias in node.names] if isinstance(node, ast.Import) else []
                names += [node.module or ""] if isinstance(node, ast.ImportFrom) else []
                tops = {name.split(".")[0] for name in names} & everything
                assert tops <= allowed | {package}, f"{path.relative_to(ROOT)}, line {node.lineno}: {names}"
                seen += bool(tops)
    assert seen > 300


def test_the_citation_is_of_this_version_and_of_the_paper():
    found = yaml.safe_load((ROOT / "CITATION.cff").read_text(encoding="utf-8"))
    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    assert found["cff-version"] == "1.2.0" and found["version"] == project["version"]
    assert found["title"].startswith(project["name"]) and found["authors"] and found["message"]
    (paper,) = found["references"]
    assert paper["identifiers"][0]["value"] == "arXiv:2509.25810" and paper["year"] == 2025
