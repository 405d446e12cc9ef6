"""Warn of known vulnerabilities of the locked packages, with pip-audit: python .ci/audit.py

The advisories come from the package index's server. If it does not answer, one line says so within 20 seconds;
nothing here fails.
"""

import json
import subprocess
import sys
import tempfile
import time
import venv
from pathlib import Path
from typing import Any

PIP_AUDIT = "pip-audit==2.10.1"
ASKED_FIRST = "jinja2==2.4.1"  # it has known vulnerabilities: who knows none of them knows nothing
PATIENCE_S = 16  # to install it, and to answer for one package
ALL_S = 300  # and then for all


def main() -> None:
    with tempfile.TemporaryDirectory() as folder:
        deadline = time.monotonic() + PATIENCE_S
        tool, first = Path(folder) / "tool", Path(folder) / "first.txt"
        first.write_text(ASKED_FIRST)
        venv.create(tool, with_pip=True)
        try:
            install = [tool / "bin/python", "-m", "pip", "install", "-q", "--retries", "0", PIP_AUDIT]
            subprocess.run(install, check=True, capture_output=True, timeout=PATIENCE_S)
            vulnerable(asked(tool, first, "--no-deps", patience_s=deadline - time.monotonic()))
            lines = vulnerable(asked(tool, Path("requirements.txt"), "--require-hashes", patience_s=ALL_S))
        except (subprocess.SubprocessError, LookupError, ValueError) as error:
            print(f"WARNING: pip-audit could not ask for known vulnerabilities: {_first_line(error)}")
            return
    print("\n".join(lines) or "pip-audit knows no vulnerability of the locked packages.")


def asked(tool: Path, requirements: Path, *options: str, patience_s: float) -> dict[str, Any]:
    """What pip-audit says of the requirements; it exits with 1 if it knows vulnerabilities."""
    command = [tool / "bin/python", "-m", "pip_audit", "--disable-pip", "--progress-spinner", "off", "--timeout", "5", "--format",
               "json", *options, "--requirement", requirements]  # fmt: skip
    said = subprocess.run(command, capture_output=True, text=True, timeout=patience_s, check=False)
    if not said.stdout.strip():
        raise LookupError((said.stderr.strip().splitlines() or ["it said nothing"])[-1])
    report: dict[str, Any] = json.loads(said.stdout)
    return report


def vulnerable(report: dict[str, Any]) -> list[str]:
    """A line for each vulnerable package.

    Raises:
        LookupError: the server knew none of the packages.
    """
    known = [each for each in report["dependencies"] if "vulns" in each]
    if not known:
        raise LookupError(report["dependencies"][0]["skip_reason"] if report["dependencies"] else "there are no packages")
    return [
        f"WARNING: {each['name']} {each['version']}: {vuln['id']}, fixed in {', '.join(vuln['fix_versions']) or 'no version yet'}"
        for each in known
        for vuln in each["vulns"]
    ]


def _first_line(error: Exception) -> str:
    if isinstance(error, subprocess.TimeoutExpired):
        return "no answer in time"
    said = (error.stderr or b"").decode() if isinstance(error, subprocess.CalledProcessError) else str(error)
    return next((line.strip() for line in reversed(said.splitlines()) if line.strip()), "no word of why")


if __name__ == "__main__":
    sys.exit(main())
