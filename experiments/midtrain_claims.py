"""What is said of mid-training with RA3, and whether the data of `experiments.midtrain` bear it out."""

from __future__ import annotations

import itertools
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import scipy.stats

from experiments.midtrain_results import (
    DEAF,
    GREEDY,
    INGREDIENTS,
    METHODS_STUDY,
    PASS,
    Results,
    minus,
    recipe,
    said,
    spread,
)  # fmt: skip
from experiments.verdicts import side, verdict
from ra3sim.envs.lineworld import LineWorld

COLUMNS = ("claim", "where", "measured", "true if", "found, mean [95 % interval]", "seeds", "verdict", "command")
COMMAND = "ra3 reproduce midtrain"

# pass@1 of the posterior at 50 experts in a first trial of another size, the least of its seeds.
TRIAL = 0.73
# Differences in pass@1 within this are little.
LITTLE = 0.1
# Thoughts are rarer than this share of the lines: collapse, as the E-steps report it.
COLLAPSE = 1e-3
_DIFFERENCE, _NATS = "difference in pass@1 (T = 1)", "difference in marginal NLL, nats per line"


@dataclass(frozen=True)
class Claim:
    """
    Attributes:
        text, where, measured: for people.
        found: values by name, each over seeds.
        above, below: where the values lie if the claim is true.
        one: one of the comparisons is enough.
    """

    text: str
    where: str
    measured: str
    found: Mapping[str, Any]
    above: float = 0.0
    below: float = np.inf
    one: bool = False


def judge(claims: Iterable[Claim], command: str = COMMAND) -> list[list[Any]]:
    """A row of `COLUMNS` for each claim; comparisons with fewer than two seeds are left out."""
    rows = []
    for claim in claims:
        known = {name: (spread(values), len(values)) for name, values in claim.found.items()}
        known = {name: (found, seeds) for name, (found, seeds) in known.items() if found}
        if not known and not claim.one:
            continue
        seeds = sorted({seeds for _, seeds in known.values()})
        rows.append([
            claim.text, claim.where, claim.measured, _bounds(claim),
            "; ".join(f"{name}: {said(found)}" if name else str(said(found)) for name, (found, _) in known.items()),
            "–".join(map(str, seeds[:: max(len(seeds) - 1, 1)])),
            verdict([side(found, claim.above, claim.below) for found, _ in known.values()], claim.one), command,
        ])  # fmt: skip
    return rows


def _bounds(claim: Claim) -> str:
    if np.isinf(claim.below):
        return f"> {claim.above:g}"
    return f"< {claim.below:g}" if np.isinf(claim.above) else f"{claim.above:g} to {claim.below:g}"


def claims(results: Results, config: Any) -> list[Claim]:
    """Those that the data can decide. Differences are paired: same seed, same world, base and experts."""
    return [
        *_against_ntp(results, config), *_methods(results, config), *_thoughts(results, config.size),
        *_bases(results, config.size), *_sweeps(results, config), *_ingredients(results, config.size),
    ]  # fmt: skip


_RA3 = ("posterior", "policy gradient, split", "policy gradient, published")
_NTP = ("NTP", "NTP, stopped early", "NTP, strong decay")


