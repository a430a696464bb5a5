"""Completions end where their texts say, are drawn from what they should be, and depend on nothing but their seed."""

import numpy as np
import pytest
import tokenizers_made
import torch
from agreement import assert_frequencies
from llm_cases import model

from llm.engine import InProcess
from llm.lineworld import LineWorldText
from llm.models import tiny
from llm.problems.problem import cut
from llm.sampling import Request, Sampling, Writer, nucleus
from ra3sim.envs.lineworld import LineWorld

PROMPTS = ["def f(x):\n", "import os\n\n\ndef name(a, b):\n    return a", "x", "    if text:\n        return"]


@pytest.fixture(scope="module", params=["gpt2", "unsplit", "raw_bytes"])
def writer(request):
    words = getattr(tokenizers_made, request.param)()
    return Writer(model(vocabulary=len(words), width=32, sharp=3.0, max_length=512), words)


def texts(writer, requests, sampling):
    return [[one.text for one in some] for some in writer.complete(requests, sampling)]


def test_ids_are_those_of_the_engine(writer):
    sampling = Sampling(20, temperature=0.9)
    requests = [Request(prompt, (), (k, k + 10)) for k, prompt in enumerate(PROMPTS)]
    found = writer.complete(requests, sampling)
    prefixes = [writer.encode(prompt) for prompt in PROMPTS for _ in range(2)]
    seeds = [seed for request in requests for seed in request.seeds]
    drawn = InProcess(writer.model).sample(prefixes, stop=writer._ends, max_new_tokens=20, seeds=seeds, temperature=0.9)
    assert [one.ids for some in found for one in some] == [one.ids for one in drawn]
    assert [one.ended == "end" for some in found for one in some] == [one.stop is not None for one in drawn]


def test_samples_do_not_depend_on_batches(writer):
    sampling = Sampling(24, temperature=0.9, top_p=0.9)
    requests = [Request(prompt, ("\n\n", "e "), (k, 7 + k, 50 + k)) for k, prompt in enumerate(PROMPTS)]
    together = writer.complete(requests, sampling)
    alone = [
        [writer.complete([Request(one.prompt, one.stop, (seed,))], sampling)[0][0] for seed in one.seeds]
        for one in requests
    ]
    assert together == alone
    assert len({one.ids for some in together for one in some}) > 6


@pytest.mark.parametrize("lengths", [(1,), (2,), (3, 5)])
def test_a_text_is_cut_before_the_first_stop_sequence(writer, lengths):
    """The same ids without stop sequences, spelled and cut, are the same text; no more was drawn than was needed."""
    sampling = Sampling(40, temperature=3.0)
    seeds = tuple(range(12))
    free = writer.complete([Request(prompt, (), seeds) for prompt in PROMPTS[:2]], sampling)
    # Parts of what was written without stop sequences; other completions hold them too, by chance.
    stop = tuple(one.text[place : place + length] for length in lengths for one in free[0] for place in (6, 12))
    stop = tuple(one for one in stop if one and "\N{REPLACEMENT CHARACTER}" not in one)
    requests = [Request(prompt, stop, seeds) for prompt in PROMPTS[:2]]
    found = writer.complete(requests, sampling)
    ended = 0
    for request, some, others in zip(requests, found, free, strict=True):
        prefix = writer.encode(request.prompt)
        for one, other in zip(some, others, strict=True):
            assert one.text == cut(other.text, stop)
            assert not any(text in one.text for text in stop)
            assert one.ids == other.ids[: len(one.ids)]
            spelled = writer.text(prefix, one.ids)
            assert (one.ended == "stop") == any(text in spelled for text in stop)
            if one.ended == "stop":
                ended += 1
                assert not any(text in writer.text(prefix, one.ids[:-1]) for text in stop)
            else:
                assert one.ids == other.ids and one.ended == other.ended
    assert ended >= 2


def test_a_stop_sequence_may_be_spelled_by_several_tokens():
    """With one token for each byte, "\\ndéf" takes six."""
    words = tokenizers_made.raw_bytes()
    writer = Writer(model(vocabulary=len(words), width=32), words)
    wanted = words.encode("    pass\n\ndéf g")
    with forced(writer, wanted) as asked:
        (((one,),)) = writer.complete([Request("def f():\n", ("\ndéf", "\nif"), (0,))], Sampling(40, temperature=0.0))
    assert one.text == "    pass\n" and one.ended == "stop"
    assert asked[0] == len("    pass\n\ndéf".encode())
    assert words.decode(one.ids) == "    pass\n\ndéf"


