"""Whole systems of text and speech for the slow tests: their data, from templates and tones, and what a user does with them."""

import hashlib
import json
import os
import re
import shutil
import signal
import socket
import subprocess
import sys
import time
import urllib.request
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from html.parser import HTMLParser
from itertools import product
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from PIL import Image
from ruamel.yaml import YAML

from stages.lib.params import read as params
from tests.tiny import Repo, write_params

BROWSER = shutil.which("chromium") or shutil.which("google-chrome")
GOOD, BAD = ("good", "great", "not dull"), ("bad", "awful", "dull")
FILMS, PLOTS = ("film", "plot", "cafe", "actors <u>in it</u>"), ("plot", "act", "cafe")
WORDS = ("zero", "one", "two", "three", "four", "five", "six", "seven", "eight", "nine")
SPEAKERS = ("anna", "ben", "carl")
RATE = 8_000


# Texts.


def sentences(things: tuple[str, ...], seed: int, num: int = 120) -> pd.DataFrame:
    """Sentences (text, label), some of them with the wrong label, and all with marks that HTML must not take for its own."""
    random = np.random.default_rng(seed)
    begins = ("The {} was {}", "it is a {} , & {}", "we saw the {} : {}", "{} ? very {}", "I like the {} - but {}")
    ends = ("!", ".", " and in it", " at all", " 1", " 0", "; we act")
    rows = []
    for begin, thing, end, (label, words) in product(begins, things, ends, (("bad", BAD), ("good", GOOD))):
        rows.append((begin.format(thing, random.choice(words)) + end, label))
    table = pd.DataFrame([rows[index] for index in random.permutation(len(rows))[:num]], columns=["text", "label"])
    table.loc[::9, "label"] = table.label[::9].map({"bad": "good", "good": "bad"})
    return table


def reviews(file: Path, things: tuple[str, ...], seed: int) -> None:
    """A table of sentences."""
    file.parent.mkdir(parents=True, exist_ok=True)
    sentences(things, seed).to_csv(file, index=False)


def entities(file: Path, kinds: tuple[tuple[str, str], ...], seed: int, num: int = 90) -> None:
    """Tagged sentences: a word of one letter after "a" is an entity's beginning."""
    random = np.random.default_rng(seed)
    others = ["the", "film", "was", "good", "and", "we", "saw", "it", "in", "very", "dull", "but"]
    lines = []
    for index in range(num):
        words = [(word, "O") for word in random.choice(others, 3 + index % 5)]
        for name in random.permutation(len(kinds))[: random.integers(1, len(kinds) + 1)]:
            place = int(random.integers(len(words) + 1))
            while place < len(words) and words[place][1].startswith("I-"):
                place += 1
            first, second = kinds[name]
            words[place:place] = [(first, "B-thing"), (second, "I-thing")][: 1 + index % 2]
        lines += [*(f"{word}\t{tag}" for word, tag in words), ""]
    file.parent.mkdir(parents=True, exist_ok=True)
    file.write_text("\n".join(lines) + "\n", encoding="utf-8")


def folder_sha256(folder: Path, *names: str) -> str:
    """Of some files in a folder, as `sha256sum FILE... | sha256sum` says it."""
    listed = subprocess.run(["sha256sum", *sorted(names)], cwd=folder, capture_output=True, check=True).stdout
    return hashlib.sha256(listed).hexdigest()


# Speech.


def digits(folder: Path, per_digit: int = 12, speakers: tuple[str, ...] = SPEAKERS, seed: int = 0) -> None:
    """Recordings in the layout of FSDD: each digit has two tones, and each speaker another pitch."""
    import soundfile

    random = np.random.default_rng(seed)
    (folder / "recordings").mkdir(parents=True)
    for (number, speaker), digit, index in product(enumerate(speakers), range(10), range(per_digit)):
        times = np.arange(int(RATE * random.uniform(0.2, 0.28))) / RATE
        pitch = 1 + 0.03 * number + random.normal(0, 0.003)
        tones = [np.sin(2 * np.pi * pitch * hertz * times) for hertz in (300 + 90 * digit, 2_900 - 170 * digit)]
        fading = np.minimum(1, 12 * np.minimum(times, times[::-1]) / times[-1])
        samples = fading * (0.2 * tones[0] + 0.2 * tones[1]) + random.normal(0, 0.004, len(times))
        soundfile.write(folder / f"recordings/{digit}_{speaker}_{index}.wav", samples.astype(np.float32), RATE)


# Faces, and other classes of which there are many.


def people(folder: Path, num: int = 20, pictures: int = 6, seed: int = 0, noun: str = "person") -> None:
    """A folder of pictures for each person: stripes of their own, in light of any colour."""
    random = np.random.default_rng(seed)
    for person in range(num):
        (folder / f"{noun} {person:02}").mkdir(parents=True)
        angle, wave = random.uniform(0, np.pi), random.uniform(2, 6)
        for index in range(pictures):
            x, y = np.meshgrid(*[np.linspace(0, 1, 40)] * 2)
            stripes = np.sin(2 * np.pi * wave * (x * np.cos(angle) + y * np.sin(angle)) + random.uniform(0, 6))
            pixels = 128 + 60 * stripes[..., None] * random.uniform(0.5, 1, 3) + random.normal(0, 20, (40, 40, 3))
            Image.fromarray(pixels.clip(0, 255).astype(np.uint8)).save(folder / f"{noun} {person:02}/{index}.png")


