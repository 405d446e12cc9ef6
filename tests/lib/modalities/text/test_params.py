"""What params.yaml may say of texts."""

import pytest

from stages.lib.params.validate import validate
from tests import texts
from tests.helpers import mistakes, put


def test_params_of_texts_are_valid():
    assert validate(texts.params(texts.SOURCE)).modality == "text"


@pytest.mark.parametrize(
    ("path", "value", "said"),
    [
        ("datasets.reviews.max_tokens", 3, "datasets.reviews.max_tokens"),
        ("datasets.reviews.max_tokens", 8193, "datasets.reviews.max_tokens"),
        ("datasets.reviews.px", 32, "datasets.reviews.px"),
        ("source.tiny.preprocessing.tokenizer", "", "source.tiny.preprocessing.tokenizer"),
        ("source.tiny.preprocessing.tokenizer_sha256", "0" * 63, "source.tiny.preprocessing.tokenizer_sha256"),
        ("source.tiny.preprocessing.special_tokens", "yes", "source.tiny.preprocessing.special_tokens"),
        ("training.augment", "strong", "training.augment"),
        ("training.mixup", 0.2, "mixup"),
        ("strategy", "auto", "strategy: auto: the advisor has not been measured on texts and the task classify"),
        ("target.task", "transcribe", "modality: the task transcribe needs one output per frame, and the modality text has one "
         "per example, word"),
        ("baselines.dictionary", {}, "dictionary: it is for the task tag on text; leave it out. Given: classify on text"),
        ("baselines.tiny", {}, "baselines.tiny"),
        ("baselines.tfidf", {"ngrams": 0, "strengths": [1.0]}, "baselines.tfidf.ngrams"),
        ("baselines.tfidf", {"ngrams": 1, "strengths": []}, "baselines.tfidf.strengths"),
        ("baselines.tfidf", {"ngrams": 1}, "baselines.tfidf.strengths"),
    ],
)  # fmt: skip
def test_mistakes_are_told_by_their_place(path, value, said):
    raw = texts.params(texts.SOURCE)
    if path == "strategy":
        raw["strategies"]["auto"] = {}
    put(raw, path.split("."), value)
    assert said in mistakes(raw)


def test_a_source_and_a_control_must_not_have_the_same_name():
    raw = texts.params(texts.SOURCE) | {"baselines": {"tfidf": {"ngrams": 1, "strengths": [1]}}}
    validate(raw)
    raw["source"]["tfidf"] = raw["source"]["tiny"]
    assert "baselines.tfidf: another arm has the same name" in mistakes(raw)
