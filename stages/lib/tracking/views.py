"""What a person sees first in MLflow: a description of the experiment, with what the last comparison of strategies found, and a
table of its states with the figures that matter.

MLflow's page opens in a mode that hides runs, and its table without metrics. A shared view is a tag of the experiment that holds
the state of that page; its address opens the right mode, with these columns (tried with MLflow 3.17).
"""

import json
from collections.abc import Sequence
from typing import Any

from stages.lib.tracking import store

VIEW = "states"
TAG = f"mlflow.sharedViewState.{VIEW}"
NOTE = """Transfer learning: one run for each state of the pipeline (params, code and data), with a child for each training.

- **A state** (`transfer.kind` pipeline) has the verdict as its description, the report, the plots and the model to ship. Its
  figures `test/...` are those of this model, `arms/...` of each starting point (the mean over the seeds), `transfer/...` the gain
  over random weights.
- **A child** is one training, with its curves (`loss/...`, `val/...`, `lr/...`) and its own test.
- **The champion** of each registered model is the best so far on its test, beyond chance.

The table of states: {address}
"""
COMPARED = "strategies"  # tag transfer.kind of the run of a comparison of states (stages.lib.tracking.answers)
ANSWER = """**Which strategy suits {data}?** {answer} [Table, picture and page]({address})

"""


def address(experiment: str) -> str:
    """The page with the table of states."""
    return f"{store.server()}/#/experiments/{experiment}/runs?viewStateShareKey={VIEW}&{store.MODE}"


def describe(client: Any, experiment: str) -> None:
    """Set the description, if it is not as it should be already. It begins with what the last comparison on each data found,
    because MLflow folds all but its first line."""
    last = {run.data.tags["transfer.data"]: run for run in store.search(client, experiment, kind=COMPARED)
            if run.info.status == "FINISHED"}  # fmt: skip
    told = [ANSWER.format(data=data, answer=run.data.tags["transfer.answer"], address=store.address(experiment, run.info.run_id))
            for data, run in last.items()]  # fmt: skip
    _set(client, experiment, "mlflow.note.content", "".join(told) + NOTE.format(address=address(experiment)))


def tabulate(client: Any, experiment: str, metrics: Sequence[str], params: Sequence[str]) -> None:
    """Set the table of states, if it is not as it should be already.

    Args:
        metrics, params: names of the columns.
    """
    columns = [f"params.`{name}`" for name in params] + [f"metrics.`{name}`" for name in metrics]
    state = {
        "searchFilter": "tags.`transfer.kind` = 'pipeline'",
        "orderByKey": "attributes.start_time",
        "orderByAsc": False,
        "lifecycleFilter": "Active",
        "selectedColumns": ["attributes.`Created`", "attributes.`Duration`", *columns],
        "viewMaximized": True,
    }
    _set(client, experiment, TAG, json.dumps(state))


def _set(client: Any, experiment: str, name: str, value: str) -> None:
    if client.get_experiment(experiment).tags.get(name) != value:
        client.set_experiment_tag(experiment, name, value)
