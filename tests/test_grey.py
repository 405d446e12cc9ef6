"""Grey images through the whole pipeline, as a user runs it: LeNet-5 learns one kind of pictures and goes on with another."""

import base64
import copy
import io

import numpy as np
import onnxruntime
import pandas as pd
import pytest
import torch
from PIL import Image
from ruamel.yaml import YAML

from stages.lib.core import cards, datasets
from tests import systems
from tests.systems import read
from tests.tiny import PARAMS, TRAINING, Repo, new_repo, write_params

pytestmark = pytest.mark.slow
HOW = {"epochs": 12, "lr": 0.003, "head_lr": 0.003}


def params() -> dict:
    """The hop's pictures are stretched, the target's framed; the convolutions of the hop stay frozen."""
    values = copy.deepcopy(PARAMS)
    values["source"]["tiny"] |= {"architecture": {"library": "small", "model": "lenet5"}}
    values["source"]["tiny"]["preprocessing"] |= {"px": 28, "mean": [0.1307], "std": [0.3081]}
    values["datasets"]["dots"] |= {"px": 28}
    values["datasets"]["lines"] |= {"px": 28, "fit": "frame"}
    values["training"] = TRAINING | {"augment": "strong", "mixup": 0.2, "cutmix": 0.2, "head": TRAINING["head"] | {"keep": True}}
    values["strategies"]["partial"] |= HOW | {"trainable": {"freeze_layers": 2}}
    values["intermediate"]["dots"] |= HOW
    return values


@pytest.fixture(scope="session")
def grey(shared) -> Repo:
    """Through `dvc repro`."""
    return Repo(shared("grey", lambda folder: new_repo(folder / "repo", params()).run("dvc", "repro")) / "repo")


def test_every_stage_runs_and_what_was_declared_moved(grey):
    certified = systems.certified(grey)
    assert set(certified) == {"intermediate/dots", "target/dots-0", "target/tiny-0", "scratch/0"}
    assert all(verdicts == {"ok"} for verdicts in certified.values())
    before, after = (cards.read_model(grey.path / "models" / name)[0] for name in ("dots", "target/dots-0"))
    frozen = [name for name in before if name.startswith("backbone.conv")]
    assert len(frozen) == 4 and all(torch.equal(before[name], after[name]) for name in frozen)
    assert not torch.equal(before["backbone.fc1.weight"], after["backbone.fc1.weight"])
    assert "0 findings" in grey.run("python", "-m", "stages", "audit")


def test_images_are_packed_with_one_channel_and_framed(grey):
    stretched, framed = (datasets.read_split(grey.path / "data/prepared" / name, "train").inputs for name in ("dots", "lines"))
    assert stretched.shape[1:] == framed.shape[1:] == (28, 28, 1)
    inside = np.zeros((28, 28), bool)
    inside[4:24, 4:24] = True
    assert not framed[:, ~inside].any() and framed[:, inside].mean() > 50 and stretched[:, ~inside].mean() > 50


def test_the_advisor_compares_the_normalisations(grey):
    tried = [row["name"] for row in read(grey, "metrics/advise.json")["preprocessing"]]
    assert "ImageNet mean and std" in tried and "BGR" not in tried


def test_pictures_are_grey_and_not_in_false_colours(grey):
    pixels = np.asarray(Image.open(grey.path / "data/prepared/lines/samples.png").convert("RGB")).astype(int)
    assert pixels.shape[0] > 50 and (np.ptp(pixels, axis=2) < 8).mean() > 0.99
    shown = systems.Page(grey.path / "metrics/evaluate/target-dots-0/mistakes.html").addresses
    plain, heated = (Image.open(io.BytesIO(base64.b64decode(each.partition(",")[2]))) for each in shown[:2])
    assert (plain.mode, heated.mode) == ("L", "RGB") and plain.size == heated.size
    page = systems.Page(grey.path / "metrics/report.html")
    assert page.tags.count("img") > 3 and page.foreign == []


def test_what_is_predicted_and_exported_is_what_was_evaluated(grey, tmp_path, call):
    told = pd.read_csv(grey.path / "metrics/evaluate/target-dots-0/predictions.csv")
    columns = ["p_cross", "p_frame"]
    files = [str(grey.path / "images/lines" / key) for key in told["key"]]
    call(grey, "predict", *files, "--model", "models/target/dots-0", "--csv", str(tmp_path / "out.csv"))
    np.testing.assert_allclose(pd.read_csv(tmp_path / "out.csv")[columns], told[columns], atol=1e-5)
    images = np.array(datasets.read_split(grey.path / "data/prepared/lines", "test").inputs)
    for suffix in (".onnx", ".pt2"):
        call(grey, "export", str(tmp_path / f"model{suffix}"), "--model", "models/target/dots-0")
    session = onnxruntime.InferenceSession(tmp_path / "model.onnx", providers=["CPUExecutionProvider"])
    answers = session.run(None, {"inputs": images})[0]
    np.testing.assert_allclose(answers, told[columns], atol=1e-4)
    answers, _ = torch.export.load(tmp_path / "model.pt2").module()(torch.from_numpy(images))
    np.testing.assert_allclose(answers.detach().numpy(), told[columns], atol=1e-4)


def test_grey_pixels_are_served_over_http(grey, tmp_path, call):
    files = sorted((grey.path / "images/lines").rglob("*.png"))[::8]
    call(grey, "predict", *map(str, files), "--csv", str(tmp_path / "out.csv"))
    pixels = [np.asarray(Image.open(file).convert("L")) for file in files]
    with systems.serving(grey, tmp_path) as ask:
        answered = ask("image", [each.tolist() for each in pixels[1:]] + [pixels[0][..., None].tolist()])
    expected = pd.read_csv(tmp_path / "out.csv")[["p_cross", "p_frame"]].to_numpy()
    np.testing.assert_allclose(answered[["p_cross", "p_frame"]], np.roll(expected, -1, 0), atol=1e-5)


def test_a_network_of_colours_is_refused_before_anything_runs(grey, copy_of):
    repo = copy_of(grey)
    values = YAML(typ="safe").load(repo.path / "params.yaml")
    values["source"]["tiny"]["architecture"] = {"library": "timm", "model": "test_resnet"}
    write_params(repo.path, values)
    told = repo.run("dvc", "repro", ok=False)
    assert "source.tiny.preprocessing: mean and std have 1 channel each, but the network test_resnet takes 3" in told
