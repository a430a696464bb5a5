"""The claims of the paper (arXiv 2509.25810), in our words, and what of this project's data each is judged from.

First those of its abstract, then those of its sections that are no statement of `theory` (these are judged by
`ra3 verify`, one row each). A claim that has several parts, or is tried in several worlds, has several rows.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import partial
from itertools import pairwise
from math import log

from experiments.evidence import (
    Figures,
    Found,
    NoData,
    by_world,
    exact,
    how_many,
    intervals,
    judged,
    known,
    number,
    said,
)
from experiments.verdicts import HOLDS, IN_PART, NOT, UNTESTABLE, verdict
from ra3sim.spread import Interval

TABLES, LINEWORLD, SMOLLM2, GPU = "tables", "LineWorld", "SmolLM2", "GPU"
# From 0 on a claim of equality: rounding of sums of a hundred terms.
_ROUNDING = 1e-12


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


ATTACKED = "falsifier's best"


def _statements(*names: str) -> Callable[[Figures], Found]:
    """Statements of `theory`, by their names in ``verify.csv``."""

    def judge(figures: Figures) -> Found:
        rows = [figures.row("verify", {"statement": (name, f"{name} (=)")}) for name in names]
        text = "; ".join(
            f"{row['number']}: measured/bound at most {float(row['largest ratio']):.3g} in {row['tried']} tries, "
            f"{float(row[ATTACKED]):.3g} attacked"
            for row in rows
        )
        return Found(text, verdict([1 if row["verdict"] == "holds" else -1 for row in rows]), "exact")

    return judge


def _share(figures: Figures, quantity: str, variant: str, study: str = "methods") -> Interval:
    N = figures.manifest("midtrain")["config"]["size"]
    match = {"study": study, "variant": variant, "N": N, "quantity": quantity}
    return known(figures.row("midtrain", match), "mean")


_SIZE = "|Z'|"


# ---- The two halves of the theory ------------------------------------------------------------------------------------


def _compact_is_best(figures: Figures) -> Found:
    """The least regret is in between, and keeping everything has clearly more."""
    sides, texts = [], []
    budgets = {(row["budget of"], row["budget"]) for row in figures.rows("regret-table")}
    largest = {of: max(int(budget) for kind, budget in budgets if kind == of) for of, _ in budgets}
    for of in ("sweeps", "backups", "steps"):
        # After the largest number of sweeps or backups all is planned and there is nothing left to lose.
        chosen = sorted(int(budget) for kind, budget in budgets if kind == of)
        chosen = [largest[of]] if of == "steps" else chosen[:-1][-1:] or chosen
        for budget in chosen:
            for start in ("corner", "anywhere"):
                rows = figures.rows("regret-table", {"start": start, "budget of": of, "budget": budget})
                rows.sort(key=lambda row: int(row["|Z'|"]))
                best = min(rows, key=lambda row: float(row["regret"]))
                every, least = known(rows[-1], "regret"), known(best, "regret")
                inner = best is not rows[0] and best is not rows[-1]
                sides.append(1 if inner and least.high < every.low else 0 if inner else -1)
                texts.append(f"{budget} {of}, {start}: |Z'| = {best[_SIZE]} {said(least)}, all {said(every)}")
    return Found("regret: " + "; ".join(texts), verdict(sides), _config(figures, "regret"))


def _fewer_iterations(figures: Figures) -> Found:
    """The smaller γ̄, the fewer iterations, in every environment."""
    worlds: dict[str, list[tuple[float, int]]] = {}
    for row in figures.rows("convergence-table"):
        if row["environment"] != "pitfall":
            worlds.setdefault(row["environment"], []).append((float(row["γ̄"]), int(row["N measured"])))
    right, texts = [], []
    for world, pairs in worlds.items():
        pairs.sort(reverse=True)
        counts = [count for _, count in pairs]
        right.append(counts == sorted(counts, reverse=True))
        texts.append(
            f"{world}: N = {', '.join(map(str, counts))} for γ̄ = {', '.join(f'{rate:.3g}' for rate, _ in pairs)}"
        )
    return exact("; ".join(texts), *right)


def _between_the_bounds(figures: Figures) -> Found:
    rows = figures.rows("pruning") + [{"varied": "table", **row} for row in figures.rows("pruning-table")]
    right = [
        float(row["lower"]) <= float(row["low"]) and float(row["high"]) <= float(row["upper, sharp"]) for row in rows
    ]
    shares = [float(row["measured"]) / float(row["upper, sharp"]) for row in rows]
    text = f"{sum(right)} of {len(rows)} settings; measured / upper {min(shares):.2f} to {max(shares):.2f}"
    return Found(text, verdict([1 if one else -1 for one in right]), "20,000 runs a point")


def _one_constant(figures: Figures) -> Found:
    """As one of k, |Z|, σ, δ varies over decades, n / (k ln(|Z|/δ)/σ) stays within a factor of two."""
    texts, right = [], []
    for varied in ("k", "m", "sigma", "delta"):
        rows = figures.rows("pruning", {"varied": varied})
        shares = [
            float(row["measured"]) * float(row["sigma"])
            / (float(row["k"]) * log(float(row["k"]) * float(row["m"]) / float(row["delta"])))
            for row in rows
        ]  # fmt: skip
        right.append(max(shares) < 2 * min(shares))
        texts.append(f"{'|Z|' if varied == 'm' else varied}: {min(shares):.2f} to {max(shares):.2f}")
    return Found(
        "; ".join(texts), verdict([1 if one else -1 for one in right]), "20,000 runs a point",
        "true if the constant varies by less than 2 along each",
    )  # fmt: skip


def _published_rate(figures: Figures) -> Found:
    rows = figures.rows("convergence-table")
    right = [
        int(row["N measured"]) <= int(row["N sharp"]) <= int(row["N published"])
        and float(row["largest error / sharp bound"]) <= 1 + _ROUNDING
        for row in rows
    ]
    shares = [float(row["measured / sharp"]) for row in rows]
    text = f"{sum(right)} of {len(rows)} decision spaces; N measured / N sharp {min(shares):.2f} to {max(shares):.2f}"
    return exact(text, *right)


def _pitfall(figures: Figures) -> Found:
    alone, both, options = (
        figures.row("convergence-table", {"environment": "pitfall", "decision space": name})
        for name in ("primitives", "both", "hallway options")
    )
    below = [int(row["N measured"]) for row in (alone, both, options)]
    above = [int(row["N from above"]) for row in (alone, both, options)]
    text = (
        f"γ̄ = {', '.join(number(float(one['γ̄'])) for one in (alone, both, options))} with primitives, both, options; "
        f"N from below {', '.join(map(str, below))}, from above {', '.join(map(str, above))}"
    )
    same = alone["γ̄"] == both["γ̄"]
    return exact(text, same, below[1] < below[0] / 2, above[1] > above[0] / 2, above[2] < above[0] / 2)


def _best_length(figures: Figures) -> Found:
    sides, texts = [], []
    for column in ("bound 4.1", "bound 4.4", "regret, sweeps"):
        bests = []
        counts = dict.fromkeys(row["n"] for row in figures.rows("tradeoff-table"))
        for n in counts:
            rows = figures.rows("tradeoff-table", {"n": n})
            best = min(rows, key=lambda row: float(row[column]))
            bests.append(best["τ"])
            sides.append(1 if rows[0] is not best is not rows[-1] else -1)
        texts.append(f"{column}: τ = {', '.join(bests)} for n = {', '.join(counts)}")
    return Found("; ".join(texts), verdict(sides), _config(figures, "tradeoff"))


def _steps_of_learning(figures: Figures) -> Found:
    """From where everything that is needed is kept: does regret after a fixed number of steps grow with |Z'|?"""
    sides, texts = [], []
    for start in ("corner", "anywhere"):
        rows = figures.rows("regret-table", {"start": start, "budget of": "steps"})
        budget = max(int(row["budget"]) for row in rows)
        rows = sorted((row for row in rows if int(row["budget"]) == budget), key=lambda row: int(row[_SIZE]))
        enough = next(row for row in rows if float(row["pruning error"]) < 1e-3)
        few, every = known(enough, "regret"), known(rows[-1], "regret")
        sides.append(1 if few.high < every.low else -1 if few.low > every.high else 0)
        texts.append(f"{start}: |Z'| = {enough[_SIZE]} {said(few)}, {rows[-1][_SIZE]} {said(every)}")
    text = f"regret after {budget} steps: " + "; ".join(texts)
    return Found(text, verdict(sides), _config(figures, "regret"), "intervals that overlap decide nothing")


