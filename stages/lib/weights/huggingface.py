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
    from huggingface_hub import HfApi, constants, hf_hub_download

    constants.HF_HUB_DISABLE_TELEMETRY = True  # else the client also asks which program may be running it, and tells
    with tempfile.TemporaryDirectory() as folder:
        try:
            there = HfApi().list_repo_files(repository, revision=revision)
            name, names = _tensors.in_folder(there, f"repository: {repository}")
            content, *others = (
                Path(hf_hub_download(repository, each, revision=revision, local_dir=folder)).read_bytes()
                for each in (name, *names)
            )
        except UserError:
            raise
        except Exception as error:  # the client, and what it is built on, raise many kinds
            said = " ".join([line for line in str(error).splitlines() if line.strip()][:2]) or repr(error)
            raise UserError(
                f"repository: {repository} at revision {revision} could not be downloaded: {said.rstrip('.')}. Check "
                "both names (the revision is a commit, 40 hexadecimal digits), the network, and whether it needs a login "
                "(HF_TOKEN)."
            ) from None
    origin = f"{repository} at {revision} (Hugging Face hub)"
    return _tensors.read(content, name, origin, False, architecture, preprocessing, dict(zip(names, others, strict=True)))
