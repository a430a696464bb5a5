"""Programs with their thoughts, as a run writes them down: JSON lines for people, `ra3 thoughts`, and other runs."""

from __future__ import annotations

import ast
import hashlib
import json
import warnings
from collections.abc import Mapping, Sequence
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
import torch

from llm.gains import gains
from llm.lines import Lines
from llm.passes import split
from llm.program import CONTENT, Program, Row, Thoughts
from llm.scoring import collate, log_probs
from llm.world import Annotation

# Logits of one pass: so many float32 numbers at most (half a gigabyte).
_LOGITS = 2**27


def digest(program: Program) -> str:
    """Tells programs apart by their text."""
    return hashlib.blake2b(program.text.encode("utf-8", "surrogatepass"), digest_size=8).hexdigest()


@torch.no_grad()
def line_scores(module: Any, rows: Sequence[Row], closing: torch.Tensor) -> list[tuple[np.ndarray, np.ndarray]]:
    """(log-likelihood of the content of each line in nats, κ), ``(T,)`` each; κ is NaN where no thought may stand."""
    found: dict[int, tuple[np.ndarray, np.ndarray]] = {}
    for part in split(rows, max(_LOGITS // module.config.vocab_size, 1), pack=False):
        scores = log_probs(module, collate(part, device=closing.device), closing)
        ends = np.cumsum([len(row.ids) - 1 for row in part])[:-1]
        tokens, decisions = (
            np.split(values.double().cpu().numpy(), ends) for values in (scores.token, scores.decision)
        )
        for row, token, decision in zip(part, tokens, decisions, strict=True):
            line, kind, T = row.line[1:], row.kind[1:], int(row.line.max()) + 1
            likelihood = np.bincount(line[kind == CONTENT], token[kind == CONTENT], minlength=T)
            kappa, at = np.full(T, np.nan), row.marker[1:] >= 0
            thinks = row.ids[1:][at] == row.marker[1:][at]
            kappa[line[at]] = np.where(thinks, np.exp(decision[at]), -np.expm1(decision[at]))
            found[id(row)] = likelihood, kappa
    return [found[id(row)] for row in rows]


def describe(
    lines: Lines, programs: Sequence[Program], annotations: Sequence[Annotation], *, policy: Any, reward: Any,
    closing: torch.Tensor,
) -> list[dict[str, Any]]:  # fmt: skip
    """One JSON-able record for each program with an annotation of it.

    Args:
        policy: transformers model whose κ is told; reward: the one whose likelihoods and gains are.

    A record has ``name``, ``program`` (`digest`), ``about``, ``prompt``, ``text`` (with the thoughts in place),
    ``sound`` (whether that is the same program for Python), ``thoughts`` (``{line: text}``), ``lines``: ``code``,
    ``kappa`` (probability of a thought there), ``log_likelihood`` (nats, of its content), ``gain`` (nats, what the
    thought before it adds up to the next one); None where there is none.
    """
    rows = [annotation.row(program) for program, annotation in zip(programs, annotations, strict=True)]
    scores = line_scores(reward, rows, closing)
    kappas = scores if policy is reward else line_scores(policy, rows, closing)
    worth = gains(reward, programs, [annotation.thoughts for annotation in annotations], closing)
    found = []
    for k, (program, annotation) in enumerate(zip(programs, annotations, strict=True)):
        text = lines.text(program, annotation.thoughts)
        thoughts = {
            str(t): lines.thought_text(thought) for t, thought in enumerate(annotation.thoughts) if thought is not None
        }
        columns = (code(lines, program), kappas[k][1], scores[k][0], worth[k])
        found.append(
            {
                "name": program.name,
                "program": digest(program),
                "about": program.about,
                "prompt": program.text[: program.code_start],
                "sound": same_program(program, text),
                "thoughts": thoughts,
                "lines": [
                    {"code": part, "kappa": _number(kappa), "log_likelihood": _number(value), "gain": _number(gain)}
                    for part, kappa, value, gain in zip(*columns, strict=True)
                ],
                "text": text,
            }
        )
    return found


def code(lines: Lines, program: Program) -> list[str]:
    """The text of each line; together they are the code, but for white space that the prompt shares with it."""
    decode = lines.tokenizer.backend_tokenizer.decode
    ids = program.ids.tolist()
    texts = [decode(ids[:cut], skip_special_tokens=True) for cut in program.cuts.tolist()]
    return [after[len(before) :] for before, after in pairwise(texts)]


def same_program(program: Program, text: str) -> bool:
    """Whether the text, which has thoughts in it, is the same program for Python."""
    for start in (0, program.code_start):
        trees = [_tree(source[start:]) for source in (program.text, text)]
        if trees[0] is not None:
            return trees[0] == trees[1]
    return False


def _tree(text: str) -> str | None:
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            return ast.dump(ast.parse(text.removeprefix("\ufeff")))
    except (SyntaxError, ValueError):
        return None


def _number(value: float) -> float | None:
    return round(float(value), 6) if np.isfinite(value) else None


def summary(records: Sequence[Mapping[str, Any]]) -> dict[str, float]:
    """``gain`` (nats, mean over lines), ``gain_thought`` (over thoughts), ``broken`` (programs spoilt, hence 0)."""
    worth = [line["gain"] for record in records for line in record["lines"] if line["gain"] is not None]
    lines = sum(len(record["lines"]) for record in records)
    return {
        "gain": sum(worth) / max(lines, 1),
        "gain_thought": sum(worth) / max(len(worth), 1),
        "broken": float(sum(not record["sound"] for record in records)),
    }


def write(records: Sequence[Mapping[str, Any]]) -> str:
    """As JSON lines."""
    return "".join(json.dumps(record) + "\n" for record in records)


def read(path: Path) -> list[dict[str, Any]]:
    """JSON lines that `write` wrote, or someone else: at least ``name`` or ``program``, and ``thoughts``.

    Raises:
        FileNotFoundError: there is no such file.
        ValueError: naming the line that is not such a record.
    """
    if not path.is_file():
        raise FileNotFoundError(f"thoughts: no file {path}")
    found = []
    for number, line in enumerate(path.read_text(encoding="utf-8").split("\n"), 1):
        if not line.strip():
            continue
        try:
            record = json.loads(line)
            thoughts = {int(t): str(text) for t, text in record["thoughts"].items()}
            record["name" if "name" in record else "program"]
        except (ValueError, KeyError, TypeError, AttributeError) as error:
            raise ValueError(
                f'thoughts: line {number} of {path} is no record with "name" and "thoughts" {{line: text}} ({error})'
            ) from None
        found.append(record | {"thoughts": thoughts})
    if not found:
        raise ValueError(f"thoughts: {path} is empty")
    return found


def given(
    records: Sequence[Mapping[str, Any]], programs: Sequence[Program], lines: Lines
) -> dict[int, tuple[Thoughts, ...]]:
    """The thoughts of records for the programs they are of, by the programs' numbers.

    Raises:
        ValueError: records of none of the programs, or thoughts that can't stand where they should.
    """
    places: dict[str, list[int]] = {}
    for number, program in enumerate(programs):
        for key in {digest(program), program.name} - {""}:
            places.setdefault(key, []).append(number)
    found: dict[int, tuple[Thoughts, ...]] = {}
    for record in records:
        for number in places.get(record.get("program") or record["name"], ()):
            program, thoughts = programs[number], record["thoughts"]
            wrong = [t for t in thoughts if not 0 <= t < len(program) or program.marker[t] < 0]
            if wrong:
                raise ValueError(f"thoughts: none may stand before line {wrong[0]} of {program.name}")
            latents = tuple(lines.thought(thoughts[t]) if t in thoughts else None for t in range(len(program)))
            found[number] = (*found.get(number, ()), latents)
    if not found:
        raise ValueError(f"thoughts: {len(records)} records, none of a program of this corpus; names must agree")
    return found


def digest_of(thoughts: Mapping[int, tuple[Thoughts, ...]]) -> str:
    """Tells thoughts apart."""
    return hashlib.blake2b(repr(sorted(thoughts.items())).encode(), digest_size=8).hexdigest()
