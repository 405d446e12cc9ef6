"""The shipped model as an MLflow pyfunc answers as evaluation does, in this process and behind MLflow's own server."""

import base64
import io
import json
import os
import re
import shutil
import socket
import subprocess
import sys
import urllib.error
import urllib.request
from pathlib import Path

import mlflow
import numpy as np
import pandas as pd
import pytest
import torch
from PIL import Image

from stages.lib.calibration import neighbours, record
from stages.lib.core import cards, contracts, datasets
from stages.lib.modalities import image
from stages.lib.modalities.image import inputs
from stages.lib.networks import backbones
from stages.lib.networks.inference import predict
from stages.lib.tracking import serving
from tests import tiny
from tests.systems import wait_until_up
from tests.tiny import ROOT, model_card

pytestmark = pytest.mark.filterwarnings("ignore:.*An input example was not provided")

NORMALISATION = {"mean": [0.5, 0.4, 0.3], "std": [0.2, 0.3, 0.4]}
PREPROCESSING = {"channels": 3, "crop_pct": 0.875, "interpolation": "bicubic"} | NORMALISATION
GREY = {"channels": 1, "mean": [0.1307], "std": [0.3081]}
CLASSES = ["broken", "fine", "no cell"]


def files():
    """Encoded images of many kinds: colour and grey, upright and wide, dark and bright."""
    random = np.random.default_rng(0)
    encoded = []
    for shape, form in [((60, 80, 3), "JPEG"), ((90, 50, 3), "PNG"), ((64, 64), "PNG"), ((48, 48, 3), "BMP")] * 2:
        buffer = io.BytesIO()
        base = random.integers(0, 200, shape[2:])
        Image.fromarray((base + random.integers(0, 55, shape)).astype(np.uint8)).save(buffer, form)
        encoded.append(buffer.getvalue())
    return encoded


def logits_of_evaluation(folder, encoded, tmp_path):
    """As the evaluate stage gets them: from packed images, through stages.lib.networks.inference.predict."""
    tensors, card = cards.read_model(folder)
    packing = {name: card.preprocessing[name] for name in ("px", "fit", "channels", "crop_pct", "interpolation")}
    packed = [inputs.pack(inputs.decode(content), **packing) for content in encoded]
    table = pd.DataFrame({"key": [str(row) for row in range(len(packed))], "label": CLASSES[0], "group": ""})
    datasets.write_split(tmp_path, "test", packed, table)
    model = backbones.trained(tensors, card.architecture, len(CLASSES)).to(memory_format=torch.channels_last)
    split = datasets.read_split(tmp_path, "test")
    loaded = contracts.load(split, "image", "classify", CLASSES, card.preprocessing, torch.device("cpu"))
    return predict(model, loaded, batch_size=3)


def save(folder, model="test_efficientnet", px=48, fit="crop", architecture=None):
    """A trained model as a hop writes it; its normalisation layers have seen other data than nothing."""
    torch.manual_seed(0)
    architecture, grey = architecture or tiny.architecture(model), model == "lenet5"
    network = backbones.build(architecture, len(CLASSES))
    with torch.no_grad():
        channels = 1 if grey else 3
        batch = torch.randn(8, channels, 1, 1) + torch.randn(8, channels, px, px)
        network.train()(batch)
        network.head.weight.div_(network.eval()(batch).std(0).mean())  # answers that differ, so that mistakes show
    preprocessing = PREPROCESSING | {"px": px, "fit": fit} | (GREY if grey else {})
    card = model_card("dots-0", architecture=architecture, output_names=CLASSES, preprocessing=preprocessing)
    cards.write_model(folder, network.state_dict(), card)
    return folder


@pytest.fixture(scope="module")
def saved(tmp_path_factory):
    folder = tmp_path_factory.mktemp("saved")
    mlflow.pyfunc.save_model(folder / "pyfunc", **serving.package(save(folder / "dots-0")))
    return folder


@pytest.fixture(scope="module")
def loaded(saved):
    return mlflow.pyfunc.load_model(str(saved / "pyfunc"))


@pytest.mark.parametrize("model, fit", [("test_efficientnet", "crop"), ("test_resnet", "squash"), ("test_vit", "squash"),
                                        ("test_resnet", "frame"), ("lenet5", "frame")])  # fmt: skip
def test_it_answers_as_evaluation_does(tmp_path, model, fit):
    px = {"test_vit": 160, "lenet5": 28}.get(model, 48)
    folder = save(tmp_path / "model", model=model, fit=fit, px=px)
    mlflow.pyfunc.save_model(tmp_path / "pyfunc", **serving.package(folder))
    answers = mlflow.pyfunc.load_model(str(tmp_path / "pyfunc")).predict(pd.DataFrame({"image": files()}))
    expected = logits_of_evaluation(folder, files(), tmp_path).softmax(1).numpy()
    assert np.abs(answers[[f"p_{name}" for name in CLASSES]].to_numpy() - expected).max() < 1e-5
    assert list(answers["label"]) == [CLASSES[index] for index in expected.argmax(1)]
    assert np.abs(answers["probability"] - expected.max(1)).max() < 1e-5
    assert expected.std(0).max() > 0.01, "the images must differ in their answers, or this test shows nothing"


