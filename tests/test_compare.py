"""The verdict, on predictions with planted differences, written as evaluate writes them."""

import json
import shutil
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pandas as pd
import pytest
from PIL import Image

from stages import compare, evaluate
from stages.lib import artifacts
from stages.lib.errors import UserError
from tests.conftest import FULL, PARAMS, write_params

CLASSES = ["cross", "frame"]
SETTINGS = SimpleNamespace(num_resamples=100, confidence=0.95, ece_bins=5)
PICTURES = ["comparison.png", "confusion.png", "curves.png", "forgetting.png", "reliability.png"]


def write_arm(stage, name, rate, chain, seed=0, val_loss=0.5, num=300, groups=None, by_group=False):
    """Write what target or scratch and evaluate write of a model that is right at `rate`; images are as hard for all."""
    hard = np.random.default_rng(0).random(num)
    random = np.random.default_rng([seed, int(1000 * rate)])
    labels = np.random.default_rng(1).integers(2, size=num)
    right = hard + random.normal(0, 0.02, num) < rate
    of_one = np.where(right == labels, random.uniform(0.6, 0.99, num), random.uniform(0.01, 0.4, num))
    probabilities = np.stack([1 - of_one, of_one], axis=1).astype(np.float32)
    split = artifacts.Split(None, labels, [f"{i:03}" for i in range(num)], groups)
    report = evaluate.measure(probabilities, split, CLASSES, SETTINGS) | {"split_by_group": by_group, "split_given": False}
    evaluate.write(Path(f"metrics/evaluate/{stage}-{name}"), probabilities, split, report, SETTINGS.ece_bins)
    best = {"epoch": 2, "val_loss": val_loss, "val_accuracy": rate}
    artifacts.write_json(
        Path(f"models/{stage}/{name}/card.json"), {"chain": chain, "classes": CLASSES, "data": "lines", "best": best}
    )
    write_history(f"{stage}/{name}", val_loss)


def write_advice(*warnings):
    artifacts.write_json(Path("metrics/advise.json"), {"warnings": list(warnings)})


def write_history(folder, val_loss):
    table = {"phase": 0, "epoch": [1, 2, 3], "lr_backbone": 0.1, "lr_head": 0.1, "train_loss": [0.9, 0.7, 0.6]}
    table |= {"val_loss": [0.8, val_loss, val_loss + 0.1], "val_accuracy": [0.5, 0.8, 0.7], "best": [True, True, False]}
    (Path("metrics") / folder).mkdir(parents=True, exist_ok=True)
    pd.DataFrame(table).to_csv(Path("metrics") / folder / "history.csv", index=False)
    write_run(folder)


def write_run(folder, *warnings):
    run = {"name": folder.replace("/", " "), "warnings": list(warnings), "best": {"epoch": 2}}
    artifacts.write_json(Path("metrics") / folder / "run.json", run)


def write_forgetting(hop, **later):
    """What forgetting writes; for each later model its accuracy on the hop's task (before: 0.9) and the interval's half width."""
    rows = [(name, 0.9, after, after - 0.9, after - 0.9 - half, after - 0.9 + half) for name, (after, half) in later.items()]
    table = pd.DataFrame(rows, columns=["model", "before", "accuracy", "change", "lower", "upper"])
    path = Path("metrics/forgetting") / hop / "accuracy.csv"
    path.parent.mkdir(parents=True, exist_ok=True)
    table.to_csv(path, index=False)


def write_alphas(hop, **models):
    """What forgetting writes where models come from wise_ft: accuracy on the hop's task along the line, for each."""
    rows = [{"model": name, "alpha": index / 4, "target_val_accuracy": 0.5 + index / 10, "earlier_accuracy": accuracy}
            for name, line in models.items() for index, accuracy in enumerate(line)]  # fmt: skip
    pd.DataFrame(rows).to_csv(f"metrics/forgetting/{hop}/alpha.csv", index=False)


@pytest.fixture
def project(tmp_path, monkeypatch):
    """dots (0.9) from tiny, tiny (0.8) and random weights (0.7): transfer and hop both help."""
    monkeypatch.chdir(tmp_path)
    write_params(tmp_path, PARAMS)
    write_arm("target", "dots-0", 0.9, ["tiny", "dots", "dots-0"], val_loss=0.3)
    write_arm("target", "tiny-0", 0.8, ["tiny", "tiny-0"], val_loss=0.4)
    write_arm("scratch", "0", 0.7, ["0"], val_loss=0.2)
    write_history("intermediate/dots", 0.3)
    write_forgetting("dots", **{"target dots-0": (0.88, 0.05)})
    write_advice()