def _config(figures: Figures, experiment: str) -> str:
    return str(figures.manifest(experiment)["config"].get("seeds", ""))


# ---- The temporal bound and its EM -----------------------------------------------------------------------------------


def _recovered(figures: Figures) -> Found:
    """With the most demonstrations: do all seeds find the planted options as well as the true posterior does?"""
    worlds: dict[str, dict[str, str]] = {row["environment"]: row for row in figures.rows("em-options")}
    rows = worlds.values()
    shares = [float(row["share of seeds within 1 % of that"]) for row in rows]
    text = "; ".join(
        f"{row['environment']}, {row['demonstrations']}: AMI {said(known(row, 'AMI'))}, as good as the truth in "
        f"{share:.0%} of the seeds, {float(row['steps per latent']):.1f} steps a latent "
        f"({float(row['in truth']):.1f} in truth)"
        for row, share in zip(rows, shares, strict=True)
    )
    found = HOLDS if min(shares) == 1 else IN_PART if max(shares) > 0 else NOT
    return Found(text, found, how_many(row["seeds"] for row in rows))


def _truths(figures: Figures, *quantities: str, most: float = _ROUNDING) -> Found:
    rows = [figures.row("em-truths", {"quantity": quantity}) for quantity in quantities]
    text = "; ".join(f"{row['quantity']} = {float(row['value']):.3g}" for row in rows)
    return exact(text, *(abs(float(row["value"])) <= most for row in rows))


