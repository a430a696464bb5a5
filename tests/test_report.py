"""The report opens from disk in a real browser, without errors and without any network, and all of it works."""

from __future__ import annotations

import csv
import os
import re
import shutil
from pathlib import Path

import pytest
from playwright.sync_api import Error, expect, sync_playwright

from experiments import cli
from experiments.evidence import Figures
from experiments.paper_claims import CLAIMS
from experiments.report.captions import captions
from experiments.report.charts import charts
from experiments.report.page import ORDER, build

ROOT = Path(__file__).parent.parent
FIGS = ROOT / "paper_figs"
# Where the test leaves its pictures, for people to look at.
PICTURES = ROOT / "build" / "report-test"


def browser_path() -> str | None:
    names = ("chromium", "chromium-browser", "google-chrome", "chrome")
    return os.environ.get("CHROMIUM") or next((path for name in names if (path := shutil.which(name))), None)


@pytest.fixture(scope="module")
def report(tmp_path_factory) -> Path:
    return build(FIGS, tmp_path_factory.mktemp("a folder") / "report.html")


@pytest.fixture(scope="module")
def page(report):
    """The report in Chromium, and what it complained of."""
    path = browser_path()
    if path is None and not os.environ.get("CI"):
        pytest.skip("no Chromium: apt-get install chromium, or set CHROMIUM to the program")
    assert path, "no Chromium, and on CI this test must run"
    complaints: list[str] = []
    with sync_playwright() as playwright:
        try:
            browser = playwright.chromium.launch(executable_path=path, args=["--no-sandbox"])
        except Error as error:
            pytest.fail(f"{path} does not start: {error}")
        page = browser.new_page(viewport={"width": 1300, "height": 900})
        page.on("console", lambda said: complaints.append(said.text) if said.type in ("error", "warning") else None)
        page.on("pageerror", lambda error: complaints.append(str(error)))
        page.on("request", lambda asked: asked.url.startswith("http") and complaints.append(f"asked for {asked.url}"))
        page.goto(report.as_uri())
        page.complaints = complaints
        yield page
        browser.close()


def test_nothing_is_asked_of_the_network_and_nothing_goes_wrong(page):
    page.wait_for_load_state("networkidle")
    assert page.complaints == []
    assert page.locator("h1").inner_text() == "ra3sim: report"
    PICTURES.mkdir(parents=True, exist_ok=True)
    page.screenshot(path=PICTURES / "top.png")


@pytest.mark.slow
def test_a_reader_clicks_through_all_of_it(page):
    links = page.locator("nav a")
    names = [links.nth(k).inner_text() for k in range(links.count())]
    assert names == ["claims", "statements", *ORDER, "thoughts", "environment"]
    for name in names:
        page.locator(f"nav a[href='#{name}']").click()
        section = page.locator(f"section#{name}")
        box = section.bounding_box()
        assert box and -900 < box["y"] < 900 and box["height"] > 100
        for image in section.locator("img").all():
            image.scroll_into_view_if_needed()
            assert image.evaluate("image => image.decode().then(() => image.naturalWidth)") > 600
        page.screenshot(path=PICTURES / f"{name}.png")
    assert page.complaints == []


def test_claims_are_filtered_and_opened(page):
    page.evaluate("window.scrollTo(0, 0)")
    rows = page.locator("#claims-table tbody")
    with open(FIGS / "claims.csv", encoding="utf-8", newline="") as file:
        data = list(csv.DictReader(file))
    assert rows.count() == len(data) == len(CLAIMS) + 54
    page.select_option("#by-verdict", "not reproduced")
    wanted = [row for row in data if row["verdict"] == "not reproduced"]
    shown = page.locator("#claims-table tbody:not([hidden])")
    assert 0 < shown.count() == len(wanted) and page.locator("#shown").inner_text() == f"{len(wanted)} of {len(data)}"
    page.select_option("#by-where", "LineWorld")
    lineworld = [row for row in wanted if row["where"] == "LineWorld"]
    assert 0 < shown.count() == len(lineworld)
    first = shown.first
    assert not first.locator(".more").is_visible()
    first.locator(".claim").click()
    assert lineworld[0]["measured"] in first.locator(".more").inner_text() and lineworld[0]["run"] in first.inner_text()
    first.locator(".claim").press("Enter")
    assert not first.locator(".more").is_visible()
    page.select_option("#by-verdict", "")
    page.select_option("#by-where", "")
    page.fill("#by-text", "pitfall-above")
    assert shown.count() == 1
    page.fill("#by-text", "")
    assert shown.count() == len(data)