def run():
    compare.main()
    return json.loads(Path("metrics/compare.json").read_text()), Path("metrics/verdict.md").read_text()


def test_the_verdict_in_numbers_and_words(project, capsys):
    table, words = run()
    assert set(table) == {"accuracy", "transfer", "intermediate", "ship"}
    shown = {name: json.loads(Path(f"metrics/evaluate/{folder}/report.json").read_text())["metrics"]["accuracy"]["value"]
             for name, folder in [("dots", "target-dots-0"), ("tiny", "target-tiny-0"), ("scratch", "scratch-0")]}  # fmt: skip
    assert table["accuracy"] == shown
    for name, control in [("transfer", "scratch"), ("intermediate", "tiny")]:
        d = table[name]
        assert d["verdict"] == "helps"
        assert d["difference"] == pytest.approx(shown["dots"] - shown[control], abs=1e-5)
        assert 0 < d["lower"] < d["difference"] < d["upper"] < 0.35
        assert f"{100 * d['difference']:+.1f} points of accuracy (95% interval {100 * d['lower']:+.1f} to" in words
    assert "Transfer as a whole (tiny -> dots, against random weights): helps" in words
    assert "The intermediate hop (dots, against tiny directly): helps" in words
    assert "300 test images of lines" in words
    assert "there is one seed (0)" in words and "for one seed only" in words
    assert "the data names no groups" in words
    assert "the split was not made by groups" in words
    assert f"| dots (proposal) | {100 * shown['dots']:.1f} % |" in words
    assert f"| random weights (control) | {100 * shown['scratch']:.1f} % |" in words
    assert "helps" in capsys.readouterr().out


def test_harm_and_no_difference_are_said(project):
    write_arm("target", "dots-0", 0.8, ["tiny", "dots", "dots-0"], seed=5)
    write_arm("scratch", "0", 0.95, ["0"])
    table, words = run()
    assert table["transfer"]["verdict"] == "hurts" and table["transfer"]["upper"] < 0
    assert table["intermediate"]["verdict"] == "no difference shown"
    assert "against random weights): hurts**" in words
    assert "**Random weights did better here**: consider models/scratch/0 instead." in words
    assert "directly): no difference shown**" in words


def test_validation_chooses_what_is_shipped_and_scratch_is_not_offered(project):
    """On the test dots is best and tiny worst; scratch has the lowest validation loss of all."""
    write_arm("target", "tiny-0", 0.5, ["tiny", "tiny-0"], val_loss=0.29)
    table, words = run()
    assert table["ship"] == "tiny-0"
    assert "Ship models/target/tiny-0" in words


def test_without_a_hop_there_is_one_comparison(project):
    write_params(Path(), PARAMS | {"inits": ["tiny"], "intermediate": {}})
    shutil.rmtree("metrics/intermediate")
    shutil.rmtree("metrics/forgetting")
    table, words = run()
    assert not Path("metrics/plots/forgetting.png").exists()
    assert set(table) == {"accuracy", "transfer", "ship"} and set(table["accuracy"]) == {"tiny", "scratch"}
    assert "intermediate hop" not in words
    assert table["ship"] == "tiny-0", "dots-0 lies about from an earlier run and is not asked for any more"


def test_a_longer_chain_and_a_control_beside_it(project):
    lines = FULL | {"init": "dots", "data": "lines", "strategy": "full"}
    beside = FULL | {"init": "tiny", "data": "lines", "strategy": "full"}
    hops = PARAMS["intermediate"] | {"lines": lines, "beside": beside}
    write_params(Path(), PARAMS | {"inits": ["lines", "tiny", "dots", "beside"], "intermediate": hops})
    write_arm("target", "lines-0", 0.95, ["tiny", "dots", "lines", "lines-0"])
    write_arm("target", "beside-0", 0.6, ["tiny", "beside", "beside-0"])
    write_history("intermediate/lines", 0.3)
    write_history("intermediate/beside", 0.3)
    write_forgetting("lines", **{"target lines-0": (0.9, 0.1)})
    write_forgetting("beside")
    table, words = run()
    assert set(table) == {"accuracy", "transfer", "intermediate", "intermediate_after_dots", "lines_against_beside", "ship"}
    assert "The intermediate hops (dots, lines, against tiny directly)" in words
    assert "The intermediate hop (lines, against dots directly)" in words
    assert "- **lines against beside: helps**" in words