class forced:
    """The model takes these ids for certain, one after the other; entering gives how many were asked for."""

    def __init__(self, writer, ids):
        self.writer, self.ids, self.asked = writer, ids, [0]

    def __enter__(self):
        def hook(module, arguments, options, output):
            self.asked[0] += 1
            output.logits[..., self.ids[self.asked[0] - 1]] = 1e4
            return output

        self.hook = self.writer.model.register_forward_hook(hook, with_kwargs=True)
        return self.asked

    def __exit__(self, *_):
        self.hook.remove()


def test_half_a_character_is_no_text():
    """An é whose second byte is missing stays a replacement character, and does not spoil what was before."""
    words = tokenizers_made.raw_bytes()
    writer = Writer(model(vocabulary=len(words), width=32), words)
    ids = words.encode("né")
    with forced(writer, ids):
        (((one,),)) = writer.complete([Request("x", ("\n",), (0,))], Sampling(2, temperature=0.0))
    assert (one.text, one.ended) == ("n\N{REPLACEMENT CHARACTER}", "length")
    with forced(writer, ids):
        (((one,),)) = writer.complete([Request("x", ("é",), (0,))], Sampling(3, temperature=0.0))
    assert (one.text, one.ended) == ("n", "stop")


def test_a_space_at_the_beginning_is_kept():
    """Tokenizers of the SentencePiece kind drop it when they spell a completion alone."""
    from tokenizers import Tokenizer, decoders, models, pre_tokenizers
    from transformers import PreTrainedTokenizerFast

    vocabulary = {"<unk>": 0, "<s>": 1, "</s>": 2, "▁a": 3, "▁b": 4, "c": 5}
    backend = Tokenizer(models.WordLevel(vocabulary, unk_token="<unk>"))
    backend.pre_tokenizer, backend.decoder = pre_tokenizers.Metaspace(), decoders.Metaspace()
    words = PreTrainedTokenizerFast(tokenizer_object=backend, unk_token="<unk>", bos_token="<s>", eos_token="</s>")
    writer = Writer(model(vocabulary=6, width=16), words)
    assert words.decode([4, 5]).startswith("b") and writer.text(writer.encode("a"), [4, 5]) == " bc"


def test_a_prompt_is_computed_once_for_all_its_samples(writer, monkeypatch):
    fed = []
    inner = writer.model.forward

    def forward(*arguments, input_ids, **options):
        fed.append(input_ids.numel())
        return inner(*arguments, input_ids=input_ids, **options)

    monkeypatch.setattr(writer.model, "forward", forward)
    before = writer.prompt_tokens
    writer.complete([Request(PROMPTS[1], (), tuple(range(5)))], Sampling(1))
    assert fed == [len(writer.encode(PROMPTS[1]))] == [writer.prompt_tokens - before]


# Top-p


def smallest_sets(p, top_p):
    """All sets of fewest tokens that have together ``top_p``: there are several where probabilities are equal."""
    from itertools import combinations

    for size in range(1, len(p) + 1):
        found = {frozenset(some) for some in combinations(range(len(p)), size) if sum(p[list(some)]) >= top_p}
        if found:
            best = max(sum(p[list(some)]) for some in found)
            return {some for some in found if sum(p[list(some)]) == best}
    return {frozenset(range(len(p)))}


@pytest.mark.parametrize("top_p", [0.05, 0.4, 0.75, 0.9, 0.999])
def test_top_p_keeps_the_fewest_tokens_that_are_enough(top_p, monkeypatch):
    rng = np.random.default_rng(0)
    logits = torch.from_numpy(rng.normal(0, 2, (40, 8)).astype(np.float32))
    logits[0] = 0.0  # all equal
    logits[1, 3] = 40.0  # one alone
    for few in (512, 2):
        monkeypatch.setattr("llm.sampling._FEW", few)
        found = nucleus(logits, top_p)
        for row, kept in zip(logits, found, strict=True):
            p = row.double().softmax(-1).numpy()
            assert frozenset(torch.isfinite(kept).nonzero()[:, 0].tolist()) in smallest_sets(p, top_p)
            assert torch.equal(kept[torch.isfinite(kept)], row[torch.isfinite(kept)])
    assert torch.equal(nucleus(logits, 1.0), logits)


