"""Compare the target with its controls: did transfer and the hops help, and which model to ship: python -m stages compare"""

import shutil
from typing import Any

from stages.lib.core import cards, contracts, plugins, runs
from stages.lib.evaluation import adaptation, comparison, current, facts, pairing, verdicts
from stages.lib.params import read as params
from stages.lib.plots import gallery
from stages.lib.reporting import verdict
from stages.lib.reporting.verdict import spent, warnings


def main() -> None:
    p = params.load("compare", "checks", "intermediate", "target", "inits", "seeds", "alternatives")
    arms = runs.arms(p.inits, {name: block.data for name, block in p.alternatives.items()}, p.seeds, p.target.data)
    models = {each.name: cards.read_model_card(each.model) for init in p.inits for each in arms[init]}
    proposal, ship = p.inits[0], comparison.best(models)
    card = models[ship]
    chain = models[arms[proposal][0].name].ancestors
    titles = cards.read_json(runs.CONTROLS / "controls.json")  # measured once: they are the same for every seed
    hops = {name: runs.hop(name, hop.data) for name, hop in p.intermediate.items()}
    trainings = [*hops.values(), *(each for arm in arms.values() for each in arm)]
    forgotten = {hop: cards.read_table(runs.forgetting(hop) / "forgetting.csv", dtype={"only": str}) for hop in hops}
    measured_as_is = {runs.as_is(name): hop for name, hop in hops.items() if runs.as_is(name) in titles}
    current.require(trainings, measured_as_is, forgotten)
    controls = {arm: [runs.control(arm)] * len(p.seeds) for arm in titles}
    ways = {name: f"{block.strategy} on {block.data}" for name, block in p.alternatives.items()}
    pairs = comparison.plan(proposal, chain, p.inits[1:], ways, titles)
    evaluations = runs.evaluations(arms) | controls
    test, predictions = comparison.read_arms(evaluations, card)

    metric, how = comparison.metric_of(card, p.compare.metric), comparison.bootstrap(p.compare)
    sure = verdicts.at_this_look(p.compare, len(p.seeds))
    drawn = {name: pairing.resampled(metric, arm, test.targets, test.groups, **how) for name, arm in predictions.items()}
    means = {name: pairing.over_seeds(metric, *each, how["seed"]) for name, each in drawn.items()}
    results = {name: comparison.figure(p.compare.metric, evaluations[name], mean, sure) for name, mean in means.items()}
    differences = {
        pair.key: pairing.paired(metric, predictions[proposal], predictions[pair.control], test.targets, test.groups, **how)
        for pair in pairs
    }
    judged = verdicts.judged(differences, metric, p.compare, len(p.seeds))
    start = ship.rpartition("-")[0]
    gained = pairing.paired_difference(
        metric, predictions[start], predictions[runs.SCRATCH], test.targets, test.groups, confidence=sure, **how
    )
    shipped = runs.Training("target", ship, p.target.data)
    report = cards.read_json(shipped.evaluation / "report.json")
    told = facts.of(report, verdict.noun_of(card))
    measured = {each.evaluation.name: cards.read_json(each.evaluation / "report.json")["model"] for each in trainings}
    leaks = cards.read_json(runs.LEAKS / "leaks.json")
    without = comparison.without_leaks(leaks, p.target.test, metric, test, predictions, how)
    values = {name: result["value"] for name, result in results.items()}
    chance = contracts.chance(p.target.task, p.compare.metric, test.targets, card.num_outputs)
    luck = verdicts.luck([one for arm in arms for one in drawn[arm][1].T])
    blind = cards.read_json(runs.CONTROLS / "shortcuts.json")
    shortcuts = {what: cards.read_json(runs.control(arm) / "report.json") for arm, what in blind.items()}
    warned = warnings.found(p, trainings, forgotten, shortcuts)
    compared = verdicts.Comparison(
        ship=ship, shipped=verdicts.Shipped(
            trained_from=start, transfer={"difference": gained["difference"], "lower": gained["lower"], "upper": gained["upper"]},
            facts={fact.key: {"value": fact.value, "lower": fact.lower, "upper": fact.upper} for fact in told.facts},
        ), measured=measured, use=card.use, chance=chance, luck=luck, without_leaks=without, warnings=warned,
        intervals={name: {end: result[end] for end in ("lower", "upper")} for name, result in results.items()},
        **{p.compare.metric: values}, **judged,
    )  # fmt: skip
    cards.write_json(runs.COMPARISON, cards.rounded(compared.model_dump()))
    row = figures(report) | {fact.key: fact.value for fact in told.facts} | {"model": ship, "transfer": compared.shipped.transfer}
    cards.write_json(runs.SHIPPED, cards.rounded(row))
    measures = plugins.load("tasks", p.target.task, "measures")
    words = verdict.write(p, metric, test, chain, pairs, results, compared, models, told, spent.of_arms(arms, p.target.data))
    adapted = [found for each in trainings if (found := adaptation.read(each, p.target.test))]
    words += "\n" + warnings.domains(adapted, p.target.test) if adapted else ""
    shared = warnings.leaks(leaks, metric, p.compare.metric, without, proposal, results)
    words += "\n" + warnings.write(p, [*shared, *warned], forgotten)
    runs.VERDICT.write_text(words, encoding="utf-8")

    runs.PLOTS.mkdir(parents=True, exist_ok=True)
    gallery.curves(arms, models, p.target.task)
    named = [(f"{proposal} against {runs.shown(pair.control)}", judged[pair.key].model_dump()) for pair in pairs]
    gallery.comparison(p.compare, metric, results, named)
    gallery.forgetting(forgotten, p.target.task)
    gallery.domains(arms)
    for name in measures.PLOTS:
        shutil.copyfile(shipped.evaluation / name, runs.PLOTS / name)
    print(words.split("\n## Measured")[0].partition("\n\n")[2].strip())


def figures(report: dict[str, Any]) -> dict[str, float | None]:
    """What DVC shows of a model, from its report.json: all of its metrics, and the interval of the primary one."""
    found, (primary, _) = report["metrics"], contracts.scale_of(report)
    ends = {f"{primary}_{end}": found[primary][end] for end in ("lower", "upper")}
    return {name: figure["value"] for name, figure in found.items()} | ends
