"""Compare the target with its controls: did transfer and the hops help, and which model to ship: python -m stages compare"""

import shutil

import numpy as np

from stages.lib.core import cards, plugins, runs
from stages.lib.evaluation import adaptation, comparison, statistics
from stages.lib.params import read as params
from stages.lib.plots import gallery
from stages.lib.reporting import verdict


def main() -> None:
    p = params.load("compare", "checks", "intermediate", "target", "inits", "seeds", "alternatives")
    arms = runs.arms(p.inits, {name: block.data for name, block in p.alternatives.items()}, p.seeds, p.target.data)
    models = {each.name: cards.read_model_card(each.model) for init in p.inits for each in arms[init]}
    proposal, ship = p.inits[0], comparison.best(models)
    card = models[ship]
    chain = models[arms[proposal][0].name].ancestors
    titles = cards.read_json(runs.CONTROLS / "controls.json")  # measured once: they are the same for every seed
    controls = {arm: [runs.control(arm)] * len(p.seeds) for arm in titles}
    ways = {name: f"{block.strategy} on {block.data}" for name, block in p.alternatives.items()}
    pairs = comparison.plan(proposal, chain, p.inits[1:], ways, titles)
    test, predictions = comparison.read_arms(runs.evaluations(arms) | controls, card)

    metric, how = comparison.metric_of(card, p.compare.metric), comparison.bootstrap(p.compare)
    results = {
        name: statistics.mean_over_seeds(metric, arm, test.targets, test.groups, **how) for name, arm in predictions.items()
    }
    differences = {
        pair.key: statistics.paired_difference(
            metric, predictions[proposal], predictions[pair.control], test.targets, test.groups, **how
        )
        for pair in pairs
    }
    leaks = cards.read_json(runs.LEAKS / "leaks.json")
    leaked = {key for each in leaks["compared"] if each["tested_on"] == p.target.test for key in each["keys"]}
    kept = np.array([key not in leaked for key in test.keys])
    without = {}
    if 0 < kept.sum() < len(kept):  # what is measured may be episodes, whose keys are no test examples
        groups = None if test.groups is None else test.groups[kept]
        without = {name: statistics.mean_over_seeds(metric, arm[:, kept], test.targets[kept], groups, **how)["value"]
                   for name, arm in predictions.items()}  # fmt: skip
    table = {p.compare.metric: {name: result["value"] for name, result in results.items()}, **differences, "ship": ship}
    table |= {"without_leaks": without} if without else {}
    cards.write_json(runs.COMPARISON, cards.rounded(table))
    forgotten = {hop: cards.read_table(runs.forgetting(hop) / "forgetting.csv") for hop in p.intermediate}
    trainings = [runs.hop(name, hop.data) for name, hop in p.intermediate.items()] + [
        each for arm in arms.values() for each in arm
    ]
    words = verdict.write(p, metric, test, chain, pairs, results, differences, models, ship)
    adapted = [found for each in trainings if (found := adaptation.read(each, p.target.test))]
    words += "\n" + verdict.domains(adapted, p.target.test) if adapted else ""
    shared = verdict.leaks(leaks, metric, p.compare.metric, without.get(proposal), results[proposal]["value"])
    words += "\n" + verdict.warnings(p, trainings, forgotten, shared)
    runs.VERDICT.write_text(words, encoding="utf-8")

    runs.PLOTS.mkdir(parents=True, exist_ok=True)
    gallery.curves(arms, models, p.target.task)
    named = [(f"{proposal} against {runs.shown(pair.control)}", differences[pair.key]) for pair in pairs]
    gallery.comparison(p.compare, metric, results, named)
    gallery.forgetting(forgotten, p.target.task)
    gallery.domains(arms)
    shipped = runs.Training("target", ship, p.target.data)
    for name in plugins.load("tasks", p.target.task, "measures").PLOTS:
        shutil.copyfile(shipped.evaluation / name, runs.PLOTS / name)
    print(words.split("\n## ")[0].partition("\n\n")[2].strip())
