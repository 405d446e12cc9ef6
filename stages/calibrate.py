"""Choose on validation when each target answers what, and when it does not know: python -m stages calibrate

Only targets are calibrated, because only they can be shipped. No test split is opened here; evaluate measures what it gives.
"""

import shutil

from stages.lib.calibration import fit, record
from stages.lib.core import cards, runs
from stages.lib.networks import backbones
from stages.lib.networks.device import launch
from stages.lib.params import read as params


def main() -> None:
    p = params.load("device", "target", "inits", "seeds", "calibrate")
    fabric = launch(accelerator=p.device.accelerator, devices=1, num_nodes=1, precision="32-true", deterministic=True)
    for init in p.inits:
        for training in (runs.target(init, seed, p.target.data) for seed in p.seeds):
            tensors, card = cards.read_model(training.model)
            model = backbones.trained(tensors, card.architecture, card.num_outputs).to(fabric.device)
            left_out = cards.read_json(training.recipe)["left_out"].get(training.data, {})
            found, bank = fit.fit(model, card, fabric.device, p.calibrate, left_out)
            assert training.calibration is not None, "it is a target"
            shutil.rmtree(training.calibration, ignore_errors=True)
            record.write(training.calibration, found, bank)
            print(f"{training.label}: {fit.told(found)}")
