"""Greedy decoding against plain rules."""

from itertools import groupby

import numpy as np
import pytest
import torch

from stages.lib.core.contracts import NO_STEP
from stages.lib.tasks.transcribe import decoding
from tests.lib.tasks.transcribe.spoken import outputs

A, B = 2, 3


def written(*paths):
    return decoding.greedy(outputs(paths, 5))[1]


def test_repeated_characters_are_one_unless_a_blank_is_between_them():
    assert written([A, A, A, 0, A, B, B, 0, 0], [0, 0, A], [0, 0, 0]) == [[A, A, B], [A], []]


def test_spaces_are_single_and_none_is_at_an_end():
    assert written([1, A, 1, 0, 1, 1, B, 0, 1], [1, 0, 1], [A, 1, B]) == [[A, 1, B], [], [A, 1, B]]


def test_padded_frames_say_nothing_whatever_the_others_are():
    paths = [[A, B], [A, 0, A, 0, B, 0, B], [0] * 40]
    confidence, rows = decoding.greedy(outputs(paths, 5))
    alone = [decoding.greedy(outputs([each], 5)) for each in paths]
    assert rows == [each[1][0] for each in alone] == [[A, B], [A, A, B, B], []]
    assert np.array_equal(confidence, np.concatenate([each[0] for each in alone]))
    assert confidence.dtype == np.float32


def test_random_paths_are_written_by_the_rules_of_the_paper():
    random = np.random.default_rng(0)
    found = decoding.greedy(outputs(paths := [random.integers(5, size=length) for length in random.integers(1, 30, 100)], 5))[1]
    for path, row in zip(paths, found, strict=True):
        names = {0: "", 1: " ", 2: "a", 3: "b", 4: "c"}
        text = "".join(names[index] for index, _ in groupby(path.tolist()))
        assert "".join(names[index] for index in row) == " ".join(text.split())


def test_confidence_is_the_mean_probability_of_the_characters_and_blanks_do_not_count():
    chances = torch.tensor([[0.1, 0.1, 0.7, 0.1], [0.98, 0.0, 0.02, 0.0], [0.3, 0.1, 0.1, 0.5]])
    logits = torch.cat([chances.log().nan_to_num(neginf=-50), torch.full((2, 4), NO_STEP)])[None]
    assert decoding.greedy(logits)[0] == pytest.approx([(0.7 + 0.5) / 2])
    silent = logits.clone()
    silent[0, [0, 2]] = torch.tensor([0.6, 0.2, 0.1, 0.1]).log()
    assert decoding.greedy(silent)[0] == pytest.approx([(0.6 + 0.98 + 0.6) / 3])


def test_nothing_to_hear_is_an_empty_text_without_confidence():
    confidence, rows = decoding.greedy(torch.full((2, 3, 4), NO_STEP))
    assert rows == [[], []] and confidence.tolist() == [0, 0]
    confidence, rows = decoding.greedy(torch.zeros(0, 7))  # no utterances
    assert rows == [] and confidence.shape == (0,)


def test_many_utterances_are_decoded_as_few_are():
    logits = torch.randn(3 * decoding.CHUNK + 5, 12, 6, generator=torch.Generator().manual_seed(0))
    confidence, rows = decoding.greedy(logits)
    assert len(rows) == len(logits)
    for row in (0, decoding.CHUNK, len(logits) - 1):
        one = decoding.greedy(logits[row : row + 1])
        assert one[1] == [rows[row]] and one[0] == confidence[row]
