"""Analysis of the target's training examples with a frozen starting point, before any training."""

from collections.abc import Callable
from typing import Any

import numpy as np
import torch
from tqdm import tqdm

from stages.lib.advice import preprocessing, rule, transferability
from stages.lib.advice.drift import Drift
from stages.lib.core import cards, plugins, runs
from stages.lib.core.contracts import Variant
from stages.lib.core.seeds import seed_for
from stages.lib.networks import backbones
from stages.lib.params.schema import Advise

BATCH = 64
RESAMPLES = 10_000  # bootstrap samples of the examples; with several variants, each interval reaches far into the tail


class Look:
    """Some training examples and one starting point."""

    def __init__(self, init: str, data: str, task: str, settings: Advise, device: torch.device):
        folder = runs.prepared(data)
        self.settings, self.device = settings, device
        self.tensors, self.card = cards.read_model(runs.starting_point(init))
        self.split = cards.read_split(folder, "train")
        labels = plugins.load("tasks", task, "learning")
        self.targets = labels.targets(self.split.labels, labels.outputs(self.split.labels)).numpy()
        num = min(len(self.targets), settings.num_examples)
        self.rows = np.sort(np.random.default_rng(seed_for(0, "advise", "images")).permutation(len(self.targets))[:num])
        self.labels = self.targets[self.rows]
        self.groups = None if self.split.groups is None else self.split.groups[self.rows]
        self.packed = torch.from_numpy(self.split.rows(self.rows))

    def advice(self) -> dict[str, Any]:
        """The facts, the rule's ranking of the strategies, and how uncertain it is."""
        model = self.build(self.card, self.tensors)
        drift = Drift(model.backbone)
        features = self.features(model.backbone, self.on_card, "features")
        known = rule.facts(features, self.labels) | transferability.imbalance(self.targets)
        known |= {"num_examples": len(self.targets), "num_looked_at": len(self.rows)}
        known |= {"chance": float(np.bincount(self.labels).max() / len(self.rows)), "drift": drift.end()}
        known |= {"num_parameters": sum(each.numel() for each in model.backbone.parameters()), "device": self.device.type}
        ranking = rule.rank(known, {name: left for name, left in rule.ERRORS_LEFT.items() if rule.takes(model, name)})
        self.correct = {"card": self.neighbours(features)}
        return {
            "choice": ranking[0]["strategy"],
            "unsure": rule.unsure(known, ranking, rule.SPREAD),
            "ranking": ranking,
            "facts": known,
            "knn_accuracy": float(self.correct["card"].mean()),
        }

    def preprocessing(self) -> dict[str, Any]:
        """Compare common wrong preprocessings with the card's, on features of the chain's source; call after `advice`."""
        backbone = self.build(self.card, self.tensors).backbone
        tensors, source = cards.read_model(runs.starting_point(self.card.chain[0]))
        correct = dict(self.correct)
        if source.name != self.card.name and source.pretrained:  # a hop has adapted to its inputs, right or wrong
            backbone = self.build(source, tensors).backbone
            correct["card"] = self.neighbours(self.features(backbone, self.on_card, "card"))
        variants = plugins.load("modalities", self.card.modality, "variants")
        how = self.card.preprocessing
        tried = preprocessing.possible(variants.VARIANTS, variants.as_on_card, self.packed[:BATCH], how)

        def prepare(variant: Variant) -> Callable[[torch.Tensor], torch.Tensor]:
            return lambda batch: variant.prepare(batch, how)

        for name, variant in tried.items():
            try:
                features = self.features(backbone, prepare(variant), name)
            except (AssertionError, RuntimeError):  # a network that accepts only one size
                continue
            correct[name] = self.neighbours(features)
        compared = preprocessing.compare(
            correct, groups=self.groups, confidence=self.settings.confidence, num_resamples=RESAMPLES,
            seed=seed_for(0, "advise", "bootstrap"),
        )  # fmt: skip
        words = preprocessing.words(compared, variants.VARIANTS, self.settings.margin)
        return {"preprocessing": [row._asdict() for row in compared], "warnings": words}

    def build(self, card: cards.ModelCard, tensors: dict[str, torch.Tensor]) -> backbones.Model:
        """A model in evaluation mode, with a new head."""
        model = backbones.build({key: card.architecture[key] for key in ("library", "model")}, 1)
        backbones.load(model, tensors)
        model.to(self.device, memory_format=torch.channels_last)  # type: ignore[call-overload]  # torch's types lack it
        return model.eval()

    def on_card(self, batch: torch.Tensor) -> torch.Tensor:
        """Packed examples with the card's preprocessing."""
        variants = plugins.load("modalities", self.card.modality, "variants")
        inputs: torch.Tensor = variants.as_on_card(batch, self.card.preprocessing)
        return inputs

    def features(self, backbone: torch.nn.Module, prepare: Callable[[torch.Tensor], torch.Tensor], title: str) -> np.ndarray:
        """Features (N, D) of the packed examples under one preprocessing."""
        with torch.inference_mode():
            parts = [
                backbone(prepare(batch).to(self.device)).float().cpu()
                for batch in tqdm(self.packed.split(BATCH), title, disable=None, leave=False)
            ]
        features: np.ndarray = torch.cat(parts).numpy()
        return features

    def neighbours(self, features: np.ndarray) -> np.ndarray:
        """Whether each example is classified correctly by its neighbours."""
        return transferability.knn_accuracy(features, self.labels, k=self.settings.neighbours, groups=self.groups)
