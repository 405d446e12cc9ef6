"""The verdict, on predictions with planted differences, written as evaluate writes them."""

import json
import re
import shutil
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from matplotlib.figure import Figure
from PIL import Image

from stages import compare, report
from stages.lib.core import cards, datasets, runs
from stages.lib.errors import UserError
from tests import outcomes
from tests.outcomes import (
    HOP,
    WEIGHTS,
    scratch,
    target,
    write_advice,
    write_alphas,
    write_arm,
    write_controls,
    write_forgetting,
    write_history,
    write_project,
    write_run,
)
from tests.tiny import FULL, PARAMS, write_params

# in compare.json, beside the arms and the comparisons
BESIDE = ("ship", "shipped", "measured", "intervals", "chance", "use", "luck", "without_leaks", "warnings")
BETTER, WORSE = "this model is better", "this model is worse"  # with one seed
FEATURES = {"epochs": 3, "head_lr": 0.05}
PLOTS = ["comparison.png", "confusion.png", "curves.png", "forgetting.png", "reliability.png"]


@pytest.fixture
def project(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    write_project()


def run():
    compare.main()
    return json.loads(Path("metrics/compare.json").read_text()), Path("metrics/verdict.md").read_text()


def test_an_alternative_is_an_arm_compared_with_the_proposal(project):
    ways = {"probe": {"data": "lines", "strategy": "feature_extraction", **FEATURES},
            "oracle": {"data": "dots", "strategy": "full", **FULL}}  # fmt: skip
    target = PARAMS["target"] | {"data": "lines", "test": "lines"}
    write_params(Path(), PARAMS | {"target": target | {"data": "dots"}, "alternatives": ways})
    write_arm(runs.alternative("probe", 0, "lines"), 0.8, ["tiny", "dots", "probe-0"])
    write_arm(runs.alternative("oracle", 0, "dots"), 0.97, ["tiny", "dots", "oracle-0"], val_loss=0.01)
    table, words = run()
    assert set(table["accuracy"]) == {"dots", "tiny", "probe", "oracle", "scratch"}
    assert table["against_probe"]["verdict"] == BETTER and table["against_oracle"]["verdict"] == WORSE
    assert f"Training as it does (dots, against probe: feature_extraction on lines): {BETTER}" in words
    assert f"(dots, against oracle: full on dots): {WORSE}" in words
    assert table["ship"] == "dots-0", "an alternative is not shipped, even with a lower validation loss"


def test_what_adapted_is_looked_at_with_labels_that_it_did_not_see(project):
    """Ten unlabelled images: epoch 1 is right for 7, epoch 2 (the lowest loss, kept) for 5, epoch 3 (the most information) for 8.
    The first epoch could not be kept."""
    mcc = {"epochs": 3, "lr": 0.01, "head_lr": 0.01, "trainable": "all", "strength": 1, "temperature": 2.5, "select": "loss"}
    ways = {"mcc": {"data": "dots", "strategy": "mcc", **mcc}}
    write_params(Path(), PARAMS | {"target": PARAMS["target"] | {"data": "dots", "test": "lines"}, "alternatives": ways})
    training = runs.alternative("mcc", 0, "dots")
    write_arm(training, 0.6, ["tiny", "dots", "mcc-0"])
    labels = ["cross", "frame"] * 5
    answers = {f"epoch_{n}": labels[:right] + ["frame" if each == "cross" else "cross" for each in labels[right:]]
               for n, right in enumerate((7, 5, 8), start=1)}  # fmt: skip
    pd.DataFrame(answers).to_csv(training.metrics / "answers.csv", index=False)
    history = pd.read_csv(training.metrics / "history.csv").assign(val_information=[0.6, 0.3, 0.5], best=[False, True, False])
    history.to_csv(training.metrics / "history.csv", index=False)
    points = pd.DataFrame({"model": ["before", "before", "after", "after"], "domain": ["labelled", "unlabelled"] * 2,
                           "x": [0.0, 3, 0, 1], "y": [0.0, 1, 0, 1]})  # fmt: skip
    points.to_csv(training.metrics / "domain_points.csv", index=False)
    domains = pd.DataFrame({"model": ["before", "after"], "told_apart": [0.95, 0.7], "a_distance": [1.8, 0.8]})
    domains.to_csv(training.metrics / "domains.csv", index=False)
    table = pd.DataFrame({"key": range(10), "label": labels, "group": ""})
    datasets.write_split(runs.prepared("lines"), "val", [np.zeros((4, 4, 3), np.uint8)] * 10, table)
    _, words = run()
    assert "| mcc-0 | 95 % to 70 % | 1.80 to 0.80 | 50.0 % | 50.0 % | 80.0 % | 80.0 % |" in words
    assert Image.open("metrics/plots/domains.png").width == 700


def test_the_verdict_in_numbers_and_words(project, capsys):
    table, words = run()
    assert set(table) == {"accuracy", "transfer", "intermediate", *BESIDE}
    shown = {name: json.loads(Path(f"metrics/evaluate/{folder}/report.json").read_text())["metrics"]["accuracy"]["value"]
             for name, folder in [("dots", "target-dots-0"), ("tiny", "target-tiny-0"), ("scratch", "scratch-0")]}  # fmt: skip
    assert table["accuracy"] == shown
    for name, control in [("transfer", "scratch"), ("intermediate", "tiny")]:
        d = table[name]
        assert d["verdict"] == BETTER
        assert d["difference"] == pytest.approx(shown["dots"] - shown[control], abs=1e-5)
        assert 0 < d["lower"] < d["difference"] < d["upper"] < 0.35
        ends = f"{100 * d['lower']:+.1f} to {100 * d['upper']:+.1f}"
        assert f"{BETTER}**, {100 * d['difference']:+.1f} points of accuracy (95 % interval {ends}, one seed only)." in words
    assert f"Transfer as a whole (tiny -> dots, against random weights): {BETTER}" in words
    assert f"The intermediate hop (dots, against tiny directly): {BETTER}" in words
    assert "On 300 test images of lines." in words
    assert "Not covered: variation between trainings, because there is only one seed (0)" in words
    assert "the data names no groups" in words
    assert "Similar images may be in training and test" in words
    assert f"| dots (proposal) | {100 * shown['dots']:.1f} % |" in words
    assert f"| random weights (control) | {100 * shown['scratch']:.1f} % |" in words
    assert BETTER in capsys.readouterr().out


def test_dvc_shows_the_figures_of_the_shipped_model_in_one_short_row(project):
    """Its own, not those of the proposal: here the control has the lower validation loss."""
    write_arm(target("tiny"), 0.8, ["tiny", "tiny-0"], val_loss=0.1)
    table, _ = run()
    row, report = (json.loads(Path(f"metrics/{name}.json").read_text()) for name in ("shipped", "evaluate/target-tiny-0/report"))
    assert row["model"] == "tiny-0" and row["transfer"] == table["shipped"]["transfer"] != {}
    assert row["accuracy"] == report["metrics"]["accuracy"]["value"] != table["accuracy"]["dots"]
    assert [row["accuracy_lower"], row["accuracy_upper"]] == [report["metrics"]["accuracy"][end] for end in ("lower", "upper")]
    facts = table["shipped"]["facts"]
    assert row["recall_worst"] == facts["recall_worst"]["value"]
    assert row.keys() == {*report["metrics"], *facts, "accuracy_lower", "accuracy_upper", "model", "transfer"} and len(row) < 13


def test_harm_and_no_difference_are_said(project):
    write_arm(target("dots"), 0.8, ["tiny", "dots", "dots-0"])
    write_arm(scratch(), 0.95, ["0"])
    table, words = run()
    assert table["transfer"]["verdict"] == WORSE and table["transfer"]["upper"] < 0
    assert table["intermediate"]["verdict"] == "this model is as good", "they differ in no image of 300"
    assert f"against random weights): {WORSE}**" in words
    assert "**Random weights did better here**: consider models/scratch/0 instead." in words
    assert "directly): this model is as good, within 2 points**" in words
    write_params(Path(), PARAMS | {"compare": PARAMS["compare"] | {"margin": 0.005}})
    table, words = run()
    assert table["intermediate"]["verdict"] == "no difference shown" and "directly): no difference shown**" in words


def test_validation_chooses_what_is_shipped_and_scratch_is_not_offered(project):
    """On the test dots is best and tiny worst; scratch has the lowest validation loss of all."""
    write_arm(target("tiny"), 0.5, ["tiny", "tiny-0"], val_loss=0.29)
    table, words = run()
    assert table["ship"] == "tiny-0"
    assert "Ship models/target/tiny-0" in words


def test_without_a_hop_there_is_one_comparison(project):
    write_params(Path(), PARAMS | {"inits": ["tiny"], "intermediate": {}})
    shutil.rmtree("metrics/intermediate")
    shutil.rmtree("metrics/forgetting")
    table, words = run()
    assert not Path("metrics/plots/forgetting.png").exists()
    assert set(table) == {"accuracy", "transfer", *BESIDE} and set(table["accuracy"]) == {"tiny", "scratch"}
    assert "intermediate hop" not in words
    assert table["ship"] == "tiny-0", "dots-0 lies about from an earlier run and is not asked for any more"


def test_a_longer_chain_and_a_control_beside_it(project):
    hops = PARAMS["intermediate"] | {"lines": HOP | {"init": "dots"}, "beside": HOP}
    write_params(Path(), PARAMS | {"inits": ["lines", "tiny", "dots", "beside"], "intermediate": hops})
    write_arm(target("lines"), 0.95, ["tiny", "dots", "lines", "lines-0"])
    write_arm(target("beside"), 0.6, ["tiny", "beside", "beside-0"])
    write_history(runs.hop("lines", "lines"))
    write_history(runs.hop("beside", "lines"))
    write_forgetting("lines", **{"target lines-0": (0.9, 0.1)})
    write_forgetting("beside")
    table, words = run()
    assert set(table) == {"accuracy", "transfer", "intermediate", "intermediate_after_dots", "lines_against_beside", *BESIDE}
    assert "The intermediate hops (dots, lines, against tiny directly)" in words
    assert "The intermediate hop (lines, against dots directly)" in words
    assert f"- **lines against beside: {BETTER}**" in words


@pytest.mark.parametrize("seeds", [[0], [0, 1, 2, 3, 7]])
def test_a_control_without_a_network_is_an_arm_like_the_others(project, seeds):
    better, worse = (BETTER, WORSE) if len(seeds) == 1 else ("helps", "hurts")
    write_params(Path(), PARAMS | {"seeds": seeds})
    for seed in seeds[1:]:
        write_arm(target("dots", seed), 0.9, ["tiny", "dots", f"dots-{seed}"], val_loss=0.5)
        write_arm(target("tiny", seed), 0.8, ["tiny", f"tiny-{seed}"], val_loss=0.6)
        write_arm(scratch(seed), 0.7, [str(seed)])
    write_controls(tfidf=0.8)
    table, words = run()
    report = cards.read_json(runs.control("tfidf") / "report.json")
    assert table["accuracy"]["tfidf"] == report["metrics"]["accuracy"]["value"]
    against = table["against_tfidf"]
    assert against["difference"] == pytest.approx(table["accuracy"]["dots"] - table["accuracy"]["tfidf"], abs=2e-6)
    assert against["verdict"] == better and 0 < against["lower"] < against["difference"] < against["upper"]
    assert f"- **A network at all (dots, against arm: tfidf): {better}**" in words
    assert table["ship"] == "dots-0", "it is no model that could be shipped"
    write_controls(tfidf=0.97)
    assert f"- **A network at all (dots, against arm: tfidf): {worse}**" in run()[1]


def test_a_hop_that_answers_what_the_target_asks_is_an_arm_as_it_is(project):
    write_controls(dots_as_it_is=0.75)
    table, words = run()
    assert table["accuracy"]["dots as it is"] < table["accuracy"]["dots"] and table["training"]["verdict"] == BETTER
    assert f"- **Training on the target at all (dots, against arm: dots as it is): {BETTER}**" in words
    write_controls()
    table, words = run()
    assert "training" not in table and "as it is" not in words


def test_several_seeds_are_averaged_and_resampled(project):
    write_params(Path(), PARAMS | {"seeds": [0, 7]})
    write_arm(target("dots", 7), 0.6, ["tiny", "dots", "dots-7"], val_loss=0.1)
    write_arm(target("tiny", 7), 0.8, ["tiny", "tiny-7"], val_loss=0.6)
    write_arm(scratch(7), 0.7, ["7"])
    table, words = run()
    reports = [json.loads(Path(f"metrics/evaluate/target-dots-{seed}/report.json").read_text()) for seed in (0, 7)]
    mean = np.mean([report["metrics"]["accuracy"]["value"] for report in reports])
    assert table["accuracy"]["dots"] == pytest.approx(mean, abs=1e-6)
    assert table["ship"] == "dots-7"
    d = table["intermediate"]  # +0.1 with one seed, -0.2 with the other
    assert d["lower"] < -0.15 and d["upper"] > 0.05 and d["verdict"] == "no difference shown"
    assert "each figure the mean over 2 seeds" in words and "one seed" not in words
    assert "Covered: variation between trainings, by Student's t from the spread of the 2 seeds, which are few" in words


def test_groups_are_drawn_whole_and_named(project):
    before, _ = run()
    write_arm(target("dots"), 0.9, ["tiny", "dots", "dots-0"], num_groups=15)
    write_arm(target("tiny"), 0.8, ["tiny", "tiny-0"], num_groups=15)
    write_arm(scratch(), 0.7, ["0"], num_groups=15)
    table, words = run()
    assert "The images belong to 15 groups, which are resampled whole" in words
    assert "data from a new source" not in words
    assert table["transfer"]["difference"] == before["transfer"]["difference"]
    assert table["transfer"]["lower"] != before["transfer"]["lower"]


def test_of_a_split_that_came_with_the_data_nothing_is_claimed(project):
    for path in Path("metrics/evaluate").glob("*/report.json"):
        cards.write_json(path, cards.read_json(path) | {"split_given": True})
    _, words = run()
    assert "the split came with the data" in words and "data from a new source" not in words


@pytest.mark.parametrize(("metric", "shown"), [("auroc", "auroc"), ("macro_f1", "macro f1")])
def test_the_metric_is_the_one_in_params(project, metric, shown):
    write_params(Path(), PARAMS | {"compare": PARAMS["compare"] | {"metric": metric, "confidence": 0.8}})
    table, words = run()
    report = json.loads(Path("metrics/evaluate/target-dots-0/report.json").read_text())
    assert table[metric]["dots"] == report["metrics"][metric]["value"]
    assert f"points of {shown} (80 % interval" in words
    assert f"| target trained from | {shown} | 80 % interval | epochs | images seen |" in words


@pytest.mark.parametrize("damage", ["order", "fewer", "label", "group"])
def test_arms_on_different_images_are_refused(project, damage):
    path = Path("metrics/evaluate/scratch-0/predictions.csv")
    table = pd.read_csv(path, dtype={"key": str}, keep_default_na=False)
    if damage == "order":
        table = table.iloc[::-1]
    elif damage == "fewer":
        table = table[:-1]
    elif damage == "label":
        table.loc[3, "label"] = {"cross": "frame", "frame": "cross"}[table.loc[3, "label"]]
    else:
        table["group"] = "a"
    table.to_csv(path, index=False)
    with pytest.raises(UserError, match="target-dots-0 and scratch-0 are not for the same test examples in the same order"):
        compare.main()


def test_missing_and_foreign_predictions_are_named(project):
    path = Path("metrics/evaluate/target-tiny-0/predictions.csv")
    text = path.read_text()
    path.write_text(text.replace("p_frame", "p_square"))
    with pytest.raises(UserError, match=r"target-tiny-0/predictions.csv was written for another task or other labels .*p_frame"):
        compare.main()
    path.write_text(text.replace(",frame,", ",square,"))
    with pytest.raises(UserError, match=r"target-tiny-0/predictions.csv was written for another task or other labels .*square"):
        compare.main()
    path.unlink()
    with pytest.raises(UserError, match=r"target-tiny-0/predictions.csv is missing.*dvc repro"):
        compare.main()


@pytest.mark.parametrize("what", ["target", "hop as it is", "forgetting"])
def test_results_of_weights_that_were_trained_again_are_refused(project, what):
    write_controls(dots_as_it_is=0.75)
    compare.main()
    before = runs.COMPARISON.read_bytes()
    if what == "forgetting":
        path = runs.forgetting("dots") / "forgetting.csv"
        path.write_text(path.read_text().replace(WEIGHTS, "cd" * 32))
        stale = "metrics/forgetting/dots measured cdcdcdcd, and models/target/dots-0 is abababab now"
    else:
        training = target("dots") if what == "target" else runs.hop("dots", "dots")
        path = training.metrics / "run.json"
        cards.write_json(path, cards.read_json(path) | {"model": "cd" * 32})
        folder = training.evaluation if what == "target" else runs.control("dots as it is")
        stale = f"{folder} measured abababab, and {training.model} is cdcdcdcd now"
    with pytest.raises(UserError, match=f"(?s){re.escape(stale)}.*Run: dvc repro$"):
        compare.main()
    if what == "target":  # the report reads the tests of trainings again, and the rest from the verdict
        with pytest.raises(UserError, match=re.escape(stale)):
            report.main()
    assert runs.COMPARISON.read_bytes() == before


@pytest.mark.parametrize("kind", ["target", "alternative", "hop after it"])
def test_what_was_trained_from_a_hop_that_was_trained_again_is_refused(project, kind):
    hops = PARAMS["intermediate"] | {"more": PARAMS["intermediate"]["dots"] | {"init": "dots"}}
    ways = {"probe": {"data": "lines", "strategy": "feature_extraction", "epochs": 3, "head_lr": 0.05}}
    write_params(Path(), PARAMS | {"intermediate": hops, "alternatives": ways})
    write_arm(probe := runs.alternative("probe", 0, "lines"), 0.8, ["tiny", "dots", "probe-0"])
    write_history(more := runs.hop("more", "dots"))
    write_forgetting("more")
    training = {"target": target("dots"), "alternative": probe, "hop after it": more}[kind]
    path = training.metrics / "run.json"
    cards.write_json(path, cards.read_json(path) | {"parent": {"name": "dots", "sha256": WEIGHTS}})
    compare.main()
    cards.write_json(path, cards.read_json(path) | {"parent": {"name": "dots", "sha256": "cd" * 32}})
    stale = f"{training.model} was trained from cdcdcdcd, and models/dots is abababab now"
    with pytest.raises(UserError, match=f"(?s){re.escape(stale)}.*Run: dvc repro$"):
        compare.main()


def test_plots_are_there_and_the_same_each_time(project):
    def plots():
        return {path.name: path.read_bytes() for path in sorted(runs.PLOTS.iterdir())}

    first = run(), plots()
    assert list(first[1]) == PLOTS
    for name in PLOTS:
        with Image.open(runs.PLOTS / name) as image:
            assert 400 <= image.width <= 720 and image.height <= 900
            assert np.asarray(image.convert("L")).std() > 10, "not blank"
            assert "Software" not in image.info
    assert (run(), plots()) == first


# Warnings.


def warnings_of(words):
    return words.partition("\n## Warnings\n\n")[2].splitlines()


def test_test_images_in_training_data_are_named_and_left_out_of_a_second_figure(project):
    right, _ = run()
    assert right["without_leaks"] is None
    table = pd.read_csv(target("dots").evaluation / "predictions.csv", dtype={"key": str})
    correct = table.predicted == table.label
    outcomes.write_leaks(tuple(table.key[correct][:100]))
    found, words = run()
    assert found["without_leaks"].keys() == found["accuracy"].keys()
    assert found["without_leaks"]["dots"] == pytest.approx((correct.sum() - 100) / 200, abs=1e-6)
    assert found["accuracy"] == right["accuracy"], "all images stay in the figures"
    assert warnings_of(words) == [
        "- Leak: 100 of 300 test images of lines are also in the training or validation data of lines. metrics/leaks/pairs.csv "
        "lists them; leaks.action: drop leaves them out of training.",
        f"- Without these test examples, the accuracy of the proposal is {100 * found['without_leaks']['dots']:.1f} %; with them "
        f"{100 * found['accuracy']['dots']:.1f} %.",
    ]
    outcomes.write_leaks(("0001",), "dots", "dots", action="drop")
    found, words = run()
    assert found["without_leaks"] is None, "the target's test has none of them"
    assert warnings_of(words) == [
        "- Leak: 1 of 300 test images of dots are also in the training or validation data of dots; these were left out of "
        "training."
    ]


def test_a_clean_run_warns_of_nothing(project):
    _, words = run()
    assert warnings_of(words) == [
        "None: no test example in training data, no wrong preprocessing, no learning rate too high, no missing freezing, no "
        "earlier task forgotten (checks.forgetting: 0.1)."
    ]


def test_a_wrong_preprocessing_stands_in_the_verdict(project):
    write_advice("Nearest neighbours are right more often with BGR.")
    _, words = run()
    assert warnings_of(words) == ["- Preprocessing: Nearest neighbours are right more often with BGR."]


def test_warnings_of_every_training_stand_in_the_verdict(project):
    write_params(Path(), PARAMS | {"seeds": [0, 7]})
    write_arm(target("dots", 7), 0.8, ["tiny", "dots", "dots-7"])
    write_arm(target("tiny", 7), 0.8, ["tiny", "tiny-7"])
    write_arm(scratch(7), 0.7, ["7"])
    write_run(target("dots"), "Learning rate too high: this", "More is trained than the data supports: that")
    for training in (runs.hop("dots", "dots"), target("tiny", 7), scratch(7)):
        write_run(training, f"of {training.name}")
    write_run(target("gone"), "of a training that is not asked for any more")
    found, words = run()
    assert (
        [f"- {each}" for each in found["warnings"]]
        == warnings_of(words)
        == [
            "- intermediate dots: of dots",
            "- target dots-0: Learning rate too high: this",
            "- target dots-0: More is trained than the data supports: that",
            "- target tiny-7: of tiny-7",
            "- scratch 7: of 7",
        ]
    )


def test_forgetting_stands_in_the_verdict(project):
    write_forgetting("dots", **{"lines": (0.9, 0.1), "target dots-0": (0.6, 0.1)})
    (line,) = warnings_of(run()[1])
    start = "- Catastrophic forgetting: after target dots-0, balanced accuracy on dots (with its original head) went from "
    assert line.startswith(f"{start}90.0 % to 60.0 % (-30.0, -40.0 to -20.0; one answer for everything reaches 50.0 %). ")


def test_how_much_may_be_forgotten_is_a_param(project):
    write_params(Path(), PARAMS | {"checks": PARAMS["checks"] | {"forgetting": 0.01}})
    write_forgetting("dots", **{"target dots-0": (0.88, 0.005)})
    assert warnings_of(run()[1])[0].startswith("- Catastrophic forgetting")


@pytest.mark.parametrize(("most", "told"), [(0.8, ["frame"]), (0.55, ["cross", "frame"]), (0.95, [])])
def test_classes_that_are_told_by_what_should_say_nothing_stand_in_the_verdict(project, most, told):
    aurocs = {"cross": (0.7, 0.6), "frame": (0.97, 0.93), "other": (1.0, None)}
    per_class = {name: {"auroc": {"value": value, "lower": lower, "upper": 0.99}} for name, (value, lower) in aurocs.items()}
    write_controls(border=0.9)
    cards.write_json(runs.CONTROLS / "shortcuts.json", {"border": "the border"})
    report = cards.read_json(runs.control("border") / "report.json") | {"per_class": per_class}
    cards.write_json(runs.control("border") / "report.json", report)
    write_params(Path(), PARAMS | {"checks": PARAMS["checks"] | {"shortcut": most}})
    found = [line for line in warnings_of(run()[1]) if line.startswith("- Shortcut: the border alone")]
    assert [line.partition(" tells ")[2].partition(" from ")[0] for line in found] == told
    if told == ["frame"]:
        assert "AUROC 97.0 % (93.0 to 99.0 %)" in found[0]


def test_what_is_missing_for_the_warnings_is_said(project):
    (runs.forgetting("dots") / "forgetting.csv").unlink()
    with pytest.raises(UserError, match=r"forgetting/dots/forgetting.csv is missing.*dvc repro"):
        compare.main()
    write_forgetting("dots")
    Path("metrics/scratch/0/run.json").unlink()
    with pytest.raises(UserError, match=r"scratch/0/run.json cannot be read.*dvc repro"):
        compare.main()


# What is drawn.


@pytest.fixture
def figures(monkeypatch):
    """Each figure that is saved, by the name of its file."""
    found, save = {}, Figure.savefig

    def keep(figure, path, **how):
        found[Path(path).name] = figure
        save(figure, path, **how)

    monkeypatch.setattr(Figure, "savefig", keep)
    return found


def test_the_epoch_that_is_marked_is_that_of_the_model(project, figures):
    """wise_ft may go back to the phase before the last, whose epoch is not the last phase's best."""
    write_run(target("dots"), epoch=1)
    run()
    *_, losses, accuracies = figures["curves.png"].axes
    for axes in (losses, accuracies):
        marked = [line.get_xdata().tolist() for line in axes.lines if line.get_marker() == "o" and len(line.get_xdata())]
        assert marked == [[1], [2], [2]], "dots, tiny and random weights"
    lines = [line for line in accuracies.lines if line.get_marker() != "o"]
    assert [line.get_label() for line in lines] == ["dots", "tiny", "random weights"]
    assert lines[0].get_ydata().tolist() == [50, 80, 70]


def test_the_matrix_of_tasks_and_trainings(project, figures):
    hops = PARAMS["intermediate"] | {"lines": HOP | {"init": "dots"}, "other": HOP}
    write_params(Path(), PARAMS | {"intermediate": hops})
    for name in ("lines", "other"):
        write_history(runs.hop(name, "lines"))
    write_forgetting("dots", **{"lines": (0.8, 0.1), "target dots-0": (0.7, 0.1)})
    write_forgetting("lines", **{"target dots-0": (0.6, 0.1)})
    write_forgetting("other")
    run()
    axes = figures["forgetting.png"].axes[0]
    tasks, models = ([label.get_text() for label in labels] for labels in (axes.get_xticklabels(), axes.get_yticklabels()))
    assert tasks == ["dots", "lines", "other"]
    assert models == ["hop dots", "hop lines", "hop other", "target dots-0"]
    nan = np.nan  # where a model does not come after the task
    values = axes.images[0].get_array().filled(nan)
    np.testing.assert_allclose(values, [[0.8, nan, nan], [0.6, 0.8, nan], [nan, nan, nan], [0.4, 0.2, nan]])
    assert [text.get_text() for text in axes.texts] == ["90.0", "80.0", "90.0", "70.0", "60.0"], "in percent, as the title says"
    assert [text.get_text() for text in axes.texts] == ["90.0", "80.0", "90.0", "70.0", "60.0"]


def test_the_line_of_wise_ft_is_drawn_where_there_is_one(project, figures):
    run()
    path = runs.PLOTS / "alpha.png"
    assert not path.exists()
    write_alphas("dots", **{"target dots-0": [0.9, 0.85, 0.7, 0.4, 0.3], "target dots-1": [0.9, 0.9, 0.8, 0.8, 0.8]})
    run()
    first, second = figures["alpha.png"].axes[0].lines
    assert (first.get_label(), second.get_label()) == ("target dots-0 against dots", "target dots-1 against dots")
    np.testing.assert_allclose(first.get_xdata(), [90, 85, 70, 40, 30])
    np.testing.assert_allclose(first.get_ydata(), [50, 60, 70, 80, 90])
    with Image.open(path) as image:
        assert 400 <= image.width <= 720
        assert np.asarray(image.convert("L")).std() > 10, "not blank"
    before = path.read_bytes()
    run()
    assert path.read_bytes() == before


def test_what_is_said_of_the_model_to_ship_is_in_numbers_too(project):
    table, words = run()
    report = json.loads((target("dots").evaluation / "report.json").read_text())
    shipped, accuracy = table["shipped"], report["metrics"]["accuracy"]
    assert shipped["trained_from"] == "dots" and shipped["facts"]["accuracy"] == pytest.approx(accuracy)
    assert set(shipped["facts"]) == {"accuracy", "recall_worst", "false_alarms", "ece"}
    assert shipped["transfer"] == {name: table["transfer"][name] for name in ("difference", "lower", "upper")}
    assert f"- What transfer was worth to it: {100 * shipped['transfer']['difference']:+.1f} points of accuracy" in words


def test_transfer_was_worth_to_the_shipped_model_what_its_own_arm_gained(project):
    """Where the control is shipped, and not the proposal."""
    write_arm(target("tiny"), 0.8, ["tiny", "tiny-0"], val_loss=0.1)
    table, _ = run()
    assert table["ship"] == "tiny-0" and table["shipped"]["trained_from"] == "tiny"
    gain = table["accuracy"]["tiny"] - table["accuracy"]["scratch"]
    assert table["shipped"]["transfer"]["difference"] == pytest.approx(gain, abs=1e-5)
    assert gain < table["transfer"]["difference"]


def test_one_figure_has_one_interval_wherever_it_stands(project):
    table, words = run()
    for arm, training in (("dots", target("dots")), ("tiny", target("tiny")), ("scratch", scratch())):
        own = json.loads((training.evaluation / "report.json").read_text())["metrics"]["accuracy"]
        assert table["intervals"][arm] == pytest.approx({end: own[end] for end in ("lower", "upper")})
        assert f"{100 * own['lower']:.1f} % to {100 * own['upper']:.1f} % |" in words
