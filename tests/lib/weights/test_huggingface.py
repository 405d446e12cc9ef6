"""Weights from the Hugging Face hub: the real client, in a process of its own, against a server that answers as the hub does."""

import json
import sys
from pathlib import Path

import pytest
import torch

from stages.lib.core import cards
from tests import texts
from tests.lib.weights import hub
from tests.lib.weights.test_folder import fetch
from tests.tiny import ROOT, Repo, write_params

REPOSITORY, REVISION = "someone/tiny-bert", "0123456789abcdef0123456789abcdef01234567"
HERE = "127.0.0.1,localhost"
OTHERS = {"README.md": "# A model", "modeling_evil.py": "raise SystemExit('this code must not run')", "model.onnx": "no",
          "training_args.bin": "no", "special_tokens_map.json": "{}"}  # fmt: skip


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """What the repository on the hub holds."""
    folder = tmp_path_factory.mktemp("hub") / "tiny-bert"
    texts.write_bert(folder)
    for name, content in OTHERS.items():
        (folder / name).write_text(content)
    config = json.loads((folder / "config.json").read_text())
    code = {"auto_map": {"AutoModel": "modeling_evil.Evil"}}  # what loads code where one trusts it
    (folder / "config.json").write_text(json.dumps(config | code))
    return folder


@pytest.fixture
def served(folder):
    with hub.running({(REPOSITORY, REVISION): folder}) as running:
        yield running


@pytest.fixture
def source(tmp_path):
    """Run `python -m stages source tiny` as a user does; anything that it asks of others than `hub` goes to `outside`."""

    def source(address, outside="http://127.0.0.1:9", ok=True, environment=None, **changes):
        block = {"weights": "huggingface", "repository": REPOSITORY, "revision": REVISION, "architecture": texts.ARCHITECTURE,
                 "preprocessing": texts.HOW, "licence": "none"}  # fmt: skip
        write_params(tmp_path, texts.params(block | changes))
        proxies = {f"{kind}_PROXY": outside for kind in ("HTTP", "HTTPS", "ALL")}
        proxies |= {name.lower(): value for name, value in proxies.items()}
        empty = dict.fromkeys(["HF_TOKEN", "HF_HUB_OFFLINE", "HF_HUB_DISABLE_TELEMETRY", "DO_NOT_TRACK"], "")
        return Repo(tmp_path).run(
            sys.executable, "-m", "stages", "source", "tiny", ok=ok, HF_ENDPOINT=address, HF_HOME=str(tmp_path / "home"),
            PYTHONPATH=str(ROOT), NO_PROXY=HERE, no_proxy=HERE, **proxies | empty | (environment or {}),
        )  # fmt: skip

    return source


def test_a_repository_gives_what_its_files_give_and_nothing_else_is_asked(folder, served, source, tmp_path):
    with hub.running({}) as outside:
        told = source(served.address, outside.address)
    assert f"tiny: transformers bert from {REPOSITORY} at {REVISION} (Hugging Face hub); none" in told
    tensors, card = cards.read_model(tmp_path / "models/tiny")
    (plain := tmp_path / "plain").mkdir()
    for name in ("config.json", "model.safetensors", "tokenizer.json"):
        (plain / name).write_bytes((folder / name).read_bytes())
    expected = fetch(plain)
    assert card.architecture == expected.architecture and "auto_map" not in card.architecture["config"]
    assert tensors.keys() == expected.tensors.keys()
    assert all(torch.equal(tensor, tensors[name]) for name, tensor in expected.tensors.items())
    assert card.contents == {"tokenizer.json": (folder / "tokenizer.json").read_bytes()}

    assert outside.asked == [], "no other server is asked for anything"
    asked = {path.rpartition("/")[2].partition("?")[0] for _, path in served.asked}
    assert asked == {REVISION, "config.json", "model.safetensors", "tokenizer.json", hub.sha256(folder / "model.safetensors")}
    assert {method for method, _ in served.asked} == {"GET", "HEAD"}
    assert not [agent for agent in served.agents if "torch" in agent], "nothing is told of this machine but its Python"
    assert not [path for path in (tmp_path / "home").rglob("*") if path.is_file()], "nothing stays behind in its cache"


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"revision": "f" * 40}, [f"at revision {'f' * 40}", "404", "Check both names"]),
        ({"repository": "someone/else"}, [f"repository: someone/else at revision {REVISION}", "404", "Check both names"]),
        ({"revision": "main"}, ["source.tiny.revision", "main"]),
        ({"repository": "a/b/c"}, ["source.tiny.repository", "a/b/c"]),
        ({"repository": "a/-b--c"}, ["repository: a/-b--c"]),
    ],
    ids=["revision", "repository", "branch", "path", "name"],
)
def test_a_mistake_is_answered_in_words(served, source, tmp_path, changes, said):
    told = source(served.address, ok=False, **changes)
    assert "Traceback" not in told and "error: " in told
    assert all(part in told for part in said), told
    assert not (tmp_path / "models/tiny/card.json").exists()


@pytest.mark.slow  # the client tries for half a minute
def test_without_a_network_that_is_what_is_said(source):
    told = source("http://127.0.0.1:9", ok=False)  # nothing listens there
    assert "Traceback" not in told and "could not be downloaded" in told and "the network" in told


@pytest.mark.parametrize(
    ("address", "environment", "said"),
    [("http://127.0.0.1:9", {"HF_HUB_OFFLINE": "1"}, "HF_HUB_OFFLINE"), ("127.0.0.1:9", {}, "protocol")],
    ids=["offline", "no address"],
)
def test_settings_without_a_hub_are_told(source, address, environment, said):
    told = source(address, ok=False, environment=environment)
    assert "Traceback" not in told and "could not be downloaded" in told and said in told


def test_a_repository_without_weights_says_what_it_has(source, tmp_path):
    (tmp_path / "empty").mkdir()
    (tmp_path / "empty/tf_model.h5").write_bytes(b"no")
    with hub.running({(REPOSITORY, REVISION): tmp_path / "empty"}) as running:
        told = source(running.address, ok=False)
    assert f"repository: {REPOSITORY} has none of model.safetensors, pytorch_model.bin. Files in it: tf_model.h5." in told


def test_an_answer_that_is_no_hub_is_told(source, tmp_path):
    with hub.running({(REPOSITORY, REVISION): Path(tmp_path)}) as running:
        told = source(f"{running.address}/not-here", ok=False)
    assert "Traceback" not in told and "404" in told


def test_a_login_is_sent_to_the_hub_alone_and_kept_nowhere(folder, served, source, tmp_path):
    source(served.address, environment={"HF_TOKEN": "hf_secret"})
    sent = {path: token for path, token in served.tokens.items() if token}
    assert set(sent.values()) == {"Bearer hf_secret"}
    assert {path.startswith("/large") for path in sent} == {False} and any(path.startswith("/large") for _, path in served.asked)
    assert not [path for path in tmp_path.rglob("*") if path.is_file() and b"hf_secret" in path.read_bytes()]
