"""Look at the target's images before any training: which strategy suits, is the preprocessing right: python -m stages.advise"""

import sys
import time
from pathlib import Path

import numpy as np
import torch
from torch.nn.modules.batchnorm import _NormBase
from tqdm import tqdm

from stages.lib import advice, artifacts, backbones, checkpoints, command, live, mutations, params, transferability
from stages.lib.device import launch
from stages.lib.errors import UserError
from stages.lib.seeds import seed_for
from stages.lib.strategies import bitfit, norm_only

OUT = Path("metrics/advise.json")
BATCH = 64
CONDITIONS = {"bitfit": bitfit.trained, "norm_only": norm_only.trained}  # they train what not every network has
RESAMPLES = 10_000  # of the images; the interval of each of several mutations is far out in the tail


def main() -> None:
    p = params.load("device", "target", "inits", "advise")
    start, data = Path("models") / p.inits[0], Path("data/prepared") / p.target.data
    tensors, card = artifacts.read_model(start)
    data_card, split = artifacts.read_json(data / "card.json"), artifacts.read_split(data, "train")
    fabric = launch(accelerator=p.device.accelerator, devices=1, num_nodes=1, precision="32-true")
    model = build(card, tensors, fabric.device)
    backbone = model.backbone

    num = min(len(split.labels), p.advise.num_images)
    rows = np.sort(np.random.default_rng(seed_for(0, "advise", "images")).permutation(len(split.labels))[:num])
    pixels, labels = torch.from_numpy(split.inputs[rows]), split.labels[rows]
    groups = None if split.groups is None else split.groups[rows]
    preprocessing = card["preprocessing"] | {"packed": data_card["geometry"]["px"]}

    drift = Drift(backbone)
    features = frozen(backbone, pixels, mutations.as_on_card, preprocessing, "features")
    known = advice.facts(features, labels) | transferability.imbalance(split.labels)
    known |= {"num_examples": len(split.labels), "num_looked_at": num, "chance": float(np.bincount(labels).max() / num)}
    known |= {"drift": drift.end(), "num_parameters": sum(each.numel() for each in backbone.parameters())}
    known |= {"device": fabric.device.type}
    possible = {name: left for name, left in advice.ERRORS_LEFT.items() if takes(model, name)}
    ranking = advice.rank(known, possible)
    unsure = advice.unsure(known, ranking, advice.SPREAD)

    correct = {"card": transferability.knn_accuracy(features, labels, k=p.advise.neighbours, groups=groups)}
    knn_accuracy = float(correct["card"].mean())
    tensors, source = artifacts.read_model(Path("models") / card["chain"][0])
    if source["name"] != card["name"] and source["pretrained"]:  # a hop has got used to its inputs, right or wrong
        backbone = build(source, tensors, fabric.device).backbone
        features = frozen(backbone, pixels, mutations.as_on_card, preprocessing, "card")
        correct["card"] = transferability.knn_accuracy(features, labels, k=p.advise.neighbours, groups=groups)
    for name, mutation in mutations.mutations_for(pixels[:BATCH], preprocessing).items():
        try:
            mutated = frozen(backbone, pixels, mutation, preprocessing, name)
        except (AssertionError, RuntimeError):  # a network that takes only one size
            continue
        correct[name] = transferability.knn_accuracy(mutated, labels, k=p.advise.neighbours, groups=groups)
    compared = mutations.compare(
        correct, groups=groups, confidence=p.advise.confidence, num_resamples=RESAMPLES, seed=seed_for(0, "advise", "bootstrap")
    )
    warnings = mutations.words(compared, p.advise.margin)

    told = {"choice": ranking[0]["strategy"], "unsure": unsure, "ranking": ranking, "facts": known,
            "knn_accuracy": knn_accuracy, "preprocessing": [row._asdict() for row in compared],
            "warnings": warnings}  # fmt: skip
    settings = p.advise.model_dump() | {"init": p.inits[0], "data": p.target.data}
    key = checkpoints.key(stage="advise", settings=settings, data=data_card, start=card)
    with checkpoints.hold("advise", key), live.training(key, "advise", "advise", settings) as log:
        log({"epoch": 0, "time_ms": int(time.time() * 1000), **figures(told)})
        artifacts.write_json(OUT, rounded(told | {"figures": figures(told)}) | {"key": key, "settings": settings})
        say(told, p.inits[0], p.target.data)
        for warning in warnings:
            print(f"WARNING, preprocessing: {warning}", file=sys.stderr)
        if warnings and p.advise.preprocessing == "error":
            raise UserError("The preprocessing looks wrong, see above; advise.preprocessing: warn goes on all the same.")
    checkpoints.end("advise", key)


