"""A hop that adapts to another domain trains to the same bits whatever the labels of that domain are, and without them."""

import json
from contextlib import contextmanager

import numpy as np
import pandas as pd
import pytest

from stages.lib.core import cards, datasets, runs
from stages.lib.errors import UserError
from stages.lib.params.schema import Checks, Device
from stages.lib.training import hop
from stages.lib.training.recipe import Recipe
from tests.lib.training.whole import HYPERPARAMETERS
from tests.tiny import CLASSES, HOW, PACKING, PARAMS, data_card, model_card, network, options, shades


@contextmanager
def alone(*given):
    yield runs.Session(None, lambda state: None, lambda row: None)


def write_domain(name, seed, labels=CLASSES, packing=PACKING):
    """Prepared images of one domain, without a test split."""
    folder, digests = runs.prepared(name), {}
    for split, num in (("train", 16), ("val", 8)):
        table = pd.DataFrame({"key": range(num), "label": [labels[row % 2] for row in range(num)], "group": ""})
        datasets.write_split(folder, split, shades(num, packing["px"], seed + num), table)
        digests |= {f"{split}/{file}": cards.sha256(folder / split / file) for file in ("inputs.npy", "table.csv")}
    cards.write_data_card(folder, data_card(name, labels=sorted(labels), packing=packing, sha256=digests))


@pytest.fixture
def project(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    write_domain("photo", 0)
    write_domain("sketch", 1000)
    start = model_card("tiny", kind="source", chain=["tiny"], task=None, preprocessing=HOW)
    tensors = {name: tensor for name, tensor in network().state_dict().items() if not name.startswith("head.")}
    cards.write_model(runs.starting_point("tiny"), tensors, start)


def trained(strategy):
    """Run the hop; its weights and all that it says about them, but for the hash of what it depends on."""
    packing = cards.read_data_card(runs.prepared("sketch")).packing
    recipe = Recipe(strategy=strategy, task="classify", hyperparameters=HYPERPARAMETERS[strategy] | {"trainable": "all"},
                    options=options(), unlabelled="sketch", packing=packing, code="")  # fmt: skip
    training = runs.target("tiny", 0, "photo")
    hop.run(
        training, recipe, start=runs.starting_point("tiny"), from_random=False, checks=Checks.model_validate(PARAMS["checks"]),
        device=Device.model_validate(PARAMS["device"]), seed=3, watch=alone,
    )  # fmt: skip
    files = [*training.model.iterdir(), *training.metrics.iterdir()]
    return {path.name: path.read_bytes() for path in files}


@pytest.mark.parametrize("strategy", ["dann", "mcc", "coral"])
def test_the_labels_of_the_other_domain_are_never_read(project, strategy):
    """Shuffled, and then deleted: the same weights, the same tables, and a stopped training would go on (the same key)."""
    first = trained(strategy)
    assert {"weights.safetensors", "answers.csv", "domains.csv", "domain_points.csv", "history.csv"} <= first.keys()
    tables = [runs.prepared("sketch") / split / "table.csv" for split in ("train", "val")]
    for table in tables:
        rows = pd.read_csv(table)
        order = np.random.default_rng(0).permutation(len(rows))
        rows.assign(label=rows["label"].to_numpy()[order]).to_csv(table, index=False)
    card = cards.read_data_card(runs.prepared("sketch"))
    other = {name: digest if "inputs" in name else "other" for name, digest in card.sha256.items()}
    cards.write_data_card(runs.prepared("sketch"), card.model_copy(update={"sha256": other, "counts": {"train": {"cross": 16}}}))
    assert trained(strategy) == first
    for table in tables:
        table.unlink()
    assert trained(strategy) == first


def test_a_discriminator_is_in_the_certificate_and_not_in_the_model(project):
    first = trained("dann")
    tensors, card = cards.read_model(runs.target_model("tiny-0"))
    assert set(tensors) == set(network().state_dict()) and card.data == "photo"
    proof = pd.read_csv(runs.METRICS / "target/tiny-0/certificate.csv")
    beside = proof[proof.declared == "not shipped"]
    assert set(beside.tensor) == {f"penalty.layers.{each}" for each in ("0.weight", "0.bias", "2.weight", "2.bias")}
    assert beside.moved.all() and json.loads(first["run.json"])["settings"]["unlabelled"] == "sketch"


def test_the_model_is_made_for_the_domain_that_it_is_tested_on(project):
    """Its card says how inputs are to be packed: as those that it adapted to, which may be framed in another way."""
    write_domain("sketch", 1000, packing=PACKING | {"fit": "crop"})
    trained("mcc")
    assert cards.read_model_card(runs.target_model("tiny-0")).preprocessing["fit"] == "crop"
    write_domain("sketch", 1000, packing=PACKING | {"interpolation": "nearest"})
    with pytest.raises(UserError, match=r"sketch was packed with interpolation nearest"):
        trained("mcc")


def test_mistakes_are_named_before_training(project):
    write_domain("sketch", 0)
    with pytest.raises(UserError, match=r"sketch holds the same inputs as photo: an unlabelled set that is the labelled one"):
        trained("mcc")
    write_domain("sketch", 1000, labels=("cross", "star"))
    with pytest.raises(UserError, match=r"only in photo: frame; only in sketch: star"):
        trained("mcc")
    assert not runs.target_model("tiny-0").exists()
