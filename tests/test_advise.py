"""The look at the target's images, with a real tiny network that was trained on images like them."""

import json
import math
from collections import Counter
from contextlib import contextmanager
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import torch
from sklearn.linear_model import LogisticRegression
from sklearn.model_selection import StratifiedKFold, cross_val_predict
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

from stages import advise
from stages.lib.advice import transferability
from stages.lib.core import cards, datasets
from stages.lib.core.runs import Session
from stages.lib.errors import UserError
from stages.lib.networks import backbones
from stages.lib.tasks import classify
from tests.tiny import HOW, PACKING, PARAMS, RESNET, data_card, model_card, write_params

PREPROCESSING = HOW | PACKING | {"mean": [0.5, 0.45, 0.4], "std": [0.25, 0.2, 0.3]}
RAW = {"mean": [0.0] * 3, "std": [1 / 255] * 3}  # 0 to 255, the classic mistake


def draw(num, seed, px=32, spread=1.0):
    """Images that are dark (0) or bright (1), half of each, as (N, px, px, 3) and labels; contrast tells nothing."""
    random = np.random.default_rng(seed)
    labels = np.sort(np.arange(num) % 2)
    level = np.where(labels, random.uniform(125, 125 + 25 * spread, num), random.uniform(115 - 25 * spread, 115, num))
    contrast = random.uniform(5, 40, num)[:, None, None, None]
    pixels = level[:, None, None, None] + contrast * random.normal(size=(num, px, px, 3))
    return np.clip(pixels, 0, 255).astype(np.uint8), labels


def normalise(pixels, preprocessing=PREPROCESSING):
    """By hand, in numpy."""
    scaled = (pixels / 255 - np.array(preprocessing["mean"])) / np.array(preprocessing["std"])
    return torch.from_numpy(scaled.transpose(0, 3, 1, 2)).float()


@pytest.fixture(scope="module")
def trained():
    """The tensors of a network that tells dark from bright under PREPROCESSING."""
    pixels, labels = draw(80, seed=0)
    inputs, labels = normalise(pixels), torch.from_numpy(labels)
    torch.manual_seed(0)
    model = backbones.build(RESNET, 2).train()
    optimizer = torch.optim.AdamW(model.parameters(), 0.01)
    for _ in range(60):
        batch = torch.randint(80, (20,))
        torch.nn.functional.cross_entropy(model(inputs[batch]), labels[batch]).backward()
        optimizer.step()
        optimizer.zero_grad()
    return {name: tensor.detach().clone() for name, tensor in model.state_dict().items()}


def write_model(tensors, architecture=RESNET, name="dots", chain=("dots",), **preprocessing):
    card = model_card(
        name, kind="source", architecture=architecture, preprocessing=PREPROCESSING | preprocessing, chain=list(chain)
    )
    cards.write_model(Path("models") / name, tensors, card)


