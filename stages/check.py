"""Check within seconds that the environment is complete and params.yaml is valid: python -m stages check

Imports only the standard library until it knows that the other packages are installed.
"""

import sys
from collections.abc import Mapping
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

HOW = "Activate the virtual environment (. .venv/bin/activate) and install it: pip install -r requirements.txt"


def main() -> None:
    from stages.lib.params.read import load

    require_raw(load("datasets").datasets)
    Path("metrics").mkdir(exist_ok=True)
    Path("metrics/check.txt").write_text("ok\n", encoding="utf-8")  # always the same bytes, so a passed check reruns nothing


def require_raw(datasets: Mapping[str, Any]) -> None:
    """Raise a UserError if data of one's own are not where params.yaml says; downloads may come yet."""
    from stages.lib.core import runs
    from stages.lib.errors import UserError

    missing = []
    for name, block in datasets.items():
        raw = Path(block.raw)
        if raw.parent != runs.raw("") and not raw.exists():
            file = raw.with_name(f"{raw.name}.dvc")
            how = f"`dvc checkout {file}` or `dvc pull {file}` brings it back" if file.exists() else "Put it there, or correct it"
            missing.append(f"datasets.{name}.raw: there is no {raw} (seen from {Path.cwd()}). {how}.")
    if missing:
        raise UserError("\n".join(missing))


def require_environment() -> None:
    """Exit with an explanation if Python is too old or a package of requirements.in is missing."""
    if sys.version_info < (3, 11):  # noqa: UP036 (the interpreter may not be that of the environment)
        sys.exit(f"error: Python {sys.version.split()[0]} ({sys.executable}) runs this; 3.11 or newer is needed. {HOW}")
    missing = []
    for line in Path("requirements.in").read_text(encoding="utf-8").splitlines():
        name = line.partition("#")[0].partition("[")[0].strip()  # an extra only makes something faster
        if name:
            try:
                version(name)
            except PackageNotFoundError:
                missing.append(name)
    if missing:
        sys.exit(
            f"error: {sys.executable} runs this pipeline, but it lacks: {', '.join(missing)}. "
            f"Most likely `dvc` was called outside its virtual environment. {HOW}"
        )
