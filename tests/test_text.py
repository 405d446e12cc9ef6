"""Text through the whole pipeline, as a user runs it: classes of sentences, and entities in them."""

import copy
import json
import os
import shutil
import signal
import subprocess
import time
from pathlib import Path

import numpy as np
import onnxruntime
import pandas as pd
import pytest
import torch

from tests import systems, texts
from tests.systems import change, read, serving
from tests.tiny import FULL, PARAMS, TRAINING, Repo, new_repo

pytestmark = pytest.mark.slow
BERT = ("config.json", "model.safetensors", "tokenizer.json")
KEEP = TRAINING | {"augment": "none", "head": TRAINING["head"] | {"keep": True}}
TFIDF = {"tfidf": {"ngrams": 2, "strengths": [1.0, 10.0]}}
HOP = FULL | {"init": "bert", "data": "plots", "task": "classify", "strategy": "full", "epochs": 4}
DATA = texts.REVIEWS | {"reader": "csv", "preprocessing": "bert"}
DATA = {key: value for key, value in DATA.items() if key != "group_from"}
SENTENCES = ["The film was very good!", "the plot is awful"]
EVALUATED = {"evaluate@plots-0", "evaluate@bert-0"}


def source(path: Path) -> dict:
    return {"weights": "file", "path": "bert", "sha256": systems.folder_sha256(path / "bert", *BERT), "by_order": False,
            "architecture": texts.ARCHITECTURE, "preprocessing": texts.HOW, "licence": "none"}  # fmt: skip


def classes() -> dict:
    values = copy.deepcopy(PARAMS) | {"modality": "text", "training": KEEP, "baselines": TFIDF, "strategy": "full"}
    values["datasets"] = {"plots": DATA | {"raw": "plots"}, "films": DATA | {"raw": "films"}}
    values["intermediate"] = {"plots": HOP}
    values["strategies"] = {"full": FULL | {"epochs": 4}, "partial": FULL | {"trainable": {"last_blocks": 1}}}
    return values | {"target": {"data": "films", "test": "films", "task": "classify"}, "inits": ["plots", "bert"],
                     "scratch": {"epochs": 2, "lr": 0.01, "like": "bert"}}  # fmt: skip


def tags() -> dict:
    values = classes() | {"baselines": {"dictionary": {}}}
    block = {key: value for key, value in DATA.items() if key != "reader"} | {"reader": "conll"}
    block["split"] = block["split"] | {"stratify": False}
    values["datasets"] = {name: block | {"raw": f"{name}/all.tsv"} for name in ("genes", "names")}
    values["intermediate"] = {"words": HOP | {"data": "genes", "task": "mlm"},
                              "genes": HOP | {"init": "words", "data": "genes", "task": "tag"}}  # fmt: skip
    values["training"] = KEEP | {"label_smoothing": 0}
    return values | {"target": {"data": "names", "test": "names", "task": "tag"}, "inits": ["genes", "bert"],
                     "compare": values["compare"] | {"metric": "entity_f1"}}  # fmt: skip


def start(path: Path, values: dict, write) -> Repo:
    texts.write_bert(path / "bert")
    write(path)
    return new_repo(path, values | {"source": {"bert": source(path)}})


@pytest.fixture(scope="session")
def sentiment(shared) -> Repo:
    """Sentences of good and bad films, after a hop over plots, through `dvc repro`."""

    def write(path):
        systems.reviews(path / "films/table.csv", systems.FILMS, seed=0)
        systems.reviews(path / "plots/table.csv", systems.PLOTS, seed=1)

    def fill(folder):
        repo = start(folder / "repo", classes(), write)
        executed = repo.ran("repro")
        repo.run("git", "add", "-A")
        repo.run("git", "commit", "-qm", "run")
        (folder / "executed.json").write_text(json.dumps(sorted(executed)))

    folder = shared("sentiment", fill)
    repo = Repo(folder / "repo")
    repo.executed = set(json.loads((folder / "executed.json").read_text()))
    return repo