def test_several_seeds_are_averaged_and_resampled(project):
    write_params(Path(), PARAMS | {"seeds": [0, 7]})
    for name, rate, chain in [("dots", 0.6, ["tiny", "dots", "dots-7"]), ("tiny", 0.8, ["tiny", "tiny-7"])]:
        write_arm("target", f"{name}-7", rate, chain, seed=7, val_loss=0.1 if name == "dots" else 0.6)
    write_arm("scratch", "7", 0.7, ["7"], seed=7)
    table, words = run()
    reports = [json.loads(Path(f"metrics/evaluate/target-dots-{seed}/report.json").read_text()) for seed in (0, 7)]
    mean = np.mean([report["metrics"]["accuracy"]["value"] for report in reports])
    assert table["accuracy"]["dots"] == pytest.approx(mean, abs=1e-6)
    assert table["ship"] == "dots-7"
    d = table["intermediate"]  # +0.1 with one seed, -0.2 with the other
    assert d["lower"] < -0.15 and d["upper"] > 0.05 and d["verdict"] == "no difference shown"
    assert "the 2 seeds were resampled" in words and "one seed" not in words


def test_groups_are_drawn_whole_and_named(project):
    before, _ = run()
    groups = np.repeat([f"module {index}" for index in range(15)], 20)
    write_arm("target", "dots-0", 0.9, ["tiny", "dots", "dots-0"], groups=groups, by_group=True)
    write_arm("target", "tiny-0", 0.8, ["tiny", "tiny-0"], groups=groups, by_group=True)
    write_arm("scratch", "0", 0.7, ["0"], groups=groups, by_group=True)
    table, words = run()
    assert "belong to 15 groups, which were drawn whole" in words
    assert "not made by groups" not in words
    assert table["transfer"]["difference"] == before["transfer"]["difference"]
    assert table["transfer"]["lower"] != before["transfer"]["lower"]


def test_of_a_split_that_came_with_the_data_nothing_is_claimed(project):
    for path in Path("metrics/evaluate").glob("*/report.json"):
        artifacts.write_json(path, artifacts.read_json(path) | {"split_given": True})
    _, words = run()
    assert "the split came with the data" in words and "not made by groups" not in words


def test_the_metric_is_the_one_in_params(project):
    write_params(Path(), PARAMS | {"compare": PARAMS["compare"] | {"metric": "auroc", "confidence": 0.8}})
    table, words = run()
    report = json.loads(Path("metrics/evaluate/target-dots-0/report.json").read_text())
    assert table["auroc"]["dots"] == report["metrics"]["auroc"]["value"]
    assert "points of auroc (80% interval" in words


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
    with pytest.raises(UserError, match="target-dots-0 and scratch-0 are not for the same test images"):
        compare.main()


def test_missing_and_foreign_predictions_are_named(project):
    path = Path("metrics/evaluate/target-tiny-0/predictions.csv")
    text = path.read_text()
    path.write_text(text.replace("p_frame", "p_square"))
    with pytest.raises(UserError, match=r"target-tiny-0/predictions.csv lacks the columns p_frame"):
        compare.main()
    path.unlink()
    with pytest.raises(UserError, match=r"target-tiny-0/predictions.csv is missing.*dvc repro"):
        compare.main()


def test_pictures_are_there_and_the_same_each_time(project):
    def pictures():
        return {path.name: path.read_bytes() for path in sorted(Path("metrics/plots").iterdir())}

    first = run(), pictures()
    assert list(first[1]) == PICTURES
    for name in PICTURES:
        with Image.open(f"metrics/plots/{name}") as image:
            assert 400 <= image.width <= 720 and image.height <= 900
            assert np.asarray(image.convert("L")).std() > 10, "not blank"
            assert "Software" not in image.info
    assert (run(), pictures()) == first


# Signs of mistakes.


def signs_of(words):
    return words.partition("\n## Signs of mistakes\n\n")[2].splitlines()


def test_a_clean_run_says_that_no_sign_was_found(project):
    _, words = run()
    assert signs_of(words) == [
        "None found: no wrong preprocessing, no learning rate too high, no forgotten freezing, no earlier task lost more than "
        "10 points."
    ]


