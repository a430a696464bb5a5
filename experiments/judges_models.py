"""Judges of claims about language models: each reads what an experiment wrote and says what it means."""

from __future__ import annotations

import re
from collections.abc import Callable

import numpy as np

from experiments.evidence import Figures, Found, decided, how_many, intervals, known, said, seeds_of
from experiments.verdicts import NOT, side, verdict
from ra3sim.spread import Interval


def share(figures: Figures, quantity: str, variant: str, study: str = "methods") -> Interval:
    N = figures.manifest("midtrain")["config"]["size"]
    match = {"study": study, "variant": variant, "N": N, "quantity": quantity}
    return known(figures.row("midtrain", match), "mean")


PUBLISHED, SPLIT, POSTERIOR = "policy gradient, published", "policy gradient, split", "posterior"


def thinks_right(variant: str) -> Callable[[Figures], Found]:
    """Thoughts that name the true skill, and a latent kept as long as the skill is."""

    def judge(figures: Figures) -> Found:
        thinks = share(figures, "think", variant)
        seeds = figures.rows("midtrain", {"study": "methods", "variant": variant, "quantity": "think"})[0]["seeds"]
        if thinks.high < 0.05:
            return Found(f"it thinks before {said(thinks)} of the lines", NOT, seeds, "it stops thinking")
        right = share(figures, "thoughts right", variant)
        text = (
            f"right in {said(right)} of the cases; a third of the lines begin a skill, {said(thinks)} are thought about"
        )
        return Found(text, verdict([side(right, 0.5)]), seeds)

    return judge


def against_base(variant: str) -> Callable[[Figures], Found]:
    """pass@1 before RLVR, of the mid-trained models and of the base."""

    def judge(figures: Figures) -> Found:
        def at_first(name: str) -> Interval:
            rows = figures.rows("rlvr", {"checkpoint": name, "quantity": "pass@1 at first"})
            return known(rows[0], "IQM")

        base, ours = at_first("base"), at_first(variant)
        apart = 1 if ours.low > base.high else -1 if ours.high < base.low else 0
        return Found(f"pass@1 {said(ours)}, of the base {said(base)}", verdict([apart]), seeds_of(figures, "rlvr"))

    return judge


def deaf(figures: Figures) -> Found:
    """The published claim is a gain on every base; the experiment's own asks whether there is none on this one."""
    row = figures.row("midtrain-claims", {"claim": _DEAF})
    text = row["found, mean [95 % interval]"]
    mean, low, high = (np.float64(one) for one in re.findall(r"[-\d.e]+", text))
    return Found(f"{row['measured']}: {text}", verdict([side(Interval(mean, low, high))]), row["seeds"])


_DEAF = "a base that can't read the task can't bootstrap: the posterior is no better than NTP"


def price_of_a_model(figures: Figures) -> Found:
    """Little thinking where it is dear, thinking nearly everywhere where it is cheap."""
    cheap, dear = (share(figures, "think", name, study="ingredients") for name in ("c = 0", "c = 8"))
    sides = [side(cheap, 0.9), 1 if dear.high < 0.05 else 0]
    text = f"share of lines thought about: c = 0: {said(cheap)}; c = 8: {said(dear)}"
    rows = figures.rows("midtrain", {"study": "ingredients", "variant": ("c = 0", "c = 8"), "quantity": "think"})
    why = "true if above .9 for c = 0 and below .05 for c = 8; comments of the corpus never stand inside of segments"
    return Found(text, verdict(sides), how_many(row["seeds"] for row in rows), why)


def few_thoughts(figures: Figures) -> Found:
    """Under 40 % of the lines are thought about at the usual price."""
    return intervals(
        {name: share(figures, "think", name) for name in (PUBLISHED, SPLIT, POSTERIOR)},
        [row["seeds"] for row in figures.rows("midtrain", {"study": "methods", "quantity": "think"})],
        above=-1.0, below=0.4,
    )  # fmt: skip


def cheap_e_step(figures: Figures) -> Found:
    """Most of the compute goes to the M-step."""
    texts, right = [], []
    for method in ("policy gradient, published", "policy gradient, split", "posterior"):
        rows = figures.rows("smollm2-course", {"method": method})
        e, m = (sum(float(row[f"{step}-step, s of the processor"]) for row in rows) for step in "EM")
        texts.append(f"{method}: {e / m:.1f}")
        right.append(e < m)
    text = "E-step / M-step, seconds of the processor: " + "; ".join(texts)
    why = "as many updates of policy and model as the paper's text lets us guess; on a CPU, one engine for both"
    return decided(text, right, "1", why)


def comments_help(figures: Figures) -> Found:
    row = figures.row("smollm2-gains", {"comment": "sampled"})
    found = known(row, "gain of the next line, nats")
    return Found(f"{said(found)} nats a line", verdict([side(found)]), "1", f"interval over {row['programs']} programs")


def smollm2_runs(figures: Figures) -> Found:
    columns = ("marginal change", "marginal change low", "marginal change high")
    names = ("NTP", PUBLISHED, SPLIT, POSTERIOR)
    found = {name: known(figures.row("smollm2", {"model": name}), *columns) for name in names}
    ntp = found.pop("NTP")
    sides = [1 if one.high < ntp.low else -1 if one.low > ntp.high else 0 for one in found.values()]
    text = "; ".join(f"{name}: {said(one)}" for name, one in (("NTP", ntp), *found.items()))
    why = "four iterations, one run each; intervals over programs that overlap decide nothing"
    return Found(f"change of −log p, nats a token: {text}", verdict(sides), "1", why)
