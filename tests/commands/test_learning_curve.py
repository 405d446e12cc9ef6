"""The learning curve trains as the target stage does, and writes what it found."""

import copy
import json

import numpy as np
import pandas as pd
import pytest
import torch
from matplotlib import colors
from matplotlib import pyplot as plt

from stages.commands import learning_curve
from stages.lib.core import cards
from stages.lib.core.seeds import seed_for
from stages.lib.errors import UserError
from stages.lib.learning_curve.arms import read_arms, resolved
from stages.lib.learning_curve.train import train_on_subset
from stages.lib.networks.device import launch
from stages.lib.params import read as params
from stages.lib.plots.style import COLOURS, DARK
from tests.tiny import PARAMS, write_params


@pytest.fixture
def repo(finished, copy_of, monkeypatch):
    copied = copy_of(finished)
    monkeypatch.chdir(copied.path)
    num_threads = torch.get_num_threads()
    torch.set_num_threads(1)  # as the stages of the small repository ran, whose bits are compared
    yield copied
    torch.set_num_threads(num_threads)


def test_the_command_writes_what_it_found(repo, capsys):
    learning_curve.main(["--strategies", "feature_extraction,partial", "--examples", "24,18", "--seeds", "0"])
    out = repo.path / "metrics/learning_curve"
    table = pd.read_csv(out / "curve.csv")
    assert list(table.columns) == ["arm", "examples", "seeds", "value", "lower", "upper"]
    assert table[["arm", "examples", "seeds"]].to_numpy().tolist() == [
        [arm, num, 1] for arm in ("feature_extraction", "partial", "scratch") for num in (18, 24)
    ]
    assert (table.lower <= table.value).all()
    assert (table.value <= table.upper).all()

    for arm, model in (("partial", "target-dots-0"), ("scratch", "scratch-0")):  # all examples: what the pipeline has measured
        report = json.loads((repo.path / f"metrics/evaluate/{model}/report.json").read_text())
        measured = table[(table.arm == arm) & (table.examples == 24)].value.item()
        assert measured == pytest.approx(report["metrics"]["accuracy"]["value"], abs=1e-6)

    summary = (out / "summary.md").read_text()
    assert summary.startswith("# Learning curve: tiny -> dots -> lines\n")
    assert "| training examples | feature_extraction | partial | random weights |" in summary
    cells = [f"{100 * row.value:.1f} % ({100 * row.lower:.1f} % to {100 * row.upper:.1f} %)" for row in table.itertuples()]
    assert f"| 18 | {cells[0]} | {cells[2]} | {cells[4]} |" in summary
    assert "One seed" in summary
    printed = capsys.readouterr().out.splitlines()
    assert [line.startswith("Pretraining") for line in printed] == [True, True, False]
    assert all(f"- **{line}**" in summary for line in printed[:2])

    pixels = (plt.imread(out / "curve.png")[:, :, :3] * 255).round()
    assert pixels.shape[1] == 700
    for colour in (COLOURS[0], COLOURS[1], DARK):
        assert (pixels == np.array(colors.to_rgb(colour)) * 255).all(axis=2).any(), colour


def test_with_all_examples_the_models_are_those_of_the_pipeline_bit_for_bit(repo):
    p = params.load("seed", "strategies", "training", "checks", "device", "target", "inits", "scratch")
    packed, fabric = cards.read_data_card(repo.path / "data/prepared/lines"), launch(**p.device.model_dump())
    arms = read_arms(fabric, p, ["partial"], packed)
    for name, model in (("partial", "target/dots-0"), ("scratch", "scratch/0")):
        arm = arms[name]
        fitted = train_on_subset(
            fabric, arm.tensors, arm.start, packed, arm.data, arm.names, task="classify", num=24, strategy=name,
            hyperparameters=arm.hyperparameters, options=arm.options, loss_jump=p.checks.loss_jump,
            seed=seed_for(p.seed, "target", 0),
        )  # fmt: skip
        tensors, card = cards.read_model(repo.path / "models" / model)
        assert fitted.tensors.keys() == tensors.keys()
        assert all(torch.equal(fitted.tensors[tensor], tensors[tensor]) for tensor in tensors)
        assert fitted.card.name == f"{name} on 24 examples"
        for field in ("architecture", "output_names", "preprocessing", "task", "modality"):
            assert getattr(fitted.card, field) == getattr(card, field), field


