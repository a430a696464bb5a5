"""What `ra3 thoughts` shows, and the records it is made of."""

from __future__ import annotations

import io
import json
import re
from html.parser import HTMLParser

import numpy as np
import pytest
import tokenizers_made
import torch
from rich.console import Console

from experiments import cli
from llm import models, records, thoughts
from llm.lines import Lines
from llm.program import assemble
from llm.scoring import collate, log_probs
from llm.world import Annotation

CODE = '''def total(items):
    """Two
    lines."""

    found = 0
    for item in items:
        found += item * 2 if item < 3 else "</pre><script>alert('&')</script>"
    return found
'''


@pytest.fixture(scope="module", params=["gpt2", "llama3"])
def lines(request):
    return Lines(getattr(tokenizers_made, request.param)())


@pytest.fixture(scope="module")
def made(lines):
    """A program, thoughts for it, a model, and the record of these."""
    program = lines.program(CODE, name="a.py:total", about={"path": "a.py"})
    module = models.tiny(len(lines.tokenizer), width=32, heads=2)
    places = np.flatnonzero(program.marker >= 0)
    latents = [None] * len(program)
    latents[places[1]], latents[places[3]] = lines.thought(" begin <with> nothing"), lines.thought(" add \x1b[31m up")
    closing = torch.from_numpy(lines.closing)
    (record,) = records.describe(
        lines, [program], [Annotation.of(latents)], policy=module, reward=module, closing=closing
    )
    return program, latents, module, closing, json.loads(records.write([record]))


def test_a_record_has_the_text_and_its_lines(made, lines):
    program, latents, _, _, record = made
    assert record["name"] == "a.py:total" and record["about"] == {"path": "a.py"} and record["prompt"] == ""
    assert "".join(line["code"] for line in record["lines"]) == CODE
    assert record["text"] == lines.text(program, latents) and record["sound"]
    assert sorted(record["thoughts"].values()) == [" add \x1b[31m up", " begin <with> nothing"]
    for t, thought in record["thoughts"].items():
        assert lines.thought(thought) == latents[int(t)]


def test_the_numbers_of_a_record(made):
    """κ and log-likelihoods from softmaxes of a plain forward pass, gains from leaving a thought out."""
    program, latents, module, closing, record = made
    row = assemble(program, latents)
    with torch.no_grad():
        log_p = module(input_ids=torch.from_numpy(row.ids)[None]).logits[0].log_softmax(-1).double().numpy()
    for t, line in enumerate(record["lines"]):
        (at,) = np.flatnonzero((row.line == t) & (row.marker >= 0)) if program.marker[t] >= 0 else [None]
        kappa = None if at is None else np.exp(log_p[at - 1, program.marker[t]])
        assert line["kappa"] == (None if kappa is None else pytest.approx(kappa, abs=5e-6))
        content = np.flatnonzero((row.line == t) & (row.kind == 2))
        value = sum(log_p[i - 1, row.ids[i]] for i in content)
        if kappa is not None and latents[t] is None and at in content:
            value -= np.log1p(-kappa)
        assert line["log_likelihood"] == pytest.approx(value, abs=1e-4)
    first, second = (t for t, thought in enumerate(latents) if thought is not None)

    def whole(changed, until):
        with torch.no_grad():
            row = assemble(program, changed)
            token = log_probs(module, collate([row]), closing).token.double().numpy()
        return token[(row.kind[1:] == 2) & (row.line[1:] >= first) & (row.line[1:] < until)].sum()

    without = [thought if t != first else None for t, thought in enumerate(latents)]
    gain = whole(latents, second) - whole(without, second)
    assert record["lines"][first]["gain"] == pytest.approx(gain, abs=1e-4)
    assert [t for t, line in enumerate(record["lines"]) if line["gain"] is not None] == [first, second]
    found = records.summary([record])
    total = sum(record["lines"][t]["gain"] for t in (first, second))
    assert found == pytest.approx({"gain": total / len(program), "gain_thought": total / 2, "broken": 0})


def test_a_spoilt_program_is_noticed(made):
    program = made[0]
    assert records.same_program(program, CODE) and records.same_program(program, "# a\n" + CODE)
    assert not records.same_program(program, CODE.replace("* 2", "* 3"))
    assert not records.same_program(program, CODE + "  )")


def test_a_program_after_a_prompt_that_is_no_python(lines):
    program = lines.program("a = 1\n", prompt="What is 1?\n")
    assert records.same_program(program, "What is 1?\n# one\na = 1\n")
    assert not records.same_program(program, "What is 1?\n# one\na = 2\n")


