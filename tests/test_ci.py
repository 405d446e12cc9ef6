"""What CI does besides running the tests."""

import importlib.util
import os
import subprocess
import sys

import pytest

from tests.tiny import ROOT


@pytest.fixture
def audit():
    spec = importlib.util.spec_from_file_location("audit", ROOT / ".ci/audit.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def test_known_vulnerabilities_are_warnings(audit):
    """Reports as pip-audit 2.10 writes them."""
    advisory = {"id": "PYSEC-2019-217", "fix_versions": ["2.10.1"], "aliases": ["CVE-2019-10906"], "description": "..."}
    report = {"dependencies": [{"name": "jinja2", "version": "2.4.1", "vulns": [advisory, advisory | {"fix_versions": []}]},
                               {"name": "six", "version": "1.17.0", "vulns": []},
                               {"name": "mine", "skip_reason": "Dependency not found on PyPI"}], "fixes": []}  # fmt: skip
    assert audit.vulnerable(report) == ["WARNING: jinja2 2.4.1: PYSEC-2019-217, fixed in 2.10.1",
                                        "WARNING: jinja2 2.4.1: PYSEC-2019-217, fixed in no version yet"]  # fmt: skip
    with pytest.raises(LookupError, match="not found on PyPI"):
        audit.vulnerable({"dependencies": report["dependencies"][2:]})


@pytest.mark.slow
def test_without_an_answer_the_audit_says_so_in_one_line_and_fails_nothing():
    clean = {name: value for name, value in os.environ.items() if not name.startswith("PIP_")}
    nowhere = {"PIP_INDEX_URL": "http://127.0.0.1:9/simple", "PIP_CONFIG_FILE": os.devnull, "PIP_NO_CACHE_DIR": "1"}
    done = subprocess.run([sys.executable, ROOT / ".ci/audit.py"], env=clean | nowhere, capture_output=True, text=True, cwd=ROOT)
    assert done.returncode == 0, done.stderr
    assert done.stdout.startswith("WARNING: pip-audit could not ask for known vulnerabilities: ERROR: No matching distribution")
    assert (done.stdout.count("\n"), done.stderr) == (1, "")
