"""Programs cut into lines for tokenizers of many kinds: nothing of the code changes, and thoughts are comments."""

from __future__ import annotations

import ast
import functools
import heapq
import inspect
import io
import json.decoder
import textwrap
import tokenize

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from tokenizers import Tokenizer, decoders, models, normalizers, pre_tokenizers, processors
from tokenizers_made import END, MAKERS, byte_level, gpt2, made, words
from transformers import AutoTokenizer, PreTrainedTokenizerFast

from llm.lines import Lines
from llm.models import smollm2_folder
from llm.program import CONTENT, MARKER, THOUGHT, assemble

KINDS = [*MAKERS, pytest.param("smollm2", marks=pytest.mark.slow)]
SPACE = " \t\f\r\n"


@functools.cache
def cutter(kind):
    return Lines(AutoTokenizer.from_pretrained(smollm2_folder()) if kind == "smollm2" else made(kind))


@pytest.fixture(params=KINDS)
def lines(request):
    return cutter(request.param)


def functions(*modules):
    """The source of every function and class of modules, moved to the left."""
    for module in modules:
        source = inspect.getsource(module)
        for node in ast.walk(ast.parse(source)):
            if isinstance(node, ast.FunctionDef | ast.ClassDef):
                first = min([node.lineno, *(d.lineno for d in node.decorator_list)])
                code = textwrap.dedent("".join(source.splitlines(keepends=True)[first - 1 : node.end_lineno]))
                if not _broken(code):
                    yield code


def _broken(code):
    try:
        ast.parse(code)
    except SyntaxError:
        return True
    return False


def comments(code):
    rows = io.StringIO(code.removeprefix("\ufeff").replace("\r\n", "\n").replace("\r", "\n"))
    return [
        token.string.rstrip(SPACE)
        for token in tokenize.generate_tokens(rows.readline)
        if token.type == tokenize.COMMENT
    ]


def shape(code):
    return ast.dump(ast.parse(code.removeprefix("\ufeff")))


def random_thoughts(lines, program, rng, rate=0.6):
    """Ids drawn from all that do not close a thought, at random lines."""
    open_ids = np.flatnonzero(~lines.closing)
    return [
        tuple(rng.choice(open_ids, rng.integers(0, 6)).tolist()) if marker >= 0 and rng.random() < rate else None
        for marker in program.marker
    ]


def check(lines, code, prompt="", rng=None):
    """All that must hold of any program; returns it."""
    rng = rng or np.random.default_rng(0)
    program = lines.program(code, prompt)
    tokenizer = lines.tokenizer
    whole = prompt + code
    tail = 0 if tokenizer.eos_token_id is None else 1
    assert lines.text(program) == program.text == whole
    canonical = tokenizer(whole, add_special_tokens=False, split_special_tokens=True).input_ids
    assert program.ids[1 : len(program.ids) - tail].tolist() == canonical
    assert (
        np.concatenate([program.line(t) for t in range(len(program))]).tolist()
        == program.ids[program.cuts[0] :].tolist()
    )
    assert not program.content[: program.cuts[0]].any() and not program.content[len(program.ids) - tail :].any()

    thoughts = random_thoughts(lines, program, rng)
    row = assemble(program, thoughts)
    text = lines.text(program, thoughts)
    assert row.ids[row.kind == CONTENT].tolist() == program.ids[program.content].tolist()
    own = [row.ids[row.line == t][-len(program.line(t)) :] for t in range(len(program))]
    assert np.concatenate([program.ids[: program.cuts[0]], *own]).tolist() == program.ids.tolist()
    assert (row.kind == MARKER).sum() == sum(thought is not None for thought in thoughts)
    assert (row.kind == THOUGHT).sum() <= sum(len(thought or ()) for thought in thoughts)
    assert shape(text) == shape(whole)
    told = ["#" + lines.thought_text(thought) for thought in thoughts if thought is not None]
    assert sorted(comments(text)) == sorted(comment.rstrip(SPACE) for comment in [*comments(whole), *told])

    for t in rng.permutation(np.flatnonzero(program.marker >= 0))[:6]:
        start = line_start(lines, program, t)
        first = start + len(whole[start:]) - len(whole[start:].lstrip(SPACE))
        written = tokenizer(
            whole[:first] + lines._comment, add_special_tokens=False, split_special_tokens=True
        ).input_ids
        asked = [*program.ids[1 : program.cuts[t]], *program.opener(t)]
        assert written[: len(asked)] == asked, "the marker is not what the tokenizer would write there"
        assert whole[start:first].strip(SPACE) == ""
    return program