def _against_ntp(results: Results, config: Any) -> list[Claim]:
    """Of the posterior at every number of experts, of the others where it is not swept."""
    size, largest = config.size, max(config.sizes)
    few = [n for n in config.sizes if n <= size]

    def ahead(name: str, n: int, quantity: str) -> dict[int, float]:
        one, other = (results.method(x, n, size, quantity) for x in (name, "NTP"))
        sign = -1 if quantity == "marginal" else 1
        return {k: sign * (one[k] - other[k]) for k in one.keys() & other.keys()}

    rows = []
    for name in _RA3:
        counts = few if name == "posterior" else [size]
        where = f"N = {', '.join(map(str, counts))}"
        for quantity, unit, what in ((PASS, _DIFFERENCE, "pass@1"), ("marginal", _NATS, "marginal likelihood")):
            found = {f"N = {n}": ahead(name, n, quantity) for n in counts}
            rows.append(Claim(f"RA3 ({name}) beats NTP in held-out {what} with few experts", where, unit, found))
    if largest > size:
        for quantity, unit, what in ((PASS, _DIFFERENCE, "pass@1"), ("marginal", _NATS, "marginal likelihood")):
            found = {"": minus(ahead("posterior", size, quantity), ahead("posterior", largest, quantity))}
            claim = f"the gap in {what} between posterior and NTP closes as experts grow"
            rows.append(
                Claim(claim, f"N = {size} against {largest}", f"gap at {size} − gap at {largest}, {unit}", found)
            )
    every = f"N = {', '.join(map(str, config.sizes))}"
    for quantity, unit, what in (
        (PASS, _DIFFERENCE, "pass@1"), (GREEDY, "difference in pass@1 (T = 0)", "greedy pass@1"),
        ("marginal", _NATS, "marginal likelihood"),
    ):  # fmt: skip
        found = {f"N = {n}": ahead("posterior", n, quantity) for n in config.sizes}
        rows.append(Claim(f"the posterior beats NTP in {what} however many experts there are", every, unit, found))
    for quantity, unit, sign in ((PASS, _DIFFERENCE, 1), ("marginal", _NATS, -1)):
        ours = results.values(METHODS_STUDY, "posterior", size, quantity)
        found = {
            f"against {name}": sign * minus(ours, results.values(METHODS_STUDY, name, size, quantity)) for name in _NTP
        }
        what = "pass@1" if quantity == PASS else "marginal likelihood"
        claim = f"regularised NTP does not close the gap to the posterior in {what}"
        rows.append(Claim(claim, f"N = {size}", unit, found))
    found = {"": results.values(METHODS_STUDY, "posterior", size, PASS)}
    rows.append(
        Claim("the posterior reaches the pass@1 of a first trial", f"N = {size}", "pass@1 (T = 1)", found, TRIAL)
    )
    return rows


def _methods(results: Results, config: Any) -> list[Claim]:
    size, where = config.size, f"N = {config.size}"

    def value(name: str, quantity: str = PASS) -> dict[int, float]:
        return results.values(METHODS_STUDY, name, size, quantity)

    def last(name: str) -> np.ndarray:
        return results.history(METHODS_STUDY, name, size, "think")[:, -1]

    split, published = "policy gradient, split", "policy gradient, published"
    joint = results.values(INGREDIENTS, "joint credit, mended", size, PASS)
    share = "share of lines thought about, last E-step"
    return [
        Claim("the policy gradient as published collapses", where, share, {"": last(published)}, -np.inf, COLLAPSE),
        Claim("posterior and split policy gradient do not collapse", where, share,
              {name: last(name) for name in ("posterior", split)}, COLLAPSE),
        Claim("split credit beats the published policy gradient", where, _DIFFERENCE,
              {"": minus(value(split), value(published))}),
        Claim("split credit beats joint credit, all else equal", where, _DIFFERENCE, {"": minus(value(split), joint)}),
        Claim("the posterior beats the split policy gradient", where, _DIFFERENCE,
              {"": minus(value("posterior"), value(split))}),
        Claim("the oracle beats the posterior", where, _DIFFERENCE,
              {"": minus(value("oracle"), value("posterior"))}),
        Claim("dummy comments do not help", where, f"{_DIFFERENCE} to NTP",
              {"": minus(value("dummy"), value("NTP"))}, -np.inf, LITTLE / 2),
        Claim("blind samples, without an E-step, do not help", where, f"{_DIFFERENCE} to NTP",
              {"": minus(value("blind"), value("NTP"))}, -np.inf, LITTLE / 2),
        *_ranks(results, size),
    ]  # fmt: skip


def _ranks(results: Results, size: int) -> list[Claim]:
    """Whether the likelihood given blind comments ranks methods as their marginal likelihood does."""
    names = [name for study, name, _ in results.cells if study == METHODS_STUDY]
    value = {
        (name, q): results.values(METHODS_STUDY, name, size, q) for name in names for q in ("blind", "marginal", PASS)
    }
    # Positive in a repetition in which blind comments favour the first, and the marginal the second.
    turned = {
        f"{one} before {other}": np.minimum(
            minus(value[other, "blind"], value[one, "blind"]), minus(value[one, "marginal"], value[other, "marginal"])
        )
        for one, other in itertools.permutations(names, 2)
    }
    clear = {pair: values for pair, values in turned.items() if (found := spread(values)) and found.low > 0}
    taus = {}
    for quantity in ("blind", "marginal"):
        seeds = sorted(set.intersection(*(set(value[name, q]) for name in names for q in (quantity, PASS))))
        taus[quantity] = {
            k: scipy.stats.kendalltau(*([value[name, q][k] for name in names] for q in (quantity, PASS))).statistic
            for k in seeds
        }
    better = minus(taus["blind"], taus["marginal"])
    # Where all methods pass equally often there is no ranking.
    better = better[np.isfinite(better)]
    return [
        Claim("cross-entropy given blind comments misranks methods", f"N = {size}",
              "nats per line by which it prefers the one, and the marginal the other (the smaller of both)", clear,
              one=True),
        Claim("the marginal ranks methods as pass@1 does, better than the cross-entropy given blind comments",
              f"N = {size}", "difference of Kendall's τ with pass@1", {"": better}),
    ]  # fmt: skip


