"""The scenario command: overlays on params.yaml that keep its comments, and never overwrite what git could not give back."""

import copy
import difflib
import re
from pathlib import Path

import pytest
from ruamel.yaml import YAML

from stages.commands import scenario
from stages.lib.errors import UserError
from stages.lib.params.validate import validate
from tests.tiny import ROOT, Repo, draw

BASE = (ROOT / "params.yaml").read_text(encoding="utf-8")
OVERLAYS = {path.stem: path.read_text(encoding="utf-8") for path in sorted(scenario.FOLDER.glob("*.yaml"))}
NAMES = list(OVERLAYS)
NAME = NAMES[0]


def values(text):
    return YAML(typ="safe").load(text)


def comments(text):
    """What is said after # in each line."""
    return [line.partition("#")[2].strip() for line in text.splitlines() if "#" in line]


@pytest.fixture
def repo(tmp_path, monkeypatch):
    """A folder with the project's params.yaml, in a git repository that holds it."""
    monkeypatch.chdir(tmp_path)
    (tmp_path / "params.yaml").write_text(BASE, encoding="utf-8")
    repo = Repo(tmp_path)
    for words in (["init", "-q"], ["add", "-A"], ["commit", "-qm", "start"]):
        repo.run("git", *words)
    return repo


def params():
    return Path("params.yaml").read_text(encoding="utf-8")


def mistake(*words):
    before = params() if Path("params.yaml").exists() else None
    with pytest.raises(UserError) as error:
        scenario.main(list(words))
    assert before is None or params() == before
    return str(error.value)


# The overlays.


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("before", [None, "faces", "reviews", "accents"])  # of each modality, and with options of its own
def test_every_overlay_is_valid_whatever_was_set_up_before(name, before):
    base = BASE if before is None else scenario.overlaid(BASE, OVERLAYS[before])
    after = scenario.overlaid(base, OVERLAYS[name])
    validate(values(after))
    assert scenario.overlaid(after, OVERLAYS[name]) == after, "a second time changes nothing"


@pytest.mark.parametrize("name", NAMES)
def test_what_an_overlay_says_is_there_and_the_rest_stays(name):
    base, overlay, after = values(BASE), values(OVERLAYS[name]), values(scenario.overlaid(BASE, OVERLAYS[name]))
    overlay.pop("steps", None)  # from which the command computes epochs
    expected = copy.deepcopy(base)
    for section, value in overlay.items():
        if section in scenario.REPLACED or not isinstance(value, dict):
            expected[section] = value
            continue
        for key, inner in value.items():
            both = isinstance(inner, dict) and isinstance(expected[section].get(key), dict)
            expected[section][key] = expected[section][key] | inner if both else inner
    assert after == expected and list(after) == list(base)
    assert overlay.keys() <= base.keys()


@pytest.mark.parametrize("name", NAMES)
def test_the_comments_of_both_are_kept(name):
    """Those of params.yaml, but for what stands in sections that are replaced; those of the overlay's replaced sections."""
    after = scenario.overlaid(BASE, OVERLAYS[name])
    blocks = {section: text for section, text in scenario._sections(OVERLAYS[name]).items() if section in scenario.REPLACED}
    gone = [comment for section in blocks for comment in comments(scenario._sections(BASE)[section])]
    wanted = [comment for comment in comments(BASE) if comment not in gone]
    found = comments(after)
    assert [comment for comment in wanted if comment not in found] == []
    assert [comment for text in blocks.values() for comment in comments(text) if comment not in found] == []
    kept = [line for line in after.splitlines() if line in BASE.splitlines()]
    untouched = [line for section, text in scenario._sections(BASE).items() if section not in values(OVERLAYS[name])
                 for line in text.splitlines()]  # fmt: skip
    assert [line for line in untouched if line not in kept] == [], "lines of other sections stay as they are, byte for byte"


@pytest.mark.parametrize("name", NAMES)
def test_a_header_says_in_words_what_it_is(name):
    first, *_ = OVERLAYS[name].splitlines()
    assert re.match(r"# [A-Z]", first) and scenario.header(scenario.FOLDER / f"{name}.yaml").strip()


# Splicing.

