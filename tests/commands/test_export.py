"""The export command: files that other programs read, and that answer as the served model does."""

import json

import numpy as np
import onnx
import onnxruntime
import pandas as pd
import pytest
import torch

from stages.lib.core import cards, datasets
from tests.tiny import PARAMS, Repo, write_params


@pytest.fixture
def repo(finished, copy_of) -> Repo:
    return copy_of(finished)


@pytest.mark.parametrize("suffix", [".onnx", ".pt2"])
def test_it_answers_as_evaluate_did_and_knows_its_classes(repo, tmp_path, call, suffix):
    file = tmp_path / f"model{suffix}"
    told = call(repo, "export", str(file), "--model", "models/target/dots-0")
    assert "answers as the model does" in told and "licences: may be sold\n" in told
    images = np.array(datasets.read_split(repo.path / "data/prepared/lines", "test").inputs)
    if suffix == ".onnx":
        session = onnxruntime.InferenceSession(file, providers=["CPUExecutionProvider"])
        answers, distances = session.run(["predictions", "distance"], {"inputs": images})
        card = json.loads({entry.key: entry.value for entry in onnx.load(file).metadata_props}["card"])
    else:
        extra = {"card.json": ""}
        outputs = torch.export.load(file, extra_files=extra).module()(torch.from_numpy(images))
        answers, distances = (each.detach().numpy() for each in outputs)
        card = json.loads(extra["card.json"])
    assert card["use"] == "may be sold" and "our own" in card["licences"]
    assert card["classes"] == ["cross", "frame"] and card["preprocessing"]["px"] == 32
    told = pd.read_csv(repo.path / "metrics/evaluate/target-dots-0/predictions.csv")
    np.testing.assert_allclose(answers, told[["p_cross", "p_frame"]], atol=1e-4)
    assert card["calibration"] == cards.read_json(repo.path / "metrics/calibrate/dots-0/calibration.json")
    paths = [str(repo.path / "images/lines" / key) for key in told["key"]]
    call(repo, "predict", *paths, "--model", "models/target/dots-0", "--csv", str(tmp_path / "out.csv"))
    np.testing.assert_allclose(distances / card["calibration"]["limit"], pd.read_csv(tmp_path / "out.csv")["unlike"], atol=1e-2)


def test_a_model_without_a_calibration_has_one_output(repo, tmp_path, call):
    call(repo, "export", str(tmp_path / "m.onnx"), "--model", "models/scratch/0")
    session = onnxruntime.InferenceSession(tmp_path / "m.onnx", providers=["CPUExecutionProvider"])
    assert [each.name for each in session.get_outputs()] == ["predictions"]
    about = {entry.key: entry.value for entry in onnx.load(tmp_path / "m.onnx").metadata_props}["card"]
    assert json.loads(about)["calibration"] is None


def test_the_card_of_the_shipped_model_lies_beside_its_file(repo, tmp_path, call):
    told = call(repo, "export", str(tmp_path / "model.pt2"))
    assert (tmp_path / "model.md").read_text() == (repo.path / "metrics/MODEL_CARD.md").read_text()
    assert "what to know before using it" in told


def test_what_cannot_be_exported_is_said_and_nothing_is_written(repo, tmp_path, call):
    assert "must end in .onnx or .pt2" in call(repo, "export", str(tmp_path / "model.h5"), ok=False)
    told = call(repo, "export", str(tmp_path / "m.onnx"), "--model", "models/tiny", ok=False)
    assert "tiny is a source and not trained for a task" in told
    weights = repo.path / "models/target/dots-0/weights.safetensors"
    weights.write_bytes(weights.read_bytes()[:-1])
    words = ["export", str(tmp_path / "m.onnx"), "--model", "models/target/dots-0"]
    assert "not the file that its card describes" in call(repo, *words, ok=False)
    assert not list(tmp_path.glob("*.onnx"))


def test_a_model_whose_licences_do_not_allow_what_the_params_ask_for_is_not_exported(repo, tmp_path, call):
    path = repo.path / "models/target/dots-0/card.json"
    cards.write_json(path, cards.read_json(path) | {"licences": ["CC-BY-NC-4.0 (pictures)", "MIT"]})
    write_params(repo.path, PARAMS | {"checks": PARAMS["checks"] | {"use": "commercial"}})
    told = call(repo, "export", str(tmp_path / "m.onnx"), "--model", "models/target/dots-0", ok=False)
    assert told.startswith("error: dots-0: not for commercial use (CC-BY-NC-4.0 (pictures)). The params ask for commercial use")
    assert not list(tmp_path.glob("*.onnx"))