def test_frequencies_are_those_of_the_truncated_distribution():
    words = tokenizers_made.raw_bytes()
    writer = Writer(model(vocabulary=len(words), width=16, sharp=6.0), words)
    prompt, draws, sampling = "def", 4000, Sampling(1, temperature=0.7, top_p=0.6)
    with torch.no_grad():
        logits = writer.model(torch.tensor([writer.encode(prompt)])).logits[0, -1]
    p = (logits.double() / 0.7).softmax(-1)
    order = p.argsort(descending=True)
    count = int((p[order].cumsum(0) < 0.6).sum()) + 1
    kept = torch.zeros_like(p)
    kept[order[:count]] = p[order[:count]] / p[order[:count]].sum()
    found = writer.complete([Request(prompt, (), tuple(range(draws)))], sampling)[0]
    end = int(np.flatnonzero(writer._ends)[0])
    counts = np.bincount([one.ids[0] if one.ids else end for one in found], minlength=len(p))
    assert 3 < count < 150
    assert_frequencies(counts, kept.numpy())


def test_at_temperature_0_the_likeliest_token_is_taken(writer):
    found = texts(writer, [Request(PROMPTS[0], (), (0, 1, 2))], Sampling(10, temperature=0.0, top_p=0.5))
    assert len(set(found[0])) == 1


# What begins and ends a text


def test_lineworld_is_asked_as_it_was_trained():
    """The same programs as `LineWorldText.written` gets from the same seeds."""
    text = LineWorldText(LineWorld.preset("text"))
    module = tiny(len(text.tokenizer), seed=3)
    tasks = text.world.held_out_tasks(6, 0)
    most = 4 * text.world.horizon + 1
    writer = Writer(module, text.tokenizer, begin="bos")
    requests = [Request(text.prompt(task), (), (np.random.SeedSequence([5, k]),)) for k, task in enumerate(tasks)]
    found = texts(writer, requests, Sampling(most))
    assert [one for (one,) in found] == [code for _, code in text.written(module, tasks, 5)]


def test_special_tokens_end_a_text_and_unknown_ones_do_not(writer):
    words = writer.tokenizer
    assert writer._ends.sum() == 1 and writer._ends[words.eos_token_id]
    text = LineWorldText(LineWorld.preset("text"))
    other = Writer(tiny(len(text.tokenizer) + 3), text.tokenizer, begin="bos")
    end = text.tokenizer.eos_token_id
    # The last three are ids that no token has.
    assert np.flatnonzero(other._ends).tolist() == [end, *range(len(text.tokenizer), len(text.tokenizer) + 3)]


def test_what_stands_before_a_prompt():
    words = tokenizers_made.gpt2()
    small = tiny(len(words), layers=1, width=32, heads=2)
    plain = words.encode("x = 1", add_special_tokens=False)
    assert Writer(small, words).encode("x = 1") == plain
    assert Writer(small, words, "bos").encode("x = 1") == [words.bos_token_id, *plain]
    only_end = tokenizers_made.raw_bytes()
    small = tiny(len(only_end), layers=1, width=32, heads=2)
    assert Writer(small, only_end, "bos").encode("x")[0] == only_end.eos_token_id
    with pytest.raises(ValueError, match=r"^prompt: it is empty"):
        Writer(small, only_end).encode("")
    assert Writer(small, only_end, "bos").encode("") == [only_end.eos_token_id]


def test_bad_requests_are_refused():
    words = tokenizers_made.gpt2()
    small = tiny(len(words), layers=1, width=32, heads=2, max_length=64)
    with pytest.raises(ValueError, match=r"^model: it holds no tokenizer"):
        Writer(small, None)
    with pytest.raises(ValueError, match=r"^model: its tokenizer has no token that ends a text"):
        Writer(tiny(400, layers=1, width=32, heads=2), tokenizers_made.characters())
    writer = Writer(small, words)
    with pytest.raises(ValueError, match=r"^requests: give at least one"):
        writer.complete([], Sampling(1))
    with pytest.raises(ValueError, match=r"^requests: give at least one"):
        writer.complete([Request("x", (), ())], Sampling(1))
    with pytest.raises(ValueError, match=r"^max_tokens: the prompt of HumanEval/9 has \d+ tokens, with 60 more"):
        writer.check("HumanEval/9", "def f(x, y):\n" * 4, Sampling(60))
    writer.check("HumanEval/9", "def f(x, y):\n", Sampling(40))
    for options in ({"max_tokens": 0}, {"temperature": -1.0}, {"temperature": np.inf}, {"top_p": 0.0}, {"top_p": 1.1}):
        with pytest.raises(ValueError, match=f"^{next(iter(options))}: must"):
            Sampling(**({"max_tokens": 1} | options))
