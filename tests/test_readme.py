"""What the documents say is so: their params are valid, their figures are those of the metrics, their links lead somewhere."""

import re
from pathlib import Path

import pytest
from PIL import Image
from ruamel.yaml import YAML

from stages.commands import scenario
from stages.lib.core import cards, plugins
from stages.lib.evaluation import comparison
from stages.lib.params import read as params
from stages.lib.params.validate import validate
from tests import screenshots
from tests.tiny import ROOT

README = (ROOT / "README.md").read_text(encoding="utf-8")
DOCUMENTS = [ROOT / name for name in ("README.md", "stages/README.md", "stages/commands/README.md")]
BLOCKS = [
    pytest.param(YAML(typ="safe").load(text), id=f"{path.relative_to(ROOT)}:{number}")
    for path in DOCUMENTS
    for number, text in enumerate(re.findall(r"```yaml\n(.*?)```", path.read_text(encoding="utf-8"), re.S))
]


def merged(raw: dict, block: dict) -> dict:
    """A block put into params.yaml: blocks of a section beside those that are there, anything else in their place."""
    both = {name: raw[name] | value if isinstance(value, dict) else value for name, value in block.items() if name in raw}
    return raw | block | both


@pytest.mark.parametrize("block", BLOCKS)
def test_every_yaml_block_is_valid_in_params_yaml(block):
    raw = params.read(ROOT / "params.yaml")
    assert block.keys() <= raw.keys(), "whole sections, to be put in as they stand"
    validate(merged(raw, block))


def test_own_data_needs_one_command_whose_params_have_the_keys_that_are_named():
    section = README.partition("## Your own data")[2].partition("\n## ")[0]
    name, repro = re.search(r"```bash\npython -m stages scenario (\w+) --raw \S+ && (.+)\n```", section).groups()
    assert repro == "dvc repro"
    overlay = (scenario.FOLDER / f"{name}.yaml").read_text(encoding="utf-8")
    block = YAML(typ="safe").load(overlay)["datasets"]["photos"]
    keys = {key for row in re.findall(r"(?m)^\| (`.+?`) \|", section) for key in re.findall(r"`([\w.]+)`", row)}
    assert "split.by_group" in keys
    assert keys <= {*block, *(f"split.{key}" for key in block["split"])}


def test_the_figures_are_those_of_the_committed_metrics():
    """Rounded as the verdict rounds them."""
    raw, found = params.read(ROOT / "params.yaml"), cards.read_json(ROOT / "metrics/compare.json")
    name, proposal = raw["compare"]["metric"], raw["inits"][0]
    metric = plugins.load("tasks", raw["target"]["task"], "measures").METRICS[name]
    titles = {arm: arm for arm in found[name] if arm == f"{proposal} as it is"}
    plan = comparison.plan(proposal, chain(raw, proposal), raw["inits"][1:], {}, titles)
    pairs = {pair.control: found[pair.key] for pair in plan}
    expected = {}
    for arm, value in found[name].items():
        change = ""
        if arm != proposal:
            low, high = (metric.change(pairs[arm][end]) for end in ("lower", "upper"))
            change = f"{metric.change(pairs[arm]['difference'])} points ({low} to {high}): {pairs[arm]['verdict']}"
        expected["random weights" if arm == "scratch" else arm] = [metric.text(value), change]
    table = README.partition("<!-- figures -->")[2].partition("<!-- /figures -->")[0]
    assert f"target ({raw['target']['data']}) trained from" in table and f"test {name}" in table
    rows = [[cell.strip() for cell in line.strip("|").split("|")] for line in table.strip().splitlines()[2:]]
    shown = {re.match(r"random weights|\w+ as it is|\w+", row[0])[0]: row[1:] for row in rows}
    assert shown == expected and len(rows) == len(expected)
    verdict = (ROOT / "metrics/verdict.md").read_text(encoding="utf-8")
    assert all(value in verdict for value, _ in expected.values())


def chain(raw, name):
    """Names from the source to a starting point."""
    hop = raw["intermediate"].get(name)
    return [*chain(raw, hop["init"]), name] if hop else [name]


def test_the_readme_is_short():
    assert len(README.splitlines()) <= 150


@pytest.mark.parametrize("path", DOCUMENTS, ids=lambda path: str(path.relative_to(ROOT)))
def test_links_and_pictures_lead_somewhere(path):
    text = path.read_text(encoding="utf-8")
    for target in re.findall(r"\]\(([^)\s]+)\)", text):
        if re.match(r"https?://", target):
            continue
        file, _, heading = target.partition("#")
        to = (path.parent / file).resolve() if file else path
        assert to.exists(), target
        assert not heading or heading in headings(to), target


def headings(path: Path) -> set[str]:
    """The anchors that GitHub gives to a document's headings."""
    lines = re.findall(r"(?m)^#+ (.*)$", path.read_text(encoding="utf-8"))
    return {re.sub(r"[^\w\- ]", "", line.lower()).replace(" ", "-") for line in lines}


def test_the_layout_names_what_there_is():
    tree = README.partition("## Layout")[2].partition("```text\n")[2].partition("```")[0]
    named = re.findall(r"[\w.]+(?:/[\w.]+)*/|\w+\.(?:yaml|py)", "\n".join(line[:26] for line in tree.splitlines()))
    assert len(named) > 15
    folders = [ROOT, ROOT / "stages", ROOT / "stages/lib"]
    outputs = {"data/", "models/"}
    assert not [name for name in named if name not in outputs and not any((folder / name).exists() for folder in folders)]


def test_the_picture_of_the_report_is_of_the_committed_metrics():
    """`python -m tests.screenshots` takes it."""
    with Image.open(screenshots.PICTURE) as picture:
        assert picture.text[screenshots.STAMP] == screenshots.compared()


def test_the_tests_that_are_named_for_each_promise_exist():
    folder = ROOT / "tests"
    rows = re.findall(r"(?m)^\| (.+?) \| (.+?) \|$", (folder / "README.md").read_text(encoding="utf-8"))[2:]
    assert len(rows) > 50 and all("`" in tests for _, tests in rows)
    for promise, tests in rows:
        for named in re.findall(r"`(.+?)`", tests):
            path, _, test = named.partition("::")
            found = list(folder.glob(path))
            assert found, f"{promise}: {named}"
            assert not test or f"\ndef {test}(" in found[0].read_text(encoding="utf-8"), f"{promise}: {named}"
