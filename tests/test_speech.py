"""Speech through the whole pipeline, as a user runs it: transcripts by CTC of another speaker, and which digit is said."""

import base64
import copy
import json
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from tests import systems
from tests.lib.libraries.encoders import TINY
from tests.systems import read, serving
from tests.tiny import FULL, PARAMS, TRAINING, Repo, new_repo

pytestmark = pytest.mark.slow
WHISPER = {name: value for name, value in TINY["whisper"].items() if name != "num_mel_bins"} | {"max_source_positions": 150}
SOURCE = {"weights": "random", "seed": 0, "licence": "none",
          "architecture": {"library": "transformers", "model": "whisper", "pooling": "mean", "config": WHISPER},
          "preprocessing": {"sample_rate": 16_000, "features": "log_mel"}}  # fmt: skip
FSDD = {"raw": "fsdd", "reader": "fsdd", "speakers": [], "test_speakers": [], "val_speakers": [], "seed": 0,
        "preprocessing": "whisper", "max_seconds": 3, "limit": 0, "max_broken": 0.0, "duplicates": "refuse",
        "licence": "our own"}  # fmt: skip
SPLIT = {"train": 0, "val": 0.2, "test": 0.2, "seed": 0, "by_group": False, "stratify": False}
STRINGS = FSDD | {"what": "strings", "num_strings": 50, "split": SPLIT}
HOW = {"epochs": 30, "lr": 0.003, "head_lr": 0.01}
EVALUATED = {"evaluate@others-0", "evaluate@whisper-0", "evaluate-scratch@0", "evaluate-intermediate@others"}


def common() -> dict:
    values = copy.deepcopy(PARAMS) | {"modality": "audio", "strategy": "full", "source": {"whisper": SOURCE}}
    keep = TRAINING["head"] | {"keep": True}
    return values | {"training": TRAINING | {"augment": "none", "label_smoothing": 0, "weight_decay": 0.01, "head": keep}}


def strings() -> dict:
    """Two speakers first, then a third one."""
    others, accent = STRINGS | {"speakers": ["anna", "ben"]}, STRINGS | {"speakers": ["carl"]}
    hop = HOW | {"init": "whisper", "data": "others", "task": "transcribe", "strategy": "full"}
    return common() | {
        "datasets": {"others": others, "accent": accent}, "intermediate": {"others": hop},
        "strategies": {"full": FULL | {"epochs": 3, "lr": 0.001}},
        "target": {"data": "accent", "test": "accent", "task": "transcribe"},
        "inits": ["others", "whisper"], "scratch": {"epochs": 1, "lr": 0.001, "like": "whisper"},
        "compare": PARAMS["compare"] | {"metric": "cer"},
    }  # fmt: skip


def commands() -> dict:
    """Which digit a speaker says who was not heard in training."""
    spoken = {"what": "digits", "num_strings": 0, "test_speakers": ["carl"], "val_speakers": ["ben"]}
    block = FSDD | spoken | {"split": SPLIT | {"by_group": True, "stratify": True}}
    return common() | {
        "datasets": {"digits": block}, "intermediate": {}, "inits": ["whisper"],
        "target": {"data": "digits", "test": "digits", "task": "classify"},
        "strategies": {"full": FULL | {"epochs": 12, "lr": 0.003}}, "scratch": {"epochs": 2, "lr": 0.001, "like": "whisper"},
    }  # fmt: skip


def start(path: Path, values: dict) -> Repo:
    systems.digits(path / "fsdd")
    return new_repo(path, values)


@pytest.fixture(scope="session")
def spoken(shared) -> Repo:
    """Strings of digits, after a hop over two other speakers, through `dvc repro`."""

    def fill(folder):
        executed = start(folder / "repo", strings()).ran("repro")
        (folder / "executed.json").write_text(json.dumps(sorted(executed)))

    folder = shared("spoken", fill)
    repo = Repo(folder / "repo")
    repo.executed = set(json.loads((folder / "executed.json").read_text()))
    return repo


@pytest.fixture(scope="session")
def voices(shared) -> Repo:
    """Voice commands through `dvc repro`."""
    return Repo(shared("commands", lambda folder: start(folder / "repo", commands()).run("dvc", "repro")) / "repo")


def recording(repo: Repo) -> Path:
    return repo.path / "fsdd/recordings/7_carl_0.wav"


