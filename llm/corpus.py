"""Corpora: streams of programs with where they come from, split by file and sampled in bounded memory."""

from __future__ import annotations

import hashlib
import random
import tokenize
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any, Literal

from llm.extract import KINDS, Limits, Piece, digest, parse, pieces, strip_comments
from llm.sources import Reading, Report, Text, open_source

__all__ = ["Document", "Reading", "Report", "documents", "is_held_out", "sample", "split"]


@dataclass(frozen=True)
class Document:
    """A program.

    Attributes:
        text: the code; it ends with a newline.
        prompt: what stands before it and is not the expert's, '' for most.
        name: for people, "json/decoder.py:JSONDecoder.decode".
        about: path (within its source; "file:line" for a record), line (the first, from 1), kind ("function", "class",
            "module"), licence (None if unknown), sha (SHA-256 of the whole file or record). JSON-able.
    """

    text: str
    prompt: str = ""
    name: str = ""
    about: dict[str, Any] = field(default_factory=dict, compare=False)


def documents(
    source: str, *, kinds: Sequence[str] | None = None, min_lines: int = 3, max_lines: int = 100,
    max_chars: int = 5000, dedup: bool = True, comments: Literal["keep", "strip"] = "keep",
    reading: Reading | None = None, report: Report | None = None,
) -> Iterator[Document]:  # fmt: skip
    """Stream the programs of a source, in the same order on every machine.

    The outermost parts that fit the limits are taken, so that no text comes twice: a class whole, or if it is too long
    its methods, and likewise the functions of a module. Methods lose their indentation. Nested functions stay where
    they are. What is broken, and what doesn't fit, is counted in the report.

    Args:
        source: 'stdlib' (the standard library as installed, without `llm.sources.LEFT_OUT_OF_STDLIB`), 'package:NAME',
            a folder, a .py file, a file of records (.jsonl, .jsonl.gz, .parquet), or 'hub:NAME[:SPLIT]' (the split
            'train' by default). Records that have a prompt are programs as they stand.
        kinds: among 'function', 'class', 'module'. None: functions and classes of Python files; of records also the
            whole text where it fits.
        min_lines, max_lines: physical lines of the text.
        max_chars: of the text.
        dedup: leave out programs whose syntax tree came before; 16 bytes are kept of each.
        comments: 'strip' takes them out (docstrings stay).
        reading: the size limit of files, and the fields of records.
        report: is filled while the stream is read.

    Raises:
        FileNotFoundError: there is no such source.
        ValueError: an argument is wrong, or, at the end of the stream, there was no program at all.
    """
    for kind in kinds if kinds is not None else ():
        if kind not in KINDS:
            raise ValueError(f"kinds: must be among {', '.join(KINDS)}, got {kind!r}")
    if kinds is not None and not kinds:
        raise ValueError(f"kinds: give at least one of {', '.join(KINDS)}")
    if comments not in ("keep", "strip"):
        raise ValueError(f"comments: must be 'keep' or 'strip', got {comments!r}")
    limits = Limits(min_lines, max_lines, max_chars)
    report = Report() if report is None else report
    texts = open_source(source, reading or Reading(), report)
    found = _documents(texts, kinds, limits, comments == "strip", report)
    return _some(_once(found, report) if dedup else (document for document, _ in found), source, report)


def _documents(
    texts: Iterator[Text], kinds: Sequence[str] | None, limits: Limits, strip: bool, report: Report
) -> Iterator[tuple[Document, bytes]]:
    for text in texts:
        asked = ("module",) if text.whole else kinds or (KINDS if text.record else ("function", "class"))
        try:
            for piece in pieces(text.text, asked, limits):
                if piece.verdict:
                    report.left_out[piece.verdict] += 1
                    continue
                code = strip_comments(piece.text) if strip else piece.text
                if verdict := limits.verdict(code):
                    report.left_out[verdict] += 1
                    continue
                yield _document(text, piece, code), digest(parse(code))
        except UnicodeError:
            report.count_broken("wrong encoding", text.path)
        except (SyntaxError, ValueError, tokenize.TokenError):
            report.count_broken("syntax error", text.path)
        except (RecursionError, MemoryError):
            # This is how the parser refuses deep nesting.
            report.count_broken("nested too deeply", text.path)
        else:
            report.files += 1


def _document(text: Text, piece: Piece, code: str) -> Document:
    name = ":".join(part for part in (text.name or text.path, piece.name) if part)
    about = {
        "path": text.path, "line": piece.line, "kind": piece.kind, "licence": text.licence, "sha": text.sha,
    }  # fmt: skip
    return Document(code, text.prompt, name, about)


def _once(found: Iterable[tuple[Document, bytes]], report: Report) -> Iterator[Document]:
    seen: set[bytes] = set()
    for document, key in found:
        if document.prompt:
            # The same answer to another question is another program.
            key = hashlib.blake2b(key + document.prompt.encode("utf-8", "surrogatepass"), digest_size=16).digest()
        if key in seen:
            report.left_out["duplicate"] += 1
        else:
            seen.add(key)
            yield document


def _some(found: Iterable[Document], source: str, report: Report) -> Iterator[Document]:
    none = True
    for document in found:
        none = False
        report.documents[document.about["kind"]] += 1
        report.characters += len(document.text)
        yield document
    if none:
        raise ValueError(f"corpus: {source} holds no program that fits: {report.describe()}")


def is_held_out(document: Document, held_out: float, seed: int) -> bool:
    """Whether the document's file is held out: one draw for each path and seed, with probability ``held_out``.

    The path is the one within the source, so the answer is the same on every machine, whatever else the corpus holds. A
    record counts as a file of its own.
    """
    key = hashlib.blake2b(f"{seed}:{document.about['path']}".encode(), digest_size=8).digest()
    return int.from_bytes(key, "big") < held_out * 2**64


def split(
    stream: Iterable[Document], held_out: float, seed: int, side: Literal["train", "held_out"]
) -> Iterator[Document]:
    """The documents of one side, in a stream; all documents of a file are on one side. See `is_held_out`.

    Raises:
        ValueError: a share that is not between 0 and 1, or another side.
    """
    if not 0 <= held_out <= 1:
        raise ValueError(f"held_out: must be from 0 to 1, got {held_out}")
    if side not in ("train", "held_out"):
        raise ValueError(f"side: must be 'train' or 'held_out', got {side!r}")
    return (one for one in stream if is_held_out(one, held_out, seed) == (side == "held_out"))


def sample(stream: Iterable[Document], count: int, seed: int) -> list[Document]:
    """``count`` documents drawn uniformly without replacement, in their order; all of them if there are fewer.

    Reads the stream once and keeps no more than ``count`` (reservoir sampling, Vitter 1985, algorithm R).
    """
    if count < 1:
        raise ValueError(f"count: must be at least 1, got {count}")
    draw = random.Random(seed)
    kept: list[tuple[int, Document]] = []
    for number, document in enumerate(stream):
        if number < count:
            kept.append((number, document))
        elif (place := draw.randrange(number + 1)) < count:
            kept[place] = (number, document)
    return [document for _, document in sorted(kept, key=lambda pair: pair[0])]
