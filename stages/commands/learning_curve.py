"""How many labels pretraining is worth: the target trained on fewer and fewer of its images, from the proposal and from
random weights.

    python -m stages.commands.learning_curve --strategies partial,full --examples 25,50,100,250,500 --seeds 0,1,2

Needs the data and the starting points (`dvc repro`); trains in memory, on one device, and writes metrics/learning_curve.
The test split is opened through stages.evaluate. Its figures choose nothing here: each training keeps its epoch by its own
validation images. Whoever picks a strategy by them has picked it on the test.
"""

import argparse
import sys
from functools import partial
from itertools import product
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import pandas as pd
import torch
from stages.lib.command import in_words
from stages.lib.pictures import COLOURS, DARK, STYLE, plt
from stages.lib.worth import CONTROL, shown
from tqdm import tqdm

from stages.evaluate import predictions
from stages.lib import artifacts, few, hop, images, statistics, worth
from stages.lib.core import params, plugins
from stages.lib.core.contracts import Examples
from stages.lib.core.seeds import seed_for
from stages.lib.errors import UserError
from stages.lib.networks.device import launch
from stages.recipe import advised

OUT = Path("metrics/learning_curve")
HALVINGS = 4  # of the training images, where --examples does not say


class Arm(NamedTuple):
    """One curve: what its trainings have in common."""

    tensors: dict[str, torch.Tensor] | None  # of the starting point; None for random weights
    card: dict  # of the starting point
    train: Examples  # all of them
    val: Examples
    how: dict[str, Any]  # strategy, knobs, training


def main(words: list[str]) -> None:
    asked = arguments(words)
    p = params.load("seed", "strategy", "strategies", "training", "checks", "device", "target", "inits", "seeds", "scratch",
                    "evaluate", "compare")  # fmt: skip
    data = Path("data/prepared") / p.target.data
    data_card = artifacts.read_json(data / "card.json")
    seeds = asked.seeds or p.seeds
    examples = possible(asked.examples, data_card["counts"]["train"])
    fabric = launch(**p.device.model_dump() | {"devices": 1, "num_nodes": 1})
    arms = read_arms(fabric, p, resolved(asked.strategies or [p.strategy], p.strategies), data, data_card)

    probabilities: dict[tuple[str, int], list[np.ndarray]] = {}
    for num, seed, name in tqdm(list(product(examples, seeds, arms)), "trainings", disable=None):
        arm = arms[name]
        try:
            fitted = few.train_on_few(
                fabric, arm.tensors, arm.card, data_card, arm.train, arm.val,
                num=num, seed=seed_for(p.seed, "target", seed), loss_jump=p.checks.loss_jump, **arm.how,
            )  # fmt: skip
        except UserError as error:
            raise UserError(
                f"{shown(name)}, {num} examples, seed {seed}: {error}\nOr leave these examples or this strategy out."
            ) from None
        for warning in fitted.warnings:
            tqdm.write(f"WARNING, {name}, {num} examples, seed {seed}: {warning}", file=sys.stderr)
        answers, test = predictions(fitted.tensors, fitted.card, data, p)
        probabilities.setdefault((name, num), []).append(answers)

    answers = {point: np.stack(seeds).astype(np.float64) for point, seeds in probabilities.items()}
    settings = p.compare.model_dump(include={"num_resamples", "confidence"})
    table = curve(answers, test, settings)
    told = [
        worth.sentence(name, table, *(partial(ask, answers, test, settings, name) for ask in (against, interval_of_labels)))
        for name in arms
        if name != CONTROL
    ]
    OUT.mkdir(parents=True, exist_ok=True)
    table.round(6).to_csv(OUT / "curve.csv", index=False)
    draw(OUT / "curve.png", table, p.target.data, p.compare.confidence)
    chain = artifacts.read_json(Path("models") / p.inits[0] / "card.json")["chain"]
    (OUT / "summary.md").write_text(worth.summary(table, told, chain, p.target.data, seeds, len(test.keys), p.compare.confidence))
    print(*told, f"See {OUT}/summary.md and curve.png.", sep="\n")


def arguments(words: list[str]) -> argparse.Namespace:
    """The command line: strategies, examples and seeds, each None where it is left open."""

    def names(text: str) -> list[str]:
        return text.split(",")

    def numbers(text: str) -> list[int]:
        found = sorted({int(number) for number in text.split(",")})
        if found[0] < 0:
            raise ValueError
        return found

    numbers.__name__ = "list of numbers (25,50,100)"  # argparse puts it into its message
    parser = argparse.ArgumentParser("python -m stages.commands.learning_curve", description=__doc__.partition("\n\n")[0])
    parser.add_argument("--strategies", type=names, help="blocks of params.yaml; default: the chosen one")
    parser.add_argument("--examples", type=numbers, help="training images; default: all of them, and halved four times")
    parser.add_argument("--seeds", type=numbers, help="default: those of params.yaml")
    return parser.parse_args(words)


def possible(examples: list[int] | None, counts: dict[str, int]) -> list[int]:
    """Numbers of training examples that can be drawn; where none are given, all and their halvings.

    Args:
        counts: training examples by class.

    Raises:
        UserError: one of the given numbers is too small or too large.
    """
    total, least = sum(counts.values()), len(counts)
    if examples is None:
        return sorted({max(least, round(total / 2**power)) for power in range(HALVINGS + 1)})
    for num in examples:
        few.require_possible(num, total, least)
    return examples


