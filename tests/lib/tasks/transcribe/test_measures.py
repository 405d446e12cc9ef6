"""What evaluation knows of transcription: predictions, their table, the report, and what it shows."""

import json

import jiwer
import numpy as np
import pandas as pd
import pytest
import torch

from stages.lib.core.contracts import NO_TARGET
from stages.lib.evaluation import comparison, pairing
from stages.lib.params.schema import Evaluate
from stages.lib.tasks.transcribe import learning, measures
from stages.lib.tasks.transcribe import outputs as to
from tests.lib.tasks.transcribe.spoken import outputs, path
from tests.tiny import PARAMS

SETTINGS = Evaluate.model_validate(PARAMS["evaluate"])
SAID = ["NA", "01", "nan", 'say "no", a', "one two", "", "é’s 😀", "1e5", "True", " 7 "]
NAMES = learning.outputs(SAID)


def predicted(texts, names=NAMES, peaks=None):
    """Predictions of a model that writes these texts, the first the most confident."""
    peaks = np.linspace(9, 4, len(texts)) if peaks is None else peaks
    single = [outputs([[*path(text, names), 0]], len(names), peak) for text, peak in zip(texts, peaks, strict=True)]
    rows = [to.predictions(each)[0] for each in single]
    found = np.full((len(rows), max(map(len, rows))), measures.PADDING, dtype=np.float32)
    for target, row in zip(found, rows, strict=True):
        target[: len(row)] = row
    return found


def saved(path, predictions, targets, names):
    """The table as evaluate writes it and compare reads it."""
    columns = measures.table(predictions, targets, names)
    pd.DataFrame({"key": [f"{row:03}" for row in range(len(targets))], "group": ""} | columns).to_csv(path, index=False)
    return comparison.read_predictions(path)


# Predictions


def test_activation_is_probabilities_and_predictions_are_confidence_and_characters():
    logits = outputs([path("one", NAMES), path("a", NAMES)], len(NAMES), 3.0)
    chances = to.activation(logits)
    assert chances.shape == logits.shape and chances.sum(-1).allclose(torch.ones(1))
    assert (chances[1, 2:].argmax(-1) == 0).all(), "padded frames are blanks to who decodes the probabilities"
    found = to.predictions(logits)
    assert found.dtype == np.float32 and found.shape == (2, 4)
    assert found[:, 0] == pytest.approx(np.full(2, chances[0, 1].max()))
    assert found[:, 1:].tolist() == [[NAMES.index(each) for each in "one"], [NAMES.index("a"), -1, -1]]


def test_texts_come_back_from_their_table_bit_for_bit(tmp_path):
    targets = learning.targets(SAID, NAMES).numpy()
    predictions = predicted([*SAID[1:], SAID[0]], peaks=np.random.default_rng(0).random(len(SAID)))
    table = saved(tmp_path / "predictions.csv", predictions, targets, NAMES)
    assert table["label"].tolist() == [text.strip() for text in SAID]
    assert table["predicted"].tolist() == [text.strip() for text in (*SAID[1:], SAID[0])]
    read, said = measures.read(table, NAMES)
    assert read.dtype == np.float32 and np.array_equal(read, predictions)
    assert said.dtype == targets.dtype and np.array_equal(said, targets)


def test_a_table_says_what_was_said_even_if_the_alphabet_lacks_its_characters(tmp_path):
    targets = learning.targets(["onx", "Ω", "one"], NAMES).numpy()
    table = saved(tmp_path / "predictions.csv", predicted(["one"] * 3), targets, NAMES)
    assert table["label"].tolist() == ["onx", "Ω", "one"]
    assert np.array_equal(measures.read(table, NAMES)[1], targets)


def test_the_table_of_a_model_with_another_alphabet_is_measured_as_that_model_was(tmp_path):
    said = ["one two", "so", "ten"]
    other = ["", " ", "X", *"enostw"]
    targets, predictions = learning.targets(said, other).numpy(), predicted(["onX wt", "so", "t"], other)
    read = measures.read(saved(tmp_path / "predictions.csv", predictions, targets, other), NAMES)
    for metric in measures.METRICS.values():
        one = np.ones((1, 3))
        assert metric.values(*read, one) == metric.values(predictions, targets, one) > 0


