"""Judges of claims about theory and tables: each reads what an experiment wrote and says what it means."""

from __future__ import annotations

from collections.abc import Callable
from itertools import pairwise
from math import log

from experiments.evidence import Figures, Found, decided, how_many, known, number, said, seeds_of
from experiments.verdicts import HOLDS, IN_PART, NOT, verdict

_SIZE = "|Z'|"
# From 0 on a claim of equality: rounding of sums of a hundred terms.
_ROUNDING = 1e-12
ATTACKED = "falsifier's best"


def statements(*names: str) -> Callable[[Figures], Found]:
    """Statements of `theory`, by their names in ``verify.csv``."""

    def judge(figures: Figures) -> Found:
        rows = [figures.row("verify", {"statement": (name, f"{name} (=)")}) for name in names]
        text = "; ".join(
            f"{row['number']}: measured/bound at most {float(row['largest ratio']):.3g} in {row['tried']} tries, "
            f"{float(row[ATTACKED]):.3g} attacked"
            for row in rows
        )
        return decided(text, [row["verdict"] == HOLDS for row in rows])

    return judge


def compact_is_best(figures: Figures) -> Found:
    """The least regret is in between, and keeping everything has clearly more."""
    sides, texts = [], []
    budgets = {(row["budget of"], row["budget"]) for row in figures.rows("regret-table")}
    for of in ("sweeps", "backups", "steps"):
        # After the largest number of sweeps or backups all is planned and there is nothing left to lose.
        chosen = sorted(int(budget) for kind, budget in budgets if kind == of)
        chosen = chosen[-1:] if of == "steps" else chosen[-2:-1] or chosen
        for budget in chosen:
            for start in ("corner", "anywhere"):
                rows = figures.rows("regret-table", {"start": start, "budget of": of, "budget": budget})
                rows.sort(key=lambda row: int(row[_SIZE]))
                best = min(rows, key=lambda row: float(row["regret"]))
                every, least = known(rows[-1], "regret"), known(best, "regret")
                inner = best is not rows[0] and best is not rows[-1]
                sides.append(1 if inner and least.high < every.low else 0 if inner else -1)
                texts.append(f"{budget} {of}, {start}: |Z'| = {best[_SIZE]} {said(least)}, all {said(every)}")
    return Found("regret: " + "; ".join(texts), verdict(sides), seeds_of(figures, "regret"))


def fewer_iterations(figures: Figures) -> Found:
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
    return decided("; ".join(texts), right)


def between_the_bounds(figures: Figures) -> Found:
    rows = figures.rows("pruning") + [{"varied": "table", **row} for row in figures.rows("pruning-table")]
    right = [
        float(row["lower"]) <= float(row["low"]) and float(row["high"]) <= float(row["upper, sharp"]) for row in rows
    ]
    shares = [float(row["measured"]) / float(row["upper, sharp"]) for row in rows]
    text = f"{sum(right)} of {len(rows)} settings; measured / upper {min(shares):.2f} to {max(shares):.2f}"
    return decided(text, right, "20,000 runs a point")


def one_constant(figures: Figures) -> Found:
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
    why = "true if the constant varies by less than 2 along each"
    return decided("; ".join(texts), right, "20,000 runs a point", why)


def published_rate(figures: Figures) -> Found:
    rows = figures.rows("convergence-table")
    right = [
        int(row["N measured"]) <= int(row["N sharp"]) <= int(row["N published"])
        and float(row["largest error / sharp bound"]) <= 1 + _ROUNDING
        for row in rows
    ]
    shares = [float(row["measured / sharp"]) for row in rows]
    text = f"{sum(right)} of {len(rows)} decision spaces; N measured / N sharp {min(shares):.2f} to {max(shares):.2f}"
    return decided(text, right)


def pitfall(figures: Figures) -> Found:
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
    return decided(text, [same, below[1] < below[0] / 2, above[1] > above[0] / 2, above[2] < above[0] / 2])


def best_length(figures: Figures) -> Found:
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
    return Found("; ".join(texts), verdict(sides), seeds_of(figures, "tradeoff"))


def steps_of_learning(figures: Figures) -> Found:
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
    return Found(text, verdict(sides), seeds_of(figures, "regret"), "intervals that overlap decide nothing")


def recovered(figures: Figures) -> Found:
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


def behaviour_cloning(figures: Figures) -> Found:
    """Both limits, where nothing is ever thought: no difference to behaviour cloning beyond rounding."""
    names = ("|α = 1, fixed start − behaviour cloning|", "|c = ∞ − behaviour cloning|")
    rows = [figures.row("em-truths", {"quantity": name}) for name in names]
    text = "; ".join(f"{row['quantity']} = {float(row['value']):.3g}" for row in rows)
    return decided(text, [abs(float(row["value"])) <= _ROUNDING for row in rows])


def climbs(figures: Figures) -> Found:
    row = figures.row("em-truths", {"quantity": "smallest gain of an exact EM iteration"})
    least = float(row["value"])
    text = f"smallest gain of an iteration {least:.3g} nats a step"
    return decided(text, [least >= 0], seeds_of(figures, "em"))


def causal_gap(figures: Figures) -> Found:
    rows = figures.rows("em-truths", {"quantity": "log-likelihood − best causal ELBO"})
    gap = known(rows[0], "value")
    words = figures.rows("variational-table", {"quantity": "log-likelihood − ELBO(best causal q), nats"})
    text = f"LineWorld, EM: {said(gap)} nats a program"
    text += "".join(f"; {row['world']}: {float(row['found']):.3g}" for row in words)
    sides = [1 if gap.low > 0 else 0, *(1 if float(row["found"]) > 0 else -1 for row in words)]
    return Found(text, verdict(sides), seeds_of(figures, "em"))


def price(figures: Figures) -> Found:
    rates = {
        row["x"]: known(row, "mean")
        for row in figures.rows("em", {"panel": "price", "curve": "fixed start, think_rate"})
    }
    means = [float(one.mean) for one in rates.values()]
    text = "share of lines thought about: " + ", ".join(f"c = {float(c):g}: {said(one)}" for c, one in rates.items())
    falls = all(a >= b for a, b in pairwise(means))
    return Found(text, verdict([1 if falls else -1, 1 if means[-1] == 0 else -1]), seeds_of(figures, "em"))
