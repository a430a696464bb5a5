"""From the text of a program to `llm.program.Program`, for any tokenizer of the tokenizers library.

The whole text is tokenised once, and its tokens are grouped into lines; no piece is ever tokenised again, so that the
ids of the code are those the model was trained on. A line is a physical line with the blank lines before it. Between
two lines the cut is

* before the newline, where a token begins there: the later line begins with its newline and white space, which also
  ends a thought (so it is for SmolLM2, which merges newline and indentation, and where the newline is a token alone);
* else after it: the newline is in one token with the end of the earlier line, as in ``):\\n`` of Qwen2.5 and Llama 3;
  a thought then needs a newline of its own;
* else nowhere: a token holds parts of both lines, and they are one.
"""

from __future__ import annotations

import ast
import copy
import io
import re
import tokenize
import warnings
from collections.abc import Sequence
from functools import cached_property
from typing import Any

import numpy as np
from tokenizers import processors

from llm.program import Program, Thought, assemble

_SPACE = " \t\f\r\n"  # what Python takes for white space between tokens and lines
_NEWLINE = re.compile(r"\r\n|\r|\n")
_BREAKS = re.compile("[\0\n\v\f\r\x1c\x1d\x1e\x85\u2028\u2029]")  # NUL, and where str.splitlines breaks a line
_CONTEXT = 32  # characters before a thought that its opener is tokenised with, to be split as it would be there
_BOM = "\ufeff"


