"""Fetch the raw data of one block of `download`: python -m stages download NAME"""

import shutil

from stages.lib.core import plugins, runs
from stages.lib.params import read as params


def main(name: str) -> None:
    block = params.block(params.load("download").download, "download", name)
    plugin = plugins.load("downloads", block.fetch)
    folder = runs.raw(name)
    shutil.rmtree(folder, ignore_errors=True)  # left by an interrupted download
    folder.mkdir(parents=True)
    plugin.fetch(folder, **plugins.arguments(block, plugin))
    files = [path for path in folder.rglob("*") if path.is_file()]
    print(f"{name}: {len(files)} file{'s' if len(files) != 1 else ''}, {sum(f.stat().st_size for f in files) / 1e6:.1f} MB")
