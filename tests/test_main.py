"""The command line: python -m stages WORD ..., its help, and mistakes on it answered in words."""

import ast
import json
import os
import shutil
import subprocess
import sys

import pytest

from stages.__main__ import main
from tests.tiny import PARAMS, ROOT, write_params

FILES = sorted([*(ROOT / "stages").glob("[!_]*.py"), *(ROOT / "stages/commands").glob("[!_]*.py")])


def test_help_lists_every_stage_and_command_with_a_line_each():
    done = subprocess.run([sys.executable, "-m", "stages", "--help"], cwd=ROOT, capture_output=True, text=True, check=True)
    lines = done.stdout.splitlines()
    for path in FILES:
        (line,) = (line for line in lines if line.split()[:1] == [path.stem])
        text = line.removeprefix(f"  {path.stem} ").strip()
        assert len(text.split()) > 3 and ast.get_docstring(ast.parse(path.read_text())).startswith(text)
    assert len([line for line in lines if line.startswith("  ")]) == len(FILES) > 15
    assert max(map(len, lines)) <= 130


@pytest.mark.skipif(not shutil.which("localedef"), reason="makes a locale with localedef")
def test_texts_are_utf8_in_a_locale_of_another_encoding(tmp_path):
    subprocess.run(["localedef", "-i", "de_DE", "-f", "ISO-8859-1", tmp_path / "de_DE.ISO-8859-1"], check=True)
    latin1 = {name: value for name, value in os.environ.items() if name not in ("PYTHONUTF8", "PYTHONIOENCODING")}
    latin1 |= {"LOCPATH": str(tmp_path), "LC_ALL": "de_DE.ISO-8859-1", "PYTHONPATH": str(ROOT)}
    write_params(tmp_path, PARAMS | {"download": {"Käfer→ねこ": {}}})
    done = subprocess.run([sys.executable, "-m", "stages", "download", "x"], cwd=tmp_path, env=latin1, capture_output=True)
    assert done.returncode == 1 and "download.Käfer→ねこ: not a usable name" in done.stderr.decode()


@pytest.mark.parametrize("words", [[], ["-h"], ["help"]])
def test_whoever_asks_for_nothing_gets_the_help(words, capsys):
    main(words)
    assert "\n  target " in capsys.readouterr().out


def test_a_stage_tells_its_words_and_what_it_does(capsys):
    main(["target", "--help"])
    told = capsys.readouterr().out
    assert told.startswith("usage: python -m stages target INIT SEED\n\nTrain the target from one starting point with one seed")


@pytest.mark.parametrize(("word", "meant"), [("targt", "target"), ("predcit", "predict"), ("learning-curve", "learning_curve")])
def test_a_misspelt_word_is_answered_with_what_was_meant(word, meant):
    with pytest.raises(SystemExit) as stopped:
        main([word, "dots", "0"])
    assert f"error: {word!r} is neither a stage nor a command. Did you mean {meant!r}?" in stopped.value.code


def test_a_word_like_no_other_is_answered_without_a_guess():
    with pytest.raises(SystemExit) as stopped:
        main(["xyzzy"])
    assert "'xyzzy' is neither a stage nor a command. `python -m stages --help` lists them." in stopped.value.code


@pytest.mark.parametrize("path", [path for path in FILES if path.parent.name == "stages"], ids=lambda path: path.stem)
def test_every_stage_checks_the_whole_file_itself(finished, tmp_path, call, path):
    words = {"prepare": "dots", "source": "tiny", "intermediate": "dots", "recipe": "hops", "target": "dots 0", "scratch": "0",
             "alternative": "full 0", "evaluate": "target dots-0 lines", "forgetting": "dots dots",
             "download": "some"}  # fmt: skip
    for name in ("requirements.in", "dvc.lock", "models", "metrics", "data"):
        (tmp_path / name).symlink_to(finished.path / name)
    write_params(tmp_path, PARAMS | {"sed": 1})
    output = call(type(finished)(tmp_path), path.stem, *words.get(path.stem, "").split(), ok=False)
    assert "sed: unknown section. Did you mean 'seed'?" in output


