"""Open the test split and measure a trained model: python -m stages evaluate KIND NAME DATA

KIND is target, alternative, scratch or intermediate, NAME the model's name in its stage, DATA a prepared dataset. No training
reads the test split. Besides this stage, only the stages controls and forgetting and the command learning_curve open it, all
through stages.lib.evaluation.measure. The stage leaks compares fingerprints of its inputs, which lie beside it without labels.
"""

from stages.lib.calibration import record
from stages.lib.core import cards, plugins, runs
from stages.lib.core.contracts import scale_of
from stages.lib.errors import UserError, listed
from stages.lib.evaluation import calibrated, measure
from stages.lib.params import read as params

KINDS: tuple[runs.Kind, ...] = ("target", "alternative", runs.SCRATCH, "intermediate")


def main(kind: str, name: str, data: str) -> None:
    p = params.load("device", "evaluate")
    if kind not in KINDS:
        raise UserError(f"{kind!r} is not a kind of training. Allowed: {listed(KINDS)}.")
    training, folder = runs.Training(kind, name, data), runs.prepared(data)
    tensors, card = cards.read_model(training.model)
    names = card.output_names or []
    packed = measure.require_fit(training.model, card, folder)
    model, device = measure.network(tensors, card, p.device)
    calibration = record.read(training.calibration, card) if training.calibration else None
    if calibration:
        found = calibrated.predictions(model, device, card, folder, p.evaluate.batch_size, calibration)
        predictions = found.predictions
        beside = {"calibrated": calibrated.measured(found, card, calibration, p.evaluate)}
    else:
        predictions, beside = measure.predictions(model, device, card, folder, p.evaluate.batch_size), {}
    report = measure.report(predictions, card.trained_for, names, packed, p.evaluate, card.sha256) | beside
    measure.write(training.evaluation, predictions, report, card.trained_for, names, p.evaluate)
    measure.show(training.evaluation, model, card, predictions, p.evaluate.num_shown)
    primary, scale = scale_of(report)
    figure = scale.interval(report["metrics"][primary])
    chance = report["chance"]
    guess = "" if chance is None else f" (always the most frequent answer: {scale.text(chance)})"
    print(f"{training.label} on {data}: {primary.replace('_', ' ')} {figure}, {100 * p.evaluate.confidence:g} % interval"
          f"{guess}, {report['num_examples']} "
          f"test {getattr(plugins.load('tasks', card.trained_for), 'UNIT', 'example')}s")  # fmt: skip
