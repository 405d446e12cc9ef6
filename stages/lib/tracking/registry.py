"""The registered models in MLflow: one for each dataset that models are tested on, so that those of other tasks never meet; a
version per shipped model, and an alias for the best so far.

`champion` moves only to a model that is better on the same test examples beyond the paired interval; any other new one is the
`candidate`. Load the best with models:/transfer-learning-DATASET@champion.
"""

import re
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

from stages.lib.tracking import store

CHAMPION, CANDIDATE = "champion", "candidate"
NAME = "transfer.registered"  # tag of a pipeline's run: the registered model of which its model is a version
COPIED = ("transfer.model", "transfer.use")  # tags of the run that its version has too
CARD = "MODEL_CARD.md"  # file of the run
MOST_CHARACTERS = 4900  # of a description in MLflow
ABOUT = " ".join(__doc__.partition("\n\n")[2].split())
VERDICT = "transfer.verdict"  # version tag that says how it was judged; a version without it is judged by the next `publish`


def register(client: Any, run_id: str, model_id: str, predictions: str, judge: Callable[[Path | None], tuple[bool, str]]) -> None:
    """Make sure that a run's model is a version of the registered model and has been judged.

    Args:
        run_id: of the pipeline's run, which logged the model `model_id`, and whose tag NAME names the registered model.
        predictions: path within such a run of its model's predictions on the test images.
        judge: (the champion's predictions, or None if they are gone) -> whether the new model is better than the champion, and
            why.
    """
    tags = client.get_run(run_id).data.tags
    name = tags[NAME]
    mine = [version for version in client.search_model_versions(f"run_id = '{run_id}'") if version.name == name]
    if not mine and not client.search_registered_models(f"name = '{name}'"):
        store.there(client.create_registered_model, name, description=ABOUT)
    version = mine[0] if mine else client.create_model_version(name, f"models:/{model_id}", run_id, model_id=model_id)
    for key in COPIED:
        if key in tags and version.tags.get(key) != tags[key]:
            client.set_model_version_tag(name, version.version, key, tags[key])
    if VERDICT in version.tags:
        return
    champion = client.get_registered_model(name).aliases.get(CHAMPION)
    if champion is None or str(champion) == str(version.version):  # the second if it was killed between the alias and the tag
        better, words = True, "The first model of this name."
    else:
        with tempfile.TemporaryDirectory() as folder:
            better, words = judge(download(client, client.get_model_version(name, champion).run_id, predictions, folder))
        words = f"Against version {champion}, the champion then: {words}"
    with tempfile.TemporaryDirectory() as folder:
        path = download(client, run_id, CARD, folder)
        card = path.read_text(encoding="utf-8") if path else ""
    client.set_registered_model_alias(name, CHAMPION if better else CANDIDATE, version.version)
    client.update_model_version(name, version.version, description=f"{words}\n\n{card}"[:MOST_CHARACTERS].strip())
    if better and card:
        about = f"{ABOUT}\n\nThe champion is version {version.version}:\n\n{card}"
        client.update_registered_model(name, about[:MOST_CHARACTERS].strip())
    client.set_model_version_tag(name, version.version, VERDICT, CHAMPION if better else CANDIDATE)


def model_name(tested_on: str) -> str:
    """Names of the experiment and of the dataset of the test, without characters that MLflow forbids in model names."""
    return re.sub(r"[/:'\"]", "-", f"{store.experiment_name()}-{tested_on}")


def download(client: Any, run_id: str, file: str, folder: str) -> Path | None:
    """A file of a run, or None if it or the run is gone."""
    from mlflow.exceptions import MlflowException

    try:
        there = {entry.path for entry in client.list_artifacts(run_id, str(Path(file).parent) if "/" in file else None)}
        return Path(client.download_artifacts(run_id, file, folder)) if file in there else None
    except MlflowException as error:
        if error.error_code != "RESOURCE_DOES_NOT_EXIST":  # the run may have been deleted; other errors are raised
            raise
        return None