def _climbs(figures: Figures) -> Found:
    row = figures.row("em-truths", {"quantity": "smallest gain of an exact EM iteration"})
    least = float(row["value"])
    text = f"smallest gain of an iteration {least:.3g} nats a step"
    return Found(text, verdict([1 if least >= 0 else -1]), _config(figures, "em"))


def _causal_gap(figures: Figures) -> Found:
    rows = figures.rows("em-truths", {"quantity": "log-likelihood − best causal ELBO"})
    gap = known(rows[0], "value")
    words = figures.rows("variational-table", {"quantity": "log-likelihood − ELBO(best causal q), nats"})
    text = f"LineWorld, EM: {said(gap)} nats a program"
    text += "".join(f"; {row['world']}: {float(row['found']):.3g}" for row in words)
    sides = [1 if gap.low > 0 else 0, *(1 if float(row["found"]) > 0 else -1 for row in words)]
    return Found(text, verdict(sides), _config(figures, "em"))


def _price(figures: Figures) -> Found:
    rates = {
        row["x"]: known(row, "mean")
        for row in figures.rows("em", {"panel": "price", "curve": "fixed start, think_rate"})
    }
    means = [float(one.mean) for one in rates.values()]
    text = "share of lines thought about: " + ", ".join(f"c = {float(c):g}: {said(one)}" for c, one in rates.items())
    falls = all(a >= b for a, b in pairwise(means))
    return Found(text, verdict([1 if falls else -1, 1 if means[-1] == 0 else -1]), _config(figures, "em"))


def _price_of_a_model(figures: Figures) -> Found:
    """Little thinking where it is dear, thinking nearly everywhere where it is cheap."""
    cheap, dear = (_share(figures, "think", name, study="ingredients") for name in ("c = 0", "c = 8"))
    sides = [1 if cheap.low > 0.9 else -1 if cheap.high < 0.9 else 0, 1 if dear.high < 0.05 else 0]
    text = f"share of lines thought about: c = 0: {said(cheap)}; c = 8: {said(dear)}"
    rows = figures.rows("midtrain", {"study": "ingredients", "variant": ("c = 0", "c = 8"), "quantity": "think"})
    why = "true if above .9 for c = 0 and below .05 for c = 8; comments of the corpus never stand inside of segments"
    return Found(text, verdict(sides), how_many(row["seeds"] for row in rows), why)


# ---- Mid-training ----------------------------------------------------------------------------------------------------

PUBLISHED, SPLIT, POSTERIOR = "policy gradient, published", "policy gradient, split", "posterior"


