"""What evaluation needs to know about transcription: predictions, metrics, tables, plots.

Predictions are (N, 1 + L) float32: the confidence, then the characters as indices in the alphabet, padded with -1 to the longest.
Two models may have different L.
"""

from collections import Counter
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from stages.lib.core.contracts import NO_TARGET, Metric
from stages.lib.evaluation import statistics
from stages.lib.params.schema import Evaluate
from stages.lib.tasks.transcribe import alphabet, edits
from stages.lib.tasks.transcribe.alphabet import OUTSIDE

PADDING = -1
MOST_SPEAKERS = 100  # for a table of each
MOST_CONFUSIONS = 200  # that the report holds

Counts = tuple[np.ndarray, np.ndarray]  # errors and lengths (N,)
COUNTED: dict[str, Callable[[edits.Rows, edits.Rows], Counts]] = {"cer": edits.of_characters, "wer": edits.of_words}


def _values(name: str) -> Callable[[np.ndarray, np.ndarray, np.ndarray], np.ndarray]:
    def values(predictions: np.ndarray, targets: np.ndarray, weights: np.ndarray) -> np.ndarray:
        return edits.rate(*COUNTED[name](alphabet.unpadded(targets), _heard(predictions)), weights)

    return values


def _other_text(first: np.ndarray, second: np.ndarray) -> np.ndarray:
    """Where the texts differ, (S, N, 1 + L) of any two L to (S, N)."""
    longest = max(first.shape[2], second.shape[2]) - 1

    def characters(arm: np.ndarray) -> np.ndarray:
        texts = np.pad(arm[..., 1:], [(0, 0), (0, 0), (0, longest + 1 - arm.shape[2])], constant_values=PADDING)
        return np.where((texts > alphabet.BLANK) | (texts <= OUTSIDE), texts, PADDING)

    differ: np.ndarray = (characters(first) != characters(second)).any(2)
    return differ


METRICS = {name: Metric(_values(name), _other_text, higher_is_better=False) for name in COUNTED}


def table(predictions: np.ndarray, targets: np.ndarray, names: Sequence[str]) -> dict[str, Any]:
    """Columns of predictions.csv: label, predicted, and confidence with all digits of float32."""
    label = alphabet.written(alphabet.unpadded(targets), names)
    return {"label": label, **_columns("predicted", predictions, names)}


def read(table: pd.DataFrame, names: Sequence[str]) -> tuple[np.ndarray, np.ndarray]:
    """Predictions and targets from predictions.csv, which holds texts: it may be of a model with another alphabet.

    Raises:
        KeyError: it is the table of another task.
    """
    confidence = table["confidence"].to_numpy(np.float32)
    heard, said = (alphabet.encoded(table[column], names) for column in ("predicted", "label"))
    return joined(confidence, heard), alphabet.padded(said, NO_TARGET)


def served(predictions: np.ndarray, names: Sequence[str], inputs: Sequence[Any]) -> dict[str, Any]:
    """Columns that the served model returns: text and its confidence."""
    return _columns("text", predictions, names)


def report(
    predictions: np.ndarray, targets: np.ndarray, groups: np.ndarray | None, names: Sequence[str], settings: Evaluate, seed: int
) -> dict[str, Any]:
    """Error rates with their intervals, also of each speaker, and which characters were confused.

    Args:
        predictions: (N, 1 + L) float32.
        targets: (N, L).
        groups: (N,) the speaker of each utterance, or None.
        settings: the section `evaluate`.
        seed: of the bootstrap.
    """
    said, heard = alphabet.unpadded(targets), _heard(predictions)
    counts = {name: count(said, heard) for name, count in COUNTED.items()}
    confused = edits.confusions(said, heard)
    speakers = [] if groups is None else sorted(set(groups) - {""})
    unknown = Counter({index: count for index, count in edits.counted(said).items() if index <= OUTSIDE})

    def rates(rows: np.ndarray, units: np.ndarray | None) -> dict[str, dict[str, float | None]]:
        return _rates({name: (errors[rows], lengths[rows]) for name, (errors, lengths) in counts.items()}, units, settings, seed)

    return {
        "metrics": rates(np.arange(len(said)), groups),
        "per_speaker": {
            speaker: rates(rows := np.flatnonzero(groups == speaker), None) | {"utterances": len(rows)}
            for speaker in (speakers if len(speakers) <= MOST_SPEAKERS else [])
        },
        "edits": _kinds(confused) | {"characters": sum(map(len, said)), "words": int(counts["wer"][1].sum())},
        "confusions": [
            {"said": _text(one, names), "heard": _text(other, names), "count": count}
            for (one, other), count in sorted(confused.items(), key=lambda item: (-item[1], str(item[0])))[:MOST_CONFUSIONS]
        ],
        "empty": sum(not row for row in heard),
        "characters_not_in_training": {_text(index, names): count for index, count in unknown.most_common()},
    }


