"""How many labels pretraining is worth: the target trained on fewer and fewer of its images, from the proposal and from
random weights.

    python -m stages.commands.learning_curve --strategies partial,full --examples 25,50,100,250,500 --seeds 0,1,2

Needs the data and the starting points (`dvc repro`); trains in memory, on one device, and writes metrics/learning_curve.
The test split is opened through stages.evaluate. Its figures choose nothing here: each training keeps its epoch by its own
validation images. Whoever picks a strategy by them has picked it on the test.
"""

import argparse
import math
import sys
from collections.abc import Callable
from functools import partial
from itertools import product
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import pandas as pd
import torch
from sklearn.isotonic import isotonic_regression
from tqdm import tqdm

from stages.evaluate import predictions
from stages.lib import artifacts, hop, images, mistakes, params, statistics, transfer
from stages.lib.device import launch
from stages.lib.errors import UserError
from stages.lib.examples import Examples
from stages.lib.pictures import COLOURS, DARK, STYLE, plt
from stages.lib.seeds import seed_for

OUT = Path("metrics/learning_curve")
CONTROL = "scratch"  # the arm from random weights, as compare calls it
HALVINGS = 4  # of the training images, where --examples does not say
EQUAL = 1e-9  # accuracies that differ by less differ by rounding


class Arm(NamedTuple):
    """One curve: what its trainings have in common."""

    tensors: dict[str, torch.Tensor] | None  # of the starting point; None for random weights
    card: dict  # of the starting point
    train: Examples  # all of them
    val: Examples
    how: dict[str, Any]  # strategy, knobs, training


class Fitted(NamedTuple):
    """A model trained on a few examples, as stages.evaluate.predictions takes it."""

    tensors: dict[str, torch.Tensor]
    card: dict
    best: dict[str, float]  # as in stages.lib.transfer.Trained
    warnings: list[str]


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
            fitted = train_on_few(
                fabric, arm.tensors, arm.card, data_card, arm.train, arm.val,
                num=num, seed=seed_for(p.seed, "target", seed), checks=p.checks.model_dump(), **arm.how,
            )  # fmt: skip
        except UserError as error:
            raise UserError(
                f"{_shown(name)}, {num} examples, seed {seed}: {error}\nOr leave these examples or this strategy out."
            ) from None
        for warning in fitted.warnings:
            if mistakes.RATE_TOO_HIGH in warning:  # that there are few examples for the parameters is what is measured here
                tqdm.write(f"WARNING, {name}, {num} examples, seed {seed}: {warning}", file=sys.stderr)
        answers, test = predictions(fitted.tensors, fitted.card, data, p)
        probabilities.setdefault((name, num), []).append(answers)

    answers = {point: np.stack(seeds).astype(np.float64) for point, seeds in probabilities.items()}
    settings = p.compare.model_dump(include={"num_resamples", "confidence"})
    table = curve(answers, test, settings)
    told = [sentence(name, table, partial(against, answers, test, settings, name)) for name in arms if name != CONTROL]
    OUT.mkdir(parents=True, exist_ok=True)
    table.round(6).to_csv(OUT / "curve.csv", index=False)
    draw(OUT / "curve.png", table, p.target.data, p.compare.confidence)
    chain = artifacts.read_json(Path("models") / p.inits[0] / "card.json")["chain"]
    (OUT / "summary.md").write_text(summary(table, told, chain, p.target.data, seeds, len(test.keys), p.compare.confidence))
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
        require_possible(num, total, least)
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
    advised = [artifacts.read_json(Path("metrics/recipe.json"))["strategy"] if name == "auto" else name for name in names]
    return list(dict.fromkeys(advised))


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
        how = {"strategy": name, "knobs": params.knobs(block, params.plugin("strategies", name)),
               "training": params.training(p.training, block)}  # fmt: skip
        arms[name] = Arm(None if name == CONTROL else tensors, card, *splits, how)
    return arms


# What is drawn and trained; tests/benchmarks/advisor.py uses this too.