def line_start(lines, program, t):
    """The character at which line t begins."""
    return len(lines._decode(program.ids[1 : program.cuts[t]].tolist()))


def allowed(lines, program):
    """The rows of the text, from 0, before which a thought may stand."""
    rows = set()
    for t in np.flatnonzero(program.marker >= 0):
        start = line_start(lines, program, t)
        first = start + len(program.text[start:]) - len(program.text[start:].lstrip(SPACE))
        rows.add(len(program.text[:first].replace("\r\n", "\n").replace("\r", "\n").split("\n")) - 1)
    return rows


def statement_rows(code):
    """By the syntax tree: rows that begin with a statement or a decorator."""
    rows, source = set(), code.split("\n")
    for node in ast.walk(ast.parse(code)):
        if isinstance(node, ast.stmt):
            for begun in (node, *getattr(node, "decorator_list", ())):
                if not source[begun.lineno - 1].encode()[: begun.col_offset].strip(b" \t\f@"):
                    rows.add(begun.lineno - 1)
    return rows


def opening(lines, code):
    """The row before which no thought may stand because the first token of a text has a space that is not there."""
    if lines is not cutter("sentencepiece") or code.startswith("\ufeff"):
        return set()
    return {code[: len(code) - len(code.lstrip(SPACE))].count("\n")}


def test_real_code(lines):
    rng = np.random.default_rng(1)
    for code in list(functions(textwrap, heapq, json.decoder))[:20]:
        program = check(lines, code, rng=rng)
        found, by_tree = allowed(lines, program), statement_rows(code)
        if lines is not cutter("unsplit"):
            assert by_tree - opening(lines, code) <= found
        others = {code.split("\n")[row].split()[0].rstrip(":") for row in found - by_tree}
        assert others <= {"else", "elif", "except", "finally", "case"}


@pytest.mark.slow
def test_real_modules_whole(lines):
    check(lines, inspect.getsource(heapq))


def test_thoughts_for_most_lines_even_where_tokens_know_no_lines():
    lines, total, found = cutter("unsplit"), 0, 0
    for code in functions(heapq):
        total += len(statement_rows(code))
        found += len(allowed(lines, lines.program(code)))
    assert 0.5 * total < found


