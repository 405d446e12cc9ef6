"""Record the pipeline's current state in MLflow, once: python -m stages track

Runs at the end of every `dvc repro`. If the state is already recorded, it exits before any slow import.
"""

from stages.lib.tracking import records


def main() -> None:
    records.publish(again=False)