def build(card: dict, tensors: dict[str, torch.Tensor], device: torch.device):
    """A model as it answers, under a new head."""
    model = backbones.build({key: card["architecture"][key] for key in ("library", "model")}, 1)
    backbones.load(model, tensors)
    return model.to(device, memory_format=torch.channels_last).eval()


def takes(model, strategy: str) -> bool:
    """Whether the network has what the strategy trains."""
    try:
        return strategy not in CONDITIONS or bool(CONDITIONS[strategy](model))
    except UserError:
        return False


def frozen(backbone, pixels: torch.Tensor, prepare, preprocessing: dict, title: str) -> np.ndarray:
    """Features (N, D) of packed images (N, H, W, 3) under one preprocessing."""
    device = next(backbone.parameters()).device
    with torch.inference_mode():
        parts = [
            backbone(prepare(batch, preprocessing).to(device)).float().cpu()
            for batch in tqdm(pixels.split(BATCH), title, disable=None, leave=False)
        ]
    return torch.cat(parts).numpy()


class Drift:
    """How far the target's images lie from those that the starting point last saw, as its BatchNorm layers remember them.

    A running mean and variance are what a layer knows of the distribution of its inputs in training, so the distance to
    another dataset needs no image of the first one.

    Reference:
        Li et al., Adaptive Batch Normalization for practical domain adaptation, Pattern Recognition 2018.
    """

    def __init__(self, backbone: torch.nn.Module):
        self.sums: dict[str, list] = {}
        self.layers = {name: layer for name, layer in backbone.named_modules()
                       if isinstance(layer, _NormBase) and layer.running_mean is not None}  # fmt: skip
        self.hooks = [layer.register_forward_pre_hook(self._watch(name)) for name, layer in self.layers.items()]

    def _watch(self, name: str):
        def add(layer, inputs) -> None:
            values = inputs[0].cpu().double().transpose(0, 1).flatten(1)  # (C, everything else); not every device has doubles
            seen = self.sums.setdefault(name, [0, 0.0, 0.0])
            seen[0] += values.shape[1]
            seen[1] = seen[1] + values.sum(1)
            seen[2] = seen[2] + values.square().sum(1)

        return add

    def end(self) -> float | None:
        """Mean over layers and channels of the squared Frechet distance, in units of the remembered variance; 0 for the
        same images, None without BatchNorm."""
        for hook in self.hooks:
            hook.remove()
        distances = []
        for name, (count, total, squares) in self.sums.items():
            layer = self.layers[name]
            mean, remembered = total / count, layer.running_var.cpu().double() + layer.eps
            deviation = ((squares / count - mean.square()).clamp_min(0) + layer.eps).sqrt()
            squared = (mean - layer.running_mean.cpu()).square() + (deviation - remembered.sqrt()).square()
            distances.append((squared / remembered).mean().item())
        return float(np.mean(distances)) if distances else None


def figures(told: dict) -> dict[str, float]:
    """What MLflow shows of it as metrics."""
    numbers = {name: value for name, value in told["facts"].items() if isinstance(value, int | float)}
    return numbers | {"knn_accuracy": told["knn_accuracy"]} | {
        f"expected_{entry['strategy']}": entry["expected"] for entry in told["ranking"]
    }  # fmt: skip


def rounded(value):
    """Six digits, which are more than any machine's sum order changes."""
    if isinstance(value, dict):
        return {name: rounded(inner) for name, inner in value.items()}
    if isinstance(value, list):
        return [rounded(inner) for inner in value]
    return round(value, 6) if isinstance(value, float) else value


def say(told: dict, init: str, data: str) -> None:
    known = told["facts"]
    print(f"{data} from {init}: {known['num_examples']} training images of {known['num_classes']} classes ({known['min']} to "
          f"{known['max']} each); on frozen features nearest neighbours {told['knn_accuracy']:.1%}, linear probe "
          f"{known['probe_accuracy']:.1%} (the largest class alone {known['chance']:.1%})")  # fmt: skip
    for entry in told["ranking"]:
        print(f"  {entry['strategy']:20} {entry['expected']:.1%} expected: {entry['why']}")
    print(f"advice: {told['choice']}" + (f", unsure: {told['unsure']}" if told["unsure"] else ""))


if __name__ == "__main__":
    command.run(main)
