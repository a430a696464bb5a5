"""Where programs come from: folders of Python, installed packages, the standard library, records.

Everything is read in a stream and in an order that doesn't depend on the file system. What can't be read is counted in
a `Report` and passed over.
"""

from __future__ import annotations

import gzip
import hashlib
import importlib.metadata
import importlib.util
import io
import json
import os
import re
import stat
import sysconfig
import tokenize
import zlib
from collections import Counter
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pyarrow
from pyarrow import parquet

# Tests, demonstrations, code for Python 2 and generated tables of help; not what people write programs for.
LEFT_OUT_OF_STDLIB = frozenset(
    ["test", "tests", "idlelib", "lib2to3", "turtledemo", "pydoc_data", "site-packages", "dist-packages"]
)
TEXT_FIELDS = ("text", "content", "code")
_RECORDS = (".jsonl", ".jsonl.gz", ".parquet")
_SPDX = re.compile(r"SPDX-License-Identifier:\s*([\w.+()-]+(?: (?:AND|OR|WITH) [\w.+()-]+)*)")


@dataclass
class Report:
    """What was read, given and left out; filled while a stream is read.

    Attributes:
        files: files and records that were read without trouble.
        broken: how many files and records were not, by reason.
        examples: up to 3 places for each of these reasons, "path" or "path:line".
        documents: documents given, by kind.
        characters: of these documents.
        left_out: pieces that were passed over, by reason: too short, too long, duplicate.
    """

    files: int = 0
    broken: Counter[str] = field(default_factory=Counter)
    examples: dict[str, list[str]] = field(default_factory=dict)
    documents: Counter[str] = field(default_factory=Counter)
    characters: int = 0
    left_out: Counter[str] = field(default_factory=Counter)

    def count_broken(self, reason: str, place: str) -> None:
        self.broken[reason] += 1
        places = self.examples.setdefault(reason, [])
        if len(places) < 3:
            places.append(place)

    def describe(self) -> str:
        """One line for people."""
        kinds = ", ".join(f"{count} of kind {kind}" for kind, count in sorted(self.documents.items()))
        parts = [
            f"{self.documents.total()} programs{f' ({kinds})' if kinds else ''}, {self.characters} characters, "
            f"from {self.files} files or records"
        ]
        if self.left_out:
            parts.append("left out: " + ", ".join(f"{n} {reason}" for reason, n in sorted(self.left_out.items())))
        if self.broken:
            broken = (f"{n} {reason} ({', '.join(self.examples[reason])})" for reason, n in sorted(self.broken.items()))
            parts.append("not readable: " + ", ".join(broken))
        return "; ".join(parts)


@dataclass(frozen=True)
class Text:
    """One file or record; ``whole``: it is a program as it stands, not to be taken apart."""

    path: str
    text: str
    sha: str
    licence: str | None
    prompt: str = ""
    name: str = ""
    record: bool = False
    whole: bool = False


@dataclass(frozen=True)
class Reading:
    """How files and records are read.

    Attributes:
        max_bytes: files and records that are larger are refused.
        text_field: field of a record with the code; the first of text, content, code that it has if None.
        prompt_field, name_field: fields of a record that may be missing.
    """

    max_bytes: int = 1_000_000
    text_field: str | None = None
    prompt_field: str = "prompt"
    name_field: str = "name"

    def __post_init__(self) -> None:
        if self.max_bytes < 1:
            raise ValueError(f"max_bytes: must be at least 1, got {self.max_bytes}")


def open_source(source: str, reading: Reading, report: Report) -> Iterator[Text]:
    """Texts of a source; see `llm.corpus.documents`. The source is looked for at once, the stream starts when read.

    Raises:
        FileNotFoundError: there is no such file, folder, package or data set.
        ValueError: it is not something to read programs from.
    """
    if source == "stdlib":
        root = Path(sysconfig.get_path("stdlib"))
        return _folder(root, root, "PSF-2.0", reading, report, LEFT_OUT_OF_STDLIB)
    kind, _, name = source.partition(":")
    if kind == "package":
        return _package(name, reading, report)
    if kind == "hub":
        return _hub(name, reading, report)
    path = Path(source)
    if path.is_dir():
        return _folder(path, path, None, reading, report)
    if not path.exists():
        raise FileNotFoundError(
            f"corpus: no file or folder {source!r}; give one, or 'stdlib', 'package:NAME' or 'hub:NAME[:SPLIT]'"
        )
    if path.suffix == ".py":
        return _files([path], path.parent, None, reading, report)
    if path.name.endswith((".jsonl", ".jsonl.gz")):
        return _texts(_json_lines(path, reading, report), reading, report)
    if path.suffix == ".parquet":
        return _texts(_parquet_rows(path, reading, report), reading, report)
    raise ValueError(f"corpus: {source} must be a folder or end in .py, {', '.join(_RECORDS)}")


