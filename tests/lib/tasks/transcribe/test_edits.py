"""Error rates against jiwer, on the texts themselves."""

import jiwer
import numpy as np
import pytest

from stages.lib.core.plugins import load
from stages.lib.evaluation import statistics
from stages.lib.tasks.transcribe import alphabet, edits, measures
from tests.lib.tasks.transcribe.spoken import garbled, texts

REFERENCE = {"cer": jiwer.cer, "wer": jiwer.wer}


def case(seed):
    """A random test: what was said (with characters that the alphabet lacks), what was heard, and weights of resamples."""
    random = np.random.default_rng(seed)
    said = texts(random, int(random.integers(2, 30)))
    names = alphabet.alphabet(said)
    heard = garbled(random, alphabet.encoded(said, names), names, rate=float(random.choice([0.1, 0.4, 0.9])))
    said = [text.replace("o", "ö") if random.random() < 0.3 else text for text in said]
    predictions = np.concatenate([random.random((len(said), 1)), alphabet.padded(heard, -1)], axis=1)
    targets = alphabet.padded(alphabet.encoded(said, names), -100)
    weights = np.concatenate(list(statistics.resample(len(said), None, 6, seed)))
    return said, alphabet.written(heard, names), predictions, targets, np.concatenate([np.ones((1, len(said))), weights])


def test_every_metric_that_params_may_name_has_a_reference():
    assert list(load("tasks", "transcribe").METRICS) == list(measures.METRICS) == list(REFERENCE)


@pytest.mark.parametrize("name", REFERENCE)
def test_error_rates_agree_with_jiwer_on_every_resample(name):
    empty = above_one = 0
    for seed in range(60):
        said, heard, predictions, targets, weights = case(seed)
        given = measures.METRICS[name].values(predictions, targets, weights)
        for value, row in zip(given, weights.astype(int), strict=True):
            repeated = [np.repeat(np.array(each, dtype=object), row).tolist() for each in (said, heard)]
            assert value == pytest.approx(REFERENCE[name](*repeated), abs=1e-12), f"case {seed}"
        empty += heard.count("")
        above_one += int((given > 1).sum())
    assert empty > 20 and (name == "cer" or above_one > 0), "such were among the cases"


def test_edits_of_each_utterance_agree_with_jiwer():
    for seed in range(20):
        said, heard, predictions, targets, _ = case(seed)
        rows = alphabet.unpadded(targets), alphabet.unpadded(predictions[:, 1:])
        for count, process in ((edits.of_characters, jiwer.process_characters), (edits.of_words, jiwer.process_words)):
            for error, length, one, other in zip(*count(*rows), said, heard, strict=True):
                wanted = process(one, other)
                assert error == wanted.substitutions + wanted.deletions + wanted.insertions
                assert length == wanted.substitutions + wanted.deletions + wanted.hits
        wanted = jiwer.process_characters(said, heard)
        kinds = measures._kinds(edits.confusions(*rows))
        assert kinds == {name: getattr(wanted, name) for name in ("substitutions", "deletions", "insertions")}


def test_confusions_name_what_was_said_and_what_was_heard():
    found = edits.confusions([[2, 3, 4], [2, 2], [3]], [[2, 4, 4], [2], [3, 5]])
    assert found == {(3, 4): 1, (2, None): 1, (None, 5): 1}


def test_where_nothing_was_said_what_is_heard_counts_and_alone_it_has_no_rate():
    predictions, targets = np.array([[0.5, 2, 3], [0.5, 2, -1]]), np.array([[-100, -100], [2, 3]])
    for name, wanted in {"cer": (2 + 1) / 2, "wer": (1 + 1) / 1}.items():
        values = measures.METRICS[name].values(predictions, targets, np.array([[1.0, 1.0], [1.0, 0.0]]))
        assert values[0] == wanted and np.isnan(values[1])


def test_words_are_compared_as_wholes():
    said, heard = [alphabet.encoded([text], ["", " ", *"abc"]) for text in ("ab c a", "a bc a")]
    assert [each.tolist() for each in edits.of_words(said, heard)] == [[2], [3]]
    assert [each.tolist() for each in edits.of_characters(said, heard)] == [[2], [6]]