STRANGE = {
    "string that looks like code": ('x = """\nif x:\n    # no\n    y = 1\n\n"""\ny = 2\n', {0, 6}),
    "f-string of several lines": ("x = f'''\n{1 +\n1}\ny = 1\n'''\nz = f\"{x!r:>{10}}\"\n", {0, 5}),
    "nested quotes": ('x = f"{\'a\' + "b"}"\n' if not _broken('f"{"b"}"') else "x = f\"{'a'}\"\n", {0}),
    "brackets": ("f(\n1,\n# own\n2)\ng[\n0\n] = {\n}\n", {0, 4}),
    "continuation": ("x = 1 + \\\n    2\nif x and \\\n   x:\n    pass\n", {0, 2, 4}),
    "backslash alone": ("\\\nx = 1\ny = 2\n", {2}),
    "backslash in a comment": ("x = 1  # \\\ny = 2  # \\\n# \\\nz = 3\n", {0, 1, 3}),
    "else, except, finally": (
        "try:\n    if x:\n        y\n    elif z:\n        y\n    else:\n        y\nexcept E:\n    y\nfinally:\n    y\n",
        set(range(11)),
    ),
    "decorators": ("@a\n@b(\n1)\nclass C:\n    @c\n    def f(s): pass\n", {0, 1, 3, 4, 5}),
    "match": ("match x:\n    case [1,\n          2]:\n        pass\n    case _: pass\n", {0, 1, 3, 4}),
    "tabs": ("if x:\n\tif y:\n\t\tz\n\telse:\n\t\tz\n", {0, 1, 2, 3, 4}),
    "CRLF": ("if x:\r\n    y = 1\r\n\r\n    z = '''\r\n  a'''\r\n", {0, 1, 3}),
    "CR": ("if x:\r    y = 1\r    z = 2\r", {0, 1, 2}),
    "form feeds": ("x = 1\n\f\ny = 2\n\fz = 3\n", {0, 2, 3}),
    "non-ASCII": ("é = 'ÿ'\nif é:\n    ñ = 'ß'\n", {0, 1, 2}),
    "white space in empty lines": ("if x:\n    y = 1   \n      \n    z = 2\n  \t\n", {0, 1, 3}),
    "own comments": ("# a\nx = 1  # b\n  # c\nif x: # d\n    # e\n    y = 2\n# f\n", {1, 3, 5}),
    "semicolons": ("x = 1; y = 2\nif x: y; z\nz = 3;\n", {0, 1, 2}),
    "no newline at the end": ("x = 1\ny = 2", {0, 1}),
    "white space at both ends": ("\n\n  \nx = 1\n\n\n", {3}),
    "byte order mark": ("\ufeffx = 1\ny = 2\n", {0, 1}),
    "one space": ("if x:\n y\n if y:\n  z\n", {0, 1, 2, 3}),
    "marks of special tokens": (f"x = '{END}</s><|im_end|>'\ny = 1\n", {0, 1}),
    "text that splitlines would break": ("x = '\x0b\x1c\x85\u2028'\ny = 1\n", {0, 1}),
    "comment alone": ("# nothing", set()),
}


@pytest.mark.parametrize("what", STRANGE)
def test_where_thoughts_may_stand(lines, what):
    code, rows = STRANGE[what]
    found = allowed(lines, check(lines, code))
    if lines is cutter("unsplit"):
        assert found <= rows
    else:
        assert found == rows - opening(lines, code)


@pytest.mark.parametrize("kind", ["gpt2", "llama3", "raw_bytes", "unsplit", "sentencepiece"])
def test_letters_of_several_tokens(kind):
    check(cutter(kind), "𝒳 = 1\ny = 𝒳\n", "y = 2\n")
    check(cutter(kind), "𝒳 = '''日本\u3000\n\u3000語'''\nif 𝒳:\n    变量 = '🎉'\n")


def test_cut_before_the_newline_if_a_token_begins_there_else_after_it():
    code = "def f(x):\n    if x:\n        return f(x)\n\n    return 1\n"
    pieces = {
        "gpt2": ["def f(x):", "\n    if x:", "\n        return f(x)", "\n\n    return 1\n"],
        "llama3": ["def f(x):\n", "    if x:\n", "        return f(x)\n\n", "    return 1\n"],
    }
    for kind, expected in pieces.items():
        lines = cutter(kind)
        program = lines.program(code)
        tail = [END] * (kind in pieces)
        expected = [*expected[:-1], expected[-1] + "".join(tail)]
        assert [lines.tokenizer.decode(program.line(t)) for t in range(4)] == expected
    assert [bool(closer) for closer in cutter("gpt2").program(code).closer] == [True, False, False, False]
    assert [bool(closer) for closer in cutter("llama3").program(code).closer] == [True, True, True, True]
    thoughts = [None, None, cutter("llama3").thought(" done"), None]
    assert cutter("llama3").text(cutter("llama3").program(code), thoughts) == code.replace(
        "        return f", "        # done\n        return f"
    )


