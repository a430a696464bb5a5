"""What to see in each figure: the sections of ``docs/results.md``, as HTML."""

from __future__ import annotations

import re
from dataclasses import dataclass
from pathlib import Path

import markdown

SOURCE = Path(__file__).parents[2] / "docs" / "results.md"


@dataclass(frozen=True)
class Caption:
    """
    Attributes:
        what: what is drawn, HTML.
        shows: what to see in it, HTML; its numbers are those of the full study.
    """

    what: str
    shows: str


def captions(source: Path = SOURCE) -> dict[str, Caption]:
    """By experiment; none if the page is not there (the project is used from its clone).

    Raises:
        ValueError: a section that does not say what its figure shows.
    """
    if not source.is_file():
        return {}
    found = {}
    sections = re.split(r"^## (\w+)\n", source.read_text(encoding="utf-8"), flags=re.MULTILINE)[1:]
    for name, text in zip(sections[::2], sections[1::2], strict=True):
        # Pictures stand on the page themselves; the files lie beside the page's source, not beside the report.
        text = re.sub(r"^(!\[.*\]\(.*\)|Files: [^\n]*(\n[^\n]+)*)$", "", text, flags=re.MULTILINE)
        text = re.sub(r"\[([^\]]+)\]\([^)]*\)", r"\1", text)
        what, mark, shows = text.partition("What it shows")
        if not mark:
            raise ValueError(f"{source}: section {name} does not say what it shows")
        found[name] = Caption(_html(what), _html(mark + shows))
    return found


def _html(text: str) -> str:
    return markdown.markdown(text.strip(), extensions=["tables"])