def _folder(
    folder: Path, root: Path, licence: str | None, reading: Reading, report: Report,
    without: frozenset[str] = frozenset(),
) -> Iterator[Text]:  # fmt: skip
    return _files(_python_files(folder, root, report, without), root, licence, reading, report)


def _python_files(folder: Path, root: Path, report: Report, without: frozenset[str]) -> Iterator[Path]:
    """Sorted; hidden folders, virtual environments and links to folders (they may go round) are not entered."""

    def refused(error: OSError) -> None:
        report.count_broken("unreadable folder", _relative(Path(error.filename), root))

    for here, folders, names in os.walk(folder, onerror=refused):
        if "pyvenv.cfg" in names:
            folders.clear()
            continue
        for name in sorted(folders):
            if (Path(here) / name).is_symlink():
                report.count_broken("linked folder", _relative(Path(here) / name, root))
        folders[:] = sorted(name for name in folders if not name.startswith(".") and name not in without)
        for name in sorted(names):
            if name.endswith(".py"):
                yield Path(here) / name


def _files(paths: Iterable[Path], root: Path, licence: str | None, reading: Reading, report: Report) -> Iterator[Text]:
    for path in paths:
        place = _relative(path, root)
        try:
            data = _read(path, reading.max_bytes)
            text = decode(data)
        except (OSError, ValueError) as error:
            report.count_broken(str(error) if isinstance(error, ValueError) else "unreadable file", place)
            continue
        yield Text(place, text, hashlib.sha256(data).hexdigest(), _own_licence(text) or licence)


def _relative(path: Path, root: Path) -> str:
    return path.relative_to(root).as_posix().encode("utf-8", "backslashreplace").decode()


def _read(path: Path, max_bytes: int) -> bytes:
    # A pipe would be waited for for ever, and /dev/zero has no end.
    if not stat.S_ISREG(path.stat().st_mode):
        raise ValueError("not a regular file")
    with open(path, "rb") as file:
        data = file.read(max_bytes + 1)
    if len(data) > max_bytes:
        raise ValueError("too large")
    return data


def decode(data: bytes) -> str:
    """Python source as text, by its mark or declaration of an encoding (UTF-8 without), newlines as ``\\n``.

    Raises:
        ValueError: the reason in two words.
    """
    if b"\0" in data:
        raise ValueError("NUL bytes")
    try:
        encoding, _ = tokenize.detect_encoding(io.BytesIO(data).readline)
        return _newlines(data.decode(encoding))
    except (SyntaxError, UnicodeError, LookupError):
        raise ValueError("wrong encoding") from None


def _newlines(text: str) -> str:
    return text.replace("\r\n", "\n").replace("\r", "\n")


def _own_licence(text: str) -> str | None:
    found = _SPDX.search(text, 0, 4096)
    return found[1] if found else None


def _package(name: str, reading: Reading, report: Report) -> Iterator[Text]:
    # Only the top is looked up by the import system: looking up a part would run the package's code.
    top, *parts = name.split(".")
    try:
        spec = importlib.util.find_spec(top) if top else None
    except ValueError:
        spec = None
    if spec is None:
        raise FileNotFoundError(f"corpus: no package {name!r} is installed; give its import name, as in 'package:json'")
    roots = [Path(root) for root in spec.submodule_search_locations or []]
    if not roots and spec.origin and spec.origin.endswith(".py"):
        roots = [Path(spec.origin)]
    places = [place for root in roots for place in (root.joinpath(*parts), root.joinpath(*parts).with_suffix(".py"))]
    found = [place for place in places if place.is_dir() or (place.is_file() and place.suffix == ".py")]
    if not found:
        raise FileNotFoundError(f"corpus: the package {name!r} has no Python source here")
    place, licence = found[0], _package_licence(top, Path(spec.origin or roots[0]))
    root = place
    for _ in name.split("."):
        root = root.parent
    if place.is_dir():
        return _folder(place, root, licence, reading, report)
    return _files([place], root, licence, reading, report)


def _package_licence(top: str, origin: Path) -> str | None:
    names = importlib.metadata.packages_distributions().get(top)
    if not names:
        return "PSF-2.0" if origin.is_relative_to(sysconfig.get_path("stdlib")) else None
    about: Any = importlib.metadata.metadata(names[0])
    said = about.get("License-Expression") or (about.get("License") or "").strip()
    if said and "\n" not in said:
        return said
    classes = [line.split(" :: ")[-1] for line in about.get_all("Classifier", []) if line.startswith("License ::")]
    return " AND ".join(classes) or None


