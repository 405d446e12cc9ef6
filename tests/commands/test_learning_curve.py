"""The learning curve draws fair parts, trains as the target stage does, and says in words what the numbers allow."""

import json
import subprocess
import sys
from itertools import pairwise

import numpy as np
import pandas as pd
import pytest
import torch
from matplotlib import colors
from matplotlib import pyplot as plt
from ruamel.yaml import YAML

from stages.commands import learning_curve
from stages.commands.learning_curve import draw_few, few, part, reached_with, sentence, train_on_few
from stages.lib import artifacts, params
from stages.lib.device import launch
from stages.lib.errors import UserError
from stages.lib.examples import Examples
from stages.lib.pictures import COLOURS, DARK
from stages.lib.seeds import seed_for

LABELS = np.random.default_rng(0).permutation(np.repeat([0, 1, 2], [120, 60, 20]))
SIZES = [3, 4, 7, 10, 33, 50, 100, 199, 200]


# What is drawn.


def test_a_smaller_part_is_in_every_larger_one():
    parts = [set(draw_few(LABELS, num, seed=5)) for num in SIZES]
    assert [len(each) for each in parts] == SIZES
    assert all(small < large for small, large in pairwise(parts))


@pytest.mark.parametrize("seed", [0, 1, 2])
@pytest.mark.parametrize("num", SIZES)
def test_each_class_has_its_share_and_one_at_least(num, seed):
    counts = np.bincount(LABELS[draw_few(LABELS, num, seed)], minlength=3)
    shares = num * np.array([0.6, 0.3, 0.1])
    assert (counts >= 1).all()
    assert (np.abs(counts - np.maximum(shares, 1)) <= 1.5).all()


def test_other_seeds_draw_other_examples_and_every_example_is_drawn_by_some():
    draws = [draw_few(LABELS, 20, seed) for seed in range(200)]
    assert len({tuple(draw) for draw in draws}) == 200
    assert np.array_equal(draws[3], draw_few(LABELS, 20, 3))
    often = np.bincount(np.concatenate(draws), minlength=200)  # of 20 of 200, in 200 draws: 20 times each
    assert often.min() > 4
    assert often.max() < 45


def test_of_equally_large_classes_none_is_always_preferred():
    extra = [np.bincount(np.repeat([0, 1], 10)[draw_few(np.repeat([0, 1], 10), 5, seed)]).argmax() for seed in range(40)]
    assert 8 < sum(extra) < 32


def test_validation_shrinks_in_the_same_proportion():
    train, val = torch.from_numpy(LABELS), torch.from_numpy(LABELS[:50])
    sizes = [tuple(map(len, few(train, val, num, seed=1))) for num in (3, 20, 100, 200)]
    assert sizes == [(3, 3), (20, 5), (100, 25), (200, 50)]
    for rows, labels in zip(few(train, val, 3, seed=1), (train, val), strict=True):
        assert sorted(labels[rows].tolist()) == [0, 1, 2]
    assert all(np.array_equal(rows, np.arange(len(rows))) for rows in few(train, val, 200, seed=1)), "all, in their order"


@pytest.mark.parametrize("num", [0, 2, 201])
def test_a_number_that_cannot_be_drawn_is_told_with_what_is_allowed(num):
    with pytest.raises(UserError, match=f"{num} examples .* 200 for training.* 3 classes .* Allowed: 3 to 200"):
        draw_few(LABELS, num, 0)


def test_part_gives_the_inputs_and_labels_of_its_rows():
    everything = Examples(lambda indices, level, draws: (indices * 10, level, draws), torch.arange(100, 200), 3)
    some = part(everything, np.array([4, 7, 90]))
    assert some.labels.tolist() == [104, 107, 190]
    inputs, level, draws = some.inputs(torch.tensor([2, 0]), "light", "given")
    assert (inputs.tolist(), level, draws, some.num_draws) == ([900, 40], "light", "given", 3)


# What it means.


def test_between_two_points_the_number_is_linear_in_its_logarithm():
    assert reached_with([100, 400], [0.6, 0.8], 0.7) == pytest.approx(200)
    random = np.random.default_rng(0)
    numbers, accuracy = np.array([20, 50, 130, 500]), np.sort(random.random(4))
    for wanted in np.linspace(accuracy[0] + 1e-3, accuracy[-1], 20):
        assert reached_with(numbers, accuracy, wanted) == pytest.approx(np.exp(np.interp(wanted, accuracy, np.log(numbers))))


def test_a_dip_by_chance_is_smoothed_away():
    numbers, accuracy = [10, 20, 40, 80], [0.5, 0.8, 0.6, 0.9]  # the two in the middle count as 0.7
    assert reached_with(numbers, accuracy, 0.7) == pytest.approx(20)
    assert reached_with(numbers, accuracy, 0.8) == pytest.approx(40 * 2**0.5)


