"""Every engine meets one contract; rollouts without a session are rollouts."""

import importlib.util
import itertools
import sys
from dataclasses import dataclass
from types import ModuleType, SimpleNamespace

import numpy as np
import pytest
import torch
from agreement import assert_frequencies
from llm_cases import CLOSING, EOS, KINDS, NEWLINE, VOCABULARY, explained, mixed, model, program

from llm.backends import BACKENDS, VLLM
from llm.engine import InProcess, draw
from llm.models import load
from llm.remote import SampledRollouts
from llm.rollouts import Proposals, TextRollouts
from ra3sim.em import run_rollouts, run_smc

PREFIXES = [[0, 5], [0, 7, 8, 9, 5], [0], [0, 5, 5, 6]]
CONTINUATIONS = [[6, 7], [5], [8, 9, 10, 2, 5], []]
STOP = np.isin(np.arange(VOCABULARY), (EOS, NEWLINE))
ONE_END = np.arange(VOCABULARY) == NEWLINE


def vllm_by_transformers():
    """A module with what `VLLM` uses of vLLM 0.33, in its shapes; in place of vLLM it calls transformers.

    It shows that requests and answers are read as vLLM's source says they are, and nothing about vLLM itself.
    """

    @dataclass
    class SamplingParams:
        temperature: float
        max_tokens: int
        detokenize: bool
        seed: int = 0
        stop_token_ids: tuple = ()
        ignore_eos: bool = False
        logprobs: int | None = None
        prompt_logprobs: int | None = None

    class LLM:
        def __init__(self, model, skip_tokenizer_init, logprobs_mode, dtype):
            assert (skip_tokenizer_init, logprobs_mode, dtype) == (True, "processed_logprobs", "float32")
            self.engine = InProcess(load(model).model)

        def collective_rpc(self, method, kwargs):
            assert method == "reload_weights"
            self.stale = InProcess(load(kwargs["weights_path"]).model)

        def reset_prefix_cache(self):
            self.engine = self.stale
            return True

        def generate(self, prompts, sampling_params, use_tqdm):
            return [self.answer(*pair) for pair in zip(prompts, sampling_params, strict=True)]

        def answer(self, prompt, asked):
            ids = prompt["prompt_token_ids"]
            stop = np.isin(np.arange(VOCABULARY), asked.stop_token_ids)
            given = None
            if asked.prompt_logprobs is not None:
                log_p = self.engine.model(torch.tensor([ids])).logits[0].log_softmax(-1)
                pairs = zip(log_p, ids[1:], strict=False)
                given = [None, *({token: SimpleNamespace(logprob=row[token].item())} for row, token in pairs)]
            drawn, values = [], []
            uniforms = np.random.default_rng(asked.seed).random(asked.max_tokens)
            while len(drawn) < asked.max_tokens and not (drawn and stop[drawn[-1]]):
                logits = self.engine.model(torch.tensor([ids + drawn])).logits[0, -1:]
                token, value = draw(logits, uniforms[len(drawn) : len(drawn) + 1], asked.temperature)
                drawn.append(int(token))
                values.append({drawn[-1]: SimpleNamespace(logprob=value.item() or -1.0)})
            output = SimpleNamespace(token_ids=drawn, logprobs=values)
            return SimpleNamespace(outputs=[output], prompt_logprobs=given)

    module = ModuleType("vllm")
    module.LLM, module.SamplingParams = LLM, SamplingParams
    return module


@pytest.fixture(scope="module", params=[*BACKENDS, "vllm's interface"])
def engine(request):
    """The model of seed 0 behind each engine whose package is here."""
    if request.param == "vllm's interface":
        with pytest.MonkeyPatch.context() as patch:
            patch.setitem(sys.modules, "vllm", vllm_by_transformers())
            return VLLM(model())
    if request.param != "in process" and importlib.util.find_spec(request.param) is None:
        pytest.skip(f"{request.param} is not installed")
    return BACKENDS[request.param](model())


def sample(engine, seeds=(1, 2, 3, 4), prefixes=PREFIXES, most=6, **options):
    return engine.sample(prefixes, stop=STOP, max_new_tokens=most, seeds=seeds, **options)


# ---- the contract of engines --------------------------------------------------------------------------------------


def test_samples_depend_on_seed_and_prefix_alone(engine):
    together = sample(engine)
    alone = [sample(engine, [seed], [prefix])[0] for seed, prefix in zip((1, 2, 3, 4), PREFIXES, strict=True)]
    assert [one.ids for one in together] == [one.ids for one in alone]
    assert [one.ids for one in sample(engine)] == [one.ids for one in together]
    several = sample(engine, range(64), [PREFIXES[0]] * 64)
    assert len({one.ids for one in several}) > 8


