"""What later training forgot of a hop's task: python -m stages.forgetting HOP DATA

The backbone of every model that came after the hop, under the head that the hop had, on the hop's own test images.
"""

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pandas as pd
import torch

from stages.evaluate import predictions, require_fit
from stages.lib import artifacts, command, params, statistics
from stages.lib.seeds import seed_for
from stages.lib.strategies.wise_ft import between


def main(hop: str, data: str) -> None:
    p = params.load("device", "evaluate", "intermediate", "inits", "seeds")
    folder, data_folder = Path("models") / hop, Path("data/prepared") / data
    tensors, card = artifacts.read_model(folder)
    require_fit(folder, card, data_folder)
    head = {name: tensor for name, tensor in tensors.items() if name.startswith("head.")}

    def answers(later: dict[str, torch.Tensor]) -> tuple[np.ndarray, artifacts.Split]:
        backbone = {name: tensor for name, tensor in later.items() if name.startswith("backbone.")}
        return predictions(backbone | head, card, data_folder, p)

    before, split = answers(tensors)
    table = pd.DataFrame(columns=["model", "before", "accuracy", "change", "lower", "upper"])
    curves = []
    for name, path in later_models(hop, p).items():
        later, later_card = artifacts.read_model(path)
        after, _ = answers(later)
        table.loc[len(table)] = [name, *change(before, after, split, p.evaluate)]
        print(f"{hop} after {name}: accuracy {table.accuracy.iloc[-1]:.1%}, {table.before.iloc[-1]:.1%} before")
        if later_card["settings"]["strategy"] == "wise_ft":
            alphas = artifacts.read_table(Path("metrics") / later_card["kind"] / later_card["name"] / "alpha.csv")
            start = artifacts.read_model(Path("models") / later_card["parent"]["name"])[0]
            curves += along(name, alphas, start, later, lambda mixed: (answers(mixed)[0].argmax(1) == split.labels).mean())
    out = Path("metrics/forgetting") / hop
    out.mkdir(parents=True, exist_ok=True)
    table.round(6).to_csv(out / "accuracy.csv", index=False)
    if curves:
        pd.DataFrame(curves).round(6).to_csv(out / "alpha.csv", index=False)


def later_models(hop: str, p) -> dict[str, Path]:
    """Folders of the models whose chain leads through the hop, by the name of their training."""
    folders = {name: Path("models") / name for name in p.intermediate}
    folders |= {f"target {init}-{seed}": Path("models/target") / f"{init}-{seed}" for init in p.inits for seed in p.seeds}
    return {name: path for name, path in folders.items() if hop in artifacts.read_json(path / "card.json")["chain"][:-1]}


def change(before: np.ndarray, after: np.ndarray, split: artifacts.Split, settings) -> tuple[float, ...]:
    """Accuracy before and after, the change, and its interval, paired over the same test images.

    Args:
        before, after: probabilities (N, C).
        settings: the section `evaluate`.
    """
    paired = statistics.paired_difference(
        "accuracy", after[None].astype(np.float64), before[None].astype(np.float64), split.labels, split.groups,
        num_resamples=settings.num_resamples, confidence=settings.confidence, seed=seed_for(0, "forgetting", "bootstrap"),
    )  # fmt: skip
    accuracies = [(probabilities.argmax(1) == split.labels).mean() for probabilities in (before, after)]
    return (*accuracies, paired["difference"], paired["lower"], paired["upper"])


def along(name: str, alphas: pd.DataFrame, start: dict, kept: dict, measure: Callable[[dict], float]) -> list[dict]:
    """Accuracy on the earlier task along the line from a model's start to its fine-tuned end (stages.lib.strategies.wise_ft).

    Args:
        alphas: what was tried, with the target's figures on validation; the kept one gives the end of the line.
        start, kept: tensors; only those of the backbone count.
        measure: accuracy of a backbone on the earlier task.
    """
    alpha = alphas[alphas.kept].alpha.item()
    if alpha == 0:
        return []  # the start itself was kept, and the end of the line is not known any more
    backbone = {tensor: value for tensor, value in kept.items() if tensor.startswith("backbone.")}
    return [
        {"model": name, "alpha": row.alpha, "target_val_accuracy": row.val_accuracy,
         "earlier_accuracy": measure(between(start, backbone, row.alpha / alpha))}
        for row in alphas.itertuples()
    ]  # fmt: skip


if __name__ == "__main__":
    command.run(main)
