"""Test images that are in training data as well are found before anything trains, without opening a split."""

import copy
import io
import json
import shutil
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import torch
from PIL import Image, ImageOps

from stages import leaks, prepare, recipe
from stages.lib.core import cards, datasets, runs
from stages.lib.errors import UserError
from stages.lib.leaks import search
from stages.lib.training import hop
from tests.tiny import FOLDER, HOW, PARAMS, draw, model_card, options, write_params

RAW = {"dots": Path("images/dots"), "lines": Path("images/lines")}


@pytest.fixture
def project(tmp_path, monkeypatch):
    """Two folders of images that share none, and the card of a source."""
    monkeypatch.chdir(tmp_path)
    cards.write_json(
        Path("models/tiny/card.json"), model_card("tiny", kind="source", preprocessing=HOW, chain=["tiny"]).model_dump()
    )
    draw(RAW["dots"], ("cross", "frame"), seed=0)
    draw(RAW["lines"], ("frame", "cross"), seed=1)


def prepared(name):
    """The packed inputs of each split, as bytes."""
    splits = {split: datasets.read_split(runs.prepared(name), split) for split in ("train", "val", "test")}
    return {split: [each.tobytes() for each in packed.inputs] for split, packed in splits.items()}


def run(action="report", **dots):
    """Prepare both, put the splits away, and look for leaks; what was found, by (trained on, tested on)."""
    values = copy.deepcopy(PARAMS)
    values["leaks"]["action"] = action
    values["datasets"]["dots"] |= dots
    write_params(Path(), values)
    for name in RAW:
        prepare.main(name)
    Path("data/prepared").rename("data/away")
    try:
        leaks.main()
    finally:
        Path("data/away").rename("data/prepared")
    return read()


def read():
    told = json.loads(Path("metrics/leaks/leaks.json").read_text())
    return told, {(each["trained_on"], each["tested_on"]): each for each in told["compared"]}


def other_seed():
    return FOLDER["split"] | {"seed": 7}


def test_data_that_share_nothing(project, capsys):
    told, found = run()
    assert list(found) == [("dots", "lines"), ("lines", "lines"), ("dots", "dots")]
    assert [each["num_same"] + each["num_nearly"] for each in found.values()] == [0, 0, 0]
    assert told["left_out"] == {} and not Path("metrics/leaks/pairs.png").exists()
    assert capsys.readouterr().out.endswith("No test image is in the data of a training too.\n")
    assert pd.read_csv("metrics/leaks/pairs.csv").empty


def test_a_hop_whose_folder_is_a_copy_of_the_targets_with_another_seed(project, capsys):
    shutil.rmtree(RAW["dots"])
    shutil.copytree(RAW["lines"], RAW["dots"])
    _, found = run(split=other_seed())
    dots, lines = prepared("dots"), prepared("lines")
    shared = [key for key, image in zip(datasets.read_split(runs.prepared("lines"), "test").keys, lines["test"], strict=True)
              if image in dots["train"] + dots["val"]]  # fmt: skip
    leak = found["dots", "lines"]
    assert len(shared) > 3 and leak["keys"] == shared and (leak["num_same"], leak["num_nearly"]) == (len(shared), 0)
    assert found["lines", "lines"]["keys"] == found["dots", "dots"]["keys"] == []
    words = (f"{len(shared)} of 14 test images of lines ({100 * len(shared) / 14:.1f} %) are also in the training or validation "
             "data of dots")  # fmt: skip
    assert leak["words"].startswith(words) and leak["words"] in capsys.readouterr().out
    pairs = pd.read_csv("metrics/leaks/pairs.csv")
    assert (pairs.test == pairs.trained).all() and pairs.same.all() and set(pairs.split) == {"train", "val"}
    assert Image.open("metrics/leaks/pairs.png").width == 720


def test_a_copy_that_was_changed_is_nearly_the_same(project):
    write_params(Path(), PARAMS)
    prepare.main("lines")
    keys = datasets.read_split(runs.prepared("lines"), "test").keys[:4]
    for index, (key, change) in enumerate(
        zip(keys, (ImageOps.mirror, lambda image: image.resize((60, 60)), *[lossy] * 2), strict=True)
    ):
        with Image.open(RAW["lines"] / key) as image:
            change(image.convert("RGB")).save(RAW["dots"] / f"cross/copy{index}.png")
    told, found = run("drop", split=other_seed())
    trained = {key for split in ("train", "val") for key in datasets.read_split(runs.prepared("dots"), split).keys}
    expected = [key for index, key in enumerate(keys) if f"cross/copy{index}.png" in trained]
    assert len(expected) >= 2 and found["dots", "lines"]["keys"] == expected
    assert found["dots", "lines"]["num_nearly"] == len(expected)
    assert sum(map(len, told["left_out"]["dots"].values())) == len(expected)


