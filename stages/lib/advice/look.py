"""Analysis of the target's training examples with a frozen starting point, before any training."""

from collections.abc import Callable
from functools import partial
from typing import Any

import numpy as np
import torch
from tqdm import tqdm

from stages.lib.advice import preprocessing, probe, remembered, rule, transferability
from stages.lib.advice.drift import Drift
from stages.lib.core import cards, contracts, datasets, plugins, runs
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
        self.split = datasets.read_split(folder, "train")
        learning = plugins.load("tasks", task, "learning")
        names = learning.outputs(self.split.labels)
        self.targets = learning.targets(self.split.labels, names).numpy()
        num = min(len(self.targets), settings.num_examples)
        self.rows = np.sort(np.random.default_rng(seed_for(0, "advise", "images")).permutation(len(self.targets))[:num])
        self.labels = self.targets[self.rows]
        self.groups = None if self.split.groups is None else self.split.groups[self.rows]
        packing = cards.read_data_card(folder).packing
        self.loaded = contracts.load(self.split, self.card.modality, task, names, self.card.how | packing, device)
        # For variants: what belongs to the weights as on their card, and what does not (a limit of length) as the data have it.
        known = plugins.load("modalities", self.card.modality).Preprocessing.model_fields
        self.how = self.card.how | {key: value for key, value in packing.items() if key not in known}
        self.model = self.build(self.card, self.tensors)
        drift = Drift(self.model.backbone)
        self.on_card = self.features(self.model.backbone, lambda rows: self.loaded.inputs(rows, "none", None), "features")
        self.drift = drift.end()
        self.val = datasets.read_split(folder, "val")
        self.val_labels = learning.targets(self.val.labels, names)
        self.loaded_val = contracts.load(self.val, self.card.modality, task, names, self.card.how | packing, device)

    def advice(self, *, ranked: bool) -> dict[str, Any]:
        """The facts and, if `ranked`, the rule's ranking of the strategies and how uncertain it is."""
        known = rule.facts(self.on_card, self.labels) | transferability.imbalance(self.targets)
        known |= {"num_examples": len(self.targets), "num_looked_at": len(self.rows)}
        known |= {"chance": float(np.bincount(self.labels).max() / len(self.rows)), "drift": self.drift}
        known |= {"num_parameters": sum(each.numel() for each in self.model.backbone.parameters()), "device": self.device.type}
        found = {"facts": known, "knn_accuracy": float(self.neighbours(self.on_card).mean()), "probe": self.probe()}
        if not ranked:
            return found
        ranking = rule.rank(known, {name: left for name, left in rule.ERRORS_LEFT.items() if rule.takes(self.model, name)})
        return found | {
            "choice": ranking[0]["strategy"], "unsure": rule.unsure(known, ranking, rule.SPREAD), "ranking": ranking
        }  # fmt: skip

    def probe(self) -> dict[str, Any]:
        """A linear probe on the validation split, on which the target is measured in every epoch too: whoever trains should do
        better than that."""
        rows = np.arange(len(self.val_labels))
        features = self.features(self.model.backbone, lambda rows: self.loaded_val.inputs(rows, "none", None), "validation", rows)
        right = probe.answers(self.on_card, self.labels, features) == self.val_labels.numpy()
        return {"accuracy": float(right.mean()), "num_val": len(rows), "num_train": len(self.rows)}

    def preprocessing(self) -> dict[str, Any]:
        """Compare common wrong preprocessings with the card's, on features of the chain's source."""
        backbone, right = self.model.backbone, self.on_card
        tensors, source = cards.read_model(runs.starting_point(self.card.chain[0]))
        if source.name != self.card.name and source.pretrained:  # a hop has adapted to its inputs, right or wrong
            backbone = self.build(source, tensors).backbone
            right = self.features(backbone, lambda rows: self.loaded.inputs(rows, "none", None), "card")
        variants = plugins.load("modalities", self.card.modality, "variants")
        tried = preprocessing.possible(variants.VARIANTS, variants.as_on_card, self.packed(self.rows[:BATCH]), self.how)
        rows = self.statistics(backbone, {name: each for name, each in tried.items() if each.values})
        decided = remembered.decides(rows)
        correct = {"card": self.neighbours(right)}
        for name, variant in tried.items():
            if decided and variant.values:
                continue
            try:
                features = self.features(backbone, partial(self.varied, variant), name)
            except (AssertionError, RuntimeError, ValueError):  # a network that takes only one size, or no longer texts
                continue
            correct[name] = self.neighbours(features)
        compared = preprocessing.compare(
            correct, groups=self.groups, confidence=self.settings.confidence, num_resamples=RESAMPLES,
            seed=seed_for(0, "advise", "bootstrap"),
        )  # fmt: skip
        words = remembered.words(rows, variants.VARIANTS, self.settings.margin)
        words += preprocessing.words(compared, variants.VARIANTS, self.settings.margin)
        return {"preprocessing": [row._asdict() for row in compared], "statistics": [row._asdict() for row in rows],
                "decided": decided, "warnings": words}  # fmt: skip

    def statistics(self, backbone: torch.nn.Module, tried: dict[str, contracts.Variant]) -> list[remembered.Row]:
        """The card's preprocessing and variants by what the first BatchNorm layer remembers; none if there is no such layer."""
        batches = torch.from_numpy(self.rows).split(BATCH)
        found = remembered.moments(backbone, [partial(self.loaded.inputs, rows, "none", None) for rows in batches])
        if found is None:
            return []
        layer, seen = found[0], {"card": found[1]}
        for name, variant in tried.items():
            of_variant = remembered.moments(backbone, [partial(self.varied, variant, rows) for rows in batches])
            assert of_variant is not None, "it is the same network"
            seen[name] = of_variant[1]
        return remembered.compare(
            layer, seen, groups=self.groups, confidence=self.settings.confidence, num_resamples=RESAMPLES,
            seed=seed_for(0, "advise", "statistics"),
        )  # fmt: skip

    def build(self, card: cards.ModelCard, tensors: dict[str, torch.Tensor]) -> backbones.Model:
        """A model in evaluation mode, under a new head."""
        model = backbones.build(backbones.asked_for(card.architecture, "example"), 1)
        backbones.load(model, tensors)
        model.to(self.device, memory_format=torch.channels_last)  # type: ignore[call-overload]  # torch's types lack it
        return model.eval()

    def packed(self, rows: np.ndarray) -> Any:
        """Packed examples, as variants take them: a tensor, or a list of arrays if they are ragged."""
        found = self.split.rows(rows)
        return found if isinstance(found, list) else torch.from_numpy(found)

    def varied(self, variant: contracts.Variant, rows: torch.Tensor) -> Any:
        """A batch under another preprocessing."""
        return moved(variant.prepare(self.packed(rows.numpy()), self.how), self.device)

    def features(
        self, backbone: torch.nn.Module, batch: Callable[[torch.Tensor], Any], title: str, rows: np.ndarray | None = None
    ) -> np.ndarray:
        """Features (N, D) of the examples that are looked at, or of some rows; `batch` gives the inputs for some of them."""
        with torch.inference_mode():
            parts = [
                backbone(batch(rows)).float().cpu()
                for rows in tqdm(
                    torch.from_numpy(self.rows if rows is None else rows).split(BATCH), title, disable=None, leave=False
                )
            ]
        features: np.ndarray = torch.cat(parts).numpy()
        return features

    def neighbours(self, features: np.ndarray) -> np.ndarray:
        """Whether each example is classified correctly by its neighbours."""
        return transferability.knn_accuracy(features, self.labels, k=self.settings.neighbours, groups=self.groups)


def moved(batch: Any, device: torch.device) -> Any:
    """A batch (a tensor, or a named tuple of them) on a device."""
    return batch.to(device) if isinstance(batch, torch.Tensor) else type(batch)(*(each.to(device) for each in batch))