def train_on_few(
    fabric,
    tensors: dict[str, torch.Tensor] | None,
    start_card: dict,
    data_card: dict,
    train: Examples,
    val: Examples,
    *,
    num: int,
    strategy: str,
    knobs: dict[str, Any],
    training: dict[str, Any],
    checks: dict[str, Any],
    seed: int,
) -> Fitted:
    """Train as the target stage does, on a part of the examples (`few`), and write nothing.

    Args:
        tensors: of the starting point; None for random weights.
        start_card, data_card: of the starting point and of the data.
        train, val: all examples.
        num: training examples to draw.
        strategy, knobs, training, checks: as for stages.lib.hop.run.
        seed: of the training, and of what is drawn. With all examples the result is that of a hop with this seed.

    Raises:
        UserError: as stages.lib.transfer, or `num` cannot be drawn.
    """
    train, val = map(part, (train, val), few(train.labels, val.labels, num, seed))
    prepared = transfer.prepare(
        fabric, tensors, start_card["architecture"], len(data_card["classes"]),
        strategy=strategy, knobs=knobs, head={"kind": "linear", **training["head"]}, num_examples=num, seed=seed,
    )  # fmt: skip
    transfer.require_that_it_takes(prepared, data_card["geometry"]["px"], data_card["name"])
    trained = transfer.train(
        fabric, prepared, train, val, training=training, checks=checks, seed=seed, state=None, save=lambda state: None
    )
    card = {
        "name": f"{strategy} on {num} examples",
        "architecture": prepared.architecture,
        "classes": data_card["classes"],
        "preprocessing": start_card["preprocessing"] | data_card["geometry"],
    }
    return Fitted(prepared.model.state_dict(), card, trained.best, trained.warnings)


def few(train: torch.Tensor, val: torch.Tensor, num: int, seed: int) -> tuple[np.ndarray, np.ndarray]:
    """Draw training examples, and validation examples in the same proportion: their labels have a price, too.

    Every class keeps one at least in both, so that of very few examples validation has a larger share.

    Args:
        train, val: labels (N,) of the splits.
        num: training examples to draw.

    Returns:
        Indices of both, as `draw_few` gives them.
    """
    num_val = max(len(val.unique()), round(len(val) * num / len(train)))
    return (
        draw_few(train.cpu().numpy(), num, seed_for(seed, "few", "train")),
        draw_few(val.cpu().numpy(), num_val, seed_for(seed, "few", "val")),
    )


def draw_few(labels: np.ndarray, num: int, seed: int) -> np.ndarray:
    """Choose examples so that each class has its share, to about one example, and one at least.

    A smaller draw is part of every larger one with the same seed.

    Args:
        labels: (N,) integers.
        num: examples to choose.

    Returns:
        (num,) indices in ascending order.

    Raises:
        UserError: there are fewer examples, or more classes.
    """
    classes, counts = np.unique(labels, return_counts=True)
    require_possible(num, len(labels), len(classes))
    random = np.random.default_rng(seed)
    order = random.permutation(len(labels))
    place = np.empty(len(labels))  # of each example, between 0 and 1 among those of its class: evenly spaced in each
    first = np.zeros(len(labels), dtype=bool)
    for label, count in zip(classes, counts, strict=True):
        members = order[labels[order] == label]
        place[members] = (np.arange(count) + 0.5) / count
        first[members[0]] = True
    chance = random.random(len(labels))  # or of classes with equally many examples the same would always come first
    return np.sort(np.lexsort((chance, place, ~first))[:num])


def require_possible(num: int, num_examples: int, num_classes: int) -> None:
    """Raise a UserError if that many examples cannot be drawn."""
    if not num_classes <= num <= num_examples:
        raise UserError(
            f"{num} examples cannot be drawn: there are {num_examples} for training, and each of the {num_classes} classes needs "
            f"one at least. Allowed: {num_classes} to {num_examples}."
        )


