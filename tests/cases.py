"""Small inputs that once went wrong, each with what is expected, what is seen now, and whether that is right.

    python -m tests.cases FOLDER [NAME ...]

FOLDER holds a folder for each case: a README.md with the lines "What:" and "Expected:", and the input. How a case is run and what
is right stands here; a folder whose name is not known here is listed as not run. The answer is 1 if a case is wrong.
"""

import copy
import hashlib
import json
import os
import re
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterator
from functools import cache
from pathlib import Path
from typing import NamedTuple

import numpy as np

from tests.tiny import FOLDER, PARAMS, Repo, new_repo, write_params

TRACEBACK = "Traceback (most recent call last)"
WEIGHTS = {"weights": "file", "path": "w.pt", "by_order": False}
MEMORY_KB = 4_000_000
SMALL_TMP = ["unshare", "--user", "--map-root-user", "--mount", "sh", "-c"]  # a small file system of its own


class Seen(NamedTuple):
    """What a command did."""

    code: int
    said: str
    repo: Repo

    @property
    def card(self) -> dict:
        """Of the prepared dataset, or {}."""
        path = self.repo.path / "data/prepared/lines/card.json"
        return json.loads(path.read_text(encoding="utf-8")) if path.exists() else {}

    @property
    def in_short(self) -> str:
        """The classes, or else the error."""
        lines = [line for line in self.said.splitlines() if line.strip()] or ["nothing was said"]
        told = next((line for line in lines if line.startswith("error: ")), lines[-1])
        return f"{told} {', '.join(self.card.get('labels') or [])}".strip()


def run(repo: Repo, *command: str, **environment: str) -> Seen:
    done = subprocess.run(command, cwd=repo.path, env=repo.environment | environment, capture_output=True)
    return Seen(done.returncode, (done.stdout + done.stderr).decode(errors="replace"), repo)


def prepared(case: Path, repo: Repo, raw: str = "images", **changes: object) -> Seen:
    """Prepare the case's folder (or archive) as the dataset `lines`."""
    (place := repo.path / "raw").mkdir()
    for path in case.iterdir():
        shutil.copytree(path, place / path.name) if path.is_dir() else shutil.copy(path, place / path.name)
    for path in place.rglob("*"):  # a copy without links holds where they point
        if path.is_file() and path.stat().st_size < 200 and (goal := path.read_bytes()).startswith(b"../"):
            path.unlink()
            path.symlink_to(os.fsdecode(goal), target_is_directory=True)
    block = FOLDER | {"raw": f"raw/{raw}"} | changes
    write_params(
        repo.path, PARAMS | {"datasets": PARAMS["datasets"] | {"lines": {k: v for k, v in block.items() if v is not None}}}
    )
    return run(repo, sys.executable, "-m", "stages", "prepare", "lines")


def of_table(case: Path, repo: Repo) -> Seen:
    return prepared(case, repo, "table", reader="csv", group_from=None)


def loaded(case: Path, repo: Repo) -> Seen:
    """Take the case's weights as a source."""
    made = case
    if (case / "make.py").exists():
        made = repo.path / "made"
        made.mkdir()
        subprocess.run([sys.executable, case / "make.py"], cwd=made, check=True, capture_output=True)
    content = (made / "w.pt").read_bytes()
    (repo.path / "w.pt").write_bytes(content)
    source = PARAMS["source"]["tiny"] | WEIGHTS | {"sha256": hashlib.sha256(content).hexdigest()}
    write_params(repo.path, PARAMS | {"source": {"tiny": {key: value for key, value in source.items() if key != "seed"}}})
    return run(repo, sys.executable, "-m", "stages", "source", "tiny")


def asked_of_source(word: str, *files: str) -> Callable[[Path, Repo], Seen]:
    def seen(case: Path, repo: Repo) -> Seen:
        for file in case.glob("*.png"):
            shutil.copy(file, repo.path)
        return run(repo, sys.executable, "-m", "stages", word, *files, "--model", "models/tiny")

    return seen