def _thoughts(results: Results, size: int) -> list[Claim]:
    where, most = f"N = {size}", np.log(LineWorld.preset("text").skills)

    def value(name: str, quantity: str, scale: float = 1.0) -> np.ndarray:
        found = results.values(METHODS_STUDY, name, size, quantity)
        return np.array([scale * found[k] for k in sorted(found)])

    rows = []
    for name in ("posterior", "policy gradient, split"):
        found = {
            "right": value(name, "thoughts right"),
            f"information / {most:.2f} nats": value(name, "thoughts information", 1 / most),
        }
        rows.append(Claim(f"thoughts name the true skill ({name})", where, "share", found, 0.5))
        rows.append(Claim(f"the code obeys the thoughts ({name})", where, "probability of the lines of a wrong comment",
                          {"": value(name, "thoughts obeys")}, 0.5))  # fmt: skip
    obeys = [results.values(METHODS_STUDY, name, size, "thoughts obeys") for name in ("posterior", "blind")]
    return [
        *rows,
        Claim("blind samples make the code ignore its comments", where, "probability of the lines of a wrong comment",
              {"": value("blind", "thoughts obeys")}, -np.inf, 0.5),
        Claim("the posterior keeps the code's obedience, blind samples do not", where, "difference in that probability",
              {"": minus(*obeys)}),
        Claim("the posterior's own thoughts help its code, other programs' thoughts do not", where,
              "nats per thought; of other programs' thoughts, what they cost",
              {"own": value("posterior", "own"), "others'": value("posterior", "other", -1.0)}),
    ]  # fmt: skip


def _bases(results: Results, size: int) -> list[Claim]:
    def value(name: str) -> dict[int, float]:
        return results.values(DEAF, name, size, PASS)

    where = f"base that can't read tasks, N = {size}"
    return [
        Claim("a base that can't read the task can't bootstrap: the posterior is no better than NTP", where,
              _DIFFERENCE, {"": minus(value("posterior"), value("NTP"))}, -np.inf, LITTLE),
        Claim("there, given intents help", where, f"{_DIFFERENCE} to NTP", {"": minus(value("oracle"), value("NTP"))}),
    ]  # fmt: skip


def _sweeps(results: Results, config: Any) -> list[Claim]:
    size = config.size
    usual = results.values(METHODS_STUDY, "posterior", size, PASS)

    def swept(names: Iterable[str]) -> dict[str, np.ndarray]:
        return {name: minus(results.values(INGREDIENTS, name, size, PASS), usual) for name in names}

    prices, counts = [f"c = {price:g}" for price in config.prices], [f"K = {count}" for count in config.candidates]
    few = {name: -values for name, values in swept(counts).items()}
    return [
        Claim("the price c of a thought does little", f"posterior, N = {size}", f"{_DIFFERENCE} to the usual c",
              swept(prices), -LITTLE, LITTLE),
        Claim("more candidates help", f"posterior, N = {size}", f"{_DIFFERENCE} of the usual K to fewer", few),
    ]  # fmt: skip


def _ingredients(results: Results, size: int) -> list[Claim]:
    where = f"N = {size}, left out or changed"
    rows = []
    for name in results.ablations:
        if name != "joint credit, mended":
            for quantity, unit, sign in ((PASS, _DIFFERENCE, 1), ("marginal", _NATS, -1)):
                what = "pass@1" if quantity == PASS else "marginal likelihood"
                claim = f"the full recipe ({recipe(name)}) is better than “{name}” in {what}"
                rows.append(Claim(claim, where, unit, {"": sign * results.ingredient(name, size, quantity)}))
    return rows
