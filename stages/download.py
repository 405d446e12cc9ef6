"""Fetch the raw data of one dataset into data/raw/NAME: python -m stages.download NAME"""

import shutil
from pathlib import Path

from stages.lib import command, params, plugins


def main(name: str) -> None:
    block = params.block(params.load("download").download, "download", name)
    plugin = plugins.load("downloads", block.fetch)
    folder = Path("data/raw") / name
    shutil.rmtree(folder, ignore_errors=True)  # what an interrupted download left
    folder.mkdir(parents=True)
    plugin.fetch(folder, **plugins.knobs(block, plugin))
    files = [path for path in folder.rglob("*") if path.is_file()]
    print(f"{name}: {len(files)} file{'s' if len(files) != 1 else ''}, {sum(f.stat().st_size for f in files) / 1e6:.1f} MB")


if __name__ == "__main__":
    command.run(main)