def part(examples: Examples, rows: np.ndarray) -> Examples:
    """Some of the examples, in the order of `rows`; nothing is copied but labels."""
    chosen = torch.from_numpy(rows)
    labels = examples.labels[chosen.to(examples.labels.device)]
    return Examples(lambda indices, level, draws: examples.inputs(chosen[indices], level, draws), labels, examples.num_draws)


# What is measured, and what it means.


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


def _bootstrap_seed() -> int:
    return seed_for(0, "learning_curve", "bootstrap")  # not the experiment's: all are measured on the same resamples


def reached_with(examples: np.ndarray, accuracy: np.ndarray, wanted: float) -> float:
    """Number of examples with which a curve reaches an accuracy.

    More examples do not make a model worse, whatever chance makes of a single training: the curve is first made monotone
    (by isotonic regression). Between its points it is linear in the logarithm of the number.

    Args:
        examples: (P,), ascending.
        accuracy: (P,), and `wanted`.

    Returns:
        The first of `examples` where it is reached with these or fewer, and infinity where it is not reached.
    """
    monotone = isotonic_regression(np.asarray(accuracy, dtype=float))
    able = np.flatnonzero(monotone >= wanted - EQUAL)
    if not len(able):
        return math.inf
    if able[0] == 0:
        return float(examples[0])
    left, right = able[0] - 1, able[0]
    share = min(1.0, (wanted - monotone[left]) / (monotone[right] - monotone[left]))
    return float(examples[left] * (examples[right] / examples[left]) ** share)


def sentence(arm: str, table: pd.DataFrame, against: Callable[[int, int], dict]) -> str:
    """What pretraining is worth by one arm, in words.

    With a examples the arm is as good as the control with b, so pretraining is worth b - a labels. That is told for the
    largest a for which b is known and larger than a, and the arm better than the control with a, beyond chance. Where b is
    known for none, because the control never comes so far, a bound is told.

    Args:
        table: as `curve` gives it.
        against: (examples of the arm, examples of the control) to stages.lib.statistics.paired_difference.
    """
    own, control = (table[table.arm == name] for name in (arm, CONTROL))
    examples, one_seed = own.examples.tolist(), " (by one seed only)" if own.seeds.iloc[0] == 1 else ""
    reached, without = (dict(zip(examples, each.accuracy, strict=True)) for each in (own, control))
    needed = {num: reached_with(examples, control.accuracy, reached[num]) for num in examples}
    most = examples[-1]
    better = [num for num in examples if against(num, num)["verdict"] == "helps"]
    known = [num for num in better if needed[num] < math.inf and _rounded(needed[num] - num) > 0]
    beyond = [num for num in better if needed[num] == math.inf]

    def has(num: int) -> str:
        return f"with {num:,} examples {arm} reaches {_percent(reached[num])}"

    if known:
        num, labels = known[-1], _rounded(needed[known[-1]] - known[-1])
        told = (f"Pretraining is worth about {_labels(labels)} here{one_seed}: {has(num)}, which random weights reach with "
                f"about {num + labels:,}.")  # fmt: skip
    elif beyond and beyond[0] < most:
        num, sure = beyond[0], against(beyond[0], most)["verdict"] == "helps"
        amount = f"more than {_labels(most - num)}" if sure else f"about {_labels(most - num)} or more"
        doubt = "" if sure else ", a difference that chance may explain"
        told = (f"Pretraining is worth {amount} here{one_seed}: {has(num)}, and random weights only "
                f"{_percent(without[most])} with {most:,}{doubt}.")  # fmt: skip
    elif beyond:
        return (f"Pretraining helps here{one_seed}, but how many labels it is worth is not known: {has(most)}, and random "
                f"weights {_percent(without[most])} with as many, the most that were tried.")  # fmt: skip
    else:
        told = f"Pretraining is not shown to be worth any label here{one_seed}: {has(most)}, "
        if needed[most] == math.inf:
            return told + f"and random weights {_percent(without[most])}, a difference that chance may explain."
        return (
            told
            + f"which random weights reach with {_as_few(needed[most], examples)}."
            + (" They are better here, beyond chance." if against(most, most)["verdict"] == "hurts" else "")
        )
    if num < most and most not in better:
        told += f" With {most:,} examples no difference is shown ({_percent(reached[most])} and {_percent(without[most])})."
    return told