def predicted(case: Path, repo: Repo) -> Seen:
    for name in ("good.png", "float.tif"):
        shutil.copy(case / name, repo.path)
    everything = run(repo, "dvc", "repro", "compare")
    assert everything.code == 0, everything.said
    return run(repo, sys.executable, "-m", "stages", "predict", "good.png", "float.tif")


def sliver(case: Path, repo: Repo) -> Seen:
    """Prepare the sliver alone, cut to 224 pixels, in a process of limited memory."""
    shutil.copy(case / "16000x1.png", repo.path)
    code = ("from stages.lib.modalities.image import inputs; "
            "image = inputs.decode(open('16000x1.png', 'rb').read()); "
            "print(inputs.pack(image, px=224, fit='crop', channels=3, crop_pct=0.9, interpolation='bicubic').shape)")  # fmt: skip
    return run(repo, "sh", "-c", f'ulimit -v {MEMORY_KB} && exec "{sys.executable}" -c "{code}"')


def in_small_tmp(case: Path, repo: Repo) -> Seen:
    shutil.copy(case / "images.tar.gz", repo.path)
    write_params(
        repo.path, PARAMS | {"datasets": {"lines": FOLDER | {"raw": "images.tar.gz"}, "dots": PARAMS["datasets"]["dots"]}}
    )
    (repo.path / "small").mkdir()
    mounted = f'mount -t tmpfs -o size=20k none small && TMPDIR=$PWD/small exec "{sys.executable}" -m stages prepare lines'
    return run(repo, *SMALL_TMP, mounted)


def in_latin1(case: Path, repo: Repo) -> Seen:
    folder = repo.path / "locale"
    folder.mkdir()
    subprocess.run(["localedef", "-i", "de_DE", "-f", "ISO-8859-1", folder / "de_DE.ISO-8859-1"], check=True, capture_output=True)
    return run(repo, "dvc", "repro", LOCPATH=str(folder), LC_ALL="de_DE.ISO-8859-1")


def in_percent(case: Path, repo: Repo) -> Seen:
    moved = repo.path.rename(repo.path.with_name("a%20b"))
    repo = Repo(moved)
    return run(repo, "dvc", "repro")


def classes(*names: str) -> Callable[[Seen], bool]:
    return lambda seen: seen.code == 0 and seen.card.get("labels") == sorted(names)


def refused(*words: str) -> Callable[[Seen], bool]:
    """An error with all of these in it, and no traceback."""
    return lambda seen: seen.code != 0 and TRACEBACK not in seen.said and all(word in seen.said for word in words)


def either(*ways: Callable[[Seen], bool]) -> Callable[[Seen], bool]:
    return lambda seen: any(way(seen) for way in ways)


def given_test(seen: Seen) -> bool:
    return seen.code == 0 and "test" in seen.card.get("given_splits", [])


def air_is_darker(seen: Seen) -> bool:
    if seen.code:
        return False
    folder = seen.repo.path / "data/prepared/lines/train"
    pixels = np.load(folder / "inputs.npy")
    labels = [line.split(",")[1] for line in (folder / "table.csv").read_text(encoding="utf-8").splitlines()[1:]]
    means = {label: pixels[[each == label for each in labels]].mean() for label in set(labels)}
    return bool(means["air"] < means["bone"])


def answered_but_for_one(seen: Seen) -> bool:
    return seen.code == 1 and TRACEBACK not in seen.said and "good.png" in seen.said and "float.tif: cannot be read" in seen.said


def warned(*words: str) -> Callable[[Seen], bool]:
    return lambda seen: seen.code == 0 and all(word in seen.said for word in words)


def whole(seen: Seen) -> bool:
    """The whole pipeline ran, and its runs are in the MLflow store of the repository."""
    report = seen.repo.path / "metrics/report.html"
    return (
        seen.code == 0
        and TRACEBACK not in seen.said
        and "could not be used" not in seen.said
        and report.exists()
        and bool(seen.repo.query("select * from runs"))
    )


