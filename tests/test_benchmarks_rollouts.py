"""The benchmark of the E-step's rollouts, at its smallest, on a model of random weights."""

import re
import sys

import numpy as np
import pytest
import tokenizers_made

from benchmarks import rollouts
from llm.models import save, tiny
from llm.program import assemble

SMALLEST = rollouts.Size(
    source="package:json", programs=2, max_tokens=150, group=2, floor=0.8, max_thought=2, batch=2, context=4, decoded=2,
    runs=1, rows=4, tokens=4, updates=1, candidates=2,
)  # fmt: skip


@pytest.fixture(scope="module")
def given(tmp_path_factory):
    tokenizer = tokenizers_made.gpt2()
    folder = save(tmp_path_factory.mktemp("small") / "model", tiny(len(tokenizer), width=16, layers=1), tokenizer)
    return rollouts.work(folder, SMALLEST)


def test_tokens_that_must_be_computed_are_those_of_the_texts(given):
    computed, once, line_by_line = rollouts.tokens(given, SMALLEST)
    drawn = rollouts._rollouts(given, given.programs, SMALLEST, SMALLEST.floor)
    rollouts.run_rollouts(drawn)
    twice = [one for one in given.programs for _ in range(2)]
    texts = [len(assemble(one, thoughts).ids) for one, thoughts in zip(twice, drawn.thoughts, strict=True)]
    # The second of two rollouts shares what stands before its first decision.
    assert once == sum(texts) - sum(int(one.cuts[0] + one.split[0]) for one in given.programs)
    assert once <= computed < line_by_line


@pytest.mark.skipif(sys.platform != "linux", reason="reads /proc")
def test_report(given):
    text = "\n".join(rollouts.report(given.folder, SMALLEST))
    assert len(re.findall(r"^\| .*\*\*[\d.]+\*\*", text, re.MULTILINE)) == 4
    assert "processor time of `ra3-posterior`" in text and "nan" not in text


def test_decoding_takes_as_many_steps_as_are_asked_for(given):
    ids = np.resize(given.programs[0].ids, (2, 4))
    assert rollouts._generate_seconds(given.module, ids, 3) > 0
    assert rollouts._step_seconds(given.module, ids, 3) > 0