@pytest.fixture(scope="session")
def tagged(shared) -> Repo:
    """Names in sentences, after a hop over others, which has one over the same sentences without labels before it."""

    def write(path):
        systems.entities(path / "genes/all.tsv", (("x", "e"), ("s", "t")), seed=0)
        systems.entities(path / "names/all.tsv", (("n", "o"), ("x", "t")), seed=1)

    def fill(folder):
        start(folder / "repo", tags(), write).run("dvc", "repro")

    return Repo(shared("tagged", fill) / "repo")


def test_every_stage_runs_and_what_was_declared_moved(sentiment):
    assert sentiment.executed == {
        "check", "source@bert", "prepare@plots", "prepare@films", "leaks", "recipe-hops", "recipe", "advise",
        "intermediate@plots", "target@plots-0", "target@bert-0", "scratch@0", "evaluate-intermediate@plots", "evaluate-scratch@0",
        "calibrate", "controls", "forgetting@plots", "compare", "report", "track", *EVALUATED,
    }  # fmt: skip
    assert set(systems.certified(sentiment)) == {"intermediate/plots", "target/plots-0", "target/bert-0", "scratch/0"}
    assert all(verdicts == {"ok"} for verdicts in systems.certified(sentiment).values())
    assert "0 findings" in sentiment.run("python", "-m", "stages", "audit")


def test_every_question_has_an_answer_and_the_words_are_of_texts(sentiment):
    compared = read(sentiment, "metrics/compare.json")
    assert {"transfer", "intermediate", "training", "against_tfidf"} <= set(compared)
    assert set(compared["accuracy"]) == {"plots", "bert", "scratch", "tfidf", "plots as it is"}
    verdict = (sentiment.path / "metrics/verdict.md").read_text()
    assert "test texts" in verdict and "TF-IDF with logistic regression" in verdict
    page = systems.Page(sentiment.path / "metrics/report.html")
    for words in (verdict, page.text):
        assert "image" not in words.lower()
    assert "TF-IDF" in page.text and "texts" in page.text


def test_the_head_of_the_hop_is_kept(sentiment):
    """It begins near where the hop ended; from the source, with a new head, it does not."""
    folder = sentiment.path / "metrics/target"
    kept, new = (pd.read_csv(folder / name / "history.csv").train_loss[0] for name in ("plots-0", "bert-0"))
    assert kept < new - 0.05


def test_the_report_shows_mistakes_with_marked_words_and_nothing_from_elsewhere(sentiment):
    page = systems.Page(sentiment.path / "metrics/report.html")
    assert page.foreign == [] and page.tags.count("script") == 2 and "u" not in page.tags
    assert page.marked > 5 and "<u>in it</u>" in page.text
    wrong = pd.read_csv(sentiment.path / "metrics/evaluate/target-plots-0/predictions.csv", dtype={"key": str})
    assert (wrong.label != wrong.predicted).any(), "there are mistakes to be shown"
    texts_of_it, shown = pd.read_csv(sentiment.path / "films/table.csv").text, " ".join(page.text.split())
    assert sum(" ".join(text.split()) in shown for text in texts_of_it) > 3, "the texts themselves"


@pytest.mark.skipif(systems.BROWSER is None, reason="no Chromium here")
def test_the_report_opens_in_a_browser(sentiment, tmp_path):
    page = sentiment.path / "metrics/report.html"
    title, said = systems.opened(page, tmp_path)
    assert said == [] and title == f"{page.read_text().count('<img')} 0"


