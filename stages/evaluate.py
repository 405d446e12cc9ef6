"""Open the test split and measure a trained model: python -m stages.evaluate STAGE NAME DATA

STAGE is target, scratch or intermediate, NAME what its stage calls the model, DATA a prepared dataset. No training reads the test
split: the stage forgetting opens it too, and the command learning_curve, both through the functions here.
"""

from pathlib import Path

import numpy as np
import pandas as pd
import torch

from stages.lib import artifacts, backbones, command, images, metrics, params, statistics
from stages.lib.backbones import Model
from stages.lib.device import launch
from stages.lib.errors import UserError
from stages.lib.inference import predict
from stages.lib.seeds import seed_for

FOLDERS = {"target": Path("models/target"), "scratch": Path("models/scratch"), "intermediate": Path("models")}


def main(stage: str, name: str, data: str) -> None:
    p = params.load("device", "evaluate")
    if stage not in FOLDERS:
        raise UserError(f"{stage!r} trains no model. Allowed: {', '.join(FOLDERS)}.")
    folder, data_folder = FOLDERS[stage] / name, Path("data/prepared") / data
    tensors, card = artifacts.read_model(folder)
    data_card = require_fit(folder, card, data_folder)
    model, device = network(tensors, card, p)
    probabilities, split = answers(model, device, card, data_folder, p)
    report = measure(probabilities, split, card["classes"], p.evaluate)
    report["split_by_group"] = data_card["settings"]["split"]["by_group"]
    report["split_given"] = "test" in data_card["given_splits"]
    out = Path("metrics/evaluate") / f"{stage}-{name}"
    write(out, probabilities, split, report, p.evaluate.ece_bins)
    show(out / "mistakes.png", model, device, card, probabilities, split, p.evaluate.num_shown)
    accuracy, sure = report["metrics"]["accuracy"], p.evaluate.confidence
    print(f"{stage} {name} on {data}: accuracy {accuracy['value']:.1%} ({sure:.0%} interval {accuracy['lower']:.1%} to "
          f"{accuracy['upper']:.1%}, {len(split.keys)} test images)")  # fmt: skip


def require_fit(model_folder: Path, card: dict, data_folder: Path) -> dict:
    """The card of the data; a UserError where the model does not fit it: figures would come out, and mean nothing."""
    data_card = artifacts.read_json(data_folder / "card.json")
    if card["classes"] != data_card["classes"]:
        raise UserError(
            f"{model_folder} knows the classes {', '.join(card['classes'])}, and {data_folder} has "
            f"{', '.join(data_card['classes'])}; they must be the same, in the same order."
        )
    for name, given in data_card["geometry"].items():
        wanted = card["preprocessing"][name]
        if given != wanted:
            raise UserError(
                f"{data_folder} was prepared with {name} {given}, and {model_folder} was trained with {wanted}. "
                "Make both anew with: dvc repro"
            )
    return data_card


def predictions(tensors: dict[str, torch.Tensor], card: dict, data_folder: Path, p) -> tuple[np.ndarray, artifacts.Split]:
    """What `answers` gives, for the tensors of a whole network and the card that says what they are."""
    return answers(*network(tensors, card, p), card, data_folder, p)


def network(tensors: dict[str, torch.Tensor], card: dict, p) -> tuple[Model, torch.device]:
    """The trained network in evaluation mode, and the device where it is.

    One process and float32 on any device, whatever the training used: so the figures are those of the saved weights.
    """
    fabric = launch(accelerator=p.device.accelerator, devices=1, num_nodes=1, precision="32-true")
    model = backbones.build(card["architecture"], len(card["classes"]))
    model.load_state_dict(tensors)
    return model.to(fabric.device, memory_format=torch.channels_last).eval(), fabric.device


def answers(model: Model, device: torch.device, card: dict, data_folder: Path, p) -> tuple[np.ndarray, artifacts.Split]:
    """Probabilities (N, C) float32 of the test examples, and the examples."""
    split = artifacts.read_split(data_folder, "test")
    logits = predict(model, images.examples(split, card["preprocessing"], device), p.evaluate.batch_size)
    if not torch.isfinite(logits).all():
        raise UserError(f"{card['name']} answers with numbers that are not finite; its training must have diverged.")
    return logits.softmax(1).cpu().numpy(), split


