"""The pipeline on texts, with a tiny BERT: from its folder to a report, an exported network and answers, stage by stage."""

import json
import re

import numpy as np
import onnxruntime
import pandas as pd
import pytest
from tokenizers import Tokenizer

from stages.lib.core import cards
from tests import texts
from tests.fragments import Shown
from tests.tiny import Repo, write_params

TRAINING = [("leaks",), ("recipe", "hops"), ("advise",), ("recipe", "target"), ("target", "tiny", "0"), ("scratch", "0"),
            ("calibrate",), ("evaluate", "target", "tiny-0", "reviews"), ("evaluate", "scratch", "0", "reviews"),
            ("controls",), ("compare",), ("report",)]  # fmt: skip


@pytest.fixture
def project(tmp_path, monkeypatch, call):
    """A folder with a BERT in Hugging Face's layout and reviews; `source` and `prepare` have run. Runs the other stages."""
    monkeypatch.setenv("DVC_ROOT", str(tmp_path))
    texts.write_bert(tmp_path / "bert")
    texts.write_reviews(tmp_path / "reviews")
    source = {**texts.SOURCE, "weights": "file", "path": "bert", "sha256": "0" * 64, "by_order": False}
    source |= {"architecture": texts.ARCHITECTURE}
    source.pop("seed")
    values = texts.params(source, baselines={"tfidf": {"ngrams": 1, "strengths": [1, 10]}})
    values["strategies"]["full"] |= {"epochs": 6, "lr": 0.02}
    write_params(tmp_path, values)
    repo = Repo(tmp_path)
    said = call(repo, "source", "tiny", ok=False)
    values["source"]["tiny"]["sha256"] = re.search(r"bert has (\w{64})", said)[1]
    write_params(tmp_path, values)
    call(repo, "source", "tiny")
    repo.told = call(repo, "prepare", "reviews")
    repo.values = values
    return repo


def test_from_a_folder_to_a_report(project, call):
    root = project.path
    card = cards.read_data_card(root / "data/prepared/reviews")
    (note,) = card.notes
    assert re.fullmatch(
        r"21 of 80 texts are longer than 16 tokens \(max_tokens\), are cut there and lose \d+ tokens together", note
    )
    assert f"reviews: {note}" in project.told and (root / "data/prepared/reviews/samples.html").exists()
    for words in TRAINING:
        call(project, *words)
    model, trained = root / "models/target/tiny-0", cards.read_model(root / "models/target/tiny-0")[1]
    assert (model / "tokenizer.json").read_bytes() == (root / "bert/tokenizer.json").read_bytes()
    assert trained.preprocessing["max_tokens"] == 16 and trained.architecture["per"] == "example"
    proof = pd.read_csv(root / "metrics/target/tiny-0/certificate.csv")
    assert (proof["verdict"] == "ok").all() and proof["moved"].all()
    report = cards.read_json(root / "metrics/evaluate/target-tiny-0/report.json")["metrics"]["accuracy"]["value"]
    verdict = (root / "metrics/verdict.md").read_text()
    assert "against TF-IDF with logistic regression" in verdict and report > 0.5
    page = (root / "metrics/report.html").read_text()
    assert note in page and "The darker a word" in page and "background:rgba(230,159,0" in page
    mistakes = Shown((root / "metrics/evaluate/target-tiny-0/mistakes.html").read_text())
    assert mistakes.marked and mistakes.open == []

    told = call(project, "predict", "reviews/bad", "an awful film", "--model", str(model), "--csv", "told.csv")
    table = pd.read_csv(root / "told.csv")
    assert len(table) == 41 and "an awful film" in told
    call(project, "export", "m.onnx", "--model", str(model))
    tokenizer = Tokenizer.from_file(str(root / "m.tokenizer.json"))
    encoding = tokenizer.encode("an awful film")
    session = onnxruntime.InferenceSession(root / "m.onnx", providers=["CPUExecutionProvider"])
    answer, far = session.run(None, {"pieces": np.array([encoding.ids]), "mask": np.ones((1, len(encoding)), bool)})
    np.testing.assert_allclose(answer[0], table.iloc[-1][["p_bad", "p_good"]].astype(float), atol=1e-4)
    limit = cards.read_json(root / "metrics/calibrate/tiny-0/calibration.json")["limit"]
    np.testing.assert_allclose(far[0], table.iloc[-1]["unlike"] * limit, atol=1e-5)
    assert set(table["answer"]) <= {"bad", "good", "unlike the training texts"}

    (model / "tokenizer.json").write_text("{}")
    said = call(project, "evaluate", "target", "tiny-0", "reviews", ok=False)
    assert "tokenizer.json is missing, or is not the file that its card describes" in said


def test_the_advisor_looks_at_texts_and_gives_no_rank(project, call):
    """Twice max_tokens is more than this network has positions for, so it is not tried."""
    words = texts.LONG.split()
    for label in ("bad", "good"):
        (project.path / "reviews" / label / "long.txt").write_text(" ".join([label, *words, *words]))
    project.values["advise"]["preprocessing"] = "error"
    write_params(project.path, project.values)
    call(project, "prepare", "reviews")
    told = call(project, "advise")
    advice = json.loads((project.path / "metrics/advise.json").read_text())
    assert advice["ranking"] == [] and advice["choice"] == "" and "gives no advice" in told
    assert [row["name"] for row in advice["preprocessing"]] == ["the other special_tokens"]


def test_a_network_that_is_too_short_for_the_texts_is_told_before_training(project, call):
    project.values["datasets"]["reviews"]["max_tokens"] = 25
    write_params(project.path, project.values)
    call(project, "prepare", "reviews")
    for words in (("leaks",), ("recipe", "hops"), ("recipe", "target")):
        call(project, *words)
    said = call(project, "target", "tiny", "0", ok=False)
    assert "transformers bert does not take inputs as datasets.reviews packs them (max_tokens 25)" in said
    assert "positions for 24" in said and "Traceback" not in said