def test_a_second_time_only_track_runs_and_another_strategy_reruns_the_target(sentiment, copy_of):
    repo = copy_of(sentiment)
    assert repo.ran("repro") == {"track"}
    before = repo.sha256("plots"), repo.sha256("scratch/0")
    change(repo, strategy="partial")
    targets = {"target@plots-0", "target@bert-0"}
    assert repo.ran("repro") == targets | EVALUATED | {
        "check", "recipe", "calibrate", "forgetting@plots", "compare", "report", "track",
    }  # fmt: skip
    assert (repo.sha256("plots"), repo.sha256("scratch/0")) == before
    certificate = pd.read_csv(repo.path / "metrics/target/plots-0/certificate.csv")
    moved = set(certificate[certificate.moved].tensor)
    assert all("layer.1." in name or name.startswith("head.") for name in moved) and len(moved) > 10


def test_a_changed_tokenizer_is_noticed(sentiment, copy_of, call):
    repo = copy_of(sentiment)
    before = repo.sha256("bert")
    file = repo.path / "bert/tokenizer.json"
    values = json.loads(file.read_text())
    vocab = values["model"]["vocab"]
    vocab["good"], vocab["bad"] = vocab["bad"], vocab["good"]
    file.write_text(json.dumps(values))
    said = call(repo, "source", "bert", ok=False)
    assert "sha256: bert has" in said
    change(repo, source={"bert": source(repo.path)})
    executed = repo.ran("repro", "target@plots-0")
    assert {"source@bert", "prepare@plots", "intermediate@plots", "target@plots-0"} <= executed
    assert repo.sha256("bert") == before, "the weights are the same"
    assert repo.sha256("target/plots-0") != sentiment.sha256("target/plots-0")


def test_a_killed_training_goes_on_to_the_same_bits(sentiment, copy_of, tmp_path):
    whole = copy_of(sentiment)
    change(whole, intermediate={"plots": HOP | {"epochs": 40, "patience": 40}})
    killed = Repo(shutil.copytree(whole.path, tmp_path / "killed", symlinks=True))
    whole.run("dvc", "repro", "intermediate@plots")
    process = subprocess.Popen(["dvc", "repro", "intermediate@plots"], cwd=killed.path, env=killed.environment,
                               stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, start_new_session=True)  # fmt: skip
    states = killed.path / ".transfer/checkpoints"
    known = set(states.glob("intermediate*plots*")) | set(states.iterdir())
    while not any((folder / "state.pt").exists() for folder in set(states.iterdir()) - known):
        assert process.poll() is None, "it ended before it could be killed"
        time.sleep(0.01)
    time.sleep(0.3)
    os.killpg(process.pid, signal.SIGKILL)
    process.wait()
    said = killed.run("dvc", "repro", "intermediate@plots")
    assert "resumes after epoch" in said
    assert killed.sha256("plots") == whole.sha256("plots") != sentiment.sha256("plots")


def test_predict_takes_sentences_and_files(sentiment, tmp_path, call):
    file = tmp_path / "one.txt"
    file.write_text(SENTENCES[1])
    said = call(sentiment, "predict", SENTENCES[0], str(file), "--csv", str(tmp_path / "out.csv"))
    table = pd.read_csv(tmp_path / "out.csv")
    assert table.text.tolist() == [SENTENCES[0], str(file)] and set(table.label) <= {"good", "bad"} and "%" in said


@pytest.mark.parametrize("suffix", [".onnx", ".pt2"])
def test_an_exported_model_answers_as_predict_does(sentiment, tmp_path, call, suffix):
    """From the tokenizer beside it alone, without code of the project."""
    from tokenizers import Tokenizer

    call(sentiment, "export", str(tmp_path / f"model{suffix}"))
    call(sentiment, "predict", *SENTENCES, "--csv", str(tmp_path / "out.csv"))
    expected = pd.read_csv(tmp_path / "out.csv")[["p_bad", "p_good"]].to_numpy()
    tokenizer = Tokenizer.from_file(str(next(tmp_path.glob("*tokenizer.json"))))
    tokenizer.enable_padding()
    made = tokenizer.encode_batch(SENTENCES)
    pieces, mask = np.array([each.ids for each in made]), np.array([each.attention_mask for each in made], dtype=bool)
    if suffix == ".onnx":
        session = onnxruntime.InferenceSession(tmp_path / "model.onnx", providers=["CPUExecutionProvider"])
        names = [each.name for each in session.get_inputs()]
        answers = session.run(None, dict(zip(names, (pieces, mask), strict=True)))[0]
    else:
        program = torch.export.load(tmp_path / "model.pt2").module()
        answers = program(torch.from_numpy(pieces), torch.from_numpy(mask))[0].detach().numpy()
    np.testing.assert_allclose(answers, expected, atol=1e-4)