class Lines:
    """Cuts programs into lines for one tokenizer.

    Args:
        tokenizer: a ``PreTrainedTokenizerBase`` with a backend of the tokenizers library (all "fast" ones).
        max_tokens: programs with more ids than this, marks of beginning and end included, are refused.

    Raises:
        ValueError: what the tokenizer lacks: a fast backend, a way to write ``#`` or a newline, or offsets.

    Marks of special tokens in a program's text (``"<|im_end|>"`` in a string) are tokenised as the text they are.
    """

    def __init__(self, tokenizer: Any, *, max_tokens: int | None = None) -> None:
        backend: Any = getattr(tokenizer, "backend_tokenizer", None)
        if not hasattr(backend, "encode_special_tokens"):
            raise ValueError(f"tokenizer: needs a fast one, which knows offsets; {type(tokenizer).__name__} does not")
        if max_tokens is not None and max_tokens < 1:
            raise ValueError(f"max_tokens: must be at least 1, got {max_tokens}")
        self.tokenizer, self.max_tokens = tokenizer, max_tokens
        self._backend = copy.deepcopy(backend)
        self._backend.encode_special_tokens = True
        self._backend.no_truncation()
        self._backend.no_padding()
        self._backend.post_processor = processors.Sequence([])  # some trim white space from the offsets
        for sign, what in (("\n", "a newline"), ("#", "'#'"), ("\n#\n", "a comment")):
            if not self._writes(sign):
                raise ValueError(f"tokenizer: cannot write {what}; comments on lines of their own need that")
        _, starts, ends = self._encode("\n#\n")
        if not (starts[0] == 0 and ends[-1] == 3 and (np.diff(starts) >= 0).all() and ends.max() <= 3):
            raise ValueError("tokenizer: its offsets do not say where in the text a token stands")
        # The comment that openers are tokenised with: a usual one, unless '#' shares a token with what follows there.
        self._comment = "# x" if self._opens("# x") else "#"
        self._newline = self._between(self._comment, "\n")
        bos, eos = tokenizer.bos_token_id, tokenizer.eos_token_id
        self._bos: Thought = self._newline if bos is eos is None else (eos if bos is None else bos,)
        self._eos: Thought = () if eos is None else (eos,)

    @cached_property
    def closing(self) -> np.ndarray:
        """Boolean ``(V,)``: the tokens that close a thought.

        Those whose text would break a comment of one line (newlines of all kinds, NUL), those that spoil a newline
        after them (single bytes of a letter, in tokenizers like Llama 2's), special tokens, the end mark, and ids that
        no token has. V is the length of the tokenizer, or its largest id + 1 where that is more.
        """
        vocabulary = set(self._backend.get_vocab(with_added_tokens=True).values())
        size = max(len(self.tokenizer), max(vocabulary) + 1)
        known = sorted(vocabulary)
        texts = self._backend.decode_batch([[i, *self._newline] for i in known], skip_special_tokens=False)
        closing = np.ones(size, bool)
        closing[known] = [text[-1:] != "\n" or _BREAKS.search(text, 0, len(text) - 1) is not None for text in texts]
        closing[list(self.tokenizer.all_special_ids)] = True
        closing[[i for i, token in self._backend.get_added_tokens_decoder().items() if token.special]] = True
        return closing

    def program(self, code: str, prompt: str = "", name: str = "", about: dict[str, Any] | None = None) -> Program:
        """The program with its lines.

        Args:
            code: Python, valid after the prompt, or else by itself (then the prompt may be any text).
            prompt: stands before the code and is never scored.
            name, about: as in `Program`.

        The ids begin with the mark of the beginning (else of the end, else a newline) and end with the mark of the end,
        if there is one. A thought may stand before every line where a logical line begins, unless the line's white
        space and ``#`` are tokenised in another way than the line's own white space is.

        Raises:
            ValueError: code that is empty, not valid Python, too long, or that the tokenizer can't write.
        """
        text = prompt + code
        if prompt and code.startswith(_BOM):
            raise ValueError(
                "code: begins with a byte order mark, which may stand only where the prompt begins; strip it"
            )
        if not code.strip(_SPACE + _BOM):
            raise ValueError("code: empty")
        starts_of_logical_lines = _logical_starts(prompt, code)
        ids, starts, ends = self._encode(text, "code")
        n = len(self._bos) + len(ids) + len(self._eos)
        if self.max_tokens is not None and n > self.max_tokens:
            raise ValueError(f"code: has {n} tokens, more than max_tokens = {self.max_tokens}")
        self._check(text, ids, starts, ends)
        begin = max(len(prompt), text.startswith(_BOM))
        rows = _Rows(text, begin)
        cuts, lines = _cuts(text, begin, rows, starts, ends)
        cuts = np.append(cuts, len(ids))
        solid = np.concatenate([[0], np.cumsum(_solid(text))])
        content = solid[ends] > solid[starts]
        content[: cuts[0]] = False
        split, marker = np.zeros(len(lines), np.int64), np.full(len(lines), -1)
        closer: list[Thought] = [()] * len(lines)
        for t, line in enumerate(lines):
            row, first, start = rows.start[line], rows.first[line], starts[cuts[t]]
            space = text[start:first]
            if first not in starts_of_logical_lines or (text[row:first] + space).strip(_SPACE):
                continue
            if start == 0 and not self._stands_alone(ids[: cuts[1]], text):
                continue
            own = ids[cuts[t] : cuts[t + 1]]
            split[t], marker[t] = self._opener(text[max(0, start - _CONTEXT) : start], space, own)
            if marker[t] >= 0 and (content[cuts[t]] or not _NEWLINE.search(space)):
                missing = text[row:start]  # indentation that is in the last token of the earlier line
                closer[t] = self._between(self._comment, "\n" + missing) if missing else self._newline
        shift, tail = len(self._bos), len(self._eos)
        cuts += shift
        cuts[-1] += tail
        return Program(
            ids=np.array([*self._bos, *ids, *self._eos], np.int64),
            cuts=cuts,
            split=split,
            marker=marker,
            content=np.concatenate([np.zeros(shift, bool), content, np.zeros(tail, bool)]),
            closer=tuple(closer),
            text=text,
            code_start=len(prompt),
            name=name,
            about=dict(about or {}),
        )

    def thought(self, text: str) -> Thought:
        """The ids of a comment's text, which is what follows ``#``: ``" like this"``.

        Raises:
            ValueError: text that breaks the line, or that the tokenizer can't write.
        """
        if found := _BREAKS.search(text):
            raise ValueError(f"text: a thought is one line, got {found[0]!r} in {text!r}")
        thought = self._between("\n#", text)
        if self.closing[list(thought)].any() or self.thought_text(thought) != text:
            raise ValueError(f"text: the tokenizer cannot write {text!r}")
        return thought

    def thought_text(self, thought: Sequence[int]) -> str:
        """The text of a thought's ids, as it stands after ``#``."""
        return self._decode([*self._between("\n", "#"), *thought]).removeprefix("#")

    def text(self, program: Program, thoughts: Sequence[Thought | None] | None = None) -> str:
        """The text of a program, with the thoughts in place, without the marks of beginning and end.

        Raises:
            ValueError: a thought where none may stand, or one that would not end where it should.
        """
        ids = program.ids
        if thoughts is not None:
            for t, thought in enumerate(thoughts):
                if thought and self.closing[list(thought)].any():
                    raise ValueError(f"thoughts: the one at line {t} has a token that closes it: {list(thought)}")
            ids = assemble(program, thoughts).ids
        return self._decode(ids[len(self._bos) : len(ids) - len(self._eos)].tolist())

    def _opener(self, context: str, space: str, own: np.ndarray) -> tuple[int, int]:
        """(split, marker) of a line with the ids ``own`` that begins with ``space``; marker -1 where there is none.

        The model would write white space and ``#`` as the tokenizer does. Up to the decision these ids must be the
        line's own, and the marker must be one token.
        """
        ids, starts, ends = self._encode(context + space + self._comment)
        begin, sign = len(context), len(context) + len(space)
        opener = ids[(starts >= begin) & (starts <= sign)]
        if not len(opener) or starts[starts >= begin][0] != begin or ends[starts <= sign][-1] != sign + 1:
            return 0, -1
        if len(opener) > len(own) or (opener[:-1] != own[: len(opener) - 1]).any():
            return 0, -1
        return len(opener) - 1, int(opener[-1])

    def _stands_alone(self, ids: np.ndarray, text: str) -> bool:
        """Whether the ids that a text begins with say the same after a newline; not so if a space is put before it."""
        return ("\n" + text).startswith(self._decode([*self._newline, *ids.tolist()]))

    def _between(self, before: str, text: str) -> Thought:
        """The ids of a text as they are after another one; of the text alone where the two share a token."""
        ids, starts, ends = self._encode(before + text)
        after = starts >= len(before)
        if (ends[~after] > len(before)).any():
            return tuple(self._encode(text)[0].tolist())
        return tuple(ids[after].tolist())

    def _encode(self, text: str, name: str = "text") -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """Ids, and where in the text each token starts and ends, ``(n,)`` each; ``name`` is for the error."""
        try:
            encoding = self._backend.encode(text, add_special_tokens=False)
        except Exception as error:  # the library has no type of its own for a word that is not in the vocabulary
            raise ValueError(f"{name}: the tokenizer cannot write it ({error}): {text[:60]!r}") from error
        offsets = np.array(encoding.offsets, np.int64).reshape(-1, 2)
        return np.array(encoding.ids, np.int64), offsets[:, 0], offsets[:, 1]

    def _decode(self, ids: Sequence[int]) -> str:
        return self._backend.decode(ids, skip_special_tokens=False)

    def _opens(self, comment: str) -> bool:
        """Whether a token ends right after the ``#`` of a comment that can be written."""
        return self._writes("\n" + comment) and 2 in self._encode("\n" + comment)[2]

    def _writes(self, text: str) -> bool:
        try:
            return self._decode(self._encode(text)[0].tolist()) == text
        except ValueError:
            return False

    def _check(self, text: str, ids: np.ndarray, starts: np.ndarray, ends: np.ndarray) -> None:
        """Refuse what the tokenizer changes (a normal form, unknown words) or does not locate."""
        back = self._decode(ids.tolist())
        if back != text:
            at = next(
                (i for i, (a, b) in enumerate(zip(text, back, strict=False)) if a != b), min(len(text), len(back))
            )
            line = text.count("\n", 0, at) + 1
            raise ValueError(
                f"code: the tokenizer changes line {line} of the text: {text[at : at + 20]!r} becomes "
                f"{back[at : at + 20]!r}; leave this program out"
            )
        if starts[0] != 0 or ends[-1] != len(text) or (starts[1:] > ends[:-1]).any():
            raise ValueError("tokenizer: its offsets leave out parts of the text")


