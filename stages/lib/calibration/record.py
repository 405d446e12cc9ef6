"""What validation says of a model: what it answers, and when it does not know. One folder beside each target."""

from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, NamedTuple

import numpy as np

from stages.lib.core import cards, plugins, runs
from stages.lib.core.cards import Card, ModelCard
from stages.lib.errors import UserError

if TYPE_CHECKING:
    import torch

FILE, BANK = "calibration.json", "bank.safetensors"
UNLIKE = "unlike"  # column: the distance to the training data, divided by the limit
ANSWER = "answer"  # column: what to tell a person


class Record(Card):
    """Of one model; `task` and `limit` are empty for a task that has no module `calibration`."""

    kind: Literal["calibration"] = "calibration"
    model: str  # sha256 of the weights
    num_examples: int = 0  # of validation
    task: dict[str, Any] | None = None  # what its task takes from validation (its module `calibration`)
    neighbours: int = 0  # which of the nearest training features counts
    limit: float | None = None  # cosine distance to it, above which an input is unlike the training data
    false_alarms: float | None = None  # how often that happens at most to inputs like those of validation
    bank: str | None = None  # sha256 of the training features


class Calibration(NamedTuple):
    """A record, and the training features (M, D) that distances are measured to."""

    record: Record
    bank: "torch.Tensor"

    def unlike(self, distances: Any) -> Any:
        """Distances divided by the limit: above 1 an input is unlike the training data."""
        return distances / self.record.limit


def write(folder: Path, record: Record, bank: "torch.Tensor | None") -> None:
    """Write the record of one model and its training features."""
    from safetensors.torch import save_file

    folder.mkdir(parents=True, exist_ok=True)
    if bank is not None:
        save_file({"features": bank.cpu().contiguous()}, folder / BANK)
        record = record.model_copy(update={"bank": cards.sha256(folder / BANK)})
    cards.write_json(folder / FILE, record.model_dump())


def of_model(folder: Path, card: ModelCard) -> Calibration | None:
    """The calibration of the model in a folder; None if it has none."""
    found = files(folder)
    return of_files(*found, card) if found else None


def files(folder: Path) -> tuple[Path, Path] | None:
    """The files of the calibration of a model: they lie in metrics/calibrate of the repository in whose models/target it
    is, and not beside it, so that another threshold makes no other model. None for a model that is elsewhere."""
    folder = folder.resolve()
    place = folder / "../../.." / runs.METRICS / "calibrate" / folder.name
    found = (place / FILE).resolve(), (place / BANK).resolve()
    return found if folder.parent.name == "target" and found[0].exists() else None


def columns(
    calibration: Calibration, card: ModelCard, predictions: Any, distances: Any, given: Mapping[str, Any]
) -> dict[str, Any]:
    """The columns that a calibrated model returns for N inputs.

    Args:
        predictions: (N, ...), as the task's modules take them.
        distances: (N,), as stages.lib.calibration.neighbours measures them.
        given: the columns that it returns without a calibration.

    Returns:
        `answer`, what to tell a person: the label, or that the input is unlike the training data; the columns `given`, with what
        the task's calibration changes and adds; and `unlike`, above 1 for such inputs.
    """
    own = plugins.load("tasks", card.trained_for, "calibration").answered(predictions, card.output_names, calibration.record.task)
    unlike = calibration.unlike(distances)
    strange = f"unlike the training {plugins.load('modalities', card.modality).NOUN}s"
    answers = [strange if far > 1 else label for far, label in zip(unlike, own["label"], strict=True)]
    return {ANSWER: np.array(answers, dtype=object), **given, **own, UNLIKE: unlike}


def read(folder: Path, card: ModelCard) -> Calibration | None:
    """The calibration of a model; None if its task has none.

    Raises:
        UserError: it is missing, damaged or of another model.
    """
    return of_files(folder / FILE, folder / BANK, card)


def of_files(file: Path, bank: Path, card: ModelCard) -> Calibration | None:
    """The same, from its two files."""
    from safetensors.torch import load_file

    record = cards.parsed(file, Record)
    if record.model != card.sha256:
        raise UserError(f"{file} is of other weights than those of {card.name}. {cards.AGAIN}")
    if record.bank is None:
        return None
    if not bank.exists() or cards.sha256(bank) != record.bank:
        raise UserError(f"{bank} is missing, or is not the file that {file} describes. {cards.AGAIN}")
    return Calibration(record, load_file(bank)["features"])