def test_the_registered_model_answers_over_http(sentiment, tmp_path, call):
    with serving(sentiment, tmp_path) as ask:
        answers = ask("text", SENTENCES)
    call(sentiment, "predict", *SENTENCES, "--csv", str(tmp_path / "out.csv"))
    expected = pd.read_csv(tmp_path / "out.csv")
    assert answers.label.tolist() == expected.label.tolist()
    np.testing.assert_allclose(answers.p_good, expected.p_good, atol=1e-5)


def test_a_learning_curve_of_texts(sentiment, copy_of, call):
    repo = copy_of(sentiment)
    call(repo, "learning_curve", "--examples", "20,40", "--seeds", "0")
    table = pd.read_csv(repo.path / "metrics/learning_curve/curve.csv")
    assert set(table.examples) == {20, 40}
    assert "image" not in (repo.path / "metrics/learning_curve/summary.md").read_text()


def test_entities_are_found_and_told(tagged, tmp_path, call):
    compared = read(tagged, "metrics/compare.json")
    assert {"transfer", "intermediate", "training", "against_dictionary"} <= set(compared)
    assert compared["entity_f1"]["genes"] > 0.3, "it has learned something"
    assert all(verdicts == {"ok"} for verdicts in systems.certified(tagged).values())
    verdict = (tagged.path / "metrics/verdict.md").read_text()
    assert "entity f1" in verdict.lower() and "Dictionary of the training entities" in verdict and "image" not in verdict
    page = systems.Page(tagged.path / "metrics/report.html")
    assert page.foreign == [] and page.tags.count("script") == 2 and "thing" in page.text
    said = call(tagged, "predict", "the film n o was good", "--csv", str(tmp_path / "out.csv"))
    assert pd.read_csv(tmp_path / "out.csv").text.tolist() == ["the film n o was good"] and said
    assert "0 findings" in call(tagged, "audit")


def test_a_masked_language_hop_is_proved_measured_forgotten_and_reported(tagged, call):
    certificate = pd.read_csv(tagged.path / "metrics/intermediate/words/certificate.csv")
    assert "head.bias" in set(certificate.tensor) and (certificate.verdict == "ok").all()
    history = pd.read_csv(tagged.path / "metrics/intermediate/words/history.csv")
    assert {"val_loss", "val_masked_accuracy", "val_perplexity"} <= set(history)
    losses = history.val_loss.tolist()
    assert losses[-1] < losses[0]
    report = read(tagged, "metrics/evaluate/intermediate-words/report.json")
    assert report["primary"]["name"] == "masked_accuracy" and report["metrics"]["perplexity"]["value"] > 1
    forgotten = pd.read_csv(tagged.path / "metrics/forgetting/words/forgetting.csv")
    assert {"genes", "genes-0"} <= {model.split()[-1] for model in forgotten.model}
    accuracy = report["metrics"]["masked_accuracy"]["value"]
    assert forgotten.before.tolist() == pytest.approx([accuracy] * len(forgotten), abs=1e-6)
    page = systems.Page(tagged.path / "metrics/report.html")
    assert "words" in page.text and "image" not in page.text.lower()
    card = json.loads((tagged.path / "models/genes/card.json").read_text())
    assert card["chain"][-2:] == ["words", "genes"] and card["architecture"]["head"]["kind"] == "linear"
    for words in (("predict", "a film"), ("export", "model.onnx")):
        assert "answers nothing" in call(tagged, *words, "--model", "models/words", ok=False)
