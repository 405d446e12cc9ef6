"""Are the results of the models that are there now?"""

from collections.abc import Mapping, Sequence

import pandas as pd

from stages.lib.core import cards, runs
from stages.lib.core.runs import Training
from stages.lib.errors import UserError


def require(trainings: Sequence[Training], controls: Mapping[str, Training], forgotten: Mapping[str, pd.DataFrame]) -> None:
    """Raise a UserError if a test was of other weights than its training has made since, or a training started from other weights
    than its hop has made since: their figures do not belong together.

    Args:
        trainings: all whose evaluations are compared.
        controls: of each arm that is a hop as it is, the hop.
        forgotten: of each hop, the table of the stage forgetting.
    """
    tests = [(each.evaluation, each) for each in trainings] + [(runs.control(arm), hop) for arm, hop in controls.items()]
    found = [(folder, each, cards.read_json(folder / "report.json")["model"]) for folder, each in tests]
    later = {each.name if each.kind == "intermediate" else each.label: each for each in trainings}
    for hop, table in forgotten.items():
        asked = (row for row in table.itertuples() if row.model in later)
        found += [(runs.forgetting(hop), later[row.model], row.sha256) for row in asked]
    told = {each: cards.read_json(each.metrics / "run.json") for each in trainings}
    stale = [
        f"  {folder} measured {measured[:8]}, and {each.model} is {told[each]['model'][:8]} now"
        for folder, each, measured in found
        if told[each]["model"] != measured
    ]
    hops = {each.name: each for each in trainings if each.kind == "intermediate"}
    for each in trainings:
        parent = told[each]["parent"]
        if parent and parent["name"] in hops and (made := told[hops[parent["name"]]]["model"]) != parent["sha256"]:
            start = hops[parent["name"]].model
            stale.append(f"  {each.model} was trained from {parent['sha256'][:8]}, and {start} is {made[:8]} now")
    if stale:
        raise UserError("\n".join(["These results are of weights (by sha256) that have been trained again since:", *stale,
                                   "They cannot be compared. Run: dvc repro"]))  # fmt: skip
