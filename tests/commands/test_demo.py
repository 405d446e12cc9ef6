"""The page to try a model on, in a real browser: images are packed as Pillow packs them, and the answers are those of predict."""

import base64
import io
import json
import os
import queue
import re
import shutil
import signal
import subprocess
import threading
from http.server import BaseHTTPRequestHandler, HTTPServer

import numpy as np
import pandas as pd
import pytest
from PIL import Image

from stages.commands import demo, predict
from stages.lib.core import cards, runs
from stages.lib.errors import UserError
from stages.lib.modalities.image import inputs

BROWSER = shutil.which("chromium") or shutil.which("google-chrome")
in_browser = pytest.mark.skipif(BROWSER is None, reason="no Chromium here (on Debian: apt-get install chromium)")
FLAGS = ["--headless", "--no-sandbox", "--disable-gpu", "--no-first-run", "--disable-background-networking"]

ASK = """<script>
(async () => {
  const found = []
  for (const [text, how] of %s) {
    const file = new File([Uint8Array.from(atob(text), letter => letter.charCodeAt(0))], "image")
    found.push(await Promise.resolve().then(() => %s).catch(String))
  }
  fetch("http://127.0.0.1:%d", { method: "POST", mode: "no-cors", body: JSON.stringify(found) })
})()
</script>"""


def asked(page, given, what, folder):
    """What a page's function says of each (content of a file, settings); the page sends it to a server of ours."""
    found = queue.Queue()

    class Taking(BaseHTTPRequestHandler):
        def do_POST(self):
            found.put(self.rfile.read(int(self.headers["Content-Length"])))
            self.send_response(204)
            self.end_headers()

    given = json.dumps([(base64.b64encode(content).decode(), how) for content, how in given])
    path = folder / "asked.html"
    with HTTPServer(("127.0.0.1", 0), Taking) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        path.write_text(page + ASK % (given, what, server.server_port), encoding="utf-8")
        with subprocess.Popen([BROWSER, *FLAGS, f"--user-data-dir={folder}/browser", path.as_uri()], stderr=subprocess.DEVNULL,
                              start_new_session=True) as browser:  # fmt: skip
            try:
                return json.loads(found.get(timeout=300))
            finally:
                os.killpg(browser.pid, signal.SIGKILL)
                server.shutdown()


