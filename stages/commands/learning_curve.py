"""Measure how many labels pretraining is worth: python -m stages learning_curve [--strategies ...] [--examples ...] [--seeds ...]

Trains the target on smaller and smaller subsets of its examples, from the proposal and from random weights:

    python -m stages learning_curve --strategies partial,full --examples 25,50,100,250,500 --seeds 0,1,2

Needs the data and the starting points (`dvc repro`); trains in memory, on one device, and writes metrics/learning_curve.
The test split is opened through stages.lib.evaluation.measure and selects nothing here: each training chooses its epoch on its
own validation examples. Choosing a strategy by these curves would be selection on the test set.
"""

import argparse
import sys
from functools import partial
from itertools import product

from tqdm import tqdm

from stages.lib.core import cards, runs
from stages.lib.core.seeds import seed_for
from stages.lib.data.subset import require_possible
from stages.lib.errors import UserError
from stages.lib.evaluation import measure
from stages.lib.learning_curve import label_savings
from stages.lib.learning_curve.arms import read_arms, resolved
from stages.lib.learning_curve.curve import Curve
from stages.lib.learning_curve.plot import draw
from stages.lib.learning_curve.train import train_on_subset
from stages.lib.networks.device import launch
from stages.lib.params import read as params
from stages.lib.tracking import ledger

OUT = runs.METRICS / "learning_curve"
HALVINGS = 4  # of the training examples, without --examples


def main(words: list[str]) -> None:
    asked = arguments(words)
    p = params.load("seed", "strategy", "strategies", "training", "checks", "device", "target", "inits", "seeds", "scratch",
                    "evaluate", "compare")  # fmt: skip
    folder, test = runs.prepared(p.target.data), runs.prepared(p.target.test)
    packed, tested = cards.read_data_card(folder), cards.read_data_card(test)
    seeds = asked.seeds or p.seeds
    numbers = possible(asked.examples, packed.counts["train"])
    fabric = launch(**p.device.model_dump() | {"devices": 1, "num_nodes": 1})
    arms = read_arms(fabric, p, resolved(asked.strategies or [p.strategy], p.strategies), packed)

    found: dict[tuple[str, int], list[measure.Predictions]] = {}
    for num, seed, name in tqdm(list(product(numbers, seeds, arms)), "trainings", disable=None):
        arm = arms[name]
        try:
            fitted = train_on_subset(
                fabric, arm.tensors, arm.start, packed, arm.data, arm.names, task=p.target.task, num=num, strategy=name,
                hyperparameters=arm.hyperparameters, options=arm.options, loss_jump=p.checks.loss_jump,
                seed=seed_for(p.seed, "target", seed),
            )  # fmt: skip
        except UserError as error:
            raise UserError(
                f"{runs.shown(name)}, {num} examples, seed {seed}: {error}\n"
                "Or leave out this number of examples, or this strategy."
            ) from None
        for warning in fitted.warnings:
            tqdm.write(f"WARNING, {name}, {num} examples, seed {seed}: {warning}", file=sys.stderr)
        model, device = measure.network(fitted.tensors, fitted.card, p.device)
        predictions = measure.predictions(model, device, fitted.card, test, p.evaluate.batch_size)
        label = f"learning_curve: {name}, {num} examples, seed {seed}"
        ledger.note([ledger.Opening(cards.digest_of_split(tested, "test"), cards.digest(fitted.tensors), tested.name, label)])
        found.setdefault((name, num), []).append(predictions)

    curve = Curve(found, p.target.task, p.compare)
    table = curve.table()
    told = [
        label_savings.sentence(name, table, curve.metric, partial(curve.against, name), partial(curve.savings, name))
        for name in arms
        if name != runs.SCRATCH
    ]
    OUT.mkdir(parents=True, exist_ok=True)
    table.round(6).to_csv(OUT / "curve.csv", index=False)
    draw(OUT / "curve.png", table, p.target.test, curve.name, curve.metric, p.compare.confidence)
    chain = cards.read_model_card(runs.starting_point(p.inits[0])).chain
    words_of_it = label_savings.summary(
        table, curve.name, curve.metric, told, chain, p.target.test, seeds, curve.num_test, p.compare.confidence
    )
    (OUT / "summary.md").write_text(words_of_it, encoding="utf-8")
    print(*told, f"See {OUT}/summary.md and curve.png.", sep="\n")


def arguments(words: list[str]) -> argparse.Namespace:
    """The command line: strategies, examples and seeds, each None if not given."""

    def names(text: str) -> list[str]:
        return text.split(",")

    def numbers(text: str) -> list[int]:
        found = sorted({int(number) for number in text.split(",")})
        if found[0] < 0:
            raise ValueError
        return found

    numbers.__name__ = "list of numbers (25,50,100)"  # argparse shows it in its error message
    parser = argparse.ArgumentParser("python -m stages learning_curve", description=(__doc__ or "").partition(":")[0])
    parser.add_argument("--strategies", type=names, help="blocks of params.yaml; default: the chosen one")
    parser.add_argument("--examples", type=numbers, help="training examples; default: all of them, and halved four times")
    parser.add_argument("--seeds", type=numbers, help="default: those of params.yaml")
    return parser.parse_args(words)


def possible(examples: list[int] | None, counts: dict[str, int]) -> list[int]:
    """Numbers of training examples that can be drawn; if none are given, all of them and repeated halves.

    Args:
        counts: training examples per class; for a task without classes, all of them under "".

    Raises:
        UserError: one of the given numbers is too small or too large.
    """
    total, least = sum(counts.values()), len(counts)
    if examples is None:
        return sorted({max(least, round(total / 2**power)) for power in range(HALVINGS + 1)})
    for num in examples:
        require_possible(num, total, least)
    return examples
