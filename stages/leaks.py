"""Find test examples that are in the training data too, before any training: python -m stages leaks

Opens no split: prepare leaves fingerprints of the inputs beside them, without labels (data/fingerprints). Writes how many test
examples are affected, the pairs, and a picture of some of them to metrics/leaks.
"""

import shutil

import pandas as pd

from stages.lib.core import cards, plugins, runs
from stages.lib.errors import UserError
from stages.lib.leaks import search
from stages.lib.params import read as params

SHOWN = 12  # pairs in the picture


def main() -> None:
    p = params.load("modality", "intermediate", "target", "alternatives", "leaks")
    noun = plugins.load("modalities", p.modality).NOUN
    hops = {name: hop.data for name, hop in p.intermediate.items()}
    compared = search.plan(hops, p.target.data, p.target.test, [block.data for block in p.alternatives.values()])
    found, summaries = {}, []
    for trained_on, tested_on in compared:
        pairs, num = search.shared(trained_on, tested_on, p.modality, p.leaks)
        found[trained_on, tested_on] = pairs
        summaries.append(search.summary(trained_on, tested_on, pairs, num, noun))
    shutil.rmtree(runs.LEAKS, ignore_errors=True)
    left_out = search.left_out(found) if p.leaks.action == "drop" else {}
    cards.write_json(runs.LEAKS / "leaks.json", {"action": p.leaks.action, "compared": summaries, "left_out": left_out})
    tables = [pairs.assign(trained_on=data, tested_on=test) for (data, test), pairs in found.items()]
    pd.concat(tables, ignore_index=True).to_csv(runs.LEAKS / "pairs.csv", index=False)
    if shown := search.pictured(found, SHOWN):
        plugins.load("modalities", p.modality, "near_duplicates").show(runs.LEAKS / "pairs.png", shown)
    lines = [each["words"] for each in summaries if each["words"]]
    print("\n".join(lines) or f"No test {noun} is in the data of a training too.")
    if lines and p.leaks.action == "refuse":
        raise UserError(
            "leaks.action is refuse, and test examples are in training data too, see above. metrics/leaks/pairs.csv lists the "
            f"pairs. Take these {noun}s out of one of the two, or set leaks.action to drop (they are left out of training) or "
            "report."
        )