def test_a_calibrated_model_brings_its_calibration_along(tmp_path):
    """From elsewhere, once the repository is gone: a decision, sets as lists, and how far each input is from the others."""
    folder = save(tmp_path / "a%20b?c/models/target/dots-0")
    tensors, card = cards.read_model(folder)
    packing = {name: card.preprocessing[name] for name in ("px", "fit", "channels", "crop_pct", "interpolation")}
    packed = np.stack([inputs.pack(inputs.decode(content), **packing) for content in files()])
    with torch.no_grad():
        network = backbones.trained(tensors, card.architecture, len(CLASSES))
        features = network.backbone(inputs.to_network(torch.from_numpy(packed), *NORMALISATION.values()))
    bank = neighbours.bank(features[:1])
    distances = neighbours.distances(features, bank, 1).numpy()
    limit = float(np.median(distances))
    task = {"decision": {"label": "fine", "threshold": 0.0}, "sets": {"set_90": {"share": 0.9, "lowest": 0.3}}}
    made = record.Record(
        name=card.name, model=card.sha256, num_examples=9, task=task, neighbours=1, limit=limit, false_alarms=0.1
    )
    record.write(tmp_path / "a%20b?c/metrics/calibrate/dots-0", made, bank)
    mlflow.pyfunc.save_model(tmp_path / "pyfunc", **serving.package(folder))
    shutil.rmtree(tmp_path / "a%20b?c")
    model = mlflow.pyfunc.load_model(str(tmp_path / "pyfunc"))
    answers = model.predict(pd.DataFrame({"image": files()}))
    names = ["answer", "label", "probability", *(f"p_{name}" for name in CLASSES), "set_90", "unlike"]
    assert list(answers) == names == model.metadata.get_output_schema().input_names()
    assert set(answers["label"]) == {"fine"}, "as the decision says, whatever is most probable"
    assert list(answers["probability"]) == list(answers["p_fine"])
    for _, row in answers.iterrows():
        assert row["set_90"] == [name for name in CLASSES if row[f"p_{name}"] >= 0.3 or name == "fine"]
        assert row["answer"] == ("unlike the training images" if row["unlike"] > 1 else "fine")
    np.testing.assert_allclose(answers["unlike"] * limit, distances, atol=1e-5)
    assert set(answers["answer"]) == {"fine", "unlike the training images"}, "both kinds, or this test shows little"
    none = model.predict(pd.DataFrame({"image": []}))
    assert list(none) == names and len(none) == 0


def test_a_model_below_a_folder_with_odd_characters_is_logged(tmp_path):
    """As in the checkouts of some build servers; MLflow would look for the weights below "a b"."""
    folder = save(tmp_path / "a%20b?c/dots-0")
    mlflow.pyfunc.save_model(tmp_path / "pyfunc", **serving.package(folder))
    (copied,) = (tmp_path / "pyfunc/artifacts").iterdir()
    assert {path.name for path in copied.iterdir()} == {path.name for path in folder.iterdir()}


def test_every_kind_of_input_gives_the_same_answer(loaded):
    encoded = [content for content in files() if not content.startswith(b"\xff\xd8")]
    pixels = [np.asarray(Image.open(io.BytesIO(content))) for content in encoded]
    assert {array.ndim for array in pixels} == {2, 3}
    expected = loaded.predict(pd.DataFrame({"image": encoded}))
    texts = [base64.b64encode(content).decode() for content in encoded]
    wrapped = [base64.encodebytes(content).decode() for content in encoded]  # in lines of 76, as the command base64 does
    for column in (texts, wrapped, pixels, [array.tolist() for array in pixels], [*encoded[:2], texts[2], *pixels[3:]]):
        pd.testing.assert_frame_equal(loaded.predict(pd.DataFrame({"image": column})), expected)


def test_more_than_a_batch_and_none_at_all(loaded):
    many = loaded.predict(pd.DataFrame({"image": files() * 10}))
    few = loaded.predict(pd.DataFrame({"image": files()}))
    assert len(many) == 80
    pd.testing.assert_frame_equal(many[:8], few, atol=1e-5)
    pd.testing.assert_frame_equal(many[72:].reset_index(drop=True), few, atol=1e-5)
    none = loaded.predict(pd.DataFrame({"image": []}))
    assert list(none.columns) == ["label", "probability", "p_broken", "p_fine", "p_no cell"]
    assert len(none) == 0


