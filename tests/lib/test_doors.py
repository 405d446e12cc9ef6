"""Every modality and every task is described for these tests, and every task keeps the contract of stages/README.md."""

import json

import numpy as np
import pandas as pd
import pytest
import torch
from torch.nn.functional import pad

from stages.lib.calibration import fit
from stages.lib.core import plugins
from stages.lib.core.contracts import NO_STEP, NO_TARGET, Metric
from stages.lib.errors import UserError
from stages.lib.evaluation import comparison
from stages.lib.params.schema import Calibrate, Evaluate, TrainingOptions
from tests.lib.doors import MODALITIES, NUM, TASKS, Task, every, task_of, toys
from tests.tiny import PARAMS, options

__all__ = ["toys"]  # a fixture for all tests of this file
SETTINGS = Evaluate.model_validate(PARAMS["evaluate"])


def test_every_plugin_is_described():
    assert set(every("tasks")) == set(TASKS) and set(every("modalities")) == {name.split()[-1] for name in MODALITIES}


def test_a_modality_gives_outputs_for_what_some_task_needs():
    able = {per for name in every("modalities") for per in plugins.load("modalities", name).PER}
    assert {plugins.load("tasks", name).PER for name in TASKS} <= able


@pytest.fixture(params=every("tasks"))
def task(request: pytest.FixtureRequest) -> Task:
    return task_of(request.param)


def test_a_task_names_its_metrics_and_heads(task):
    door = task.door
    assert tuple(task.measures.METRICS) == door.METRICS and door.PRIMARY in door.METRICS
    assert all(isinstance(metric, Metric) for metric in task.measures.METRICS.values())
    assert door.HEADS and isinstance(door.ADVISED, tuple) and door.PER in ("example", "word", "frame")
    assert set(door.UNUSED) <= set(TrainingOptions.model_fields)


def test_a_task_that_strategies_can_adapt_says_what_answers_mean_without_labels(task):
    able = getattr(task.door, "ADAPTS", False)
    assert able == hasattr(task.learning, "information") == hasattr(task.learning, "answers")


def test_outputs_have_names_that_do_not_depend_on_the_order_of_examples(task):
    assert task.names and len(set(task.names)) == len(task.names) and all(isinstance(name, str) for name in task.names)
    assert task.learning.outputs(task.labels[::-1]) in (task.names, [])  # [] where they have no meaning, and are numbered


def test_targets_are_one_for_each_example_and_a_label_that_is_none_is_named(task):
    assert len(task.targets) == NUM
    for label, target in zip(task.labels, task.targets, strict=True):
        (alone,) = task.learning.targets([label], task.names)
        own = target[: len(alone)] if alone.ndim else target
        assert alone.equal(own) and (alone.ndim == 0 or (target[len(alone) :] == NO_TARGET).all())
    if task.answers.unknown:
        label, said = task.answers.unknown
        with pytest.raises(UserError, match=said):
            task.learning.targets([*task.labels, label], task.names)


@pytest.mark.parametrize("balance", ["none", "sampling", "weights"])
def test_batches_are_as_many_in_each_epoch_and_hold_valid_indices(task, balance):
    if balance != task.door.UNUSED.get("balance", balance):
        return
    how = options(balance=balance, batch_size=7, **task.answers.options)
    generator = torch.Generator().manual_seed(0)
    epochs = [task.learning.batches(task.targets, how, generator) for _ in range(5)]
    assert len({len(batches) for batches in epochs}) == 1
    for batches in epochs:
        assert all(0 < len(batch) <= 7 and not batch.is_floating_point() for batch in batches)
        indices = torch.cat(batches)
        assert indices.min() >= 0 and indices.max() < NUM
        if balance != "sampling":
            assert indices.sort().values.equal(torch.arange(NUM)), "each example once"
    assert not torch.cat(epochs[0]).equal(torch.cat(epochs[1]))
    again = task.learning.batches(task.targets, how, torch.Generator().manual_seed(0))
    assert torch.cat(again).equal(torch.cat(epochs[0]))


def test_losses_are_one_for_each_example_whatever_the_others_are(task):
    losses = task.learning.loss(task.outputs, task.targets)
    assert losses.shape == (NUM,) and losses.isfinite().all()
    rows = torch.tensor([3, 8, 20])
    assert not task.answers.alone or task.learning.loss(task.outputs[rows], task.targets[rows]).allclose(losses[rows])


def criterion(task, **changes):
    how = options(**task.answers.options, **changes)
    wanted = {"num_outputs": task.outputs.shape[-1]}
    return task.learning.criterion(task.targets, how, **plugins.taken(task.learning.criterion, wanted))


