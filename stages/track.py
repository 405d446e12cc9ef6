"""Record the pipeline's current state in MLflow, once, and say how the run ended: python -m stages track

Runs at the end of every `dvc repro`. If the state is already recorded, it records nothing, before any slow import.
"""

from stages.lib.core import runs
from stages.lib.tracking import records, store


def main() -> None:
    recorded = records.publish(again=False)
    print(headline(runs.VERDICT.read_text(encoding="utf-8")))
    print(f"Report: {runs.REPORT}")
    if recorded is not None:
        print(f"MLflow: {store.address(*recorded)}")


def headline(verdict: str) -> str:
    """The first sentence of verdict.md, without its marks."""
    first = next(line for line in verdict.splitlines() if line.startswith("- "))
    return first.removeprefix("- ").replace("**", "").replace("`", "")