def write_data(pixels, labels, groups=None):
    folder = Path("data/prepared/lines")
    table = pd.DataFrame({"key": [f"{index:03}" for index in range(len(labels))], "label": labels.astype(str)})
    datasets.write_split(folder, "train", pixels, table.assign(group="" if groups is None else groups))
    datasets.write_split(folder, "val", pixels[::-3], table[::-3].assign(group=""))
    counts = {split: {"0": num // 2, "1": num // 2} for split, num in (("train", len(labels)), ("val", 20), ("test", 200))}
    cards.write_data_card(folder, data_card("lines", labels=["0", "1"], packing=PACKING | {"px": pixels.shape[1]}, counts=counts))


def settings(**advice):
    write_params(Path(), PARAMS | {"advise": PARAMS["advise"] | advice})


@pytest.fixture
def project(tmp_path, monkeypatch, trained):
    """The right card."""
    monkeypatch.chdir(tmp_path)
    settings()
    write_data(*draw(60, seed=5))
    write_model(trained)


def run(shown=None):
    """What the stage writes; the rows that it shows while it runs are added to `shown`."""

    @contextmanager
    def watch(label, kind, key, settings, phases):
        yield Session(None, lambda state: None, [].append if shown is None else shown.append)

    advise.main(watch=watch)
    return json.loads(Path("metrics/advise.json").read_text())


def features_of(tensors, pixels):
    model = backbones.build(RESNET, 2)
    model.load_state_dict(tensors)
    with torch.no_grad():
        return model.eval().backbone(normalise(pixels)).double().numpy()


def neighbours_right(features, labels, k, groups=None):
    """Leave-one-out nearest neighbours by cosine similarity, one example at a time."""
    unit = features / np.linalg.norm(features, axis=1, keepdims=True)
    right = []
    for one in range(len(labels)):
        others = [i for i in range(len(labels)) if i != one and (groups is None or groups[i] != groups[one])]
        votes = Counter()
        for i in sorted(others, key=lambda i: -unit[one] @ unit[i])[:k]:
            votes[labels[i]] += max(0, unit[one] @ unit[i])
        right.append(votes.most_common(1)[0][0] == labels[one])
    return np.array(right)


def test_the_figures_equal_an_independent_computation(project, trained, capsys):
    pixels, labels = draw(60, seed=5, spread=0.2)  # near each other, so that some are wrong
    labels[:12] = 1 - labels[:12]  # wrong labels: nothing tells the classes apart wholly
    write_data(pixels, labels)
    told = run()
    features, counts = features_of(trained, pixels), Counter(labels.tolist())
    known, num = told["facts"], len(labels)

    probe = make_pipeline(StandardScaler(), LogisticRegression(C=0.1, max_iter=2000))
    folds = StratifiedKFold(5, shuffle=True, random_state=0)
    accuracy = (cross_val_predict(probe, features, labels, cv=folds) == labels).mean()
    shares = np.array(list(counts.values())) / num
    assert 0.5 < accuracy < 1
    assert known == pytest.approx(
        {
            "num_examples": num, "num_looked_at": num, "num_classes": 2, "min": min(counts.values()), "max": max(counts.values()),
            "ratio": max(counts.values()) / min(counts.values()), "effective": math.exp(-(shares * np.log(shares)).sum()),
            "chance": shares.max(), "probe_accuracy": accuracy, "probe_error": math.sqrt(accuracy * (1 - accuracy) / num),
            "logme": transferability.logme(features, labels), "h_score": transferability.h_score(features, labels),
            "drift": drift_by_hand(trained, pixels), "device": "cpu",
            "num_parameters": sum(t.numel() for name, t in trained.items() if name.startswith("backbone.")
                                  and not name.endswith(("running_mean", "running_var", "num_batches_tracked"))),
        }, abs=1e-4,
    )  # fmt: skip
    right = neighbours_right(features, labels, k=3)
    assert told["knn_accuracy"] == pytest.approx(right.mean(), abs=1e-6)
    assert 0.5 < right.mean() < 1
    assert told["choice"] == told["ranking"][0]["strategy"]
    val = probe.fit(features, labels).predict(features[::-3]) == labels[::-3]
    assert told["probe"] == {"accuracy": pytest.approx(val.mean(), abs=1e-6), "num_val": 20, "num_train": 60}
    assert told["smallest_difference"].startswith("200 test examples show a difference of ")
    said = capsys.readouterr().out
    assert f"lines from dots: 60 training examples of 2 classes ({min(counts.values())} to {max(counts.values())} each)" in said
    assert f"neighbours {right.mean():.1%}, linear probe {accuracy:.1%} (the largest class alone {shares.max():.1%})" in said
    for entry in told["ranking"]:
        assert f"  {entry['strategy']:20} {entry['expected']:.1%} expected: {entry['why']}\n" in said
    assert f"\nadvice: {told['choice']}" in said
    assert f"on the 20 validation examples the probe is right for {val.mean():.1%}: training should do better" in said
    assert told["smallest_difference"] in said


def test_what_is_shown_are_the_figures_that_are_numbers(project):
    shown = []
    told = run(shown)
    expected = {f"expected_{entry['strategy']}": entry["expected"] for entry in told["ranking"]}
    numbers = {name: value for name, value in told["facts"].items() if name != "device"}
    assert told["figures"] == numbers | expected | {"knn_accuracy": told["knn_accuracy"]}
    assert told["settings"] == PARAMS["advise"] | {"init": "dots", "data": "lines"}
    (row,) = shown
    assert row == pytest.approx(told["figures"] | {"epoch": 0, "time_ms": row["time_ms"]}, abs=1e-6)


def test_of_a_task_on_which_the_rule_was_not_measured_nothing_is_said(project, monkeypatch, capsys):
    monkeypatch.setattr(classify, "ADVISED", ())
    told = run()
    assert told["ranking"] == told["warnings"] == [] and told["choice"] == "" and told["figures"] == {}
    assert capsys.readouterr().out == (
        "lines from dots: the advisor has not been measured on the task classify, so it gives no advice.\n"
    )


def test_the_same_inputs_give_the_same_bits(project, capsys):
    run()
    first = Path("metrics/advise.json").read_bytes(), capsys.readouterr()
    run()
    assert (Path("metrics/advise.json").read_bytes(), capsys.readouterr()) == first


def test_some_images_stand_for_all(project):
    settings(num_examples=20)
    told = run()
    known = told["facts"]
    assert (known["num_examples"], known["num_looked_at"], known["max"]) == (60, 20, 30)
    assert 0.5 <= known["chance"] < 0.9, "drawn from everywhere: the first 20 are of one class"
    assert run() == told


def test_neighbours_of_the_same_group_do_not_vote(project, trained):
    pixels, labels = draw(60, seed=5)
    module = np.arange(60) // 10
    labels, groups = module % 2, [f"module {number}" for number in module]  # dark and bright modules take turns
    pixels = (pixels // 8 + 35 * module[:, None, None, None]).astype(np.uint8)
    features = features_of(trained, pixels)
    write_data(pixels, labels, groups)
    grouped = run()["knn_accuracy"]
    write_data(pixels, labels)
    alone = run()["knn_accuracy"]
    assert grouped == pytest.approx(neighbours_right(features, labels, 3, groups).mean(), abs=1e-6)
    assert alone == pytest.approx(neighbours_right(features, labels, 3).mean(), abs=1e-6)
    assert alone > grouped + 0.2


# Preprocessing.


def test_the_right_card_is_not_doubted(project, capsys):
    settings(preprocessing="error")
    told = run()
    assert told["warnings"] == [] and "WARNING" not in capsys.readouterr().err
    names = [row["name"] for row in told["statistics"]]
    assert {"card", "0 to 255", "ImageNet mean and std", "BGR"} <= set(names) and told["decided"]
    assert [row["name"] for row in told["preprocessing"]] == ["half size"], "what the statistics decide is not asked again"
    assert told["knn_accuracy"] > 0.95


def test_a_wrong_card_that_matters_is_warned_of(project, trained, capsys):
    write_model(trained, **RAW)
    told = run()
    assert told["knn_accuracy"] < 0.8
    (warning, *_) = told["warnings"]
    card, *others = told["statistics"]
    best = min(others, key=lambda row: row["divergence"])
    assert best["wins"] and best["divergence"] < 0.4 < card["divergence"]
    assert f"With {best['name']} the target's training examples are nearer" in warning
    assert f"({best['divergence']:.3f} nats per channel)" in warning and f"on the card ({card['divergence']:.3f})" in warning
    assert "source.<name>.preprocessing.mean" in warning
    assert f"WARNING, preprocessing: {warning}\n" in capsys.readouterr().err


def test_a_hop_that_got_used_to_a_wrong_card_does_not_hide_it(project, trained):
    write_model(trained, name="tiny", chain=["tiny"], **RAW)
    pixels, labels = draw(60, seed=5)
    inputs, labels = normalise(pixels, RAW), torch.from_numpy(labels)
    torch.manual_seed(0)
    model = backbones.build(RESNET, 2).train()
    optimizer = torch.optim.AdamW(model.parameters(), 0.01)
    for _ in range(40):
        torch.nn.functional.cross_entropy(model(inputs), labels).backward()
        optimizer.step()
        optimizer.zero_grad()
    write_model(model.state_dict(), chain=["tiny", "dots"], **RAW)
    told = run()
    assert told["knn_accuracy"] > 0.95, "of the hop"
    assert "source.<name>.preprocessing.mean" in told["warnings"][0]
    assert told["statistics"][0]["divergence"] > 0.4, "of its source"


def test_a_difference_below_the_margin_is_no_warning(project, trained):
    write_model(trained, **RAW)
    settings(margin=0.9999999, preprocessing="error")
    told = run()
    assert told["warnings"] == [] and any(row["wins"] for row in told["statistics"])


def test_a_wrong_card_stops_the_stage_where_that_is_wanted(project, trained, capsys):
    write_model(trained, **RAW)
    settings(preprocessing="error")
    with pytest.raises(UserError, match=r"The preprocessing looks wrong, see above\. Set advise\.preprocessing to warn"):
        run()
    assert "WARNING, preprocessing: The first normalisation layer" in capsys.readouterr().err
    assert json.loads(Path("metrics/advise.json").read_text())["warnings"], "what was measured can be looked at"


@pytest.mark.slow
def test_a_stage_that_stops_is_a_failed_run_with_its_figures(project, trained, tmp_path, monkeypatch):
    from mlflow import MlflowClient

    from stages.lib.shell.watch import watch

    monkeypatch.setenv("MLFLOW_TRACKING_URI", f"sqlite:///{tmp_path}/mlflow.db")
    monkeypatch.delenv("DVC_ROOT", raising=False)
    write_model(trained, **RAW)
    settings(preprocessing="error")
    with pytest.raises(UserError, match="looks wrong"):
        advise.main(watch=watch)
    (entry,) = MlflowClient(f"sqlite:///{tmp_path}/mlflow.db").search_runs(["1"])
    assert (entry.info.run_name, entry.info.status) == ("advise", "FAILED")
    assert entry.data.metrics["knn_accuracy"] < 0.8
    assert entry.data.params["margin"] == "0.05"


def test_a_network_that_takes_one_size_only_is_looked_at_all_the_same(project):
    torch.manual_seed(0)
    architecture = {"library": "timm", "model": "test_vit3"}
    model = backbones.build(architecture, 2)
    write_data(*draw(20, seed=5, px=160))
    write_model(model.state_dict(), architecture, px=160)
    told = run()
    assert "half size" not in [row["name"] for row in told["preprocessing"]]
    assert "BGR" in [row["name"] for row in told["preprocessing"]]
    assert told["facts"]["drift"] is None, "without BatchNorm nothing is remembered"
    assert "drift" not in told["figures"]


def test_only_what_the_network_can_train_is_advised(project):
    without_normalisation = {"library": "timm", "model": "test_nfnet"}
    write_model(backbones.build(without_normalisation, 2).state_dict(), without_normalisation)
    assert [entry["strategy"] for entry in run()["ranking"] if entry["strategy"] in ("bitfit", "norm_only")] == ["bitfit"]


# Drift.


def drift_by_hand(tensors, pixels):
    """Squared distance of mean and standard deviation in units of the remembered variance, layer by layer."""
    model = backbones.build(RESNET, 2)
    model.load_state_dict(tensors)
    seen = {}

    def look(layer, inputs):
        seen[layer] = inputs[0].double()

    for layer in model.eval().backbone.modules():
        if hasattr(layer, "running_mean"):
            layer.register_forward_pre_hook(look)
    with torch.no_grad():
        model.backbone(normalise(pixels))
    distances = []
    for layer, values in seen.items():
        variance = (layer.running_var + layer.eps).double()
        mean, deviation = values.mean((0, 2, 3)), (values.var((0, 2, 3), correction=0) + layer.eps).sqrt()
        distances.append((((mean - layer.running_mean) ** 2 + (deviation - variance.sqrt()) ** 2) / variance).mean().item())
    assert len(distances) > 5
    return np.mean(distances)


def remembering(pixels):
    """A network whose BatchNorm layers hold exactly the statistics of these images."""
    torch.manual_seed(1)
    model = backbones.build(RESNET, 2)
    for layer in model.modules():
        if hasattr(layer, "running_mean"):
            layer.momentum = None  # the mean over all batches, and there is one
    with torch.no_grad():
        model.train()(normalise(pixels))
    return model.state_dict()


def test_there_is_no_drift_for_the_images_that_were_seen_and_more_the_more_they_change(project):
    pixels, labels = draw(60, seed=5)
    write_model(remembering(pixels))

    def drift(changed):
        write_data(np.clip(changed, 0, 255).astype(np.uint8), labels)
        return run()["facts"]["drift"]

    same = drift(pixels)
    brighter, brightest = drift(pixels + 20.0), drift(pixels + 60.0)
    contrast = drift(128 + 2.0 * (pixels - 128.0))
    assert same < 1e-3
    assert 20 * same < brighter < brightest
    assert 20 * same < contrast


def test_drift_is_that_of_the_right_preprocessing_alone(project, trained):
    """The variants that are tried afterwards must not count."""
    pixels, _ = draw(60, seed=5)
    assert run()["facts"]["drift"] == pytest.approx(drift_by_hand(trained, pixels), rel=1e-4)
