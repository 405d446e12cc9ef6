"""The report: whole, of one file, and safe whatever names hold."""

import base64
import json
import re
import shutil
import subprocess
from html.parser import HTMLParser
from itertools import pairwise
from pathlib import Path

import pandas as pd
import pytest

from stages import compare, report
from stages.lib.core import cards, runs
from stages.lib.reporting import page as page_module
from stages.lib.shell import beside
from tests import outcomes


class Page(HTMLParser):
    """The text, the tags and the addresses of a page."""

    def __init__(self, text):
        super().__init__()
        self.words, self.tags, self.addresses = [], [], []
        self.feed(text)

    def handle_starttag(self, tag, attributes):
        self.tags.append(tag)
        self.addresses += [value for name, value in attributes if name in ("src", "href")]

    def handle_data(self, data):
        self.words.append(data)


@pytest.fixture(scope="module")
def made_up(tmp_path_factory):
    """What a pipeline leaves behind, with planted differences and a report of it."""
    folder = tmp_path_factory.mktemp("made_up")
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(folder)
        outcomes.write_project()
        any_picture = outcomes.target("dots").evaluation / "confusion.png"
        for name in ("dots", "lines"):
            shutil.copy(any_picture, runs.prepared(name) / "samples.png")
        any_picture.with_name("mistakes.html").write_text(f'<img src="{page_module.embedded(any_picture.read_bytes())}">')
        compare.main()
        report.main()
    return folder


@pytest.fixture(params=["made up", pytest.param("trained", marks=pytest.mark.slow)])
def repo(request, tmp_path, monkeypatch):
    """A repository with a report, which the test may change: of the small pipeline, or of what one could have left behind."""
    if request.param == "trained":
        folder = request.getfixturevalue("copy_of")(request.getfixturevalue("finished")).path
    else:
        folder = shutil.copytree(request.getfixturevalue("made_up"), tmp_path / "copy")
    monkeypatch.chdir(folder)


def page() -> Page:
    return Page(runs.REPORT.read_text(encoding="utf-8"))


def test_it_says_what_the_verdict_and_the_tables_say(repo):
    told = page()
    text = " ".join(" ".join(told.words).split())
    verdict = runs.VERDICT.read_text()
    for sentence in re.findall(r"\*\*(.+?)\*\*", verdict):
        assert sentence.replace(" -> ", " → ") in text or sentence.startswith("Licences")
    table = json.loads(runs.COMPARISON.read_text())
    for name in ("scratch", "tiny", "dots"):
        assert f"{100 * table['accuracy'][name]:.1f}" in text
    assert "random weights" in text and "cross" in text and "our own" in text
    assert "NO" not in text.split("What moved")[1]
    assert text.count("yes") == 4  # certificates: a hop, two targets and the control
    assert cards.read_model_card(Path("models/target") / table["ship"]).sha256 in text


def test_nothing_in_it_comes_from_elsewhere(repo):
    told = page()
    pictures = [address for address in told.addresses if address.startswith("data:image/png;base64,")]
    assert all(base64.b64decode(address.partition(",")[2]).startswith(b"\x89PNG") for address in pictures)
    pictures += [address for address in told.addresses if address.startswith("data:image/jpeg;base64,")]
    assert len(pictures) >= 4  # 2 datasets, mistakes, forgetting; the charts are SVG
    assert told.tags.count("svg") >= 10
    others = {address for address in told.addresses if address not in pictures and not address.startswith("#")}
    assert others == {"run.js"}, "what may be said of one run, beside the page; it opens without"
    assert told.tags.count("script") == 2 and "link" not in told.tags
    assert len(runs.REPORT.read_bytes()) < 1_500_000