def write(
    folder: Path, predictions: np.ndarray, targets: np.ndarray, report: dict[str, Any], title: str, settings: Evaluate
) -> None:
    """Write the error rates of each speaker, if they are known, and the confusions, each as a table and a plot."""
    from stages.lib.tasks.transcribe import plots  # here, so that prediction need not wait for matplotlib

    pd.DataFrame(report["confusions"], columns=["said", "heard", "count"]).to_csv(folder / "confusions.csv", index=False)
    plots.confusions(folder / "confusions.png", report["confusions"], report["edits"], f"{title}: characters confused")
    if report["per_speaker"]:
        rows = [
            {"speaker": speaker, "utterances": each["utterances"]}
            | {name if end == "value" else f"{name}_{end}": number for name in METRICS for end, number in each[name].items()}
            for speaker, each in report["per_speaker"].items()
        ]
        pd.DataFrame(rows).to_csv(folder / "per_speaker.csv", index=False)
        overall = report["metrics"]["cer"]["value"]
        plots.speakers(folder / "error_rates.png", rows, overall, f"{title}: CER of each speaker", settings.confidence)
    else:
        errors, lengths = edits.of_characters(alphabet.unpadded(targets), _heard(predictions))
        plots.utterances(folder / "error_rates.png", errors / np.maximum(lengths, 1), f"{title}: CER of each utterance")


PLOTS = ("error_rates.png", "confusions.png")  # written by `write`; compare shows those of the shipped model


def most_certain(
    predictions: np.ndarray, targets: np.ndarray, keys: Sequence[str], names: Sequence[str], num: int
) -> tuple[np.ndarray, np.ndarray, list[str]]:
    """The `num` most confident texts with errors, and half as many without.

    Returns:
        Rows (n,), the index of the output to explain for each (n,), which is the blank, and titles.
    """
    said, heard = alphabet.unpadded(targets), _heard(predictions)
    wrong = np.array([one != other for one, other in zip(said, heard, strict=True)], dtype=bool)
    order = np.argsort(-predictions[:, 0], kind="stable")
    rows = np.concatenate([order[wrong[order]][:num], order[~wrong[order]][: num // 2]])
    texts = [alphabet.written([each[row] for row in rows], names) for each in (said, heard)]
    titles = [
        (f"said and heard: {one}" if one == other else f"said: {one or '(nothing)'}\nheard: {other or '(nothing)'}")
        + f" ({100 * predictions[row, 0]:.0f} %)\n{keys[row]}"
        for row, one, other in zip(rows, *texts, strict=True)
    ]
    return rows, np.full(len(rows), alphabet.BLANK), titles


def _rates(
    counts: dict[str, Counts], groups: np.ndarray | None, settings: Evaluate, seed: int
) -> dict[str, dict[str, float | None]]:
    """Value, lower and upper of each error rate; a single utterance has no interval."""
    num = len(counts["cer"][0])

    def measured(weights: np.ndarray) -> dict[str, np.ndarray]:
        return {name: edits.rate(*each, weights) for name, each in counts.items()}

    if num == 1:
        values = {name: value[0] for name, value in measured(np.ones((1, 1))).items()}
        ends: dict[str, tuple[Any, Any]] = dict.fromkeys(values, (np.nan, np.nan))
    else:
        values, samples = statistics.bootstrap(
            measured, groups, num_examples=num, num_resamples=settings.num_resamples, seed=seed
        )
        ends = {name: statistics.interval(samples[name], settings.confidence) for name in values}
    return {
        name: dict(zip(("value", "lower", "upper"), map(statistics.number, (value, *ends[name])), strict=True))
        for name, value in values.items()
    }


def _heard(predictions: np.ndarray) -> list[list[int]]:
    """The characters of predictions (N, 1 + L)."""
    return alphabet.unpadded(predictions[:, 1:])


def joined(confidence: np.ndarray, rows: list[list[int]]) -> np.ndarray:
    """Predictions (N, 1 + L) float32; indices up to 16 million are exact."""
    return np.concatenate([confidence[:, None], alphabet.padded(rows, PADDING).astype(np.float32)], axis=1)


def _columns(name: str, predictions: np.ndarray, names: Sequence[str]) -> dict[str, np.ndarray]:
    return {name: np.array(alphabet.written(_heard(predictions), names), dtype=object), "confidence": predictions[:, 0]}


def _text(index: int | None, names: Sequence[str]) -> str:
    return "" if index is None else alphabet.written([[index]], names)[0]


def _kinds(confused: Counter[tuple[int | None, int | None]]) -> dict[str, int]:
    """How many edits of characters are of each kind."""
    found = {"substitutions": 0, "deletions": 0, "insertions": 0}
    for (one, other), count in confused.items():
        found["insertions" if one is None else "deletions" if other is None else "substitutions"] += count
    return found
