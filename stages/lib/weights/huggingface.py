"""Weights of a repository on the Hugging Face hub, pinned by its revision; HF_ENDPOINT names another server, HF_TOKEN a login."""

import tempfile
from pathlib import Path

from pydantic import Field

from stages.lib.core.contracts import Source
from stages.lib.errors import UserError
from stages.lib.params.fields import Architecture, Strict
from stages.lib.weights import _tensors


class Params(Strict):
    repository: str = Field(pattern=r"^[\w.-]+(/[\w.-]+)?$")
    revision: str = Field(pattern=r"^[0-9a-f]{40}$")  # a commit: branches and tags can move


def fetch(*, repository: str, revision: str, architecture: Architecture, preprocessing: Strict) -> Source:
    """Download the weights, the configuration and the tokenizer of one commit; no code of the repository is downloaded or run."""
    from huggingface_hub import HfApi, hf_hub_download
    from huggingface_hub.errors import HfHubHTTPError, OfflineModeIsEnabled

    with tempfile.TemporaryDirectory() as folder:
        try:
            there = HfApi().list_repo_files(repository, revision=revision)
            weights = [name for name in _tensors.WEIGHTS if name in there][:1]
            files = {
                name: Path(hf_hub_download(repository, name, revision=revision, local_dir=folder)).read_bytes()
                for name in [*weights, *(name for name in _tensors.BESIDE if name in there)]
            }
        except (HfHubHTTPError, OfflineModeIsEnabled, OSError, ValueError) as error:
            said = str(error).strip().splitlines()
            raise UserError(
                f"repository: {repository} at revision {revision} could not be downloaded: {said[0] if said else error!r}. Check "
                "both names (the revision is a commit, 40 hexadecimal digits), the network, and whether it needs a login "
                "(HF_TOKEN)."
            ) from None
    if not weights:
        files = dict.fromkeys(there, b"")
    name, beside = _tensors.in_folder(files, f"repository: {repository}")
    origin = f"huggingface.co/{repository} at {revision}"
    return _tensors.read(files[name], name, origin, False, architecture, preprocessing, beside)
