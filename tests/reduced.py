"""Shrink params.yaml in place to a size that takes minutes on 2 cores: python -m tests.reduced params.yaml

The real data, weights and stages; only fewer and smaller images and fewer epochs.
"""

import sys
from pathlib import Path

from ruamel.yaml import YAML


def reduce(values: dict) -> None:
    for dataset in values["datasets"].values():
        dataset["px"], dataset["limit"] = 64, 240
        dataset["split"]["train"] = min(40, dataset["split"]["train"])
    del values["seeds"][1:]
    for block in [*values["strategies"].values(), *values["intermediate"].values(), values["scratch"]]:
        block |= {name: 2 for name in ("epochs", "probe_epochs") if name in block}
    values["evaluate"]["num_resamples"] = values["compare"]["num_resamples"] = 500


if __name__ == "__main__":
    path = Path(sys.argv[1])
    values = YAML().load(path)
    reduce(values)
    YAML().dump(values, path)
