"""Small programs, models and worlds for the tests of `llm`: ids by hand, weights at random."""

import numpy as np
import torch

from llm.models import tiny
from llm.program import Program, assemble
from llm.scoring import collate, log_probs

VOCABULARY, BOS, EOS, NEWLINE, MARKER, INDENT = 12, 0, 1, 2, 3, 4
CLOSING = np.isin(np.arange(VOCABULARY), (BOS, EOS, NEWLINE))
KINDS = ["llama", "gpt2"]


def model(kind="llama", seed=0, vocabulary=VOCABULARY, width=16, layers=2, sharp=4.0, max_length=256):
    """Random weights, far enough from 0 that what comes next depends on what was before."""
    made = tiny(
        vocabulary, kind=kind, layers=layers, width=width, heads=4, kv_heads=2 if kind == "llama" else None,
        max_length=max_length, seed=seed, tied=False,
    )  # fmt: skip
    with torch.no_grad():
        for weight in made.parameters():
            if weight.ndim == 2:
                weight.mul_(sharp)
    return made


def program(seed, style="before", lines=4, forbidden=(), longest=4, prompt=None):
    """Words in lines of random lengths.

    "before": newline and indentation begin a line, and end a thought before it; "after": lines begin with content, or
    with indentation, and thoughts need a newline of their own. In the lines of ``forbidden`` no thought may stand.
    """
    rng = np.random.default_rng(seed)
    ids, content, cuts, split = [BOS], [False], [], []
    prompt = rng.integers(1, 4) if prompt is None else prompt
    ids += rng.integers(5, VOCABULARY, prompt).tolist()
    content += [False] * int(prompt)
    for _ in range(lines):
        cuts.append(len(ids))
        space = [NEWLINE] * (style == "before") + [INDENT] * int(rng.integers(0, 3))
        words = rng.integers(5, VOCABULARY, rng.integers(1, longest + 1)).tolist()
        ids += space + words
        content += [False] * len(space) + [True] * len(words)
        split.append(len(space))
    ids, content = [*ids, EOS], [*content, False]
    marker = np.full(lines, MARKER)
    marker[list(forbidden)] = -1
    closer = ((),) * lines if style == "before" else ((NEWLINE,),) * lines
    cuts, split = np.array([*cuts, len(ids)]), np.where(marker < 0, 0, split)
    return Program(np.array(ids), cuts, split, marker, np.array(content), closer, name=f"{style} {seed}")


def mixed(count=4, lines=4):
    """Programs of both styles and of several lengths; some lines of some have no place for a thought."""
    found = []
    for seed in range(count):
        length = lines - (seed % 3 == 2)
        forbidden = ((), (0,), (1, length - 1), (length - 1,))[seed % 4]
        found.append(program(seed, ("before", "after")[seed % 2], length, forbidden))
    return found


@torch.no_grad()
def parts(module, row, closing=CLOSING):
    """Decision and token log-probabilities of a row, ``(n,)`` float64 each, 0 at the first position."""
    found = log_probs(module, collate([row]), torch.from_numpy(closing))
    return [np.append(0.0, part.double().numpy()) for part in found]


def ends(row, closed):
    """The row with its thoughts' ends as the event that they close, where they did."""
    close = (row.kind == 5) & np.append(closed, True)[row.line]
    return type(row)(row.ids, row.marker, close, row.weight, row.decision_weight, row.line, row.kind)


def by_line(values, row, where, lines):
    return np.bincount(row.line[where], values[where], minlength=lines)


def explained(module, made, thoughts, closed, closing=CLOSING):
    """Sums by line from one full pass: log p of the decision, of the thought with its end, of the line's content."""
    row = ends(assemble(made, thoughts, closed=closed), np.asarray(closed))
    decision, token = parts(module, row, closing)
    T = len(made)
    thought = (row.kind == 4) | row.close
    return (
        by_line(decision, row, row.marker >= 0, T),
        by_line(token, row, thought, T),
        by_line(token, row, row.kind == 2, T),
    )
