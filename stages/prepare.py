"""Decode, check, split and pack one dataset: python -m stages prepare NAME"""

import shutil

from stages.lib.core import cards, datasets, plugins, runs
from stages.lib.data import packing, splits
from stages.lib.errors import UserError
from stages.lib.params import read as params


def main(name: str) -> None:
    p = params.load("modality", "datasets")
    block = params.block(p.datasets, "datasets", name)
    door, inputs, show = (plugins.load("modalities", p.modality, part) for part in ("", "inputs", "show"))
    source = cards.read_model_card(runs.starting_point(block.preprocessing))
    _ = source.contents  # is its tokenizer there, and the right one?
    own = {key: getattr(block, key) for key in door.Packing.model_fields}
    out, marks = runs.prepared(name), runs.fingerprints(name)
    for folder in (out, marks):
        shutil.rmtree(folder, ignore_errors=True)
        folder.mkdir(parents=True)
    try:
        how = inputs.packing(preprocessing=source.preprocessing, **own)
        card = packing.pack(name, block, p.modality, how, source.how, out, marks)
    except UserError as error:
        raise UserError(f"datasets.{name}: {error}") from None
    cards.write_data_card(out, card)
    packed = {split: datasets.read_split(out, split) for split in splits.NAMES}
    show.samples(out / show.FILE, packed, card.labels, name, card.packing)
    totals = ", ".join(f"{split} {card.num(split)}" for split in splits.NAMES)
    of = f" of {len(card.labels)} classes" if card.labels else ""
    print(f"{name}: {totals} {door.NOUN}s{of}; licence: {block.licence}")
    for note in card.notes + [
        f"packed with {key} {own[key]}; the weights of {block.preprocessing} were trained with {source.preprocessing[key]}"
        for key in own.keys() & source.preprocessing.keys()
        if own[key] != source.preprocessing[key]
    ]:
        print(f"{name}: {note}")
