"""Where problems come from: files of JSON lines, packed or not, and data sets of the hub."""

from __future__ import annotations

import gzip
import json
import lzma
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from llm.problems.problem import Problem

# No line of a published benchmark comes near it but LiveCodeBench's with all tests.
MAX_LINE = 2**29


@dataclass(frozen=True)
class Malformed:
    """A line that is no problem: where it is, and what is wrong with it."""

    place: str
    why: str

    def __str__(self) -> str:
        return f"{self.place}: {self.why}"


class Wrong(ValueError):
    """A record can't be made a problem; the message says why in a few words."""


def records(where: str, split: str, name: str) -> Iterator[tuple[str, Any]]:
    """(place for people, record or `Wrong`) of a file of JSON lines, or of a data set of the hub.

    Args:
        where: a file (.jsonl, .json with a list, or these packed as .gz or .xz), or the name of a data set.
        split: of the data set.
        name: of the benchmark, for messages.

    Raises:
        FileNotFoundError: there is neither.
        ValueError: a file that can't be read at all.
    """
    path = Path(where)
    if path.is_file():
        yield from _lines(path)
    elif path.is_dir() or path.suffix in (".jsonl", ".json", ".gz", ".xz"):
        raise FileNotFoundError(f"problems: no file {path}; give {name}'s file of JSON lines, or a data set of the hub")
    else:
        yield from _hub(where, split, name)


def _lines(path: Path) -> Iterator[tuple[str, Any]]:
    opener: Any = {".gz": gzip.open, ".xz": lzma.open}.get(path.suffix, open)
    try:
        with opener(path, "rb") as file:
            if ".json" in path.suffixes:
                yield from _whole(path, file.read())
                return
            number = 0
            while line := file.readline(MAX_LINE):
                number += 1
                if line.strip():
                    yield f"{path}:{number}", _parsed(line)
    except (OSError, EOFError, lzma.LZMAError) as error:
        raise ValueError(f"problems: {path} can't be read ({error}); fetch it again") from None


def _whole(path: Path, content: bytes) -> Iterator[tuple[str, Any]]:
    found = _parsed(content)
    if not isinstance(found, (list, dict)):
        raise ValueError(f"problems: {path} is no list of records ({found}); give a list, or JSON lines (.jsonl)")
    for number, record in enumerate(found if isinstance(found, list) else found.values(), 1):
        yield f"{path}, record {number}", record


def _parsed(line: bytes) -> Any:
    try:
        return json.loads(line.decode("utf-8-sig"))
    except (ValueError, RecursionError) as error:
        return Wrong(f"not JSON ({error})")


def _hub(where: str, split: str, name: str) -> Iterator[tuple[str, Any]]:
    # A heavy import, and a file needs none of it.
    import datasets

    repository, _, config = where.partition("@")
    try:
        found = datasets.load_dataset(repository, config or None, split=split)
    except Exception as error:
        # datasets and huggingface_hub raise a dozen types; all mean that it can't be had.
        reason = f"{type(error).__name__}: {(str(error).strip().splitlines() or [''])[0]}"[:300]
        raise FileNotFoundError(
            f"problems: {where!r} is neither a file nor a data set of the hub that can be reached; give {name}'s file "
            f"of JSON lines ({reason})"
        ) from None
    for number, record in enumerate(found, 1):
        yield f"{where}, record {number}", record


def read(
    where: str, make: Callable[[Mapping[str, Any]], Problem], *, split: str, name: str
) -> tuple[list[Problem], list[Malformed]]:
    """All records that are problems, and the places of those that are not.

    Raises:
        FileNotFoundError, ValueError: as `records`; also if no record is a problem.
    """
    return collect(records(where, split, name), make, where, name)


def collect(
    found: Iterable[tuple[str, Any]], make: Callable[[Mapping[str, Any]], Problem], where: str, name: str
) -> tuple[list[Problem], list[Malformed]]:
    """As `read`, of records that were read."""
    problems: list[Problem] = []
    malformed: list[Malformed] = []
    seen: set[str] = set()
    for place, record in found:
        try:
            if isinstance(record, Wrong):
                raise record
            if not isinstance(record, Mapping):
                raise Wrong(f"a record is a JSON object, this is a {type(record).__name__}")
            problem = make(record)
            if problem.name in seen:
                raise Wrong(f"another problem has the name {problem.name!r}")
        except ValueError as error:
            malformed.append(Malformed(place, str(error)))
            continue
        seen.add(problem.name)
        problems.append(problem)
    if not problems:
        first = f"; the first: {malformed[0]}" if malformed else ""
        raise ValueError(f"problems: {where} holds none in the format of {name}{first}")
    return problems, malformed


_MISSING = object()


def text(record: Mapping[str, Any], *names: str, default: Any = _MISSING) -> Any:
    """The first of these fields that is there; it must be a text.

    Raises:
        Wrong: it is not, or none is there and there is no default.
    """
    return field(record, str, *names, default=default)


def field(record: Mapping[str, Any], kind: type, *names: str, default: Any = _MISSING) -> Any:
    """As `text`, of another type."""
    for name in names:
        value = record.get(name)
        if value is None:
            continue
        if not isinstance(value, kind):
            raise Wrong(f"{name!r} must be a {kind.__name__}, not a {type(value).__name__}")
        if isinstance(value, str) and "\0" in value:
            raise Wrong(f"{name!r} holds a NUL")
        return value
    if default is _MISSING:
        raise Wrong(f"it has no {names[0]!r}" if len(names) == 1 else f"it has none of {', '.join(map(repr, names))}")
    return default


def texts(record: Mapping[str, Any], name: str, default: Any = _MISSING) -> tuple[str, ...]:
    """A list of texts."""
    found = field(record, list, name, default=default)
    if not all(isinstance(one, str) for one in found):
        raise Wrong(f"{name!r} must be a list of texts")
    return tuple(found)


def python(code: str, name: str) -> str:
    """Code that must parse, for it is run by the judge.

    Raises:
        Wrong: naming the line of the error.
    """
    try:
        compile(code, "<tests>", "exec", dont_inherit=True)
    except (SyntaxError, ValueError) as error:
        raise Wrong(f"{name!r} is no Python ({error})") from None
    return code
