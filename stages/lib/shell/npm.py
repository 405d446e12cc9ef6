"""JavaScript packages for pages that work without the internet: fetched once from the npm registry, pinned by their sha256."""

import shutil
import subprocess
import tarfile
import tempfile
from collections.abc import Mapping
from pathlib import Path
from typing import NamedTuple

from stages.lib.core import cards, runs
from stages.lib.errors import UserError


class Package(NamedTuple):
    name: str
    version: str
    sha256: str  # of its archive

    @property
    def archive(self) -> Path:
        """Where it is kept."""
        return runs.state_folder() / f"{self.name}-{self.version}.tgz"


def fetched(package: Package, otherwise: str) -> Path:
    """The archive of a package, from .transfer or else from the npm registry.

    Args:
        otherwise: what a user can do who has no npm, but the archive.

    Raises:
        UserError: npm is not here, or could not fetch it.
    """
    name, version, _ = package
    place = package.archive
    if place.exists():
        return place
    if not shutil.which("npm"):
        raise UserError(
            f"{name} {version} is fetched with npm, which is not here. Install Node.js, or get the archive elsewhere "
            f"(npm pack {name}@{version}) and {otherwise}"
        )
    place.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=place.parent) as scratch:
        npm = subprocess.run(["npm", "pack", f"{name}@{version}"], cwd=scratch, capture_output=True, text=True)
        found = Path(scratch) / place.name
        if npm.returncode or not found.exists():
            raise UserError(f"npm could not fetch {name} {version}. npm said: {npm.stderr.strip()[-500:]}")
        found.replace(place)
    return place


def members(archive: Path, package: Package, paths: Mapping[str, str], otherwise: str) -> dict[str, bytes]:
    """The contents of files in an archive, by the keys of `paths`.

    Raises:
        UserError: it is not the archive of this package.
    """
    if not archive.exists() or cards.sha256(archive) != package.sha256:
        raise UserError(
            f"{archive} is missing, or is not the archive of {package.name} {package.version} (sha256 {package.sha256}). Delete "
            f"it, and it is fetched anew{otherwise}"
        )
    with tarfile.open(archive) as opened:
        return {name: file.read() for name, path in paths.items() if (file := opened.extractfile(path))}