@pytest.mark.parametrize(
    "bad", ["images/1.png", "aGVsbG8=", b"", files()[0][:400], np.zeros((4, 4, 3)), np.zeros((4, 4, 4), np.uint8), [[300]], None],
    ids=["path", "text", "empty", "truncated", "floats", "four channels", "over 255", "none"],
)  # fmt: skip
def test_what_is_no_image_is_refused_by_its_row(loaded, bad):
    with pytest.raises(mlflow.MlflowException, match=r"Row 1 of `image` cannot be read .* Allowed: the bytes of an image file"):
        loaded.predict(pd.DataFrame({"image": [files()[0], bad]}))


def test_the_requirements_are_pinned_to_what_is_on_the_package_index(saved):
    lines = (saved / "pyfunc/requirements.txt").read_text().split()
    assert {line.split("==")[0] for line in lines} == {*serving.PACKAGES, *image.PACKAGES}
    assert not any("+" in line for line in lines)


IMPORTS = """
import builtins, sys
from types import SimpleNamespace

plain, seen = builtins.__import__, set()

def watched(name, globals=None, locals=None, fromlist=(), level=0):
    if (globals or {}).get("__name__", "").startswith("stages."):
        seen.add(name.partition(".")[0])
    return plain(name, globals, locals, fromlist, level)

builtins.__import__ = watched
from stages.lib.tracking import serving
for folder in sys.argv[1:]:
    served = serving.Served()
    served.load_context(SimpleNamespace(artifacts={"model": folder}))
    served.predict(None, serving.package(serving.Path(folder))["input_example"])
print(*seen - sys.stdlib_module_names - {"stages"})
"""


@pytest.mark.slow
def test_the_requirements_are_all_that_serving_imports(saved):
    """Two models, one of each library, answer in a process that notes what our code imports."""
    other = save(saved / "other", architecture={"library": "torchvision", "model": "shufflenet_v2_x0_5"})
    command = [sys.executable, "-c", IMPORTS, str(saved / "dots-0"), str(other)]
    imported = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=True).stdout.split()
    own = {"PIL": "pillow", "pydantic_core": "pydantic"}  # the package's name, where it is another than the module's
    assert {own.get(name, name) for name in imported} == {*serving.PACKAGES, *image.PACKAGES}


@pytest.mark.slow
def test_mlflow_serves_it_from_elsewhere(saved, tmp_path):
    """`mlflow models serve` in another folder: the model brings its own code; JSON brings images as base64."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    clean = {name: value for name, value in os.environ.items() if name != "PYTHONPATH" and not name.startswith("MLFLOW_")}
    bin_folder = Path(sys.executable).parent
    command = [
        sys.executable,
        "-m",
        "mlflow",
        "models",
        "serve",
        "-m",
        str(saved / "pyfunc"),
        "--env-manager",
        "local",
        "-p",
        str(port),
    ]
    with open(tmp_path / "log", "w") as log:
        server = subprocess.Popen(
            command, cwd=tmp_path, stdout=log, stderr=log, start_new_session=True,
            env=clean | {"MLFLOW_DISABLE_TELEMETRY": "true", "PATH": f"{bin_folder}:{os.environ['PATH']}"},
        )  # fmt: skip
    try:
        wait_until_up(server, port, tmp_path / "log")
        answers = pd.DataFrame(ask(port, [base64.b64encode(content).decode() for content in files()])["predictions"])
        expected = logits_of_evaluation(saved / "dots-0", files(), tmp_path).softmax(1).numpy()
        assert np.abs(answers[[f"p_{name}" for name in CLASSES]].to_numpy() - expected).max() < 1e-5
        assert float(curled(port, files()[0], tmp_path)[0]["probability"]) == pytest.approx(expected[0].max(), abs=1e-5)
        with pytest.raises(urllib.error.HTTPError) as refused:
            ask(port, ["nonsense"])
        assert refused.value.code == 400
        assert "Row 0 of `image` cannot be read" in refused.value.read().decode()
    finally:
        os.killpg(server.pid, 15)
        server.wait()


def curled(port, content, folder):
    """The answer to the line of the guide, as a shell runs it."""
    (folder / "cell.png").write_bytes(content)
    guide = (ROOT / "stages/commands/README.md").read_text()
    (line,) = [block for block in re.findall(r"```bash\n(.+?)```", guide, re.DOTALL) if "curl" in block]
    done = subprocess.run(["bash", "-c", line.replace("localhost:5001", f"127.0.0.1:{port}")], cwd=folder, capture_output=True)
    return json.loads(done.stdout)["predictions"]


def ask(port, column):
    body = json.dumps({"dataframe_split": {"columns": ["image"], "data": [[value] for value in column]}}).encode()
    request = urllib.request.Request(f"http://127.0.0.1:{port}/invocations", body, {"Content-Type": "application/json"})
    return json.loads(urllib.request.urlopen(request, timeout=300).read())