def _thinks_right(variant: str) -> Callable[[Figures], Found]:
    """Thoughts that name the true skill, and a latent kept as long as the skill is."""

    def judge(figures: Figures) -> Found:
        thinks = _share(figures, "think", variant)
        seeds = figures.rows("midtrain", {"study": "methods", "variant": variant, "quantity": "think"})[0]["seeds"]
        if thinks.high < 0.05:
            return Found(f"it thinks before {said(thinks)} of the lines", NOT, seeds, "it stops thinking")
        right = _share(figures, "thoughts right", variant)
        text = (
            f"right in {said(right)} of the cases; a third of the lines begin a skill, {said(thinks)} are thought about"
        )
        return Found(text, verdict([1 if right.low > 0.5 else -1 if right.high < 0.5 else 0]), seeds)

    return judge


def _against_base(variant: str) -> Callable[[Figures], Found]:
    """pass@1 before RLVR, of the mid-trained models and of the base."""

    def judge(figures: Figures) -> Found:
        def at_first(name: str) -> Interval:
            rows = figures.rows("rlvr", {"checkpoint": name, "quantity": "pass@1 at first"})
            return known(rows[0], "IQM")

        base, ours = at_first("base"), at_first(variant)
        side = 1 if ours.low > base.high else -1 if ours.high < base.low else 0
        return Found(f"pass@1 {said(ours)}, of the base {said(base)}", verdict([side]), _config(figures, "rlvr"))

    return judge


def _deaf(figures: Figures) -> Found:
    """The published claim is a gain on every base; the experiment's own asks whether there is none on this one."""
    row = figures.row("midtrain-claims", {"claim": _DEAF})
    text = row["found, mean [95 % interval]"]
    low, high = (float(one) for one in text.partition("[")[2].rstrip("]").split(","))
    side = 1 if low > 0 else -1 if high < 0 else 0
    return Found(f"{row['measured']}: {text}", verdict([side]), row["seeds"])


_DEAF = "a base that can't read the task can't bootstrap: the posterior is no better than NTP"


def _few_thoughts(figures: Figures) -> Found:
    """Under 40 % of the lines are thought about at the usual price."""
    return intervals(
        {name: _share(figures, "think", name) for name in (PUBLISHED, SPLIT, POSTERIOR)},
        [row["seeds"] for row in figures.rows("midtrain", {"study": "methods", "quantity": "think"})],
        above=-1.0, below=0.4,
    )  # fmt: skip


def _cheap_e_step(figures: Figures) -> Found:
    """Most of the compute goes to the M-step."""
    texts, right = [], []
    for method in ("policy gradient, published", "policy gradient, split", "posterior"):
        rows = figures.rows("smollm2-course", {"method": method})
        e, m = (sum(float(row[f"{step}-step, s of the processor"]) for row in rows) for step in "EM")
        texts.append(f"{method}: {e / m:.1f}")
        right.append(e < m)
    text = "E-step / M-step, seconds of the processor: " + "; ".join(texts)
    why = "as many updates of policy and model as the paper's text lets us guess; on a CPU, one engine for both"
    return Found(text, verdict([1 if one else -1 for one in right]), "1", why)


def _comments_help(figures: Figures) -> Found:
    row = figures.row("smollm2-gains", {"comment": "sampled"})
    found = known(row, "gain of the next line, nats")
    side = 1 if found.low > 0 else -1 if found.high < 0 else 0
    return Found(f"{said(found)} nats a line", verdict([side]), "1", f"interval over {row['programs']} programs")


def _smollm2_runs(figures: Figures) -> Found:
    columns = ("marginal change", "marginal change low", "marginal change high")
    names = ("NTP", PUBLISHED, SPLIT, POSTERIOR)
    found = {name: known(figures.row("smollm2", {"model": name}), *columns) for name in names}
    ntp = found.pop("NTP")
    sides = [1 if one.high < ntp.low else -1 if one.low > ntp.high else 0 for one in found.values()]
    text = "; ".join(f"{name}: {said(one)}" for name, one in (("NTP", ntp), *found.items()))
    why = "four iterations, one run each; intervals over programs that overlap decide nothing"
    return Found(f"change of −log p, nats a token: {text}", verdict(sides), "1", why)


