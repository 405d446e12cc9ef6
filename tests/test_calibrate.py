"""Calibrating trained models, with real tiny networks on real packed images, and what evaluate makes of it."""

import json
import shutil
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import torch

from stages import calibrate, evaluate
from stages.lib.calibration import fit, neighbours, record
from stages.lib.core import cards, datasets
from stages.lib.errors import UserError
from stages.lib.modalities.image import inputs
from stages.lib.networks import backbones
from tests.tiny import HOW, PARAMS, RESNET, data_card, model_card, shades, write_params

CLASSES = ["cross", "frame", "ring"]
DATA, OUT = Path("data/prepared/lines"), Path("metrics/calibrate")
NUMBERS = {"train": 50, "val": 40, "test": 60}


def write_split(name, seed, labels=None):
    num = NUMBERS[name]
    labels = np.array(CLASSES)[np.random.default_rng(seed).integers(3, size=num)] if labels is None else labels
    table = pd.DataFrame({"key": [f"{name}{row:03}" for row in range(num)], "label": labels, "group": ""})
    datasets.write_split(DATA, name, shades(num, seed=seed), table)


def write_model(name="dots-0", seed=0):
    """A network with random weights whose answers differ from image to image."""
    torch.manual_seed(seed)
    model = backbones.build(RESNET, 3)
    model.head.weight.data.mul_(30)
    model.head.bias.data.zero_()
    with torch.no_grad():
        model.head.bias.sub_(model.eval()(pixels("train")).mean(0))
    card = model_card(name, output_names=CLASSES, data="lines")
    cards.write_model(Path("models/target") / name, model.state_dict(), card)


def pixels(name):
    return inputs.to_network(torch.from_numpy(np.array(datasets.read_split(DATA, name).inputs)), HOW["mean"], HOW["std"])


def settings(**changes):
    write_params(Path(), PARAMS | {"calibrate": PARAMS["calibrate"] | {"num_examples": 100} | changes})


def leaks(**left_out):
    cards.write_json(Path("metrics/recipe/target.json"), {"left_out": {"lines": left_out} if left_out else {}})