def test_what_the_first_point_reaches_and_what_none_does():
    assert reached_with([10, 20], [0.5, 0.8], 0.5) == 10
    assert reached_with([10, 20], [0.5, 0.8], 0.1) == 10
    assert reached_with([10, 20], [0.5, 0.8], 0.81) == np.inf


def told(arm, control, examples=(100, 200, 400, 800), seeds=3, least=0.02):
    """The sentence for made-up curves; differences below `least` are chance."""
    rows = [("partial", num, seeds, value, 0, 1) for num, value in zip(examples, arm, strict=True)]
    rows += [("scratch", num, seeds, value, 0, 1) for num, value in zip(examples, control, strict=True)]
    table = pd.DataFrame(rows, columns=["arm", "examples", "seeds", "accuracy", "lower", "upper"])
    arm, control = dict(zip(examples, arm, strict=True)), dict(zip(examples, control, strict=True))

    def against(num, num_control):
        difference = arm[num] - control[num_control]
        verdict = "helps" if difference >= least else "hurts" if difference <= -least else "no difference shown"
        return {"verdict": verdict}

    return sentence("partial", table, against)


def test_what_the_control_reaches_later_has_a_price_in_labels():
    assert told([0.6, 0.7, 0.8, 0.9], [0.5, 0.6, 0.7, 0.8]) == (
        "Pretraining is worth about 400 labels here: with 400 examples partial reaches 80.0 %, which random weights reach with "
        "about 800."
    )  # with 800 they never come so far, so 400 is the last that has a price
    assert told([0.55, 0.6], [0.5, 0.6], (100, 200)).startswith(
        "Pretraining is worth about 41 labels here: with 100 examples partial reaches 55.0 %, which random weights reach with "
        "about 141."
    )


def test_where_the_curves_meet_it_is_told():
    assert told([0.7, 0.75, 0.8, 0.8], [0.5, 0.6, 0.7, 0.8]) == (
        "Pretraining is worth about 400 labels here: with 400 examples partial reaches 80.0 %, which random weights reach with "
        "about 800. With 800 examples no difference is shown (80.0 % and 80.0 %)."
    )


def test_what_the_control_never_reaches_is_worth_more_than_all_it_had():
    assert told([0.85, 0.9, 0.9, 0.95], [0.5, 0.5, 0.6, 0.7]) == (
        "Pretraining is worth more than 700 labels here: with 100 examples partial reaches 85.0 %, and random weights only "
        "70.0 % with 800."
    )


def test_a_bound_that_chance_may_explain_says_so():
    assert told([0.71, 0.9, 0.9, 0.95], [0.5, 0.5, 0.6, 0.7]) == (
        "Pretraining is worth about 700 labels or more here: with 100 examples partial reaches 71.0 %, and random weights only "
        "70.0 % with 800, a difference that chance may explain."
    )


def test_what_is_better_with_all_examples_alone_has_no_number():
    assert told([0.5, 0.5, 0.5, 0.9], [0.5, 0.5, 0.5, 0.7]) == (
        "Pretraining helps here, but how many labels it is worth is not known: with 800 examples partial reaches 90.0 %, and "
        "random weights 70.0 % with as many, the most that were tried."
    )


def test_what_the_control_reaches_as_early_is_not_shown_to_be_worth_a_label():
    none = "Pretraining is not shown to be worth any label here: with 800 examples partial reaches "
    assert told([0.5, 0.6, 0.7, 0.8], [0.5, 0.6, 0.7, 0.8]) == f"{none}80.0 %, which random weights reach with as many."
    assert told([0.4, 0.5, 0.6, 0.7], [0.5, 0.6, 0.7, 0.8]) == (
        f"{none}70.0 %, which random weights reach with about 400. They are better here, beyond chance."
    )
    assert told([0.4, 0.4, 0.4, 0.4], [0.5, 0.6, 0.7, 0.8]).startswith(
        f"{none}40.0 %, which random weights reach with 100 or fewer."
    )
    assert told([0.5, 0.6, 0.7, 0.81], [0.5, 0.6, 0.7, 0.8]) == (
        f"{none}81.0 %, and random weights 80.0 %, a difference that chance may explain."
    )


def test_a_gain_that_chance_may_explain_has_no_price():
    words = told([0.51, 0.61, 0.71, 0.8], [0.5, 0.6, 0.7, 0.8])
    assert words.startswith("Pretraining is not shown to be worth any label here: with 800 examples")
    assert told([0.51, 0.61, 0.71, 0.8], [0.5, 0.6, 0.7, 0.8], least=0.005).startswith("Pretraining is worth about 29 labels")


def test_one_seed_is_told():
    assert "worth about 400 labels here (by one seed only): with" in told([0.6, 0.7, 0.8, 0.9], [0.5, 0.6, 0.7, 0.8], seeds=1)
    assert "not shown to be worth any label here (by one seed only): with" in told([0.5] * 4, [0.5] * 4, seeds=1)


