"""The report in a real browser: its slider, its pictures, a phone, dark and printed pages. Skipped without Chromium."""

import json
import re
import shutil
import subprocess
from pathlib import Path

import pytest

from stages.lib.core import runs
from stages.lib.shell import beside
from stages.lib.tracking import ledger
from tests.test_report import Page, made_up

BROWSER = shutil.which("chromium") or shutil.which("google-chrome")
pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(BROWSER is None, reason="no Chromium here (on Debian: apt-get install chromium)"),
]
__all__ = ["made_up"]  # the fixture


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


def test_the_slider_says_at_a_half_what_the_test_says_and_finds_more_below(opened):
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


def test_minutes_day_and_commit_come_from_the_file_beside_the_page_if_it_is_of_these_results(opened, monkeypatch):
    assert "not recorded" in opened() and "Minutes are in run.js" in opened()
    monkeypatch.setenv("DVC_ROOT", str(Path.cwd()))
    ledger.note([ledger.Trial("dots", "lines", {"lr": 1})])
    beside.write({"target-dots-0": 90.0, "intermediate-dots": 120.0, "scratch-0": 30.0, "target-tiny-0": 6.0})
    shown = opened()
    words = [word.strip() for word in Page(shown).words]
    assert {"1.5", "2.0", "0.5", "0.1"} <= set(words) and "not recorded" not in words
    assert "<li>settings tried for dots: 1</li>" in shown
    assert f" · {beside.read()['date']}" in shown and "Minutes are in run.js" not in shown
    beside.PATH.write_text(beside.PATH.read_text().replace(beside.read()["of"], "0" * 64))
    assert "not recorded" in opened()


def test_a_phone_does_not_scroll_sideways(opened):
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


def test_a_dark_page_has_light_letters(opened):
    ask = "document.title = getComputedStyle(document.body).color + getComputedStyle(document.body).backgroundColor"
    shown = [opened(ask, f"--blink-settings=preferredColorScheme={mode}") for mode in (1, 0)]
    light, dark = (re.search("<title>(.+)</title>", text)[1] for text in shown)
    brightness = [[int(number) for number in re.findall(r"\d+", page)[:6]] for page in (light, dark)]
    assert sum(brightness[0][:3]) < 300 < sum(brightness[0][3:]) and sum(brightness[1][:3]) > 400 > sum(brightness[1][3:])


def test_a_picture_opens_large_and_closes(opened):
    open_it = "document.querySelector('main img').click(); document.title = document.querySelector('dialog').open"
    assert "<title>true</title>" in opened(open_it)
    close = "; document.querySelector('dialog').click(); document.title += document.querySelector('dialog').open"
    assert "<title>truefalse</title>" in opened(open_it + close)


def test_it_prints_on_five_pages_at_most(opened, tmp_path):
    opened("", "--no-pdf-header-footer", f"--print-to-pdf={tmp_path}/page.pdf")
    assert 2 <= len(re.findall(rb"/Type\s*/Page[^s]", (tmp_path / "page.pdf").read_bytes())) <= 5