Record = tuple[str, Any]  # its place, "file:line", and what stands there


def _texts(records: Iterator[Record], reading: Reading, report: Report) -> Iterator[Text]:
    for place, record in records:
        if not isinstance(record, dict):
            report.count_broken("not a record", place)
            continue
        names = [reading.text_field] if reading.text_field else TEXT_FIELDS
        text = next((record[name] for name in names if isinstance(record.get(name), str)), None)
        if text is None:
            report.count_broken(f"without a field {' or '.join(names)}", place)
            continue
        prompt, name = record.get(reading.prompt_field) or "", record.get(reading.name_field) or ""
        data = text.encode("utf-8", "surrogatepass")
        if len(data) > reading.max_bytes:
            report.count_broken("too large", place)
        elif "\0" in text:
            report.count_broken("NUL bytes", place)
        elif not isinstance(prompt, str) or not isinstance(name, str):
            report.count_broken("prompt or name that is not text", place)
        elif not _encodes(prompt + name):
            report.count_broken("wrong encoding", place)
        else:
            licence = record.get("licence") or record.get("license") or _own_licence(text)
            sha = hashlib.sha256(data).hexdigest()
            licence = licence if isinstance(licence, str) else None
            yield Text(place, _newlines(text.removeprefix("\ufeff")), sha, licence, prompt, name, True, bool(prompt))


def _encodes(text: str) -> bool:
    """False where JSON's escapes made half a character."""
    try:
        text.encode()
    except UnicodeEncodeError:
        return False
    return True


def _json_lines(path: Path, reading: Reading, report: Report) -> Iterator[Record]:
    # A record's JSON is longer than its text by its escapes and its other fields.
    limit = 8 * reading.max_bytes
    opener: Callable[..., Any] = gzip.open if path.suffix == ".gz" else open
    number, label = 0, _relative(path, path.parent)
    try:
        with opener(path, "rb") as file:
            while line := file.readline(limit):
                number += 1
                place = f"{label}:{number}"
                if len(line) == limit and not line.endswith(b"\n"):
                    report.count_broken("too large", place)
                    while line and not line.endswith(b"\n"):
                        line = file.readline(limit)
                elif line.strip():
                    try:
                        record = json.loads(line)
                    except (ValueError, RecursionError):
                        report.count_broken("not JSON", place)
                        continue
                    yield place, record
    except (OSError, EOFError, zlib.error):
        report.count_broken("truncated or damaged file", f"{label}:{number + 1}")


def _parquet_rows(path: Path, reading: Reading, report: Report) -> Iterator[Record]:
    label = _relative(path, path.parent)
    try:
        file = parquet.ParquetFile(path, page_checksum_verification=True)
    except (OSError, pyarrow.ArrowException):
        report.count_broken("truncated or damaged file", label)
        return
    with file:
        wanted = {reading.prompt_field, reading.name_field, "licence", "license"}
        wanted |= {reading.text_field} if reading.text_field else set(TEXT_FIELDS)
        columns = [name for name in file.schema_arrow.names if name in wanted]
        before = 0
        for group in range(file.num_row_groups):
            row = before
            try:
                for batch in file.iter_batches(64, row_groups=[group], columns=columns):
                    for record in batch.to_pylist():
                        row += 1
                        yield f"{label}:{row}", record
            except (OSError, pyarrow.ArrowException, UnicodeDecodeError):
                report.count_broken("truncated or damaged rows", f"{label}:{row + 1}")
            before += file.metadata.row_group(group).num_rows


def _hub(name: str, reading: Reading, report: Report) -> Iterator[Text]:
    import datasets  # takes a second, and only this source needs it

    name, _, split = name.partition(":")
    try:
        rows = datasets.load_dataset(name, split=split or "train", streaming=True)
    except Exception as error:  # of a dozen types, from several libraries
        raise FileNotFoundError(_hub_reason(name, "can't be had", error)) from None
    return _texts(_hub_rows(rows, name), reading, report)


def _hub_rows(rows: Any, name: str) -> Iterator[Record]:
    number = 0
    try:
        for number, row in enumerate(rows, 1):
            yield f"{name}:{number}", row
    except Exception as error:
        raise ValueError(_hub_reason(name, f"broke off after {number} records", error)) from None


def _hub_reason(name: str, what: str, error: Exception) -> str:
    reason = next(iter(str(error).strip().splitlines()), "")[:200]
    return f"corpus: the hub's data set {name!r} {what} ({type(error).__name__}: {reason}); give a file or a folder"