CASES: dict[str, tuple[Callable[[Path, Repo], Seen], Callable[[Seen], bool]]] = {
    "class_behind_symlink": (prepared, classes("bus", "car", "tram")),
    "class_called_train": (prepared, either(classes("bus", "train"), refused("train", "csv", "class"))),
    "class_names_nfc_nfd": (prepared, classes("Käfer", "Möwe")),
    "class_of_duplicates": (lambda case, repo: prepared(case, repo, duplicates="drop"), refused("lost: coach")),
    "class_of_jfif": (prepared, classes("bus", "car", "tram")),
    "csv_header_twice": (of_table, refused("more than one column label")),
    "csv_header_twice_group": (of_table, refused("more than one column group")),
    "csv_trailing_comma": (of_table, either(refused("comma"), lambda seen: seen.code == 0)),
    "export_a_source": (asked_of_source("export", "x.onnx"), refused("source")),
    "folder_with_percent": (in_percent, whole),
    "grey_12_in_16": (prepared, warned("24 of 24 images are 16-bit", "nearly black")),
    "grey_signed_16": (prepared, either(air_is_darker, refused("with a sign"))),
    "locale_latin1": (in_latin1, whole),
    "png_broken_exif": (prepared, classes("bus", "car")),
    "predict_a_source": (asked_of_source("predict", "good.png"), refused("source")),
    "predict_float_tiff": (predicted, answered_but_for_one),
    "sliver_wide": (sliver, warned("(224, 224, 3)")),
    "split_below_class": (prepared, either(given_test, refused("test, train"))),
    "splits_by_other_names": (prepared, either(given_test, refused("seg_test"))),
    "tar_names_latin1": (lambda case, repo: prepared(case, repo, "images.tar"), classes("Käfer", "Möwe")),
    "tmp_is_full": (in_small_tmp, refused("TMPDIR", "no room")),
    "weights_cut_off": (loaded, refused("w.pt cannot be read as weights")),
    "weights_lfs_pointer": (loaded, refused("Git LFS pointer")),
    "weights_namespace": (loaded, refused("argparse.Namespace", "model.state_dict()")),
    "weights_of_37_classes": (loaded, lambda seen: seen.code == 0),
    "zip_backslashes": (lambda case, repo: prepared(case, repo, "images.zip"), classes("bus", "car")),
    "zip_names_utf8": (lambda case, repo: prepared(case, repo, "images.zip"), classes("Käfer", "Möwe")),
}  # fmt: skip


@cache
def template() -> Path:
    """A repository whose source is there."""
    path = Path(tempfile.mkdtemp()) / "repo"
    path.mkdir()
    repo = new_repo(path, copy.deepcopy(PARAMS))
    repo.run(sys.executable, "-m", "stages", "source", "tiny")
    return path


def tried(folder: Path, names: list[str]) -> Iterator[tuple[str, str, str, bool | None]]:
    """Name, what is expected, what is seen, and whether it is right (None: not run) of each case."""
    for case in sorted(path for path in folder.iterdir() if path.is_dir() and (not names or path.name in names)):
        text = (case / "README.md").read_text(encoding="utf-8") if (case / "README.md").exists() else ""
        expected = re.search(r"^Expected: *(.*)$", text, re.M)
        if case.name not in CASES:
            yield case.name, expected[1] if expected else "", "not known here", None
            continue
        see, right = CASES[case.name]
        with tempfile.TemporaryDirectory() as scratch:
            repo = Repo(Path(shutil.copytree(template(), Path(scratch) / "repo", symlinks=True)))
            seen = see(case, repo)
            yield case.name, expected[1] if expected else "", seen.in_short, right(seen) and TRACEBACK not in seen.said


def main(words: list[str]) -> int:
    if not words or not Path(words[0]).is_dir():
        print(__doc__)
        return 2
    wrong = []
    print("| case | expected | seen | right |\n| --- | --- | --- | --- |")
    for name, expected, seen, right in tried(Path(words[0]).resolve(), words[1:]):
        cells = [" ".join(cell.replace("|", "/").split())[:300] for cell in (expected, seen)]
        print(f"| {name} | {cells[0]} | {cells[1]} | {'-' if right is None else 'yes' if right else 'NO'} |", flush=True)
        if right is False:
            wrong.append(name)
    shutil.rmtree(template().parent)
    print(f"\n{len(wrong)} wrong{': ' * bool(wrong)}{', '.join(wrong)}")
    return int(bool(wrong))


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
