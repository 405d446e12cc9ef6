"""What licences allow: names, expressions, the whole chain, and what the default task comes to."""

import copy
import importlib.metadata

import pytest
from packaging.licenses import canonicalize_license_expression
from ruamel.yaml import YAML

from stages.lib.core import licences, plugins
from stages.lib.params.validate import validate
from tests.helpers import mistakes, put
from tests.tiny import PARAMS, ROOT

NC, SOLD, SHARE, UNKNOWN = "not for commercial use", "may be sold", "copyleft", "unknown"


@pytest.mark.parametrize(
    ("licence", "answer"),
    [
        ("CC-BY-NC-SA-4.0 (ELPV; not for commercial use)", NC), ("CC BY-NC-SA 4.0 (with spaces)", NC), ("CC-BY-NC-4.0", NC),
        ("CC-BY-NC-ND-4.0", NC), ("CC-BY-ND-4.0", UNKNOWN), ("CC-BY-SA-3.0 (MNIST)", SHARE), ("CC-BY-4.0", SOLD),
        ("CC0-1.0", SOLD),
        ("mit", SOLD), ("Apache-2.0 (weights (of a network))", SOLD), ("GPL-3.0-or-later", SHARE), ("AGPL-3.0-only", SHARE),
        ("MIT OR GPL-3.0-only", SOLD), ("MIT AND GPL-3.0-only", SHARE), ("MIT AND (CC-BY-NC-4.0 OR Apache-2.0)", SOLD),
        ("MIT AND (CC-BY-NC-4.0 OR GPL-3.0-only) (two parts)", SHARE), ("MIT OR CC-BY-NC-4.0 AND GPL-3.0-only", SOLD),
        ("GPL-2.0-or-later WITH Classpath-exception-2.0", SHARE), ("LicenseRef-ours", UNKNOWN), ("SSPL-1.0", UNKNOWN),
        ("research use (PACS)", NC), ("public domain (NCBI)", SOLD), ("none (random weights)", SOLD), ("our own", SOLD),
        ("see the dataset", UNKNOWN), ("BSD", UNKNOWN), ("", UNKNOWN), ("()", UNKNOWN),
    ],
)  # fmt: skip
def test_a_licence_is_sorted_or_unknown(licence, answer):
    assert licences.of(licence) == answer


def test_everything_that_went_into_a_model_holds_together_and_the_worst_is_named():
    assert licences.use(["MIT", "CC-BY-4.0 (a)"]) == (SOLD, [])
    assert licences.use(["MIT", "GPL-3.0-only (b)", "CC-BY-SA-4.0 (a)"]) == (SHARE, ["CC-BY-SA-4.0 (a)", "GPL-3.0-only (b)"])
    assert str(licences.use(["MIT", "mine?", "GPL-3.0-only"])) == "unknown (mine?)"
    assert licences.use(["what", "CC-BY-NC-4.0"]).answer == NC and licences.use([]).answer == UNKNOWN


@pytest.mark.parametrize("name", ["timm", "torchvision", "transformers"])
def test_the_code_of_a_library_has_the_licence_that_its_package_states(name):
    stated = importlib.metadata.metadata(name)
    words = " ".join(filter(None, (stated.get("License"), stated.get("License-Expression"))))
    own = plugins.load("libraries", name).LICENCE.partition(" (")[0]
    assert canonicalize_license_expression(own) == own
    assert own.partition("-")[0] in words


def test_what_the_project_itself_offers_is_not_unknown():
    """The licences of params.yaml and of the scenarios are SPDX, or known words; your own data are your matter."""
    for path in [ROOT / "params.yaml", *sorted((ROOT / "stages/scenarios").glob("*.yaml"))]:
        raw = YAML(typ="safe").load(path)
        stated = [
            block["licence"]
            for section in ("datasets", "source")
            for block in raw.get(section, {}).values()
            if "licence" in block
        ]
        assert not [licence for licence in stated if licences.of(licence) == UNKNOWN and licence != "your own"], path


def test_the_default_task_is_not_for_commercial_use():
    raw = YAML(typ="safe").load(ROOT / "params.yaml")
    put(raw, ["checks", "use"], "commercial")
    said = mistakes(raw)
    assert "datasets.mono.licence: 'CC-BY-NC-SA-4.0 (ELPV; not for commercial use)' means not for commercial use" in said
    assert "datasets.poly.licence: " in said and "asks for commercial use (may be sold, copyleft)" in said
    assert said.startswith("params.yaml has 2 mistakes"), "the weights are Apache-2.0"


@pytest.mark.parametrize(
    ("path", "licence", "asked", "refused"),
    [
        ("datasets.lines.licence", "GPL-3.0-only", "closed", True),
        ("datasets.lines.licence", "GPL-3.0-only", "commercial", False),
        ("datasets.dots.licence", "who knows", "commercial", True), ("datasets.dots.licence", "who knows", "any", False),
        ("source.tiny.licence", "CC-BY-NC-4.0", "commercial", False),
    ],
)  # fmt: skip
def test_the_params_refuse_before_anything_is_fetched(path, licence, asked, refused):
    """Random weights are nobody's, whatever their block says."""
    raw = copy.deepcopy(PARAMS)
    put(raw, path.split("."), licence)
    put(raw, ["checks", "use"], asked)
    if refused:
        assert f"{path}: {licence!r} means " in mistakes(raw)
    else:
        validate(raw)