OWN = """# The top.
modality: image                 # kind
strategies:
  full:
    epochs: 6   # passes
    lr: 0.003
  partial: {trainable: {last_blocks: 3}, epochs: 6}

# Datasets, one block each.
datasets:
  a:
    raw: x      # where
# a second one
  b:
    raw: y

# Sources.

source: {}
inits: [a]
"""


def test_a_replaced_section_is_gone_as_a_whole_and_the_comments_around_it_stay():
    after = scenario.overlaid(OWN, "# Header.\n# Two lines.\ndatasets:\n  c: {raw: z}  # here\n\nmodality: text\n")
    assert after == OWN.replace("image ", "text  ").replace(
        "  a:\n    raw: x      # where\n# a second one\n  b:\n    raw: y\n", "  c: {raw: z}  # here\n"
    )


def test_in_other_sections_only_what_is_named_changes():
    after = scenario.overlaid(OWN, "strategies:\n  full: {lr: 0.1}\n  partial: {trainable: {patterns: [x]}}\ninits: [b, c]\n")
    assert values(after)["strategies"] == {
        "full": {"epochs": 6, "lr": 0.1},
        "partial": {"trainable": {"patterns": ["x"]}, "epochs": 6},
    }
    assert values(after)["inits"] == ["b", "c"] and "# passes" in after and "# a second one" in after


def test_sections_that_params_lacks_are_added():
    after = scenario.overlaid(OWN, "baselines:\n  tfidf: {ngrams: 1}   # words\ntraining: {ema: 0}\n")
    assert values(after) == values(OWN) | {"baselines": {"tfidf": {"ngrams": 1}}, "training": {"ema": 0}}
    assert "# words" in after


@pytest.mark.parametrize("raw", ["data/raw/other", "a b: c # d", "'", "1", "ü.zip"])
def test_raw_is_that_of_the_targets_data(raw):
    after = values(scenario.overlaid(BASE, OVERLAYS[NAME], raw))
    expected = values(scenario.overlaid(BASE, OVERLAYS[NAME]))
    expected["datasets"][expected["target"]["data"]]["raw"] = raw
    assert after == expected


def test_data_of_ones_own_instead_of_a_download_are_folders_of_classes():
    after = values(scenario.overlaid(BASE, OVERLAYS["cifar10"], "my/cifar"))
    validate(after)
    block = after["datasets"]["cifar10"]
    assert (block["raw"], block["reader"], block["group_from"]) == ("my/cifar", "image_folder", "") and "dataset" not in block
    assert after["download"] == {}, "nothing is downloaded that nobody reads"
    after = values(scenario.overlaid(BASE, OVERLAYS["mnist"], "my/digits"))
    validate(after)
    assert list(after["download"]) == ["mnist"] and after["datasets"]["mnist"]["reader"] == "torchvision", "a hop keeps its own"


@pytest.mark.parametrize("name", [name for name, text in OVERLAYS.items() if "instead of the block above" in text])
def test_the_other_network_in_a_comment_is_valid(name):
    """Those lines instead of the block above them, as the comment says."""
    block = re.search(r"  imagenet:\n(    .*\n)+(  # .*instead of the block above:\n)((  # .*\n)+)", OVERLAYS[name])
    text = OVERLAYS[name].replace(block[0], re.sub("^  # ", "  ", block[3], flags=re.M))
    after = values(scenario.overlaid(BASE, text))
    validate(after)
    assert after["source"]["imagenet"]["weights"] == "torchvision"


# Looking at the data.


def photos(folder, **counts):
    """So many images of each class, of which looking opens none."""
    for label, num in counts.items():
        (folder / label).mkdir(parents=True)
        for index in range(num):
            (folder / label / f"{index:03}.jpg").touch()


def test_what_is_drawn_because_the_data_lack_it_is_said(repo, capsys):
    for split in ("train", "val"):
        photos(Path("photos") / split, ants=20, bees=20)
    scenario.main(["images", "--raw", "photos"])
    said = "20 for train, 40 for val, 20 for test, if all can be read and none is there twice; test is drawn from train"
    assert said in capsys.readouterr().out


