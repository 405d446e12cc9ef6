"""One hop: what its key depends on, what its session is told, and what does not fit together."""

import json
import shutil
import subprocess
import sys
import textwrap
from contextlib import contextmanager

import pytest
from lightning_fabric import Fabric

from stages.lib.core import runs
from stages.lib.errors import UserError
from stages.lib.training import hop
from stages.lib.training.recipe import Recipe
from tests.tiny import FULL, PACKING, ROOT, data_card, model_card, options

# Files of stages/lib, and the strategies whose trainings are other trainings when they change.
EVERY = {"full", "partial", "l2_sp", "delta", "lora"}
EDITS = {
    "strategies/full.py": {"full"},
    "strategies/lora.py": {"lora"},
    "strategies/delta/penalty.py": {"delta"},
    "strategies/l2_sp/penalty.py": {"l2_sp", "delta"},  # which takes a part of it
    "strategies/auto.py": set(),
    "training/loop.py": EVERY,
    "training/hop.py": EVERY,
    "networks/backbones.py": EVERY,
    "core/seeds.py": EVERY,
    "tasks/classify/learning.py": EVERY,
    "tasks/classify/measures.py": set(),
    "modalities/image/inputs.py": EVERY,
    "modalities/image/show.py": set(),
    "evaluation/measure.py": set(),
    "shell/checkpoints.py": set(),
    "tracking/live.py": set(),
    "errors.py": set(),
}


def key(strategy="full", training=None, start=None, **values):
    recipe = Recipe(strategy=strategy, task="classify", hyperparameters=FULL, options=options(), code="")
    return hop.key_of(training or runs.hop("dots", "dots"), recipe, start or model_card("tiny"), values)


def keys():
    return {strategy: key(strategy) for strategy in sorted(EVERY)}


def test_an_edit_of_the_code_changes_the_keys_of_the_trainings_that_run_it_and_no_others(tmp_path):
    """So a training that was stopped resumes although another strategy, or what only measures or shows, has changed since."""
    for folder in ("stages", "tests"):
        shutil.copytree(ROOT / folder, tmp_path / folder, ignore=shutil.ignore_patterns("__pycache__"))
    program = """
        import json
        from pathlib import Path
        from tests.lib.training.test_hop import EDITS, keys
        before, found = keys(), {}
        for name in EDITS:
            path = Path("stages/lib") / name
            text = path.read_text()
            path.write_text(text + "# edited\\n")
            found[name] = [strategy for strategy, key in keys().items() if key != before[strategy]]
            path.write_text(text)
        print(json.dumps(found | {"again": [keys() == before]}))
    """
    command = [sys.executable, "-c", textwrap.dedent(program)]
    done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, check=True)
    found = json.loads(done.stdout)
    assert found.pop("again") == [True]
    assert {name: set(changed) for name, changed in found.items()} == EDITS


def test_a_key_changes_with_every_value_and_with_the_libraries(monkeypatch):
    found = [key(), key("partial"), key(lr=0.1), key(lr=0.2), key(training=runs.hop("lines", "dots")),
             key(training=runs.Training("target", "dots", "dots"))]  # fmt: skip
    for library in hop.LIBRARIES:
        monkeypatch.setattr(hop, "version", lambda name, library=library: "0" if name == library else "1")
        found.append(key())
    assert len(set(found)) == len(found)
    monkeypatch.undo()
    assert key(a=1, b=2) == key(b=2, a=1) != key()


@pytest.mark.parametrize("num_epochs", [0, 2])
def test_a_session_is_told_every_epoch_once_and_each_warning_once(num_epochs, capsys):
    """Of a training that resumes those too that may have been saved and not logged before it was killed."""
    rows = [{"epoch": epoch} for epoch in (1, 2, 3, 4)]
    saved, logged, asked = [], [], []
    before = {"history": rows[:num_epochs], "warnings": ["old"]} if num_epochs else None

    @contextmanager
    def watch(*given):
        asked.append(given)
        yield runs.Session(before, saved.append, logged.append)

    training = runs.target("dots", 0, "lines")
    fabric = Fabric(accelerator="cpu", devices=1)
    with hop.opened(fabric, watch, training, "k", {"lr": 1}, [4], {"old"}) as session:
        assert session.state == before and logged == rows[:num_epochs]
        for epoch in range(num_epochs, 4):
            session.save({"history": rows[: epoch + 1], "warnings": ["old"] if epoch < 2 else ["old", "new"]})
    assert asked == [("target dots-0", "target", "k", {"lr": 1}, [4])]
    assert logged == rows and [len(state["history"]) for state in saved] == list(range(num_epochs + 1, 5))
    told = capsys.readouterr().err
    assert told.count("WARNING, target dots-0: new") == 1 and "old" not in told
    assert ("target dots-0 resumes after epoch 2" in told) == (num_epochs == 2)


def test_data_and_starting_point_must_agree():
    hop.require_fit(data_card("dots"), model_card("tiny"))
    with pytest.raises(UserError, match=r"data/prepared/dots holds image data, and tiny takes sound"):
        hop.require_fit(data_card("dots"), model_card("tiny", modality="sound"))
    packed = data_card("dots", packing=PACKING | {"interpolation": "nearest"})
    with pytest.raises(UserError, match=r"packed with interpolation nearest .* models/tiny was trained with bilinear"):
        hop.require_fit(packed, model_card("tiny"))
