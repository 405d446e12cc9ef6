"""DVC's plots on a page that loads nothing: the library is on it, and draws where there is no internet."""

import re
import shutil
import subprocess

import pytest

from stages.commands import plots
from stages.lib.errors import UserError
from stages.lib.shell.npm import members
from tests.systems import BROWSER


def test_the_scripts_are_on_the_page_and_cannot_end_it():
    text = plots.page(["one()", 'say("</script><b>")'])
    assert "<script>one()</script>" in text and text.count("</script>") == 2 and "<\\/script><b>" in text
    assert "{plot_divs}" in text and "{refresh_tag}" in text, "what DVC fills"
    assert "{scripts}" not in text, "where DVC would put what it loads"


def test_without_npm_it_says_where_to_put_the_archive(tmp_path, monkeypatch):
    monkeypatch.setenv("DVC_ROOT", str(tmp_path))
    monkeypatch.setattr(shutil, "which", lambda name: None)
    with pytest.raises(UserError, match=r"Install Node\.js, .*npm pack vega@.*\) and copy it to .*\.transfer/vega-"):
        plots.script(plots.LIBRARY[0])


def test_another_archive_is_refused(tmp_path, monkeypatch):
    monkeypatch.setenv("DVC_ROOT", str(tmp_path))
    library = plots.LIBRARY[0]
    library.archive.parent.mkdir()
    library.archive.write_bytes(b"another")
    with pytest.raises(UserError, match=rf"is not the archive of vega {library.version} \(sha256"):
        plots.script(library)
    with pytest.raises(UserError, match="is missing"):
        members(tmp_path / "none.tgz", library, {}, "")


@pytest.mark.slow
@pytest.mark.skipif(BROWSER is None, reason="no Chromium here (on Debian: apt-get install chromium)")
def test_curves_and_confusion_are_drawn_without_the_internet(finished, copy_of, call, tmp_path):
    repo = copy_of(finished)
    try:
        call(repo, "plots")
    except AssertionError as error:
        if "npm" in str(error):
            pytest.skip(f"no npm registry in reach: {error}")
        raise
    page = repo.path / "dvc_plots/index.html"
    assert not re.findall(r'<script[^>]* src="?http', page.read_text(encoding="utf-8"))
    flags = ["--headless", "--no-sandbox", "--disable-gpu", "--no-first-run", "--disable-background-networking",
             "--host-resolver-rules=MAP * ~NOTFOUND", f"--user-data-dir={tmp_path}/browser", "--virtual-time-budget=10000",
             "--dump-dom", page.as_uri()]  # fmt: skip
    shown = subprocess.run([str(BROWSER), *flags], capture_output=True, text=True, timeout=300).stdout
    assert len(re.findall(r"<(?:canvas|svg)[^>]*\bmarks\b", shown)) == 2, "losses, and what was taken for what"
