"""What a person sees in a real browser: MLflow's pages of a finished pipeline, and the report. Skipped without Chromium."""

import shutil
import subprocess

import pandas as pd
import pytest
from mlflow import MlflowClient

from stages.lib.tracking import store, views
from tests.lib.tracking.mlflow_runs import Server

BROWSER = shutil.which("chromium") or shutil.which("google-chrome")
pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(BROWSER is None, reason="no Chromium here (on Debian: apt-get install chromium)"),
]
FLAGS = ["--headless", "--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run", "--disable-background-networking",
         "--disable-component-update", "--disable-sync", "--window-size=1400,4000"]  # fmt: skip


@pytest.fixture(scope="module")
def pages(finished, tmp_path_factory):
    """The pages of the finished pipeline: text of each after its scripts have run."""
    folder = tmp_path_factory.mktemp("pages")
    shutil.copy(finished.path / "mlflow.db", folder)
    server = Server(folder)
    server.start()
    client = MlflowClient(f"sqlite:///{folder}/mlflow.db")
    runs = {run.data.tags["transfer.stage"]: run.info.run_id for run in client.search_runs(["1"])}

    def look(stage, page=""):
        printed = store.address("1", runs[stage] + page) if stage else views.address("1")
        return dom(printed.replace("http://127.0.0.1:5000", server.uri), folder)

    yield look
    server.kill()


def dom(address, folder):
    """The page as it is once its scripts have had twenty seconds of its own time."""
    words = [BROWSER, *FLAGS, f"--user-data-dir={folder}/browser", "--virtual-time-budget=20000", "--dump-dom", address]
    return subprocess.run(words, capture_output=True, text=True, timeout=600).stdout


def test_the_address_that_track_prints_opens_a_table_of_states_with_their_figures(pages):
    shown = pages(None)
    assert "Transfer learning: one run for each state of the pipeline" in shown, "the description of the experiment"
    for column in ("test/accuracy", "transfer/difference", "strategy"):
        assert f">{column}<" in shown, column
    assert "matching run" in shown and "target dots-0: partial on lines" not in shown, "states alone"


def test_the_run_of_the_pipeline_shows_the_verdict(pages):
    shown = pages("pipeline")
    for words in ("· dots → lines · seeds 0", "Transfer as a whole", "transfer.state", "datasets.lines.px"):
        assert words in shown, words


def test_the_address_of_a_run_opens_among_trainings_and_not_among_those_of_generative_ai(pages):
    shown = pages("pipeline")
    assert "Model registry" in shown and "Playground" not in shown, "what only one of the two modes has"


def test_the_run_of_a_training_says_what_it_was(pages):
    shown = pages("target dots-0")
    for words in (
        "target dots-0: partial on lines",
        "The target, trained on lines by partial.",
        "test/accuracy",
        "lr/head",
        "Finished",
    ):
        assert words in shown, words


def test_what_evaluate_drew_is_shown_as_pictures_and_the_certificate_as_a_table(finished, pages):
    for picture in ("confusion.png", "reliability.png"):
        assert "<img" in pages("target dots-0", f"/artifacts/evaluate/{picture}").split(f"evaluate/{picture}", 1)[1]
    shown = pages("target dots-0", "/artifacts/certificate.csv")
    first = pd.read_csv(finished.path / "metrics/target/dots-0/certificate.csv").tensor[0]
    assert first in shown and "declared" in shown


def test_the_report_shows_all_its_pictures(finished, tmp_path):
    """A picture that cannot be decoded has no size; the page is asked for each one's."""
    page = tmp_path / "report.html"
    text = (finished.path / "metrics/report.html").read_text()
    count = "<script>onload = () => document.title = [...document.images].filter(each => each.naturalWidth > 20).length</script>"
    page.write_text(text.replace("</body>", count + "</body>"))
    shown = dom(page.as_uri(), tmp_path)
    assert f"<title>{text.count('<img')}</title>" in shown and text.count("<img") >= 4
