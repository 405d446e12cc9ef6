"""The stage check: what it imports, and what it says where the environment is not complete."""

import os
import subprocess
import sys

import pytest

from stages import check
from stages.lib.errors import UserError
from tests.tiny import FOLDER, PARAMS, ROOT, draw, write_params


def test_the_check_loads_nothing_slow(tmp_path):
    """Neither does any plug-in that it imports, whether params.yaml names it or not."""
    for name in ("params.yaml", "requirements.in"):
        (tmp_path / name).write_bytes((ROOT / name).read_bytes())
    (tmp_path / "metrics").mkdir()
    program = """
import sys
from stages import check
check.main()
from stages.lib.core import plugins
for folder in ("downloads", "readers", "libraries", "modalities", "strategies", "tasks", "weights"):
    for name in plugins.names(folder):
        plugins.load(folder, name)
print({name.partition(".")[0] for name in sys.modules} & {"torch", "torchvision", "timm", "pandas", "numpy", "sklearn", "mlflow"})
"""
    done = subprocess.run([sys.executable, "-c", program], cwd=tmp_path, env=os.environ | {"PYTHONPATH": str(ROOT)},
                          capture_output=True, text=True)  # fmt: skip
    assert (done.returncode, done.stdout) == (0, "set()\n"), done.stderr
    assert (tmp_path / "metrics/check.txt").read_text() == "ok\n"


def test_packages_that_are_missing_are_named(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "requirements.in").write_text("pytest[fast]  # is here\n\n# a comment\nno-such-package\nnor-this\n")
    with pytest.raises(SystemExit, match=r"lacks: no-such-package, nor-this\. Most likely `dvc` was called outside"):
        check.require_environment()


def test_data_that_are_not_there_are_named_all_at_once(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    write_params(tmp_path, PARAMS)
    with pytest.raises(UserError) as error:
        check.main()
    assert not (tmp_path / "metrics/check.txt").exists()
    assert [line.partition(" (seen")[0] for line in str(error.value).splitlines()] == [
        "datasets.dots.raw: there is no images/dots",
        "datasets.lines.raw: there is no images/lines",
    ]
    draw(tmp_path / "images/dots", ("cross", "frame"), seed=0, num=1)
    (tmp_path / "images/lines.dvc").touch()
    with pytest.raises(UserError, match=r"lines.*`dvc checkout images/lines\.dvc` or `dvc pull images/lines\.dvc`"):
        check.main()
    draw(tmp_path / "images/lines", ("cross", "frame"), seed=0, num=1)
    check.main()


def test_downloads_come_later(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    download = {"lines": {"fetch": "torchvision", "dataset": "MNIST"}}
    datasets = {"lines": FOLDER | {"raw": "data/raw/lines"}}
    write_params(tmp_path, PARAMS | {"download": download, "datasets": datasets, "intermediate": {}, "inits": ["tiny"]})
    check.main()
