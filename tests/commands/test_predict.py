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
    columns = ["image", "answer", "label", "probability", "p_cross", "p_frame", "set_50", "set_75", "unlike"]
    assert list(table.columns) == columns
    assert list(table["label"]) == list(measured["predicted"])
    assert np.allclose(table[["p_cross", "p_frame"]], measured[["p_cross", "p_frame"]], atol=1e-5)
    told = capsys.readouterr()
    assert told.out.count(" %") == 3 * len(paths) and "licences of this model: may be sold\n" in told.err


def test_what_is_unlike_the_training_images_is_not_called_by_the_name_of_a_class(repo, tmp_path, capsys):
    """A ramp, of which the model is as sure as of anything; the class, the score and the sets stand beside what is said."""
    ramp = tmp_path / "ramp.png"
    Image.fromarray(np.tile(np.linspace(0, 255, 40).astype(np.uint8)[:, None, None], (1, 40, 3))).save(ramp)
    predict.main([str(ramp), "images/lines/cross/000.png", "--csv", str(tmp_path / "out.csv")])
    told = capsys.readouterr()
    header, strange, usual = told.out.splitlines()
    assert "label" not in header.split() and {"answer", "set_50", "set_75", "unlike"} <= set(header.split())
    assert " unlike the training images " in strange and "unlike" not in usual
    assert "unlike: distance to the training images; above 1 the answer is no more than a guess" in told.err
    table = pd.read_csv(tmp_path / "out.csv")
    assert table["unlike"][0] > 1 >= table["unlike"][1]
    assert set(table["label"]) <= {"cross", "frame"} and set(table["set_75"]) <= {"cross", "frame", "cross | frame"}


def test_a_model_without_a_calibration_says_no_more_than_before(repo, tmp_path):
    predict.main(["images/lines/cross/000.png", "--model", "models/scratch/0", "--csv", str(tmp_path / "out.csv")])
    assert list(pd.read_csv(tmp_path / "out.csv")) == ["image", "label", "probability", "p_cross", "p_frame"]


def test_a_large_set_is_shortened_where_it_is_printed_and_whole_in_the_file():
    table = pd.DataFrame({"image": ["a"], "set_95": [[f"class {number}" for number in range(8)]]})
    assert predict.shown(table)["set_95"][0] == "class 0 | class 1 | class 2 | class 3 | class 4 and 3 more"
    assert predict.written(table)["set_95"][0].endswith("| class 7")


def test_a_folder_stands_for_its_files_and_another_model_may_be_named(repo, capsys):
    predict.main(["images/lines/cross", "--model", "models/target/tiny-0"])
    assert len(capsys.readouterr().out.splitlines()) == 1 + 24


def test_a_broken_file_is_named_and_the_others_are_answered(repo, tmp_path, capsys):
    bad = tmp_path / "bad.png"
    bad.write_bytes(b"no image")
    with pytest.raises(UserError, match="1 of 2 files"):
        predict.main([str(bad), "images/lines/cross/000.png"])
    told = capsys.readouterr()
    assert "bad.png: cannot be read as image (cannot identify image file)\n" in told.err and "000.png" in told.out


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