def test_indentation_that_is_a_token_with_the_line_before():
    tokenizer = byte_level(pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False), "x:\n    y\n" * 50, 260)
    lines = Lines(tokenizer)
    program = check(lines, "if x:\n    y\n    y\n")
    assert [tokenizer.decode(closer) for closer in program.closer if closer]


PROMPTS = {
    "a header": ("def f(x):\n", "    y = x\n    return y\n", {1, 2}),
    "a header and a docstring": ('def f(x):\n    """Say."""\n', "\n    return x\n", {3}),
    "no newline": ("def f(x):", "\n    return x\n", {1}),
    "an indentation": ("def f(x):\n    ", "return x\n", {1}),
    "half a line": ("x = ", "1\ny = 2\n", {1}),
    "half a word": ("x = retu", "rned\ny = 2\n", {1}),
    "an open string": ("x = '''\n", "y = 1\n'''\ny = 2\n", {3}),
    "a comment": ("# Task\n\n", "x = 1\n", {2}),
    "a mark": ("\ufeffx = 1\n", "y = 1\n", {1}),
}


@pytest.mark.parametrize("what", PROMPTS)
def test_prompts(lines, what):
    prompt, code, rows = PROMPTS[what]
    program = check(lines, code, prompt)
    assert program.code_start == len(prompt)
    found = allowed(lines, program)
    assert found <= rows if lines is cutter("unsplit") else found == rows


def test_prompts_that_are_not_python(lines):
    prompt, code = "What is x? (say it)\n\n", "x = 1\nif x:\n    y = 2\n"
    program = lines.program(code, prompt)
    thoughts = random_thoughts(lines, program, np.random.default_rng(0), rate=1)
    text = lines.text(program, thoughts)
    assert text.startswith(prompt) and shape(text.removeprefix(prompt)) == shape(code)
    assert lines.program(code, "Say it: ").marker[0] == -1
    assert (lines.program(code, "Say:\n").marker >= 0).sum() >= 2


def test_prompt_is_not_content(lines):
    prompt, code = "def f(x):\n", "    return x\n"
    program = lines.program(code, prompt)
    said = lines.tokenizer.decode(program.ids[program.content])
    assert "".join(said.split()) == "returnx"


@st.composite
def programs(draw):
    unit, newline = draw(st.sampled_from([" ", "  ", "    ", "\t"])), draw(st.sampled_from(["\n", "\r\n"]))
    simple = st.sampled_from([
        "x = 1", "return x", "f(a, b)", "f(\n  1,\n\n2)", "x = '''a\n  if b:\n\n# c'''", '"""doc\n    """', "pass;",
        "0", "()", "x = 'é' \\\n + y", "# own", "del x, y  # why", "x = [\n# in\n]", "1 if x else 2", "{}", "-x", "'a'",
        "async_ = f'{x}'",
    ])  # fmt: skip
    heads = st.sampled_from(
        ["if x:", "def f(x):", "for x in y:  # z", "@d\nclass C:", "with a as b, \\\n   c:", "while 1:"]
    )
    gaps = st.sampled_from(["", "", "", "\n", "  \n", "\n\n", "\t\n\n", "\f\n"])

    def block(depth):
        text = ""
        for _ in range(draw(st.integers(1, 3))):
            text += draw(gaps)
            if depth < 3 and draw(st.booleans()):
                text += "".join(unit * depth + row + "\n" for row in draw(heads).split("\n")) + block(depth + 1)
            else:
                text += unit * depth + draw(simple) + draw(st.sampled_from(["", "", "  "])) + "\n"
        return text + unit * depth + "pass\n"

    return block(0).rstrip("\n" if draw(st.booleans()) else "").replace("\n", newline)


@pytest.mark.parametrize("kind", KINDS)
@given(data=st.data())
def test_any_program(kind, data):
    lines, code = cutter(kind), data.draw(programs())
    if _broken(code):  # a backslash with white space after it
        with pytest.raises(ValueError, match="not valid Python"):
            lines.program(code)
    else:
        check(lines, code, rng=np.random.default_rng(data.draw(st.integers(0, 9))))


