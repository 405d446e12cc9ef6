"""Put the pipeline's present state into MLflow, once: python -m stages track

Runs at the end of every `dvc repro`. When the state is there already it ends before anything slow is imported.
"""

from stages.lib.tracking import records


def main() -> None:
    records.publish(again=False)