class _Rows:
    """The physical lines of a text that are not blank and end after ``begin``, ``(R,)`` each.

    start: where the line starts; first: its first character after ``begin`` that is not white space; last: where white
    space at its end begins; end: where its newline begins; after: where its newline ends.
    """

    def __init__(self, text: str, begin: int) -> None:
        breaks = np.array([found.span() for found in _NEWLINE.finditer(text)], np.int64).reshape(-1, 2)
        start = np.concatenate([[int(text.startswith(_BOM))], breaks[:, 1]])
        end, after = np.append(breaks[:, 0], len(text)), np.append(breaks[:, 1], len(text))
        solid = np.flatnonzero(_solid(text))
        solid = solid[solid >= begin]
        low, high = np.searchsorted(solid, start), np.searchsorted(solid, end)
        full = low < high
        self.first, self.last = solid[low[full]], solid[high[full] - 1] + 1
        self.start, self.end, self.after = start[full], end[full], after[full]


def _cuts(text: str, begin: int, rows: _Rows, starts: np.ndarray, ends: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Tokens at which lines begin, and which rows these are (a row that can't be cut off belongs to the one before)."""
    clean = np.append(True, starts[1:] >= ends[:-1])  # not within a character of several bytes
    token = np.flatnonzero(clean)
    edge = starts[token]
    before = np.searchsorted(edge, rows.end[:-1], "right") - 1
    after = np.searchsorted(edge, rows.after[:-1]).clip(max=len(edge) - 1)
    cut_before = edge[before] >= rows.last[:-1]
    cut_after = (edge[after] >= rows.after[:-1]) & (edge[after] <= rows.first[1:])
    # A token on both sides of the beginning is the code's, unless it has nothing but white space of it.
    k = int(np.searchsorted(edge, begin, "right")) - 1
    stop = edge[k + 1] if k + 1 < len(edge) else len(text)
    if edge[k] < begin and text[edge[k] : begin].strip(_SPACE) and not text[begin:stop].strip(_SPACE):
        k += 1
    found = np.append(True, cut_before | cut_after)
    return token[np.append(k, np.where(cut_before, before, after))[found]], np.flatnonzero(found)


def _solid(text: str) -> np.ndarray:
    """Boolean, one for each character: not white space."""
    return ~np.isin(np.frombuffer(text.encode("utf-32-le"), np.uint32), [ord(c) for c in _SPACE])


def _logical_starts(prompt: str, code: str) -> set[int]:
    """Where in prompt + code logical lines of Python begin.

    Raises:
        ValueError: not Python, with the line of the code at which it is not.
    """
    text = prompt + code
    error, base = _syntax_error(text), 0
    if error and prompt and not _syntax_error(code):
        error, base, text = None, len(prompt), code
    if error:
        line = (error.lineno or 1) - len(_NEWLINE.findall(prompt))
        where = f"line {line}" if line >= 1 else f"line {error.lineno} of its prompt"
        raise ValueError(f"code: not valid Python, {where}: {error.msg}")
    skip = len(text) - len(text.removeprefix(_BOM))
    rows = _NEWLINE.split(text[skip:])
    begins = [skip, *(found.end() for found in _NEWLINE.finditer(text))]
    found, comments, fresh = set(), set(), True
    for token in tokenize.generate_tokens(io.StringIO("\n".join(rows)).readline):
        row = token.start[0] - 1
        if token.type == tokenize.COMMENT:
            comments.add(row)
        elif token.type == tokenize.NEWLINE:
            fresh = True
        elif fresh and token.type not in (tokenize.NL, tokenize.INDENT, tokenize.DEDENT, tokenize.ENDMARKER):
            fresh = False
            # After a line that is nothing but a backslash, the logical line has begun there.
            if row == 0 or not rows[row - 1].endswith("\\") or row - 1 in comments:
                found.add(base + begins[row] + token.start[1])
    return found


def _syntax_error(text: str) -> SyntaxError | None:
    """Why a text is not Python, None if it is."""
    if "\0" in text:
        return SyntaxError("NUL byte", ("", text.count("\n", 0, text.index("\0")) + 1, 0, ""))
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            ast.parse(text.removeprefix(_BOM))
    except SyntaxError as error:
        return error
    except (RecursionError, MemoryError):
        return SyntaxError("nested too deeply")
    except UnicodeEncodeError as error:
        return SyntaxError("not Unicode text (a lone surrogate)", ("", text.count("\n", 0, error.start) + 1, 0, ""))
    return None