def test_tokens_that_close(lines):
    tokenizer = lines.tokenizer
    assert len(lines.closing) == len(tokenizer)
    newline = tokenizer("\n", add_special_tokens=False).input_ids[-1]
    special = [i for i, token in tokenizer.added_tokens_decoder.items() if token.special]
    for i, closes in enumerate(lines.closing):
        text = tokenizer.decode([i, newline])
        kept = text.endswith("\n") and len(f"a{text[:-1]}b".splitlines()) == 1 and "\0" not in text
        assert closes == (i in special or not kept)
    assert 0 < lines.closing.sum() < len(lines.closing)


def test_thoughts_are_read_and_written(lines):
    for text in ("", " sort the list", "!", "# x", "   wide  ", " é")[: 5 if lines is cutter("sentencepiece") else 6]:
        assert lines.thought_text(lines.thought(text)) == text
    for text in ("a\nb", "a\r", "\0", "\x0b", "\x0c", "\x85"):
        with pytest.raises(ValueError, match="text: a thought is one line"):
            lines.thought(text)


def test_letters_that_spoil_a_newline_can_not_be_thought():
    with pytest.raises(ValueError, match="text: the tokenizer cannot write ' é'"):
        cutter("sentencepiece").thought(" é")


def test_a_language_of_whole_lines():
    lines = Lines(words())
    code = "a = 1\nb += a\nc = b"
    program = lines.program(code, "c = 2\n")
    decoded = [lines.tokenizer.convert_ids_to_tokens(program.line(t)) for t in range(3)]
    assert decoded == [["a = 1"], ["\n", "b += a"], ["\n", "c = b", END]]
    assert (program.marker == lines.tokenizer.convert_tokens_to_ids("#")).all()
    assert program.lengths.tolist() == [1, 1, 1] and program.split.tolist() == [0, 1, 1]
    thoughts = [lines.thought(" s3"), None, lines.thought(" s4 s1")]
    assert [len(thought or ()) for thought in thoughts] == [1, 0, 2]
    assert lines.text(program, thoughts) == "c = 2\n# s3\na = 1\nb += a\n# s4 s1\nc = b"
    with pytest.raises(ValueError, match=r"text: the tokenizer cannot write it .*hello"):
        lines.thought(" hello")
    with pytest.raises(ValueError, match="code: the tokenizer cannot write it"):
        lines.program("a = 9\n")


def test_broken_programs():
    lines = cutter("gpt2")
    for code, message in {
        "": "code: empty",
        " \n\t\n": "code: empty",
        "x = 1\nif:\n": "code: not valid Python, line 2",
        "x = 1\r\ry = (\n": "code: not valid Python, line 3",
        "if x:\n        y\n    z\n": "code: not valid Python, line 3",
        "x\ny = '\0'\n": "code: not valid Python, line 2: NUL",
        "x = 1\ny = '\ud800'\n": "code: not valid Python, line 2: .*surrogate",
        "(" * 5000 + ")" * 5000: "code: not valid Python, line 1: .*nested",
    }.items():
        with pytest.raises(ValueError, match=message):
            lines.program(code)
    with pytest.raises(ValueError, match="not valid Python, line 1: "):
        lines.program("return (\n", "def f():\n    ")
    with pytest.raises(ValueError, match="line 1 of its prompt"):
        lines.program("  x = 1\n", "x = = 1\n")
    with pytest.raises(ValueError, match="code: begins with a byte order mark"):
        lines.program("\ufeffx = 1\n", "y = 1\n")


def test_long_programs():
    tokenizer, code = made("gpt2"), "x = 1\n"
    n = len(Lines(tokenizer).program(code).ids)
    assert len(Lines(tokenizer, max_tokens=n).program(code).ids) == n
    with pytest.raises(ValueError, match=f"code: has {n} tokens, more than max_tokens = {n - 1}"):
        Lines(tokenizer, max_tokens=n - 1).program(code)
    with pytest.raises(ValueError, match="max_tokens: must be at least 1, got 0"):
        Lines(tokenizer, max_tokens=0)


