"""What a person sees first in MLflow: a description of the experiment, and a table of its states with the figures that matter.

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


def address(experiment: str) -> str:
    """The page with the table of states."""
    return f"{store.server()}/#/experiments/{experiment}/runs?viewStateShareKey={VIEW}&workflowType=machine_learning"


def describe(client: Any, experiment: str, metrics: Sequence[str], params: Sequence[str]) -> None:
    """Set the description and the view, if they are not as they should be already.

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
    known = client.get_experiment(experiment).tags
    for name, value in {"mlflow.note.content": NOTE.format(address=address(experiment)), TAG: json.dumps(state)}.items():
        if known.get(name) != value:
            client.set_experiment_tag(experiment, name, value)