@pytest.fixture
def project(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    settings()
    leaks()
    for seed, name in enumerate(NUMBERS):
        write_split(name, seed)
    cards.write_data_card(DATA, data_card("lines", labels=CLASSES))
    write_model()
    write_model("tiny-0", seed=1)


def read(name="dots-0"):
    return record.read(OUT / name, cards.read_model_card(Path("models/target") / name))


def network():
    tensors, card = cards.read_model(Path("models/target/dots-0"))
    return backbones.trained(tensors, card.architecture, 3)


def by_hand(name, model, bank):
    """Probabilities and distances of a split."""
    with torch.no_grad():
        features = model.backbone(pixels(name))
        return model.head(features).softmax(1).numpy(), neighbours.distances(features, bank, 2).numpy()


def files():
    return {path.relative_to(OUT): path.read_bytes() for path in sorted(OUT.rglob("*.*"))}


def test_each_target_has_its_limits_and_features_from_training_and_validation(project, capsys):
    calibrate.main()
    assert {str(path) for path in files()} == {f"{name}/{file}" for name in ("dots-0", "tiny-0")
                                               for file in (record.FILE, record.BANK)}  # fmt: skip
    found, model = read(), network()
    with torch.no_grad():
        torch.testing.assert_close(found.bank, neighbours.bank(model.backbone(pixels("train"))), atol=2e-3, rtol=0)
    p, far = by_hand("val", model, found.bank)
    right = [p[row, CLASSES.index(label)] for row, label in enumerate(datasets.read_split(DATA, "val").labels)]
    assert found.record.limit == pytest.approx(np.sort(far)[30], rel=1e-4), "the 31st of 40: 41 x 0.75, rounded up"
    assert (found.record.num_examples, found.record.neighbours, found.record.false_alarms) == (40, 2, 0.25)
    assert found.record.task["sets"]["set_50"]["lowest"] == pytest.approx(np.sort(right)[-21], abs=1e-5)
    assert (
        "target dots-0: on 40 validation examples; 25.0% of such are called unlike the training data" in capsys.readouterr().out
    )


def test_the_test_split_is_never_opened(project):
    calibrate.main()
    before = files()
    shutil.rmtree(DATA / "test")
    calibrate.main()
    assert files() == before, "and equal inputs give equal bytes"


def test_of_many_training_examples_some_are_drawn_always_the_same(project):
    settings(num_examples=10)
    calibrate.main()
    first, model = read().bank, network()
    with torch.no_grad():
        every = neighbours.bank(model.backbone(pixels("train")))
    torch.testing.assert_close(first, every[fit.drawn(50, 10)], atol=2e-3, rtol=0)
    assert len(set(fit.drawn(50, 10).tolist())) == 10
    torch.testing.assert_close(fit.drawn(50, 60), torch.arange(50))


def test_rows_that_training_left_out_because_they_are_in_a_test_are_left_out_here_too(project):
    leaks(train=[0, 7], val=[3])
    calibrate.main()
    found, model = read(), network()
    with torch.no_grad():
        every = neighbours.bank(model.backbone(pixels("train")))
    kept = [row for row in range(50) if row not in (0, 7)]
    torch.testing.assert_close(found.bank, every[kept], atol=2e-3, rtol=0)
    assert found.record.num_examples == 39


def test_too_little_validation_takes_the_largest_distance_and_says_what_that_promises(project):
    settings(false_alarms=0.01, sets=[0.99])
    calibrate.main()
    found, model = read(), network()
    assert found.record.limit == pytest.approx(by_hand("val", model, found.bank)[1].max(), rel=1e-4)
    assert found.record.false_alarms == pytest.approx(1 / 41, abs=1e-6)
    assert found.record.task["sets"]["set_99"]["lowest"] == 0, "all classes"


def test_a_target_that_params_no_longer_have_keeps_no_calibration(project):
    calibrate.main()
    (OUT / "dots-0" / "old.json").touch()
    calibrate.main()
    assert not (OUT / "dots-0" / "old.json").exists()


def test_evaluate_measures_what_calibrate_made(project):
    settings(decision={"label": "ring", "recall": 0.6})
    calibrate.main()
    evaluate.main("target", "dots-0", "lines")
    report = json.loads(Path("metrics/evaluate/target-dots-0/report.json").read_text())["calibrated"]
    found, model = read(), network()
    p, far = by_hand("test", model, found.bank)
    targets = np.array([CLASSES.index(label) for label in datasets.read_split(DATA, "test").labels])
    assert report["unlike"]["value"] == pytest.approx((far > found.record.limit).mean(), abs=1e-6)
    assert report["unlike"]["expected"] == 0.25 and report["unlike"]["lower"] < report["unlike"]["upper"]
    answers = np.where(p[:, 2] >= found.record.task["decision"]["threshold"], 2, p[:, :2].argmax(1))
    assert report["decision"]["metrics"]["accuracy"]["value"] == pytest.approx((answers == targets).mean(), abs=1e-6)
    for name, each in found.record.task["sets"].items():
        held = p >= each["lowest"]
        held[np.arange(60), answers] = True
        assert report[name]["coverage"]["value"] == pytest.approx(held[np.arange(60), targets].mean(), abs=1e-6)


def test_a_calibration_changes_no_prediction(project):
    calibrate.main()
    evaluate.main("target", "dots-0", "lines")
    out = Path("metrics/evaluate/target-dots-0")
    table, report = (out / "predictions.csv").read_bytes(), json.loads((out / "report.json").read_text())
    card = cards.read_model_card(Path("models/target/dots-0"))
    shutil.rmtree(OUT / "dots-0")
    record.write(OUT / "dots-0", record.Record(name="dots-0", model=card.sha256), None)
    evaluate.main("target", "dots-0", "lines")
    assert (out / "predictions.csv").read_bytes() == table
    assert json.loads((out / "report.json").read_text()) == {key: value for key, value in report.items() if key != "calibrated"}


def test_a_model_that_diverged_is_not_calibrated(project):
    tensors, card = cards.read_model(Path("models/target/dots-0"))
    cards.write_model(Path("models/target/dots-0"), tensors | {"head.bias": torch.full((3,), float("nan"))}, card)
    with pytest.raises(UserError, match=r"dots-0 predicts numbers that are not finite"):
        calibrate.main()


def test_the_calibration_of_an_earlier_model_is_refused(project):
    calibrate.main()
    write_model(seed=2)
    with pytest.raises(UserError, match=r"is of other weights than those of dots-0.*dvc repro"):
        evaluate.main("target", "dots-0", "lines")