def test_thoughts_that_would_break_the_program():
    lines = cutter("gpt2")
    program = lines.program("x = [\n1]\n")
    newline = lines.tokenizer.encode("\n")[0]
    with pytest.raises(ValueError, match="thoughts: the one at line 0 has a token that closes it"):
        lines.text(program, [(5, newline), None])
    with pytest.raises(ValueError, match="thoughts: none may stand before line 1"):
        lines.text(program, [None, ()])
    with pytest.raises(ValueError, match="thoughts: give one for each of 2 lines"):
        lines.text(program, [None])


def test_texts_that_a_normal_form_changes():
    backend = Tokenizer.from_str(made("gpt2").backend_tokenizer.to_str())
    backend.normalizer = normalizers.NFC()
    lines = Lines(PreTrainedTokenizerFast(tokenizer_object=backend, eos_token=END))
    check(lines, "x = 'é'\n")
    with pytest.raises(ValueError, match="code: the tokenizer changes line 2"):
        lines.program("x = 1\ny = 'e\u0301'\n")


def lossy(pre_tokenizer, vocabulary):
    backend = Tokenizer(models.WordLevel(vocabulary, unk_token="?"))
    backend.pre_tokenizer, backend.decoder = pre_tokenizer, decoders.Fuse()
    return PreTrainedTokenizerFast(tokenizer_object=backend, unk_token="?")


def test_tokenizers_that_lack_something():
    every = pre_tokenizers.Split("", "isolated")
    with pytest.raises(ValueError, match="tokenizer: cannot write a newline"):
        Lines(lossy(every, {"?": 0, "#": 1}))
    with pytest.raises(ValueError, match="tokenizer: cannot write a newline"):
        Lines(lossy(pre_tokenizers.Whitespace(), {"?": 0, "#": 1, "\n": 2}))
    with pytest.raises(ValueError, match="tokenizer: cannot write '#'"):
        Lines(lossy(every, {"?": 0, "\n": 1}))
    with pytest.raises(ValueError, match="tokenizer: needs a fast one"):
        Lines(object())


def test_marks_of_beginning_and_end():
    code = "x = 1\n"
    for kind, first, last in (("gpt2", END, END), ("raw_bytes", END, END), ("sentencepiece", "<s>", "</s>")):
        tokens = made(kind).convert_ids_to_tokens(cutter(kind).program(code).ids)
        assert (tokens[0], tokens[-1]) == (first, last)
    tokens = made("characters").convert_ids_to_tokens(cutter("characters").program(code).ids)
    assert "".join(tokens) == "\n" + code


def test_openers_are_tokenised_with_a_usual_comment(lines):
    assert lines._comment == ("#" if lines is cutter("unsplit") else "# x")


def test_offsets_that_leave_out_white_space_are_mended():
    tokenizer = gpt2()
    tokenizer.backend_tokenizer.post_processor = processors.ByteLevel(trim_offsets=True)
    program = check(Lines(tokenizer), "if x:\n    y = 1\n")
    assert program.ids.tolist() == cutter("gpt2").program("if x:\n    y = 1\n").ids.tolist()


def test_the_given_tokenizer_is_left_as_it_was():
    tokenizer = made("gpt2")
    before = tokenizer.backend_tokenizer.to_str()
    Lines(tokenizer).program("x = 1\n")
    assert tokenizer.backend_tokenizer.to_str() == before
    assert tokenizer.encode(END) == [tokenizer.eos_token_id]


@pytest.mark.slow
def test_hardly_a_line_is_refused_for_smollm2():
    lines, total, found = cutter("smollm2"), 0, 0
    for code in functions(inspect, json.decoder, textwrap, heapq):
        total += len(statement_rows(code))
        found += len(allowed(lines, lines.program(code)) & statement_rows(code))
    assert total - found <= 0.001 * total
