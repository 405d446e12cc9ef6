"""The files of a calibration: read as they were written, equal bytes, and refused where they are another model's."""

import numpy as np
import pytest
import torch

from stages.lib.calibration import fit, record
from stages.lib.core import cards
from stages.lib.errors import UserError
from tests.tiny import model_card

BANK = torch.arange(12.0).reshape(3, 4).half()
TASK = {"decision": None, "sets": {"set_90": {"share": 0.9, "lowest": 0.3}}}
CARD = model_card("dots-0", sha256="a" * 64)


def made(**changes):
    values = {"name": "dots-0", "model": CARD.sha256, "num_examples": 20, "task": TASK, "neighbours": 2, "limit": 0.5,
              "false_alarms": 0.05}  # fmt: skip
    return record.Record.model_validate(values | changes)


def test_it_is_read_as_it_was_written_and_equal_ones_are_equal_bytes(tmp_path):
    for name in ("one", "two"):
        record.write(tmp_path / name, made(), BANK)
    found = record.read(tmp_path / "one", CARD)
    assert torch.equal(found.bank, BANK)
    assert found.record == made(bank=cards.sha256(tmp_path / "one" / record.BANK))
    for path in (tmp_path / "one").iterdir():
        assert path.read_bytes() == (tmp_path / "two" / path.name).read_bytes()


def test_a_task_without_a_calibration_has_a_record_that_says_so(tmp_path):
    record.write(tmp_path, record.Record(name="dots-0", model=CARD.sha256), None)
    assert record.read(tmp_path, CARD) is None
    assert fit.told(record.Record(name="dots-0", model="")) == "this task is not calibrated"


def test_what_is_of_other_weights_missing_or_damaged_is_refused(tmp_path):
    record.write(tmp_path, made(), BANK)
    with pytest.raises(UserError, match=r"calibration\.json is of other weights than those of dots-0"):
        record.read(tmp_path, CARD.model_copy(update={"sha256": "b" * 64}))
    (tmp_path / record.BANK).write_bytes((tmp_path / record.BANK).read_bytes()[:-1])
    with pytest.raises(UserError, match=r"bank\.safetensors is missing, or is not the file"):
        record.read(tmp_path, CARD)
    (tmp_path / record.BANK).unlink()
    with pytest.raises(UserError, match=r"bank\.safetensors is missing, or is not the file"):
        record.read(tmp_path, CARD)
    with pytest.raises(UserError, match="dvc repro"):
        record.read(tmp_path / "nowhere", CARD)


def test_the_calibration_of_a_target_lies_in_its_repository(tmp_path):
    record.write(tmp_path / "metrics/calibrate/dots-0", made(), BANK)
    found = record.of_model(tmp_path / "models/target/dots-0", CARD)
    assert torch.equal(found.bank, BANK)
    for other in ("models/alternative/dots-0", "models/target/dots-1", "dots-0"):
        assert record.of_model(tmp_path / other, CARD) is None


def test_an_answer_says_that_an_input_is_unlike_the_training_data(tmp_path):
    found = record.Calibration(made(), BANK)
    predictions = np.array([[0.9, 0.1], [0.6, 0.4]], np.float32)
    columns = record.columns(
        found, CARD, predictions, np.array([0.49, 0.51]), {"label": ["x", "x"], "p_cross": predictions[:, 0]}
    )
    assert list(columns["answer"]) == ["cross", "unlike the training images"]
    assert list(columns["label"]) == ["cross", "cross"], "the class stays at hand"
    np.testing.assert_allclose(columns["unlike"], [0.98, 1.02])
    assert columns["set_90"] == [["cross"], ["cross", "frame"]]