def test_every_stage_runs_and_what_was_declared_moved(spoken):
    assert spoken.executed == {
        "check", "source@whisper", "prepare@others", "prepare@accent", "leaks", "recipe-hops", "recipe", "advise",
        "intermediate@others", "target@others-0", "target@whisper-0", "scratch@0", "controls", "forgetting@others",
        "calibrate", "compare", "report", "track", *EVALUATED,
    }  # fmt: skip
    assert set(systems.certified(spoken)) == {"intermediate/others", "target/others-0", "target/whisper-0", "scratch/0"}
    assert all(verdicts == {"ok"} for verdicts in systems.certified(spoken).values())
    assert "0 findings" in spoken.run("python", "-m", "stages", "audit")


def test_errors_of_characters_are_compared_and_fewer_are_better(spoken):
    compared = read(spoken, "metrics/compare.json")
    assert {"transfer", "intermediate", "training"} <= set(compared)
    assert set(compared["cer"]) == {"others", "whisper", "scratch", "others as it is"}
    assert compared["cer"]["others"] < 0.75 < compared["cer"]["scratch"], "the hop has learned to hear"
    assert compared["transfer"]["difference"] < 0 and compared["transfer"]["verdict"] == "this model is better"
    verdict = (spoken.path / "metrics/verdict.md").read_text()
    assert "test recordings" in verdict and "image" not in verdict


def test_the_head_of_the_hop_is_kept(spoken):
    folder = spoken.path / "metrics/target"
    kept, new = (pd.read_csv(folder / name / "history.csv").train_loss[0] for name in ("others-0", "whisper-0"))
    assert kept < 0.7 * new


def test_where_nothing_is_learned_an_alarm_tells_of_blanks(spoken):
    told = read(spoken, "metrics/target/whisper-0/run.json")["warnings"]
    assert any("of the frames with the blank" in warning for warning in told)
    assert "of the frames with the blank" in (spoken.path / "metrics/verdict.md").read_text()
    assert not any("blank" in warning for warning in read(spoken, "metrics/intermediate/others/run.json")["warnings"])


def test_the_report_plays_recordings_and_nothing_comes_from_elsewhere(spoken):
    page = systems.Page(spoken.path / "metrics/report.html")
    assert page.tags.count("audio") >= 4 and page.foreign == [] and page.tags.count("script") == 2
    assert "image" not in page.text.lower() and "recordings" in page.text
    assert sum(word in page.text for word in systems.WORDS) > 5, "what was said"


@pytest.mark.skipif(systems.BROWSER is None, reason="no Chromium here")
@pytest.mark.parametrize("which", ["spoken", "voices"])
def test_the_report_opens_in_a_browser(request, which, tmp_path):
    page = request.getfixturevalue(which).path / "metrics/report.html"
    title, said = systems.opened(page, tmp_path)
    text = page.read_text()
    assert said == [] and title == f"{text.count('<img')} {text.count('<audio')}"


def test_predict_and_http_write_what_is_said(spoken, tmp_path, call):
    file = recording(spoken)
    said = call(spoken, "predict", str(file), "--csv", str(tmp_path / "out.csv"))
    expected = pd.read_csv(tmp_path / "out.csv", keep_default_na=False)
    assert "text" in expected and len(expected) == 1 and file.name in said
    with serving(spoken, tmp_path) as ask:
        answers = ask("audio", [base64.b64encode(file.read_bytes()).decode()])
    assert answers.text[0] == expected.text[0]


@pytest.mark.parametrize("suffix", [".onnx", ".pt2"])
def test_a_model_of_speech_is_exported(spoken, tmp_path, call, suffix):
    assert "answers as the model does" in call(spoken, "export", str(tmp_path / f"model{suffix}"))
    assert (tmp_path / f"model{suffix}").stat().st_size > 10_000


def test_commands_are_told_apart_from_another_speaker(voices, tmp_path, call):
    compared = read(voices, "metrics/compare.json")
    assert compared["accuracy"]["whisper"] > 0.5, "of ten digits"
    assert all(verdicts == {"ok"} for verdicts in systems.certified(voices).values())
    page = systems.Page(voices.path / "metrics/report.html")
    assert page.foreign == [] and "image" not in page.text.lower() and page.tags.count("audio") > 0
    call(voices, "predict", str(recording(voices)), "--csv", str(tmp_path / "out.csv"))
    table = pd.read_csv(tmp_path / "out.csv")
    assert table.label[0] in systems.WORDS and np.isclose(table.filter(like="p_").sum(axis=1)[0], 1, atol=1e-4)
    assert "0 findings" in call(voices, "audit")