def test_the_criterion_is_the_loss_unless_it_is_weighted_or_smoothed(task):
    plain = criterion(task, label_smoothing=0)
    for row in range(NUM):  # in a batch, an example's share of the training loss may depend on the others
        one = slice(row, row + 1)
        assert plain(task.outputs[one], task.targets[one]).allclose(task.learning.loss(task.outputs[one], task.targets[one]))
    outputs = task.outputs[:5].clone().requires_grad_()
    losses = criterion(task, **{"label_smoothing": 0.1, "balance": "weights"} | task.door.UNUSED)(outputs, task.targets[:5])
    if not task.answers.alone:
        assert losses.shape == (5,)
        return
    losses.sum().backward()
    assert losses.shape == (5,) and (outputs.grad.flatten(1) != 0).any(1).all()
    assert not outputs.grad[task.padded[:5]].any() and outputs.grad.isfinite().all()
    used = task.learning.loss(task.outputs[:5], task.targets[:5])
    assert not losses.detach().allclose(used) or "label_smoothing" in task.door.UNUSED


def test_padding_changes_nothing(task):
    if task.door.PER == "example":
        return
    longer, targets = pad(task.outputs, (0, 0, 0, 3), value=NO_STEP), pad(task.targets, (0, 2), value=NO_TARGET)
    assert task.learning.loss(longer, targets).allclose(task.learning.loss(task.outputs, task.targets))
    assert task.learning.figures(longer, targets) == pytest.approx(task.learning.figures(task.outputs, task.targets))
    assert task.learning.guess(targets) == task.learning.guess(task.targets)
    assert task.learning.strata(targets).equal(task.learning.strata(task.targets))
    for name, metric in task.measures.METRICS.items():
        ones, (found, wanted) = np.ones((1, NUM)), task.found()
        more = np.pad(found, [(0, 0), (0, 2), (0, 0)][: found.ndim], constant_values=-1)
        assert metric.values(more, targets.numpy(), ones) == metric.values(found, wanted, ones), name


def test_a_batch_has_only_the_steps_that_it_needs(task):
    if task.door.PER == "example":
        return
    whole = task.learning.loss(task.outputs, task.targets)
    for row in range(NUM):
        own = task.outputs[row : row + 1][:, ~task.padded[row]]
        assert task.learning.loss(own, task.targets[row : row + 1]).allclose(whole[row])


def test_figures_strata_guess_and_alarms(task):
    figures = task.learning.figures(task.outputs, task.targets)
    assert {"loss", task.door.PRIMARY} <= set(figures) and all(type(value) is float for value in figures.values())
    strata = task.learning.strata(task.targets)
    assert strata.shape == (NUM,) and strata.dtype in (torch.int32, torch.int64)
    guess = task.learning.guess(task.targets)
    assert type(guess) is float and guess >= 0
    for outputs in (task.outputs, torch.zeros_like(task.outputs).masked_fill(task.padded[..., None], NO_STEP)):
        alarms = task.learning.alarms(outputs, task.targets, task.names)
        assert isinstance(alarms, list) and all(isinstance(alarm, str) for alarm in alarms)


def test_the_primary_metric_on_validation_is_that_of_the_test(task):
    if hasattr(task.measures, "units"):  # validation has none
        return
    predictions, targets = task.to.predictions(task.outputs), task.targets.numpy()
    (value,) = task.measures.METRICS[task.door.PRIMARY].values(predictions.astype(np.float64), targets, np.ones((1, NUM)))
    assert task.learning.figures(task.outputs, task.targets)[task.door.PRIMARY] == pytest.approx(value, abs=1e-6)


def test_predictions_are_float32_and_come_back_from_their_table_bit_for_bit(task, tmp_path):
    predictions, targets = task.found()
    assert predictions.dtype == np.float32 and len(predictions) == NUM
    activated = task.to.activation(task.outputs).numpy()
    assert activated.shape == task.outputs.shape or activated.ndim == 1
    if task.door.PER == "example":
        assert np.array_equal(activated, task.to.predictions(task.outputs))
    columns = task.measures.table(predictions, targets, task.names)
    path = tmp_path / "predictions.csv"
    pd.DataFrame({"key": [f"{row:03}" for row in range(NUM)], "group": ""} | columns).to_csv(path, index=False)
    table = comparison.read_predictions(path)
    assert "label" in table and table["key"][1] == "001"
    read = task.measures.read(table, task.names)
    assert read[0].dtype == np.float32 and np.array_equal(read[0], predictions)
    assert read[1].dtype == targets.dtype and np.array_equal(read[1], targets)
    with pytest.raises(KeyError):
        task.measures.read(table[["key", "group", "label"]], task.names)
    with pytest.raises(KeyError):
        task.measures.read(table.drop(columns="label"), task.names)


