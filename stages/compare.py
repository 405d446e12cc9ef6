"""The target against its controls, paired: did transfer help, did the hops help, which model to ship: python -m stages.compare"""

import shutil
from pathlib import Path

import numpy as np
import pandas as pd

from stages.lib import artifacts, command, params, pictures, statistics
from stages.lib.errors import UserError
from stages.lib.seeds import seed_for
from stages.lib.words import METRICS, SCRATCH, Pair, Test, points, signs, verdict


def main() -> None:
    p = params.load("compare", "checks", "intermediate", "inits", "seeds")
    cards = {
        f"{init}-{seed}": artifacts.read_json(Path(f"models/target/{init}-{seed}/card.json"))
        for init in p.inits
        for seed in p.seeds
    }
    proposal, ship = p.inits[0], best(cards)
    chain = cards[f"{proposal}-{p.seeds[0]}"]["chain"][:-1]  # from the source to the proposal's last hop
    pairs = plan(proposal, chain, p.inits[1:])
    test, arms = read_arms(p.inits, p.seeds, cards[ship])

    metric, settings = p.compare.metric, p.compare.model_dump(exclude={"metric"})
    settings["seed"] = seed_for(0, "compare", "bootstrap")  # not the experiment's: what is measured must not depend on it
    results = {name: statistics.mean_over_seeds(metric, arm, test.labels, test.groups, **settings) for name, arm in arms.items()}
    differences = {
        pair.key: statistics.paired_difference(metric, arms[proposal], arms[pair.control], test.labels, test.groups, **settings)
        for pair in pairs
    }
    table = {metric: {name: result["value"] for name, result in results.items()}, **differences, "ship": ship}
    artifacts.write_json(METRICS / "compare.json", rounded(table))
    forgotten = {hop: artifacts.read_table(METRICS / "forgetting" / hop / "accuracy.csv") for hop in p.intermediate}
    words = verdict(p, test, chain, pairs, results, differences, cards, ship)
    words += "\n".join(["", "## Signs of mistakes", "", *signs(p, forgotten)]) + "\n"
    (METRICS / "verdict.md").write_text(words)
    draw(p, cards, pairs, results, differences, ship)
    draw_forgetting(forgotten)
    print(words.split("\n## ")[0].partition("\n\n")[2].strip())


def best(cards: dict[str, dict]) -> str:
    """The target with the lowest validation loss; the first of equals. The test has no say, or its figures would flatter."""
    return min(cards, key=lambda name: cards[name]["best"]["val_loss"])


def plan(proposal: str, chain: list[str], controls: list[str]) -> list[Pair]:
    """What is asked: the proposal against random weights, and against each other starting point.

    Args:
        chain: names from the source to the proposal, which is the last; a control in it is the proposal without its last hops.
    """
    pairs = [Pair("transfer", f"Transfer as a whole ({' -> '.join(chain)}, against random weights)", SCRATCH)]
    for control in controls:
        if control in chain:
            hops = chain[chain.index(control) + 1 :]
            key = "intermediate" if control == chain[0] else f"intermediate_after_{control}"
            plural = "s" if len(hops) > 1 else ""
            pairs.append(Pair(key, f"The intermediate hop{plural} ({', '.join(hops)}, against {control} directly)", control))
        else:
            pairs.append(Pair(f"{proposal}_against_{control}", f"{proposal} against {control}", control))
    return pairs


def read_arms(inits: list[str], seeds: list[int], card: dict) -> tuple[Test, dict[str, np.ndarray]]:
    """Read the predictions of every arm.

    Args:
        card: of any target, for the classes.

    Returns:
        The test, and for each arm its probabilities (S, N, C).

    Raises:
        UserError: arms were measured on different examples, or in another order.
    """
    folders = {init: [f"target-{init}-{seed}" for seed in seeds] for init in inits}
    folders[SCRATCH] = [f"{SCRATCH}-{seed}" for seed in seeds]
    columns = [f"p_{name}" for name in card["classes"]]
    test, first, arms = None, None, {}
    for arm, names in folders.items():
        parts = []
        for name in names:
            folder = METRICS / "evaluate" / name
            table = read_predictions(folder / "predictions.csv", columns)
            if test is None:
                labels, groups = labels_and_groups(table, card["classes"])
                split = {key: artifacts.read_json(folder / "report.json")[key] for key in ("split_by_group", "split_given")}
                test, first = Test(card["data"], card["classes"], table["key"].tolist(), labels, groups, **split), (name, table)
            elif not table[["key", "label", "group"]].equals(first[1][["key", "label", "group"]]):
                raise UserError(
                    f"The predictions of {first[0]} and {name} are not for the same test images in the same order, so they "
                    f"cannot be compared ({METRICS / 'evaluate'}). Make them anew with: dvc repro"
                )
            parts.append(table[columns].to_numpy(np.float32))
        arms[arm] = np.stack(parts).astype(np.float64)
    return test, arms


def labels_and_groups(table: pd.DataFrame, classes: list[str]) -> tuple[np.ndarray, np.ndarray | None]:
    """Of the test images: (N,) indices into `classes`, and (N,) what each belongs to, or None where the data names no groups."""
    labels = pd.Categorical(table["label"], categories=classes).codes.astype(np.int64)
    return labels, None if (table["group"] == "").all() else table["group"].to_numpy()