# What is looked at.


def read(repo: Repo, file: str) -> Any:
    return json.loads((repo.path / file).read_text())


def change(repo: Repo, **sections: Any) -> None:
    """Set sections of params.yaml; blocks are merged one level deep."""
    values = YAML(typ="safe").load(repo.path / "params.yaml")
    for name, value in sections.items():
        values[name] = values[name] | value if isinstance(value, dict) else value
    write_params(repo.path, values)


def certified(repo: Repo) -> dict[str, set[str]]:
    """What the certificate of each training says, by the training's folder in metrics."""
    found = {}
    for kind in ("intermediate", "target", "scratch"):
        for path in sorted((repo.path / "metrics" / kind).glob("*/certificate.csv")):
            found[f"{kind}/{path.parent.name}"] = set(pd.read_csv(path).verdict)
    return found


class Page(HTMLParser):
    """A page as a browser reads it: its words, tags and addresses, and the words with a background of their own."""

    def __init__(self, file: Path):
        super().__init__()
        self.text, self.tags, self.addresses, self.marked = "", list[str](), list[str](), 0
        self._mute = 0
        self.feed(file.read_text(encoding="utf-8"))

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        given = dict(attrs)
        self.tags.append(tag)
        self.addresses += [value or "" for name, value in attrs if name in ("src", "href")]
        self.marked += tag == "span" and (given.get("style") or "").startswith("background")
        self._mute += tag in ("style", "script")

    def handle_endtag(self, tag: str) -> None:
        self._mute -= tag in ("style", "script")

    def handle_data(self, data: str) -> None:
        self.text += "" if self._mute else data

    @property
    def foreign(self) -> list[str]:
        """Addresses outside of the page itself, but for what may lie beside it."""
        return [address for address in self.addresses if not address.startswith(("data:", "#")) and address != "run.js"]


def opened(page: Path, folder: Path) -> tuple[str, list[str]]:
    """What Chromium could decode of a page ("NUM_PICTURES NUM_PLAYERS"), and what its console says."""
    asks = """<script>onload = () => setTimeout(() => document.title =
        [...document.images].filter(i => i.naturalWidth > 20).length + " " +
        [...document.querySelectorAll("audio")].filter(a => !a.error && a.duration > 0.1).length, 3000)</script>"""
    copy = folder / "opened.html"
    copy.write_text(page.read_text(encoding="utf-8").replace("</body>", asks + "</body>"), encoding="utf-8")
    flags = ["--headless", "--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run", "--disable-background-networking",
             "--disable-component-update", "--disable-sync", "--enable-logging=stderr", "--v=0", "--virtual-time-budget=15000",
             f"--user-data-dir={folder}/browser", "--dump-dom", copy.as_uri()]  # fmt: skip
    done = subprocess.run([str(BROWSER), *flags], capture_output=True, text=True, timeout=300)
    title = re.search("<title>(.*?)</title>", done.stdout)
    return (title[1] if title else ""), re.findall(r"CONSOLE.*", done.stderr)


def wait_until_up(server: subprocess.Popen, port: int, log: Path) -> None:
    """Wait until a server answers; if it ended instead, show what it said."""
    deadline = time.time() + 600
    while True:
        try:
            urllib.request.urlopen(f"http://127.0.0.1:{port}/ping", timeout=5)
            return
        except OSError:
            assert server.poll() is None and time.time() < deadline, log.read_text()[-3000:]
            time.sleep(0.2)


@contextmanager
def serving(repo: Repo, folder: Path) -> Iterator[Callable[[str, list[Any]], pd.DataFrame]]:
    """The registered model behind `mlflow models serve`; gives a function that asks it over HTTP."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    name = f"transfer-learning-{params.read(repo.path / params.PATH)['target']['test']}"
    command = [sys.executable, "-m", "mlflow", "models", "serve", "-m", f"models:/{name}@champion", "--env-manager",
               "local", "-p", str(port)]  # fmt: skip
    own = {"MLFLOW_TRACKING_URI": f"sqlite:///{repo.path}/mlflow.db", "MLFLOW_DISABLE_TELEMETRY": "true"}
    with open(folder / "log", "w") as log:
        server = subprocess.Popen(command, cwd=repo.path, stdout=log, stderr=log, start_new_session=True,
                                  env=repo.environment | own)  # fmt: skip

    def ask(column: str, cells: list[Any]) -> pd.DataFrame:
        body = json.dumps({"dataframe_split": {"columns": [column], "data": [[cell] for cell in cells]}}).encode()
        request = urllib.request.Request(f"http://127.0.0.1:{port}/invocations", body, {"Content-Type": "application/json"})
        return pd.DataFrame(json.loads(urllib.request.urlopen(request, timeout=300).read())["predictions"])

    try:
        wait_until_up(server, port, folder / "log")
        yield ask
    finally:
        os.killpg(server.pid, signal.SIGTERM)
        server.wait()