def test_samples_have_the_model_s_distribution(engine):
    logits = model()(torch.tensor([PREFIXES[1]])).logits[0, -1].double()
    for temperature in (1.0, 2.0):
        found = sample(engine, range(400), [PREFIXES[1]] * 400, most=1, temperature=temperature)
        words = [one.ids[0] for one in found if one.ids]
        p = (logits / temperature).softmax(-1).detach().numpy()
        counts = np.bincount(words, minlength=VOCABULARY)
        assert_frequencies(np.append(counts[~STOP], 400 - len(words)), np.append(p[~STOP], p[STOP].sum()), tests=4)


def test_score_is_that_of_a_full_pass(engine):
    for prefix, continuation, got in zip(PREFIXES, CONTINUATIONS, engine.score(PREFIXES, CONTINUATIONS), strict=True):
        ids = [*prefix, *continuation]
        log_p = model()(torch.tensor([ids])).logits[0].log_softmax(-1)
        want = [log_p[at - 1, ids[at]].item() for at in range(len(prefix), len(ids))]
        assert got.dtype == np.float32
        np.testing.assert_allclose(got, want, atol=1e-4)


def test_log_probabilities_of_samples_are_scores(engine):
    found = sample(engine, range(32), [PREFIXES[0]] * 32)
    assert {one.stop is None for one in found} == {True, False}
    scores = engine.score([PREFIXES[0]] * 32, [one.ids for one in found])
    for one, score in zip(found, scores, strict=True):
        np.testing.assert_allclose(one.log_probs, score, atol=1e-4)


def test_stop_tokens_are_left_out_and_scored(engine):
    found = sample(engine, range(64), [PREFIXES[0]] * 64)
    for one in found:
        assert not STOP[list(one.ids)].any() and len(one.log_probs) == len(one.ids)
        assert (one.stop is None) == (len(one.ids) == 6)
    at_once = [one for one in found if not one.ids]
    ends = engine.score([PREFIXES[0]] * 2, [[EOS], [NEWLINE]])
    assert at_once and all(min(abs(one.stop - end[0]) for end in ends) < 1e-4 for one in at_once)


def test_temperature_zero_takes_the_likeliest(engine):
    found = sample(engine, temperature=0.0)
    assert [one.ids for one in found] == [one.ids for one in sample(engine, (9, 9, 9, 9), temperature=0.0)]
    for prefix, one in zip(PREFIXES, found, strict=True):
        best = int(model()(torch.tensor([prefix])).logits[0, -1].argmax())
        assert (one.ids[0] if one.ids else best) == best and (one.ids or STOP[best])
        assert not any(one.log_probs) and not one.stop


def test_sync_changes_the_scores_and_back(engine):
    before = engine.score(PREFIXES, CONTINUATIONS)
    engine.sync(model(seed=5), 1)
    other = engine.score(PREFIXES, CONTINUATIONS)
    assert engine.version == 1
    engine.sync(model(), 2)
    assert abs(other[0] - before[0]).max() > 0.1
    np.testing.assert_allclose(engine.score(PREFIXES, CONTINUATIONS)[0], before[0], atol=1e-4)


@pytest.mark.parametrize(
    "change,message",
    [
        ({"prefixes": []}, "prefixes: give at least one"),
        ({"prefixes": [[0], [], [0], [0]]}, "prefixes: give at least one, each of one id or more"),
        ({"seeds": (1, 2)}, "prefixes: 4 of them, but 2 seeds"),
        ({"most": 0}, "max_new_tokens: must be at least 1, got 0"),
        ({"temperature": -1.0}, "temperature: must be 0 or a positive number"),
    ],
)
def test_bad_requests_are_refused(engine, change, message):
    with pytest.raises(ValueError, match=message):
        sample(engine, **change)
    with pytest.raises(ValueError, match="prefixes"):
        engine.score(PREFIXES, CONTINUATIONS[:2])


@pytest.mark.skipif(importlib.util.find_spec("vllm") is not None, reason="vllm is installed")
def test_absent_package_is_named_with_the_way_out():
    with pytest.raises(ImportError, match=r"vllm: can't be imported .* use llm.engine.InProcess"):
        VLLM(model())


# ---- rollouts without a session -----------------------------------------------------------------------------------


