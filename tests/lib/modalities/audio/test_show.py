"""Pages with players: what they hold, that text from data is escaped, and that they stay small."""

import base64
import io
import re

import numpy as np
import pytest
import soundfile
import torch
from PIL import Image

from stages.lib.core.datasets import in_memory
from stages.lib.modalities.audio import explain, players, show
from stages.lib.modalities.audio.files import FULL
from tests.lib.modalities.audio.sounds import CARD, packed, voice

EVIL = '<script>alert("&")</script>'


def heard(page):
    """The samples of every player."""
    files = [base64.b64decode(each) for each in re.findall(r'<audio [^>]*src="data:audio/wav;base64,([^"]+)"', page)]
    return [soundfile.read(io.BytesIO(file), dtype="int16") for file in files]


def split_of(rows, labels):
    return in_memory(rows, True)._replace(labels=labels, keys=[f"{EVIL}{row}" for row in range(len(rows))])


@pytest.mark.parametrize("classes", [["a", EVIL], None])
def test_samples_are_players_of_each_class_and_split(classes, tmp_path):
    rows = packed(8)
    labels = ["a", EVIL] * 4
    show.samples(
        tmp_path / "x.html", {"train": split_of(rows, labels), "val": split_of(rows[:4], labels[:4])}, classes, EVIL, CARD
    )
    page = (tmp_path / "x.html").read_text(encoding="utf-8")
    found = heard(page)
    assert len(found) == (8 if classes else 9) and all(rate == 16_000 for _, rate in found)
    np.testing.assert_array_equal(found[0][0], rows[0])
    assert "<script" not in page and "&lt;script&gt;" in page and "<th>val</th>" in page
    assert not re.search(r"<(html|body|link|style|iframe)", page) and "http" not in page


def test_many_classes_and_missing_ones(tmp_path):
    names = [f"class {each}" for each in range(20)]
    split = split_of(packed(2), names[:2])
    show.samples(tmp_path / "x.html", {"train": split, "val": split, "test": split}, names, "title", CARD)
    page = (tmp_path / "x.html").read_text(encoding="utf-8")
    assert "title (the first 12 of 20 classes)" in page and len(heard(page)) == 6
    assert "class 11" in page and "class 12" not in page


def test_a_page_stays_small_and_says_what_is_left_out(tmp_path):
    long = [(voice(12) * FULL).astype(np.int16)] * 5
    short = packed(1)[0]
    split = split_of([*long, short], ["a"] * 6)
    show.samples(tmp_path / "x.html", dict.fromkeys(["train", "val", "test"], split), None, "title", CARD)
    page = (tmp_path / "x.html").read_text(encoding="utf-8")
    assert len(page) < 1.1 * players.BUDGET
    assert "the first 3 of 12.0 s" in page and {len(samples) for samples, _ in heard(page)} == {48_000}
    show.samples(tmp_path / "x.html", {"train": split_of(long[:1], ["a"])}, None, "title", CARD)
    assert "the first 10 of 12.0 s" in (tmp_path / "x.html").read_text(encoding="utf-8")


class Loudness(torch.nn.Module):
    """Two outputs: how loud the first and the second half of a recording are; or one pair for each step."""

    def __init__(self, per):
        super().__init__()
        self.per, self.backbone = per, torch.nn.Linear(1, 1)

    def forward(self, batch):
        values, lengths = batch
        if self.per == "frame":
            return values.abs()[:, :, None].repeat(1, 1, 2)
        half = int(lengths[0]) // 2
        return torch.stack([values[:, :half].square().mean(1), values[:, half:].square().mean(1)], 1)


def explained(path, per, rows, outputs, titles):
    split = in_memory(packed(4), True)
    explain.explained(path, Loudness(per).eval(), CARD | {"features": "raw_waves"}, split, rows, outputs, titles)
    return path.read_text(encoding="utf-8")


def pictures(page):
    files = [base64.b64decode(each) for each in re.findall(r'<img src="data:image/png;base64,([^"]+)"', page)]
    return [np.asarray(Image.open(io.BytesIO(file))).astype(int) for file in files]


def test_mistakes_can_be_heard_and_show_what_they_come_from(tmp_path):
    page = explained(tmp_path / "x.html", "example", np.array([2, 0]), np.array([0, 1]), [f"one\n{EVIL}", f"{EVIL}\nkey"])
    assert "<script" not in page and page.count("&lt;script&gt;") == 2 and "<b>one</b>" in page
    np.testing.assert_array_equal(heard(page)[0][0], packed(4)[2])
    for first, picture in zip((True, False), pictures(page), strict=True):
        blue = picture[-1, :, 2]  # amber has none
        assert picture.shape[0] == 80 + 3 + players.STRIP
        dark, pale = np.array_split(blue, 2) if first else np.array_split(blue, 2)[::-1]
        assert dark.mean() + 100 < pale.mean()


def test_outputs_per_frame_are_shown_without_an_explanation(tmp_path):
    page = explained(tmp_path / "x.html", "frame", np.array([1]), np.array([0]), ["said: one\nheard: two"])
    assert pictures(page)[0].shape[0] == 80 and "heard: two" in page


def test_no_mistakes(tmp_path):
    assert "No recordings" in explained(tmp_path / "x.html", "example", np.array([], int), np.array([], int), [])


def test_a_picture_shows_high_tones_above_low_ones():
    times = np.arange(16_000) / 16_000
    samples = np.concatenate([np.sin(2 * np.pi * 300 * times), np.sin(2 * np.pi * 5_000 * times)])
    (picture,) = pictures(str(players.picture((samples * 10_000).astype(np.int16), 16_000, None)))
    darkest = picture[:, [20, -20], 0].argmin(0)
    assert darkest[0] > 60 and darkest[1] < 25
    (long,) = pictures(str(players.picture(np.resize(samples * 10_000, 60 * 16_000).astype(np.int16), 16_000, None)))
    assert long.shape[1] <= players.WIDEST
