"""The command line: python -m stages WORD ...

Runs one stage of dvc.yaml or one command, and turns the user's mistakes into readable errors. It only watches and reports;
no result depends on it.
"""

import ast
import atexit
import os
import sys
from contextlib import suppress
from importlib import import_module
from pathlib import Path

# How threads wait for each other, which torch reads when it is imported. Spinning makes a training step several times slower
# when other processes use the same cores, and going to sleep at once makes it slower when none does; GNU's OpenMP, which torch
# has on Linux, can do one after the other (tests/benchmarks/waiting.py).
if "OMP_WAIT_POLICY" not in os.environ:
    os.environ["OMP_WAIT_POLICY"] = "passive"
    os.environ.setdefault("GOMP_SPINCOUNT", "2000")

STAGES = Path(__file__).parent


def main(words: list[str]) -> None:
    """Run the stage or command that the first word names; the other words are its arguments."""
    stages, commands = _found(STAGES), _found(STAGES / "commands")
    if not words or words[0] in ("-h", "--help", "help"):
        print(usage(stages, commands))
        return
    word, *rest = words
    if word == "check":  # before any import of a package that may not be installed
        from stages import check

        check.require_environment()
    if word not in stages and word not in commands:
        import difflib

        near = difflib.get_close_matches(word, [*stages, *commands], n=1)
        sys.exit(f"error: {word!r} is neither a stage nor a command." + (f" Did you mean {near[0]!r}?" if near else "")
                 + " `python -m stages --help` lists them.")  # fmt: skip
    from stages.lib.imports import unscanned

    with unscanned():
        from stages.lib.shell import command

        module = import_module(f"stages.{word}" if word in stages else f"stages.commands.{word}")
    if word in stages:
        command.run_stage(word, rest, module.main)
    else:
        command.run_command(rest, module.main)


def usage(stages: list[str], commands: list[str]) -> str:
    """List all stages and commands, each with the first line of its docstring."""
    lines = ["usage: python -m stages WORD ...", "", "Commands:"]
    lines += [f"  {name:16}{_first_line(STAGES / 'commands' / f'{name}.py')}" for name in commands]
    lines += ["", "Stages, which `dvc repro` runs in the right order:"]
    return "\n".join(lines + [f"  {name:16}{_first_line(STAGES / f'{name}.py')}" for name in stages])


def _found(folder: Path) -> list[str]:
    return sorted(path.stem for path in folder.glob("[!_]*.py"))


def _first_line(path: Path) -> str:
    text = ast.get_docstring(ast.parse(path.read_text(encoding="utf-8"))) or ""
    return text.split("\n")[0].partition(": python -m")[0]


def _in_utf8() -> None:
    """Start again in UTF-8 mode (PEP 540) if the locale has another encoding, in which names of files and texts would be read."""
    if sys.getfilesystemencoding() != "utf-8":
        os.environ["PYTHONUTF8"] = "1"  # of the processes that this one starts
        os.execv(sys.executable, [sys.executable, "-X", "utf8", *sys.orig_argv[1:]])  # noqa: S606 (the words are our own)


def _leave_at_once() -> None:
    """End without taking apart what was imported, which with torch takes as long as importing it.

    Threads have ended by now, and other exit handlers, which were registered later, have run.
    """
    for stream in (sys.stdout, sys.stderr):
        with suppress(OSError):  # closed by whoever read it
            stream.flush()
    os._exit(status)


if __name__ == "__main__":
    _in_utf8()
    status = 1  # of an error that nobody expected, whose traceback Python prints
    if not atexit._ncallbacks():  # else somebody waits for the end, as coverage does, and would not be called
        atexit.register(_leave_at_once)
    try:
        main(sys.argv[1:])
        sys.stdout.flush()
        status = 0
    except BrokenPipeError:  # `| head` closes the pipe once it has read enough
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        status = 0
    except SystemExit as end:  # a text is printed, and means 1
        status = end.code if isinstance(end.code, int) else int(end.code is not None)
        raise