def sampled(programs, group, module=None, seed=0, closing=CLOSING, price=0.3, floor=0.0, **knobs):
    proposals = Proposals(**{"max_thought": 2, "per_token": False} | knobs)
    engine = InProcess(module or model())
    root = np.random.SeedSequence(seed)
    return SampledRollouts(engine, programs, range(len(programs)), group, closing, proposals, price, root, floor)


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("floor", [0.0, 0.6])
@pytest.mark.parametrize("prior", ["price", "model"])
def test_steps_are_those_of_a_full_pass(kind, floor, prior):
    programs, module = mixed(), model(kind)
    rollouts = sampled(programs, 3, module, closing=ONE_END, floor=floor, prior=prior, format_penalty=0.5)
    steps, _ = run_rollouts(rollouts)
    assert steps.think.any() and not steps.think.all()
    for b in range(len(programs) * 3):
        i, g = divmod(b, 3)
        one, T = programs[i], len(programs[i])
        thoughts, closed = rollouts.latents(b), rollouts.closed[b, :T]
        decision, what, content = explained(module, one, thoughts, closed.tolist(), ONE_END)
        think = np.array([thought is not None for thought in thoughts])
        kappa = np.where(one.marker < 0, 0, np.where(think, np.exp(decision), -np.expm1(decision)))
        raised = np.where(kappa > 0, floor + (1 - floor) * kappa, 0)
        log_q = np.log(np.where(think, raised, 1 - raised)) + what
        log_prior = np.where(think, -0.3, 0) + what if prior == "price" else decision + what
        ill = think & ~(closed & np.array([bool(thought) for thought in thoughts]))
        credit = np.where(think, (1 - floor) * kappa / np.maximum(raised, 1e-9), 1)
        for got, want in (
            (steps.think, think), (steps.log_q, log_q), (steps.log_prior, log_prior), (steps.bonus, -0.5 * ill),
            (steps.log_likelihood, content), (np.exp(rollouts.log_kappa).reshape(len(programs), 3, -1), kappa),
            (rollouts.credit.reshape(len(programs), 3, -1), credit),
        ):  # fmt: skip
            np.testing.assert_allclose(got[i, g, :T], want, atol=2e-4)


@pytest.mark.parametrize("floor", [0.0, 0.5])
def test_thoughts_have_the_distribution_of_sessions(floor):
    """All ways to think through two lines, against their probabilities; and sessions against the same."""
    one, module = program(3, lines=2), model()
    words = [token for token in range(VOCABULARY) if not ONE_END[token]]
    ways = list(itertools.product([None, (), *[(word,) for word in words]], repeat=2))
    p = []
    for thoughts in ways:
        closed = [not thought for thought in thoughts]
        decision, what, _ = explained(module, one, thoughts, closed, ONE_END)
        think = np.array([thought is not None for thought in thoughts])
        kappa = np.where(think, np.exp(decision), -np.expm1(decision))
        raised = floor + (1 - floor) * kappa
        p.append(np.prod(np.where(think, raised, 1 - raised) * np.exp(what)))
    assert sum(p) == pytest.approx(1, abs=1e-4)
    knobs = {"max_thought": 1, "per_token": False}
    ours = sampled([one] * 60, 16, module, closing=ONE_END, floor=floor, **knobs)
    session = TextRollouts(
        module, module, [one] * 60, range(60), 16, torch.from_numpy(ONE_END), Proposals(**knobs), 0.3,
        np.random.SeedSequence(1), floor,
    )  # fmt: skip
    run_rollouts(session)
    for rollouts in (ours, session):
        drawn = [ways.index(rollouts.latents(b)) for b in range(60 * 16)]
        assert_frequencies(np.bincount(drawn, minlength=len(ways)), np.array(p) / sum(p), tests=4)


def test_draws_do_not_depend_on_the_batch():
    programs = mixed()
    whole = sampled(programs, 2, floor=0.5)
    root = np.random.SeedSequence(0)
    proposals = Proposals(2, per_token=False)
    part = SampledRollouts(InProcess(model()), programs[2:], [2, 3], 2, CLOSING, proposals, 0.3, root, 0.5, requests=3)
    assert [whole.latents(b) for b in range(4, 8)] == [part.latents(b) for b in range(4)]
    np.testing.assert_allclose(whole.log_likelihood[4:, :3], part.log_likelihood[:, :3], atol=1e-4)


def test_importance_weights_give_the_same_evidence_as_sessions():
    one, module = program(3, lines=2), model()
    knobs = {"max_thought": 1, "per_token": False, "prior": "model"}
    ours = sampled([one] * 40, 64, module, **knobs)
    session = TextRollouts(
        module, module, [one] * 40, range(40), 64, torch.from_numpy(CLOSING), Proposals(**knobs), 0.0,
        np.random.SeedSequence(1),
    )  # fmt: skip
    uniforms = np.zeros((40, 2))
    a, b = (np.exp(run_smc(rollouts, uniforms, threshold=0).log_evidence) for rollouts in (ours, session))
    assert abs(a.mean() - b.mean()) < 4 * np.sqrt((a.var() + b.var()) / 40)
    assert a.std() < a.mean()


def test_what_it_cannot_do_is_refused():
    for knobs in ({"stratified": True}, {"temperature": 0.7}, {"floor": 0.2, "floor_above": 0.1}):
        with pytest.raises(ValueError, match="proposals: an engine without a session takes"):
            sampled(mixed(1), 2, **knobs)
    rollouts = sampled(mixed(1), 4)
    with pytest.raises(ValueError, match="threshold: these rollouts can't be resampled"):
        run_smc(rollouts, np.zeros(rollouts.mask.shape), threshold=2.0)
