"""What a person is told of a transcriber's test."""

from stages.lib.evaluation import facts


def rate(value, lower=None, upper=None):
    return {"value": value, "lower": lower, "upper": upper}


def report(**changes):
    speakers = {name: {"cer": rate(value, value - 0.1, value + 0.1), "wer": rate(1.0), "utterances": 4}
                for name, value in (("anna", 0.2), ("carl", 0.4))}  # fmt: skip
    return {"task": "transcribe", "num_examples": 1200, "chance": None, "empty": 0, "per_speaker": speakers,
            "edits": {"characters": 9000, "words": 2000},
            "metrics": {"cer": rate(0.25, 0.2, 0.3), "wer": rate(0.5, 0.4, 0.6)}} | changes  # fmt: skip


def test_errors_are_told_in_words_and_who_is_heard_worst():
    said = facts.of(report(), "recording")
    assert said.sentence == "The model gets 25.0 % of the characters wrong, in 1,200 test recordings"
    assert [fact.key for fact in said.facts] == ["cer", "wer", "cer_worst"] and not said.more
    assert said.facts[0].words == "Characters wrong: 25.0 % (20.0 to 30.0 % · of 9,000 that are said)"
    assert said.facts[2].words == "“carl”, heard worst: 40.0 % (30.0 to 50.0 % · characters wrong; 4 of the recordings)"


def test_one_speaker_is_not_the_worst_and_silence_is_said():
    alone = {"carl": {"cer": rate(0.4), "wer": rate(0.4), "utterances": 8}}
    said = facts.of(report(per_speaker=alone, empty=3), "recording")
    assert [fact.key for fact in said.facts] == ["cer", "wer"]
    assert said.more == ["It writes nothing at all for 3 of 1,200 recordings."]


def test_where_nothing_is_said_there_is_no_rate():
    said = facts.of(report(metrics={"cer": rate(None), "wer": rate(None)}, per_speaker={}), "recording")
    assert said.sentence == "Nothing is said in the 1,200 test recordings" and not said.facts