def _rounded(labels: float) -> int:
    """Two digits: a curve through a handful of points knows no more."""
    return int(float(f"{round(labels):.2g}"))


def _labels(num: int) -> str:
    return f"{num:,} label{'' if num == 1 else 's'}"


def _percent(share: float) -> str:
    return f"{100 * share:.1f} %"


def _as_few(needed: float, examples: list[int]) -> str:
    if needed == examples[0]:
        return f"{examples[0]:,} or fewer"
    return f"about {_rounded(needed):,}" if _rounded(needed) < examples[-1] else "as many"


def summary(
    table: pd.DataFrame, told: list[str], chain: list[str], data: str, seeds: list[int], num_test: int, confidence: float
) -> str:
    """The report for readers, as Markdown.

    Args:
        table: as `curve` gives it.
        told: a sentence for each strategy.
        chain: of the proposal.
    """
    arms = list(dict.fromkeys(table.arm))
    over = f"mean over seeds {', '.join(map(str, seeds))}" if len(seeds) > 1 else f"seed {seeds[0]}"
    lines = [f"# Learning curve: {' -> '.join([*chain, data])}", "", *(f"- **{words}**" for words in told), ""]
    lines += [f"Accuracy on the {num_test:,} test images of {data} in %, {over} ({confidence:.0%} interval):", ""]
    lines += [f"| training examples | {' | '.join(map(_shown, arms))} |", "| ---: |" + " --- |" * len(arms)]
    for num, rows in table.groupby("examples"):
        cells = {
            row.arm: f"{100 * row.accuracy:.1f} ({100 * row.lower:.1f} to {100 * row.upper:.1f})" for row in rows.itertuples()
        }
        lines.append(f"| {num:,} | {' | '.join(cells[arm] for arm in arms)} |")
    lines += ["", f"- Pretrained means models/{chain[-1]}. Labels that it was itself trained with are not counted."]
    lines += ["- Every seed draws examples of its own, each class by its share; fewer are a part of more. Validation images, "
              "which choose the epoch, are drawn in the same proportion, and their labels come on top."]  # fmt: skip
    lines += ["- The intervals cover other test images, and roughly what the seeds change." if len(seeds) > 1 else
              "- One seed: the intervals cover other test images, and not other training examples, which may change more, "
              "above all where they are few. Try --seeds 0,1,2."]  # fmt: skip
    lines += ["- These figures are of the test split, and nothing was chosen by them. Who chooses a strategy by them chooses it "
              "on the test, and its figure flatters it."]  # fmt: skip
    return "\n".join(lines) + "\n"


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
            axes.plot(rows.examples, 100 * rows.accuracy, line, color=colour, markersize=5, label=_shown(arm))
        numbers = sorted(set(table.examples))
        axes.set_xscale("log")
        axes.set_xticks(numbers, [f"{num:,}" for num in numbers])
        axes.minorticks_off()
        axes.set(title=f"Test accuracy on {data}, %, with {confidence:.0%} interval", xlabel="training examples (logarithmic)")
        figure.legend(loc="outside lower center", ncols=4, handlelength=3)
        figure.get_layout_engine().set(w_pad=0.1, h_pad=0.1)
        figure.savefig(path, dpi=100, metadata={"Software": None})  # the version of matplotlib would change the bytes
        plt.close(figure)


def _shown(arm: str) -> str:
    return "random weights" if arm == CONTROL else arm


if __name__ == "__main__":
    try:
        main(sys.argv[1:])
    except UserError as error:
        sys.exit(f"error: {error}")
    except KeyboardInterrupt:
        sys.exit(130)