def lossy(image):
    file = io.BytesIO()
    image.save(file, "JPEG", quality=50)
    return Image.open(file)


def test_refuse_stops_before_training_and_leaves_the_list(project):
    shutil.rmtree(RAW["dots"])
    shutil.copytree(RAW["lines"], RAW["dots"])
    with pytest.raises(UserError, match=r"leaks.action is refuse.*pairs.csv.*drop"):
        run("refuse", split=other_seed())
    assert read()[1]["dots", "lines"]["num_same"] == len(pd.read_csv("metrics/leaks/pairs.csv").test.unique())


def test_drop_leaves_them_out_of_training_by_the_recipe(project):
    shutil.rmtree(RAW["dots"])
    shutil.copytree(RAW["lines"], RAW["dots"])
    run("drop", split=other_seed())
    recipe.main("hops")
    written = json.loads(Path("metrics/recipes/dots.json").read_text())
    assert written["left_out"].keys() == {"dots"}
    assert json.loads(Path("metrics/recipes/scratch.json").read_text())["left_out"] == {}, "the target's own splits are disjoint"
    card, test = cards.read_data_card(runs.prepared("dots")), set(prepared("lines")["test"])
    cpu, how = torch.device("cpu"), HOW | card.packing
    whole, names = hop.load(runs.prepared("dots"), card, "classify", options(), how, cpu, {})
    fewer, same_names = hop.load(runs.prepared("dots"), card, "classify", options(), how, cpu, written["left_out"]["dots"])
    assert names == same_names
    for split, before, after in zip(("train", "val"), whole[:2], fewer[:2], strict=True):
        packed = datasets.read_split(runs.prepared("dots"), split)
        kept = [row for row, image in enumerate(packed.inputs) if image.tobytes() not in test]
        assert 0 < len(kept) == len(after.targets) < len(before.targets)
        assert after.targets.equal(before.targets[kept])
        rows = torch.arange(len(kept))
        assert after.inputs(rows, "none", None).equal(before.inputs(torch.tensor(kept), "none", None))
    with pytest.raises(UserError, match="leaves no example of a label of dots in its val split"):
        hop.load(runs.prepared("dots"), card, "classify", options(), how, cpu, {"val": list(range(len(whole.val.targets)))})


def test_what_is_compared():
    assert search.plan({}, "a", "a", []) == [("a", "a")]
    assert search.plan({"first": "a", "second": "b"}, "c", "c", ["c"]) == [
        ("a", "c"), ("b", "c"), ("c", "c"), ("a", "a"), ("b", "b"),
    ]  # fmt: skip
    assert search.plan({}, "photo", "sketch", ["photo"]) == [("photo", "sketch"), ("sketch", "sketch")], "what adapts sees sketch"


def test_without_near_duplicates_only_equal_content_counts(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    for name, split, digests in [("a", "train", "pqr"), ("a", "val", "s"), ("b", "test", "xqsq")]:
        marks = datasets.Fingerprints([f"{name}{index}" for index in range(len(digests))], list(digests), None)
        datasets.write_fingerprints(runs.fingerprints(name), split, marks)
    pairs, num = search.shared("a", "b", "text", None)
    assert num == 4
    assert pairs[["test", "split", "trained"]].to_numpy().tolist() == [
        ["b1", "train", "a1"],
        ["b2", "val", "a0"],
        ["b3", "train", "a1"],
    ]
    assert search.summary("a", "b", pairs, num, "text")["keys"] == ["b1", "b2", "b3"]
    assert search.left_out({("a", "b"): pairs, ("a", "c"): pairs[:1]}) == {"a": {"train": [1], "val": [0]}}
    assert search.pictured({("a", "b"): pairs}, 5) == []


def test_fingerprints_hold_no_labels(project):
    run()
    for path in Path("data/fingerprints").rglob("*.csv"):
        assert pd.read_csv(path).columns.tolist() == ["key", "digest"]
    small = np.load("data/fingerprints/lines/test.npy")
    assert small.shape == (14, 32, 32)
