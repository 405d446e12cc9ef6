"""What evaluation knows of tagging: predictions, their table, the report, and what the served model answers."""

import json
import sys

import numpy as np
import pandas as pd
import pytest
import torch
from PIL import Image

from stages.lib.core.contracts import NO_STEP, NO_TARGET
from stages.lib.evaluation import comparison, statistics
from stages.lib.params.schema import Evaluate
from stages.lib.tasks.tag import learning, measures
from stages.lib.tasks.tag import outputs as to
from tests.lib.tasks.tag.cases import case
from tests.tiny import PARAMS

SETTINGS = Evaluate.model_validate(PARAMS["evaluate"])
NAMES = ["O", "B-drug", "I-drug"]


def written(tmp_path, each):
    """The table of predictions as evaluate writes it and compare reads it."""
    columns = measures.table(each.predictions, each.targets, each.names)
    path = tmp_path / "predictions.csv"
    pd.DataFrame({"key": [f"{row:03}" for row in range(len(each.targets))], "group": ""} | columns).to_csv(path, index=False)
    return comparison.read_predictions(path)


def test_predictions_are_the_most_likely_tags_and_their_probabilities():
    outputs = torch.randn(4, 6, 3, generator=torch.Generator().manual_seed(0))
    outputs[1, 4:] = outputs[2, 1] = NO_STEP
    found, probabilities = to.predictions(outputs), to.activation(outputs).numpy()
    there = (outputs[..., 0] > NO_STEP / 2).numpy()
    assert found.shape == (4, 6, 2) and found.dtype == np.float32 and (found[~there] == -1).all()
    assert np.array_equal(found[there][:, 0], probabilities[there].argmax(1))
    assert np.array_equal(found[there][:, 1], probabilities[there].max(1))
    np.testing.assert_allclose(probabilities.sum(2), 1, rtol=1e-6)
    assert to.predictions(torch.zeros(0, 3, 5)).shape == (0, 3, 2)


def test_the_table_can_be_read_and_comes_back_bit_for_bit(tmp_path):
    for seed in range(40):
        each = case(seed)
        table = written(tmp_path, each)
        assert list(table["label"]) == [" ".join(tags) for tags in each.actual]
        assert list(table["predicted"]) == [" ".join(tags) for tags in each.predicted]
        predictions, targets = measures.read(table, each.names)
        assert targets.dtype == each.targets.dtype and np.array_equal(targets, each.targets)
        assert predictions.dtype == np.float32 and np.array_equal(predictions, each.predictions)


def test_every_probability_comes_back(tmp_path):
    """Also of texts of one word, whose column would look like numbers, and of the least and the greatest probabilities."""
    values = np.random.default_rng(0).random(20_000).astype(np.float32)
    values[:6] = 0, 1, np.nextafter(np.float32(1), np.float32(0)), np.finfo(np.float32).tiny, 1e-7, 1 / 3
    predictions = np.stack([np.zeros_like(values), values], 1)[:, None]
    each = case(0)._replace(names=NAMES, targets=np.zeros((len(values), 1), dtype=np.int64), predictions=predictions)
    assert np.array_equal(measures.read(written(tmp_path, each), NAMES)[0], predictions)


def test_a_network_that_cuts_all_texts_gives_arrays_of_the_same_shape(tmp_path):
    """So that its predictions can be compared with those of another one."""
    each = case(5)
    cut = each._replace(predictions=each.predictions[:, :-1])
    predictions, _ = measures.read(written(tmp_path, cut), each.names)
    assert np.array_equal(predictions[:, :-1], cut.predictions) and (predictions[:, -1] == -1).all()


@pytest.mark.parametrize("names", [["O", "B-cell", "I-cell"], ["O"], ["cat", "dog"]])
def test_a_table_of_other_tags_is_none(tmp_path, names):
    table = written(tmp_path, case(5)._replace(names=["O", *(f"{prefix}-{kind}" for kind in "abcd" for prefix in "BI")]))
    with pytest.raises(KeyError):
        measures.read(table, names)
    for column in ("label", "predicted", "confidence"):
        with pytest.raises(KeyError):
            measures.read(table.drop(columns=column), ["O", "B-a", "I-a"])


# The served model


def served(text, tags, probabilities, width=8):
    predictions = np.full((1, width, 2), -1, dtype=np.float32)
    predictions[0, : len(tags)] = np.stack([tags, probabilities], 1)
    answer = measures.served(predictions, NAMES, [text])
    assert {name: values.dtype for name, values in answer.items()} == {"entities": object, "tags": object}
    return json.loads(answer["entities"][0]), answer["tags"][0]


def test_the_served_model_quotes_entities_and_says_where_they_are():
    text = "  Take two\naspirin  tablets, and\u00a0ibuprofen."
    found, tags = served(text, [0, 0, 1, 2, 0, 2], [0.9, 0.9, 0.75, 0.5, 0.9, 0.25])
    assert tags == "O O B-drug I-drug O I-drug"
    assert [each["text"] for each in found] == ["aspirin  tablets,", "ibuprofen."]
    assert all(text[each["start"] : each["end"]] == each["text"] and each["label"] == "drug" for each in found)
    assert [each["probability"] for each in found] == [0.625, 0.25]


