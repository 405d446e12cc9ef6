"""Measuring a trained model, with a real tiny network on real packed images."""

import json
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import torch
from sklearn import metrics as sk

from stages import evaluate
from stages.lib.calibration import record
from stages.lib.core import cards, datasets
from stages.lib.errors import UserError
from stages.lib.evaluation import measure
from stages.lib.modalities.image import inputs
from stages.lib.networks import backbones
from stages.lib.params import read as params
from tests.tiny import HOW, PACKING, PARAMS, RESNET, data_card, model_card, shades, write_params

CLASSES = ["NA", "cross, bold", "frame"]  # names that a careless CSV garbles
PREPROCESSING = HOW | PACKING | {"mean": [0.4, 0.5, 0.6], "std": [0.2, 0.3, 0.4]}
OUT = Path("metrics/evaluate/target-dots-0")
DATA = Path("data/prepared/lines")


def write_data(groups=None, **card):
    """A prepared dataset of 60 images that has a test split only."""
    labels = np.array(CLASSES)[np.random.default_rng(0).integers(3, size=60)]
    table = pd.DataFrame({"key": [f"{i:03}" for i in range(60)], "label": labels, "group": "" if groups is None else groups})
    datasets.write_split(DATA, "test", shades(60), table)
    cards.write_data_card(DATA, data_card("lines", **{"labels": CLASSES} | card))


def write_model(folder="models/target/dots-0", seed=0):
    """A network with random weights whose answers differ from image to image."""
    torch.manual_seed(seed)
    model = backbones.build(RESNET, 3)
    model.head.weight.data.mul_(30)
    model.head.bias.data.zero_()
    with torch.no_grad():  # centred, or one class would win everywhere
        model.head.bias.sub_(logits(model, datasets.read_split(DATA, "test")).mean(0))
    card = model_card(Path(folder).name, output_names=CLASSES, preprocessing=PREPROCESSING)
    save(Path(folder), model.state_dict(), card)


def save(folder, tensors, card):
    """A model, and beside it that it is not calibrated (test_calibrate.py has those that are)."""
    card = cards.write_model(folder, tensors, card)
    record.write(Path("metrics/calibrate") / card.name, record.Record(name=card.name, model=card.sha256), None)


def logits(model, split):
    pixels = torch.from_numpy(np.array(split.inputs))
    with torch.no_grad():
        return model.eval()(inputs.to_network(pixels, PREPROCESSING["mean"], PREPROCESSING["std"]))


