"""The claims of the paper (arXiv 2509.25810), in our words, and what of this project's data each is judged from.

First those of its abstract, then those of its sections that are no statement of `theory` (these are judged by
`ra3 verify`, one row each). A claim that has several parts, or is tried in several worlds, has several rows.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass

from experiments import judges_models as of_models
from experiments import judges_theory as of_theory
from experiments.evidence import Figures, Found, by_world, judged
from experiments.verdicts import UNTESTABLE

TABLES, LINEWORLD, SMOLLM2, GPU = "tables", "LineWorld", "SmolLM2", "GPU"


@dataclass(frozen=True)
class Claim:
    """
    Attributes:
        text: what is claimed.
        source: where in the paper.
        where: what it is tried on; one of `TABLES`, `LINEWORLD`, `SMOLLM2`, `GPU`.
        experiment: whose run is judged; None where there is none.
        judge: finds the evidence.
    """

    text: str
    source: str
    where: str
    experiment: str | None
    judge: Callable[[Figures], Found]


def _not_here(why: str) -> Callable[[Figures], Found]:
    return lambda figures: Found("", UNTESTABLE, "", why)


def _midtrain(*claims: str) -> Callable[[Figures], Found]:
    return lambda figures: judged(figures, "midtrain-claims", *claims)


def _rlvr(*claims: str) -> Callable[[Figures], Found]:
    return lambda figures: judged(figures, "rlvr-claims", *claims)


def _halves(*claims: str) -> Callable[[Figures], Found]:
    return lambda figures: by_world(figures, "posttraining-claims", *claims)


_RA3: Mapping[str, str] = {"published": of_models.PUBLISHED, "split": of_models.SPLIT, "posterior": of_models.POSTERIOR}
_CALLED = {
    "published": "policy gradient as published",
    "split": "policy gradient, credit split",
    "posterior": "posterior E-step",
}
_RECIPE = "takes GPUs and the models; experiments/configs and docs/full-scale.md say how"
_BEATS = {
    "published": "RA3 (policy gradient, published) beats NTP in held-out pass@1 with few experts",
    "split": "RA3 (policy gradient, split) beats NTP in held-out pass@1 with few experts",
    "posterior": "RA3 (posterior) beats NTP in held-out pass@1 with few experts",
}

_THEORY = (
    Claim(
        "The regret after mid-training and RL splits into what pruning loses and what RL leaves",
        "abstract",
        TABLES,
        "tightness",
        of_theory.statements("regret-decomposition", "pruning-error", "regret-floor"),
    ),
    Claim("A subspace in between minimises the sum of both", "abstract", TABLES, "regret", of_theory.compact_is_best),
    Claim(
        "Pruning shapes the prior of the initial policy: from the learnt prior, RL has less regret",
        "abstract",
        TABLES,
        "posttraining",
        _halves(
            "the learnt prior as initial policy lowers the regret of policy gradient, primitives",
            "the learnt prior as initial policy lowers the regret of policy gradient, everything",
        ),
    ),
    Claim(
        "A compact decision space makes RL better: pruned macros",
        "abstract",
        TABLES,
        "posttraining",
        _halves("pruning lowers the regret of learning over macros"),
    ),
    Claim(
        "A compact decision space makes RL better: pruned primitive actions",
        "abstract",
        TABLES,
        "posttraining",
        _halves("pruning lowers the regret of learning over primitives"),
    ),
    Claim(
        "A short effective horizon makes planning faster", "abstract", TABLES, "convergence", of_theory.fewer_iterations
    ),
    Claim(
        "A short effective horizon makes learning better: extended actions by themselves",
        "abstract",
        TABLES,
        "posttraining",
        _halves("extended actions lower the regret of learning, unpruned"),
    ),
    Claim(
        "Abstractions are the better space to learn in: pruned macros against primitive actions",
        "abstract",
        TABLES,
        "posttraining",
        _halves("both halves together lower it"),
    ),
    Claim(
        "Abstractions are the better space to learn in: discovered options, pruned, against primitive actions",
        "abstract",
        TABLES,
        "posttraining",
        _halves("discovered options, pruned, beat the primitives"),
    ),
    Claim(
        "Pruning and duration do more together than the sum of each alone",
        "section 3",
        TABLES,
        "posttraining",
        _halves("together they do more than the sum of each alone"),
    ),
)

_METHOD = (
    Claim(
        "There is a sequential variational lower bound of the likelihood",
        "abstract",
        TABLES,
        "tightness",
        of_theory.statements("elbo", "soft-bellman", "elbo-gap"),
    ),
    Claim("Iterating E- and M-step climbs (exact E-step)", "abstract", TABLES, "em", of_theory.climbs),
    Claim(
        "It finds latent structure that lasts: planted options, exact E-step",
        "abstract",
        TABLES,
        "em",
        of_theory.recovered,
    ),
    *(
        Claim(
            f"It finds latent structure: thoughts name the skill of the lines to come ({_CALLED[name]})",
            "abstract",
            LINEWORLD,
            "midtrain",
            of_models.thinks_right(variant),
        )
        for name, variant in _RA3.items()
    ),
    *(
        Claim(
            f"Mid-training by RA3 beats next-token prediction in pass@1 ({_CALLED[name]})",
            "abstract",
            LINEWORLD,
            "midtrain",
            _midtrain(claim),
        )
        for name, claim in _BEATS.items()
    ),
    *(
        Claim(
            f"Mid-training by RA3 beats the base in pass@1 ({_CALLED[name]})",
            "abstract",
            LINEWORLD,
            "rlvr",
            of_models.against_base(f"RA3, {name}"),
        )
        for name in _RA3
    ),
    Claim(
        "It does so across base models: a base that can't read what is asked for (posterior E-step)",
        "abstract",
        LINEWORLD,
        "midtrain",
        of_models.deaf,
    ),
    Claim(
        "It adds 8 points to the base and 4 to next-token prediction, HumanEval and MBPP, three models of 1 to 8 B",
        "abstract; section 6",
        GPU,
        None,
        _not_here(_RECIPE),
    ),
    *(
        Claim(
            f"RLVR converges faster after RA3 ({_CALLED[name]})",
            "abstract",
            LINEWORLD,
            "rlvr",
            _rlvr(
                f"RA3, {name}: RLVR learns faster than after NTP (area under the curve)",
                f"RA3, {name}: RLVR learns faster than after NTP (steps to pass@1 of 0.6)",
            ),
        )
        for name in _RA3
    ),
    *(
        Claim(
            f"RLVR gets to a higher asymptote after RA3 ({_CALLED[name]})",
            "abstract",
            LINEWORLD,
            "rlvr",
            _rlvr(f"RA3, {name}: RLVR ends higher than after NTP"),
        )
        for name in _RA3
    ),
    Claim(
        "RLVR is faster and ends higher on HumanEval+, MBPP+, LiveCodeBench and Codeforces",
        "abstract; section 6",
        GPU,
        None,
        _not_here(_RECIPE),
    ),
)

_SECTIONS = (
    Claim(
        "The demonstrations needed to prune lie between a lower and an upper bound of one order",
        "theorem 3.5",
        TABLES,
        "pruning",
        of_theory.between_the_bounds,
    ),
    Claim(
        "k ln(|Z|/δ)/σ is that order: one constant fits as k, |Z|, σ, δ vary",
        "theorem 3.5",
        TABLES,
        "pruning",
        of_theory.one_constant,
    ),
    Claim(
        "More demonstrations lower the pruning error on held-out tasks",
        "theorem 3.5",
        TABLES,
        "posttraining",
        _halves("more demonstrations lower the pruning error on held-out tasks"),
    ),
    Claim(
        "Values prune better than what experts were seen to use (final regret)",
        "section 3 (made precise here)",
        TABLES,
        "posttraining",
        _halves("values prune better than usage: final regret"),
    ),
    Claim(
        "N iterations of the published bound are enough, and the sharp ones",
        "theorem 3.6",
        TABLES,
        "convergence",
        of_theory.published_rate,
    ),
    Claim(
        "Keep one primitive action and γ̄ = γ: fast from below still, slow from above; without it both are fast",
        "section 3 (made precise here)",
        TABLES,
        "convergence",
        of_theory.pitfall,
    ),
    Claim(
        "Samples: Q-learning over more options than are needed has more regret",
        "section 3",
        TABLES,
        "regret",
        of_theory.steps_of_learning,
    ),
    Claim(
        "There is a best length of abstractions between both ends",
        "section 3 (made precise here)",
        TABLES,
        "tradeoff",
        of_theory.best_length,
    ),
    Claim(
        "A policy that thinks before it sees the line can't reach the likelihood",
        "section 4 (made precise here)",
        TABLES,
        "em",
        of_theory.causal_gap,
    ),
    Claim(
        "As α → 1, or c → ∞, the method is behaviour cloning (from a fixed start)",
        "section 5",
        TABLES,
        "em",
        of_theory.behaviour_cloning,
    ),
    Claim("The price c governs how often it thinks", "section 5", TABLES, "em", of_theory.price),
    Claim(
        "The price c governs how often it thinks: nearly everywhere if cheap, nearly never if dear",
        "section 6",
        LINEWORLD,
        "midtrain",
        of_models.price_of_a_model,
    ),
    Claim(
        "At the usual price fewer than 40 % of the lines are thought about",
        "section 6",
        LINEWORLD,
        "midtrain",
        of_models.few_thoughts,
    ),
    Claim(
        "The rewards settle soon, so that most of the compute goes to the M-step",
        "section 5",
        SMOLLM2,
        "smollm2",
        of_models.cheap_e_step,
    ),
    Claim(
        "A thought that the model draws makes the next line more probable",
        "section 5",
        SMOLLM2,
        "smollm2",
        of_models.comments_help,
    ),
    Claim(
        "Mid-training by RA3 leaves a higher held-out likelihood than next-token prediction",
        "section 6",
        SMOLLM2,
        "smollm2",
        of_models.smollm2_runs,
    ),
    Claim(
        "Comments by another model, with next-token prediction, are worse than RA3",
        "section 6",
        GPU,
        None,
        _not_here(
            "no model that comments well is at hand; in LineWorld the experts' own intents are better than any E-step"
        ),
    ),
)


CLAIMS: tuple[Claim, ...] = (*_THEORY, *_METHOD, *_SECTIONS)

__all__ = ["CLAIMS", "GPU", "LINEWORLD", "SMOLLM2", "TABLES", "Claim"]