def test_a_wrong_preprocessing_stands_in_the_verdict(project):
    write_advice("Nearest neighbours are right more often with BGR.")
    _, words = run()
    assert signs_of(words) == ["- Preprocessing: Nearest neighbours are right more often with BGR."]


def test_warnings_of_every_training_stand_in_the_verdict(project):
    write_params(Path(), PARAMS | {"seeds": [0, 7]})
    for name, chain in [("dots", ["tiny", "dots", "dots-7"]), ("tiny", ["tiny", "tiny-7"])]:
        write_arm("target", f"{name}-7", 0.8, chain, seed=7)
    write_arm("scratch", "7", 0.7, ["7"], seed=7)
    write_run("target/dots-0", "Learning rate too high: this", "More is trained than the data supports: that")
    for folder in ("intermediate/dots", "target/tiny-7", "scratch/7"):
        write_run(folder, f"of {folder}")
    write_run("target/gone-0", "of a training that is not asked for any more")
    _, words = run()
    assert signs_of(words) == [
        "- intermediate dots: of intermediate/dots",
        "- target dots-0: Learning rate too high: this",
        "- target dots-0: More is trained than the data supports: that",
        "- target tiny-7: of target/tiny-7",
        "- scratch 7: of scratch/7",
    ]


@pytest.mark.parametrize(
    ("after", "half", "named"),
    [(0.6, 0.1, True), (0.6, 0.4, False), (0.81, 0.01, False), (0.79, 0.01, True), (0.95, 0.01, False)],
    ids=["far less", "maybe chance", "not enough", "just enough", "more"],
)
def test_forgetting_is_named_where_it_is_more_than_allowed_and_no_chance(project, after, half, named):
    write_forgetting("dots", **{"lines": (0.9, 0.1), "target dots-0": (after, half)})
    _, words = run()
    (line,) = signs_of(words)
    assert line.startswith("- Catastrophic forgetting: after target dots-0, dots is recognised with ") == named
    if named:
        low, high = (f"{100 * (after - 0.9 + end):+.1f}" for end in (-half, half))
        assert f"{100 * after:.1f} % instead of 90.0 % ({100 * (after - 0.9):+.1f} points, {low} to {high};" in line
        assert "keep models/dots beside the new model, or choose strategy wise_ft" in line


def test_how_much_may_be_forgotten_is_a_param(project):
    write_params(Path(), PARAMS | {"checks": PARAMS["checks"] | {"forgetting": 0.01}})
    write_forgetting("dots", **{"target dots-0": (0.88, 0.005)})
    assert signs_of(run()[1])[0].startswith("- Catastrophic forgetting")


def test_what_is_missing_for_the_signs_is_said(project):
    Path("metrics/forgetting/dots/accuracy.csv").unlink()
    with pytest.raises(UserError, match=r"forgetting/dots/accuracy.csv is missing.*dvc repro"):
        compare.main()
    write_forgetting("dots")
    Path("metrics/scratch/0/run.json").unlink()
    with pytest.raises(UserError, match=r"scratch/0/run.json cannot be read.*dvc repro"):
        compare.main()


# The curves.


def test_the_epoch_that_is_marked_is_that_of_the_model(project, monkeypatch):
    """wise_ft may go back to the phase before the last, whose epoch is not the last phase's best."""
    run_file = Path("metrics/target/dots-0/run.json")
    artifacts.write_json(run_file, artifacts.read_json(run_file) | {"best": {"epoch": 1}})
    calls = drawn(monkeypatch, "curves")
    run()
    ((_, tables, _),) = calls
    assert tables["dots"][0].kept.tolist() == [True, False, False]
    assert tables["tiny"][0].kept.tolist() == [False, True, False]


# Pictures of forgetting.


def drawn(monkeypatch, name):
    """What a function of pictures is called with; it draws all the same."""
    from stages.lib import pictures

    calls, draw = [], getattr(pictures, name)

    def look(*arguments):
        calls.append(arguments)
        draw(*arguments)

    monkeypatch.setattr(pictures, name, look)
    return calls