def _not_here(why: str) -> Callable[[Figures], Found]:
    return lambda figures: Found("", UNTESTABLE, "", why)


def _midtrain(*claims: str) -> Callable[[Figures], Found]:
    return lambda figures: judged(figures, "midtrain-claims", *claims)


def _rlvr(*claims: str) -> Callable[[Figures], Found]:
    return lambda figures: judged(figures, "rlvr-claims", *claims)


def _halves(*claims: str) -> Callable[[Figures], Found]:
    return lambda figures: by_world(figures, "posttraining-claims", *claims)


_RA3: Mapping[str, str] = {"published": PUBLISHED, "split": SPLIT, "posterior": POSTERIOR}
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
        _statements("regret-decomposition", "pruning-error", "regret-floor"),
    ),
    Claim("A subspace in between minimises the sum of both", "abstract", TABLES, "regret", _compact_is_best),
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
    Claim("A short effective horizon makes planning faster", "abstract", TABLES, "convergence", _fewer_iterations),
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
        _statements("elbo", "soft-bellman", "elbo-gap"),
    ),
    Claim("Iterating E- and M-step climbs (exact E-step)", "abstract", TABLES, "em", _climbs),
    Claim("It finds latent structure that lasts: planted options, exact E-step", "abstract", TABLES, "em", _recovered),
    *(
        Claim(
            f"It finds latent structure: thoughts name the skill of the lines to come ({_CALLED[name]})",
            "abstract",
            LINEWORLD,
            "midtrain",
            _thinks_right(variant),
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
            _against_base(f"RA3, {name}"),
        )
        for name in _RA3
    ),
    Claim(
        "It does so across base models: a base that can't read what is asked for (posterior E-step)",
        "abstract",
        LINEWORLD,
        "midtrain",
        _deaf,
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
        _between_the_bounds,
    ),
    Claim(
        "k ln(|Z|/δ)/σ is that order: one constant fits as k, |Z|, σ, δ vary",
        "theorem 3.5",
        TABLES,
        "pruning",
        _one_constant,
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
        _published_rate,
    ),
    Claim(
        "Keep one primitive action and γ̄ = γ: fast from below still, slow from above; without it both are fast",
        "section 3 (made precise here)",
        TABLES,
        "convergence",
        _pitfall,
    ),
    Claim(
        "Samples: Q-learning over more options than are needed has more regret",
        "section 3",
        TABLES,
        "regret",
        _steps_of_learning,
    ),
    Claim(
        "There is a best length of abstractions between both ends",
        "section 3 (made precise here)",
        TABLES,
        "tradeoff",
        _best_length,
    ),
    Claim(
        "A policy that thinks before it sees the line can't reach the likelihood",
        "section 4 (made precise here)",
        TABLES,
        "em",
        _causal_gap,
    ),
    Claim(
        "As α → 1, or c → ∞, the method is behaviour cloning (from a fixed start)",
        "section 5",
        TABLES,
        "em",
        partial(
            lambda figures, names: _truths(figures, *names),
            names=("|α = 1, fixed start − behaviour cloning|", "|c = ∞ − behaviour cloning|"),
        ),
    ),
    Claim("The price c governs how often it thinks", "section 5", TABLES, "em", _price),
    Claim(
        "The price c governs how often it thinks: nearly everywhere if cheap, nearly never if dear",
        "section 6",
        LINEWORLD,
        "midtrain",
        _price_of_a_model,
    ),
    Claim(
        "At the usual price fewer than 40 % of the lines are thought about",
        "section 6",
        LINEWORLD,
        "midtrain",
        _few_thoughts,
    ),
    Claim(
        "The rewards settle soon, so that most of the compute goes to the M-step",
        "section 5",
        SMOLLM2,
        "smollm2",
        _cheap_e_step,
    ),
    Claim(
        "A thought that the model draws makes the next line more probable",
        "section 5",
        SMOLLM2,
        "smollm2",
        _comments_help,
    ),
    Claim(
        "Mid-training by RA3 leaves a higher held-out likelihood than next-token prediction",
        "section 6",
        SMOLLM2,
        "smollm2",
        _smollm2_runs,
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

__all__ = ["CLAIMS", "GPU", "LINEWORLD", "SMOLLM2", "TABLES", "Claim", "NoData"]