@pytest.fixture
def project(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    write_params(tmp_path, PARAMS)
    write_data()
    write_model()


def read_table():
    return pd.read_csv(OUT / "predictions.csv", keep_default_na=False, dtype={"key": str, "group": str})


def read_report():
    return json.loads((OUT / "report.json").read_text())


def test_the_predictions_are_those_of_the_saved_weights(project):
    evaluate.main("target", "dots-0", "lines")
    files = {
        "predictions.csv",
        "report.json",
        "confusion.csv",
        "reliability.csv",
        "mistakes.html",
        "confusion.png",
        "reliability.png",
    }
    assert {path.name for path in OUT.iterdir()} == files
    split = datasets.read_split(DATA, "test")
    model = backbones.build(RESNET, 3)
    model.load_state_dict(cards.read_model(Path("models/target/dots-0"))[0])
    table = read_table()
    assert list(table) == ["key", "group", "label", "predicted", "p_NA", "p_cross, bold", "p_frame"]
    assert table["key"].tolist() == split.keys
    assert table["label"].tolist() == split.labels
    given = table.filter(like="p_").to_numpy(np.float32)
    np.testing.assert_allclose(given, logits(model, split).softmax(1).numpy(), atol=2e-5)
    assert table["predicted"].tolist() == [CLASSES[index] for index in given.argmax(1)]
    assert set(table["predicted"]) == set(CLASSES), "a constant answer would test little"


def test_the_figures_follow_from_the_predictions(project, capsys):
    evaluate.main("target", "dots-0", "lines")
    table, report = read_table(), read_report()
    p = table.filter(like="p_").to_numpy()
    label, predicted = (table[name].map(CLASSES.index).to_numpy() for name in ("label", "predicted"))
    areas = [sk.roc_auc_score(label == index, p[:, index]) for index in range(3)]
    values = {name: metric["value"] for name, metric in report["metrics"].items()}
    bins = pd.read_csv(OUT / "reliability.csv")
    expected = {
        "accuracy": sk.accuracy_score(label, predicted),
        "balanced_accuracy": sk.balanced_accuracy_score(label, predicted),
        "macro_f1": sk.f1_score(label, predicted, average="macro"),
        "auroc": np.mean(areas),
        "ece": np.nansum(bins["count"] * (bins["accuracy"] - bins["confidence"]).abs()) / 60,
    }
    assert values == pytest.approx(expected, abs=2e-6)
    for name, metric in report["metrics"].items():
        assert metric["lower"] <= metric["value"] <= metric["upper"], name
        assert metric["lower"] < metric["upper"], name
    for index, name in enumerate(CLASSES):
        entry = report["per_class"][name]
        assert entry["support"] == (label == index).sum()
        assert entry["auroc"]["value"] == pytest.approx(areas[index], abs=1e-6)
        assert entry["precision"]["value"] == pytest.approx((label[predicted == index] == index).mean(), abs=1e-6)
        assert entry["recall"]["lower"] < entry["recall"]["value"] < entry["recall"]["upper"]
    assert report["confusion"] == sk.confusion_matrix(label, predicted).tolist()
    cells = pd.read_csv(OUT / "confusion.csv", keep_default_na=False)
    listed = {(row["actual"], row["predicted"]): row["count"] for row in cells.to_dict("records")}
    counts = {(CLASSES[row], CLASSES[column]): count for (row, column), count in np.ndenumerate(report["confusion"]) if count}
    assert listed == counts
    assert bins["bin"].tolist() == [1, 2, 3, 4, 5]
    assert bins["count"].sum() == 60
    settings = {"num_examples": 60, "num_groups": None, "grouped": False, "split_by_group": False, "split_given": False,
                "confidence": 0.95}  # fmt: skip
    most = np.bincount(label).max() / 60
    sha256 = cards.read_model_card(Path("models/target/dots-0")).sha256
    settings |= {"chance": pytest.approx(most, abs=1e-6), "model": sha256}
    assert report == report | settings | {"classes": CLASSES, "task": "classify"}
    lower, upper = (100 * report["metrics"]["accuracy"][end] for end in ("lower", "upper"))
    assert capsys.readouterr().out == (
        f"target dots-0 on lines: accuracy {100 * expected['accuracy']:.1f} % ({lower:.1f} % to {upper:.1f} %), 95 % interval "
        f"(always the most frequent answer: {100 * most:.1f} %), 60 test examples\n"
    )


def test_probabilities_survive_the_file_to_the_last_bit(project):
    split = datasets.read_split(DATA, "test")
    exact = np.random.default_rng(0).dirichlet([0.01, 1, 1], 60).astype(np.float32)
    exact[0] = [1, 0, np.float32(1e-30)]
    found = measure.Predictions(exact, np.array([CLASSES.index(label) for label in split.labels]), split)
    card = cards.read_model_card(Path("models/target/dots-0"))
    settings = params.load("evaluate").evaluate
    report = measure.report(found, "classify", card.output_names, cards.read_data_card(DATA), settings, card.sha256)
    measure.write(OUT, found, report, "classify", card.output_names, settings)
    np.testing.assert_array_equal(read_table().filter(like="p_").to_numpy(np.float32), exact)


def test_equal_inputs_give_equal_bytes(project):
    evaluate.main("target", "dots-0", "lines")
    before = {path.name: path.read_bytes() for path in OUT.iterdir()}
    evaluate.main("target", "dots-0", "lines")
    assert {path.name: path.read_bytes() for path in OUT.iterdir()} == before


def test_the_batch_size_does_not_matter(project):
    evaluate.main("target", "dots-0", "lines")
    before = read_table().filter(like="p_").to_numpy()
    write_params(Path(), PARAMS | {"evaluate": PARAMS["evaluate"] | {"batch_size": 7}})
    evaluate.main("target", "dots-0", "lines")
    np.testing.assert_allclose(read_table().filter(like="p_").to_numpy(), before, atol=1e-5)


def test_a_model_trained_in_bf16_is_measured_in_float32(project):
    evaluate.main("target", "dots-0", "lines")
    before = (OUT / "predictions.csv").read_bytes()
    write_params(Path(), PARAMS | {"device": PARAMS["device"] | {"precision": "bf16-mixed", "devices": 2}})
    evaluate.main("target", "dots-0", "lines")
    assert (OUT / "predictions.csv").read_bytes() == before


def test_groups_are_drawn_whole(project):
    evaluate.main("target", "dots-0", "lines")
    single = read_report()["metrics"]["accuracy"]
    right = (read_table()["label"] == read_table()["predicted"]).to_numpy()
    groups = np.empty(60, object)  # right ones together, wrong ones together: images of a group are all alike
    for value in (True, False):
        groups[right == value] = [f"{value}{index // 5}" for index in range((right == value).sum())]
    write_data(groups=groups, settings={"split": {"by_group": True}})
    evaluate.main("target", "dots-0", "lines")
    report = read_report()
    grouped = report["metrics"]["accuracy"]
    assert (report["grouped"], report["num_groups"], report["split_by_group"]) == (True, len(set(groups)), True)
    assert grouped["value"] == single["value"]
    assert grouped["upper"] - grouped["lower"] > 1.5 * (single["upper"] - single["lower"])
    assert read_table()["group"].tolist() == groups.tolist()


def test_scratch_and_hops_have_their_own_folders(project):
    write_model("models/scratch/0", seed=1)
    write_model("models/dots", seed=2)
    evaluate.main("scratch", "0", "lines")
    evaluate.main("intermediate", "dots", "lines")
    evaluate.main("target", "dots-0", "lines")
    found = {path.name: (path / "predictions.csv").read_bytes() for path in Path("metrics/evaluate").iterdir()}
    assert set(found) == {"scratch-0", "intermediate-dots", "target-dots-0"}
    assert len(set(found.values())) == 3


def test_a_class_that_is_never_there_gives_null_and_no_invalid_json(project):
    split = datasets.read_split(DATA, "test")
    labels = ["cross, bold" if label == "frame" else label for label in split.labels]
    table = pd.DataFrame({"key": split.keys, "label": labels, "group": ""})
    datasets.write_split(DATA, "test", np.array(split.inputs), table)
    evaluate.main("target", "dots-0", "lines")
    text = (OUT / "report.json").read_text()
    assert "NaN" not in text
    frame = json.loads(text)["per_class"]["frame"]
    assert frame["support"] == 0
    assert frame["recall"] == frame["auroc"] == {"value": None, "lower": None, "upper": None}


@pytest.mark.parametrize(
    ("card", "message"),
    [
        ({"labels": ["NA", "cross, bold"]}, r"knows NA, cross, bold, frame, and data/prepared/lines has NA, cross, bold;"),
        *[({"packing": PACKING | {name: value}}, f"{name} {value}, and models/target/dots-0 was trained with {PACKING[name]}")
          for name, value in [("px", 48), ("fit", "crop"), ("crop_pct", 0.875), ("interpolation", "bicubic")]],
    ],
)  # fmt: skip
def test_data_that_the_model_was_not_made_for_is_refused(project, card, message):
    write_data(**card)
    with pytest.raises(UserError, match=message):
        evaluate.main("target", "dots-0", "lines")
    assert not OUT.exists()


def test_every_tensor_must_be_there(project):
    tensors, card = cards.read_model(Path("models/target/dots-0"))
    tensors.pop("head.bias")
    save(Path("models/target/dots-0"), tensors, card)
    with pytest.raises(RuntimeError, match=r"head\.bias"):
        evaluate.main("target", "dots-0", "lines")


def test_a_model_that_diverged_has_no_figures(project):
    tensors, card = cards.read_model(Path("models/target/dots-0"))
    save(Path("models/target/dots-0"), tensors | {"head.bias": torch.full((3,), float("nan"))}, card)
    with pytest.raises(UserError, match=r"dots-0 predicts numbers that are not finite"):
        evaluate.main("target", "dots-0", "lines")
    assert not OUT.exists()


def test_mistakes_are_named(project):
    with pytest.raises(
        UserError, match=r"'targte' is not a kind of training\. Allowed: target, alternative, scratch, intermediate"
    ):
        evaluate.main("targte", "dots-0", "lines")
    with pytest.raises(UserError, match="dvc repro"):
        evaluate.main("target", "dots-1", "lines")
    with pytest.raises(UserError, match="dvc repro"):
        evaluate.main("target", "dots-0", "points")
