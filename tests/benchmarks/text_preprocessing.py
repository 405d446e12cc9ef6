"""How often the check of a text preprocessing raises a false alarm, and how often it finds a wrong one.

    python -m tests.benchmarks.text_preprocessing --texts NAME=TABLE.csv --texts ... --out FILE.csv

Each TABLE.csv has the columns text and label. From every table `--num` texts are taken, and from these `--draws` random parts of
`--examples` texts, each of which is checked as the stage advise would check it (stages.lib.advice.preprocessing), once with the
source's right card and once with each wrong one: a tokenizer that keeps capitals, texts cut at 8 tokens, no special tokens. The
weights are those of an uncased model. Parts of one table overlap, so tables say more than draws.

Needs the root of a repository with a source of an uncased BERT in models/ (`--source`), and params.yaml.
"""

import argparse
import json
import shutil
import tempfile
from collections.abc import Callable
from itertools import product
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import torch

from stages.lib.advice import preprocessing, transferability
from stages.lib.advice.look import RESAMPLES
from stages.lib.core import cards, runs
from stages.lib.core.seeds import seed_for
from stages.lib.modalities.text import inputs, variants
from stages.lib.networks import backbones
from stages.lib.params import read as params
from stages.lib.readers import csv

BATCH = 32
CUT = 8  # tokens
FINDS = {"right": "", "keeps capitals": "lower case", "cut at 8 tokens": "twice max_tokens",
         "no special tokens": "the other special_tokens"}  # fmt: skip


def main() -> None:
    asked = arguments()
    p = params.load("advise")
    tensors, card = cards.read_model(runs.starting_point(asked.source))
    model = backbones.build(backbones.asked_for(card.architecture, "example"), 1).eval()
    backbones.load(model, tensors)
    rows = []
    with tempfile.TemporaryDirectory() as folder:
        known = kinds(card.how, Path(folder))
        for (name, path), kind in product(asked.texts, asked.cards):
            packed, labels = examples(path, asked.num)
            rows.append(
                {"table": name, "card": kind} | marked(kind, known[kind], packed, labels, model.backbone, p.advise, asked)
            )
            print(rows[-1], flush=True)
    results = pd.DataFrame(rows)
    results.to_csv(asked.out, index=False)
    print(results.groupby("card", sort=False)[["alarms", "found", "draws"]].sum().to_string())


def arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser("python -m tests.benchmarks.text_preprocessing", description=__doc__.partition("\n\n")[0])

    def pair(text: str) -> tuple[str, Path]:
        name, path = text.split("=", 1)
        return name, Path(path)

    parser.add_argument("--texts", type=pair, action="append", required=True, help="a table, under a name", metavar="NAME=TABLE")
    parser.add_argument("--cards", nargs="+", choices=FINDS, default=list(FINDS), help="default: all", metavar="CARD")
    parser.add_argument("--source", default="minilm", help="a model in models/; default: minilm")
    parser.add_argument("--num", type=int, default=400, help="texts of each table; default: 400")
    parser.add_argument("--examples", type=int, default=200, help="in each draw; default: 200")
    parser.add_argument("--draws", type=int, default=10, help="of each table; default: 10")
    parser.add_argument("--out", required=True, help="where the results go", metavar="FILE.csv")
    return parser.parse_args()


def kinds(how: dict[str, Any], folder: Path) -> dict[str, dict[str, Any]]:
    """The card's preprocessing and wrong ones, with what the data say of the length."""
    tokenizer = json.loads((Path(how["folder"]) / "tokenizer.json").read_text(encoding="utf-8"))
    tokenizer["normalizer"] |= {"lowercase": False, "strip_accents": False}
    (folder / "tokenizer.json").write_text(json.dumps(tokenizer), encoding="utf-8")
    for other in Path(how["folder"]).glob("*.json"):
        if other.name != "tokenizer.json":
            shutil.copy(other, folder)
    right = how | {"max_tokens": 96}
    wrong = [right, right | {"folder": str(folder)}, right | {"max_tokens": CUT}, right | {"special_tokens": False}]
    return dict(zip(FINDS, wrong, strict=True))


def examples(path: Path, num: int) -> tuple[list[np.ndarray], np.ndarray]:
    """Packed texts (N,), and their labels as numbers (N,)."""
    listed = csv.read(path)
    chosen = np.random.default_rng(seed_for(0, "texts")).permutation(len(listed))[:num]
    packed = [inputs.pack(inputs.decode(listed[row].open()), max_tokens=96) for row in chosen]
    return packed, np.unique([listed[row].label for row in chosen], return_inverse=True)[1]


def marked(
    kind: str, how: dict[str, Any], packed: list[np.ndarray], labels: np.ndarray, backbone: Any, settings: Any, asked: Any
) -> dict[str, Any]:
    """In how many draws the check warns at all, and of what is wrong."""
    tried = preprocessing.possible(variants.VARIANTS, variants.as_on_card, packed[:64], how)
    prepared: dict[str, Callable[..., Any]] = {"card": variants.as_on_card} | {name: v.prepare for name, v in tried.items()}
    features = {name: embedded(backbone, prepare, packed, how) for name, prepare in prepared.items()}

    def right(rows: np.ndarray) -> dict[str, np.ndarray]:
        k = settings.neighbours
        return {name: transferability.knn_accuracy(each[rows], labels[rows], k=k, groups=None) for name, each in features.items()}

    alarms = found = 0
    for draw in range(asked.draws):
        rows = np.random.default_rng(seed_for(draw, "draw")).permutation(len(packed))[: asked.examples]
        compared = preprocessing.compare(right(rows), confidence=settings.confidence, num_resamples=RESAMPLES, seed=0)
        warned = {row.name for row in compared if row.wins and row.difference > settings.margin}
        alarms += bool(warned)
        found += FINDS[kind] in warned
    accuracy = {name: round(float(each.mean()), 3) for name, each in right(np.arange(len(packed))).items()}
    return {"alarms": alarms, "found": found, "draws": asked.draws, "accuracy": json.dumps(accuracy)}


def embedded(backbone: Any, prepare: Callable[..., Any], packed: list[np.ndarray], how: dict[str, Any]) -> np.ndarray:
    """Features (N, D); texts of like length share a batch."""
    order = np.argsort([len(each) for each in packed], kind="stable")
    with torch.inference_mode():
        parts = [
            backbone(prepare([packed[row] for row in rows], how)) for rows in np.split(order, range(BATCH, len(order), BATCH))
        ]
    features: np.ndarray = torch.cat(parts).numpy()[np.argsort(order)]
    return features


if __name__ == "__main__":
    main()