def test_the_steps_of_the_chain_add_up(repo):
    """The steps lead from random weights to the proposal, whose differences the verdict tells too."""
    cells = "|".join(word.strip() for word in page().words if word.strip())
    chain = cells.split("What each step of the chain added")[1].split("Each row is compared with the one above")[0]
    values = [float(number) for number in re.findall(r"(\d+\.\d) %", chain)]
    gains = [float(number) for number in re.findall(r"([+-]\d+\.\d) \(", chain)]
    assert len(values) == 3 and len(gains) == 2
    assert [round(b - a, 1) for a, b in pairwise(values)] == pytest.approx(gains, abs=0.11)


def test_what_moved_against_its_declaration_is_seen(repo):
    path = outcomes.target("dots").metrics / "certificate.csv"
    pd.read_csv(path).assign(verdict="moved").to_csv(path, index=False)
    report.main()
    proof = " ".join(page().words).split("What moved")[1]
    assert (proof.count("yes"), proof.count("NO")) == (3, 1)


def test_names_are_shown_and_never_run(repo):
    path = runs.prepared("lines") / "card.json"
    path.write_text(path.read_text().replace("our own", "<script>alert(1)</script>"))
    report.main()
    told = page()
    assert told.tags.count("script") == 2, "the page's own"
    assert "<script>alert(1)</script>" in " ".join(told.words)


def test_the_first_screen_says_what_it_is_what_it_misses_and_what_speaks_against_it(repo):
    top = " ".join(" ".join(page().words).split()).partition("Did it help?")[0].partition("The model ")[2]
    table = json.loads(runs.COMPARISON.read_text())
    measured = json.loads((Path("metrics/evaluate") / f"target-{table['ship']}" / "report.json").read_text())
    worst = min(measured["per_class"].values(), key=lambda each: each["recall"]["value"])
    assert f"Ship models/target/{table['ship']}" in top and "because its validation loss is the lowest of 2 targets" in top
    assert f"{measured['num_examples']} test images" in top and "2 classes: " in top
    for figure in (measured["metrics"]["accuracy"], worst["recall"], measured["metrics"]["ece"]):
        assert f"{100 * figure['value']:.1f} %" in top
    assert "one training each: too few for a verdict on the method" in top and "split image by image" in top


def test_equal_results_give_equal_pages_and_cards(repo):
    report.main()
    first = runs.REPORT.read_bytes(), page_module.MODEL_CARD.read_bytes()
    report.main()
    assert (runs.REPORT.read_bytes(), page_module.MODEL_CARD.read_bytes()) == first


def test_the_card_of_the_model_says_what_one_must_know_before_using_it(repo):
    card, table = page_module.MODEL_CARD.read_text(), json.loads(runs.COMPARISON.read_text())
    model = cards.read_model_card(Path("models/target") / table["ship"])
    for words in (model.sha256, "Answers: 2 classes (", "Accuracy:", "found:", "one training each", "Transfer as a whole",
                  "Licences of data, weights and code", *model.licences):  # fmt: skip
        assert words in card, words


# In a real browser.

BROWSER = shutil.which("chromium") or shutil.which("google-chrome")


@pytest.fixture
def opened(made_up, tmp_path, monkeypatch):
    """Opens the made-up report with a script of the test behind it; returns the page as it is then."""
    monkeypatch.chdir(shutil.copytree(made_up, tmp_path / "copy"))

    def look(script="", *flags):
        path = runs.REPORT.with_name("opened.html").resolve()
        text = runs.REPORT.read_text().replace("</body>", f"<script>{script}</script></body>")
        path.write_text(text)
        words = [BROWSER, "--headless", "--no-sandbox", "--disable-gpu", "--no-first-run", f"--user-data-dir={tmp_path}/browser"]
        words += [*flags, *(() if any("pdf" in flag for flag in flags) else ("--dump-dom",)), path.as_uri()]
        return subprocess.run(words, capture_output=True, text=True, timeout=120).stdout

    return look