def shown(record, width=200):
    file = io.StringIO()
    thoughts.show(Console(file=file, width=width, color_system=None), [(3, record)])
    return file.getvalue()


def read(made):
    return made[-1] | {"thoughts": {int(t): text for t, text in made[-1]["thoughts"].items()}}


def test_the_terminal_shows_code_thoughts_and_numbers(made):
    record = read(made)
    text = shown(record)
    title, _, *found = text.rstrip("\n").split("\n")
    assert title.startswith(f"3. a.py:total: {len(record['lines'])} lines, 2 thoughts that gain ")
    code = [line.split(" │ ")[1] for line in found if "#" not in line]
    assert "\n".join(code) == CODE.rstrip("\n")
    notes = [line for line in found if "#" in line]
    for note, t, after in zip(notes, record["thoughts"], ('"""Two', "for item"), strict=True):
        gain = record["lines"][t]["gain"]
        assert f"{gain:+.2f}".replace("-", "−") in note
        follows = found[found.index(note) + 1].split(" │ ")[1]
        assert follows.strip().startswith(after)
        own = note.split(" │ ")[1]
        assert len(own) - len(own.lstrip()) == len(follows) - len(follows.lstrip())
    assert "\x1b" not in text and "add \\x1b[31m up" in text
    kappas = [line["kappa"] for line in record["lines"] if line["kappa"] is not None]
    assert sum(bool(re.match(r" +\d\.\d\d", line)) for line in found) == len(kappas)
    assert "another program" in shown(record | {"sound": False})


class Reader(HTMLParser):
    def __init__(self):
        super().__init__()
        self.open, self.tags, self.code, self.thoughts = [], set(), [], []
        self.kind = None

    def handle_starttag(self, tag, attributes):
        self.tags.add(tag)
        if tag == "tr":
            self.kind = dict(attributes).get("class")
        if tag == "pre":
            self.open.append("")
        for name, value in attributes:
            assert name not in ("src", "href", "onclick") and "url(" not in (value or "")

    def handle_data(self, data):
        if self.open:
            self.open[-1] += data

    def handle_endtag(self, tag):
        if tag == "pre":
            (self.thoughts if self.kind == "thought" else self.code).append(self.open.pop())


def test_the_page_is_whole_and_escaped(made):
    record = read(made)
    page = thoughts.page([(1, record), (2, record)])
    reader = Reader()
    reader.feed(page)
    assert "\n".join(reader.code[: len(reader.code) // 2]) == CODE.rstrip("\n")
    assert [text.strip() for text in reader.thoughts] == ["# begin <with> nothing", "# add \\x1b[31m up"] * 2
    assert not reader.tags & {"script", "link", "img", "iframe"} and "http" not in page and "@import" not in page
    assert "prefers-color-scheme: dark" in page and '<meta charset="utf-8">' in page
    # Who sees no colours sees the signs, and other forms for the two kinds.
    assert all(sign in page for sign in ("font-style: italic", "text-decoration: underline"))
    assert re.search(r"<span class=(good>\+|bad>−|bad>\+0\.00)", page)


def test_the_command(made, tmp_path, capsys):
    (tmp_path / "thoughts.jsonl").write_text(records.write([made[-1], made[-1] | {"name": "b"}]))
    assert cli.main(["thoughts", str(tmp_path)]) == 0
    both = capsys.readouterr().out
    assert "1. a.py:total" in both and "2. b: " in both
    assert cli.main(["thoughts", str(tmp_path / "thoughts.jsonl"), "--program", "2"]) == 0
    one = capsys.readouterr().out
    assert "1. a.py:total" not in one and "2. b: " in one
    page = tmp_path / "page.html"
    assert cli.main(["thoughts", str(tmp_path), "--html", str(page), "--program=1"]) == 0
    assert capsys.readouterr().out == f"results: {page}\n" and "a.py:total" in page.read_text()
    bare = tmp_path / "bare.jsonl"
    bare.write_text('{"name": "x", "thoughts": {}}\n')
    for arguments, message in (
        ([str(tmp_path / "nothing")], "run: no "),
        ([str(bare)], 'run: program 1 of .* has no "lines"'),
        ([str(tmp_path), "--program=3"], "--program: from 1 to 2, got 3"),
        ([str(tmp_path), "--program=0"], "--program: from 1 to 2, got 0"),
        ([str(tmp_path), f"--html={page}/below"], "--html: .* cannot be written"),
    ):
        assert cli.main(["thoughts", *arguments]) == 2
        output = capsys.readouterr()
        assert output.out == "" and re.match(f"ra3: error: {message}", output.err) and output.err.count("\n") == 1
