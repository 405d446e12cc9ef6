"""What the served model takes for one recording."""

import base64
import json

import numpy as np
import pytest

from stages.lib.modalities.audio import inputs, served
from tests.lib.modalities.audio.sounds import CARD, encoded, voice


def test_a_cell_is_a_file_its_text_or_samples_with_their_rate():
    samples = voice(channels=2)
    file = encoded(samples, "FLAC")
    text = base64.encodebytes(file).decode()  # with line breaks
    cells = [file, bytearray(file), memoryview(file), text, {"samples": samples, "rate": 16_000},
             json.loads(json.dumps({"samples": samples.tolist(), "rate": 16_000}))]  # fmt: skip
    assert {inputs.digest(served.receive(cell)) for cell in cells} == {inputs.digest(inputs.decode(file))}


@pytest.mark.parametrize("cell", [
    "no base64!", base64.b64encode(b"no audio").decode(), b"", voice(), voice().tolist(), None, {"samples": [0.1] * 900},
    {"samples": ["a"], "rate": 8_000}, {"samples": [0.1] * 900, "rate": 8_000, "more": 1}, {"samples": [[[0.1]]], "rate": 8_000},
])  # fmt: skip
def test_other_cells_are_refused(cell):
    with pytest.raises(Exception) as error:
        served.receive(cell)
    assert str(error.value)


@pytest.mark.parametrize("rate", [8_000, 16_000])
def test_the_example_is_a_short_tone_at_the_rate_of_the_weights(rate):
    recording = served.receive(json.loads(json.dumps(served.example(CARD | {"sample_rate": rate}))))
    assert recording.rate == rate and len(recording.samples) == rate // 4
    assert np.abs(np.fft.rfft(recording.samples)).argmax() == 110