@pytest.mark.parametrize(
    ("words", "said"),
    [
        ("download", "usage: python -m stages download NAME"),
        ("compare now", "usage: python -m stages compare"),
        ("forgetting dots", "usage: python -m stages forgetting HOP DATA"),
        ("prepare dotts", "datasets in params.yaml has no block 'dotts'. Did you mean 'dots'?"),
        ("intermediate tiny", "intermediate in params.yaml has no block 'tiny'"),
        ("recipe scratch", "'scratch' has no recipe. Allowed: hops, target."),
        (
            "evaluate targets dots-0 lines",
            "'targets' is not a kind of training. Allowed: target, alternative, scratch, intermediate.",
        ),
        ("target nohop 0", "models/nohop/card.json cannot be read"),
    ],
)
def test_a_wrong_word_on_the_command_line_is_answered_in_words(finished, call, words, said):
    assert said in call(finished, *words.split(), ok=False)


def test_a_mistake_is_an_error_in_words_and_no_traceback(finished):
    output = finished.run(sys.executable, "-m", "stages", "prepare", "dotts", ok=False)
    assert output.startswith("error: datasets in params.yaml has no block 'dotts'.") and output.count("\n") == 1


def test_what_this_machine_or_network_cannot_do_is_said_before_training(finished, copy_of, call):
    repo = copy_of(finished)
    write_params(repo.path, PARAMS | {"device": PARAMS["device"] | {"accelerator": "mps"}})
    assert "error: device: this machine cannot do that" in call(repo, "scratch", "0", ok=False)
    card = repo.path / "models/tiny/card.json"
    text = card.read_text().replace("test_resnet", "vit_tiny_patch16_224")  # made for 224 px and nothing else
    card.write_text(text)
    write_params(repo.path, PARAMS)
    output = call(repo, "scratch", "0", ok=False)
    assert "vit_tiny_patch16_224 does not take inputs as datasets.lines packs them" in output and "px 32" in output


def test_a_training_that_need_not_repeat_says_so(finished, copy_of, call):
    repo = copy_of(finished)
    kept = [repo.path / "metrics/scratch/0/run.json", repo.path / "models/scratch/0/card.json"]
    assert all(json.loads(path.read_text())["deterministic"] for path in kept)
    write_params(repo.path, PARAMS | {"device": PARAMS["device"] | {"deterministic": False}})
    call(repo, "scratch", "0")
    assert not any(json.loads(path.read_text())["deterministic"] for path in kept)


def test_whoever_waits_for_the_end_before_it_begins_is_called(tmp_path):
    """As coverage does, through a file that Python runs first."""
    (tmp_path / "sitecustomize.py").write_text("import atexit\natexit.register(print, 'the end')")
    told = subprocess.run([sys.executable, "-m", "stages"], env=os.environ | {"PYTHONPATH": str(tmp_path)}, cwd=ROOT,
                          capture_output=True, text=True)  # fmt: skip
    assert told.stdout.endswith("the end\n")


@pytest.mark.parametrize(
    ("given", "wanted"),
    [({}, ["passive", "2000"]), ({"GOMP_SPINCOUNT": "7"}, ["passive", "7"]), ({"OMP_WAIT_POLICY": "active"}, ["active", None])],
)
def test_how_threads_wait_is_set_unless_the_user_has(given, wanted):
    names = ["OMP_WAIT_POLICY", "GOMP_SPINCOUNT"]
    environment = {name: value for name, value in os.environ.items() if name not in names} | given
    program = f"import json, os, stages.__main__; print(json.dumps([os.environ.get(name) for name in {names}]))"
    done = subprocess.run([sys.executable, "-c", program], cwd=ROOT, env=environment, capture_output=True, text=True, check=True)
    assert json.loads(done.stdout) == wanted


@pytest.mark.parametrize(("word", "code"), [("--help", 0), ("nonsense", 1)])
def test_the_exit_code_says_how_it_ended(word, code):
    done = subprocess.run([sys.executable, "-m", "stages", word], cwd=ROOT, capture_output=True, text=True)
    assert done.returncode == code and (done.stdout or done.stderr).strip()
