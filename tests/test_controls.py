"""What needs no training on the target: a hop as it is, and controls without a network, which never see the test labels."""

import json
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pandas as pd
import pytest

from stages import controls
from stages.lib.core import cards, datasets
from stages.lib.errors import UserError
from stages.lib.evaluation import comparison, measure
from tests import texts
from tests.tiny import data_card, model_card, write_params

DATA, OUT = Path("data/prepared/reviews"), Path("metrics/evaluate/controls/tfidf")
WORDS = {"bad": "awful", "good": "great"}


def rows(num, seed):
    random = np.random.default_rng(seed)
    labels = ["good" if row % 3 else "bad" for row in range(num)]
    return labels, [
        f"the {WORDS[label] if random.random() < 0.9 else 'dull'} film {number:03}" for number, label in enumerate(labels)
    ]


def write_split(name, labels, sentences, groups=""):
    packed = [np.frombuffer(text.encode(), np.uint8) for text in sentences]
    table = pd.DataFrame({"key": [f"{name}-{row:03}" for row in range(len(labels))], "label": labels, "group": groups})
    datasets.write_split(DATA, name, packed, table, [len(each) for each in packed])


@pytest.fixture
def project(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    cards.write_json(Path("models/tiny/card.json"), model_card("tiny", kind="source", task=None, modality="text").model_dump())
    write_params(tmp_path, texts.params(texts.SOURCE, baselines={"tfidf": {"ngrams": 1, "strengths": [0.1, 1, 10]}}))
    for seed, (name, num) in enumerate({"train": 60, "val": 15, "test": 30}.items()):
        write_split(name, *rows(num, seed))
    cards.write_data_card(DATA, data_card("reviews", modality="text", labels=["bad", "good"], packing={"max_tokens": 16},
                                          settings=texts.REVIEWS))  # fmt: skip


def test_it_is_measured_as_models_are(project, capsys):
    controls.main()
    report = cards.read_json(OUT / "report.json")
    assert (
        cards.read_json(OUT.parent / "controls.json") == {"tfidf": "TF-IDF with logistic regression"}
        and report["task"] == "classify"
    )
    assert cards.read_json(OUT.parent / "shortcuts.json") == {}, "texts may be told by their words"
    assert report["num_examples"] == 30 and report["classes"] == ["bad", "good"] and report["primary"]["name"] == "accuracy"
    table = comparison.read_predictions(OUT / "predictions.csv")
    assert (table["label"] == rows(30, 2)[0]).all() and table["key"].iloc[3] == "test-003"
    right = (table["label"] == table["predicted"]).mean()
    assert report["metrics"]["accuracy"]["value"] == pytest.approx(right, abs=1e-6) and right > 0.8
    assert (OUT / "confusion.png").exists() and (OUT / "reliability.png").exists() and not (OUT / "mistakes.html").exists()
    assert f"TF-IDF with logistic regression on reviews: accuracy {right:.1%}".replace("%", " %") in capsys.readouterr().out


def test_the_same_bits_twice(project):
    written = []
    for _ in range(2):
        controls.main()
        written.append({path.name: path.read_bytes() for path in OUT.iterdir() if path.suffix != ".png"})
    assert written[0] == written[1] and {"report.json", "predictions.csv"} <= set(written[0])


def test_the_labels_of_the_test_cannot_matter(project):
    controls.main()
    before = comparison.read_predictions(OUT / "predictions.csv")
    labels, sentences = rows(30, 2)
    write_split("test", ["bad" if label == "good" else "good" for label in labels], sentences)
    controls.main()
    after = comparison.read_predictions(OUT / "predictions.csv")
    assert before.drop(columns="label").equals(after.drop(columns="label")) and (before["label"] != after["label"]).all()


def test_a_control_sees_no_label_of_the_test(project):
    given = {}

    def predictions(train, val, test, names, *, option):
        given.update(train=train, val=val, test=test, names=names, option=option)
        return np.full((len(test.keys), len(names)), 0.5, np.float32)

    found, names = measure.baseline(SimpleNamespace(predictions=predictions), {"option": 3}, DATA, DATA, "classify")
    assert given["option"] == 3 and given["names"] == names == ["bad", "good"]
    assert given["train"].labels == rows(60, 0)[0] and given["val"].labels == rows(15, 1)[0]
    assert given["test"].labels == [""] * 30 and given["test"].groups is None
    assert found.targets.tolist() == [names.index(label) for label in rows(30, 2)[0]]
    assert found.split.labels == rows(30, 2)[0], "which are there again when it is measured"


def test_the_classes_are_those_of_training(project):
    labels, sentences = rows(30, 2)
    write_split("test", ["unseen", *labels[1:]], sentences)
    with pytest.raises(UserError, match=r"not among the model's classes .bad, good.: unseen"):
        controls.main()


def test_a_label_that_only_validation_has_is_told(project):
    labels, sentences = rows(15, 1)
    write_split("val", ["unseen", *labels[1:]], sentences)
    with pytest.raises(UserError, match=r"not among the model's classes .bad, good.: unseen"):
        controls.main()


def test_groups_are_what_its_interval_is_made_of(project):
    labels, sentences = rows(30, 2)
    controls.main()
    alone = cards.read_json(OUT / "report.json")
    write_split("test", labels, sentences, [f"person {row // 10}" for row in range(30)])
    controls.main()
    report = json.loads((OUT / "report.json").read_text())
    assert (alone["num_groups"], report["num_groups"]) == (None, 3)
    assert report["metrics"]["accuracy"]["value"] == alone["metrics"]["accuracy"]["value"]


@pytest.mark.parametrize(
    ("changes", "reason"),
    [
        ({}, ""),
        ({"task": "transcribe"}, "it was trained for the task transcribe, and not for classify"),
        ({"output_names": ["bad", "fine"]}, "its outputs mean bad, fine, and not bad, good"),
        ({"preprocessing": {"max_tokens": 8}}, "its inputs were packed with another max_tokens"),
    ],
)
def test_a_hop_is_measured_as_it_is_only_where_it_answers_what_the_target_asks(project, changes, reason):
    values = {"modality": "text", "output_names": ["bad", "good"], "preprocessing": {"max_tokens": 16}} | changes
    assert measure.why_not(model_card("dots", kind="intermediate", **values), "classify", DATA).rstrip(".") == reason