@pytest.mark.slow
@pytest.mark.skipif(BROWSER is None, reason="no Chromium (on Debian: apt-get install chromium)")
class TestInABrowser:
    def test_the_slider_says_at_a_half_what_the_test_says_and_finds_more_below(self, opened):
        measured = json.loads((Path("metrics/evaluate/target-dots-0") / "report.json").read_text())
        name, worst = min(measured["per_class"].items(), key=lambda item: item[1]["recall"]["value"])
        index = measured["classes"].index(name)
        hits, num = measured["confusion"][index][index], worst["support"]
        shown = Page(opened())
        text = " ".join(" ".join(shown.words).split())
        assert f"“{name}” found: {100 * hits / num:.1f} % ({num - hits} of {num} missed) · false alarms: " in text
        assert f"right: {100 * measured['metrics']['accuracy']['value']:.1f} %" in text
        low = opened('const s = document.querySelector("input"); s.value = 1; s.dispatchEvent(new Event("input"))')
        assert f"“{name}” found: 100.0 % (0 of {num} missed)" in low

    def test_minutes_day_and_commit_come_from_the_file_beside_the_page_if_it_is_of_these_results(self, opened):
        assert "not recorded" in opened() and "Minutes are in run.js" in opened()
        beside.write({"target-dots-0": 90.0, "intermediate-dots": 120.0, "scratch-0": 30.0, "target-tiny-0": 6.0})
        shown = opened()
        words = [word.strip() for word in Page(shown).words]
        assert {"1.5", "2.0", "0.5", "0.1"} <= set(words) and "not recorded" not in words
        assert f" · {beside.read()['date']}" in shown and "Minutes are in run.js" not in shown
        beside.PATH.write_text(beside.PATH.read_text().replace(beside.read()["of"], "0" * 64))
        assert "not recorded" in opened()

    def test_a_phone_does_not_scroll_sideways(self, opened):
        """In a frame of 390 pixels, which tells its size to the page around it."""
        wide = "parent.postMessage([innerWidth, document.documentElement.scrollWidth <= innerWidth].join(), '*')"
        opened(f"addEventListener('load', () => {wide})")
        frame = Path("metrics/phone.html").resolve()
        tell = "addEventListener('message', event => document.title = event.data)"
        frame.write_text(f"<script>{tell}</script><iframe src=opened.html style='width:390px;height:800px;border:0'></iframe>")
        words = [BROWSER, "--headless", "--no-sandbox", "--disable-gpu", "--user-data-dir=browser", "--virtual-time-budget=5000",
                 "--dump-dom", frame.as_uri()]  # fmt: skip
        shown = subprocess.run(words, capture_output=True, text=True, timeout=120).stdout
        assert "<title>390,true</title>" in shown

    def test_a_dark_page_has_light_letters(self, opened):
        ask = "document.title = getComputedStyle(document.body).color + getComputedStyle(document.body).backgroundColor"
        shown = [opened(ask, f"--blink-settings=preferredColorScheme={mode}") for mode in (1, 0)]
        light, dark = (re.search("<title>(.+)</title>", text)[1] for text in shown)
        brightness = [[int(number) for number in re.findall(r"\d+", page)[:6]] for page in (light, dark)]
        assert sum(brightness[0][:3]) < 300 < sum(brightness[0][3:]) and sum(brightness[1][:3]) > 400 > sum(brightness[1][3:])

    def test_a_picture_opens_large_and_closes(self, opened):
        open_it = "document.querySelector('main img').click(); document.title = document.querySelector('dialog').open"
        assert "<title>true</title>" in opened(open_it)
        close = "; document.querySelector('dialog').click(); document.title += document.querySelector('dialog').open"
        assert "<title>truefalse</title>" in opened(open_it + close)

    def test_it_prints_on_five_pages_at_most(self, opened, tmp_path):
        opened("", "--no-pdf-header-footer", f"--print-to-pdf={tmp_path}/page.pdf")
        assert 2 <= len(re.findall(rb"/Type\s*/Page[^s]", (tmp_path / "page.pdf").read_bytes())) <= 5