@pytest.mark.parametrize(("num", "epochs"), [(40, 30), (300, 14), (1800, 3)])
def test_the_epochs_follow_from_the_number_of_images(repo, capsys, num, epochs):
    photos(Path("photos"), ants=num, bees=num)
    scenario.main(["images", "--raw", "photos"])
    after = values(params())
    assert {block["epochs"] for block in after["strategies"].values() if "epochs" in block} == {epochs}
    assert after["scratch"]["epochs"] == epochs and after["datasets"]["photos"]["raw"] == "photos" and "steps" not in after
    validate(after)
    told = capsys.readouterr().out
    assert f"photos: {2 * num} images of 2 classes: ants {num}, bees {num}" in told and "unequal" not in told
    assert (
        f"{1.2 * num:.0f} for train, {0.3 * num:.0f} for val, {0.5 * num:.0f} for test" in told and f"{epochs} epochs of" in told
    )


def test_other_scenarios_keep_their_epochs(repo):
    photos(Path("photos"), ants=40, bees=40)
    scenario.main(["products", "--raw", "photos"])
    assert params() == scenario.overlaid(BASE, OVERLAYS["products"], "photos")


def test_unequal_classes_are_told(repo, capsys):
    photos(Path("photos"), ants=20, bees=61)
    scenario.main(["images", "--raw", "photos", "--dry"])
    assert "The classes are unequal" in capsys.readouterr().out


def test_a_home_folder_is_found(repo, monkeypatch, tmp_path_factory):
    home = tmp_path_factory.mktemp("home")
    photos(home / "photos", ants=20, bees=20)
    monkeypatch.setenv("HOME", str(home))
    scenario.main(["images", "--raw", "~/photos"])
    assert values(params())["datasets"]["photos"]["raw"] == str(home / "photos")


@pytest.mark.parametrize(
    ("make", "said"),
    [
        (lambda folder: None, "there is no photos"),
        (lambda folder: folder.mkdir(), "photos is empty"),
        (lambda folder: photos(folder, ants=9), "at least two are needed"),
        (lambda folder: photos(folder, ants=9, bees=2), "bees: 2 images"),
    ],
)
def test_data_that_cannot_be_used_are_told_before_anything_is_written(repo, make, said):
    make(Path("photos"))
    told = mistake("images", "--raw", "photos")
    assert said in told and "datasets.photos: " in told and "Nothing was written." in told


# The command.


def test_without_a_name_all_are_listed_with_their_headers(repo, capsys):
    scenario.main([])
    told = capsys.readouterr().out
    for name, overlay in OVERLAYS.items():
        assert re.search(rf"^{name}$", told, re.M) and overlay.splitlines()[0].removeprefix("#") in told
    assert params() == BASE


def test_a_dry_run_shows_what_would_change_and_writes_nothing(repo, capsys):
    scenario.main([NAME, "--dry"])
    told = capsys.readouterr().out
    after = scenario.overlaid(BASE, OVERLAYS[NAME])
    assert "".join(difflib.unified_diff(BASE.splitlines(True), after.splitlines(True), n=0)).partition("@@")[2] in told
    assert f"--- params.yaml\n+++ params.yaml for {NAME}\n" in told and params() == BASE
    Path("params.yaml").write_text(changed := BASE.replace("seed: 0 ", "seed: 1 ", 1))
    scenario.main([NAME, "--dry"])
    assert params() == changed


def test_what_git_holds_is_overwritten(repo, capsys):
    draw(Path("my/data"), ("cross", "frame"), seed=0)
    scenario.main(["products", "--raw", "my/data"])
    assert params() == scenario.overlaid(BASE, OVERLAYS["products"], "my/data")
    assert "params.yaml is set up for products. Next: dvc repro" in capsys.readouterr().out
    validate(values(params()))
    scenario.main(["products", "--raw", "my/data"])
    assert "params.yaml is already set up for products." in capsys.readouterr().out


def test_what_is_still_missing_is_said_before_dvc_repro(repo, capsys):
    draw(Path("photos"), ("cross", "frame"), seed=0)
    for name, words, said in (
        ("products", [], "put your data at data/own/products (or say where they are: --raw PATH --force), then dvc repro"),
        ("birds", ["--raw", "photos", "--force"], "put your data at data/own/birds, then dvc repro"),  # an earlier hop's
        ("cifar10", ["--force"], "dvc repro"),  # downloaded
    ):
        scenario.main([name, *words])
        assert capsys.readouterr().out.endswith(f"params.yaml is set up for {name}. Next: {said}\n")