def test_another_tasks_table_is_refused(tmp_path):
    table = saved(tmp_path / "predictions.csv", predicted(["one"]), learning.targets(["one"], NAMES).numpy(), NAMES)
    for column in ("label", "predicted", "confidence"):
        with pytest.raises(KeyError, match=column):
            measures.read(table.drop(columns=column), NAMES)


def test_two_models_differ_where_their_texts_do_whatever_pads_them():
    first, second = predicted(["one", "two", "", "a"])[None], predicted(["one", "tw", "", "a one two"])[None]
    assert first.shape != second.shape
    other_padding = np.where(second == measures.PADDING, NO_TARGET, second)
    for metric in measures.METRICS.values():
        assert not metric.higher_is_better and metric.fraction
        for one, other in ((first, second), (second, first), (first, other_padding)):
            assert metric.differ(one, other).tolist() == [[False, True, False, True]]
        assert not metric.differ(second, other_padding).any()


def test_a_verdict_between_models_of_different_widths():
    said = ["one two", "two", "one", "a one", "two two", "so", "no", "ten"] * 5
    targets, nothing = learning.targets(said, NAMES).numpy(), predicted(["o"] * len(said))
    found = pairing.paired_difference(
        measures.METRICS["cer"], predicted(said)[None], nothing[None], targets, None, num_resamples=200, confidence=0.95, seed=0
    )
    assert found["verdict"] == "helps" and found["difference"] == pytest.approx(-jiwer.cer(said, ["o"] * len(said)))


def test_the_served_model_answers_with_texts_and_confidence():
    answers = measures.served(predicted(["one two", ""]), NAMES, [None, None])
    assert list(answers) == ["text", "confidence"] and answers["text"].tolist() == ["one two", ""]
    assert answers["text"].dtype == object and answers["confidence"].dtype == np.float32
    assert measures.served(np.zeros((1, len(NAMES)), np.float32), NAMES, [None])["text"].tolist() == [""]
    none = measures.served(to.predictions(torch.zeros(0, len(NAMES))), NAMES, [])
    assert none["text"].shape == none["confidence"].shape == (0,)


# The report

TEST_SAID = ["one two", "ten", "no", "so two", "one", "ten ten"] * 4
TEST_HEARD = ["one tw", "ten", "no", "si two", "one", "ten en"] * 2 + ["one two", "", "no", "so two", "onne", "ten xten"] * 2
SPEAKERS = np.array(["ann"] * 10 + ["bob"] * 12 + ["cy", ""], dtype=object)


def reported(groups=SPEAKERS, said=TEST_SAID):
    names = learning.outputs([*TEST_SAID, *TEST_HEARD])
    found = predicted(TEST_HEARD, names), learning.targets(said, names).numpy()
    return *found, names, measures.report(*found, groups, names, SETTINGS, 0)


def test_the_report_has_the_error_rates_of_jiwer_over_all_and_for_each_speaker():
    *_, report = reported()
    assert json.loads(json.dumps(report, allow_nan=False)) == report
    assert list(report["metrics"]) == ["cer", "wer"] and list(report["per_speaker"]) == ["ann", "bob", "cy"]
    for rows, figures in [(np.arange(24), report["metrics"]), *((np.flatnonzero(name == SPEAKERS), report["per_speaker"][name])
                          for name in report["per_speaker"])]:  # fmt: skip
        texts = [np.array(each, dtype=object)[rows].tolist() for each in (TEST_SAID, TEST_HEARD)]
        for name, reference in (("cer", jiwer.cer), ("wer", jiwer.wer)):
            assert figures[name]["value"] == pytest.approx(reference(*texts), abs=1e-6)
            if len(rows) > 1:
                assert figures[name]["lower"] < figures[name]["value"] < figures[name]["upper"]
    assert report["per_speaker"]["cy"]["cer"]["lower"] is None, "one utterance has no interval"
    assert [each["utterances"] for each in report["per_speaker"].values()] == [10, 12, 1]


