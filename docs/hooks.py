"""Pages of the site that live elsewhere in the repository, and links that lead out of `docs/`.

The README, the proofs and the tables of results are read where they are, in the repository too, so they are not copied
into `docs/`. Every file of the repository that a page links to becomes part of the site: Markdown a page, anything else
as it is. So a link that works in the repository works in the site, and a broken one fails the strict build.
"""

from __future__ import annotations

import os
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from mkdocs.structure.files import File, Files

ROOT = Path(__file__).parents[1]
DOCS = ROOT / "docs"
# Pages of the navigation: where in the site, and where in the repository.
ELSEWHERE = {
    "index.md": "README.md",
    "claims.md": "paper_figs/claims.md",
    "theory.md": "theory/README.md",
    "contributing.md": "CONTRIBUTING.md",
}
_LINK = re.compile(r"(!?\[[^\]\n]*(?:\n[^\]\n]*)?\]\()([^)\s#]+)(#[^)\s]*)?\)")


def on_files(files: Files, config: Any) -> Files:
    """Add the pages from elsewhere, and whatever is linked from any page."""
    waiting = [DOCS / file.src_uri for file in files.documentation_pages()]
    for source in ELSEWHERE.values():
        _add(files, config, ROOT / source, waiting)
    while waiting:
        page = waiting.pop()
        for target in _targets(page):
            _add(files, config, target, waiting)
    return files


def on_page_markdown(markdown: str, page: Any, config: Any, files: Files) -> str:
    """Links of the repository as links of the site."""
    here = Path(page.file.abs_src_path)

    def as_linked(found: re.Match[str]) -> str:
        target = _resolve(here, found[2])
        if target is None or not target.is_file():
            return found[0]  # mkdocs says what is wrong with it
        link = os.path.relpath(_place(target), Path(page.file.src_uri).parent)
        return f"{found[1]}{Path(link).as_posix()}{found[3] or ''})"

    return _LINK.sub(as_linked, markdown)


def _targets(page: Path) -> Iterator[Path]:
    for found in _LINK.finditer(page.read_text(encoding="utf-8")):
        target = _resolve(page, found[2])
        if target is not None and target.is_file():
            yield target


def _resolve(page: Path, link: str) -> Path | None:
    """The file of the repository that a relative link means (of a folder, its index); None for any other link."""
    target = Path(os.path.normpath(page.parent / link))
    target = target / "index.md" if target.is_dir() else target
    return None if "://" in link or not target.is_relative_to(ROOT) else target


def _place(source: Path) -> str:
    """Where in the site a file of the repository is."""
    if source.is_relative_to(DOCS):
        return source.relative_to(DOCS).as_posix()
    path = source.relative_to(ROOT).as_posix()
    known = {where: name for name, where in ELSEWHERE.items()}
    # A README would be the index of its folder.
    return known.get(path, f"files/{path}".replace("README.md", "about.md"))


def _add(files: Files, config: Any, source: Path, waiting: list[Path]) -> None:
    place = _place(source)
    if files.get_file_from_path(place) is None and not source.is_relative_to(DOCS):
        files.append(File.generated(config, place, abs_src_path=str(source)))
        if source.suffix == ".md":
            waiting.append(source)