def read_predictions(path: Path, columns: list[str]) -> pd.DataFrame:
    """The table that evaluate wrote, with names as text and probabilities as numbers."""
    table = artifacts.read_table(
        path, dtype={name: str for name in ("key", "group", "label", "predicted")}, keep_default_na=False
    )
    missing = [name for name in columns if name not in table]
    if missing:
        raise UserError(f"{path} lacks the columns {', '.join(missing)}: it is of other classes. Make it anew with: dvc repro")
    return table


def draw(p, cards, pairs, results, differences, ship) -> None:
    """The pictures in metrics/plots."""
    folder = METRICS / "plots"
    folder.mkdir(parents=True, exist_ok=True)
    hops = list(dict.fromkeys(hop for card in cards.values() for hop in card["chain"][1:-1]))
    histories = {f"hop {hop}": [METRICS / "intermediate" / hop] for hop in hops}
    histories |= {init: [METRICS / "target" / f"{init}-{seed}" for seed in p.seeds] for init in p.inits}
    histories |= {SCRATCH: [METRICS / SCRATCH / str(seed) for seed in p.seeds]}
    tables = {name: [history(path) for path in paths] for name, paths in histories.items()}
    pictures.curves(folder / "curves.png", tables, len(hops))

    for name in ("confusion.png", "reliability.png"):
        shutil.copyfile(METRICS / "evaluate" / f"target-{ship}" / name, folder / name)
    named = [(f"{p.inits[0]} against {pair.control}", differences[pair.key]) for pair in pairs]
    pictures.comparison(folder / "comparison.png", p.compare.metric.replace("_", " "), results, named, p.compare.confidence)


def history(metrics: Path) -> pd.DataFrame:
    """The epochs of one training, and in the column `kept` which of them its model is of."""
    table = artifacts.read_table(metrics / "history.csv")
    return table.assign(kept=table["epoch"] == artifacts.read_json(metrics / "run.json")["best"]["epoch"])


def draw_forgetting(forgotten: dict[str, pd.DataFrame]) -> None:
    """The matrix of what later trainings forgot, and for wise_ft the curve over alpha; nothing without hops."""
    rows = list(dict.fromkeys(model for table in forgotten.values() for model in table.model))
    if not rows:
        return
    names = [f"hop {hop}" for hop in forgotten] + [row for row in rows if row not in forgotten]
    matrix = np.full((len(names), len(forgotten)), np.nan)
    for column, (hop, table) in enumerate(forgotten.items()):
        matrix[names.index(f"hop {hop}"), column] = table.before.iloc[0] if len(table) else np.nan
        for row in table.itertuples():
            matrix[names.index(f"hop {row.model}" if row.model in forgotten else row.model), column] = row.accuracy
    pictures.forgetting(METRICS / "plots" / "forgetting.png", names, list(forgotten), matrix)
    curves = {}
    for hop in forgotten:
        path = METRICS / "forgetting" / hop / "alpha.csv"
        if path.exists():
            by_model = artifacts.read_table(path).groupby("model", sort=False)
            curves |= {f"{model} against {hop}": table for model, table in by_model}
    if curves:
        pictures.alphas(METRICS / "plots" / "alpha.png", curves)


def against(old: Path, new: Path, classes: list[str], settings) -> tuple[bool, str]:
    """Whether one model is better than another on the same test images, beyond chance.

    Args:
        old, new: the tables that evaluate wrote of the two.
        classes: of the new one.
        settings: the section `compare`.

    Returns:
        Whether the new one is better, and a sentence that says why.
    """
    try:
        tables = [read_predictions(path, [f"p_{name}" for name in classes]) for path in (old, new)]
    except UserError:
        return False, "it knows other classes, so the two cannot be compared."
    same = [table.set_index("key")[["label", "group"]] for table in tables]
    if not same[0].equals(same[1]):
        return False, "it was measured on other test images, so the two cannot be compared."
    arms = [table[[f"p_{name}" for name in classes]].to_numpy(np.float64)[None] for table in tables]
    labels, groups = labels_and_groups(tables[0], classes)
    how = settings.model_dump(exclude={"metric"}) | {"seed": seed_for(0, "compare", "bootstrap")}
    found = statistics.paired_difference(settings.metric, arms[1], arms[0], labels, groups, **how)
    between = f"{settings.confidence:.0%} interval {points(found['lower'])} to {points(found['upper'])}"
    words = f"{points(found['difference'])} points of {settings.metric.replace('_', ' ')} on the same {len(labels)} test images"
    words += f" ({between})"
    return found["verdict"] == "helps", f"{words}: {'better' if found['verdict'] == 'helps' else 'not shown to be better'}."


def rounded(value):
    """Six digits: finer than any test resolves. Not-a-number becomes null, which JSON can hold."""
    if isinstance(value, dict):
        return {name: rounded(inner) for name, inner in value.items()}
    if isinstance(value, float):
        return None if np.isnan(value) else round(value, 6)
    return value


if __name__ == "__main__":
    command.run(main)