def test_what_is_left_open_comes_from_params():
    assert vars(learning_curve.arguments([])) == {"strategies": None, "examples": None, "seeds": None}
    assert learning_curve.possible(None, {"cross": 12, "frame": 12}) == [2, 3, 6, 12, 24]
    assert learning_curve.possible(None, {"cross": 400, "frame": 600}) == [62, 125, 250, 500, 1000]


def test_auto_is_the_strategy_that_was_advised(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    blocks = dict.fromkeys(["auto", "full", "partial"])
    with pytest.raises(UserError, match="dvc repro"):
        resolved(["auto"], blocks)
    ranking = [{"strategy": name} for name in ("knn", "full", "partial")]  # for knn there is no block
    cards.write_json(tmp_path / "metrics/advise.json", {"ranking": ranking})
    assert resolved(["partial", "auto", "full"], blocks) == ["partial", "full"]


def test_a_strategy_that_adapts_has_no_curve():
    with pytest.raises(UserError, match=r"--strategies: mcc adapts to the unlabelled inputs of another domain"):
        resolved(["full", "mcc"], dict.fromkeys(["full", "mcc"]))


@pytest.mark.parametrize(
    ("words", "says"),
    [
        ("--strategies partail", r"no block 'partail'.* Did you mean 'partial'"),
        ("--strategies full,scratch", r"scratch is the control"),
        ("--examples 1,12", r"1 examples cannot be drawn: there are 24 .* Allowed: 2 to 24"),
        ("--examples 12,25", r"25 examples cannot be drawn: .* Allowed: 2 to 24"),
    ],
)
def test_a_wrong_word_is_answered_before_any_training(repo, words, says):
    with pytest.raises(UserError, match=says):
        learning_curve.main(words.split())
    assert not (repo.path / "metrics/learning_curve").exists()


@pytest.mark.parametrize("words", ["--examples many", "--seeds -1", "--seeds=-1", "--example"])
def test_what_is_no_number_is_answered_with_the_usage(words, capsys):
    with pytest.raises(SystemExit) as stopped:
        learning_curve.main(words.split())
    assert stopped.value.code == 2
    assert "usage: python -m stages learning_curve" in capsys.readouterr().err


@pytest.mark.parametrize("missing", ["models/dots/card.json", "models/dots/weights.safetensors", "models/tiny/card.json",
                                     "data/prepared/lines/card.json", "data/prepared/lines/val/inputs.npy"])  # fmt: skip
def test_a_pipeline_that_has_not_run_is_told_what_to_run(repo, missing):
    (repo.path / missing).unlink()
    with pytest.raises(UserError, match=r"dvc repro"):
        learning_curve.main(["--examples", "12"])


def test_data_that_were_resized_for_other_weights_are_refused(repo):
    card = cards.read_json(repo.path / "models/dots/card.json")
    card["preprocessing"]["interpolation"] = "bicubic"
    cards.write_json(repo.path / "models/dots/card.json", card)
    with pytest.raises(UserError, match=r"interpolation bilinear .* bicubic"):
        learning_curve.main(["--examples", "12"])


def test_a_training_that_fails_is_named_and_the_program_ends_without_a_traceback(repo, call):
    values = copy.deepcopy(PARAMS)
    values["scratch"]["lr"] = 1e-30  # no step is large enough to move a weight
    write_params(repo.path, values)
    output = call(repo, "learning_curve", "--strategies", "feature_extraction", "--examples", "12", ok=False)
    assert "error: random weights, 12 examples, seed 0: " in output
