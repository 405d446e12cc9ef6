"""The report: whole, of one file, and safe whatever names hold."""

import base64
import json
import re
import shutil
from html.parser import HTMLParser
from itertools import pairwise
from pathlib import Path

import pandas as pd
import pytest

from stages import compare, report
from stages.lib.core import cards, runs
from stages.lib.reporting import first_screen
from stages.lib.reporting import page as page_module
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


def test_a_model_has_one_interval(repo):
    """That of the verdict; a hop, which is no arm, has the one of its own test."""
    text = " ".join(runs.REPORT.read_text("utf-8").split())
    rows = re.findall(r"<tr><td>(intermediate|target|scratch)[^<]*</td>((?:(?!</tr>).)*<td>accuracy</td>.*?)</tr>", text)
    assert {kind for kind, _ in rows} == {"intermediate", "target", "scratch"}
    for kind, row in rows:
        assert bool(re.search(r"\([\d.]+ % to [\d.]+ %\)", row)) == (kind == "intermediate"), row


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


@pytest.mark.parametrize(("warning", "at_the_top"), [
    ("scratch 0: too high (8 times). Try less.", "scratch 0: too high"),
    (f"{'x' * 70}: it rose, so {'y' * 60}", f"{'x' * 70}: it rose"),  # not in the middle of a clause
    (f"it, {'x ' * 60}", f"it, {'x ' * 52}x …"),
])  # fmt: skip
def test_a_long_warning_ends_with_a_clause(warning, at_the_top):
    assert first_screen.short(warning) == at_the_top


def test_equal_results_give_equal_pages_and_cards(repo):
    report.main()
    first = runs.REPORT.read_bytes(), page_module.MODEL_CARD.read_bytes()
    report.main()
    assert (runs.REPORT.read_bytes(), page_module.MODEL_CARD.read_bytes()) == first


def test_the_card_of_the_model_says_what_one_must_know_before_using_it(repo):
    card, table = page_module.MODEL_CARD.read_text(), json.loads(runs.COMPARISON.read_text())
    model = cards.read_model_card(Path("models/target") / table["ship"])
    for words in (model.sha256, "Answers: 2 classes (", "Accuracy:", "one training each", "Transfer as a whole",
                  "Licences of data, weights and code", *model.licences):  # fmt: skip
        assert words in card, words
