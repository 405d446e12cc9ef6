"""The report of the small pipeline: whole, of one file, and safe whatever names hold."""

import base64
import json
import re
import sys
from html.parser import HTMLParser
from itertools import pairwise

import pytest


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


@pytest.fixture
def repo(finished, copy_of):
    return copy_of(finished)


def page(repo) -> Page:
    return Page((repo.path / "metrics/report.html").read_text())


def test_it_says_what_the_verdict_and_the_tables_say(repo):
    told = page(repo)
    text = " ".join(" ".join(told.words).split())
    verdict = (repo.path / "metrics/verdict.md").read_text()
    for sentence in re.findall(r"\*\*(.+?)\*\*", verdict):
        assert sentence in text
    compare = json.loads((repo.path / "metrics/compare.json").read_text())
    for name in ("scratch", "tiny", "dots"):
        assert f"{100 * compare['accuracy'][name]:.1f}" in text
    assert "random weights" in text and "cross" in text and "our own" in text
    assert "NO" not in text.split("What moved")[1]
    assert text.count("yes") == 4  # certificates: a hop, two targets and the control
    weights = json.loads((repo.path / f"models/target/{compare['ship']}/card.json").read_text())["sha256"]
    assert weights in text


def test_nothing_in_it_comes_from_elsewhere(repo):
    told = page(repo)
    pictures = [address for address in told.addresses if address.startswith("data:image/png;base64,")]
    assert all(base64.b64decode(address.partition(",")[2]).startswith(b"\x89PNG") for address in pictures)
    assert len(pictures) >= 8  # comparison, chain, 2 datasets, curves, confusion, reliability, mistakes, forgetting
    assert all(address in pictures or address.startswith("#") for address in told.addresses)
    assert "script" not in told.tags and "link" not in told.tags


def test_the_steps_of_the_chain_add_up(repo):
    """The steps lead from random weights to the proposal, whose differences the verdict tells too."""
    told = page(repo)
    cells = "|".join(word.strip() for word in told.words if word.strip())
    chain = cells.split("What each step of the chain added")[1].split("Each row against the one above")[0]
    values = [float(number) for number in re.findall(r"(?:random weights|tiny|dots)\|(\d+\.\d)", chain)]
    gains = [float(number) for number in re.findall(r"\|([+-]\d+\.\d)\|", chain)]
    assert len(values) == 3 and len(gains) == 2
    assert [round(b - a, 1) for a, b in pairwise(values)] == pytest.approx(gains, abs=0.11)


def test_names_are_shown_and_never_run(repo):
    path = repo.path / "data/prepared/lines/card.json"
    path.write_text(path.read_text().replace("our own", "<script>alert(1)</script>"))
    repo.run(sys.executable, "-m", "stages.report")
    told = page(repo)
    assert "script" not in told.tags
    assert "<script>alert(1)</script>" in " ".join(told.words)
