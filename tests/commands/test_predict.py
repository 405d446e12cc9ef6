"""The predict command: a table of what the model says, as evaluate says it, and errors for people."""

import numpy as np
import pandas as pd
import pytest
from PIL import Image

from stages.commands import predict
from stages.lib.errors import UserError


@pytest.fixture
def repo(finished, monkeypatch):
    monkeypatch.chdir(finished.path)
    return finished.path


def test_the_table_holds_what_evaluate_found(repo, tmp_path, capsys):
    """The pictures that the data was prepared from, and not the packed ones, give the answers of the test."""
    ship = predict.shipped()
    measured = pd.read_csv(repo / "metrics/evaluate" / f"target-{ship.name}" / "predictions.csv")
    paths = [repo / "images/lines" / key for key in measured["key"]]
    predict.main([*map(str, paths), "--csv", str(tmp_path / "out.csv")])
    table = pd.read_csv(tmp_path / "out.csv")
    assert list(table.columns) == ["image", "label", "probability", "p_cross", "p_frame"]
    assert list(table["label"]) == list(measured["predicted"])
    assert np.allclose(table[["p_cross", "p_frame"]], measured[["p_cross", "p_frame"]], atol=1e-5)
    told = capsys.readouterr()
    assert told.out.count(" %") == 3 * len(paths) and "licences of this model: may be sold\n" in told.err


def test_a_folder_stands_for_its_files_and_another_model_may_be_named(repo, capsys):
    predict.main(["images/lines/cross", "--model", "models/target/tiny-0"])
    assert len(capsys.readouterr().out.splitlines()) == 1 + 24


def test_a_broken_file_is_named_and_the_others_are_answered(repo, tmp_path, capsys):
    bad = tmp_path / "bad.png"
    bad.write_bytes(b"no image")
    with pytest.raises(UserError, match="1 of 2 files"):
        predict.main([str(bad), "images/lines/cross/000.png"])
    told = capsys.readouterr()
    assert "bad.png: cannot be read as image" in told.err and "000.png" in told.out


def test_what_is_odd_about_a_file_that_can_be_read_is_said(repo, tmp_path, capsys):
    dark = tmp_path / "dark.png"
    Image.fromarray(np.full((40, 40), 4095, np.uint16)).save(dark)
    predict.main([str(dark), "images/lines/cross/000.png"])
    told = capsys.readouterr()
    assert "1 of 2 images are 16-bit grey images without a value above 16,383" in told.err and "dark.png" in told.out


@pytest.mark.parametrize(
    ("words", "told"),
    [
        (["nowhere.png"], "nowhere.png does not exist"),
        (["images/lines", "--model", "models"], "is not a trained model"),
        (["images/lines", "--model", "models/tiny"], "tiny is a source and not trained for a task"),
    ],
)
def test_mistakes_are_answered_in_words(finished, call, words, told):
    assert told in call(finished, "predict", *words, ok=False)


def test_without_a_finished_pipeline_it_says_what_to_do(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    with pytest.raises(UserError, match="dvc repro"):
        predict.shipped()