def test_the_matrix_of_tasks_and_trainings(project, monkeypatch):
    hop = FULL | {"init": "dots", "data": "lines", "strategy": "full"}
    hops = PARAMS["intermediate"] | {"lines": hop, "other": hop | {"init": "tiny"}}
    write_params(Path(), PARAMS | {"intermediate": hops})
    for name in ("lines", "other"):
        write_history(f"intermediate/{name}", 0.3)
    write_forgetting("dots", **{"lines": (0.8, 0.1), "target dots-0": (0.7, 0.1)})
    write_forgetting("lines", **{"target dots-0": (0.6, 0.1)})
    write_forgetting("other")
    calls = drawn(monkeypatch, "forgetting")
    run()
    ((_, models, tasks, accuracy),) = calls
    assert tasks == ["dots", "lines", "other"]
    assert models == ["hop dots", "hop lines", "hop other", "target dots-0"]
    nan = np.nan  # where a model does not come after the task
    np.testing.assert_array_equal(accuracy, [[0.9, nan, nan], [0.8, 0.9, nan], [nan, nan, nan], [0.7, 0.6, nan]])


def test_the_line_of_wise_ft_is_drawn_where_there_is_one(project, monkeypatch):
    run()
    assert not Path("metrics/plots/alpha.png").exists()
    write_alphas("dots", **{"target dots-0": [0.9, 0.85, 0.7, 0.4, 0.3], "target dots-1": [0.9, 0.9, 0.8, 0.8, 0.8]})
    calls = drawn(monkeypatch, "alphas")
    run()
    ((path, curves),) = calls
    assert list(curves) == ["target dots-0 against dots", "target dots-1 against dots"]
    assert curves["target dots-0 against dots"].earlier_accuracy.tolist() == [0.9, 0.85, 0.7, 0.4, 0.3]
    with Image.open(path) as image:
        assert 400 <= image.width <= 720
        assert np.asarray(image.convert("L")).std() > 10, "not blank"
    before = path.read_bytes()
    run()
    assert path.read_bytes() == before


def test_many_classes_fit_into_the_picture(tmp_path):
    from stages.lib import pictures

    for num in (3, 12, 40, 100):
        counts = np.random.default_rng(0).integers(5, size=(num, num)) + 20 * np.eye(num, dtype=int)
        pictures.confusion(tmp_path / "confusion.png", counts, [f"class {i}" for i in range(num)], "title")
        with Image.open(tmp_path / "confusion.png") as image:
            assert image.width <= 720


# One model against another, for the registry


def answers(path, labels, right, keys=None, classes=("cross", "frame")):
    """A table as evaluate writes it, of a model that is right where `right` says so."""
    predicted = np.where(right, labels, 1 - labels)
    table = pd.DataFrame({"key": [f"{i:03}" for i in range(len(labels))] if keys is None else keys, "group": ""})
    table["label"], table["predicted"] = (np.array(classes)[each] for each in (labels, predicted))
    for index, name in enumerate(classes):
        table[f"p_{name}"] = np.where(predicted == index, 0.9, 0.1)
    table.to_csv(path, index=False)
    return path


def test_one_model_is_better_than_another_beyond_the_interval_only(tmp_path):
    labels = np.arange(200) % 2
    random = np.random.default_rng(0).random(200)
    settings = SimpleNamespace(metric="accuracy", confidence=0.95,
                               model_dump=lambda exclude: {"num_resamples": 500, "confidence": 0.95})  # fmt: skip
    paths = [answers(tmp_path / f"{rate}.csv", labels, random < rate) for rate in (0.7, 0.71, 0.9)]
    better, words = compare.against(paths[0], paths[2], CLASSES, settings)
    assert better and words.startswith("+2") and words.endswith("better.")
    better, words = compare.against(paths[0], paths[1], CLASSES, settings)
    assert not better and words.endswith("not shown to be better.")
    assert not compare.against(paths[2], paths[0], CLASSES, settings)[0]


def test_models_of_other_test_images_or_classes_are_not_compared(tmp_path):
    labels = np.arange(20) % 2
    one = answers(tmp_path / "one.csv", labels, labels == labels)
    keys = [f"other {i}" for i in range(20)]
    other = answers(tmp_path / "other.csv", labels, labels == labels, keys=keys)
    assert compare.against(other, one, CLASSES, None) == (
        False,
        "it was measured on other test images, so the two cannot be compared.",
    )
    renamed = answers(tmp_path / "renamed.csv", labels, labels == labels, classes=("cross", "line"))
    assert compare.against(renamed, one, CLASSES, None) == (False, "it knows other classes, so the two cannot be compared.")