def drawn(size, form="PNG", channels=3, seed=0):
    """An image file: coarse noise, so that a JPEG of it is like a photo's."""
    random = np.random.default_rng(seed)
    width, height = size
    small = random.integers(0, 256, (height // 4 + 2, width // 4 + 2, channels), dtype=np.uint8).squeeze()
    file = io.BytesIO()
    Image.fromarray(small).resize((width, height), Image.Resampling.BICUBIC).save(file, form)
    return file.getvalue()


CASES = [
    {"px": px, "fit": fit, "channels": channels, "crop_pct": crop_pct, "interpolation": interpolation}
    for fit, crop_pct in (("squash", 1.0), ("crop", 0.875), ("crop", 1.0), ("frame", 1.0))
    for interpolation in ("nearest", "bilinear", "bicubic")
    for px, channels in ((32, 3), (45, 3), (64, 1))
]
SIZES = [(64, 64), (90, 50), (41, 133), (20, 30), (900, 40), (45, 45)]


@pytest.mark.slow
@in_browser
def test_images_are_packed_to_the_bytes_that_pillow_packs(tmp_path):
    given = [(drawn(size, seed=row), how) for row, size in enumerate(SIZES) for how in CASES]
    page = f"<body><script>{(demo.PARTS / 'pixels.js').read_text()}</script>"
    found = asked(page, given, "decoded(file, how.channels).then(image => [...packed(image, how).data])", tmp_path)
    for (content, how), each in zip(given, found, strict=True):
        expected = inputs.pack(inputs.decode(content), **how).ravel()
        np.testing.assert_array_equal(np.array(each, np.uint8), expected, err_msg=str((how, len(content))))
    assert len(found) == len(CASES) * len(SIZES)


@pytest.mark.slow
@in_browser
def test_a_jpeg_is_decoded_as_pillow_decodes_it(tmp_path):
    """Both decode with libjpeg-turbo; other builds of it may round otherwise."""
    given = [(drawn(size, "JPEG", seed=row), CASES[1] | {"interpolation": "bicubic"}) for row, size in enumerate(SIZES)]
    page = f"<body><script>{(demo.PARTS / 'pixels.js').read_text()}</script>"
    found = asked(page, given, "decoded(file, how.channels).then(image => [...packed(image, how).data])", tmp_path)
    for (content, how), each in zip(given, found, strict=True):
        np.testing.assert_allclose(each, inputs.pack(inputs.decode(content), **how).ravel().astype(int), atol=3)


@pytest.fixture(scope="module")
def runtime():
    try:
        return demo.fetched()
    except UserError as error:
        pytest.skip(str(error))


@pytest.fixture
def page(finished, runtime, tmp_path, monkeypatch):
    """The page of the shipped model, in a folder of its own; the current folder is the repository."""
    monkeypatch.chdir(finished.path)
    demo.main([str(tmp_path / "page.html"), "--runtime", str(runtime)])
    return tmp_path / "page.html"


@pytest.mark.slow
@in_browser
def test_the_page_answers_as_predict_does(page, tmp_path):
    """PNG, grey PNG and a GIF of other shapes, like the training images and unlike them: all that predict says."""
    kinds = [((40, 40), "PNG", 3), ((90, 50), "PNG", 3), ((33, 70), "PNG", 1), ((64, 64), "GIF", 1)]
    files = {f"{row}.{kind[1].lower()}": drawn(*kind, row) for row, kind in enumerate(kinds)}
    files |= {path.name: path.read_bytes() for path in sorted(predict.Path("images/lines").rglob("000.png"))}
    for name, content in files.items():
        (tmp_path / name).write_bytes(content)
    predict.main([*(str(tmp_path / name) for name in files), "--csv", str(tmp_path / "out.csv")])
    table = pd.read_csv(tmp_path / "out.csv")
    found = asked(page.read_text(), [(content, None) for content in files.values()], "answered(file)", tmp_path)
    assert [each["answer"] for each in found] == table["answer"].tolist()
    assert [each["label"] for each in found] == table["label"].tolist()
    for name in ("cross", "frame"):
        np.testing.assert_allclose([each["classes"][name] for each in found], table[f"p_{name}"], atol=1e-4)
    np.testing.assert_allclose([each["probability"] for each in found], table["probability"], atol=1e-4)
    np.testing.assert_allclose([each["unlike"] for each in found], table["unlike"], rtol=1e-4, atol=1e-4)
    for name in ("set_50", "set_75"):
        assert [" | ".join(each["sets"][name]) for each in found] == table[name].tolist()
    assert {"unlike the training images"} < set(table["answer"]), "both kinds, or this test shows little"


@pytest.mark.slow
def test_the_page_loads_nothing_and_fits(page):
    text = page.read_text()
    assert not re.search(r"""(?:src|href)=["']?(?!data:)\w""", text.split('<script type="text/plain"')[0])
    assert len(text) < demo.LARGEST and "ONNX Runtime Web" in text and "MIT" in text
    assert "Tells apart: cross, frame." in text and "{{ " not in text
    assert "<h1>lines</h1>" in text and re.search(
        "Model: (tiny|dots)-[01]. Its licences: ", text
    )  # data say more than a run's name


def test_what_no_page_can_be_made_of_is_said_and_nothing_is_written(finished, tmp_path, monkeypatch):
    monkeypatch.chdir(finished.path)
    file = tmp_path / "page.html"
    with pytest.raises(UserError, match=r"the name must end in \.html"):
        demo.main([str(tmp_path / "page.htm")])
    with pytest.raises(UserError, match="tiny is a source and not trained for a task"):
        demo.main([str(file), "--model", "models/tiny"])
    (tmp_path / "other.tgz").write_bytes(b"another archive")
    with pytest.raises(UserError, match=rf"is not the archive of {demo.RUNTIME.name} {demo.RUNTIME.version}"):
        demo.main([str(file), "--runtime", str(tmp_path / "other.tgz")])
    card = cards.read_model_card(finished.path / "models/target/dots-0")
    monkeypatch.setattr(cards, "read_model", lambda folder: ({}, card.model_copy(update={"modality": "text"})))
    with pytest.raises(UserError, match=r"is a model of text for the task classify\. A page can be made of one"):
        demo.main([str(file)])
    assert not file.exists()


def test_a_page_that_is_too_large_says_to_serve(finished, tmp_path, monkeypatch):
    monkeypatch.chdir(finished.path)
    monkeypatch.setattr(demo, "parts", lambda archive: {"runtime": b"", "wasm": b""})
    monkeypatch.setattr(demo, "LARGEST", 10_000)
    with pytest.raises(UserError, match=r"The page would have \d+ MB.*Serve the model instead"):
        demo.main([str(tmp_path / "page.html"), "--runtime", "none"])
    assert not (tmp_path / "page.html").exists()


def test_without_npm_it_says_what_to_do(tmp_path, monkeypatch):
    monkeypatch.setattr(runs, "state_folder", lambda: tmp_path)
    monkeypatch.setattr(shutil, "which", lambda name: None)
    with pytest.raises(UserError, match=rf"Install Node\.js, .*npm pack {demo.RUNTIME.name}@{demo.RUNTIME.version}"):
        demo.fetched()
