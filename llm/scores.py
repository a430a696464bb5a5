"""The figures of an evaluation, from what its folder holds; and those of two evaluations beside each other."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from llm import journal
from llm.passk import Estimate, difference, interval, pass_at_k

RESULTS = "results.json"
WAYS = ("raw", "sanitised")


@dataclass(frozen=True)
class About:
    """What an evaluation is of: a digest of the problems, how they are asked, and those that are not in it."""

    digest: str
    asked: Mapping[str, Any]
    malformed: Sequence[str]
    left_out: Sequence[str]


def results(
    folder: Path, names: Sequence[str], samples: int, ks: Sequence[int], seed: int, about: About
) -> dict[str, Any]:
    """What results.json holds, from samples.jsonl and verdicts.jsonl.

    Raises:
        ValueError: a completion or a verdict is missing, or there twice.
    """
    written, judged = journal.read(folder / "samples.jsonl"), journal.read(folder / "verdicts.jsonl")
    wanted = Counter({(name, sample): 1 for name in names for sample in range(samples)})
    for what, records in (("completions", written), ("verdicts", judged)):
        found = Counter((one["problem"], one["sample"]) for one in records)
        if found != wanted:
            missing, more = (wanted - found).total(), (found - wanted).total()
            raise ValueError(
                f"out: {folder} lacks {missing} {what} and has {more} too many; give its command again, or another "
                "folder"
            )
    passed = {way: Counter(one["problem"] for one in judged if one[way]["outcome"] == "passed") for way in WAYS}
    counts = {way: [passed[way][name] for name in names] for way in WAYS}
    config = json.loads((folder / "config.json").read_text())
    return {
        "model": config["model"],
        "problems": len(names),
        "samples": samples,
        "sampling": {name: config[name] for name in ("temperature", "top_p", "max_tokens", "seed", "begin")},
        "pass_at_k": {
            way: {str(k): asdict(interval(pass_at_k([samples] * len(names), counts[way], k), seed)) for k in ks}
            for way in WAYS
        },
        "outcomes": {way: dict(Counter(one[way]["outcome"] for one in judged).most_common()) for way in WAYS},
        "ended": dict(Counter(one["ended"] for one in written).most_common()),
        "costs": {
            # A prompt is computed once for its samples in a batch; here it counts once for each problem.
            "prompt_tokens": sum(one["prompt_tokens"] for one in written if one["sample"] == 0),
            "tokens": sum(one["tokens"] for one in written),
            "seconds": sum(one["seconds"] for one in written),
            "judge_seconds": sum(one[way]["seconds"] for one in judged for way in WAYS),
            "judge_cpu_seconds": sum(one[way]["cpu_seconds"] for one in judged for way in WAYS),
        },
        **asdict(about),
        "by_problem": {name: {way: counts[way][place] for way in WAYS} for place, name in enumerate(names)},
    }  # fmt: skip


def lines(found: Mapping[str, Any]) -> list[str]:
    """Results for people."""
    sampling = found["sampling"]
    rows = [
        f"{found['model']} on {found['asked']['benchmark']}: {found['problems']} problems, {found['samples']} samples "
        f"each (temperature {sampling['temperature']}, top-p {sampling['top_p']}, {sampling['max_tokens']} tokens at "
        f"most, seed {sampling['seed']})"
    ]
    for k in found["pass_at_k"]["raw"]:
        for way in WAYS:
            rows.append(f"  pass@{k:<3} {way:9}  {_percent(Estimate(**found['pass_at_k'][way][k]))}")
    outcomes = ", ".join(f"{count} {name}" for name, count in found["outcomes"]["raw"].items())
    ended = {"stop": "at a stop sequence", "end": "by themselves", "length": "at the limit"}
    rows.append(f"  programs: {outcomes}")
    rows.append(f"  completions ended: {', '.join(f'{count} {ended[how]}' for how, count in found['ended'].items())}")
    costs = found["costs"]
    rows.append(
        f"  costs: {costs['tokens']:,} tokens drawn in {costs['seconds']:.0f} s, judged in "
        f"{costs['judge_cpu_seconds']:.0f} s of processors"
    )
    for name, title in (("malformed", "no problems"), ("left_out", "left out")):
        if found[name]:
            rows.append(f"  {title}: {len(found[name])}; the first: {found[name][0]}")
    return rows


def read(folder: Path) -> dict[str, Any]:
    """Results of a finished evaluation.

    Raises:
        FileNotFoundError, ValueError: it isn't there, isn't finished, or is damaged.
    """
    path = folder / RESULTS
    if not path.is_file() or not (folder / "done").is_file():
        state = "has not finished" if (folder / "config.json").is_file() else "holds no evaluation"
        raise FileNotFoundError(f"run: {folder} {state}; give the folder of a finished `ra3 evaluate`")
    try:
        return json.loads(path.read_text(encoding="utf-8"))
    except ValueError as error:
        raise ValueError(f"run: {path} is damaged ({error}); give the command of the evaluation again") from None


@dataclass(frozen=True)
class Compared:
    """Two evaluations of the same problems: pass@k of each, and what the second has more."""

    k: int
    way: str
    one: Estimate
    other: Estimate
    difference: Estimate

    @property
    def verdict(self) -> str:
        """Which is better, if the interval of the difference leaves no doubt."""
        if self.difference.low > 0:
            return "the second is better"
        return "the first is better" if self.difference.high < 0 else "not decided"


def compare(one: Path, other: Path, seed: int = 0) -> list[Compared]:
    """Paired by problem, for every k that both have samples for.

    Raises:
        FileNotFoundError, ValueError: not two finished evaluations of the same problems, asked in the same way.
    """
    found = [read(one), read(other)]
    if found[0]["digest"] != found[1]["digest"] or found[0]["asked"] != found[1]["asked"]:
        different = next((key for key in ("asked", "problems", "digest") if found[0][key] != found[1][key]), "digest")
        raise ValueError(
            f"run: {one} and {other} are of other problems, or ask otherwise ({different}: {found[0][different]} and "
            f"{found[1][different]}); evaluate both on the same"
        )
    names = list(found[0]["by_problem"])
    most = min(results["samples"] for results in found)
    ks = sorted({int(k) for results in found for k in results["pass_at_k"]["raw"] if int(k) <= most})
    compared = []
    for k in ks:
        for way in WAYS:
            first, second = (
                pass_at_k([results["samples"]] * len(names), [results["by_problem"][name][way] for name in names], k)
                for results in found
            )
            both = difference(first, second, seed)
            compared.append(Compared(k, way, interval(first, seed), interval(second, seed), both))
    return compared


def compared_lines(one: Path, other: Path, compared: Sequence[Compared]) -> list[str]:
    """The comparison for people."""
    rows = [f"first: {one}", f"second: {other}"]
    for row in compared:
        rows.append(
            f"  pass@{row.k:<3} {row.way:9}  {_percent(row.one)}  {_percent(row.other)}  difference "
            f"{_percent(row.difference, sign=True)}: {row.verdict}"
        )
    return rows


def _percent(estimate: Estimate, sign: bool = False) -> str:
    form = "+.1f" if sign else ".1f"
    value, low, high = (format(100 * one, form) for one in (estimate.value, estimate.low, estimate.high))
    return f"{value} [{low}, {high}] %"