def test_a_metric_of_weights_is_the_metric_of_as_many_copies(task):
    predictions, targets = task.found()
    exact = predictions.astype(np.float64)
    weights = np.random.default_rng(1).choice([0.0, 1.0, 2.0], (4, NUM))
    for metric in task.measures.METRICS.values():
        if metric.between:  # copies of an example would be compared with it
            continue
        values = metric.values(exact, targets, weights)
        most = 1 if metric.fraction and metric.higher_is_better else np.inf  # an error rate may be above 1
        assert values.shape == (4,) and (values >= 0).all() and (values <= most).all()
        for value, row in zip(values, weights.astype(int), strict=True):
            copies = np.repeat(exact, row, axis=0), np.repeat(targets, row, axis=0)
            assert metric.values(*copies, np.ones((1, row.sum()))) == pytest.approx(value, nan_ok=True)
        once, twice = metric.values(exact, targets, np.array([[1.0], [2.0]]).repeat(NUM, axis=1))
        assert np.isfinite(once) and once == pytest.approx(twice)


def test_examples_for_which_two_arms_differ(task):
    arms = comparison.stacked([task.found(seed)[0] for seed in range(6)])
    arm, other = arms[:3], arms[3:]
    for metric in task.measures.METRICS.values():
        differ = metric.differ(arm, other)
        assert differ.shape == (3, NUM) and differ.dtype == bool and differ.any()
        assert not metric.differ(arm, arm).any()


def test_the_report_has_every_metric_with_its_interval_and_what_is_shown_exists(task, tmp_path):
    predictions, targets = task.found()
    report = task.measures.report(predictions, targets, None, task.names, SETTINGS, 0)
    assert json.loads(json.dumps(report, allow_nan=False)) == report
    assert next(iter(report["metrics"])) == task.door.PRIMARY and set(task.door.METRICS) <= set(report["metrics"])
    for name, metric in task.measures.METRICS.items():
        entry = report["metrics"][name]
        (value,) = metric.values(predictions.astype(np.float64), targets, np.ones((1, NUM)))
        assert entry["lower"] < entry["upper"] and entry["value"] == pytest.approx(value, abs=1e-6)
    assert report == task.measures.report(predictions, targets, None, task.names, SETTINGS, 0)
    groups = np.array([f"group {row // 4}" for row in range(NUM)], dtype=object)
    grouped = task.measures.report(predictions, targets, groups, task.names, SETTINGS, 0)["metrics"][task.door.PRIMARY]
    assert grouped["value"] == report["metrics"][task.door.PRIMARY]["value"] and grouped != report["metrics"][task.door.PRIMARY]
    task.measures.write(tmp_path, predictions, targets, report, "title", SETTINGS)
    assert all((tmp_path / name).stat().st_size for name in task.measures.PLOTS)


def test_the_served_model_answers_with_a_row_for_each_example(task):
    if getattr(task.door, "PRETEXT", False):
        return  # it is not for targets
    predictions = task.to.predictions(task.outputs)
    inputs = [task.answers.decoded(label) for label in task.labels]
    answers = pd.DataFrame(task.measures.served(predictions, task.names, inputs))
    assert len(answers) == NUM
    for row in (0, 7):
        (alone,) = pd.DataFrame(task.measures.served(predictions[row : row + 1], task.names, inputs[row : row + 1])).to_numpy()
        assert alone.tolist() == answers.iloc[row].tolist()
    assert list(pd.DataFrame(task.measures.served(predictions[:0], task.names, [])).columns) == list(answers.columns)


def test_what_a_task_takes_from_validation_survives_json_and_serves_any_number_of_inputs(task):
    name = task.door.__name__.rpartition(".")[2]
    calibration = fit.part(name) if name in plugins.names("tasks") else None
    if calibration is None:
        return
    assert task.door.PER == "example", "distances are those of an input, not of its parts"
    (predictions, targets), settings = task.found(), Calibrate.model_validate(PARAMS["calibrate"])
    fitted = json.loads(json.dumps(calibration.fitted(predictions, targets, task.names, settings)))
    answers = pd.DataFrame(calibration.answered(predictions, task.names, fitted))
    assert len(answers) == NUM and "label" in answers, "that an answer is made of"
    assert list(pd.DataFrame(calibration.answered(predictions[:0], task.names, fitted)).columns) == list(answers.columns)
    found = calibration.measured(predictions, targets, None, task.names, fitted, NUM, SETTINGS, 0)
    assert "NaN" not in json.dumps(found)


@pytest.mark.parametrize("num", [0, 3, 2 * NUM])
def test_what_is_explained_are_rows_outputs_and_titles(task, num):
    if getattr(task.door, "PRETEXT", False):
        return
    predictions, targets = task.found()
    rows, outputs, titles = task.measures.most_certain(predictions, targets, list(map(str, range(NUM))), task.names, num)
    assert len(rows) == len(outputs) == len(titles) and (len(rows) > 0) == (num > 0)
    assert len(set(rows.tolist())) == len(rows) and set(rows.tolist()) <= set(range(NUM))
    indices = (outputs if outputs.ndim == 1 else outputs[:, -1]).tolist()
    assert set(indices) <= set(range(len(task.names))) and all(isinstance(title, str) for title in titles)
