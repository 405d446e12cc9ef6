"""Accuracies of episodes: right, with intervals over episodes, paired, and comparable only if the episodes are the same."""

import numpy as np
import pandas as pd
import pytest
import torch

from stages.lib.core import datasets
from stages.lib.data import episodes
from stages.lib.evaluation import pairing
from stages.lib.params.schema import Evaluate
from stages.lib.tasks.few_shot import classifiers, measures
from stages.lib.tasks.few_shot import outputs as to
from tests.tiny import PARAMS

HOW = {"way": [5, 9], "shots": [1, 3], "queries": 2, "number": 60, "seed": 0}
SETTINGS = Evaluate.model_validate(PARAMS["evaluate"])


def split(**changes):
    labels = [f"{index:02}" for index in range(12) for _ in range(6)]
    found = datasets.in_memory([np.zeros((1, 1))] * len(labels), ragged=False)
    drawn = episodes.draw(labels, (), **HOW | changes)
    return found._replace(labels=labels, keys=[f"{label}/{row}.png" for row, label in enumerate(labels)], episodes=drawn)


def embeddings(spread=1.0, seed=0):
    """Of twelve classes around centres that are always the same."""
    centres = np.random.default_rng(9).normal(size=(12, 8)).repeat(6, axis=0)
    return (centres + spread * np.random.default_rng(seed).normal(size=(72, 8))).astype(np.float32)


def units(spread=1.0, **changes):
    return measures.units(embeddings(spread), split(**changes))


def test_a_unit_is_an_episode_with_the_accuracy_of_each_classifier_in_each_setting():
    found = units()
    drawn = split().episodes
    assert found.values.shape == (60, 4, 10) and found.values.dtype == np.float32
    assert found.keys == [f"{index:04}" for index in range(60)] and len(set(found.targets)) == 60
    assert found.values[0, :, :2].tolist() == [[5, 1], [5, 3], [9, 1], [9, 3]]
    scores = classifiers.scores("matching", embeddings(), *drawn.part(9, 1))
    right = (scores.argmax(2) == np.arange(9).repeat(2)).mean(1)
    assert found.values[:, 2, measures.COLUMNS.index("matching")] == pytest.approx(right)


def test_metrics_are_means_over_episodes_of_the_first_way_and_shot():
    values = units().values.astype(float)
    for name, classifier in zip(measures.METRICS, classifiers.CLASSIFIERS, strict=True):
        weights = np.random.default_rng(0).integers(0, 4, (3, 60)).astype(float)
        own = values[:, 0, measures.COLUMNS.index(classifier)]
        assert measures.METRICS[name].values(values, np.zeros(60), weights) == pytest.approx(
            [np.average(own, weights=row) for row in weights]
        )


def test_the_interval_is_over_episodes():
    """The percentile interval of a mean of 60 is that of the normal distribution, nearly."""
    found = units()
    report = measures.report(found.values, found.targets, None, [], SETTINGS.model_copy(update={"num_resamples": 4000}), 0)
    own = found.values[:, 0, 2]
    half = 1.96 * float(own.std(ddof=1)) / 60**0.5
    entry = report["metrics"]["accuracy"]
    assert entry["value"] == pytest.approx(own.mean(), abs=1e-6)
    assert (entry["lower"], entry["upper"]) == pytest.approx((own.mean() - half, own.mean() + half), abs=0.2 * half)


def test_every_setting_and_classifier_is_reported_and_compared_with_cosine_prototypes():
    found = units()
    report = measures.report(found.values, found.targets, None, [], SETTINGS, 0)
    assert (report["way"], report["shot"], len(report["settings"])) == (5, 1, 16)
    last = report["settings"][-1]
    assert (last["way"], last["shot"], last["classifier"]) == (9, 3, "linear_probe")
    paired = found.values[:, 3, 5].astype(float) - found.values[:, 3, 2]
    assert last["over_cosine"]["value"] == pytest.approx(paired.mean(), abs=1e-6)
    assert last["over_cosine"]["upper"] - last["over_cosine"]["lower"] < last["upper"] - last["lower"], "paired: narrower"
    assert report["settings"][0]["over_cosine"] is None


def test_two_models_are_compared_on_the_same_episodes():
    better, worse = (units(spread).values.astype(float)[None] for spread in (0.6, 1.5))
    how = {"num_resamples": 500, "confidence": 0.95, "seed": 0}
    found = pairing.paired_difference(measures.METRICS["accuracy"], better, worse, np.zeros(60), None, **how)
    assert found["verdict"] == "helps" and found["lower"] > 0.1


@pytest.mark.parametrize("changes", [{"seed": 1}, {"shots": [2, 3]}, {"queries": 3}])
def test_other_episodes_have_other_labels(changes):
    assert set(units().targets) & set(units(**changes).targets) == set()
    assert units(number=7).targets.tolist() == units().targets[:7].tolist()


def test_they_come_back_from_their_table(tmp_path):
    found = units(2.0)
    table = pd.DataFrame(measures.table(found.values, found.targets, []))
    assert "5_way_1_shot_cosine_prototypes" in table and table.label.str.fullmatch("[0-9a-f]{12}").all()
    values, targets = measures.read(table, ["e0"])
    assert np.array_equal(values, found.values) and np.array_equal(targets, found.targets)


def test_the_shown_mistakes_are_queries_that_were_taken_for_another_class():
    found, keys = units(2.0), split().keys
    rows, outputs, titles = measures.most_certain(found.values, found.targets, keys, ["e0"], 5)
    assert len(rows) == len(outputs) == len(titles) == len(set(rows.tolist())) == 5
    drawn, vectors = split().episodes, embeddings(2.0)
    support, queries = drawn.part(5, 1)
    units_ = vectors / np.linalg.norm(vectors, axis=1, keepdims=True)
    most = max(
        (units_[query] @ units_[other] - units_[query] @ units_[support[e, own, 0]], int(query), int(other))
        for e in range(60) for own in range(5) for query in queries[e, own] for other in support[e, :, 0]
    )  # fmt: skip
    assert rows[0] == most[1]
    assert titles[0] == f"{keys[most[1]]}\ntaken for\n{keys[most[2]]} (+{most[0]:.2f})"


def test_without_a_mistake_none_is_shown():
    found = units(0.0)
    assert (found.values[:, :, 2:6] == 1).all()
    rows, outputs, titles = measures.most_certain(found.values, found.targets, split().keys, ["e0"], 5)
    assert rows.shape == outputs.shape == (0,) and titles == []


def test_the_curve_over_shots_is_written_as_table_and_plot(tmp_path):
    found = units()
    report = measures.report(found.values, found.targets, None, [], SETTINGS, 0)
    measures.write(tmp_path, found.values, found.targets, report, "title", SETTINGS)
    table = pd.read_csv(tmp_path / "shots.csv")
    assert list(table.columns[:6]) == ["way", "shot", "classifier", "value", "lower", "upper"] and len(table) == 16
    assert all((tmp_path / name).stat().st_size for name in measures.PLOTS)


def test_embeddings_keep_their_lengths():
    assert to.predictions(torch.tensor([[3.0, 4.0]])).tolist() == [[3, 4]]