def test_verification_and_runs_are_whole(page):
    assert page.locator("#verification tbody tr").count() == 54
    assert page.locator("#runs tbody tr").count() == len(ORDER)
    assert "numpy" in page.locator("#versions").inner_text()


@pytest.mark.slow
def test_charts_show_values_and_hide_curves(page):
    """Every panel of every chart is drawn; a click in the legend takes a curve away; hovering shows its values."""
    for name, chart in charts(Figures(FIGS)).items():
        box = page.locator(f".chart[data-chart='{name}']")
        box.scroll_into_view_if_needed()
        box.locator(".plot .main-svg").first.wait_for()
        options = box.locator("select option")
        assert options.count() == len(chart.panels)
        for number in {0, len(chart.panels) - 1, len(chart.panels) // 2}:
            box.locator("select").select_option(str(number))
            drawn = [one for one in chart.panels[number]["data"] if one.get("visible", True) is True]
            expect(box.locator(".scatterlayer .trace")).to_have_count(len(drawn))
        box.locator("select").select_option("0")
    box = page.locator(".chart[data-chart='rlvr']")
    box.scroll_into_view_if_needed()
    curves = box.locator(".scatterlayer .trace")
    before = curves.count()
    box.locator(".legendtoggle").first.click()
    expect(curves).to_have_count(before - 1)
    box.locator(".scatterlayer .trace").last.locator(".point").nth(2).hover(force=True)
    hover = box.locator(".hoverlayer .hovertext")
    hover.first.wait_for()
    assert re.search(r"\d", hover.first.text_content())
    box.screenshot(path=PICTURES / "rlvr-chart.png")
    assert page.complaints == []


def test_thoughts_are_there(page):
    frame = page.frame_locator("iframe.thoughts >> nth=0")
    assert frame.locator("section").count() >= 2 and "κ" in frame.locator("table").first.inner_text()


def test_captions_say_what_to_see_in_every_figure(tmp_path):
    found = captions()
    assert set(found) == set(ORDER)
    for name, caption in found.items():
        assert len(caption.shows) > 200 and "What it shows" in caption.shows, name
        assert "](" not in caption.what + caption.shows and "<img" not in caption.what + caption.shows
    mute = tmp_path / "results.md"
    mute.write_text("# Results\n\n## em\n\nA figure.\n")
    with pytest.raises(ValueError, match="section em does not say"):
        captions(mute)


def test_a_folder_with_one_experiment_makes_a_report(tmp_path, capsys):
    figs = tmp_path / "figs"
    figs.mkdir()
    for path in FIGS.glob("convergence*"):
        shutil.copy(path, figs)
    assert cli.main(["report", "--figs", str(figs), "--out", str(tmp_path / "one.html")]) == 0
    text = (tmp_path / "one.html").read_text(encoding="utf-8")
    assert capsys.readouterr().out == f"results: {tmp_path / 'one.html'}\n"
    assert '<section id="convergence">' in text and '<section id="em">' not in text and "Not verified here" in text
    assert "the results have no such data (no em.json)" in text


@pytest.mark.parametrize(
    ("spoil", "message"),
    [
        (lambda figs: None, "has no results; `ra3 reproduce --out"),
        (lambda figs: figs.rmdir(), "figs: no folder"),
        (lambda figs: (figs / "em.json").write_text("{"), "em.json is damaged"),
    ],
)
def test_bad_input_is_one_line(tmp_path, capsys, spoil, message):
    figs = tmp_path / "figs"
    figs.mkdir()
    spoil(figs)
    assert cli.main(["report", "--figs", str(figs), "--out", str(tmp_path / "page.html")]) == 2
    error = capsys.readouterr().err
    assert message in error and error.count("\n") == 1 and not (tmp_path / "page.html").exists()