def test_words_that_were_cut_off_are_served_as_o_and_text_stays_as_it_is():
    found, tags = served("Grüße, ½ “aspirin” 💊 daily", [0, 0, 1], [1, 1, 1])
    assert tags == "O O B-drug O O" and found[0]["text"] == "“aspirin”"
    assert "“aspirin”" in measures.served(np.array([[[1, 1]]], np.float32), NAMES, ["“aspirin”"])["entities"][0], "no escapes"


def test_nothing_is_served_for_no_input_and_for_an_empty_one():
    answer = measures.served(np.zeros((0, 4, 2), dtype=np.float32), NAMES, [])
    assert list(answer) == ["entities", "tags"] and all(len(values) == 0 for values in answer.values())
    assert served(" ", [], np.zeros(0)) == ([], "")


def test_words_are_what_python_splits_at():
    text = "".join(f"a{chr(code)}" for code in range(sys.maxunicode + 1) if not 0xD800 <= code < 0xE000)
    words = text.split()
    _, tags = served(text, [0], [1])
    assert len(tags.split()) == len(words)


# The report


def test_the_report_has_metrics_with_intervals_also_of_each_type():
    each = case(11, num=40)
    report = measures.report(each.predictions, each.targets, None, each.names, SETTINGS, 0)
    assert json.loads(json.dumps(report, allow_nan=False)) == report
    weights = np.concatenate(list(statistics.resample(40, None, SETTINGS.num_resamples, 0)))
    for name, metric in measures.METRICS.items():
        entry = report["metrics"][name]
        assert entry["value"] == pytest.approx(metric.values(each.predictions, each.targets, np.ones((1, 40)))[0], abs=1e-6)
        lower, upper = statistics.interval(metric.values(each.predictions, each.targets, weights), SETTINGS.confidence)
        assert (entry["lower"], entry["upper"]) == (pytest.approx(float(lower), abs=1e-6), pytest.approx(float(upper), abs=1e-6))
    assert list(report["per_type"]) == [name[2:] for name in each.names[1::2]]
    assert sum(row["support"] for row in report["per_type"].values()) == report["num_entities"]
    assert sum(row["predicted"] for row in report["per_type"].values()) == report["num_predicted"]
    assert report["num_words"] == sum(map(len, each.actual))
    assert report["token_accuracy_of_o"] == pytest.approx(np.mean([tag == "O" for text in each.actual for tag in text]), abs=1e-6)


def test_with_one_type_its_figures_are_those_of_all():
    each = next(each for each in map(case, range(20)) if len(each.names) == 3)
    report = measures.report(each.predictions, each.targets, None, each.names, SETTINGS, 0)
    (row,) = report["per_type"].values()
    for name in ("precision", "recall", "f1"):
        assert row[name] == report["metrics"][f"entity_{name}"]


def test_words_cut_off_are_counted():
    targets = learning.targets(["O O B-drug", "O"], NAMES).numpy()
    outputs = torch.zeros(2, 3, 3)
    outputs[0, 1] = outputs[1, 1:] = NO_STEP
    for steps, cut in ((3, 1), (2, 2), (1, 2)):
        predictions = to.predictions(outputs[:, :steps])
        assert measures.report(predictions, targets, None, NAMES, SETTINGS, 0)["num_words_cut"] == cut


def test_a_type_that_is_neither_there_nor_predicted_has_no_figures():
    targets, names = np.array([[1, 2, 0], [0, 0, 1], [0, 1, NO_TARGET]]), [*NAMES, "B-gene", "I-gene"]
    predictions = np.stack([np.maximum(targets, 0), np.ones(targets.shape)], 2).astype(np.float32)
    row = measures.report(predictions, targets, None, names, SETTINGS, 0)["per_type"]["gene"]
    assert row["support"] == row["predicted"] == 0
    assert all(row[score] == dict.fromkeys(("value", "lower", "upper")) for score in ("precision", "recall", "f1"))


@pytest.mark.parametrize("seed", [5, 7])
def test_tables_and_the_plot_are_written(tmp_path, seed):
    each = case(seed, num=30)
    report = measures.report(each.predictions, each.targets, None, each.names, SETTINGS, 0)
    measures.write(tmp_path, each.predictions, each.targets, report, "title", SETTINGS)
    table = pd.read_csv(tmp_path / "per_type.csv", index_col="type")
    for name, row in report["per_type"].items():
        assert table.loc[name, ["support", "predicted"]].tolist() == [row["support"], row["predicted"]]
        columns = ["recall", "recall_lower", "recall_upper"]
        np.testing.assert_array_equal(table.loc[name, columns].astype(float), np.array(list(row["recall"].values()), float))
    counts = pd.read_csv(tmp_path / "errors.csv", index_col="kind")["count"]
    assert counts.sum() - counts["false alarm"] == report["num_entities"]
    assert counts.sum() - counts["missed"] == report["num_predicted"]
    (plot,) = measures.PLOTS
    with Image.open(tmp_path / plot) as image:
        assert image.width <= 720 and np.asarray(image.convert("L")).std() > 10, "not blank"
