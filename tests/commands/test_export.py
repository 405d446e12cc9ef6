"""The export command: files that other programs read, and that answer as the served model does."""

import json
import sys

import numpy as np
import onnx
import onnxruntime
import pytest
import torch

from stages.lib import artifacts
from tests.conftest import Repo

HOW = [sys.executable, "-m", "stages.commands.export"]


@pytest.fixture
def repo(finished, copy_of) -> Repo:
    return copy_of(finished)


@pytest.mark.parametrize("suffix", [".onnx", ".pt2"])
def test_it_answers_as_evaluate_did_and_knows_its_classes(repo, tmp_path, suffix):
    file = tmp_path / f"model{suffix}"
    told = repo.run(*HOW, str(file), "--model", "models/target/dots-0")
    assert "answers as the model does" in told
    split = artifacts.read_split(repo.path / "data/prepared/lines", "test")
    images = np.array(split.inputs)
    if suffix == ".onnx":
        session = onnxruntime.InferenceSession(file, providers=["CPUExecutionProvider"])
        answers = session.run(None, {"images": images})[0]
        card = json.loads({entry.key: entry.value for entry in onnx.load(file).metadata_props}["card"])
    else:
        extra = {"card.json": ""}
        answers = torch.export.load(file, extra_files=extra).module()(torch.from_numpy(images)).detach().numpy()
        card = json.loads(extra["card.json"])
    assert card["classes"] == ["cross", "frame"] and card["preprocessing"]["px"] == 32
    import pandas as pd

    told = pd.read_csv(repo.path / "metrics/evaluate/target-dots-0/predictions.csv")
    np.testing.assert_allclose(answers, told[["p_cross", "p_frame"]], atol=1e-4)


def test_what_cannot_be_exported_is_said_and_nothing_is_written(repo, tmp_path):
    assert "must end in .onnx or .pt2" in repo.run(*HOW, str(tmp_path / "model.h5"), ok=False)
    weights = repo.path / "models/target/dots-0/weights.safetensors"
    weights.write_bytes(weights.read_bytes()[:-1])
    assert "not the file that its card describes" in repo.run(
        *HOW, str(tmp_path / "m.onnx"), "--model", "models/target/dots-0", ok=False
    )
    assert not list(tmp_path.glob("*.onnx"))