def measure(probabilities: np.ndarray, split: artifacts.Split, classes: list[str], settings) -> dict:
    """All metrics with their intervals, as report.json holds them.

    Args:
        probabilities: (N, C).
        settings: the section `evaluate`.
    """
    exact = probabilities.astype(np.float64)

    def measured(weights: np.ndarray) -> dict[str, np.ndarray]:
        each = {name: metric(exact, split.labels, weights) for name, metric in metrics.METRICS.items()}
        each["ece"] = metrics.ece(exact, split.labels, weights, settings.ece_bins)
        by_class = metrics.per_class(exact, split.labels, weights)
        return each | by_class | {"auroc_per_class": metrics.auroc_per_class(exact, split.labels, weights)}

    values, samples = statistics.bootstrap(
        measured, split.groups, num_examples=len(split.labels), num_resamples=settings.num_resamples,
        seed=seed_for(0, "evaluate", "bootstrap"),  # not the experiment's: every model is measured on the same resamples
    )  # fmt: skip
    ends = {name: statistics.interval(samples[name], settings.confidence) for name in values}
    ends["ece"] = statistics.bias_corrected_interval(values["ece"], samples["ece"], settings.confidence)

    def entry(name: str, *index: int) -> dict[str, float | None]:
        numbers = (values[name], *ends[name])
        return {key: number(each[index]) for key, each in zip(("value", "lower", "upper"), map(np.asarray, numbers), strict=True)}

    return {
        "metrics": {name: entry(name) for name in [*metrics.METRICS, "ece"]},
        "per_class": {
            label: {name: entry(name, index) for name in ("precision", "recall", "f1")}
            | {"auroc": entry("auroc_per_class", index), "support": int(values["support"][index])}
            for index, label in enumerate(classes)
        },
        "confusion": metrics.confusion(exact.argmax(1), split.labels, len(classes)).tolist(),
        "classes": classes,
        "num_examples": len(split.labels),
        "num_groups": None if split.groups is None else len(set(split.groups)),
        "grouped": split.groups is not None,
        "confidence": settings.confidence,
    }


def show(path: Path, model: Model, device: torch.device, card: dict, probabilities: np.ndarray, split, num: int) -> None:
    """Draw the `num` images on which the model was most surely wrong, and half as many on which it was most surely right."""
    from stages.lib import pictures, saliency

    sure, predicted = probabilities.max(1), probabilities.argmax(1)
    order = np.argsort(-sure, kind="stable")
    right = predicted[order] == split.labels[order]
    rows = np.concatenate([order[~right][:num], order[right][: num // 2]])
    pixels, maps = np.array(split.inputs[rows]), None
    if len(rows):
        how = card["preprocessing"]
        inputs = images.to_network(torch.from_numpy(pixels).to(device), how["mean"], how["std"])
        maps = saliency.grad_cam(model, inputs, torch.from_numpy(predicted[rows]).to(device))
    titles = [
        f"{card['classes'][predicted[row]]} ({sure[row]:.0%})"
        + (", right" if predicted[row] == split.labels[row] else f"\nis {card['classes'][split.labels[row]]}")
        + f"\n{split.keys[row]}"
        for row in rows
    ]
    pictures.images(path, pixels, None if maps is None else maps.cpu().numpy(), titles)


def number(value: np.ndarray) -> float | None:
    """A figure for JSON; null where the metric does not exist (the precision of a class that is never predicted)."""
    return None if np.isnan(value) else round(float(value), 6)


def write(folder: Path, probabilities: np.ndarray, split: artifacts.Split, report: dict, num_bins: int) -> None:
    """Write report.json, predictions.csv, and confusion and reliability as a table and a picture each."""
    from stages.lib import pictures  # here: who only wants `predictions` need not wait for matplotlib

    artifacts.write_json(folder / "report.json", report)
    classes = np.array(report["classes"], dtype=object)
    table = {
        "key": split.keys,
        "group": "" if split.groups is None else split.groups,
        "label": classes[split.labels],
        "predicted": classes[probabilities.argmax(1)],
    }
    table |= {f"p_{name}": probabilities[:, index] for index, name in enumerate(classes)}  # float32: as many digits as it has
    pd.DataFrame(table).to_csv(folder / "predictions.csv", index=False)

    counts = np.array(report["confusion"])
    actual, predicted = np.nonzero(counts)
    cells = {"actual": classes[actual], "predicted": classes[predicted], "count": counts[actual, predicted]}
    pd.DataFrame(cells).to_csv(folder / "confusion.csv", index=False)

    bins = pd.DataFrame(metrics.reliability(probabilities.astype(np.float64), split.labels, num_bins))
    bins.insert(0, "bin", np.arange(1, num_bins + 1))
    bins.round(6).to_csv(folder / "reliability.csv", index=False)

    pictures.confusion(folder / "confusion.png", counts, report["classes"], f"{folder.name} on {len(split.keys)} test images")
    pictures.reliability(folder / "reliability.png", bins, f"{folder.name}: is it as sure as it is right?")


if __name__ == "__main__":
    command.run(main)