def test_what_git_does_not_hold_is_not(repo, capsys):
    changed = BASE.replace("seed: 0 ", "seed: 1 ", 1)
    Path("params.yaml").write_text(changed)
    assert "git does not hold params.yaml as it is now" in mistake(NAME)
    repo.run("git", "add", "params.yaml")
    assert "Commit it first, or give --force. Nothing was written." in mistake(NAME), "the index is no commit"
    scenario.main([NAME, "--force"])
    assert values(params())["seed"] == 1 and params() == scenario.overlaid(changed, OVERLAYS[NAME])


def test_a_file_that_git_does_not_know_is_not_held(repo):
    repo.run("git", "rm", "-q", "--cached", "params.yaml")
    repo.run("git", "commit", "-qm", "gone")
    assert "git does not hold" in mistake(NAME)


@pytest.mark.parametrize("kind", ["no repository", "no commit", "no git"])
def test_without_git_or_a_repository_only_force_overwrites(tmp_path, monkeypatch, capfd, kind):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("GIT_CEILING_DIRECTORIES", str(tmp_path.parent))
    Path("params.yaml").write_text(BASE, encoding="utf-8")
    if kind == "no commit":
        Repo(tmp_path).run("git", "init", "-q")
    if kind == "no git":
        monkeypatch.setenv("PATH", str(tmp_path))
    assert "git does not hold params.yaml as it is now" in mistake(NAME)
    assert "fatal" not in capfd.readouterr().err
    scenario.main([NAME, "--dry"])
    assert params() == BASE
    scenario.main([NAME, "--force"])
    assert params() == scenario.overlaid(BASE, OVERLAYS[NAME])


def test_a_repository_may_lie_above_the_folder(repo, monkeypatch):
    Path("inner").mkdir()
    Path("inner/params.yaml").write_text(BASE, encoding="utf-8")
    monkeypatch.chdir("inner")
    assert "git does not hold" in mistake(NAME), "it holds another params.yaml"
    repo.run("git", "add", "-A")
    repo.run("git", "commit", "-qm", "inner")
    scenario.main([NAME])
    assert params() != BASE and (repo.path / "params.yaml").read_text(encoding="utf-8") == BASE


def test_an_unknown_name_gets_a_near_one(repo):
    said = mistake(NAME[:-1])
    assert f"There is no scenario {NAME[:-1]!r}. Did you mean {NAME!r}?" in said and f"Scenarios: {', '.join(NAMES)}." in said


def test_params_that_cannot_be_read_or_are_wrong_are_told(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    assert "params.yaml is not here" in mistake(NAME)
    wrong = BASE.replace("optimizer: adamw", "optimizer: adamv", 1)
    for text, said in (("a: [", "not valid YAML"), ("- a", "must hold sections"), (wrong, "training.optimizer")):
        Path("params.yaml").write_text(text, encoding="utf-8")
        assert said in mistake(NAME, "--force")


def test_it_is_a_command(repo, call):
    told = call(repo, "scenario", NAME[:-1], ok=False)
    assert f"error: There is no scenario {NAME[:-1]!r}" in told and "Traceback" not in told
    assert f"params.yaml is set up for {NAME}" in call(repo, "scenario", NAME)


def test_a_list_with_an_item_in_each_line_is_replaced_too():
    base = "seeds:   # words\n- 0\n\n# The control\nscratch:\n  like: x\n"
    after = scenario.overlaid(base, "seeds: [0, 1]\n")
    assert values(after) == {"seeds": [0, 1], "scratch": {"like": "x"}} and comments(after) == ["words", "The control"]


def test_the_hop_without_labels_in_a_comment_of_diseases_is_valid():
    text = OVERLAYS["diseases"].replace("  # words: {", "  words: {").replace("inits: [genes, ", "inits: [words, genes, ")
    after = values(scenario.overlaid(BASE, text, None))
    assert after["intermediate"]["words"]["task"] == "mlm" and after["inits"][0] == "words"
    validate(after)
