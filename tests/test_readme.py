"""The examples of the README and of the pages beside it run, and the numbers in their text are those of the tables."""

import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
from written import rows

import benchmarks.__main__ as benchmarks
import theory
from experiments import claims
from ra3sim import OptionSet, solve
from ra3sim.envs import from_gymnasium

ROOT = Path(__file__).parent.parent
PAGES = {
    page: (ROOT / page).read_text(encoding="utf-8")
    for page in ("README.md", "docs/results.md", "docs/tables.md", "docs/language-models.md", "docs/runs.md")
}
README, RESULTS = PAGES["README.md"], PAGES["docs/results.md"]
EXAMPLES = [example for text in PAGES.values() for example in re.findall(r"```python\n(.*?)```", text, re.DOTALL)]


@pytest.mark.slow
def test_the_example_of_a_statement_runs_as_it_stands():
    (code,) = [example for example in EXAMPLES if "theory" in example]
    done = subprocess.run([sys.executable, "-W", "error", "-c", code], cwd=ROOT, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    # measured and bound for N = 1 .. 6, and the ratio: the falsifier's best is nearly tight.
    assert 0.999 < float(done.stdout.split()[-1]) <= 1 + 1e-6


@pytest.mark.slow
@pytest.mark.parametrize("words", ["taxi_rides", "discover(", "llm.likelihood", "runner.Plan"])
def test_the_other_examples_run_as_they_stand(words, tmp_path):
    (code,) = [example for example in EXAMPLES if words in example]
    done = subprocess.run([sys.executable, "-W", "error", "-c", code], cwd=tmp_path, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr


def test_the_example_of_the_sandbox_says_what_the_programs_did():
    (code,) = [example for example in EXAMPLES if "llm.sandbox" in example]
    done = subprocess.run([sys.executable, "-W", "error", "-c", code], cwd=ROOT, capture_output=True, text=True)
    verdict, *rest = done.stdout.splitlines()
    assert done.returncode == 0, done.stderr
    assert "outcome='failed'" in verdict and "test=1" in verdict and rest == ["crashed", "passed"]


def test_the_verdicts_are_of_all_statements():
    found = rows(ROOT / "paper_figs" / "verify.csv")
    assert [(row["number"], row["statement"].removesuffix(" (=)")) for row in found] == [
        (one.number, one.name) for one in theory.find()
    ]
    assert {row["verdict"] for row in found} == {"holds"}
    assert set(re.findall(r"[Aa]ll (\d+) (?:statements|hold)", README + RESULTS)) == {str(len(found))}


def short(number):
    return f"{float(number):.2f}".replace("0.", ".", 1).replace("-", "−")


def test_what_is_said_of_posttraining_is_in_its_table():
    claims = {(row["claim"], row["world"]): row for row in rows(ROOT / "paper_figs" / "posttraining-claims.csv")}
    section = " ".join(RESULTS.partition("## posttraining")[2].partition("## discovery")[0].split())
    said = {
        "pruning lowers the regret of learning over macros": ("FourRooms", "MiniGrid lava gap", "Taxi"),
        "pruning lowers the regret of learning over primitives": ("MiniGrid lava gap",),
        "both halves together lower it": ("MiniGrid lava gap",),
    }
    for claim, worlds in said.items():
        for world in worlds:
            row = claims[claim, world]
            assert f"{short(row['difference'])} [{short(row['low'])}, {short(row['high'])}]" in section, (claim, world)
    together = [
        row for (claim, _), row in claims.items() if claim == "together they do more than the sum of each alone"
    ]
    assert f"({', '.join(short(row['difference']) for row in together)}, all intervals above 0)" in section
    assert all(float(row["low"]) > 0 for row in together)
    alone = [row for (claim, _), row in claims.items() if claim.startswith("extended actions lower")]
    assert {row["verdict"] for row in alone} == {"not reproduced"}
    assert f"lose in FourRooms ({short(claims['both halves together lower it', 'FourRooms']['difference'])})" in section


def test_what_is_said_of_discovery_is_in_its_table():
    verdicts = [row["verdict"] for row in rows(ROOT / "paper_figs" / "discovery-claims.csv")]
    counts = [verdicts.count(one) for one in ("holds", "holds in part", "not reproduced")]
    holds, in_part, fail = counts
    said = f"Of {len(verdicts)} claims judged from the data {holds} hold, {in_part} hold in part, {fail} do not."
    assert said in " ".join(RESULTS.split())


@pytest.mark.slow
def test_the_example_runs_as_it_stands(tmp_path):
    (code,) = [example for example in EXAMPLES if "Taxi-v4" in example]
    lines = code.strip().splitlines()
    assert 8 <= len(lines) <= 12
    # What the example left behind is looked at in the same process, after its last line.
    look = "import json; print(json.dumps([plan.values.max(), smdp.gamma_bar, len(plt.gca().lines), plan.value_bound]))"
    command = [sys.executable, "-W", "error", "-c", code + look]
    done = subprocess.run(
        command, cwd=tmp_path, env={"MPLBACKEND": "agg", "HOME": str(tmp_path)}, capture_output=True, text=True
    )
    assert done.returncode == 0, done.stderr
    best, gamma_bar, curves, bound = eval(done.stdout, {})
    taxi = from_gymnasium("Taxi-v4", 0.95)
    assert curves == 2 and gamma_bar == pytest.approx(0.95**3) and bound <= 1e-6
    # In a deterministic world where every state can be left by 3 steps or ends, macros lose nothing at the best state.
    assert best == pytest.approx(solve(taxi).values.max(), abs=1e-5)
    assert len(OptionSet.macros(taxi, 3)) == 216
    assert (tmp_path / "taxi.png").read_bytes().startswith(b"\x89PNG")


def test_the_figures_in_the_text_are_those_of_the_table():
    least, most = re.search(r"is between (\d+) % and (\d+) % of the sharp one", RESULTS.replace("\n", " ")).groups()
    found = rows(ROOT / "paper_figs" / "convergence-table.csv")
    shares = [float(row["measured / sharp"]) for row in found if row["environment"] != "pitfall"]
    assert (int(least), int(most)) == (round(100 * min(shares)), round(100 * max(shares)))


@pytest.mark.parametrize("page", PAGES)
def test_links_lead_somewhere(page):
    targets = re.findall(r"\]\((?!http)([^)#]+)(?:#[^)]*)?\)", PAGES[page])
    missing = [target for target in targets if not ((ROOT / page).parent / target).exists()]
    assert not missing and (targets or page == "docs/tables.md")


def test_the_claims_of_the_readme_are_those_of_the_results(tmp_path):
    """In the README and in paper_figs stands what the results in paper_figs say now."""
    figs = tmp_path / "figs"
    shutil.copytree(ROOT / "paper_figs", figs, ignore=shutil.ignore_patterns("claims.*", "*.png", "*.pdf"))
    readme = tmp_path / "README.md"
    readme.write_text(README.replace("holds in part", "holds"), encoding="utf-8")
    claims.write(figs, readme)
    assert readme.read_text(encoding="utf-8") == README
    for name in ("claims.md", "claims.csv"):
        assert (figs / name).read_bytes() == (ROOT / "paper_figs" / name).read_bytes()


def test_a_benchmark_group_rewrites_its_own_section_alone(tmp_path, monkeypatch):
    monkeypatch.setattr(benchmarks, "HOME", tmp_path / "benchmarks")
    (tmp_path / "benchmarks").mkdir()
    for group, text in (("latent", "| 1 |"), ("planning", "| 2 |\n\nnote"), ("latent", "| 3 |")):
        benchmarks.write(group, text)
    whole = "### Planning\n\n| 2 |\n\nnote\n\n### Inference in latent-option models\n\n| 3 |"
    assert (tmp_path / "benchmarks" / "RESULTS.md").read_text(encoding="utf-8") == f"# Benchmarks\n\n{whole}\n"
