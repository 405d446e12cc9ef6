"""The console script `transfer`: the code of the folder where it is typed, and a line where there is none."""

import subprocess
import sys
from pathlib import Path

import pytest

from tests.tiny import ROOT

SCRIPT = ROOT / "stages/commands/_script/transfer.py"
CALL = f"import sys; sys.path.append({str(SCRIPT.parent)!r}); import transfer; transfer.main()"
SAYS = "import sys\nprint('the code of {}', sys.argv[1:])\nsys.exit(3)\n"


def clone(folder: Path, name: str) -> Path:
    """A folder with code of its own."""
    (folder / name / "stages").mkdir(parents=True)
    (folder / name / "stages/__main__.py").write_text(SAYS.format(name))
    (folder / name / "dvc.yaml").touch()
    return folder / name


def typed(folder: Path, *words: str) -> subprocess.CompletedProcess:
    return subprocess.run(words, cwd=folder, capture_output=True, text=True)


@pytest.mark.parametrize("name", ["one", "two"])
def test_it_runs_the_code_of_the_folder_with_the_words_and_the_exit_code(tmp_path, name):
    done = typed(clone(tmp_path, name), sys.executable, "-c", CALL, "predict", "my photo.png")
    assert done.stdout == f"the code of {name} ['predict', 'my photo.png']\n" and done.returncode == 3


def test_elsewhere_it_says_where_to_run_it(tmp_path):
    (tmp_path / "dvc.yaml").touch()
    done = typed(tmp_path, sys.executable, "-c", CALL, "check")
    assert done.returncode == 1 and done.stdout == "" and done.stderr.count("\n") == 1
    assert done.stderr.startswith(f"error: {tmp_path} is not the folder of a pipeline: it has no stages/__main__.py.")


@pytest.mark.slow
def test_installed_from_one_clone_it_runs_the_code_of_another(tmp_path):
    """In an environment of its own, as a user installs it."""
    source = clone(tmp_path, "installed")
    (source / "pyproject.toml").write_bytes((ROOT / "pyproject.toml").read_bytes())
    for name in ("README.md", "LICENSE", "stages/commands/_script/transfer.py"):
        (source / name).parent.mkdir(parents=True, exist_ok=True)
        (source / name).write_bytes((ROOT / name).read_bytes())
    subprocess.run([sys.executable, "-m", "venv", tmp_path / "venv"], check=True)
    pip = typed(source, str(tmp_path / "venv/bin/pip"), "install", "-q", "--no-deps", "-e", ".")
    if "No matching distribution" in pip.stderr:
        pytest.skip("no package index, from which pip gets what builds a package")
    assert pip.returncode == 0, pip.stderr
    transfer = str(tmp_path / "venv/bin/transfer")
    assert typed(clone(tmp_path, "other"), transfer, "check").stdout == "the code of other ['check']\n"
    assert typed(source, transfer).stdout == "the code of installed []\n"
    listed = typed(tmp_path, str(tmp_path / "venv/bin/python"), "-c", "import stages")
    assert "No module named 'stages'" in listed.stderr, "the pipeline's code is not importable from elsewhere"