def resolved(names: list[str], blocks: dict) -> list[str]:
    """Strategies by their own names: auto is the one that was advised.

    Raises:
        UserError: no block has this name, or it is that of the control.
    """
    if CONTROL in names:
        raise UserError(f"--strategies: {CONTROL} is the control, which is trained in any case; leave it out.")
    for name in names:
        params.block(blocks, "strategies", name)
    return list(dict.fromkeys(advised(blocks) if name == "auto" else name for name in names))


def read_arms(fabric, p, strategies: list[str], data: Path, data_card: dict) -> dict[str, Arm]:
    """A curve for each strategy, all from the proposal, and the control."""
    blocks = {name: p.strategies[name] for name in strategies} | {CONTROL: p.scratch}
    starts = {name: Path("models") / (p.scratch.like if name == CONTROL else p.inits[0]) for name in blocks}
    tensors = artifacts.read_model(Path("models") / p.inits[0])[0]
    arms = {}
    for name, block in blocks.items():
        card = artifacts.read_json(starts[name] / "card.json")
        hop.require_same_geometry(data, data_card, starts[name], card)
        packed = (artifacts.read_split(data, split) for split in ("train", "val"))
        splits = (images.examples(split, card["preprocessing"], fabric.device) for split in packed)
        how = {"strategy": name, "knobs": plugins.knobs(block, plugins.load("strategies", name)),
               "training": plugins.training(p.training, block)}  # fmt: skip
        arms[name] = Arm(None if name == CONTROL else tensors, card, *splits, how)
    return arms


def curve(answers: dict[tuple[str, int], np.ndarray], test: artifacts.Split, settings: dict[str, Any]) -> pd.DataFrame:
    """Accuracy of each arm with each number of examples, as curve.csv holds it.

    Args:
        answers: probabilities (S, N, C) of the test examples by (arm, number of training examples).
        settings: num_resamples and confidence, of the bootstrap.
    """
    rows = []
    arms = list(dict.fromkeys(arm for arm, _ in answers))
    for arm, num in sorted(answers, key=lambda point: (arms.index(point[0]), point[1])):
        each = answers[arm, num]
        found = statistics.mean_over_seeds("accuracy", each, test.labels, test.groups, **settings, seed=_bootstrap_seed())
        rows.append((arm, num, len(each), found["value"], found["lower"], found["upper"]))
    return pd.DataFrame(rows, columns=["arm", "examples", "seeds", "accuracy", "lower", "upper"])


def against(answers: dict, test: artifacts.Split, settings: dict[str, Any], arm: str, num: int, num_control: int) -> dict:
    """An arm with `num` examples against the control with `num_control`, on the same test examples, paired by their seeds."""
    return statistics.paired_difference(
        "accuracy", answers[arm, num], answers[CONTROL, num_control], test.labels, test.groups, **settings, seed=_bootstrap_seed()
    )


def interval_of_labels(answers: dict, test: artifacts.Split, settings: dict[str, Any], arm: str, num: int) -> tuple[float, float]:
    """How many labels pretraining is worth by an arm with `num` examples, as stages.lib.worth reads it from each resample."""

    def resampled(arm: str, num: int) -> np.ndarray:
        return statistics.resampled_mean(
            "accuracy",
            answers[arm, num],
            test.labels,
            test.groups,
            num_resamples=settings["num_resamples"],
            seed=_bootstrap_seed(),
        )[1]

    examples = sorted(num for name, num in answers if name == CONTROL)
    control = np.stack([resampled(CONTROL, each) for each in examples], axis=1)
    return worth.interval_of_labels(examples, num, resampled(arm, num), control, settings["confidence"])


def _bootstrap_seed() -> int:
    return seed_for(0, "learning_curve", "bootstrap")  # not the experiment's: all are measured on the same resamples


def draw(path: Path, table: pd.DataFrame, data: str, confidence: float) -> None:
    """Accuracy against the number of examples, a line and a band for each arm.

    Args:
        table: as `curve` gives it.
    """
    with plt.rc_context(STYLE):
        figure, axes = plt.subplots(figsize=(7, 4.2), layout="constrained")
        for index, (arm, rows) in enumerate(table.groupby("arm", sort=False)):
            colour = DARK if arm == CONTROL else COLOURS[index % len(COLOURS)]
            line = "o--" if arm == CONTROL else "o-"
            axes.fill_between(rows.examples, 100 * rows.lower, 100 * rows.upper, color=colour, alpha=0.13, linewidth=0)
            axes.plot(rows.examples, 100 * rows.accuracy, line, color=colour, markersize=5, label=shown(arm))
        numbers = sorted(set(table.examples))
        axes.set_xscale("log")
        axes.set_xticks(numbers, [f"{num:,}" for num in numbers])
        axes.minorticks_off()
        axes.set(title=f"Test accuracy on {data}, %, with {confidence:.0%} interval", xlabel="training examples (logarithmic)")
        figure.legend(loc="outside lower center", ncols=4, handlelength=3)
        figure.get_layout_engine().set(w_pad=0.1, h_pad=0.1)
        figure.savefig(path, dpi=100, metadata={"Software": None})  # the version of matplotlib would change the bytes
        plt.close(figure)


if __name__ == "__main__":
    with in_words():
        main(sys.argv[1:])
