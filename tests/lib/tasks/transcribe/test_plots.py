"""The plots of a transcriber, with as much and as little as there may be."""

import warnings

import numpy as np
import pytest
from PIL import Image

from stages.lib.tasks.transcribe import plots

TOTALS = {"substitutions": 90, "deletions": 50, "insertions": 20}


def drawn(path):
    with Image.open(path) as image:
        assert image.width <= 720
        assert np.asarray(image.convert("L")).std() > 10, "not blank"
        return image.height


@pytest.mark.parametrize("num", [1, 4, 100])
def test_speakers_fit(tmp_path, num):
    random = np.random.default_rng(0)
    rows = [
        {
            "speaker": f"speaker {row}",
            "utterances": 9,
            "cer": rate,
            "cer_lower": None if row == 0 else 0.8 * rate,
            "cer_upper": 1.3 * rate,
        }
        for row, rate in enumerate(random.random(num))
    ]
    rows.append({"speaker": "silent", "utterances": 1, "cer": None, "cer_lower": None, "cer_upper": None})
    plots.speakers(tmp_path / "speakers.png", rows, 0.3, "title", 0.95)
    assert drawn(tmp_path / "speakers.png") < 1200


@pytest.mark.parametrize("rates", [[0.0], [0.0, 0.04, 0.05, 0.3, 1.0, 2.5]])
def test_utterances_fit(tmp_path, rates):
    plots.utterances(tmp_path / "utterances.png", np.array(rates), "title")
    drawn(tmp_path / "utterances.png")


@pytest.mark.parametrize("num", [0, 1, 60])
def test_confusions_of_any_script_fit(tmp_path, num):
    pairs = [
        {"said": "中" if row % 3 else "", "heard": "é" if row % 2 or row % 3 == 0 else "", "count": 70 - row}
        for row in range(num)
    ]
    with warnings.catch_warnings():
        warnings.simplefilter("error")  # as for a glyph that the font lacks
        plots.confusions(tmp_path / "confusions.png", pairs, TOTALS, "title")
    if num:
        drawn(tmp_path / "confusions.png")


@pytest.mark.parametrize(
    ("pair", "words"),
    [(("e", "a"), "e as a"), (("e", ""), "e left out"), (("", "e"), "e added"), ((" ", "中"), "space as 中")],
)
def test_a_confusion_in_words(pair, words):
    assert plots._said(dict(zip(("said", "heard"), pair, strict=True))) == words