def test_one_label_is_singular_and_thousands_have_a_comma():
    assert told([0.55, 0.6], [0.5, 0.6], (2, 4)).startswith("Pretraining is worth about 1 label here: ")
    assert (
        "about 2,000 labels here: with 2,000 examples partial reaches 70.0 %, which random weights reach with about 4,000."
        in (told([0.7, 0.8], [0.6, 0.7], (2000, 4000)))
    )


# The command, in a small repository that has run.


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
    assert list(table.columns) == ["arm", "examples", "seeds", "accuracy", "lower", "upper"]
    assert table[["arm", "examples", "seeds"]].to_numpy().tolist() == [
        [arm, num, 1] for arm in ("feature_extraction", "partial", "scratch") for num in (18, 24)
    ]
    assert (table.lower <= table.accuracy).all()
    assert (table.accuracy <= table.upper).all()

    for arm, model in (("partial", "target-dots-0"), ("scratch", "scratch-0")):  # all examples: what the pipeline has measured
        report = json.loads((repo.path / f"metrics/evaluate/{model}/report.json").read_text())
        measured = table[(table.arm == arm) & (table.examples == 24)].accuracy.item()
        assert measured == pytest.approx(report["metrics"]["accuracy"]["value"], abs=1e-6)

    summary = (out / "summary.md").read_text()
    assert summary.startswith("# Learning curve: tiny -> dots -> lines\n")
    assert "| training examples | feature_extraction | partial | random weights |" in summary
    cells = [f"{100 * row.accuracy:.1f} ({100 * row.lower:.1f} to {100 * row.upper:.1f})" for row in table.itertuples()]
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
    p = params.load("seed", "strategies", "training", "checks", "device", "inits", "scratch")
    data = repo.path / "data/prepared/lines"
    data_card, fabric = artifacts.read_json(data / "card.json"), launch(**p.device.model_dump())
    arms = learning_curve.read_arms(fabric, p, ["partial"], data, data_card)
    for name, model in (("partial", "target/dots-0"), ("scratch", "scratch/0")):
        arm = arms[name]
        fitted = train_on_few(
            fabric, arm.tensors, arm.card, data_card, arm.train, arm.val,
            num=24, seed=seed_for(p.seed, "target", 0), checks=p.checks.model_dump(), **arm.how,
        )  # fmt: skip
        tensors, card = artifacts.read_model(repo.path / "models" / model)
        assert fitted.tensors.keys() == tensors.keys()
        assert all(torch.equal(fitted.tensors[tensor], tensors[tensor]) for tensor in tensors)
        assert fitted.card == {"name": f"{name} on 24 examples"} | {
            key: card[key] for key in ("architecture", "classes", "preprocessing")
        }


def test_what_is_left_open_comes_from_params():
    assert vars(learning_curve.arguments([])) == {"strategies": None, "examples": None, "seeds": None}
    assert learning_curve.possible(None, {"cross": 12, "frame": 12}) == [2, 3, 6, 12, 24]
    assert learning_curve.possible(None, {"cross": 400, "frame": 600}) == [62, 125, 250, 500, 1000]


def test_auto_is_the_strategy_that_was_advised(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    blocks = dict.fromkeys(["auto", "full", "partial"])
    with pytest.raises(UserError, match="dvc repro"):
        learning_curve.resolved(["auto"], blocks)
    artifacts.write_json(tmp_path / "metrics/recipe.json", {"strategy": "full"})
    assert learning_curve.resolved(["partial", "auto", "full"], blocks) == ["partial", "full"]


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
    assert "usage: python -m stages.commands.learning_curve" in capsys.readouterr().err


@pytest.mark.parametrize("missing", ["models/dots/card.json", "models/dots/weights.safetensors", "models/tiny/card.json",
                                     "data/prepared/lines/card.json", "data/prepared/lines/val.npy"])  # fmt: skip
def test_a_pipeline_that_has_not_run_is_told_what_to_run(repo, missing):
    (repo.path / missing).unlink()
    with pytest.raises(UserError, match=r"dvc repro"):
        learning_curve.main(["--examples", "12"])


def test_data_that_were_resized_for_other_weights_are_refused(repo):
    card = artifacts.read_json(repo.path / "models/dots/card.json")
    card["preprocessing"]["interpolation"] = "bicubic"
    artifacts.write_json(repo.path / "models/dots/card.json", card)
    with pytest.raises(UserError, match=r"interpolation bilinear .* bicubic"):
        learning_curve.main(["--examples", "12"])


def test_a_training_that_fails_is_named_and_the_program_ends_without_a_traceback(repo):
    values = YAML(typ="safe").load(repo.path / "params.yaml")
    values["scratch"]["lr"] = 1e-30  # no step is large enough to move a weight
    YAML(typ="safe").dump(values, repo.path / "params.yaml")
    command = [sys.executable, "-m", "stages.commands.learning_curve", "--strategies", "feature_extraction", "--examples", "12"]
    done = subprocess.run(command, env=repo.environment, capture_output=True, text=True)
    assert done.returncode == 1
    assert "error: random weights, 12 examples, seed 0: " in done.stderr
    assert "Traceback" not in done.stderr