def test_speakers_are_drawn_whole_for_the_interval_over_all():
    alone, grouped = reported(None)[-1], reported()[-1]
    assert alone["per_speaker"] == {} and alone["metrics"]["cer"]["value"] == grouped["metrics"]["cer"]["value"]
    assert alone["metrics"]["cer"] != grouped["metrics"]["cer"]


def test_many_speakers_are_not_listed():
    many = np.array([f"speaker {row}" for row in range(measures.MOST_SPEAKERS + 1)], dtype=object)
    said = ["one"] * len(many)
    names = learning.outputs(said)
    found = predicted(said, names), learning.targets(said, names).numpy()
    assert measures.report(*found, many, names, SETTINGS, 0)["per_speaker"] == {}
    assert len(measures.report(*found, many[[0, *range(100)]], names, SETTINGS, 0)["per_speaker"]) == 100


def test_the_report_counts_edits_confusions_and_what_cannot_be_right():
    said = ["onö two", *TEST_SAID[1:]]
    *_, report = reported(said=said)
    wanted = jiwer.process_characters(said, TEST_HEARD)
    kinds = ("substitutions", "deletions", "insertions")
    assert report["edits"] == {name: getattr(wanted, name) for name in kinds} | {
        "characters": sum(map(len, said)), "words": sum(len(text.split()) for text in said)}  # fmt: skip
    assert sum(pair["count"] for pair in report["confusions"]) == sum(getattr(wanted, name) for name in kinds)
    pairs = {(pair["said"], pair["heard"]): pair["count"] for pair in report["confusions"]}
    assert pairs[("o", "i")] == 2 and pairs[("", "x")] == 2 and pairs[("ö", "e")] == 1
    assert list(pairs.values()) == sorted(pairs.values(), reverse=True)
    assert report["empty"] == 2 and report["characters_not_in_training"] == {"ö": 1}


def test_tables_and_plots_are_written_with_speakers_and_without(tmp_path):
    for name, groups in (("grouped", SPEAKERS), ("alone", None)):
        predictions, targets, _, report = reported(groups)
        folder = tmp_path / name
        folder.mkdir()
        measures.write(folder, predictions, targets, report, "title", SETTINGS)
        assert all((folder / plot).stat().st_size for plot in measures.PLOTS)
        table = pd.read_csv(folder / "confusions.csv", keep_default_na=False)
        assert table.to_dict("records") == report["confusions"]
        assert (folder / "per_speaker.csv").exists() == (groups is not None)
    table = pd.read_csv(tmp_path / "grouped/per_speaker.csv")
    assert list(table) == ["speaker", "utterances", "cer", "cer_lower", "cer_upper", "wer", "wer_lower", "wer_upper"]
    assert table["speaker"].tolist() == ["ann", "bob", "cy"] and table["cer_lower"].isna().tolist() == [False, False, True]


# What is shown


def test_the_most_confident_mistakes_come_first_then_half_as_many_right_ones():
    heard = ["one", "tw", "ten", "", "so"]
    targets = learning.targets(["one", "two", "ten", "a", "no"], NAMES).numpy()
    predictions, keys = predicted(heard), [f"{row}.wav" for row in range(5)]
    rows, explained, titles = measures.most_certain(predictions, targets, keys, NAMES, 2)
    confident = sorted([1, 3, 4], key=lambda row: -predictions[row, 0])[:2]
    assert rows.tolist() == [*confident, 0] and explained.tolist() == [0, 0, 0]
    of = dict(zip(rows.tolist(), titles, strict=True))
    assert of[1] == f"said: two\nheard: tw ({100 * predictions[1, 0]:.0f} %)\n1.wav"
    assert of[0] == f"said and heard: one ({100 * predictions[0, 0]:.0f} %)\n0.wav"
    rows, _, titles = measures.most_certain(predictions, targets, keys, NAMES, 9)
    assert sorted(rows.tolist()) == [0, 1, 2, 3, 4] and "said: a\nheard: (nothing)" in titles[rows.tolist().index(3)]
    assert measures.most_certain(predictions, targets, keys, NAMES, 0)[2] == []
